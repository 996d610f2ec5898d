"""World models: recordings of games, pixels and mixtures by hand, dreams, and the program."""

import json
import math

import pytest
import torch

from agents.studies.world_model import __main__ as program
from agents.studies.world_model import dream
from agents.studies.world_model.model import Prediction, StandardizedPixels, WorldModel
from agents.studies.world_model.recording import Recording, record
from vision import backbones


def dot(steps: int, seed: int = 0) -> Recording:
    """Games in which a bright square goes left by action 0 and right by action 1, and stops at the walls."""
    action = torch.randint(2, (steps, 2), generator=torch.Generator().manual_seed(seed))
    frame, place = torch.zeros(steps, 2, 1, 84, 84, dtype=torch.uint8), torch.tensor([4, 5])
    for step in range(steps):
        for world in range(2):
            frame[step, world, 0, 36:48, 8 * place[world] : 8 * place[world] + 8] = 255
        place = (place + 2 * action[step] - 1).clamp(0, 9)
    return Recording(frame, action, torch.zeros(steps, 2), torch.zeros(steps, 2, dtype=torch.bool))


def test_starts_by_hand():
    last = torch.tensor([[0], [0], [1], [0], [0], [0]], dtype=torch.bool)
    part = Recording(torch.zeros(6, 1, 1, 84, 84), torch.zeros(6, 1), torch.zeros(6, 1), last)
    assert part.starts(2)[:, 0].tolist() == [0, 3], "frames 0, 1, 2 and 3, 4, 5 are of one game"
    assert part.starts(2, may_end=True)[:, 0].tolist() == [0, 1, 3], "steps 1 and 2 end a game"
    with pytest.raises(ValueError, match="no game was recorded for 6 steps"):
        part.starts(6)
    window = part.windows(torch.tensor([[3, 0]]), 2)
    assert window.frame.shape == (3, 1, 1, 84, 84) and window.last.flatten().tolist() == [False] * 3


def test_the_density_of_a_mixture_by_hand():
    mean, deviation = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.5]])
    mixture = Prediction(torch.tensor([[0.25, 0.75]]).log(), mean, deviation.log(), torch.zeros(3), torch.zeros(()))
    bells = [math.exp(-0.5 * 1.0**2) / math.sqrt(2 * math.pi), math.exp(-0.5 * 2.0**2) / math.sqrt(2 * math.pi) / 0.5]
    assert mixture.log_prob(torch.tensor([1.0])).item() == pytest.approx(math.log(0.25 * bells[0] + 0.75 * bells[1]))
    assert mixture.expected().item() == mixture.draw(0).item() == 1.5
    many = Prediction(*(field.expand(20_000, *field.shape) for field in mixture))
    drawn = many.draw(1.0, torch.Generator().manual_seed(0))
    variance = 0.25 * (1 + 0) + 0.75 * (0.25 + 4) - 1.5**2
    assert drawn.mean().item() == pytest.approx(1.5, abs=0.02) and drawn.var().item() == pytest.approx(
        variance, abs=0.05
    )
    assert many.draw(0.1, torch.Generator().manual_seed(0)).mean().item() == pytest.approx(2.0, abs=0.02)


def test_standardized_pixels_by_hand():
    frames = torch.tensor([[0, 255], [0, 0]], dtype=torch.uint8).view(2, 1, 1, 2)
    pixels = StandardizedPixels((1, 1, 2))
    pixels.fit(frames)
    assert pixels.mean_frame.flatten().tolist() == [0.0, 0.5]
    assert pixels.deviation.flatten().tolist() == pytest.approx([0.02, 0.5])
    parameters = torch.zeros(1, 1, 1, 2)
    found = pixels.log_prob(parameters, torch.tensor([[[[0.04, 1.0]]]])).flatten().tolist()
    assert found == pytest.approx([-0.5 * (0.04 / 0.02) ** 2, -0.5 * (0.5 / 0.5) ** 2])
    assert pixels.mean(parameters + 1).flatten().tolist() == pytest.approx([0.02, 1.0])


def test_another_games_frame_is_not_predicted():
    torch.manual_seed(0)
    model = WorldModel(backbones.build("nature", (1, 84, 84), width=0.25), 2, latents=3, hidden=8)
    z, action = torch.randn(2, 4, 3), torch.randint(2, (2, 3))
    last = torch.tensor([[False, False, True], [False, False, False]])
    losses = model.dynamics_losses(z, action, torch.zeros(2, 3), last)
    z[0, 3] += 100
    again = model.dynamics_losses(z, action, torch.zeros(2, 3), last)
    assert losses["loss/latent"].item() == pytest.approx(again["loss/latent"].item(), rel=1e-6)
    z[1, 3] += 100
    assert model.dynamics_losses(z, action, torch.zeros(2, 3), last)["loss/latent"] > 10 + losses["loss/latent"]


def test_a_dream_goes_on_from_what_was_seen():
    torch.manual_seed(0)
    model = WorldModel(backbones.build("nature", (1, 84, 84), width=0.25), 2, latents=3, hidden=8).eval()
    played = dot(8).part(slice(1))
    model.vae.pixels.fit(played.frame.flatten(0, 1))
    far = dream.dream(model, played.frame[:3], played.action, 4)
    assert far.shape == (4, 1, 1, 84, 84)
    changed = played.action.clone()
    changed[4] = 1 - changed[4]
    other = dream.dream(model, played.frame[:3], changed, 4)
    assert torch.equal(far[:2], other[:2]) and not torch.equal(far[2], other[2]), "action 4 leads to the third frame"


@pytest.mark.slow
def test_a_moving_square_is_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "record", lambda *_: ("Dot", 2, dot(600)))
    program.main(
        program.Config(
            worlds=2, steps=1_200, frame_share=0.25, frame_batch=16, batch=16, length=8, latents=8, hidden=128,
            learning_rate=2e-3, evaluate_every=1_200, evaluate_places=32, dream_steps=20, folder=tmp_path,
            wandb="disabled", threads=1,
        )
    )  # fmt: skip
    lines = (tmp_path / "Dot" / "world_model-1" / "metrics.jsonl").read_text().splitlines()
    found = next(each for each in map(json.loads, lines) if "eval/copy/1" in each)
    assert found["eval/next_frame_error"] < 0.2 * found["eval/copy/1"]
    assert found["eval/dream/5"] < 0.3 * found["eval/copy/5"]


def test_a_run_records_resumes_and_films(tmp_path, stop_at, same_ends):
    numbers = dict(
        worlds=2, frames=160, steps=6, frame_batch=4, batch=2, length=8, latents=4, hidden=16, width=0.25,
        evaluate_every=6, evaluate_places=4, dream_steps=4, log_every=1, save_every=0, folder=tmp_path,
        wandb="disabled", threads=1,
    )  # fmt: skip
    program.main(program.Config(name="whole", **numbers))
    parts = program.Config(name="killed", **numbers)
    for step in (2, 5):
        stop_at(step, program.main, parts)
    program.main(parts)
    same_ends("model", "optimizer")
    folder = tmp_path / "Pong" / "whole"
    assert list(folder.glob("videos/*.mp4"))
    backbone = backbones.build(str(folder), (1, 84, 84))
    assert backbone.spec["name"] == "nature"


def test_what_cannot_be_recorded():
    with pytest.raises(ValueError, match="CartPole-v1 does not show frames of 84 x 84"):
        record("CartPole", None, 2, 10, 0.0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match="--worlds 1"):
        program.Config(worlds=1).validate()
