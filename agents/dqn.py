"""Deep Q-learning: a network predicts the return of each action, learned from remembered transitions.

Mnih et al. 2015, "Human-level control through deep reinforcement learning"; with --double, van Hasselt et al.
2016, "Deep reinforcement learning with double Q-learning".

    python -m agents.dqn --env Breakout
    python -m agents.dqn --env CartPole --seed 3

Deviations from the paper:
1. Adam instead of RMSProp; the Huber loss, whose gradient is the paper's clipped error.
2. Several worlds side by side, and an update of 64 every 8 steps where the paper makes two of 32: the same samples
   per step. The target network follows every 2,000 steps instead of 40,000.
3. The emulator plays the next step while the network learns: a transition reaches the memory one step later.
4. He initialisation; exploration falls to 0.01 in 250,000 steps instead of to 0.1 in a million.
5. bf16 in the convolutions where the device is fast at it; weights, targets and the last layer stay fp32.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents.watch import Policy, assess
from envs import Transition, World, control
from replay import FrameReplay, Memory, RowReplay
from vision import backbones


@dataclasses.dataclass(frozen=True)
class Setting(runs.Options):
    """The world, the eyes that see it and the arithmetic: the flags of every agent that learns with a network."""

    env: str = "Breakout"  # the world: an Atari game, a Gymnasium id, or Catch
    protocol: Literal["classic", "sticky"] = "classic"  # Atari: Mnih 2015 (lives end episodes) or Machado 2018
    frame_skip: int = 4  # Atari frames an action is held
    full_actions: bool = False  # Atari: all 18 actions, not just those the game uses
    colour: bool = False  # Atari: three channels a frame
    stack: int = 0  # frames in an observation of pictures; 0: as the world has it, 4 in Atari
    flicker: float = 0.0  # probability that a frame is black (Hausknecht & Stone 2015)
    pixels: bool = False  # control: learn from the rendered picture
    backbone: str = (
        "nature"  # a name of python -m vision.backbones, NAME:imagenet, or a run's folder whose eyes are lifted
    )
    frozen: bool = False  # keep the backbone's weights as they are
    width: float = 1.0  # channels of the backbone, times its family's; lifted eyes keep their own
    norm: Literal["none", "layer"] = "none"  # before every ReLU; lifted eyes keep their own
    spectral: bool = False  # impala: residual convolutions of spectral norm 1; lifted eyes keep their own
    bf16: bool = True  # bf16 autocast where the device is fast at it
    compile: bool = False  # torch.compile act and learn
    capture: bool = False  # CUDA: learn becomes a graph of the device, launched whole


@dataclasses.dataclass(frozen=True)
class Config(Setting):
    steps: int = 10_000_000  # agent steps (four Atari frames each)
    worlds: int = 16  # games side by side
    hidden: int = 512  # units between backbone and values; 0 for none
    capacity: int = 1_000_000  # transitions remembered
    memory_on_disk: bool = False  # in mapped files in the run's folder instead of RAM
    learn_start: int = 20_000  # steps before the first update
    learn_every: int = 8  # steps per update
    batch: int = 64  # transitions per update
    updates: int = 1  # in one call, from batches that are drawn together
    learning_rate: float = 1.5e-4  # Adam
    anneal: bool = False  # the learning rate falls linearly to 0 over the run
    adam_epsilon: float = 1e-6  # added to the root of squared gradients in Adam; far below them
    discount: float = 0.99  # of the return, per step
    copy_every: int = 2_000  # steps between copies of online into target
    clip_reward: bool = True  # learn from the sign of the reward
    huber: bool = True  # errors beyond 1 count linearly, not squared
    max_norm: float = 0.0  # of the gradient, larger ones are scaled down; 0 for no limit
    epsilon: float = 0.01  # of exploration, at the end
    epsilon_steps: int = 250_000  # steps in which it falls from 1 to that
    double: bool = False  # Double DQN: online chooses the next action, target values it
    evaluate_every: int = 100_000  # steps between evaluations
    evaluate_games: int = 10  # whole games each
    evaluate_epsilon: float = 0.01  # of exploration, in evaluations
    film_seconds: float = 20.0  # filmed of a game after each best evaluation; 0 for no films


CONTROL = dict(
    steps=120_000,
    worlds=4,
    backbone="mlp",
    hidden=256,
    capacity=100_000,
    learn_start=1_000,
    learn_every=4,
    batch=64,
    learning_rate=1e-3,
    anneal=True,  # without it the last evaluations swing between all and nothing
    adam_epsilon=1e-8,
    copy_every=500,
    clip_reward=False,
    huber=False,
    max_norm=10.0,
    epsilon=0.05,
    epsilon_steps=20_000,
    double=True,
    evaluate_every=5_000,
    evaluate_games=20,
    evaluate_epsilon=0.0,
    film_seconds=0.0,  # Gymnasium's screen needs pygame
    log_every=1_000,
    bf16=False,
    threads=1,  # a small network waits longer for a second thread than it gains
)
CATCH = CONTROL | dict(
    steps=16_000,
    backbone="small",
    hidden=64,
    batch=32,
    epsilon_steps=5_000,
    evaluate_every=4_000,
    evaluate_games=40,
    film_seconds=6.0,
)
CARTPOLE = CONTROL | dict(
    steps=80_000,
    discount=0.98,  # values up to 50 are soon told apart
    copy_every=100,  # a value of 50 grows by one reward a copy
    epsilon_steps=8_000,
)
ACROBOT = CONTROL | dict(steps=40_000, copy_every=100, epsilon_steps=8_000)
LUNAR_LANDER = CONTROL | dict(
    steps=250_000,
    learning_rate=5e-4,
    epsilon_steps=30_000,
    evaluate_every=12_500,
)
MOUNTAIN_CAR = CONTROL | dict(
    capacity=10_000,  # what led to the top is met often
    learn_every=2,
    batch=128,
    learning_rate=4e-3,
    discount=0.98,
    copy_every=600,
    epsilon=0.07,
    epsilon_steps=25_000,
)
PIXELS = dict(steps=1_000_000, worlds=8, capacity=200_000, clip_reward=False, huber=False, evaluate_every=50_000)
RECIPES = {  # by world where it has one of its own, else by family
    "atari": {},
    "control": CONTROL,
    "CartPole-v1": CARTPOLE,
    "Acrobot-v1": ACROBOT,
    "LunarLander-v3": LUNAR_LANDER,
    "MountainCar-v0": MOUNTAIN_CAR,
    "catch": CATCH,
    "pixels": PIXELS,
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return Config(env=asked.env, **RECIPES[kind(asked, RECIPES)])


def kind(asked: Config, known: Collection[str]) -> str:
    """Which of the known recipes suits the world asked for: its own, by Gymnasium's id, else its family's."""
    family = envs.family(asked.env, **({"pixels": True} if asked.pixels else {}))
    identity = control.canonical(asked.env) if family == "control" else None
    return identity if identity in known else family


class QNetwork(nn.Module):
    """observation (B, C, H, W) uint8 or (B, D) float -> value of each action (B, A) float32."""

    def __init__(
        self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, hidden: int, norm: str = "none"
    ):
        super().__init__()
        self.backbone, self.actions = backbone, actions
        features = backbone.output_size(shape)
        self.hidden = dense(features, hidden, norm)
        self.values = nn.Linear(hidden or features, actions)
        nn.init.uniform_(self.values.weight, -1e-3, 1e-3)  # no opinion at the start
        nn.init.zeros_(self.values.bias)

    def forward(self, observation: Tensor) -> Tensor:
        coarsest = self.backbone(observation)[-1]
        features = self.hidden(coarsest.permute(0, 2, 3, 1).flatten(1))  # as channels_last lies in memory
        with torch.autocast(observation.device.type, enabled=False):
            return self.values(features.float())  # bf16 would round away the gap between two actions


def dense(features: int, hidden: int, norm: str = "none") -> nn.Module:
    """features -> hidden units (0 for none) behind a ReLU, which norm="layer" puts a layer norm before."""
    if not hidden:
        return nn.Identity()
    linear = nn.Linear(features, hidden)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, *([nn.LayerNorm(hidden)] if norm == "layer" else []), nn.ReLU())


def td_target(reward: Tensor, discount: Tensor, next_values: Tensor, judge: Tensor | None = None) -> Tensor:
    """y = r + gamma * max_a Q_target(s', a), with gamma 0 where the world ended. Mnih 2015, algorithm 1.

    Args:
        reward, discount: (B,).
        next_values: (B, A), the target network's.
        judge: (B, A), whose argmax chooses the action that next_values then rates; the online network's make
            it Double DQN (van Hasselt 2016, equation 4). None: next_values choose for themselves.

    Returns:
        (B,).
    """
    chosen = (next_values if judge is None else judge).argmax(1, keepdim=True)
    return reward + discount * next_values.gather(1, chosen).squeeze(1)


def td_loss(values: Tensor, action: Tensor, target: Tensor, huber: bool = True) -> Tensor:
    """Loss of the taken actions' values (B, A) against targets (B,), a scalar.

    Huber counts errors beyond 1 linearly: the paper's clipped error. With unclipped rewards that bends the values
    from the mean towards the median, and squared errors serve better.
    """
    taken = values.gather(1, action[:, None]).squeeze(1)
    return F.smooth_l1_loss(taken, target) if huber else F.mse_loss(taken, target)


def epsilon_at(config: Config, step: int) -> float:
    """Exploration at a step: 1 until learning starts, then linearly to config.epsilon in epsilon_steps."""
    fraction = min(max(step - config.learn_start, 0) / max(config.epsilon_steps, 1), 1.0)
    return 1.0 + fraction * (config.epsilon - 1.0)


def see(config: Config, world: World) -> backbones.Backbone:
    """The backbone for a world, or the eyes that are lifted, as they are.

    Raises ValueError for an option that the backbone does not have.
    """
    options = {}
    if config.backbone in backbones.BACKBONES:
        known = inspect.signature(backbones.BACKBONES[config.backbone]).parameters
        usual = {"stem": "atari", "width": 1.0, "norm": "none", "spectral": False}
        asked = {key: getattr(config, key, value) for key, value in usual.items()}
        options = {key: value for key, value in asked.items() if key in known or value != usual[key]}
    return backbones.build(config.backbone, world.observation_shape, frozen=config.frozen, **options)


def build(config: Config, world: World) -> QNetwork:
    """The network for a world, on its device."""
    check_actions(world)
    network = QNetwork(see(config, world), world.observation_shape, world.actions, config.hidden, config.norm)
    return network.to(world.device, memory_format=torch.channels_last)


def check_actions(world: World) -> None:
    """Raises ValueError where actions are not discrete."""
    if world.actions is None:
        raise ValueError(
            f"Q-learning needs discrete actions, and {world.name}'s are continuous (shape {world.action_shape})"
        )


def options(config: Config) -> dict[str, object]:
    """What envs.make is to know beyond the name."""
    asked = {key: getattr(config, key) for key in ("stack", "flicker", "pixels") if getattr(config, key)}
    if config.pixels or envs.family(config.env) != "atari":
        return asked
    return asked | {key: getattr(config, key) for key in ("protocol", "frame_skip", "full_actions", "colour")}


def low(config: Config, device: torch.device) -> bool:
    """Whether to calculate in bf16: where asked for and fast. A CPU without bf16 arithmetic wants --no-bf16."""
    return config.bf16 and device.type in ("cpu", "cuda")


def precision(config: Config, device: torch.device) -> torch.autocast:
    """The context in which networks are called."""
    return torch.autocast(device.type, torch.bfloat16, enabled=low(config, device))


def shadow(config: Config, network: nn.Module) -> nn.Module:
    """A copy that does not learn, its eyes and hidden layers in bf16: rounded once a copy, not at every use."""
    result = copy.deepcopy(network).requires_grad_(False)
    if low(config, next(network.parameters()).device):
        for name in ("backbone", "hidden", "judge"):
            getattr(result, name, nn.Identity()).bfloat16()
    return result


def greedy(config: Config, network: nn.Module, epsilon: float, seed: int) -> Policy:
    """A policy to play with: observation -> action, random with probability epsilon, from its own generator."""
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    @torch.inference_mode()
    def policy(observation: Tensor, came: Transition | None = None) -> Tensor:
        training = network.training
        network.eval()  # noise on the weights is for learning
        with precision(config, device):
            best = network(observation).argmax(1)
        network.train(training)
        shape = best.shape
        explore = torch.rand(shape, generator=generator, device=device) < epsilon
        return torch.where(explore, torch.randint(network.actions, shape, generator=generator, device=device), best)

    return policy


def own_eyes(config: Config, folder: Path) -> Config:
    """The config of a saved run: eyes that were lifted from elsewhere lie in its own folder now."""
    return config if config.backbone in backbones.BACKBONES else dataclasses.replace(config, backbone=str(folder))


def load(config: Config, folder: Path, parts: dict, world: World, seed: int) -> Policy:
    """The policy that a run's saved parts describe, for agents.watch."""
    network = build(own_eyes(config, folder), world)
    network.load_state_dict(parts["online"])
    return greedy(config, network, config.evaluate_epsilon, seed)


def patience(world: World) -> str | None:
    """What to say at the start of a run that will be long."""
    if world.device.type == "cpu" and world.family == "atari":
        return "on a CPU this takes hours; Catch is learned in seconds, CartPole in minutes (--env)"
    return None


def remember(config: Config, world: World, run: runs.Run) -> Memory:
    """The memory that suits a world's observations: frames stored once, or rows."""
    where = dict(device=world.device, seed=config.seed, path=run.folder / "memory" if config.memory_on_disk else None)
    if world.observation.dtype == torch.uint8:
        return FrameReplay(config.capacity, world.count, world.stack, **where)
    return RowReplay(config.capacity, world.count, **where)


def adam(config: Config, network: nn.Module) -> torch.optim.Adam:
    """Adam over the weights that are to learn."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    device = next(network.parameters()).device
    fused = device.type != "mps"
    return torch.optim.Adam(
        weights, rate(config, device), eps=config.adam_epsilon, fused=fused, capturable=config.capture
    )


def rate(config: Config, device: torch.device) -> float | Tensor:
    """The learning rate as an optimizer is to hold it: compiled and captured updates read it from a tensor."""
    return (
        torch.tensor(config.learning_rate, device=device)
        if config.compile or config.capture
        else config.learning_rate
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate from now on."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def quickened(config: Config, device: torch.device, act: Callable, learn: Callable) -> tuple[Callable, Callable]:
    """act and learn as the flags --compile and --capture want them."""
    if config.compile:
        act, learn = torch.compile(act), torch.compile(learn)
    return act, runs.Captured(learn, device) if config.capture else learn


def mean(metrics: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of several updates' metrics."""
    return {name: torch.stack([each[name] for each in metrics]).mean(0) for name in metrics[0]}


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = runs.Run(config, "agents.dqn", world.name, world.protocol, patience(world))

    online = build(config, world)
    target = shadow(config, online)
    optimizer = adam(config, online)
    memory = remember(config, world, run)
    run.track(online=online, target=target, optimizer=optimizer, memory=memory, world=world)

    @torch.inference_mode()
    def act(observation: Tensor, epsilon: Tensor) -> Tensor:
        with precision(config, device):
            best = online(observation).argmax(1)
        explore = torch.rand(best.shape, device=device) < epsilon
        return torch.where(explore, torch.randint(world.actions, best.shape, device=device), best)

    def update(batch: Transition) -> dict[str, Tensor]:
        reward = batch.reward.sign() if config.clip_reward else batch.reward
        with torch.no_grad(), precision(config, device):
            judge = online(batch.next_observation) if config.double else None
            next_values = target(batch.next_observation)
            y = td_target(reward, config.discount * batch.discount, next_values, judge)
        with precision(config, device):  # of its own: older torch keeps weights cast without gradient
            values = online(batch.observation)
        loss = td_loss(values, batch.action, y, config.huber)
        optimizer.zero_grad()
        loss.backward()
        if config.max_norm:
            nn.utils.clip_grad_norm_(online.parameters(), config.max_norm)
        optimizer.step()
        return {"loss/td": loss.detach(), "value/mean": values.detach().mean()}

    def learn(batches: Transition) -> dict[str, Tensor]:
        parts = zip(*(field.chunk(config.updates) for field in batches), strict=True)
        return mean([update(Transition(*rows)) for rows in parts])

    act, learn = quickened(config, device, act, learn)

    for step in run.steps(config.steps, stride=world.count):
        epsilon = epsilon_at(config, step)
        world.send(act(world.observation, torch.tensor(epsilon, device=device)))
        if step >= config.learn_start:  # while the emulator plays
            if config.anneal:
                set_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            for _ in run.due(config.learn_every * config.updates):
                run.log(learn(memory.sample(config.batch * config.updates)))
            if run.due(config.copy_every):
                target.load_state_dict(online.state_dict())
        memory.add(world.recv())
        run.log(world.finished | {"explore/epsilon": epsilon})
        if run.due(config.evaluate_every):
            assess(
                run, lambda: greedy(config, online, config.evaluate_epsilon, config.seed), online.backbone, **chosen
            )


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.dqn", __doc__)
