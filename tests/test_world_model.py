"""World models: recordings, the convolutional LSTM, dreams, ball and score of Pong, planning, and the program."""

import dataclasses
import json

import pytest
import torch

import agents
from agents import pqn
from agents.studies.world_model import __main__ as program
from agents.studies.world_model import dream, plan, pong
from agents.studies.world_model.autoencoder import StandardizedPixels, build_decoder
from agents.studies.world_model.model import ConvLSTM, Prediction
from agents.studies.world_model.planner import Planner
from agents.studies.world_model.recording import Recording, record
from vision import backbones

CPU = torch.device("cpu")


def dot(steps: int, seed: int = 0) -> Recording:
    """Games in which a bright square goes left by action 0 and right by action 1, and stops at the walls."""
    action = torch.randint(2, (steps, 2), generator=torch.Generator().manual_seed(seed))
    frame, place = torch.zeros(steps, 2, 1, 84, 84, dtype=torch.uint8), torch.tensor([4, 5])
    for step in range(steps):
        for world in range(2):
            frame[step, world, 0, 36:48, 8 * place[world] : 8 * place[world] + 8] = 255
        place = (place + 2 * action[step] - 1).clamp(0, 9)
    return Recording(frame, action, torch.zeros(steps, 2), torch.zeros(steps, 2, dtype=torch.bool))


def tiny(**changes) -> program.Config:
    """The config of a small model."""
    return program.Config(**dict(width=0.25, decoder_width=1, channels=2, hidden=8) | changes)


def test_starts_by_hand():
    last = torch.tensor([[0], [0], [1], [0], [0], [0]], dtype=torch.bool)
    part = Recording(torch.zeros(6, 1, 1, 84, 84), torch.zeros(6, 1), torch.zeros(6, 1), last)
    assert part.starts(2)[:, 0].tolist() == [0, 3], "frames 0, 1, 2 and 3, 4, 5 are of one game"
    assert part.starts(2, may_end=True)[:, 0].tolist() == [0, 1, 3], "steps 1 and 2 end a game"
    with pytest.raises(ValueError, match="no game was recorded for 6 steps"):
        part.starts(6)
    window = part.windows(torch.tensor([[3, 0]]), 2)
    assert window.frame.shape == (3, 1, 1, 84, 84) and window.last.flatten().tolist() == [False] * 3


def test_standardized_pixels_by_hand():
    frames = torch.tensor([[0, 255], [0, 0]], dtype=torch.uint8).view(2, 1, 1, 2)
    pixels = StandardizedPixels((1, 1, 2))
    pixels.fit(frames)
    assert pixels.mean_frame.flatten().tolist() == [0.0, 0.5]
    assert pixels.deviation.flatten().tolist() == pytest.approx([0.05, 0.5])
    parameters = torch.zeros(1, 1, 1, 2)
    found = pixels.log_prob(parameters, torch.tensor([[[[0.04, 1.0]]]])).flatten().tolist()
    assert found == pytest.approx([-0.5 * (0.04 / 0.05) ** 2, -0.5 * (0.5 / 0.5) ** 2])
    assert pixels.mean(parameters + 1).flatten().tolist() == pytest.approx([0.05, 1.0])


@pytest.mark.parametrize("body, shape", [("nature", (1, 84, 84)), ("small", (3, 40, 36)), ("impala", (1, 84, 50))])
def test_the_decoder_meets_every_size(body, shape):
    encoder = backbones.build("frame_encoder", shape, body=body, width=0.25, levels=3, frame=shape[0])
    z = encoder(torch.zeros(2, *shape))[-1]
    assert build_decoder(encoder, 2)(z).shape == (2, *shape)


def test_the_decoder_of_nature_has_its_kernels():
    encoder = backbones.build("frame_encoder", (1, 84, 84), levels=5)
    kernels = [
        layer.kernel_size for layer in build_decoder(encoder, 1) if isinstance(layer, torch.nn.ConvTranspose2d)
    ]
    assert kernels == [(3, 3), (4, 4), (8, 8)], "neither padded nor cropped"


