"""Exports a trained agent to ONNX or torch.export: one file that chooses actions without this package.

    python -m agents.export results/Catch/dqn-1 agent.onnx
    python -m agents.export results/Catch/dqn-1 agent.pt2        # torch.export.load("agent.pt2").module()
    python -m agents.export results/CartPole-v1/ppo-1 agent.onnx --checkpoint last

ONNX needs the extra `onnx`. The graph's input is `observation` (N, ...), of the type and shape that the world gives
(frames are uint8), for any number of games N; of IQN, R2D2 and attention for one, or as many as --games says. Its
first output is `action`, the best (Q-learning) or most probable one, as the world takes it. Beside it are

- of Q-learning `values` (N, A),
- of policy gradients `logits` (N, A), or of continuous actions `mean` and `log_std` (N, A) before they are scaled to
  the action's range, and the critic's `value` (N,),
- of recurrent agents the input `state` (N, S), zeros at a game's start, and what follows: the output `next_state` of
  policy gradients, to be given with the next observation; of R2D2 `hidden` and `cell` (N, U), which with the action
  (one-hot) and the reward of the step are the next `state`, in this order.

The metadata of the file (about.json in a .pt2) has the world's name and options, the program and the step.
Exploration is left out: actions are greedy. Agents that sample where to look (agents.hard_attention,
agents.recurrent_attention) are not exported.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor, nn

import agents
import runs
from agents.networks.actor_critic import ActorCritic
from agents.networks.distributions import Categorical
from agents.networks.recurrent_q import R2D2Network
from runs import onnx_file, saved, torch_export
from runs.flag_types import Whole
from runs.printing import printable

SAMPLES = ("agents.hard_attention",)  # glimpses at random places


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    out: Annotated[Path, tyro.conf.Positional] = Path("agent.onnx")
    games: Whole = 0  # side by side; 0: any number, or 1 of networks that are traced for a fixed one
    checkpoint: Literal["best", "last"] = "best"  # by evaluation, or the latest saved


class Values(nn.Module):
    """observation (N, ...) -> action (N,), values (N, A)."""

    outputs, recurrent = ("action", "values"), False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Tensor) -> tuple[Tensor, ...]:
        values = self.network(observation)
        return values.argmax(1), values


class RecurrentValues(Values):
    """observation (N, ...), state (N, S) -> action (N,), values (N, A), hidden and cell (N, U)."""

    outputs, recurrent = ("action", "values", "hidden", "cell"), True

    def forward(self, observation: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        values, hidden, cell = self.network(observation, state)
        return values.argmax(1), values, hidden, cell


class Policy(nn.Module):
    """observation (N, ...) -> action (N, ...), logits (N, A) or mean and log_std (N, A), value (N,); recurrent ones
    also state (N, S) -> next_state (N, S)."""

    def __init__(self, network: ActorCritic) -> None:
        super().__init__()
        self.network = network
        self.discrete = isinstance(network.head, Categorical)
        self.recurrent = network.initial_state(1).shape[1] > 0
        parameters = ("logits",) if self.discrete else ("mean", "log_std")
        self.outputs = ("action", *parameters, "value", *(("next_state",) if self.recurrent else ()))

    def forward(self, observation: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        network = self.network
        before = observation.new_zeros((observation.shape[0], 0), dtype=torch.float32) if state is None else state
        parameters, value, after = network.step(observation, before)
        sample = network.head.mode(parameters)
        found = (parameters,) if self.discrete else parameters.unbind(1)
        after = (network.conditioned_on_action(after, sample),) if self.recurrent else ()
        return (network.head.environment_action(sample), *found, value, *after)


def graph(network: nn.Module) -> Values | Policy:
    """What is traced of an agent's network: `outputs` are their names, `recurrent` says whether it takes a state."""
    if isinstance(network, R2D2Network):
        return RecurrentValues(network)
    return Policy(network) if isinstance(network, ActorCritic) else Values(network)


def export(agent: agents.Agent, path: Path, games: int = 0) -> tuple[str, ...]:
    """Write an agent as ONNX, or as a torch.export program where the path ends in .pt2. Returns the outputs' names.

    games: side by side; 0: any number, or one where the network can only be traced for a fixed number.

    Raises RunError where the agent samples where to look, or the extra `onnx` is missing.
    """
    program = saved.about(agent.folder)["program"]
    if program in SAMPLES:
        raise runs.RunError(f"{program} looks at places that it samples: that is no graph of fixed operations")
    network = getattr(agent.policy, "network", None)
    if network is None:
        raise runs.RunError(f"{program} has learned a table, and no network")
    network = network.to("cpu").eval()
    traced = graph(network).eval()
    inputs = _example(agent, traced, games or 2)
    varying = {} if games else dict.fromkeys((*inputs, *traced.outputs), "games")
    if not games and not onnx_file.takes_any_number(traced, inputs):
        inputs, varying = _example(agent, traced, 1), {}
    options = {key: value for key, value in agent.options.items() if isinstance(value, str | int | float | bool)}
    about = {"program": program, "env": agent.env, "options": options, "step": agent.step}
    if path.suffix != torch_export.SUFFIX:
        onnx_file.write(path, traced, inputs, traced.outputs, varying, about)
    elif not torch_export.write(path, traced, inputs, traced.outputs, varying, about) and varying:
        torch_export.write(path, traced, _example(agent, traced, 1), traced.outputs, {}, about)
    return traced.outputs


def _example(agent: agents.Agent, traced: Values | Policy, games: int) -> dict[str, Tensor]:
    """Inputs for a number of games: the first frames, and the state before them."""
    world = agent.world(games)
    inputs = {"observation": world.observation.cpu().clone()}
    world.close()
    if traced.recurrent:
        inputs["state"] = agent.policy.network.initial_state(games).clone()
    return inputs


def main(config: Config) -> None:
    agent = agents.load(config.run, config.checkpoint, "cpu")
    outputs = export(agent, config.out, config.games)
    print(printable(f"{config.out}: observation -> {', '.join(outputs)} ({agent.env}, step {agent.step:,})"))


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.export", __doc__)
