"""Every agent and classifier on a GPU: plain, --compile and --capture learn the same; resumed; profiled.

python -m pytest -n 0 -m gpu           # where there is a CUDA device
python -m pytest -m slow tests/test_gpu.py       # the same tests on the CPU, graphs by a stand-in (launched.py)
"""

import dataclasses
import importlib
import json
import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch._inductor.config

import envs
import runs
from agents.recurrent_attention import dram, ram
from runs import machine
from tests import launched
from tests.devices import CUDA_OR_SLOW, without_tf32
from tests.faults.programs import PROGRAMS, draw
from vision.classification import train as classification

MODES = ("plain", "capture", "compile")
SHORT = dict(wandb="disabled", log_every=64, save_every=10**9)
PLAYED = SHORT | dict(env="Catch", worlds=4, evaluate_every=10**9, film_seconds=0.0)
# float32: by bf16's rounding, which differs between kernels, two modes choose other actions within a few updates
REPLAYED = dict(steps=400, learn_start=64, capacity=1_000, batch=8, bf16=False)
ROLLED = dict(steps=360, rollout=9, bf16=False)
AGENTS = {  # program, numbers
    "dqn": ("dqn", REPLAYED),
    "dqn, two updates": ("dqn", REPLAYED | dict(updates=2, double=True, max_grad_norm=10.0)),
    "rainbow": ("rainbow", REPLAYED),
    "iqn": ("rainbow", REPLAYED | dict(only="iqn")),
    "qr_dqn": ("rainbow", REPLAYED | dict(only="qr_dqn")),
    "munchausen": ("rainbow", REPLAYED | dict(only="munchausen")),
    "btr": ("rainbow", REPLAYED | dict(recipe="btr")),
    "impala": ("rainbow", REPLAYED | dict(only="double", backbone="impala", width=0.25, spectral=True, steps=160)),
    "r2d2": ("r2d2", REPLAYED | dict(learn_start=128, batch=4)),
    "pqn": ("pqn", ROLLED),
    "pqn, muon": ("pqn", ROLLED | dict(optimizer="muon")),
    "ppo": ("ppo", ROLLED),
    "ppo, LSTM": ("ppo", ROLLED | dict(lstm_units=16)),
    "a2c": ("a2c", ROLLED),
    "reinforce": ("reinforce", dict(steps=400, bf16=False)),
    "soft_attention": ("soft_attention", ROLLED),
    "hard_attention": ("hard_attention", ROLLED),
}
CLASSIFIERS = {
    "airbench": dict(bf16=True),
    "resnet18": dict(backbone="resnet18", width=0.25, bf16=True, learning_rate=0.01),
    "dropout, Adam": dict(backbone="lenet5", optimizer="adam", learning_rate=1e-3, dropout=0.5, bf16=True),
    "averaged weights, mixup": dict(ema_decay=0.99, mixup=0.4, augment="flip,crop,jitter,cutout"),
}

PRECISIONS = {"float32": "--no-bf16", "bf16": "--bf16"}
ONLY_ON_CPU = ("tabular", "tabular, planned", "dqn on disk")  # they refuse other devices
ON_A_DEVICE = {
    name: program for name, program in PROGRAMS.items() if "--device=cpu" in program.flags and name not in ONLY_ON_CPU
}
COMMANDS = [
    (name, precision)
    for name, program in ON_A_DEVICE.items()
    for precision in PRECISIONS
    if precision == "float32" or "--no-bf16" in program.flags
]


@pytest.fixture(params=CUDA_OR_SLOW)
def device(request, monkeypatch) -> torch.device:
    """A CUDA device; or the CPU, on which graphs are stood in for."""
    if request.param == "cpu":
        monkeypatch.setattr(runs, "Captured", launched.Launched)
        launched.let_optimizers_be_captured(monkeypatch)
    return torch.device(request.param)


@pytest.fixture
def float32() -> Iterator[None]:
    """Convolutions and products without TF32, whose kernels for a graph may round otherwise than those without."""
    with without_tf32():
        yield


