"""Publish small records of finished runs in runs/published/, and generate the results in Markdown pages from them.

    python -m runs.publish results/Pong/dqn-1 results/Pong/dqn-2 --topic atari --note "two CPU cores"
    python -m runs.publish results/Pong/dqn-3 --topic atari --variant double    # how these runs differ
    python -m runs.publish --readme README.md agents/README.md

A run becomes a line of <topic>/<world>/records.jsonl, called <program>-<variant>-<seed>: config, learning curve and
clock (both thinned), hardware, commit, command and note. `runs.compare` reads it like the run's own folder. Films and
pictures of the run may be put beside it, in a folder of its name. runs/pages.py describes the pages.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from runs import files, suggestions
from runs.flags import parse
from runs.groups import flags
from runs.printing import portable
from runs.reader import METRICS, RECORDS, RunRecord, read_records, read_run, world_folder

CURVE = 100  # points of a record's learning curve at most; half of them may be evaluations
CLOCK = 20  # and of its clock


@dataclasses.dataclass(frozen=True)
class Config:
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()  # folders of the runs to publish
    topic: str | None = None  # folder of their records: atari, control, classification, ...
    variant: str = ""  # a word for how these runs differ from the program's usual ones; empty for those
    note: str = ""  # a sentence about the result
    into: Path = Path(__file__).resolve().parent / "published"  # folder of the records
    readme: tuple[Path, ...] = ()  # pages whose results are generated again


def publish(folder: Path, into: Path, topic: str, variant: str = "", note: str = "") -> Path:
    """Write a run's record into <into>/<topic>/<world>/records.jsonl, in place of an earlier one of the same run.

    Returns <into>/<topic>/<world>/<program>-<variant>-<seed>, the folder for the run's pictures. Raises
    FileNotFoundError where there is no run; ValueError where it has no metrics yet, where topic or variant is no
    word, where the name belongs to a run of another configuration, or where other seeds of the variant have other
    flags.
    """
    run = read_run(folder)
    if not run.lines:
        raise ValueError(f"{folder} has no metrics yet: there is nothing to publish")
    for flag, word in (("topic", topic), ("variant", variant)):
        if not re.fullmatch(r"[\w.]*", word) or flag == "topic" and not word:
            raise ValueError(f"--{flag} {word!r} should be a word of letters, digits, _ and .")
    name = "-".join(filter(None, (run.program, variant, str(run.seed))))
    path = into / topic / world_folder(run.world) / RECORDS
    records = {each.about["name"]: each for each in read_records(path)} if path.is_file() else {}
    lines = {json.loads(line)["name"]: line for line in path.read_text("utf-8").splitlines()} if records else {}
    before = records.get(name)
    if before and experiment(before) != experiment(run):
        raise ValueError(
            f"{path} holds {name} of another run, or one with other flags: "
            "give this one a --variant, or delete that line"
        )
    for other in records.values():
        same = (other.program, other.protocol, other.published["variant"]) == (run.program, run.protocol, variant)
        if same and flags(other) != flags(run):
            raise ValueError(f"{folder} has other flags than {other.about['name']}: give it a --variant of its own")
    written = (folder / METRICS).stat().st_mtime
    record = {
        "name": name,
        "variant": variant,
        "status": "finished" if run.status == "finished" else "interrupted",
        "date": datetime.fromtimestamp(written, UTC).date().isoformat(),  # of the run's last line
        "note": note or (before.published["note"] if before else ""),
        "training_return": run.training_return,  # over the last hundred games
        "played": _last_line(folder / "watch.jsonl"),  # by agents.watch, when training was over
        **run.about,
        "curve": columns(thin_curve(run)),
        "clock": columns(_thin([{word: line[word] for word in ("step", "seconds")} for line in run.clock], CLOCK)),
    }
    lines[name] = portable(json.dumps(record), run.config.get("folder"))
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, "".join(f"{lines[each]}\n" for each in sorted(lines)).encode())
    return path.parent / name


def experiment(run: RunRecord) -> tuple[Any, ...]:
    """What identifies a run: world, protocol, program, seed and flags."""
    return run.world, run.protocol, run.program, run.seed, flags(run)


def thin_curve(run: RunRecord, most: int = CURVE) -> list[dict[str, Any]]:
    """At most `most` lines with a run's returns, evaluations and tests, in the order of their steps.

    Evaluations are kept as they are, up to half of all lines, always the last, the best and the tests; neighboring
    training lines are averaged over their games.
    """
    tests = [
        index for index, line in enumerate(run.lines) if any(word.startswith(("eval/", "test/")) for word in line)
    ]
    kept = set(_thin(tests, most // 2 - 3))
    for index in tests:
        line = run.lines[index]
        if line in (run.best, run.final) or any(word.startswith("test/") for word in line):
            kept.add(index)
    training = [
        {word: line[word] for word in line if word == "step" or word.startswith("episode/")}
        for index, line in enumerate(run.lines)
        if index not in kept and "episode/return" in line and line.get("episode/count", 1)
    ]
    parts = np.array_split(np.arange(len(training)), max(min(most - len(kept), len(training)), 1))
    means = [mean_line([training[index] for index in part]) for part in parts if len(part)]
    return sorted([*means, *(run.lines[index] for index in kept)], key=lambda line: line["step"])


def mean_line(lines: list[dict[str, float]]) -> dict[str, float]:
    """Training lines as one, at the step of the last: means over their games."""
    if len(lines) == 1:
        return lines[0]
    games = [line.get("episode/count", 1) for line in lines]
    words = [word for word in lines[0] if word != "step" and all(word in line for line in lines)]
    means = {word: float(np.average([line[word] for line in lines], weights=games)) for word in words}
    return {"step": lines[-1]["step"]} | means | {"episode/count": sum(games)}


def columns(lines: list[dict[str, float]]) -> list[dict[str, list[float]]]:
    """Lines as tables, one for those with the same words: {"step": [...], "eval/return": [...]}."""
    tables: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for line in lines:
        table = tables.setdefault(tuple(line), {word: [] for word in line})
        for word, value in line.items():
            table[word].append(value)
    return list(tables.values())


def _last_line(path: Path) -> dict[str, Any] | None:
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1]) if lines else None


def _thin(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` items, evenly chosen, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def main() -> None:
    config = parse(Config, "runs.publish", __doc__)
    if not config.runs and not config.readme:
        sys.exit("error: name a run's folder to publish, such as results/Pong/dqn-1, or --readme README.md")
    topics = sorted(path.name for path in config.into.glob("*/") if any(path.glob(f"*/{RECORDS}")))
    if config.runs and not config.topic:
        sys.exit(f"error: say where the records belong with --topic: {suggestions.one_of('', topics, 'there are')}")
    try:
        for folder in config.runs:
            place = publish(folder, config.into, config.topic, config.variant, config.note)
            run = read_run(folder)
            print(f"{place}" + f" ({run.unfinished}: recorded as interrupted)" * bool(run.unfinished))
            if run.untimed:
                print(run.untimed, file=sys.stderr)
            if "+changes" in str(run.about.get("commit")):
                print(f"{folder} ran on uncommitted changes: its commit does not reproduce it", file=sys.stderr)
        if config.readme:
            from runs.pages import write  # matplotlib takes a second

            for picture in write(config.readme, config.into):
                print(f"wrote {picture}")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
