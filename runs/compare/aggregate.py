"""Agents over worlds: normalized final scores, their aggregates with intervals, and who beats whom.

An agent is the program and variant that names a group, under one protocol. Agents are compared only over the same
worlds: there is a `Block` for each set of worlds that some agent has, with every agent that has all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from runs import statistics
from runs.groups import Group
from runs.human_scores import PUBLISHED, human_normalized
from runs.statistics import Estimate

NORMALIZATIONS = ("auto", "human", "range", "none")
MOST_PAIRED = 10  # agents of a block among whom all pairs are compared


@dataclasses.dataclass(frozen=True)
class Block:
    """Agents over the same worlds: `scores[agent]` are (M,) arrays of the N_m runs there, more being better."""

    protocol: str
    worlds: tuple[str, ...]
    unit: str  # of the scores, in words: "human-normalized score"
    better: str  # "min" where scores are raw and less is better: they are then negated
    normal: bool  # whether 1 has a meaning as a target
    groups: dict[str, list[Group]]  # by agent, in the order of the worlds
    normalize: dict[str, Callable[[np.ndarray], np.ndarray]]  # by world, raw values (...) to scores (...)

    @functools.cached_property
    def scores(self) -> dict[str, list[np.ndarray]]:
        """By agent, the normalized final scores of its runs in each world, (N_m,) each."""
        return {
            agent: [self.normalize[each.world](finals(each)) for each in here] for agent, here in self.groups.items()
        }

    @property
    def telling(self) -> bool:
        """Whether it says more than the table by world: several worlds, and several agents or a scale of its own."""
        return len(self.worlds) > 1 and (len(self.groups) > 1 or self.normal)

    @property
    def title(self) -> str:
        """What it is about: "Breakout, Pong (sticky)"."""
        few = ", ".join(self.worlds) if len(self.worlds) <= 4 else f"{len(self.worlds)} worlds"
        return few + (f" ({self.protocol})" if self.protocol else "")

    def estimates(self, agent: str) -> dict[str, Estimate]:
        """Aggregates of an agent's scores by name; the optimality gap only where scores have a target."""
        return dict(self._estimates[agent])

    @functools.cached_property
    def _estimates(self) -> dict[str, dict[str, Estimate]]:
        sign = -1.0 if self.better == "min" else 1.0
        found: dict[str, dict[str, Estimate]] = {}
        for agent, scores in self.scores.items():
            found[agent] = {}
            for name, statistic in statistics.STATISTICS.items():
                if self.normal or name != "optimality gap":
                    one = statistics.bootstrap(scores, statistic)
                    ends = (one.low, one.high) if sign > 0 else (one.high, one.low)
                    ends = [None if end is None else sign * end for end in ends]
                    if name == "optimality gap" and one.interval:
                        ends[0] = max(ends[0], 0.0)  # no gap is below 0, as that of the widened interval may be
                    found[agent][name] = Estimate(sign * one.value, *ends)
        return found

    @functools.cached_property
    def ranked(self) -> list[str]:
        """The agents, the one with the best IQM first."""
        return sorted(self.scores, key=lambda agent: -float(statistics.iqm(self.scores[agent])))

    @functools.cached_property
    def improvements(self) -> list[tuple[str, str, Estimate]]:
        """(agent, other, probability that a run of the agent beats one of the other), the better-ranked agent first.

        Of more than MOST_PAIRED agents, only the first against each other one.
        """
        pairs = list(itertools.combinations(self.ranked, 2))
        if len(self.ranked) > MOST_PAIRED:
            pairs = [pair for pair in pairs if pair[0] == self.ranked[0]]
        return [
            (one, two, statistics.probability_of_improvement(self.scores[one], self.scores[two]))
            for one, two in pairs
        ]


def finals(each: Group) -> np.ndarray:
    """The last evaluation of each run of a group that has one, (N,)."""
    values = [run.final[each.score.metric] for run in each.runs if run.final]
    return np.array(values, dtype=float)


def blocks(groups: Sequence[Group], how: str = "auto") -> list[Block]:
    """Comparable sets of agents and worlds, those of most worlds first; groups without an evaluation are left out.

    how: "human" (published random and human scores of Atari games), "range" (0 and 1 are the worst and the best final
    score among the runs compared, world by world), "none", or "auto": human where each world of a block has such
    numbers, none in a block of one other world, else range.

    Raises ValueError where `how` is unknown, or is "human" and a world has no published human score.
    """
    if how not in NORMALIZATIONS:
        raise ValueError(f"--normalize {how!r}: it takes {', '.join(NORMALIZATIONS)}")
    evaluated = [each for each in groups if len(finals(each))]
    found = []
    for protocol, metric in dict.fromkeys((each.protocol or "", each.score.metric) for each in evaluated):
        here = [each for each in evaluated if (each.protocol or "", each.score.metric) == (protocol, metric)]
        agents: dict[str, dict[str, Group]] = {}
        for each in here:
            agents.setdefault(each.name, {})[each.world] = each
        for worlds in sorted(
            {tuple(sorted(known)) for known in agents.values()}, key=lambda each: (-len(each), each)
        ):
            members = {
                name: [known[world] for world in worlds]
                for name, known in sorted(agents.items())
                if known.keys() >= set(worlds)
            }
            found.append(_block(protocol, worlds, members, here, how))
    return sorted(found, key=lambda block: -len(block.worlds))


def _block(
    protocol: str, worlds: tuple[str, ...], members: dict[str, list[Group]], here: Sequence[Group], how: str
) -> Block:
    score = here[0].score
    human = score.metric == "eval/return" and all(world in PUBLISHED for world in worlds)
    if how == "human" and not human:
        missing = [world for world in worlds if world not in PUBLISHED] or worlds
        raise ValueError(f"no human score of {missing[0]!r} is published: --normalize range or none")
    if how == "auto":
        how = "human" if human else "none" if len(worlds) == 1 else "range"
    if how == "human":
        chosen = {world: functools.partial(_human, world) for world in worlds}
        return Block(protocol, worlds, "human-normalized score", "max", True, members, chosen)
    if how == "none":
        negated = -1.0 if score.better == "min" else 1.0
        unit = score.name + (f" ({score.unit})" if score.unit and score.unit != score.name else "")
        chosen = {world: functools.partial(np.multiply, negated) for world in worlds}
        return Block(protocol, worlds, unit, score.better, False, members, chosen)
    chosen = {}
    for world in worlds:
        values = np.concatenate([finals(each) for each in here if each.world == world])
        worst, best = (values.max(), values.min()) if score.better == "min" else (values.min(), values.max())
        chosen[world] = functools.partial(_within, worst, best)
    return Block(protocol, worlds, "share of the range from worst to best run", "max", True, members, chosen)


def _human(world: str, values: np.ndarray) -> np.ndarray:
    """Human-normalized scores of raw ones, (...)."""
    low, high = (human_normalized(world, value) for value in (0.0, 1.0))
    return low + (high - low) * np.asarray(values)


def _within(worst: float, best: float, values: np.ndarray) -> np.ndarray:
    """0 at the worst and 1 at the best, (...); 1 where they are the same."""
    values = np.asarray(values, dtype=float)
    return (values - worst) / (best - worst) if best != worst else np.ones_like(values)