def losses(folder: Path, first: int = 3) -> list[float]:
    """All losses of the first lines that have any: later ones part, for rounding decides between two actions."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [[value for key, value in line.items() if key.startswith("loss/")] for line in lines]
    return sum([each for each in found if each][:first], [])


def check(folder: Path, mode: str, first: int = 3) -> None:
    """The run of a mode learned what the plain one did."""
    plain, other = (losses(folder / name, first) for name in ("plain", mode))
    assert plain and plain == pytest.approx(other, rel=0.05, abs=5e-3)


@torch._inductor.config.patch(fallback_random=True)  # draws what eager mode draws
def train(program, config, folder: Path, device: torch.device, mode: str) -> None:
    modes = dict.fromkeys(["compile", "capture"], False) | ({mode: True} if mode != "plain" else {})
    modes = {key: value for key, value in modes.items() if hasattr(config, key)}
    program.train(dataclasses.replace(config, device=str(device), folder=folder, name=mode, **modes))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", AGENTS)
def test_agent(name, mode, device, float32, tmp_path):
    if device.type == "cpu" and mode == "compile" and name != "dqn":
        pytest.skip("test_compile.py compiles the others")
    program, numbers = AGENTS[name]
    if mode == "capture" and program == "reinforce":
        pytest.skip("its episodes differ in length")
    module = importlib.import_module(f"agents.{program}")
    if program == "rainbow":
        module = importlib.import_module("agents.rainbow.loop")
    asked = {key: numbers[key] for key in ("only", "recipe") if key in numbers}
    config = dataclasses.replace(module.recipe(module.Config(env="Catch", **asked)), **PLAYED | numbers)
    for each in ("plain", mode) if mode != "plain" else ("plain",):
        train(module, config, tmp_path, device, each)
    iqn = getattr(config, "distribution", None) == "iqn"
    if iqn and (mode, device.type) == ("compile", "cuda"):
        assert losses(tmp_path / "Catch" / mode)  # of other quantile fractions: compiled, they are drawn otherwise
    else:
        check(tmp_path / "Catch", mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", ["MNIST", "Cluttered", "Pairs", "differentiable"])
def test_recurrent_attention(task, mode, device, float32, tmp_path):
    if device.type == "cpu" and mode == "compile":
        pytest.skip("half a minute each")
    module = dram if task == "Pairs" else ram
    where = "MNIST" if task == "differentiable" else task
    config = module.recipe(module.Config(env=where))
    config = dataclasses.replace(
        config, images="glyphs", steps=1_600, batch=100, evaluate_every=10**9, film=False, test_rollouts=2,
        evaluate_passes=1, bf16=False, **SHORT | dict(log_every=400),
        **(dict(attention="differentiable") if task == "differentiable" else {}),
    )  # fmt: skip
    for each in ("plain", mode) if mode != "plain" else ("plain",):
        train(module, config, tmp_path, device, each)
    check(next(tmp_path.iterdir()), mode, first=1)  # then a rounding may turn an answer, and with it a reward


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name, mode, device, tmp_path):
    if device.type == "cpu" and mode == "compile":
        pytest.skip("half a minute each")
    asked = classification.Config(data="shapes", backbone=CLASSIFIERS[name].get("backbone"))
    numbers = dict(steps=1_280, batch=64, evaluate_every=640) | SHORT | dict(log_every=320) | CLASSIFIERS[name]
    config = dataclasses.replace(classification.recipe(asked), **numbers)
    for each in ("plain", mode) if mode != "plain" else ("plain",):
        train(classification, config, tmp_path, device, each)
    check(tmp_path / "shapes", mode)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of images, and beside it the other files that the programs of tests/faults/programs.py read."""
    folder = tmp_path_factory.mktemp("read") / "pictures"
    draw(folder)
    return folder


