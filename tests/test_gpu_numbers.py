"""A GPU calculates what the CPU does, within float32's rounding: networks, losses, one update; and its memories."""

import copy
import dataclasses
import importlib

import pytest
import torch
from torch import Tensor, nn

import envs
from agents import optimization
from agents.networks import actor_critic
from agents.rainbow import loop as rainbow
from agents.recurrent_attention import ram
from agents.recurrent_attention.model import classification_reward, hybrid_loss
from envs import Transition
from replay import FrameReplay, PrioritizedReplay, SumTree
from replay.rollout import Rollout, RolloutBatch
from tests.devices import CUDA_OR_SLOW, without_tf32
from vision import backbones

CPU = torch.device("cpu")
ROWS = 6


@pytest.fixture(params=CUDA_OR_SLOW)
def device(request) -> torch.device:
    """A CUDA device, or the CPU, without TF32."""
    with without_tf32():
        yield torch.device(request.param)


def near(a: Tensor, b: Tensor) -> None:
    """Equal within what the order of a sum in float32 makes of it."""
    torch.testing.assert_close(a.detach().cpu(), b.detach().cpu(), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_backbone(name, device):
    """Its maps, of every backbone listed."""
    torch.manual_seed(1)
    shape = (4, 84, 84) if name in ("nature", "impala", "hadamax", "small") else (3, 96, 96)
    try:
        here = backbones.build(name, shape).eval()
    except ValueError:
        here = backbones.build(name, shape := (3, 224, 224)).eval()
    if name == "preact_resnet1001":  # its random weights overflow float32 unless batches are normalized
        here.train().double()  # its thousand layers make of a rounding in float32 0.01 of the maps
    images = torch.randint(256, (2, *shape), dtype=torch.uint8)
    there = copy.deepcopy(here).to(device, memory_format=torch.channels_last)
    with torch.no_grad():
        for one, other in zip(here(images), there(images.to(device)), strict=True):
            scale = one.abs().max().clamp(min=1e-6)
            near(one / scale, other.cpu() / scale)


def world_of(env: str, count: int, device: torch.device) -> envs.World:
    return envs.make(env, count, device=device)


def transitions(world: envs.World, generator: torch.Generator) -> Transition:
    """ROWS random steps."""
    shape = (ROWS, *world.observation_shape)
    seen, then = (torch.randint(256, shape, generator=generator, dtype=torch.uint8) for _ in range(2))
    reward, last = torch.randn(ROWS, generator=generator), torch.arange(ROWS) % 3 == 0
    action = torch.randint(world.actions, (ROWS,), generator=generator)
    return Transition(seen, action, reward, 1 - (torch.arange(ROWS) == 0).float(), then, last)


def updated(
    network: nn.Module, config, loss: Tensor, optimizer: torch.optim.Optimizer
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The loss, its gradients, and the weights after a step."""
    loss.backward()
    gradients = [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]
    optimizer.step()
    return loss, gradients, list(network.parameters())


def compare(build, loss, device: torch.device, config, make_optimizer=optimization.adam) -> None:
    """build(device) -> a network of the same weights everywhere; loss(network, device) -> a scalar."""
    results = []
    for where in (CPU, device):
        torch.manual_seed(3)
        network = build(where).to(where)
        optimizer = make_optimizer(config, network)
        results.append(updated(network, config, loss(network, where), optimizer))
    (loss_a, grads_a, weights_a), (loss_b, grads_b, weights_b) = results
    near(loss_a, loss_b)
    for a, b in zip(grads_a, grads_b, strict=True):
        scale = a.abs().max().clamp(min=1e-6)
        near(a / scale, b.cpu() / scale)
    moved = 0.0
    for a, b in zip(weights_a, weights_b, strict=True):  # Adam's first step has the gradient's sign, tiny ones too
        moved = max(moved, (a.detach() - b.detach().cpu()).abs().mean().item())
    assert moved <= 0.1 * config.learning_rate


def config_of(module, env: str = "Catch", **changes):
    return dataclasses.replace(module.recipe(module.Config(env=env)), bf16=False, **changes)


@pytest.mark.parametrize("only", ["double", "c51", "qr_dqn", "munchausen", "rainbow"])
def test_update_of_replayed_values(only, device):
    """Double DQN and Rainbow's components without noise, which each device draws for itself."""
    asked = rainbow.Config(env="Catch", only=only)
    config = dataclasses.replace(rainbow.recipe(asked), bf16=False, noisy=False, n_step=1)
    batch = transitions(world_of("Catch", 1, CPU), torch.Generator().manual_seed(2))
    frozen = {}

    def build(where: torch.device) -> nn.Module:
        network = rainbow.build(config, world_of("Catch", 1, where))
        frozen[where.type] = copy.deepcopy(network)
        return network

    def loss(network: nn.Module, where: torch.device) -> Tensor:
        rows = Transition(*(field.to(where) for field in batch))
        target = frozen[where.type]
        with torch.no_grad():
            predicted, values = rainbow.next_prediction(config, network, target, rows.next_observation)
            discount = config.discount * rows.discount
            y = rainbow.td_target(config, target, predicted, values, rows.reward, discount)
        return rainbow.td_loss(config, network.predict(rows.observation), rows.action, y).mean()

    compare(build, loss, device, config)


@pytest.mark.parametrize("program", ["ppo", "soft_attention", "hard_attention"])
def test_update_of_rollouts(program, device):
    """The clipped objective of PPO's networks, recurrent ones unrolled over episodes that end within."""
    module, ppo = importlib.import_module(f"agents.{program}"), importlib.import_module("agents.ppo")
    config = config_of(module)
    generator, steps = torch.Generator().manual_seed(4), 5
    made = world_of("Catch", ROWS, CPU)
    shape = (steps, ROWS, *made.observation_shape)
    pictures = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    numbers = torch.randn(3, steps, ROWS, generator=generator)
    last = torch.rand(steps, ROWS, generator=generator) < 0.3

    def loss(network: nn.Module, where: torch.device) -> Tensor:
        head = network.head
        rollout = Rollout.empty(steps, pictures[0].to(where), head.shape, head.dtype)
        rollout.observation.copy_(pictures), rollout.log_prob.copy_(-1 - numbers[0].abs()), rollout.last.copy_(last)
        batch: RolloutBatch = rollout.batch(numbers[1].to(where), network.initial_state(ROWS), network.is_recurrent)
        parameters, values = network.unroll(batch.observation, batch.is_first, batch.state, batch.action)
        action, old, _, advantage = (field.flatten(0, 1) for field in batch[1:5])
        policy = ppo.policy_loss(head.log_prob(parameters, action), old, advantage, config.clip)
        return policy + ppo.value_loss(values, values.detach(), advantage, None) - head.entropy(parameters).mean()

    build = getattr(module, "build", actor_critic.build)
    compare(lambda where: build(config, world_of("Catch", ROWS, where)), loss, device, config)


def test_update_of_sequences(device):
    """R2D2's loss of sequences with stored states."""
    from agents import r2d2

    config, generator = config_of(r2d2), torch.Generator().manual_seed(5)
    made, length = world_of("Catch", 1, CPU), config_of(r2d2).window
    wide = r2d2.build(config, made).initial_state(1).shape[1]
    shape = (ROWS, length, *made.observation_shape)
    pictures = torch.randint(256, shape, generator=generator, dtype=torch.uint8)[:, :, :1]
    last = torch.rand(ROWS, length, generator=generator) < 0.1
    batch = r2d2.Step(
        pictures,
        torch.randint(made.actions, (ROWS, length), generator=generator),
        torch.randn(ROWS, length, generator=generator),
        1 - last.float(),
        pictures[:, 0],
        last,
        (0.1 * torch.randn(ROWS, length, wide, generator=generator)).half(),
    )
    frozen = {}

    def build(where: torch.device) -> nn.Module:
        network = r2d2.build(config, envs.make("Catch", 1, device=where))
        frozen[where.type] = copy.deepcopy(network)
        return network

    def loss(network: nn.Module, where: torch.device) -> Tensor:
        rows = r2d2.Step(*(field.to(where) for field in batch))
        weight = torch.ones(ROWS, device=where)
        return r2d2.sequence_loss(config, network, frozen[where.type], rows, weight)[0]

    compare(build, loss, device, config)


@pytest.mark.parametrize("task", ["MNIST", "Cluttered"])
def test_update_of_recurrent_attention(task, device):
    """RAM's hybrid loss of the same scenes, with the same noise."""
    config = dataclasses.replace(ram.recipe(ram.Config(env=task)), images="glyphs", bf16=False)
    sets, generator = ram.image_set(config), torch.Generator().manual_seed(6)
    uniform = torch.rand(ROWS, ram.scenes(config, sets.train, CPU).draws, generator=generator)
    chance = ram.build(config, ram.scenes(config, sets.train, CPU)).sample_noise(ROWS, CPU, generator)
    worlds = {}

    def build(where: torch.device) -> nn.Module:
        worlds[where.type] = ram.scenes(config, sets.train, where)
        return ram.build(config, worlds[where.type])

    def loss(network: nn.Module, where: torch.device) -> Tensor:
        world, rows = worlds[where.type], torch.arange(ROWS, device=where)
        drawn = uniform.to(where)
        maps, label = network.retina.prepare(world.paint(rows, drawn)), world.answers(rows, drawn)
        logits, _, log_prob, baseline = network(maps, chance.to(where))
        reward = classification_reward(logits, label, config.reward)
        return hybrid_loss(logits, label, reward, log_prob, baseline, 0.1, config.glimpses)[0]

    compare(build, loss, device, config, ram.adam)


def test_memory(device):
    """A memory of stacks comes back whole after it has gone around, with priorities that follow the errors."""
    worlds, rows = 8, 200
    frames = FrameReplay(worlds * rows, worlds, 4, device=device)
    memory = PrioritizedReplay(frames, 1.0)
    reel = torch.randint(1, 256, (worlds, 3 * rows + 4, 6, 6), dtype=torch.uint8)
    for step in range(3 * rows):
        number = step * worlds + torch.arange(worlds)
        seen, then = reel[:, step : step + 4], reel[:, step + 1 : step + 5]
        fields = (seen, number, number.float(), torch.ones(worlds), then, torch.zeros(worlds, dtype=torch.bool))
        memory.add(Transition(*(field.to(device) for field in fields)))
    drawn = memory.sample(512)
    assert drawn.record.observation.device.type == device.type
    number, world = drawn.record.action.cpu() // worlds, drawn.record.action.cpu() % worlds
    assert number.min() >= 2 * rows and torch.equal(drawn.index.cpu(), drawn.record.action.cpu())
    for k in range(4):
        assert torch.equal(drawn.record.observation[:, k].cpu(), reel[world, number + k])
        assert torch.equal(drawn.record.next_observation[:, k].cpu(), reel[world, number + k + 1])
    everything = torch.arange(2 * rows * worlds, 3 * rows * worlds, device=device)
    memory.update(everything, torch.where(everything == everything[77], 1e6, 0.0))
    assert (memory.sample(64).index == everything[77]).all()


def test_sum_tree_draws_each_share(device):
    """The i-th of B draws lies in the i-th of B equal parts of the sum of priorities, for a million leaves."""
    size, batch = 1_000_000, 4_096
    tree, generator = SumTree(size, device), torch.Generator(device).manual_seed(7)
    value = torch.rand(size, generator=generator, device=device) * (torch.arange(size, device=device) % 7 > 0)
    tree.set(torch.arange(size, device=device), value)
    leaf = tree.draw(batch, generator)
    priorities = tree.leaves.cpu()
    ends = priorities.cumsum(0)
    total = int(ends[-1])
    begins = ends - priorities
    assert (priorities[leaf.cpu()] > 0).all()
    edges = torch.tensor([k * total // batch for k in range(batch + 1)])
    assert (begins[leaf.cpu()] < edges[1:]).all() and (ends[leaf.cpu()] > edges[:-1]).all()
