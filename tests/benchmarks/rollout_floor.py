"""What the time of PPO and PQN on a CPU is bounded by: each of their parts by itself, against what the cores can do.

    python tests/benchmarks/rollout_floor.py
    python tests/benchmarks/rollout_floor.py --threads 1 --json results/rollout_floor.json

The parts of one iteration of ppo_speed.py and pqn_speed.py (8 worlds, rollouts of 128 steps, 4 epochs of 4
minibatches of 256, the network of Mnih et al. 2015, bf16 where the processor is fast at it) run in loops of their
own, nothing else between them. For the layers "limit" is the time that their arithmetic would take at the rate of the
fastest of several large matrix products; for the copy of the weights and Adam, that of moving their bytes at the rate
of a large copy. A wake-up is what an operation on two threads takes when there is next to nothing to do. The
emulator is eight games of ALE's vector environment that nobody waits for.

From these: steps a second if an iteration were no more than (1) its parts one after the other, with the emulator
beside them and (2) their limits, with an emulator that costs nothing. The run's own speed is in ppo_speed.json and
pqn_speed.json. Leave the machine alone meanwhile.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from on_policy import EPOCHS, MINIBATCHES, ROLLOUT, WORLDS
from paired import circumstances, report
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents.config import world_options
from agents.networks import q_network
from agents.optimization import adam, frozen_copy
from agents.pqn import Config, recipe
from runs.machine import precision

BATCH = ROLLOUT * WORLDS // MINIBATCHES
UPDATES = EPOCHS * MINIBATCHES


def seconds_of(call: Callable[[], object], least: float = 0.5) -> float:
    """Seconds of one call: the least mean of three loops of `least` seconds in all."""
    call()
    means = []
    for _ in range(3):
        calls, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < least / 3:
            call()
            calls += 1
        means.append(passed / calls)
    return min(means)


def peak(dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest of some large matrix products."""
    rates = []
    for size in (512, 1024, 2048):
        left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        rates.append(2 * size**3 / seconds_of(lambda left=left, right=right: left @ right))
    return max(rates)


def bandwidth() -> float:
    """Bytes a second, read and written, of a copy of 64 MiB."""
    source = torch.zeros(64 << 20, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds_of(lambda: target.copy_(source))


def wake_up() -> float:
    """Seconds of an operation that is spread over the threads, less its seconds on one."""
    numbers, threads = torch.zeros(40_000), torch.get_num_threads()  # the least that torch spreads is 32,768
    spread = seconds_of(lambda: numbers.add_(1))
    torch.set_num_threads(1)
    alone = seconds_of(lambda: numbers.add_(1))
    torch.set_num_threads(threads)
    return max(spread - alone / threads, 0.0)


def layers(network: nn.Module, observation: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
    """Name, module and input of every layer with weights, of one forward pass."""
    found: list[tuple[str, nn.Module, Tensor]] = []

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, _: found.append((name, module, inputs[0].detach()))

    handles = [
        module.register_forward_hook(
            keep(f"{type(module).__name__.removeprefix('Pixel')} {tuple(module.weight.shape)}")
        )
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    network(observation)
    for handle in handles:
        handle.remove()
    return found


def operations(module: nn.Module, output: Tensor) -> int:
    """Floating-point operations of a layer's forward pass: two for each multiplication and sum."""
    places = output.numel() // output.shape[1]
    return 2 * places * module.weight.numel()


def measure(threads: int) -> tuple[list[list[object]], dict[str, float]]:
    """Rows of the table (part, times an iteration, ms, ms at the limit), and the figures below it."""
    config = recipe(Config(env="Breakout", recipe="default", threads=threads))
    config = SimpleNamespace(**vars(config) | {"width": 1.0, "norm": "none", "worlds": WORLDS})
    device = runs.prepare("cpu", 1, threads)
    world = envs.make(config.env, WORLDS, seed=1, device=device, **world_options(config))
    network = q_network.build(config, world)
    actor, optimizer = frozen_copy(config, network), adam(config, network)
    low = torch.bfloat16 if next(actor.backbone.parameters()).dtype == torch.bfloat16 else torch.float32
    rate, bytes_a_second = peak(low), bandwidth()
    batch = torch.randint(256, (BATCH, *world.observation_shape), dtype=torch.uint8)
    rows: list[list[object]] = []

    def part(name: str, times: int, call: Callable[[], object], limit: float) -> None:
        rows.append([name, times, 1e3 * seconds_of(call), 1e3 * limit])

    with precision(config, device):
        for name, module, given in layers(network, batch):
            needs = given.is_floating_point() and module is not network.backbone.stages[0][0]
            given = given.clone().requires_grad_(needs)
            output = module(given)
            gradient = torch.ones_like(output)
            weights = [*([given] if needs else []), *module.parameters()]
            cost = operations(module, output) / rate
            part(f"forward {name}", UPDATES, lambda module=module, given=given: module(given), cost)
            part(
                f"backward {name}",
                UPDATES,
                lambda output=output, weights=weights, gradient=gradient: torch.autograd.grad(
                    output, weights, gradient, retain_graph=True
                ),
                (1 + needs) * cost,
            )
    size = sum(weight.numel() for weight in network.parameters())
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    part("Adam", UPDATES, optimizer.step, 7 * 4 * size / bytes_a_second)  # reads four, writes three

    def update() -> None:
        with precision(config, device):
            loss = F.mse_loss(network(batch).amax(1), torch.zeros(BATCH))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()

    few = batch[:WORLDS]
    with torch.inference_mode():
        limit = sum(operations(module, module(given)) for _, module, given in layers(actor, few)) / rate

        def act() -> None:
            with precision(config, device):
                actor(few).argmax(1)

        part("act", ROLLOUT, act, limit)
    whole = seconds_of(update, 2.0)
    action = torch.zeros(WORLDS, dtype=torch.long)

    def play() -> None:
        world.send(action)
        world.recv()

    emulator, wake = seconds_of(play, 2.0), wake_up()
    world.close()
    parts, limits = (sum(row[1] * row[k] for row in rows) / 1e3 for k in (2, 3))
    steps, games = ROLLOUT * WORLDS, ROLLOUT * emulator
    return rows, {
        "update_ms": 1e3 * whole,
        "emulator_step_ms": 1e3 * emulator,
        "wake_up_us": 1e6 * wake,
        "peak_gflops": rate / 1e9,
        "copy_gb_a_second": bytes_a_second / 1e9,
        "steps_per_second_of_parts": steps / (parts + games),
        "steps_per_second_of_updates_act_and_emulator": steps
        / (UPDATES * whole + ROLLOUT * rows[-1][2] / 1e3 + games),
        "steps_per_second_at_limits": steps / limits,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="0: as a run takes them by itself")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    rows, figures = measure(options.threads)
    for name, figure in figures.items():
        print(f"{name.replace('_', ' '):<46} {figure:,.4g}")
    table = [[*row, row[2] / row[3], row[1] * row[2]] for row in rows]
    report(
        "One iteration of PQN by CleanRL's numbers, part by part",
        ["part", "times", "ms", "ms at the limit", "ratio", "ms an iteration"],
        table,
        {"benchmark": "rollout_floor", "parts": rows} | figures | circumstances(),
        options.json,
    )


if __name__ == "__main__":
    main()
