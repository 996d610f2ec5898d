"""Continuous actions of any bounds: where policies begin, that they learn, that worlds get what they allow."""

import dataclasses
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

import envs
from agents import ppo
from agents.config import estimate_mean_observation
from agents.networks import actor_critic, distributions


class Range(gymnasium.Env):
    """One action an episode. The reward is the distance to a point at four fifths of the range, negative, in ranges.
    An action out of bounds is refused."""

    def __init__(self, low: float = -1.0, high: float = 1.0, dtype: str = "float32") -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(low, high, (1,), np.dtype(dtype))

    def reset(self, *, seed=None, options=None):
        return np.ones(1, np.float32), {}

    def step(self, action):
        assert action.dtype == self.action_space.dtype and self.action_space.contains(action), action
        low, high = (float(bound[0]) for bound in (self.action_space.low, self.action_space.high))
        shortfall = abs(float(action[0]) - (low + 0.8 * (high - low))) / (high - low)
        return np.ones(1, np.float32), -shortfall, True, False, {}


gymnasium.register("Range-v0", entry_point=Range)


def bounded(low, high):
    about = dict(name="Box", actions=None, action_shape=(len(low),))
    return SimpleNamespace(action_low=np.array(low), action_high=np.array(high), **about)


def test_a_policy_begins_in_the_middle_of_the_range_and_as_wide():
    inf = np.inf
    low, high = [-1.0, 0, 10, -0.4, -inf, 5, -inf, -3.4e38, 2], [1.0, 100, 20, 0.4, inf, inf, -5, 3.4e38, 2]
    head = distributions.Gaussian(3, bounded(low, high), squash=False)
    parameters = torch.zeros(1, 2, 9)  # mean 0, deviation 1
    begins = head.environment_action(head.mode(parameters))[0]
    assert begins.tolist() == pytest.approx([0, 50, 15, 0, 0, 6, -6, 0, 2])
    one = head.environment_action(torch.ones(1, 9))[0]
    assert one.tolist() == pytest.approx([1, 100, 20, 0.4, 1, 7, -5, 1, 2])
    drawn = torch.randn(50, 9)
    assert torch.equal(
        head.environment_action(drawn)[:, 0], drawn[:, 0].clamp(-1, 1)
    )  # bit for bit where the range is [-1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high"), [(0.0, 100.0), (10.0, 20.0), (-5e4, -4e4)])
def test_worlds_of_any_bounds_are_learned(low, high, tmp_path):
    """Policies that begin at 0 +- 1 in the world's own unit make no way there: -0.8 before and after in [10, 20]."""
    kwargs = (f"low={low}", f"high={high}")
    asked = ppo.recipe(ppo.Config(env="Range-v0", env_kwargs=kwargs))
    few = dict(steps=3_000, worlds=8, learning_rate=0.02, hidden=0, anneal_lr=True, entropy=0.0, evaluate_every=0)
    few |= dict(
        folder=tmp_path, name="run", wandb="disabled", env_kwargs=kwargs, max_grad_norm=0.5, scale_rewards=False
    )
    ppo.train(dataclasses.replace(asked, rollout=8, epochs=4, minibatches=4, **few))
    (folder,) = tmp_path.glob("*/run")
    state = torch.load(max((folder / "checkpoint").glob("0*.pt")), weights_only=True)
    config = dataclasses.replace(asked, hidden=0)
    world = envs.make("Range-v0", 1, low=low, high=high)
    player = ppo.load(dataclasses.replace(config, evaluate_greedy=True), folder, state["parts"], world, 1)
    assert world.step(player(world.observation)).reward.item() > -0.12


@pytest.mark.parametrize("bound", [0.1, 1 / 3, 2.7, 1e-3])
def test_a_world_of_float64_gets_actions_within_its_bounds(bound):
    """float32 has no 0.1: 0.10000000149 is out of bounds."""
    world = envs.make("Range-v0", 2, low=-bound, high=bound, dtype="float64")
    head = distributions.Gaussian(3, world, squash=False)
    for drawn in (1.0, -1.0, 50.0, -50.0, 0.3):
        world.step(head.environment_action(torch.full((2, 1), drawn)))
    squashed = distributions.Gaussian(3, world, squash=True)
    world.step(squashed.environment_action(torch.tensor([[50.0], [-50.0]])))
    with pytest.raises(Exception, match="(?s).*"):  # what is really out of bounds is the world's own affair
        world.step(torch.full((2, 1), 2 * bound))


def test_random_play_of_a_world_of_float64_is_of_float32():
    """setting.look_around drew float64 actions there, which no world takes."""

    class Pictured(Range):
        def __init__(self) -> None:
            super().__init__(-0.1, 0.1, "float64")
            self.observation_space = gymnasium.spaces.Box(0, 255, (12, 12, 1), np.uint8)

        def reset(self, *, seed=None, options=None):
            return np.full((12, 12, 1), 7, np.uint8), {}

        def step(self, action):
            _, *others = super().step(action)
            return np.full((12, 12, 1), 7, np.uint8), *others

    gymnasium.register("Pictured-v0", entry_point=Pictured)
    config = ppo.Config(env="Pictured-v0", backbone="small", subtract_mean=True, hidden=8)
    network = actor_critic.build(config, envs.make("Pictured-v0", 1))
    estimate_mean_observation(config, network, SimpleNamespace(resumes=False))
    (picture,) = (value for key, value in network.named_buffers() if key.endswith("mean_observation"))
    assert (picture == 7).all()
