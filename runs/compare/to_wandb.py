"""A comparison made in W&B itself: its tables with films, its pictures, and a report and a workspace with panels.

    python -m runs.compare results/Pong --wandb
    python -m runs.compare wandb:team/saccade wandb:team/older --wandb --wandb-project team/saccade

A run of the kind "compare" holds the tables: a line a run, with its scores, its newest film and the flags in which
the runs differ; the tables that are printed; the pictures. Without a key it is an offline run, to be uploaded by
`wandb sync`. Online, a report and a workspace (by wandb-workspaces, the extra `wandb`) show the compared runs, seeds
grouped, and those tables. They show runs that W&B has: offline ones are uploaded first.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs.compare import from_wandb
from runs.compare.report import newest_film
from runs.compare.sections import Section, as_markdown
from runs.groups import Group, flags
from runs.printing import one_line
from runs.reader import RunRecord
from runs.wandb_mirror import logged_in

WIDE = 24  # columns of a report's grid


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run is in W&B: entity ("" for the account's own), project and id ("" for a published record)."""

    entity: str
    project: str
    identity: str


def place_of(run: RunRecord) -> Place:
    """Where W&B has a run, or would have it once it is uploaded."""
    if from_wandb.is_project(run.folder):
        return Place(*str(run.folder).removeprefix(from_wandb.PREFIX).split("/"))
    project = run.config.get("wandb_project") or os.environ.get("WANDB_PROJECT") or "saccade"
    identity = "" if run.published is not None else run.about.get("id", "")
    return Place(run.config.get("wandb_entity") or "", project, identity)


