"""Keep the small record of a run in runs/published/, and write the README's results from those records.

    python -m runs.publish results/Pong/dqn-1 results/Pong/dqn-2 --note "two CPU cores"
    python -m runs.publish --readme README.md

A record is a folder which `runs.compare` reads like the run's own: config.json, curve.jsonl (evaluations and
thinned training lines), clock.jsonl (thinned) and result.json (the numbers to quote). The README gets a
table, a picture and the recipes between its two lines <!-- results:begin --> and <!-- results:end -->.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from runs.compare import load, markdown, table
from runs.flags import parse
from runs.record import LINES, RECENT, Group, RunRecord, flags, group, read_run
from runs.score import number

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
CURVE = 300  # lines of curve.jsonl at most; half of them may be evaluations
CLOCK = 100  # lines of clock.jsonl
IMAGES = (
    " Of image sets they are images shown, and what is evaluated is the error on validation images; "
    'a test error "with 10" is that of ten views or rollouts of each image together.'
)


@dataclasses.dataclass(frozen=True)
class Config:
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()  # folders of the runs to publish
    note: str = ""  # a sentence to stand by the result
    into: Path = Path(__file__).resolve().parent / "published"  # where the records lie
    readme: Path | None = None  # a page whose results are to be written anew


def publish(folder: Path, into: Path, note: str = "") -> Path:
    """Copy a run's small record to <into>/<world>-<name of its folder>, over an earlier one of the same run.

    Raises FileNotFoundError where there is no run; ValueError where it wrote nothing yet, or where another
    configuration's record has the name already.
    """
    run = read_run(folder)
    if not run.lines:
        raise ValueError(f"{folder} has no metrics yet: there is nothing to publish")
    name = f"{run.world}-{run.folder.resolve().name}".replace("/", "-").replace(":", "-")
    record = into / name
    before = read_run(record) if (record / "config.json").exists() else None
    if before and experiment(before) != experiment(run):
        raise ValueError(
            f"{record} holds another run, or one with other flags: delete it, or give this one's folder another name"
        )
    written = next(folder / file for file in LINES if (folder / file).is_file()).stat().st_mtime
    result = {
        "world": run.world,
        "protocol": run.protocol,
        "program": run.about.get("program"),
        "seed": run.seed,
        "status": "finished" if run.status == "finished" else "interrupted",
        "final": _evaluation(run.final),
        "best": _evaluation(run.best),
        "played": _last_line(folder / "watch.jsonl"),  # by agents.watch, when training was over
        "tested": run.tested,  # errors in percent
        "training_return": run.training_return,  # over the last hundred games
        "steps": run.step,
        "planned_steps": run.config.get("steps"),
        "seconds": run.seconds,
        "steps_per_second": run.steps_per_second,
        "hardware": run.about.get("hardware"),
        "commit": run.about.get("commit"),
        "command": run.about.get("command"),
        "date": datetime.fromtimestamp(written, UTC).date().isoformat(),  # of the run's last line
        "note": note or (json.loads((record / "result.json").read_text())["note"] if before else ""),
    }
    record.mkdir(parents=True, exist_ok=True)
    (record / "config.json").write_text(_portable(json.dumps(run.about, indent=1), run) + "\n")
    (record / "result.json").write_text(_portable(json.dumps(result, indent=1), run) + "\n")
    for file, lines in (("curve.jsonl", thin_curve(run)), ("clock.jsonl", _thin(run.clock, CLOCK))):
        (record / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return record


def experiment(run: RunRecord) -> tuple[Any, ...]:
    """What tells a run from others."""
    return run.world, run.protocol, run.program, run.seed, flags(run)


def thin_curve(run: RunRecord, most: int = CURVE) -> list[dict[str, Any]]:
    """At most `most` of a run's lines, in order: what its results come from, and some of the rest.

    Evaluations are kept, up to half of all lines and always the last and the best; so are the lines of the
    last hundred games, which the training return is a mean over.
    """
    numbered = list(enumerate(run.lines))
    tests = [pair for pair in numbered if any(word.startswith(("eval/", "test/")) for word in pair[1])]
    tested = {index for index, _ in tests}
    training = [pair for pair in numbered if pair[0] not in tested]
    kept = dict(_thin(tests, most // 2 - 1))
    best, final = run.best, run.final
    kept |= {index: line for index, line in tests if line is best or line is final}
    games = 0
    for index, line in reversed(training):
        if games < RECENT and "episode/return" in line:
            kept[index] = line
            games += line.get("episode/count", 1)
    rest = [pair for pair in training if pair[0] not in kept]
    kept |= dict(_thin(rest, most - len(kept)))
    return [line for _, line in sorted(kept.items())]


def records(published: Path) -> list[Path]:
    """The records that lie in a folder; a folder within it has a page of its own.

    Raises FileNotFoundError where nothing is published.
    """
    found = sorted(path.parent for path in published.glob("*/config.json"))
    if not found:
        raise FileNotFoundError(f"nothing is published in {published}")
    return found


def block(published: Path, page: Path) -> str:
    """What stands between the marks of a page: table, picture and recipes of every published run.

    Links are relative to the page's folder. Raises FileNotFoundError where nothing is published.
    """
    groups = group(load(records(published)))
    picture = os.path.relpath(published / "curves.png", page.resolve().parent).replace(os.sep, "/")
    tested = any(run.tested for each in groups for run in each.runs)
    text = [
        markdown(*table(groups)),
        "Three seeds and more: mean ± its 95% interval (Student's t over seeds); two are too few for one: mean, and "
        "both. One seed: its evaluation, with the standard deviation (sd) over games. Steps are agent steps."
        + IMAGES
        * tested,
        f"![Learning curves of the published runs]({picture})",
        "\n".join(_recipe(each) for each in groups),
    ]
    return "\n\n".join(text)


def write_readme(page: Path, published: Path) -> None:
    """Write the text between the page's marks, and the picture it shows, anew.

    Raises FileNotFoundError without the page or published runs, ValueError where the page lacks the marks.
    """
    from runs.curves import draw

    before, _, after = split(page.read_text(encoding="utf-8"), page)
    text = block(published, page)
    draw(group(load(records(published))), published / "curves.png")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def split(text: str, page: Path) -> tuple[str, str, str]:
    """What stands before, between and after the marks; ValueError where the marks are not there in order."""
    before, begin, rest = text.partition(BEGIN)
    between, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for results: add the lines {BEGIN} and {END} where they belong")
    return before, between.strip("\n"), after


def _recipe(each: Group) -> str:
    results = [json.loads((run.folder / "result.json").read_text()) for run in each.runs]

    def told(key: str) -> list[str]:
        return sorted({str(result[key]) for result in results if result[key]})

    hardware = sorted({_machine(result["hardware"] or {}) for result in results})
    facts = [f"`{results[0]['command']}`"] if results[0]["command"] else []
    facts += [f"commit {', '.join(told('commit'))}"] if told("commit") else []
    facts += [f"on {' and '.join(hardware)}"] if any(hardware) else []
    facts += [" to ".join(dict.fromkeys((told("date")[0], told("date")[-1])))]
    played = "; ".join(_played(result) for result in results if result.get("played"))
    facts += [f"played afterwards (mean and 95% interval): {played}"] if played else []
    title = " · ".join(part for part in (each.world, each.protocol, each.name) if part)
    return f"- **{title}**: {'; '.join(facts)}. {' '.join(told('note'))}".rstrip()


def _last_line(path: Path) -> dict[str, Any] | None:
    lines = path.read_text().splitlines() if path.is_file() else []
    return json.loads(lines[-1]) if lines else None


def _played(result: dict[str, Any]) -> str:
    """A seed's score in the games played with its kept weights afterwards, in words."""
    played = result["played"]
    how = ", playing greedily" if played.get("greedy") else ""
    told = f"seed {result['seed']}, {played['checkpoint']} weights (step {played['step']:,}){how}: "
    if played["games"] == 1:
        return f"{told}**{number(played['mean'], abs(played['mean']))}** in one game"
    largest = max(abs(played["low"]), abs(played["high"]))
    mean, low, high = (number(played[word], largest) for word in ("mean", "low", "high"))
    return f"{told}**{mean}** [{low}, {high}] over {played['games']} games"


