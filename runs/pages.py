"""Results in Markdown pages, generated from the published records.

They stand between two marks, of which a page may have several:

    <!-- results:begin atari catch -->     a table of all records of these topics; on a topic's own page also its
    <!-- results:end -->                   learning curves, the minutes until each of thresholds.json's scores is
                                           reached, and command, commit, hardware and note of each
    <!-- results:begin front_page -->      the rows that runs/published/front_page.json chooses
    <!-- results:end -->

`python -m runs.publish --readme $(git grep -l results:begin "*.md")` writes them all. A test fails where they differ.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import suggestions
from runs.compare import load, markdown, over_seeds, table, tested
from runs.compare.efficiency import reached
from runs.groups import Group, group, reach
from runs.progress import duration
from runs.reader import RECORDS
from runs.score import number, short

FRONT = "front_page"
BLOCK = re.compile(r"(<!-- results:begin ([\w. ]+) -->\n).*?(<!-- results:end -->)", re.DOTALL)
IMAGES = (
    " Of image sets they are images shown, and what is evaluated is the error on validation images; "
    'a test error "with 10" is that of ten views or rollouts of each image together.'
)


def rewritten(page: Path, published: Path) -> str:
    """A page's text with its results as the records have them.

    Raises FileNotFoundError without the page, ValueError where it has no place for results or names an unknown topic.
    """
    text = page.read_text(encoding="utf-8")
    if not BLOCK.search(text):
        raise ValueError(
            f"{page} has no place for results: add the lines <!-- results:begin TOPIC --> and <!-- results:end -->"
        )
    return BLOCK.sub(lambda found: f"{found[1]}{block(found[2].split(), published, page)}\n{found[3]}", text)


def write(pages: Sequence[Path], published: Path) -> list[Path]:
    """Write the results of pages anew, and draw the learning curves of their topics. Returns the files written."""
    from runs.curves import draw

    written = []
    for page in pages:
        page.write_text(rewritten(page, published), encoding="utf-8")
        written.append(page)
        for topic in " ".join(words for _, words, _ in BLOCK.findall(page.read_text(encoding="utf-8"))).split():
            picture = published / (f"{FRONT}.png" if topic == FRONT else f"{topic}/curves.png")
            groups = chosen(published) if topic == FRONT else of_topic(topic, published)
            first = groups[0].runs[0].folder.parents[1]  # the front page shows one topic's
            draw([each for each in groups if first in each.runs[0].folder.parents], picture)
            written.append(picture)
    return list(dict.fromkeys(written))


def block(topics: Sequence[str], published: Path, page: Path) -> str:
    """The text between two marks of a page. Links are relative to its folder."""
    if FRONT in topics:
        return front(published, page)
    groups = [each for topic in topics for each in of_topic(topic, published)]
    note = (
        "Three seeds and more: mean ± its 95% interval (Student's t over seeds); two are too few for one: mean, and "
        "both. One seed: its evaluation, with the standard deviation (sd) over games. Steps are agent steps."
    )
    note += IMAGES * any(run.tested for each in groups for run in each.runs)
    text = [markdown(*_without_empty(*table(groups))), note]
    if page.resolve().parent in [(published / topic).resolve() for topic in topics]:  # the topic's own page
        text += [f"![Learning curves: {topic}]({_link(published / topic / 'curves.png', page)})" for topic in topics]
        text += [minutes for topic in topics if (minutes := time_to_score(groups, published / topic))]
        text += ["\n".join(map(_recipe, groups))]
    else:
        links = ", ".join(f"[{topic}]({_link(published / topic, page)})" for topic in topics)
        text += [f"Learning curves, commands, commits, hardware and notes: {links}."]
    return "\n\n".join(text)


def time_to_score(groups: Sequence[Group], topic: Path) -> str:
    """A table of the minutes in which each group first reaches a score, of the worlds that thresholds.json names.

    The file is {world: [score, ...]}; without it, and where nothing reaches any of its scores, the text is empty.
    """
    path = topic / "thresholds.json"
    wanted = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = []
    for each in groups:
        for threshold in wanted.get(each.world, ()):
            hours = [reached(run, threshold, "hours") for run in each.runs]
            if any(hour is not None for hour in hours):
                minutes = ", ".join("never" if hour is None else f"{60 * hour:.0f}" for hour in hours)
                rows.append(
                    (each.world, threshold, min(hour for hour in hours if hour is not None), each.name, minutes)
                )
    if not rows:
        return ""
    rows.sort(key=lambda row: (*row[:2], row[2]))
    cells = [[world, f"{threshold:g}", name, minutes] for world, threshold, _, name, minutes in rows]
    return (
        "Minutes from the start, evaluations included, until an evaluation is first at a score, interpolated between "
        "two of them; seed by seed. Machines and what else ran on them are below.\n\n"
        + markdown(["world", "score", "program", "minutes"], cells)
    )


def of_topic(topic: str, published: Path) -> list[Group]:
    """The groups of a topic's records. Raises ValueError where nothing is published in it."""
    topics = sorted({path.parents[1].name for path in published.glob(f"*/*/{RECORDS}")})
    if topic not in topics:
        raise ValueError(f"nothing is published in {topic!r}: {suggestions.one_of(topic, topics, 'there are')}")
    return group(load([published / topic]))


