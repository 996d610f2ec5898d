"""What acts, what learns and what it is compared with are one function of an observation, for every backbone.

Backbones are pretrained here, as they leave a run of vision.classification: with batch norms whose statistics say
something, and everything on that is random or looks at the whole batch while training.
"""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from test_recurrent_attention import glyphs

from agents import a2c, dqn, hard_attention, optimization, ppo, pqn, r2d2, reinforce, soft_attention
from agents.networks import actor_critic
from agents.rainbow import loop as rainbow
from agents.recurrent_attention import ram
from agents.studies.representation import probe
from runs import machine
from vision import backbones
from vision.backbones import BACKBONES
from vision.backbones.layers.normalization import SpectralNorm

NOISE = {"dropout": 0.5, "drop_path": 0.5, "stochastic_depth": 0.5, "dropconnect": 0.5, "spectral": True}
QUICK = ("small", "mlp", "impala", "lenet5", "nin", "resnet18", "airbench")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]


def noisy(name: str, folder, channels: int = 4):
    """A saved backbone with all that noise and batch norms, narrow and small: its path, and the shape of an input."""
    known = backbones.default_options(name).spec()
    options = {key: value for key, value in NOISE.items() if key in known}
    options |= {"width": 0.125} if "width" in known else {}
    options |= {"norm": "batch"} if "norm" in known else {}
    with torch.device("meta"):
        smallest = backbones.build(name, (channels, 96, 96), **options).smallest
    if name in ("mlp", "lenet300_100"):
        smallest = 12
    smallest = smallest if name.startswith("lenet5") else max(smallest, 9)
    backbone = backbones.build(name, (channels, smallest, smallest), **options)
    for module in backbone.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.3, 0.3), module.running_var.uniform_(0.5, 2)  # not of what it will see
            torch.nn.init.uniform_(module.bias)  # so that few ReLUs are dead
    path = folder / "backbone.safetensors"
    backbones.save(backbone, path)
    return str(path), (channels, smallest, smallest)


def small_world(shape: tuple[int, ...], count: int = 4) -> SimpleNamespace:
    """What a network receives of a world of pictures."""
    observation = torch.randint(256, (count, *shape), dtype=torch.uint8)
    about = dict(name="small_world", count=count, actions=3, action_shape=(), device=torch.device("cpu"))
    return SimpleNamespace(observation=observation, observation_shape=shape, **about)


def asked(program, path: str, **changes):
    return dataclasses.replace(program.Config(), backbone=path, hidden=64, wandb="disabled", **changes)