def test_the_convolutional_lstm_keeps_writes_and_injects():
    torch.manual_seed(0)
    lstm = ConvLSTM(1, 1, (3, 3), 1)
    for weight in (lstm.gates.weight, lstm.gates.bias, lstm.everywhere.weight):
        torch.nn.init.zeros_(weight)
    cell = torch.arange(9.0).view(1, 1, 3, 3)
    _, kept = lstm(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1), (torch.zeros_like(cell), cell))
    torch.testing.assert_close(kept, 0.5 * cell)  # sigmoid(0) of it, and tanh(0) is written
    with torch.no_grad():
        lstm.everywhere.weight[3, 2] = 1.0  # content from the vector
        lstm.places[3, 0, 0] = 2.0
    hidden, written = lstm(torch.zeros(1, 1, 3, 3), torch.ones(1, 1), lstm.initial_state(cell))
    expected = 0.5 * torch.full((3, 3), 1.0).tanh()
    expected[0, 0] = 0.5 * torch.tensor(3.0).tanh()
    torch.testing.assert_close(written[0, 0], expected)
    torch.testing.assert_close(hidden[0, 0], 0.5 * expected.tanh())
    with torch.no_grad():
        lstm.everywhere.weight[3, 1] = 1.0  # and the maximum of the hidden map
    far = torch.zeros(1, 1, 3, 3)
    far[0, 0, 2, 2] = 0.7
    _, again = lstm(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1), (far, torch.zeros_like(far)))
    assert again[0, 0, 0, 1].item() == pytest.approx(0.5 * torch.tensor(0.7).tanh().item()), "seen from everywhere"


def test_draws_of_a_prediction():
    level = torch.tensor([0.7, 0.2, 0.1]).log().view(1, 3, 1, 1, 1).expand(20_000, -1, -1, -1, -1)
    found = Prediction(level, torch.tensor([[0.2, 0.5, 0.3]]).log(), torch.zeros(1))
    assert not found.draw().any(), "the most probable level"
    drawn = found.draw(1.0, torch.Generator().manual_seed(0)).flatten()
    torch.testing.assert_close(drawn.bincount() / 20_000, torch.tensor([0.7, 0.2, 0.1]), atol=0.01, rtol=0)
    sharp = found.draw(0.5, torch.Generator().manual_seed(0)).flatten().bincount() / 20_000
    torch.testing.assert_close(sharp, torch.tensor([0.49, 0.04, 0.01]) / 0.54, atol=0.01, rtol=0)
    assert found.expected_reward().item() == pytest.approx(0.1)


def test_another_games_frame_is_not_predicted():
    torch.manual_seed(0)
    model = program.build(tiny(), (1, 84, 84), 2)
    z, action = torch.randint(5, (4, 2, *model.autoencoder.shape)), torch.randint(2, (3, 2))
    last = torch.tensor([[0, 0], [0, 0], [1, 0]], dtype=torch.bool)
    given = torch.ones(3, 2, dtype=torch.bool)
    losses = model.dynamics_losses(z, action, torch.zeros(3, 2), last, given)
    z[3, 0] = (z[3, 0] + 1) % 5
    again = model.dynamics_losses(z, action, torch.zeros(3, 2), last, given)
    assert losses["loss/latents"].item() == pytest.approx(again["loss/latents"].item(), rel=1e-6)
    z[3, 1] = (z[3, 1] + 1) % 5
    assert model.dynamics_losses(z, action, torch.zeros(3, 2), last, given)["loss/latents"] != losses["loss/latents"]


def test_a_window_of_its_own_predictions_ignores_the_recorded_frames():
    torch.manual_seed(0)
    model = program.build(tiny(), (1, 84, 84), 2)
    z, action = torch.randint(5, (4, 1, *model.autoencoder.shape)), torch.randint(2, (3, 1))
    reward, last = torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool)
    changed = z.clone()
    changed[1:3] = (z[1:3] + 1) % 5  # read at the second and third step, if given
    given = torch.tensor([[True], [False], [False]])
    own, other = (model.dynamics_losses(each, action, reward, last, given) for each in (z, changed))
    torch.testing.assert_close(own["loss/reward"], other["loss/reward"], rtol=0, atol=0)
    given[1] = True
    assert model.dynamics_losses(changed, action, reward, last, given)["loss/reward"] != own["loss/reward"]


