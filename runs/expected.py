"""What to expect of a run: the score and the duration of published runs of the same recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runs.folder import RESUME_MAY_CHANGE, plain
from runs.groups import NEUTRAL_FACTORS, NOT_THE_EXPERIMENT, OFF, reach
from runs.printing import one_line
from runs.progress import duration
from runs.reader import RECORDS, RunRecord, read_records, world_folder
from runs.score import number, short

PUBLISHED = Path(__file__).resolve().parent / "published"
MOST_DIFFERENCES = 3  # flags in which a published run may differ and still be named


def expected(
    program: str, world: str, protocol: str | None, config: Any, published: Path | None = None
) -> str | None:
    """The published runs of a program in a world whose numbers are the config's, or nearly so, in a sentence.

    It reads the records of that world alone. None where no published run differs in MOST_DIFFERENCES flags or fewer,
    and where the records are not installed.

    program: "agents.dqn". protocol: of the world, None where it has only one. config: a dataclass of flags.
    """
    found: dict[tuple[str, ...], list[RunRecord]] = {}
    for path in (published or PUBLISHED).glob(f"*/{world_folder(world)}/{RECORDS}"):
        try:
            records = read_records(path)
        except (OSError, ValueError):  # no reason to refuse a run; a comparison names the fault
            continue
        for each in records:
            if (each.about["program"], each.world, each.protocol) == (program, world, protocol):
                found.setdefault(differences(each, config), []).append(each)
    nearest = min(found, key=len, default=None)
    if nearest is None or len(nearest) > MOST_DIFFERENCES:
        return None
    runs = found[nearest]
    but = f" with {', '.join(nearest)}" if nearest else ""
    which = "the published run" if len(runs) == 1 else f"{len(runs)} published runs"
    steps = f"{reach([each.step for each in runs], short)} {runs[0].unit}"
    if any(each.unfinished and each.planned for each in runs):
        steps += f", stopped before its {reach([each.planned for each in runs], short)}"
    took = reach([each.seconds for each in runs], duration)
    where = f" on {machines}" if (machines := _machines(runs)) else ""
    return f"{which} of this recipe{but}: {_reached(runs)} after {steps}, {took}{where}"


def differences(record: RunRecord, config: Any) -> tuple[str, ...]:
    """The flags that a published run had otherwise than a config, as on a command line: ("--width 0.5",).

    Flags that change no learning are left out, and those that the record does not know yet stand at their defaults.
    """
    ignored = {*RESUME_MAY_CHANGE, *NOT_THE_EXPERIMENT} - {*getattr(config, "binding", ())}
    there, here = plain(type(config)()) | record.config, plain(config)
    found = []
    for name in sorted((there.keys() | here.keys()) - ignored):
        ours, theirs = str(here.get(name)), str(there.get(name))
        off = {"None", *OFF, NEUTRAL_FACTORS.get(name)}  # what a flag that one of them does not know stands at
        if ours != theirs and not {ours, theirs} <= off:
            flag = name.replace("_", "-")
            switch = {"True": f"--{flag}", "False": f"--no-{flag}", "None": f"no --{flag}"}
            found.append(switch.get(theirs, f"--{flag} {one_line(theirs)}"))
    return tuple(found)


def _reached(runs: list[RunRecord]) -> str:
    """The scores: on test images, in games played with the kept weights, or in the last evaluation."""
    score, values = runs[0].score, [value for each in runs if (value := _value(each)) is not None]
    if not values:
        return "no evaluation"
    lowest, highest = min(values), max(values)
    if number(lowest) == number(highest):
        return score.in_words(lowest)
    return f"{score.name} {number(lowest, highest)} to {score.format(highest)}"


def _value(run: RunRecord) -> float | None:
    if run.score.name in run.tested:
        return run.tested[run.score.name]
    if played := (run.published or {}).get("played"):
        return played["mean"]
    return run.final and run.final[run.score.metric]


def _machines(runs: list[RunRecord]) -> str:
    """The hardware: "NVIDIA H100", "2 cores (AMD EPYC), 1 thread"."""
    found = []
    for hardware in (each.about.get("hardware") or {} for each in runs):
        if processor := str(hardware.get("processor") or "").partition(" (")[0]:
            cores = f"{hardware['cores']} cores ({processor})" if "cores" in hardware else processor
            threads = hardware.get("torch_threads")
            if threads not in (None, hardware.get("cores")):
                cores += f", {threads} thread{'s' * (threads != 1)}"
            found.append(str(hardware.get("gpu") or cores))
    return " or ".join(dict.fromkeys(found))