def buffers(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All but the vectors that follow a spectral norm, which learning moves on."""
    paths = [path for path, module in network.named_modules() if isinstance(module, SpectralNorm)]
    own = {f"{path}.{key}" for path in paths for key in ("left", "right")}
    return {key: value.clone() for key, value in network.named_buffers() if key not in own}


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", NAMES)
def test_acting_and_learning_are_one_function_of_an_observation(name, tmp_path, monkeypatch):
    """Of a PPO agent: values depend on no neighbor and no chance, no buffer is rewritten, the first ratio is 1."""
    monkeypatch.setattr(machine, "fast_bf16", lambda device: False)
    path, shape = noisy(name, tmp_path)
    config, world = asked(ppo, path, bf16=True), small_world(shape)
    network = actor_critic.build(config, world)
    backbone, head = network.backbone, network.head
    assert any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in backbone.modules())
    head.logits.weight.data.normal_()  # else all actions are alike whatever is seen
    actor, before = optimization.frozen_copy(config, network), buffers(network)
    observation, state = world.observation, network.initial_state(4)
    everything = {key: value.clone() for key, value in network.named_buffers()}
    with torch.inference_mode():
        parameters, value, _ = actor.step(observation, state)
        again, value_again, _ = network.step(observation, state)
        others = torch.cat([observation[:1], 255 - observation[1:]])
        alone, value_alone, _ = actor.step(others, state)
    actor_critic.StochasticPolicy(config, network, seed=1)(observation)
    assert torch.equal(parameters, again) and torch.equal(value, value_again)
    assert torch.equal(parameters[0], alone[0]) and torch.equal(value[0], value_alone[0])
    assert not torch.equal(parameters[1:], alone[1:]) and parameters.isfinite().all()
    assert same(everything, dict(network.named_buffers())) and same(everything, dict(actor.named_buffers()))

    action, is_first = head.sample(parameters), torch.zeros(4, 1, dtype=torch.bool)
    learned, values = network.unroll(observation[:, None], is_first, state, action[:, None])
    ratio = (head.log_prob(learned, action) - head.log_prob(parameters, action)).exp()
    assert torch.equal(ratio, torch.ones(4)) and torch.equal(values, value)
    (learned.square().sum() + values.sum()).backward()
    weights = list(backbone.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in weights), "the backbone learns"
    torch.optim.SGD(network.parameters(), 1e-3).step()
    assert same(before, buffers(network))
    network.eval().train()  # as an evaluation in between leaves it
    assert not any(m.training for m in backbone.modules() if not isinstance(m, SpectralNorm))


PROGRAMS = {
    "dqn": (dqn, dqn.train),
    "rainbow": (rainbow, rainbow.train),
    "r2d2": (r2d2, r2d2.train),
    "pqn": (pqn, pqn.train),
    "reinforce": (reinforce, reinforce.train),
    "a2c": (a2c, a2c.train),
    "ppo": (ppo, ppo.train),
    "soft_attention": (soft_attention, soft_attention.train),
    "hard_attention": (hard_attention, hard_attention.train),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_learns_and_evaluates_and_leaves_batch_statistics_as_they_came(name, tmp_path, monkeypatch):
    program, train = PROGRAMS[name]
    path, _ = noisy("small", tmp_path, channels=1)
    recipe = program.recipe
    config = recipe(program.Config(env="Catch"))
    known = {field.name for field in dataclasses.fields(config)}
    few = dict(
        steps=200, learn_start=100, rollout=9, worlds=4, hidden=32, lstm_units=16, capacity=2_000, subtract_mean=False
    )
    few |= dict(evaluate_every=100, evaluate_games=2, film_seconds=0.0, wandb="disabled", log_every=100, width=1.0)
    few |= dict(burn_in=2, length=4, batch=8, norm="none", bf16=name in ("dqn", "pqn"))  # whose copies are rounded
    config = dataclasses.replace(config, **{key: value for key, value in few.items() if key in known})
    first = []
    if name == "ppo":
        plain = ppo.policy_loss

        def policy_loss(log_prob, old, *rest):
            first.append((log_prob - old).abs().max().item())
            return plain(log_prob, old, *rest)

        monkeypatch.setattr(ppo, "policy_loss", policy_loss)
    train(dataclasses.replace(config, backbone=path, folder=tmp_path, name="run"))
    (folder,) = tmp_path.glob("*/run")
    transition, went = load_file(path), load_file(folder / "backbone.safetensors")
    statistics = [key for key in transition if "running" in key or "num_batches" in key]
    assert statistics and all(torch.equal(transition[key], went[key]) for key in statistics)
    assert any(not torch.equal(transition[key], went[key]) for key in transition.keys() - set(statistics)), (
        "it has learned"
    )
    assert not first or first[0] < 1e-5  # of other batch sizes, and so but for rounding


def test_recurrent_attention_is_evaluated_in_evaluation_mode(tmp_path):
    """Of images in batches of 40 and of 7 the same is said, and no statistics move."""
    path, _ = noisy("small", tmp_path, channels=1)
    config = ram.Config(
        images="glyphs", core_units=16, glimpse_units=8, glimpses=3, backbone=path, attention="center"
    )
    world = ram.scenes(config, glyphs(40), torch.device("cpu"))
    network = ram.build(config, world).train()
    before = buffers(network)
    large, few = (ram.errors(network, world, 1, seed=1, batch=batch)["loss"] for batch in (40, 7))
    assert large == pytest.approx(few, rel=1e-5) and same(before, buffers(network))


def test_backbones_trained_from_scratch_are_probed_in_evaluation_mode(tmp_path, monkeypatch):
    monkeypatch.setattr(probe.pretrain, "fit", lambda *rest: None)
    backbone = backbones.build("small", (4, 12, 12), norm="batch", width=0.25)
    before, pictures = buffers(backbone), torch.randint(256, (20, 4, 12, 12), dtype=torch.uint8)
    rows = probe.Split(torch.arange(8), torch.arange(8, 10), torch.arange(10, 20))
    probe.finetune_game(probe.GamesConfig(games=("A", "B")), backbone, pictures, torch.randint(2, (20,)), rows)
    assert same(before, buffers(backbone))