def differing(groups: Sequence[Group]) -> list[str]:
    """The flags in which the groups of some world and program differ, in order."""
    found: set[str] = set()
    for each in groups:
        for other in groups:
            if (each.world, each.program) == (other.world, other.program) and each is not other:
                one, two = (flags(group.runs[0]) for group in (each, other))
                found |= {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    return sorted(found - {"name"})


def runs_table(groups: Sequence[Group], film: Any = None) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the table of runs. film: of a path, what a cell holds; None: no films."""
    keys = differing(groups)
    head = ["world", "protocol", "agent", "seed", "status", "steps", "score", "last", "best", *keys, "film"]
    rows = []
    for group in groups:
        for run in group.runs:
            word, known = run.score.metric, flags(run)
            scores = [line[word] if line else None for line in (run.final, run.best)]
            path = newest_film(run.folder)
            row = [run.world, run.protocol, group.name, run.seed, run.status, run.step, word, *scores]
            shown = film(path) if film and path else None
            rows.append([*row, *(known.get(key) for key in keys), shown])
    return head, rows


def publish(
    groups: Sequence[Group],
    found: Sequence[Section],
    warnings: Sequence[str],
    pictures: Sequence[Path],
    page: Path | None,
    target: str | None,
    folder: Path,
) -> list[str]:
    """Make the comparison in W&B. Returns what to tell the user, in lines.

    page: the HTML report, if one was written. target: "entity/project" or a project; None: where the first run is.
    folder: where W&B's own files go. Raises ValueError where W&B cannot be imported or does not answer.
    """
    try:
        import wandb
    except ImportError as error:
        raise ValueError("--wandb needs W&B's client: pip install wandb") from error
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault(
        "WANDB_DATA_DIR", str((folder / "wandb" / "data").absolute())
    )  # films wait there for a sync
    places = [place_of(run) for group in groups for run in group.runs]
    entity, _, project = (target or "").rpartition("/")
    entity, project = entity or places[0].entity, project or places[0].project
    online = logged_in() and os.environ.get("WANDB_MODE", "online") == "online"
    title = f"Comparison of {len(places)} run{'s' * (len(places) != 1)}"
    try:
        run = wandb.init(
            entity=entity or None, project=project, name=title, group="comparisons", job_type="compare",
            dir=str(folder), mode="online" if online else "offline", config={"runs": [p.identity for p in places]},
            settings=wandb.Settings(silent=True, console="off", init_timeout=60),
        )  # fmt: skip
        head, rows = runs_table(groups, lambda path: wandb.Video(str(path), format=path.suffix[1:]))
        run.log({"compare/runs": wandb.Table(columns=head, data=rows)})
        for section in found:
            run.log({f"compare/{_slug(section.title)}": wandb.Table(columns=section.head, data=section.rows)})
        for path in pictures:
            run.log({f"compare/{_slug(path.stem)}": wandb.Image(str(path))})
        if page is not None:
            run.log({"compare/report": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
        here, run_entity = Path(run.dir).parent, run.entity or entity
        run.finish()
        if not online:
            return [f"W&B offline, to upload: wandb sync {here}", "the report is made where W&B is logged in"]
        target_place = Place(run_entity, project, run.id)
        views = _views(groups, [dataclasses.replace(p, entity=p.entity or run_entity) for p in places], target_place)
        return [f"W&B: {run.url}", *_save(views, title, found, warnings, target_place, pictures)]
    except Exception as error:  # the client has a dozen kinds
        raise ValueError(f"W&B has not taken the comparison: {one_line(str(error))[:300]}") from None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclasses.dataclass(frozen=True)
class View:
    """What a panel grid shows: a world's runs by project, and the metric of their scores."""

    world: str
    metric: str
    runs: dict[tuple[str, str], list[str]]  # (entity, project) -> ids
    keys: list[str]  # of the config, by which runs are grouped


def _views(groups: Sequence[Group], places: Sequence[Place], target: Place) -> list[View]:
    """The views of a comparison, one for each world and score."""
    found: dict[tuple[str, str], View] = {}
    keys, position = ["program", *differing(groups)], 0
    for group in groups:
        view = found.setdefault((group.world, group.score.metric), View(group.world, group.score.metric, {}, keys))
        for _ in group.runs:
            place = places[position]
            position += 1
            if place.identity:
                view.runs.setdefault((place.entity, place.project), []).append(place.identity)
    return [view for view in found.values() if view.runs]


def _save(
    views: Sequence[View],
    title: str,
    found: Sequence[Section],
    warnings: Sequence[str],
    target: Place,
    pictures: Sequence[Path],
) -> list[str]:
    """Save the report and the workspace. Returns their addresses, or what they need."""
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        return ['a report with panels needs wandb-workspaces: pip install "saccade[wandb]"']
    identity = workspaces.Metric("ID")
    tables = reports.PanelGrid(
        runsets=[
            reports.Runset(target.entity, target.project, "comparison", filters=[identity.isin([target.identity])])
        ],
        panels=[
            reports.WeavePanelSummaryTable(table_name="compare/runs", layout=reports.Layout(0, 0, WIDE, 12)),
            reports.MediaBrowser(
                media_keys=[f"compare/{_slug(path.stem)}" for path in pictures],
                layout=reports.Layout(0, 12, WIDE, 12),
            ),
        ],
    )
    blocks: list[Any] = [reports.P("Made by python -m runs.compare --wandb. Curves are means over seeds.")]
    if warnings:
        blocks += [reports.H2("Warnings"), reports.UnorderedList(items=list(warnings))]
    blocks += [reports.H2("Runs"), tables]
    for view in views:
        runsets = [
            reports.Runset(
                entity, project, f"{entity}/{project}", filters=[identity.isin(ids)],
                groupby=[f"config.{key}" for key in view.keys],
            )
            for (entity, project), ids in view.runs.items()
        ]  # fmt: skip
        blocks += [reports.H2(view.world), reports.PanelGrid(runsets=runsets, panels=_panels(reports, view))]
    blocks += [reports.H2("Tables"), reports.MarkdownBlock(as_markdown(found, ()))]
    report = reports.Report(target.project, target.entity, title, blocks=blocks, width="fluid").save()
    (own, *_) = [*[v for v in views if (target.entity, target.project) in v.runs], None]
    lines = [f"W&B report: {report.url}"]
    if own is not None:
        ids = [each for view in views for each in view.runs.get((target.entity, target.project), [])]
        workspace = workspaces.Workspace(
            target.entity,
            target.project,
            title,
            sections=[
                workspaces.Section(name=view.world, panels=_panels(reports, view), is_open=True) for view in views
            ],
            runset_settings=workspaces.RunsetSettings(
                filters=[identity.isin(ids)], groupby=[workspaces.Config(key) for key in own.keys]
            ),
        ).save()
        lines.append(f"W&B workspace: {workspace.url}")
    return lines


def _panels(reports: Any, view: View) -> list[Any]:
    """The panels of a view: curves along steps, last scores, films, and the flags side by side."""
    half = WIDE // 2
    curves = {"x": "step", "y": [view.metric], "groupby_rangefunc": "minmax", "title": f"{view.metric} by step"}
    return [
        reports.LinePlot(**curves, layout=reports.Layout(0, 0, half, 10)),
        reports.BarPlot(title=view.metric, metrics=[view.metric], layout=reports.Layout(half, 0, half, 10)),
        reports.MediaBrowser(media_keys=["eval/film"], layout=reports.Layout(0, 10, half, 10)),
        reports.RunComparer(diff_only="split", layout=reports.Layout(half, 10, half, 10)),
    ]