@pytest.mark.parametrize("name,precision", COMMANDS)
def test_command(name, precision, device, pictures, tmp_path, monkeypatch):
    """Every program of agents/ and vision/ that has --device ends as its command, with finite losses."""
    program = ON_A_DEVICE[name]
    changed = {"--device=cpu": f"--device={device}", "--no-bf16": PRECISIONS[precision]}
    words = [changed.get(word, word) for word in program.arguments(tmp_path, pictures)]
    monkeypatch.setattr(sys, "argv", [program.module, *words])
    try:
        runpy.run_module(program.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code
    assert any(tmp_path.iterdir())
    for metrics in tmp_path.glob("*/run/metrics.jsonl"):
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        found = [value for line in lines for key, value in line.items() if key.startswith("loss/")]
        assert found and all(math.isfinite(value) for value in found)


@pytest.mark.parametrize("program", ["dqn", "rainbow", "pqn", "ppo"])
def test_atari_captured(program, device, tmp_path):
    """Four frames that are put together on the device, in bf16 where that is fast, with a minibatch of a graph."""
    module = importlib.import_module(f"agents.{program}" if program != "rainbow" else "agents.rainbow.loop")
    numbers = dict(steps=512, learn_start=128, capacity=2_000) if program in ("dqn", "rainbow") else {}
    numbers = numbers or dict(steps=640, rollout=16, minibatches=2, epochs=2)
    numbers |= dict(PLAYED, env="Pong", width=0.25, hidden=32, save_every=10**9, capture=True)
    config = dataclasses.replace(module.recipe(module.Config(env="Pong")), folder=tmp_path, **numbers)
    module.train(dataclasses.replace(config, device=str(device), name="captured"))
    assert losses(tmp_path / "Pong/captured")


@pytest.mark.parametrize("program", ["dqn", "ppo"])
def test_killed_and_resumed(program, device, tmp_path, kill, same_ends):
    """Equal to a run that was not stopped, bit for bit where two such runs are equal to each other."""
    module = importlib.import_module(f"agents.{program}")
    numbers = PLAYED | (REPLAYED if program == "dqn" else ROLLED) | dict(save_every=0.1, log_every=500)
    numbers["steps"] = 6_000 if device.type == "cpu" else 2_400
    del numbers["env"]
    asked = module.Config(env="Catch", steps=numbers["steps"])  # a recipe explores for a part of them
    config = dataclasses.replace(module.recipe(asked), folder=tmp_path, device=str(device), **numbers)
    flags = {key: getattr(config, key) for key in numbers if key not in ("wandb", "film_seconds")}
    kill(f"agents.{program}", env="Catch", device=str(device), **flags)
    for name in ("killed", "whole", "again"):
        module.train(dataclasses.replace(config, name=name))
    whole, again = ((tmp_path / "Catch" / name / "metrics.jsonl").read_bytes() for name in ("whole", "again"))
    if whole == again:
        same_ends(*(("online", "target", "optimizer") if program == "dqn" else ("network", "optimizer")))
    else:  # sums by atomic additions: the killed run is as near as another one
        first = [losses(tmp_path / "Catch" / name) for name in ("killed", "whole")]
        assert device.type == "cuda" and first[0] == pytest.approx(first[1], rel=0.05, abs=5e-3)


@pytest.mark.parametrize("capture", [False, True])
def test_profile(capture, device, tmp_path):
    module = importlib.import_module("agents.dqn")
    config = dataclasses.replace(module.recipe(module.Config(env="Catch")), **PLAYED | REPLAYED)
    config = dataclasses.replace(config, device=str(device), folder=tmp_path, name="p", profile=8, capture=capture)
    module.train(config)
    page = (tmp_path / "Catch/p/profile/profile.txt").read_text()
    assert "learn" in page and (device.type == "cpu" or "CUDA stream" in page)


@pytest.mark.parametrize("name", ["Breakout", "Pong"])
def test_world(name, device):
    """Stacks put together on the device are those of the CPU, over lost lives, ends and flickering frames."""
    options = dict(flicker=0.3, power_cycle=200, max_frames=2_000)
    here, there = envs.make(name, 4, **options), envs.make(name, 4, device=device, **options)
    generator = torch.Generator().manual_seed(1)
    for _ in range(600):
        action = torch.randint(here.actions, (4,), generator=generator)
        one, other = here.step(action), there.step(action.to(device))
        assert all(torch.equal(a, b.cpu()) for a, b in zip(one, other, strict=True))
        assert torch.equal(here.observation, there.observation.cpu()) and here.finished == there.finished


def test_bf16_is_chosen_by_the_hardware(device):
    if device.type == "cuda":
        assert machine.fast_bf16(device) is (torch.cuda.get_device_capability(device) >= (8, 0))
    options = dataclasses.make_dataclass("Options", [("bf16", bool, True)])()
    with machine.precision(options, device):
        found = (torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)).dtype
    assert found == (torch.bfloat16 if machine.fast_bf16(device) else torch.float32)
