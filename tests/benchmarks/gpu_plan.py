"""What tests/benchmarks/gpu.py does, in order of worth: tests, jobs of the table, games, and the GPU's recipe."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from agents import pqn

TEST_LIMIT = 100.0  # seconds of a test; the compiled ones take most
JOB_LIMIT = 75.0  # seconds of a job

# The games are learned by agents.pqn's recipe, in the paper's width and captured; evaluations are short.
GPU_RECIPE: dict[str, Any] = dict(
    width=1.0, capture=True, evaluate_epsilon=0.001, evaluate_games=10, evaluate_steps=4_500, evaluate_first=0,
    film_seconds=0.0,
)  # fmt: skip
SMALL = dict(worlds=4, rollout=16, epochs=1, minibatches=2, width=0.25, hidden=32, evaluate_games=1, capture=False)
SMALL |= dict(evaluate_steps=200)
GAMES = {"Pong": 0.36, "Breakout": 1.0}  # of the seconds that are left, at most
STEPS_PER_SECOND = {"cuda": 7_500.0, "cpu": 100.0}  # of PQN, where the table did not find it
SHARE = 0.9  # of a game's seconds are learning, the others evaluation
EVALUATIONS = 6  # of a game
RECIPE = "PQN, the games' recipe"  # the job of the table whose rate says how many steps there is time for


def order_tests(names: list[str], cuda: bool) -> list[str]:
    """Tests by worth: captured and plain updates, memories and worlds, then what is compiled, which takes longest."""
    kinds = ("test_gpu.py", "test_gpu_numbers.py", "test_envs.py", "test_sum_tree.py", "test_replay.py")

    def worth(name: str) -> tuple[int, int]:
        late = 2 if "compile" in name else 1 if "resumed" in name else 0
        return late, next((k for k, kind in enumerate(kinds) if kind in name), len(kinds))

    chosen = sorted(names, key=worth)
    if cuda:
        return chosen
    few = ("test_bf16", "test_world[cpu-Pong", "cpu-dqn-capture", "cpu-airbench-capture", "cpu-MNIST-capture")
    return sorted(chosen, key=lambda name: not any(word in name for word in few))  # those first that are quick here


def jobs(device: str, seconds: float) -> list[dict[str, Any]]:
    """The jobs of the table, those worth most first. seconds: that are there for all of them."""
    return list(_small(device) if device == "cpu" else _full(device, min(max(seconds / 100, 1.0), 3.0)))


def _job(name: str, kind: str, device: str, window: float, **numbers: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "device": device, "seconds": window, "numbers": numbers}


def _full(device: str, window: float) -> Iterator[dict[str, Any]]:
    yield _job("emulator, 128 worlds", "emulator", device, window, worlds=128)
    yield _job("emulator, 256 worlds, Pong", "emulator", device, window, worlds=256, game="Pong")
    for threads in (16, 1):
        name = f"ALE alone, 32 worlds, {threads} threads"
        yield _job(name, "bare emulator", device, window, worlds=32, threads=threads, game="breakout")
    yield recipe(device, window)
    yield recipe(device, window, profile=6)
    for mode in ("capture", "plain"):
        yield agent("DQN", 128, mode, device, window)
        yield agent("PQN", 128, mode, device, window)
    yield _job(
        "memory of 1,000,000, draws of 512", "memory", device, window / 3, capacity=10**6, worlds=250, batch=512
    )
    for mode in ("capture", "plain"):
        yield recurrent_attention(mode, device, window)
        yield resnet(32, 512, mode, device, window)
        yield agent("Rainbow", 128, mode, device, window)
        yield agent("PPO", 128, mode, device, window)
        yield resnet(224, 128, mode, device, window)
    yield from tasks(device, window)
    for name in ("DQN", "PQN"):
        for mode in ("capture", "plain"):
            yield agent(name, 128, mode, device, window, profile=20)
    for mode in ("compile", "both"):
        for name in ("DQN", "PQN"):
            yield agent(name, 128, mode, device, window)
    for worlds in (64, 256, 16):
        yield _job(f"emulator, {worlds} worlds", "emulator", device, window, worlds=worlds)
        for name in ("DQN", "PQN"):
            yield agent(name, worlds, "capture", device, window)
    yield recurrent_attention("compile", device, window)
    yield resnet(32, 512, "compile", device, window)
    yield resnet(224, 128, "compile", device, window)
    yield agent("Rainbow", 128, "compile", device, window)
    yield agent("PPO", 128, "compile", device, window)
    for worlds in (64, 256, 16):
        for name in ("DQN", "PQN"):
            yield agent(name, worlds, "plain", device, window)


def _small(device: str) -> Iterator[dict[str, Any]]:
    window = 0.3
    yield _job("emulator, 4 worlds", "emulator", device, window, worlds=4)
    yield _job("ALE alone, 4 worlds", "bare emulator", device, window, worlds=4, threads=2, game="breakout")
    yield recipe(device, window)
    for name in ("DQN", "PQN"):
        yield agent(name, 4, "plain", device, window, small=True)
    yield _job("memory of 4,000, draws of 32", "memory", device, 0.1, capacity=4_000, worlds=50, batch=32)
    yield recurrent_attention("plain", device, window, small=True)
    yield resnet(32, 8, "plain", device, window)
    yield from tasks(device, window, small=True)
    yield agent("DQN", 4, "plain", device, window, small=True, profile=3)
    yield agent("DQN", 4, "capture", device, window, small=True)  # there is no graph here: it says so
    for name in ("Rainbow", "PPO"):
        yield agent(name, 4, "plain", device, window, small=True)
    yield resnet(224, 2, "plain", device, window)
    yield agent("DQN", 4, "compile", device, window, small=True)


def modes(mode: str) -> dict[str, bool]:
    """The flags of a mode: plain, compile, capture, or both."""
    return {"compile": mode in ("compile", "both"), "capture": mode in ("capture", "both")}


def agent(
    name: str, worlds: int, mode: str, device: str, window: float, small: bool = False, profile: int = 0
) -> dict[str, Any]:
    """A job of an agent on Breakout; the replayed ones learn from 8 samples a step, in batches of 512."""
    batch = 8 if small else 512
    replayed = dict(
        capacity=2_000 if small else 10**6, learn_start=max(4 * worlds, 2 * batch), batch=batch,
        learn_every=batch // 8, updates=max(8 * worlds // batch, 1), epsilon_steps=0,
    )  # fmt: skip
    rolled = dict(rollout=8 if small else 32, epochs=2, minibatches=max(8 * worlds // 128, 2))
    program, numbers, warm_up = {
        "DQN": ("agents.dqn", replayed | dict(width=1.0, norm="none"), 8),  # the network of Mnih et al. 2015
        "Rainbow": ("agents.rainbow.loop", replayed, 8),
        "PQN": ("agents.pqn", rolled, 2),
        "PPO": ("agents.ppo", rolled, 2),
    }[name]
    flags = dict(env="Breakout", worlds=worlds, steps=10**9) | numbers | modes(mode)
    if small:
        flags |= dict(width=0.25, hidden=32)
        warm_up = 2
    title = f"{name}, {worlds} worlds, {mode}" + (", profile" if profile else "")
    return _job(
        title, "train", device, window, program=program, flags=flags, warm_up=warm_up,
        **({"profile": profile} if profile else {}),
    )  # fmt: skip


def recipe(device: str, window: float, profile: int = 0) -> dict[str, Any]:
    """A job of what the games are learned by, on Pong."""
    flags = dict(env="Pong", steps=10**9) | GPU_RECIPE | (SMALL if device == "cpu" else {})
    more = {"profile": profile} if profile else {}
    title = RECIPE + ", profile" * bool(profile)
    return _job(title, "train", device, window, program="agents.pqn", flags=flags, warm_up=2, **more)


def recurrent_attention(mode: str, device: str, window: float, small: bool = False) -> dict[str, Any]:
    """A job of the recurrent attention model on digits of 28 x 28: an epoch of MNIST is 55,000 images."""
    flags = dict(env="MNIST", images="glyphs", steps=10**9, film=False) | modes(mode)
    program = "agents.recurrent_attention.ram"
    return _job(f"RAM, {mode}", "train", device, window, program=program, flags=flags, warm_up=2 if small else 8)


def resnet(side: int, batch: int, mode: str, device: str, window: float) -> dict[str, Any]:
    """A job of ResNet-18 on random images of a side."""
    flags = dict(backbone="resnet18", batch=batch, steps=10**9, learning_rate=1e-4) | modes(mode)
    count = max(2_048, 4 * batch) if device != "cpu" else 4 * batch
    warm_up = 8 if device != "cpu" else 1
    name = f"ResNet-18, {side} x {side}, batch {batch}, {mode}"
    return _job(name, "images", device, window, side=side, count=count, flags=flags, warm_up=warm_up)


def tasks(device: str, window: float, small: bool = False) -> Iterator[dict[str, Any]]:
    """Jobs of vision's other tasks on drawn images, by their recipes in larger batches: images, or questions, /s."""
    some = dict(steps=10**9)
    for name, program, flags in (
        ("Faster R-CNN", "vision.detection.train", dict(model="faster_rcnn", batch=4 if small else 16)),
        ("SSD", "vision.detection.train", dict(model="ssd", batch=4 if small else 16)),
        ("U-Net", "vision.segmentation.train", dict(model="unet", batch=4 if small else 16)),
        ("captioning", "vision.captioning.train", dict(batch=8 if small else 64)),
        ("questions about scenes", "vision.captioning.vqa", dict(batch=8 if small else 64)),
        ("characters, LSTM", "vision.sequences.train", dict(task="text")),
    ):
        title = f"{name}, batch {flags['batch']}" if "batch" in flags else name
        yield _job(title, "train", device, window, program=program, flags=some | flags, warm_up=1 if small else 8)


def games(device: str, seconds: float, steps_per_second: float | None) -> Iterator[tuple[str, float, list[str]]]:
    """Game, its seconds at most, and the flags of agents.pqn, in the order in which they are learned."""
    cuda = device != "cpu"
    numbers = GPU_RECIPE if cuda else GPU_RECIPE | SMALL
    steps_per_second = steps_per_second or STEPS_PER_SECOND["cuda" if cuda else "cpu"]
    for game, share in GAMES.items():
        allowed, seconds = seconds * share, seconds * (1 - share)
        config = dataclasses.replace(pqn.recipe(pqn.Config(env=game)), **numbers)
        stride = config.worlds * config.rollout
        steps = max(int(allowed * SHARE * steps_per_second) // stride, 4) * stride  # over which the rate falls to 0
        flags = dict(env=game, device=device, steps=steps, seed=1, wandb="disabled", save_every=30.0) | numbers
        flags["evaluate_every"] = max(steps // EVALUATIONS // stride, 1) * stride
        flags["log_every"] = max(steps // 60, stride)
        words = []
        for key, value in flags.items():
            flag = key.replace("_", "-")
            words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
        yield game, allowed, words
