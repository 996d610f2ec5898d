"""Deep recurrent attention: two digits in one picture, what each reward teaches, and who knows the whole."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from agents import watch
from agents.recurrent_attention import dram, model, ram
from envs import glimpse
from envs.glimpse import Retina
from vision import data


def tiny(**changes):
    """A network for pairs of drawn digits, and what it needs to look at 12 of them."""
    config = dataclasses.replace(
        dram.Config(images="glyphs", core_units=16, glimpse_units=8, glimpses=3, scales=2), **changes
    )
    images, labels = glimpse.glyphs(40)
    world = ram.scenes(config, data.Labeled(images[:, None], labels), torch.device("cpu"))
    torch.manual_seed(0)
    network = dram.build(config, world)
    rows, uniform = torch.arange(12), torch.rand(12, world.draws)
    maps = network.retina.prepare(world.paint(rows, uniform))
    return network, maps, network.sample_noise(12, torch.device("cpu")), world.answers(rows, uniform)


def taught(network):
    return {name.split(".")[0] for name, weight in network.named_parameters() if weight.grad is not None}


def test_rewards_of_two_digits_by_hand():
    """Four glimpses, two a digit, the first at a place of chance: the second is for the first digit."""
    logits = torch.tensor([[[math.log(3.0), 0.0], [math.log(3.0), 0.0]]])  # 3/4 against 1/4, twice
    label, reward = torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.5]])
    log_prob = torch.tensor([[-1.0], [-2.0], [-3.0]])
    baseline = torch.tensor([[0.5], [0.0], [1.0]])
    loss, parts = model.hybrid_loss(logits, label, reward, log_prob, baseline, weight=2.0, glimpses=2)
    policy = -(-1 * (1.0 - 0.5) + -2 * (0.5 - 0.0) + -3 * (0.5 - 1.0))
    assert parts["loss/policy"].item() == pytest.approx(policy)
    assert parts["loss/value"].item() == pytest.approx(0.25 + 0.25 + 0.25)
    assert parts["loss/classify"].item() == pytest.approx(math.log(4 / 3) + math.log(4))
    assert parts["train/accuracy"].item() == 0  # one of the two is wrong
    four = torch.tensor([[-5.0], [-1.0], [-2.0], [-3.0]]), torch.tensor([[0.0], [0.5], [0.0], [1.0]])
    _, parts = model.hybrid_loss(logits, label, reward, *four, weight=2.0, glimpses=2)
    assert parts["loss/policy"].item() == pytest.approx(policy + 5 * 1.0)  # where the first was chosen as well
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(4) + 2 * policy + 0.75)


def test_the_retina_gives_back_the_whole():
    images = torch.rand(3, 2, 20, 24)
    retina = Retina((2, 20, 24), 4, 3)
    assert torch.equal(retina.whole(retina.prepare(images)), images)


def test_the_context_network_chooses_the_first_location():
    network, maps, chance, _ = tiny()
    rollout = network(maps, chance)
    assert chance.shape == (6, 12, 2) and rollout.log_prob.shape == rollout.baseline.shape == (6, 12)
    mean = network.location_network(network.initial_state(maps)[2]).tanh()
    assert torch.allclose(rollout.location[0], (mean + 0.1 * chance[0]).clamp(-1, 1), atol=1e-6)
    assert rollout.logits.shape == (12, 2, 10)
    network, maps, chance, _ = tiny(attention="random")
    assert torch.equal(network(maps, chance).location, chance)


def test_location_multiplies_glimpse_features():
    network, maps, chance, _ = tiny()
    place = chance[0].clamp(-1, 1)
    what = network.what(network.backbone(network.retina.extract(maps, place))[-1].flatten(1))
    assert torch.allclose(network.glimpse_features(maps, place), what * (1 + network.where(place)))
    torch.nn.init.zeros_(network.where[0].weight)
    assert torch.equal(network.glimpse_features(maps, place), what)


def test_gradients_of_both_cores():
    network, maps, chance, label = tiny()
    rollout = network(maps, chance)
    torch.nn.functional.cross_entropy(rollout.logits.flatten(0, 1), label.flatten()).backward(retain_graph=True)
    assert taught(network) == {"backbone", "what", "where", "classification_lstm", "logits"}
    network.zero_grad()
    rollout.log_prob.sum().backward()
    assert taught(network) == {"location_network", "location_lstm"}
    assert dram.recipe(dram.Config()).location_gradient
    network, maps, chance, label = tiny(location_gradient=True)
    network(maps, chance).log_prob.sum().backward()
    seen = {"backbone", "what", "where", "classification_lstm"}
    assert taught(network) == {"location_network", "location_lstm"} | seen
    network, maps, chance, label = tiny(attention="differentiable")
    network(maps, chance).logits.sum().backward()
    assert taught(network) >= {"location_network", "location_lstm", "classification_lstm"}


def train(folder: Path, **changes) -> Path:
    asked = dram.Config(env="Pairs", images="glyphs", folder=folder, wandb="disabled", threads=1)
    dram.train(dataclasses.replace(dram.recipe(asked), **(dataclasses.asdict(asked) | changes)))
    (config,) = folder.glob("*/*/config.json")
    return config.parent


def test_evaluates_both_digits_and_draws_glimpses(tmp_path, capsys):
    import imageio.v3 as imageio

    short = dict(
        steps=2_000, evaluate_every=1_000, log_every=1_000, batch=50, core_units=32, glimpse_units=16, glimpses=2
    )
    run = train(tmp_path, **short)
    tests = [line for line in map(json.loads, (run / "metrics.jsonl").open()) if "test/error" in line]
    assert len(tests) == 1 and tests[0]["test/error"] > 95  # knows nothing yet: 99% is chance
    assert imageio.imread(run / "videos" / "saccades.gif").shape[0] == 4 + 1
    watch.main(watch.Config(run, device="cpu"))
    assert "validation error" in capsys.readouterr().out


def test_unknown_task_has_its_near_match():
    with pytest.raises(ValueError, match="did you mean 'Pairs'"):
        dram.recipe(dram.Config(env="Pair"))
    assert dram.recipe(dram.Config(env="pairs")).overview == 16
