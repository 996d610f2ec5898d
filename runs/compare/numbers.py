"""The statistics of a comparison as unrounded numbers, for JSON and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runs.compare import efficiency
from runs.compare.aggregate import Block
from runs.groups import Group
from runs.reader import RunRecord
from runs.statistics import Estimate

UNITS = ("steps", "frames", "hours")


def state(
    groups: Sequence[Group], over: Sequence[Block], thresholds: Sequence[float], warnings: Sequence[str]
) -> dict[str, Any]:
    """{"over_worlds": [...], "time_to_threshold": [...], "warnings": [...]}, to stand beside the groups."""
    return {
        "over_worlds": [_block(block) for block in over],
        "time_to_threshold": [
            {
                "world": each.world,
                "protocol": each.protocol,
                "program": each.name,
                "threshold": threshold,
                **{x: [efficiency.reached(run, threshold, x) for run in each.runs] for x in UNITS},
            }
            for threshold in thresholds
            for each in groups
        ],
        "warnings": list(warnings),
    }


def reached(run: RunRecord, thresholds: Sequence[float]) -> dict[str, float | None]:
    """Columns of a run: {"steps_to_18": ..., "frames_to_18": ..., "hours_to_18": ...}; None if never reached."""
    return {f"{x}_to_{number:g}": efficiency.reached(run, number, x) for number in thresholds for x in UNITS}


def _block(block: Block) -> dict[str, Any]:
    agents = {
        agent: {
            "scores": {world: values.tolist() for world, values in zip(block.worlds, scores, strict=True)},
            **{name: _estimate(one) for name, one in block.estimates(agent).items()},
        }
        for agent, scores in block.scores.items()
    }
    pairs = [{"x": one, "y": two} | _estimate(estimate) for one, two, estimate in block.improvements]
    about = {"protocol": block.protocol or None, "worlds": list(block.worlds), "unit": block.unit}
    return about | {"agents": agents, "probability_of_improvement": pairs}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    interval = None if estimate.interval is None else list(estimate.interval)
    return {"value": estimate.value, "interval": interval}