def test_a_dream_goes_on_from_what_was_seen():
    torch.manual_seed(0)
    model = program.build(tiny(), (1, 84, 84), 2).eval()
    played = dot(8).part(slice(1))
    model.fit_pixels(played.frame.flatten(0, 1))
    far = dream.dream(model, played.frame[:3], played.action, 4, 1.0, torch.Generator().manual_seed(0))
    assert far.shape == (4, 1, 1, 84, 84)
    changed = played.action.clone()
    changed[4] = 1 - changed[4]
    other = dream.dream(model, played.frame[:3], changed, 4, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(far[:2], other[:2]) and not torch.equal(far[2], other[2]), "action 4 leads to the third frame"


def screen(ball: tuple[int, int] | None, scores: tuple[int, int]) -> torch.Tensor:
    """A frame (1, 84, 84) like Pong's: two paddles, a ball of 2 x 2 pixels, and as a score bars of that width."""
    frame = torch.full((1, 84, 84), pong.BACKGROUND)
    frame[0, 40:50, 9] = frame[0, 20:30, 74] = 0.58
    for left, score in zip((18, 60), scores, strict=True):
        frame[0, 1:7, left : left + 1 + score] = 0.58
    if ball:
        frame[0, ball[0] : ball[0] + 2, ball[1] : ball[1] + 2] = 0.75
    return frame


def test_ball_and_score_by_hand():
    frames = torch.stack([screen((30, 40), (0, 3)), screen((14, 71), (2, 3)), screen(None, (0, 4))])
    place, visible = pong.ball(frames)
    assert visible.tolist() == [True, True, False]
    assert place[:2].tolist() == [pytest.approx([30.5, 40.5]), pytest.approx([14.5, 71.5])]
    assert pong.scores(frames, frames)[:, 0].unique().numel() == 2
    blurred = 0.9 * frames + 0.1 * frames.mean(0)
    assert torch.equal(pong.scores(blurred, frames), pong.scores(frames, frames))
    dreamed = torch.stack([screen((32, 41), (0, 3)), screen((20, 71), (2, 3)), screen((9, 9), (0, 3))])
    found = pong.measure(dreamed, frames, frames)
    assert found["ball_visible"] == 1.0 and found["ball_near"] == 0.5
    assert found["ball_distance"] == pytest.approx((5**0.5 + 6) / 2, abs=1e-4)
    assert found["score_equal"] == pytest.approx(2 / 3) and found["score_copy"] == 1.0
    assert pong.measure(torch.stack([screen(None, (0, 0))] * 3), frames, frames)["ball_visible"] == 0


@pytest.mark.slow
def test_a_moving_square_is_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "record", lambda *_: ("Dot", 2, dot(600)))
    program.main(
        tiny(
            worlds=2, steps=500, frame_batch=16, batch=16, length=8, context=2, channels=4, hidden=16,
            evaluate_every=500, evaluate_places=32, dream_steps=20, horizons=(1, 5), folder=tmp_path,
            wandb="disabled", threads=1,
        )
    )  # fmt: skip
    lines = (tmp_path / "Dot" / "world_model-1" / "metrics.jsonl").read_text().splitlines()
    found = next(each for each in map(json.loads, lines) if "eval/copy/1" in each)
    assert found["eval/next_frame_error"] < 0.2 * found["eval/copy/1"]
    assert found["eval/dream/5"] < 0.3 * found["eval/copy/5"]


@pytest.fixture(scope="module")
def catch(tmp_path_factory):
    """A finished run on Catch."""
    folder = tmp_path_factory.mktemp("world_model")
    asked = program.recipe(program.Config(env="Catch"))
    numbers = dict(steps=700, evaluate_every=700, folder=folder, wandb="disabled", threads=1)
    program.main(dataclasses.replace(asked, **numbers))
    return folder / "Catch" / "world_model-1"


def test_catch_is_dreamed(catch):
    lines = [json.loads(line) for line in (catch / "metrics.jsonl").read_text().splitlines()]
    found = next(each for each in lines if "eval/copy/1" in each)
    assert found["eval/reconstruction"] < 1 < 0.05 * found["eval/copy/1"]
    assert found["eval/dream/7"] < 0.2 * found["eval/copy/7"]


def test_planning_in_the_dream_of_catch_wins(catch, tmp_path):
    config = plan.Config(catch, games=8, horizon=9, samples=40, threads=1, out=tmp_path / "planning.json")
    found = plan.main(config)
    assert found["planning in the dream"]["mean"] > 0.6 > 0 > found["random"]["mean"]
    record = json.loads((tmp_path / "planning.json").read_text())
    assert [trial["player"] for trial in record["trials"]] == ["random", "planning in the dream"]


def test_agents_see_the_latents(catch):
    """The features of an agent on the run's backbone are the latents, of each frame of a stack by itself."""
    _, model, world = plan.load(catch, CPU)
    world.close()
    encoder = backbones.build(str(catch), (1, 40, 40), frozen=True)
    frames = torch.randint(256, (3, 2, 40, 40), dtype=torch.uint8)
    latents = [model.encoder.quantize.value(model.encode(frames[:, n : n + 1])) for n in range(2)]
    assert torch.equal(encoder(frames[:, :1])[-1], latents[0])
    stacked = backbones.build(str(catch), (2, 40, 40), frozen=True)
    assert torch.equal(stacked(frames)[-1], torch.cat(latents, 1))
    assert not any(weight.requires_grad for weight in stacked.parameters())


