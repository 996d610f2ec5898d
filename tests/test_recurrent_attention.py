"""Recurrent attention: its loss by hand, what its gradients reach, its learning, its resume, its pictures."""

import dataclasses
import json
import math
import signal
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal

import runs
from agents import loading, watch
from agents.recurrent_attention import model, ram
from envs import glimpse
from vision import data


@pytest.fixture(autouse=True)
def gradients_are_left_as_they_were():
    flags = torch.is_grad_enabled()
    yield
    assert torch.is_grad_enabled() == flags


def glyphs(count: int) -> data.Labeled:
    images, labels = glimpse.glyphs(count)
    return data.Labeled(images[:, None], labels)


def tiny(**changes):
    """A network for drawn digits, and what it needs to look at 12 of them."""
    config = dataclasses.replace(ram.Config(images="glyphs", core_units=16, glimpse_units=8, glimpses=3), **changes)
    world = ram.scenes(config, glyphs(40), torch.device("cpu"))
    torch.manual_seed(0)
    network = ram.build(config, world)
    images = world.paint(torch.arange(12), torch.rand(12, world.draws))
    return config, network, (network.retina.prepare(images), network.sample_noise(12, "cpu")), world.labels[:12, None]


# Equations


def test_log_prob_is_torchs_but_for_its_constant():
    drawn, mean = torch.randn(2, 5, 2)
    expected = Normal(mean, 0.1).log_prob(drawn) + math.log(0.1 * math.sqrt(2 * math.pi))
    assert torch.allclose(model.gaussian_log_prob(drawn, mean, 0.1), expected.sum(1), rtol=1e-4)


def test_hybrid_loss_by_hand():
    logits = torch.tensor([[[math.log(3.0), 0.0]], [[math.log(3.0), 0.0]]])  # 3/4 against 1/4
    label = torch.tensor([[0], [1]])  # right, wrong: rewards 1, 0
    log_prob = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    baseline = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    assert model.classification_reward(logits, label, "probability").flatten().tolist() == pytest.approx([0.75, 0.25])
    reward = model.classification_reward(logits, label, "right")
    assert reward.tolist() == [[1], [0]]
    loss, parts = model.hybrid_loss(logits, label, reward, log_prob, baseline, weight=0.1, glimpses=3)
    classify = (math.log(4 / 3) + math.log(4)) / 2
    policy = -((-1 * 0.5 - 3 * 1) + (-2 * -0.5 - 4 * -1)) / 2  # log-probabilities by advantages, image by image
    value = ((0.25 + 1) + (0.25 + 1)) / 2
    assert parts["loss/classify"].item() == pytest.approx(classify)
    assert parts["loss/policy"].item() == pytest.approx(policy)
    assert parts["loss/value"].item() == pytest.approx(value)
    assert parts["train/accuracy"].item() == 0.5
    assert loss.item() == pytest.approx(classify + 0.1 * policy + value)


def test_policy_gradient_by_hand():
    """d(-log pi)(R - b)/d mean = -(l - mean)/std^2 (R - b), and the baseline is held fixed in it."""
    mean = torch.tensor([[0.0, 0.2]], requires_grad=True)
    baseline = torch.tensor([[0.25]], requires_grad=True)
    log_prob = model.gaussian_log_prob(torch.tensor([[0.1, 0.1]]), mean, 0.5)[None]
    logits, label = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[0]])
    loss, _ = model.hybrid_loss(logits, label, torch.ones(1, 1), log_prob, baseline, weight=2.0, glimpses=2)
    loss.backward()
    assert mean.grad.flatten().tolist() == pytest.approx([-2 * 0.1 / 0.25 * 0.75, 2 * 0.1 / 0.25 * 0.75])
    assert baseline.grad.item() == pytest.approx(2 * (0.25 - 1))


def test_reinforce_estimates_the_gradient_of_the_expected_reward():
    """On one step with a known reward, the mean of many rollouts' gradients is the derivative of E[R]."""
    torch.manual_seed(0)
    mean = torch.zeros(2, requires_grad=True)
    location = 0.5 * torch.randn(200_000, 2)  # std 0.5 around 0
    right = location[:, 0] > 0  # E[R] = Phi(mean / std), derivative 1 / (std sqrt(2 pi)) at 0
    log_prob = model.gaussian_log_prob(location, mean, 0.5)[None]
    logits, label = torch.zeros(len(right), 1, 2), torch.zeros(len(right), 1, dtype=torch.int64)
    reward, baseline = right.float()[:, None], torch.full_like(log_prob, 0.3)
    loss, _ = model.hybrid_loss(logits, label, reward, log_prob, baseline, 1.0, 2)
    loss.backward()
    assert -mean.grad[0].item() == pytest.approx(1 / (0.5 * math.sqrt(2 * math.pi)), abs=0.01)
    assert mean.grad[1].item() == pytest.approx(0, abs=0.01)


# What gradients reach