def chosen(published: Path) -> list[Group]:
    """The groups of the front page, in its order.

    Raises ValueError where front_page.json names something else than records without their seed: "atari/Pong/dqn".
    """
    names = json.loads((published / f"{FRONT}.json").read_text(encoding="utf-8"))
    found = {}
    for topic in dict.fromkeys(name.partition("/")[0] for name in names):
        for each in of_topic(topic, published):
            run = each.runs[0]
            found[run.folder.relative_to(published).as_posix().removesuffix(f"-{run.seed}")] = each
    if unknown := [name for name in names if name not in found]:
        raise ValueError(
            f"{FRONT}.json: no record {unknown[0]!r}: {suggestions.one_of(unknown[0], found, 'there are')}"
        )
    return [found[name] for name in names]


def front(published: Path, page: Path) -> str:
    """The table of the front page, and the learning curves of its first topic."""
    groups = chosen(published)
    head = ["world", "program", "seeds", "score", "of", "steps", "wall time"]
    rows = []
    for each in groups:
        world = ", ".join(filter(None, (each.world, each.protocol)))
        seeds = ", ".join(str(run.seed) for run in each.runs)
        steps, seconds = [run.step for run in each.runs], [run.seconds for run in each.runs]
        rows.append([world, each.name, seeds, *_score(each), reach(steps, short), reach(seconds, duration)])
    note = (
        "Mean over whole games with its 95% interval, seed by seed; of three seeds and more, mean over seeds ± its "
        "95% interval (Student's t). Steps are agent steps, or images. On "
    )
    picture = f"![Learning curves]({_link(published / f'{FRONT}.png', page)})"
    return f"{markdown(head, rows)}\n\n{note}{_machines(groups)}.\n\n{picture}"


def _score(each: Group) -> tuple[str, str]:
    """The score of a group, and where it is from: test images, games played afterwards, or the last evaluation."""
    if any(run.tested for run in each.runs):
        return tested(each, each.score.suffix), f"test {each.score.name}"
    played = [run.published["played"] for run in each.runs]
    if not all(played):
        return over_seeds([run.final and run.final[each.score.metric] for run in each.runs]), "last evaluation"
    score = "; ".join(map(_mean, played)) if len(played) < 3 else over_seeds([one["mean"] for one in played])
    how = {(one["games"], one["checkpoint"], ", greedy" * bool(one.get("greedy"))) for one in played}
    return score, " or ".join("{} games, {} weights{}".format(*each) for each in sorted(how))


def _recipe(each: Group) -> str:
    """A line with what is needed to reproduce a group's result."""
    runs, first = each.runs, each.runs[0]
    commits = sorted({str(run.about["commit"]) for run in runs if run.about.get("commit")})
    dates = sorted({run.published["date"] for run in runs})
    notes = {run.seed: run.published["note"] for run in runs if run.published["note"]}
    same = len({run.published["note"] for run in runs}) == 1
    facts = [f"`{first.about['command']}`"] if first.about.get("command") else []
    facts += [f"commit {', '.join(commits)}"] if commits else []
    facts += [f"on {_machines([each])}"] if _machines([each]) else []
    facts += [" to ".join(dict.fromkeys((dates[0], dates[-1])))]
    played = "; ".join(_played(run.seed, run.published["played"]) for run in runs if run.published["played"])
    facts += [f"played afterwards (mean and 95% interval): {played}"] if played else []
    title = " · ".join(part for part in (each.world, each.protocol, each.name) if part)
    said = [first.published["note"]] if same else [f"Seed {seed}: {note}" for seed, note in notes.items()]
    return f"- **{title}**: {'; '.join(facts)}. {' '.join(said)}".rstrip()


def _played(seed: int | None, played: dict[str, Any]) -> str:
    """A seed's score in the games played afterwards with its saved weights, as text."""
    how = ", playing greedily" if played.get("greedy") else ""
    mean, _, interval = _mean(played).partition(" ")
    games = f" {interval} over {played['games']} games" if interval else " in one game"
    return f"seed {seed}, {played['checkpoint']} weights (step {played['step']:,}){how}: **{mean}**{games}"


def _mean(played: dict[str, Any]) -> str:
    """ "19.4 [19.1, 19.7]", with the decimals of the largest; the mean alone of one game."""
    if played["games"] == 1:
        return number(played["mean"])
    largest = max(abs(played["low"]), abs(played["high"]))
    return "{} [{}, {}]".format(*(number(played[word], largest) for word in ("mean", "low", "high")))


def _machines(groups: Sequence[Group]) -> str:
    found = set()
    for hardware in (run.about.get("hardware") or {} for each in groups for run in each.runs):
        parts = [hardware.get("gpu"), hardware.get("processor")]
        parts += [f"{hardware['cores']} cores"] if "cores" in hardware else []
        found.add(", ".join(part for part in parts if part))
    return " and ".join(sorted(filter(None, found)))


def _without_empty(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The table without its empty columns."""
    kept = [index for index in range(len(head)) if any(row[index] != "–" for row in rows)]
    return [head[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _link(path: Path, page: Path) -> str:
    return os.path.relpath(path, page.resolve().parent).replace(os.sep, "/")