def test_an_agent_on_the_latents(catch, tmp_path):
    config = pqn.recipe(pqn.Config(env="Catch"))
    config = dataclasses.replace(
        config,
        backbone=str(catch),
        frozen=True,
        steps=512,
        evaluate_every=512,
        evaluate_games=2,
        film_seconds=0.0,
        folder=tmp_path,
        wandb="disabled",
    )
    pqn.train(config)
    loaded = agents.load(tmp_path / "Catch" / "pqn-1", device="cpu")
    _, model, world = plan.load(catch, CPU)
    seen = loaded.policy.network.backbone(world.observation)[-1]
    assert torch.equal(seen, model.encoder.quantize.value(model.encode(world.observation)))
    world.close()


class Corridor:
    """A world of one latent, the place from 0 to 4: action 1 goes right, 0 left; 4 gives a reward and ends."""

    actions = 2

    def eval(self) -> "Corridor":
        return self

    def predict(self, z, action, state=None):
        place = (z + (2 * action - 1)[:, None, None, None]).clamp(0, 4)
        level = torch.nn.functional.one_hot(place, 5).permute(0, 4, 1, 2, 3) * 20.0
        arrived = (place[:, 0, 0, 0] == 4).float()
        reward = torch.stack([torch.full_like(arrived, -20), 1 - arrived, 20 * arrived - 10], 1)
        return Prediction(level, reward, 20 * arrived - 10), state


@pytest.mark.parametrize("hold, place", [(1, 0), (2, 0), (1, 3)])
def test_the_planner_finds_the_reward(hold, place):
    planner = Planner(Corridor(), horizon=6, samples=64, iterations=3, hold=hold)
    found = planner.plan(torch.full((2, 1, 1, 1), place), None)
    assert found.shape == (2, 6 // hold)
    needed = -(-(4 - place) // hold)
    assert found[:, :needed].min() == 1, "the way to the right, without a detour"


def test_the_value_of_a_sequence_by_hand():
    planner = Planner(Corridor(), horizon=3, discount=0.5)
    z = torch.tensor([2, 3]).view(2, 1, 1, 1)
    value = planner.value(z, None, torch.tensor([[[1, 1, 1], [0, 1, 1]], [[1, 1, 1], [0, 1, 1]]]))
    torch.testing.assert_close(value, torch.tensor([[0.5, 0.0], [1.0, 0.25]]), atol=1e-2, rtol=0)


def test_a_run_records_resumes_and_films(tmp_path, stop_at, same_ends):
    numbers = dict(
        worlds=2, frames=160, steps=6, frame_batch=4, batch=2, length=8, context=2, horizons=(1, 3),
        evaluate_every=6, evaluate_places=4, dream_steps=4, log_every=1, save_every=0, folder=tmp_path,
        wandb="disabled", threads=1,
    )  # fmt: skip
    program.main(tiny(name="whole", **numbers))
    parts = tiny(name="killed", **numbers)
    for step in (2, 5):
        stop_at(step, program.main, parts)
    program.main(parts)
    same_ends("model", "optimizer")
    folder = tmp_path / "Pong" / "whole"
    assert list(folder.glob("videos/*.mp4"))
    backbone = backbones.build(str(folder), (4, 84, 84))
    assert backbone.spec["name"] == "frame_encoder" and backbone.channels == [4 * 2]


def test_each_world_has_its_share_of_random_actions(monkeypatch, tmp_path):
    class Still:
        policy = staticmethod(lambda observation, transition: torch.zeros(len(observation), dtype=torch.long))
        world = staticmethod(lambda count, seed: program.envs.make("Catch", count, seed=seed, evaluation=True))

    monkeypatch.setattr(agents, "load", lambda *_, **__: Still)
    _, _, found = record("Catch", tmp_path, 16, 1_600, 0.9, 1, CPU)
    moved = (found.action != 0).float().mean(0)
    assert moved.min() < 0.15 and moved.max() > 0.4 and moved.max() < 0.75, "two thirds of the random actions move"


def test_what_cannot_be_recorded():
    with pytest.raises(ValueError, match="CartPole-v1 does not show pictures"):
        record("CartPole", None, 2, 10, 0.0, 1, CPU)
    with pytest.raises(ValueError, match="--worlds 1"):
        program.Config(worlds=1).validate()
    with pytest.raises(ValueError, match="--context 30"):
        program.Config(context=30).validate()