@pytest.mark.parametrize("core", ["relu", "lstm"])
def test_the_core_learns_to_search(core):
    _, network, given, _ = tiny(core=core, location_gradient=True)
    rollout = network(*given)
    rollout.baseline.sum().backward(retain_graph=True)
    taught = {name.split(".")[0] for name, weight in network.named_parameters() if weight.grad is not None}
    assert taught == {"baseline"}
    network.zero_grad()
    rollout.log_prob.sum().backward()
    taught = {name.split(".")[0] for name, weight in network.named_parameters() if weight.grad is not None}
    assert taught == {"location_network", "core", "glimpse", "where", "backbone"}


@pytest.mark.parametrize("attention", ["reinforce", "differentiable", "random", "center"])
def test_stop_gradient_into_the_location_network(attention):
    config, network, given, label = tiny(attention=attention)
    rollout = network(*given)
    torch.nn.functional.cross_entropy(rollout.logits.flatten(0, 1), label.flatten()).backward(retain_graph=True)
    touched = network.location_network[0].weight.grad is not None
    assert touched == (attention == "differentiable")
    if attention == "reinforce":
        network.zero_grad()
        rollout.log_prob.sum().backward()
        taught = {name.split(".")[0] for name, weight in network.named_parameters() if weight.grad is not None}
        assert taught == {"location_network"}
    if attention == "center":
        assert not rollout.location.any()
    if attention == "random":
        assert torch.equal(rollout.location, given[1])
    assert rollout.location.shape == (3, 12, 2) and rollout.location.abs().max() <= 1


def test_the_core_unrolls_one_glimpse_at_a_time():
    """The rollout is what its parts give when called one after the other."""
    _, network, (maps, chance), _ = tiny(core="lstm")
    rollout = network(maps, chance)
    hidden = memory = torch.zeros(12, 16)
    for t in range(3):
        seen = network.backbone(network.retina.extract(maps, rollout.location[t]))[-1].flatten(1)
        seen = network.glimpse(torch.cat([seen, network.where(rollout.location[t])], 1))
        hidden, memory = network.core(seen, (hidden, memory))
        if t < 2:
            mean = network.location_network(hidden).tanh()
            assert torch.allclose(rollout.location[t + 1], (mean + 0.1 * chance[t + 1]).clamp(-1, 1), atol=1e-6)
            assert torch.allclose(rollout.baseline[t], network.baseline(hidden).squeeze(1), atol=1e-6)
    assert torch.allclose(rollout.logits, network.logits(hidden)[:, None], atol=1e-6)


@pytest.mark.parametrize("core", ["relu", "lstm"])
def test_in_bf16_it_is_the_same_but_for_rounding(core):
    (_, exact, given, _), (_, rounded, _, _) = tiny(core=core), tiny(core=core, bf16=True)
    exact, rounded = exact(*given), rounded(*given)
    for name, right, near in zip(exact._fields, exact, rounded, strict=True):
        assert near.dtype == torch.float32 and torch.allclose(near, right, atol=0.03), name
    assert not torch.equal(exact.logits, rounded.logits)
    seen = torch.cat([part.flatten() for part in (rounded.logits, rounded.baseline)]).detach()
    assert not torch.equal(seen, seen.bfloat16().float()), "the output is rounded as well"


def test_core_initialization_keeps_the_state():
    _, network, *_ = tiny(core="relu")
    state, nothing = torch.rand(12, 16), torch.zeros(12, 16)
    assert torch.equal(network.core(nothing, state), state)
    _, network, *_ = tiny(core="lstm")
    with torch.no_grad():
        network.core.weight_hh.zero_()
        _, kept = network.core(nothing, (state, state))
    assert torch.allclose(kept, state / (1 + math.exp(-1)))  # sigmoid(1) of it stays; tanh(0) is added


@pytest.mark.parametrize("backbone, patch_size", [("mlp", 8), ("small", 8), ("nature", 44)])
def test_any_backbone_that_fits_the_patch(backbone, patch_size):
    _, network, given, _ = tiny(backbone=backbone, patch_size=patch_size, env="Translated", scales=2)
    assert network(*given).logits.shape == (12, 1, 10)


def test_one_glimpse_needs_no_choice():
    _, network, given, label = tiny(glimpses=1)
    rollout = network(*given)
    loss, _ = model.hybrid_loss(rollout.logits, label, torch.ones(12, 1), rollout.log_prob, rollout.baseline, 1.0, 1)
    assert torch.isfinite(loss)


def test_weights_decay_whatever_their_gradient():
    config, network, *_ = tiny(weight_decay=0.5)
    before = [weight.detach().clone() for weight in network.parameters()]
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer = ram.adam(config, network)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    for was, weight in zip(before, network.parameters(), strict=True):
        assert torch.allclose(weight, was * (1 - 0.1 * 0.5))


# What it is shown


