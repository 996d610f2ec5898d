"""--compile: the compiled step learns what the plain one learns."""

import dataclasses
import importlib
import json

import pytest
import torch._inductor.config

from agents import dqn, optimization, q_learning
from vision.backbones.layers.pooling import global_max_pool

PROGRAMS = ("dqn", "rainbow", "pqn", "r2d2", "reinforce", "a2c", "ppo", "soft_attention", "hard_attention")
CASES = [pytest.param(name, {}, id=name) for name in PROGRAMS]
CASES.append(pytest.param("pqn", {"optimizer": "muon"}, id="pqn, muon"))


@pytest.mark.slow
@pytest.mark.parametrize("name, flags", CASES)
@torch._inductor.config.patch(fallback_random=True)  # draws what eager mode draws
def test_compiled_losses_are_the_plain_ones(tmp_path, name, flags):
    program = importlib.import_module(f"agents.{name}")
    asked = program.Config(env="Catch")
    plain = dataclasses.replace(program.recipe(asked), **flags)
    short = dict(steps=1_600, log_every=100, evaluate_every=100_000, wandb="disabled", film_seconds=0.0)
    short |= {"learn_start": 400} if hasattr(plain, "learn_start") else {}
    curves = []
    for compiled in (False, True):
        config = dataclasses.replace(plain, folder=tmp_path, name=str(compiled), compile=compiled, **short)
        program.train(config)
        lines = (tmp_path / "Catch" / str(compiled) / "metrics.jsonl").read_text().splitlines()
        losses = [value for line in lines for key, value in json.loads(line).items() if key.startswith("loss/")]
        curves.append(losses[:4])  # later ones part: rounding decides between two actions in the end
    assert len(curves[0]) >= 2 and curves[0] == pytest.approx(curves[1], rel=0.02, abs=1e-3)


@pytest.mark.slow
def test_a_compiled_global_max_pool_has_a_finite_gradient_in_bf16():
    """Behind GELU: recomputed in float32 for the gradient, no place equals a maximum that was rounded to bf16."""
    torch.manual_seed(1)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.GELU())
    images, gradients = torch.randn(16, 3, 12, 12), []

    def pooled(x: torch.Tensor) -> torch.Tensor:
        return global_max_pool(layers(x))

    for call in (pooled, torch.compile(pooled)):
        layers.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            found = call(images)
        found.float().square().mean().backward()
        gradients.append(layers[0].weight.grad.clone())
    assert gradients[1].isfinite().all()
    torch.testing.assert_close(*gradients, rtol=0.1, atol=0.1 * gradients[0].abs().max().item())


def test_exploration_is_compiled_for_any_number_of_worlds():
    explore = torch.compile(q_learning.epsilon_greedy, fullgraph=True, dynamic=True, backend="eager")
    for worlds in (3, 5):
        assert torch.equal(explore(torch.arange(worlds), 7, 0.0), torch.arange(worlds))


def test_a_learning_rate_on_a_device_comes_back_there():
    config, network = dqn.Config(compile=True), torch.nn.Linear(2, 2)
    optimizer, again = optimization.adam(config, network), optimization.adam(config, network)
    optimization.set_learning_rate(optimizer, 0.125)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"].item() == 0.125
    elsewhere = torch.optim.SGD(network.parameters(), 0.1)
    elsewhere.param_groups[0]["lr"] = torch.tensor(0.1, device="meta")
    optimization.keep_on_device(elsewhere).load_state_dict(
        torch.optim.SGD(network.parameters(), torch.tensor(0.2)).state_dict()
    )
    assert elsewhere.param_groups[0]["lr"].device.type == "meta"
