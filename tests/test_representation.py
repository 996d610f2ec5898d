"""Frames labeled with the console's RAM, backbones pretrained on them, linear probes, and the study of transfer."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from ale_py.vector_env import AtariVectorEnv

import runs
from agents import dqn
from agents.studies.representation import collect, pretrain, probe, transfer
from agents.studies.representation.collect import LabeledFrames
from agents.studies.representation.probe import Part
from envs.atari_ram import VARIABLES, AtariRAM, area_weights
from vision import backbones


@pytest.fixture(scope="module")
def pong() -> LabeledFrames:
    return collect.collect("Pong", games=5, seed=1, max_steps=90)


@pytest.mark.parametrize("game", ["Pong", "Boxing"])
def test_ram_frames_equal_the_agents_observations(game):
    played = AtariRAM(game, seed=1, noops=0)
    world = AtariVectorEnv(game.lower(), num_envs=1, noop_max=0, use_fire_reset=False, repeat_action_probability=0.0)
    seen = world.reset(seed=np.array([1], np.int32))[0]
    assert played.actions == world.single_action_space.n
    for action in np.random.default_rng(0).integers(played.actions, size=40):
        difference = np.abs(seen[0].astype(int) - played.observation.numpy())
        assert difference.max() <= 1 and (difference > 0).mean() < 0.001, "up to OpenCV's rounding of halves"
        played.step(int(action))
        seen = world.step(np.array([action], np.int32))[0]


def test_shares_by_hand():
    assert torch.allclose(area_weights(3, 2), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))


def test_ram_game_resets():
    played = AtariRAM("Breakout", seed=1)
    while not played.over:
        played.step(1)
    assert played.step(0) == 0.0 and not played.over
    assert played.observation[:3].max() == 0 < played.observation[3].max()
    with pytest.raises(ValueError, match="unknown game 'Pongg'"):
        AtariRAM("Pongg", seed=1)


def test_ram_labels_of_the_ball(pong):
    """Pong's ball: column byte 49 - 49 of 160, row byte 54 - 14 of 210; above the walls it is not shown."""
    memory = pong.memory.long()
    x, y = memory[:, VARIABLES["Pong"]["ball_x"]] - 49, memory[:, VARIABLES["Pong"]["ball_y"]] - 14
    flying = torch.nonzero((x > 20) & (x < 135) & (y > 40) & (y < 185)).flatten()
    assert len(flying) > 50

    def share(rows: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
        found = []
        for row, across, down in zip(rows, x * 84 // 160, y * 84 // 210, strict=True):
            patch = pong.frame[row, down - 1 : down + 3, across - 1 : across + 3].int()
            found.append(patch.max() > pong.frame[row].median() + 40)
        return sum(found) / len(found)

    assert share(flying, x[flying], y[flying]) > 0.95
    assert share(flying, 155 - x[flying], y[flying]) < 0.2, "and nowhere else"


def test_ram_labels_of_boxers():
    """The white one shines brighter than the ring, the black one is darker: their middles move as their bytes do."""
    played = collect.collect("Boxing", games=1, seed=1, max_steps=100)
    ring = played.frame[:, 15:72, 14:70].float()
    memory = played.memory.double()
    for who, seen in (("player", ring > 190), ("enemy", ring < 20)):
        for axis, length in (("x", 56), ("y", 57)):
            along = seen.sum(1 if axis == "x" else 2)  # (T, length)
            middle = (along * torch.arange(length)).sum(1) / along.sum(1)
            byte = memory[:, VARIABLES["Boxing"][f"{who}_{axis}"]]
            assert torch.corrcoef(torch.stack([middle.double(), byte]))[0, 1] > 0.9, f"{who}_{axis}"


def test_stacks_end_in_their_frame_and_begin_with_their_game(pong):
    first = int(torch.nonzero(pong.episode == 1)[0])
    stacks = pong.stacks(torch.tensor([first, first + 1, first + 5]))
    assert stacks.shape == (3, 4, 84, 84) and stacks.dtype == torch.uint8
    assert stacks[0, :3].max() == 0 and torch.equal(stacks[0, 3], pong.frame[first])
    assert stacks[1, :2].max() == 0 and torch.equal(stacks[1, 2], pong.frame[first])
    assert torch.equal(stacks[2], pong.frame[first + 2 : first + 6])


def test_split_keeps_games_apart_and_repeats_nothing(pong):
    parts = collect.split(pong, seed=0)
    games = [set(pong.episode[rows].tolist()) for rows in parts]
    assert [len(each) for each in games] == [3, 1, 1] and len(set.union(*games)) == 5
    looks = [pong.frame[row].numpy().tobytes() for rows in parts for row in rows]
    assert len(looks) == len(set(looks)) < len(pong.frame)


def test_labels_by_hand():
    memory = torch.zeros(200, 128, dtype=torch.uint8)
    memory[:, VARIABLES["Pong"]["ball_x"]] = torch.arange(200)  # 200 values in 29 bins of 7
    memory[:, VARIABLES["Pong"]["player_y"]] = torch.arange(200) % 3 + 50
    memory[0, VARIABLES["Pong"]["enemy_x"]] = 1  # all but constant
    played = LabeledFrames(torch.zeros(200, 84, 84, dtype=torch.uint8), memory, torch.zeros(200, dtype=torch.int64))
    found = collect.labels(played, "Pong", torch.arange(150))
    assert found.names == ["player_y", "ball_x"] and found.bins == [3, 30] and "enemy_x" in found.constant
    assert found.label[[0, 1, 2, 3], 0].tolist() == [0, 1, 2, 0]
    assert found.label[[0, 4, 5, 149, 199], 1].tolist() == [0, 0, 1, 29, 29], "beyond what training saw: the last bin"
    with pytest.raises(ValueError, match="the RAM of Adventure is not documented"):
        collect.labels(played, "Adventure", torch.arange(150))


def test_probe_finds_what_is_linear_and_not_what_is_random():
    torch.manual_seed(0)
    inputs = torch.randn(900, 20)
    linear = (inputs @ torch.randn(20, 4)).argmax(1)
    label = torch.stack([linear, torch.randint(4, (900,))], 1)
    parts = [Part(inputs[rows], label[rows]) for rows in torch.arange(900).split([600, 100, 200])]
    found = probe.probe(*parts, bins=[4, 4])
    assert found["accuracy"][0] > 0.9 and found["f1"][0] > 0.9
    assert found["accuracy"][1] < 0.4 and found["f1"][1] < 0.4


def test_f1_by_hand():
    true, answer = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    # class 0: precision 1, recall 2/3, F1 0.8; class 1: precision 1/2, recall 1, F1 2/3
    assert probe.f1(answer, true, classes=3) == pytest.approx(0.75 * 0.8 + 0.25 * 2 / 3)


def test_standardized_by_the_first():
    train, other = torch.tensor([[0.0, 5], [2, 5]]), torch.tensor([[1.0, 7]])
    train, other = probe.standardizer(train, other)
    assert train[:, 1].tolist() == [0, 0] and other.tolist() == [[0, 0]]
    assert train[:, 0].mean() == 0 and train[:, 0].std() == 1


@pytest.mark.parametrize("method", ["memory", "autoencoder"])
def test_pretraining_helps_and_its_backbone_loads(tmp_path, pong, method):
    path = tmp_path / "Pong.safetensors"
    pong.save(path, {"env": "Pong"})
    config = pretrain.Config(method, path, seed=1, width=0.25, epochs=5, batch=16, learning_rate=3e-3, threads=1)
    folder, losses = pretrain.train(config)
    assert folder == tmp_path / f"Pong-{method}-1" and losses[-1] < 0.9 * losses[0]
    about = json.loads((folder / "pretraining.json").read_text())
    assert about["loss"] == losses and about["config"]["width"] == 0.25
    asked = dqn.Config(
        env="Pong", backbone=str(folder), frozen=True, norm="layer", hidden=16, steps=32, worlds=2, learn_start=8,
        batch=4, capacity=100, evaluate_every=1000, film_seconds=0.0, folder=tmp_path, wandb="disabled", threads=1,
    )  # fmt: skip
    dqn.train(asked)
    end = torch.load(next((tmp_path / "Pong/dqn-1/checkpoint").glob("0*.pt")), weights_only=True)["parts"]["online"]
    for key, value in backbones.load(folder).state_dict().items():
        assert torch.equal(end[f"backbone.{key}"], value)


def test_frames_are_found_again(tmp_path, pong):
    pong.save(tmp_path / "frames.safetensors", {"env": "Pong"})
    again, about = LabeledFrames.load(tmp_path / "frames.safetensors")
    assert about == {"env": "Pong"} and all(torch.equal(*pair) for pair in zip(again, pong, strict=True))
    with pytest.raises(FileNotFoundError, match="agents.studies.representation.collect"):
        LabeledFrames.load(tmp_path / "others.safetensors")


def test_collects_by_flag(tmp_path):
    path = collect.main(collect.Config("pong", games=2, max_steps=20, out=tmp_path / "some.safetensors"))
    played, about = LabeledFrames.load(path)
    assert about["env"] == "Pong" and len(played.frame) == 40 and played.memory.shape == (40, 128)
    with pytest.raises(runs.RunError, match="not a run's folder"):
        collect.main(collect.Config("Pong", agent=tmp_path, games=2, max_steps=20))


def test_random_backbones_classify_games():
    config = probe.GamesConfig(
        backbones=("random",),
        games=("Breakout", "Pong"),
        per_class=(5,),
        seeds=(1,),
        episodes=5,
        max_steps=30,
        width=0.25,
    )
    found = probe.probe_games(config)["accuracy"]["random"][5]
    assert len(found) == 1 and found[0] > 0.9
    with pytest.raises(ValueError, match="backbone 'mine': give name=folder"):
        probe.find_backbone("mine", config, 1)


def test_linear_probes_of_ram(tmp_path, pong):
    pong.save(tmp_path / "1.safetensors", {"env": "Pong"})
    backbones.save(backbones.build("nature", (4, 84, 84), width=0.25), tmp_path / "pretrained-1.safetensors")
    config = probe.RamConfig(
        backbones=("random", f"own={tmp_path}/pretrained-{{seed}}.safetensors"),
        frames=f"{tmp_path}/{{seed}}.safetensors",
        seeds=(1,),
    )
    found = probe.probe_ram(config)
    assert found["game"] == "Pong" and {"ball_x", "player_y"} <= set(found["variables"])
    assert found["scores"].keys() == {"random", "own", "blind"}
    assert np.shape(found["scores"]["own"]["f1"]) == (1, len(found["variables"]))
    assert np.mean(found["scores"]["random"]["f1"]) > np.mean(found["scores"]["blind"]["f1"])


def test_summary_by_hand():
    found = {
        "scratch": {"seeds": [1, 2], "steps": [1, 2], "returns": [[0.0, 2.0], [0.0, 4.0]]},
        "agent": {"seeds": [1, 2], "steps": [1, 2], "returns": [[2.0, 5.0], [2.0, 5.0]]},
    }
    one = transfer.summary(found, last=1)["agent"]
    assert one["end"]["mean"] == 5 and one["end"]["half"] == 0 and one["area"]["mean"] == 3.5
    assert one["end - scratch"]["each"] == [3, 1] and one["area - scratch"]["each"] == [2.5, 1.5]
    assert one["end - scratch"]["half"] == pytest.approx(12.706, rel=1e-3), "Student's t of one degree, times 1"


def test_study_of_a_few_steps(tmp_path, pong, monkeypatch):
    lost = {"eval/return": -21.0, "eval/median": -21.0, "eval/std": 0.0, "eval/games": 1}
    monkeypatch.setattr(
        dqn, "evaluate_and_save", lambda run, *_, **__: run.log_evaluation(lost)
    )  # a game takes a thousand steps
    config = transfer.Config(
        methods=("memory",), seeds=(1,), epochs=1, steps=32, evaluate_every=32, evaluate_games=1,
        folder=tmp_path, threads=1,
    )  # fmt: skip
    pong.save(tmp_path / "Pong-1.safetensors", {"env": "Pong"})
    tiny = transfer.agent_config(config, "memory", 1)
    assert tiny.backbone == f"{tmp_path}/Pong-memory-1" and tiny.frozen and tiny.name == "memory-frozen-1"
    tuned = transfer.agent_config(dataclasses.replace(config, frozen=False), "memory", 1)
    assert not tuned.frozen and tuned.name == "memory-1"
    transfer.main(config)
    study = json.loads((tmp_path / "study.json").read_text())
    assert study["agents"]["summary"].keys() == {"memory-frozen"} and study["agents"]["first"]["config"]["frozen"]
    assert "| memory-frozen | 1 | -2" in (tmp_path / "study.md").read_text(), (
        "a game of Pong that nobody learned is lost"
    )
    assert (tmp_path / "study.png").stat().st_size < 200_000
    with pytest.raises(ValueError, match="was begun with --steps 32: choose another --folder for 64"):
        transfer.main(dataclasses.replace(config, steps=64))
    with pytest.raises(ValueError, match="unknown method 'mine'"):
        transfer.main(dataclasses.replace(config, methods=("mine",)))