def test_errors_are_the_same_every_time_and_leave_the_generator_alone():
    config, network, _, _ = tiny(env="Cluttered")
    world = ram.scenes(config, glyphs(40), torch.device("cpu"))
    state = torch.get_rng_state()
    found = [ram.errors(network, world, rollouts, seed=1) for rollouts in (1, 1, 5)]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_single_rollout_is_deterministic():
    _, network, (maps, _), _ = tiny(glimpses=4)
    still, again = (
        network.sample_noise(12, "cpu", torch.Generator().manual_seed(1), deterministic=True) for _ in range(2)
    )
    assert torch.equal(still, again) and still[0].abs().max() > 0.5 and not still[1:].any()
    drawn = network.sample_noise(12, "cpu", torch.Generator().manual_seed(1))
    assert torch.equal(drawn[0], still[0]) and drawn[1:].std() > 0.5
    assert not torch.equal(network(maps, still).location[1], network(maps, drawn).location[1])


def test_errors_are_the_mean_over_passes():
    config, network, _, _ = tiny(env="Translated", patch_size=4)
    world = ram.scenes(config, glyphs(40), torch.device("cpu"))
    for rollouts in (1, 3):
        torch.manual_seed(0)
        network.location_network[2].bias.data.uniform_(-1, 1)
        several = ram.errors(network, world, rollouts, seed=1, passes=3)
        generator, errors = torch.Generator().manual_seed(1), []
        uniform = torch.rand(40, world.draws, generator=generator)
        maps = network.retina.prepare(world.paint(torch.arange(40), uniform))
        for _ in range(3):
            found = torch.zeros(40, 10)
            for _ in range(rollouts):
                chance = network.sample_noise(40, "cpu", generator, deterministic=rollouts == 1)
                found += network(maps, chance).logits.detach()[:, 0].softmax(1)
            errors.append(100 * (found.argmax(1) != world.labels).float().mean().item())
        assert several["error"] == pytest.approx(sum(errors) / 3) and several["images"] == 40
        assert len(set(errors)) > 1, "the passes are all the same"


# Programs


def train(folder: Path, **changes) -> Path:
    asked = ram.Config(env="MNIST", images="glyphs", folder=folder, wandb="disabled", threads=1)
    ram.train(dataclasses.replace(ram.recipe(asked), **(dataclasses.asdict(asked) | changes)))
    (config,) = folder.glob("*/*/config.json")
    return config.parent


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


SHORT = dict(
    steps=3_000, evaluate_every=1_000, log_every=1_000, batch=50, core_units=64, glimpse_units=32, film=False
)


def test_learns_where_to_look(tmp_path):
    """Three small glimpses at drawn digits: chosen ones tell far more than random ones, after as many images."""
    recipe = dict(
        glimpses=3, steps=60_000, batch=50, core_units=128, glimpse_units=64, learning_rate=2e-3, film=False
    )
    error = {}
    for attention in ("reinforce", "random"):
        run = train(tmp_path / attention, attention=attention, evaluate_every=60_000, **recipe)
        error[attention] = next(line["test/error"] for line in lines(run) if "test/error" in line)
    assert error["reinforce"] < 0.6 * error["random"], error


def test_same_seed_same_run_and_another_seed_another(tmp_path):
    logs = [
        (train(tmp_path / str(n), seed=seed, **SHORT) / "metrics.jsonl").read_text()
        for n, seed in enumerate((1, 1, 2))
    ]
    assert logs[0] == logs[1] != logs[2]


def test_resume_is_exact(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", env="Cluttered", rollouts=2, **SHORT)
    steps = runs.Run.steps

    def interrupted(run, total, stride=1):
        for step in steps(run, total, stride):
            if step == 1_500:
                signal.raise_signal(signal.SIGTERM)
            yield step

    monkeypatch.setattr(runs.Run, "steps", interrupted)
    with pytest.raises(SystemExit):
        train(tmp_path / "halves", env="Cluttered", rollouts=2, **SHORT)
    monkeypatch.undo()
    torch.manual_seed(123)
    halves = train(tmp_path / "halves", env="Cluttered", rollouts=2, **SHORT)
    assert (whole / "metrics.jsonl").read_text() == (halves / "metrics.jsonl").read_text()
    saved = [loading.load_checkpoint(run, "last")["parts"]["network"] for run in (whole, halves)]
    assert all(torch.equal(saved[0][key], saved[1][key]) for key in saved[0])


def test_evaluates_the_test_set_once_and_draws_glimpses(tmp_path, capsys):
    import imageio.v3 as imageio

    run = train(tmp_path, **SHORT | dict(film=True))
    assert sum("test/error" in line for line in lines(run)) == 1
    assert imageio.imread(run / "videos" / "saccades.gif").shape[0] == 6 + 1
    assert imageio.imread(run / "videos" / "saccades.png").ndim == 3
    assert (run / "backbone.safetensors").exists()
    with pytest.raises(runs.RunError, match="leave --greedy out"):
        watch.main(watch.Config(run, device="cpu", greedy=True))
    (run / "videos" / "saccades.gif").unlink()
    watch.main(watch.Config(run, device="cpu"))
    assert "validation error" in capsys.readouterr().out
    assert (run / "videos" / "saccades.gif").exists()


def test_unknown_task_has_its_near_match():
    with pytest.raises(ValueError, match="did you mean 'Cluttered'"):
        ram.recipe(ram.Config(env="Clutered"))
    assert ram.recipe(ram.Config(env="cluttered100")).scales == 4
