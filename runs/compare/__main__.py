"""Compare runs, from their folders or from W&B: tables, learning curves, statistics over worlds, and an HTML report.

    python -m runs.compare results/Breakout
    python -m runs.compare results --metric episode/return --x hours --band interval
    python -m runs.compare results --html report.html    # curves, tables and films on one page
    python -m runs.compare results --threshold 18 --csv runs.csv --md tables.md --tex tables.tex
    python -m runs.compare runs/published/atari results/Pong --markdown > table.md
    python -m runs.compare results --json groups.json    # every number, unrounded
    python -m runs.compare wandb:team/saccade results/Pong     # runs of a W&B project beside those of a folder
    python -m runs.compare results/Pong --wandb          # tables with films, a report and a workspace in W&B itself

Runs of one world, protocol, program and configuration are the seeds of one row and are averaged; runs under
different protocols never are. With three seeds or more, a score is the mean over seeds and the 95% interval of
that mean (Student's t). Two seeds are too few for an interval: both scores are shown beside their mean. With one seed
it is that seed's evaluation and the standard deviation over its games. Each run's config.json names its score and
whether more of it is better. The best evaluation is the maximum of many noisy ones and therefore biased upwards:
compare by the final one.

Agents that share several worlds are compared over them by IQM, median, mean and optimality gap of normalized final
scores, by performance profiles and by probability of improvement, with stratified bootstrap intervals (Agarwal et al.
2021; runs/statistics.py). Atari games are human-normalized. Reasons to doubt a comparison are printed to stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from runs import export, flag_types, flags
from runs.compare import numbers
from runs.compare.aggregate import Block, blocks
from runs.compare.by_world import show, table
from runs.compare.caveats import caveats
from runs.compare.loading import check_metric, load
from runs.compare.sections import as_markdown, as_tex, sections
from runs.flag_types import Count, NonNegative
from runs.groups import Group, group
from runs.printing import printable


@dataclasses.dataclass(frozen=True)
class Config:
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = (
        Path("results"),
    )  # runs, folders of runs, wandb:entity/project
    metric: str | None = None  # metric word that the picture shows; None: each run's own score
    x: Literal["steps", "frames", "hours"] = "steps"  # hours are wall time
    out: Path = Path("results/compare.png")  # the picture, .png or .svg; agents over worlds go to <name>-worlds
    smooth: Count = 1  # points in the curves' running mean; 1 leaves them as measured
    band: Literal["range", "interval"] = "range"  # lowest to highest seed, or 95% interval of the mean
    normalize: Literal["auto", "human", "range", "none"] = "auto"  # scores over worlds; range: of the runs compared
    threshold: tuple[float, ...] = ()  # scores: a table of the steps, frames and hours until each is reached
    markdown: bool = False  # print the table as Markdown
    csv: Path | None = None  # file for a line a run
    json: Path | None = None  # file for the groups, their scores and runs, and the statistics over worlds
    md: Path | None = None  # file for all tables as Markdown
    tex: Path | None = None  # file for all tables as LaTeX
    html: Path | None = None  # file for the report: one page with curves, tables and films, without a network
    film_megabytes: NonNegative = 20.0  # MB of films in the report at most
    wandb: bool = False  # make the comparison in W&B: tables with films, a report and a workspace; offline: tables
    wandb_project: str | None = None  # where to: entity/project; None: that of the first run


def main() -> None:
    config = flags.parse(Config, "runs.compare", __doc__)
    try:
        flag_types.check(config)
        runs = load(config.folders)
        check_metric(runs, config.metric)
    except (OSError, ValueError) as error:
        sys.exit(printable(f"error: {error}"))
    groups = group(runs)
    try:
        over = blocks(groups, config.normalize)
    except ValueError as error:
        sys.exit(printable(f"error: {error}"))
    show(*table(groups, config.metric), as_markdown=config.markdown)
    for section in sections(groups, over, config.threshold, config.metric, few=True)[1:]:
        print(f"\n{section.title}" if not config.markdown else f"\n## {section.title}\n")
        show(section.head, section.rows, as_markdown=config.markdown)
        print(f"\n{section.note}" if config.markdown else section.note)
    warnings = caveats(groups)
    for warning in warnings:
        print(printable(f"warning: {warning}"), file=sys.stderr)
    if failed := _write(config, groups, over, warnings):
        sys.exit(failed)


def _write(config: Config, groups: Sequence[Group], over: Sequence[Block], warnings: Sequence[str]) -> str:
    """Write the files asked for and the pictures. Returns a message for those that could not be written."""
    from runs.compare import pictures, report  # matplotlib takes a second: the table comes first
    from runs.curves import NothingToDraw, draw

    failed: list[str] = []
    if config.md or config.tex or config.html:
        found = sections(groups, over, config.threshold, config.metric)
    writers = {
        "csv": lambda: export.as_csv(groups, lambda run: numbers.reached(run, config.threshold)),
        "json": lambda: export.as_json(groups, numbers.state(groups, over, config.threshold, warnings)),
        "md": lambda: as_markdown(found, warnings),
        "tex": lambda: as_tex(found, warnings),
        "html": lambda: report.html(groups, over, found, warnings, config.metric, config.x, config.film_megabytes),
    }
    for flag, text in writers.items():
        if (path := getattr(config, flag)) is not None:
            with _written(path, flag, failed):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text(), encoding="utf-8")
    with _written(config.out, "out", failed):
        try:
            for note in draw(groups, config.out, config.metric, config.x, config.smooth, config.band):
                print(f"not in the picture: {note}", file=sys.stderr)
        except NothingToDraw as error:
            print(f"no picture: {error}", file=sys.stderr)
        else:
            print(printable(f"picture: {config.out}"), file=sys.stderr)
    if any(block.telling for block in over):
        worlds = config.out.with_name(f"{config.out.stem}-worlds{config.out.suffix}")
        with _written(worlds, "out", failed):
            pictures.draw(over, worlds, config.x)
            print(printable(f"picture: {worlds}"), file=sys.stderr)
    if config.wandb:
        from runs.compare import to_wandb

        drawn = [path for path in (config.out, config.out.with_name(f"{config.out.stem}-worlds{config.out.suffix}"))]
        shown = [path for path in drawn if path.suffix == ".png" and path.exists()]
        page = config.html if config.html and config.html.exists() else None
        found = sections(groups, over, config.threshold, config.metric)
        try:
            for line in to_wandb.publish(
                groups, found, warnings, shown, page, config.wandb_project, config.out.parent
            ):
                print(printable(line), file=sys.stderr)
        except ValueError as error:
            failed.append(f"error: {error}")
    return printable("\n".join(failed))


@contextlib.contextmanager
def _written(path: Path, flag: str, failed: list[str]) -> Iterator[None]:
    """Note why a file could not be written, and go on to the next."""
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        failed.append(f"error: cannot write {path} ({why}): choose another place with --{flag}")


if __name__ == "__main__":
    main()