def _machine(hardware: dict[str, Any]) -> str:
    parts = [hardware.get("gpu"), hardware.get("processor")]
    parts += [f"{hardware['cores']} cores"] if "cores" in hardware else []
    return ", ".join(part for part in parts if part)


def _evaluation(line: dict[str, Any] | None) -> dict[str, Any] | None:
    return line and {word.removeprefix("eval/"): value for word, value in line.items()}


def _thin(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` items, evenly chosen, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _portable(text: str, run: RunRecord) -> str:
    """Without the places of the machine it ran on: nobody's home belongs into a repository."""
    folder = Path(run.config.get("folder") or "")
    places = {f"{folder.parent}/": "", f"{Path.cwd()}/": "", f"{Path.home()}/": "~/"}
    for place, shown in places.items():
        if place.startswith("/") and len(place) > 2:
            text = text.replace(place, shown)
    return text


def main() -> None:
    config = parse(Config, "runs.publish", __doc__)
    if not config.runs and not config.readme:
        sys.exit("error: name a run's folder to publish, such as results/Pong/dqn-1, or --readme README.md")
    try:
        for folder in config.runs:
            record, run = publish(folder, config.into, config.note), read_run(folder)
            print(f"{record}" + f" ({run.unfinished}: recorded as interrupted)" * bool(run.unfinished))
            if "+changes" in str(run.about.get("commit")):
                print(f"{folder} ran on uncommitted changes: its commit does not reproduce it", file=sys.stderr)
        if config.readme:
            write_readme(config.readme, config.into)
            print(f"wrote the results in {config.readme} and {config.into / 'curves.png'}")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
