"""The HTML report of a comparison: one file with curves, tables and films, which asks no network for anything.

Curves show values under the cursor, along steps, frames or hours; runs can be switched off, and tables sorted. The
page is report.css and report.js around a JSON object, which is all that a name from a run's folder can get into; a
content security policy forbids every request.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from runs import statistics
from runs.compare.aggregate import Block
from runs.compare.by_world import WORDS
from runs.compare.pictures import profile_thresholds
from runs.compare.sections import Section
from runs.curves import MEANING, arrange, distinct, thin
from runs.groups import Group
from runs.printing import one_line, printable
from runs.reader import RunRecord

HERE = Path(__file__).resolve().parent
FILMS = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif"}
POINTS = 400_000  # of all curves together: about 10 MB
MOST, FEWEST = 1000, 50  # points of a curve
LEFT_WORDS = {*WORDS, "X", "Y"}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main id="page"></main>
<noscript>This report is drawn by a script that is part of it.</noscript>
<script type="application/json" id="data">{data}</script>
<script>
{script}</script>
</body>
</html>
"""
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def html(
    groups: Sequence[Group],
    blocks: Sequence[Block],
    sections: Sequence[Section],
    warnings: Sequence[str],
    metric: str | None = None,
    x: str = "steps",
    megabytes: float = 20.0,
) -> str:
    """The report as text.

    metric: what the curves show; None: each run's own score. x: what they begin along. megabytes: of films at most,
    in base64; a sentence of the report says what was left out.
    """
    runs = [run for each in groups for run in each.runs]
    films, left_out = _films(groups, megabytes)
    data = {
        "title": f"Comparison of {len(runs)} run{'s' * (len(runs) != 1)}",
        "about": f"Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by python -m runs.compare, from: "
        + ", ".join(sorted({printable(run.folder.parent) for run in runs})[:6]),
        "x": x,
        "warnings": list(warnings),
        "panels": _panels(groups, metric),
        "curves": "Lines are means over the seeds that are switched on, where all of them have been; nothing is "
        "extrapolated. Bands reach from the lowest to the highest seed.",
        "profiles": [_profile(block) for block in blocks if block.telling],
        "sections": [
            {
                "title": section.title,
                "head": section.head,
                "rows": section.rows,
                "note": section.note,
                "words": [name in LEFT_WORDS or not at for at, name in enumerate(section.head)],
            }
            for section in sections
        ],
        "films": films,
        "left_out": left_out,
    }
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return PAGE.format(policy=POLICY, title=data["title"], style=style, script=script, data=embedded(data))


def embedded(data: Any) -> str:
    """JSON that can stand in a script element of a page: without <, > and &, which could end it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _panels(groups: Sequence[Group], metric: str | None) -> list[dict[str, Any]]:
    panels, _ = arrange(groups, metric, "steps")
    colors = distinct([(f"{each.title} {each.metric}", label) for each in panels for _, label in each.groups])
    count = sum(len(group.runs) for each in panels for group, _ in each.groups)
    most = int(np.clip(POINTS // max(count, 1), FEWEST, MOST))
    found = []
    for each in panels:
        members = [
            {"label": label, "color": colors[label], "runs": [_run(run, each.metric, most) for run in group.runs]}
            for group, label in each.groups
        ]
        unit = each.groups[0][0].runs[0].unit
        meaning, score = MEANING.get(each.metric, each.metric), each.groups[0][0].score
        if each.metric == score.metric and each.metric not in MEANING and score.unit:
            meaning += f" ({score.unit})"
        found.append({"title": each.title, "meaning": meaning, "unit": unit, "groups": members})
    return found


def _run(run: RunRecord, metric: str, most: int) -> dict[str, Any]:
    steps, values = run.curve(metric)
    hours, _ = run.curve(metric, "hours")
    every = np.stack([values, hours]) if len(hours) else values[None]
    steps, kept = thin(steps, every, most)
    return {
        "seed": "none" if run.seed is None else str(run.seed),
        "status": run.status,
        "frames": run.frames_per_step,
        "steps": _rounded(steps, 12),
        "values": _rounded(kept[0]),
        "hours": _rounded(kept[1]) if len(hours) else [],
    }


def _profile(block: Block) -> dict[str, Any]:
    thresholds = profile_thresholds(block)
    agents = []
    for agent in block.ranked:
        share, low, high = statistics.performance_profile(block.scores[agent], thresholds)
        band = {} if np.isnan(low).any() else {"low": _rounded(low), "high": _rounded(high)}
        agents.append({"name": agent, "share": _rounded(share)} | band)
    order = slice(None, None, -1) if block.better == "min" else slice(None)  # of raw scores, which are negated
    for each in agents:
        each |= {word: each[word][order] for word in ("share", "low", "high") if word in each}
    places = (-thresholds if block.better == "min" else thresholds)[order]
    return {"title": block.title, "unit": block.unit, "thresholds": _rounded(places), "agents": agents}


def _rounded(values: np.ndarray, digits: int = 6) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def _films(groups: Sequence[Group], megabytes: float) -> tuple[list[dict[str, str]], str]:
    """The newest film of each group's best run, as base64, as long as they fit; and a sentence about the others."""
    films, room, missing = [], megabytes * 1e6, []
    for each in groups:
        evaluated = [run for run in each.runs if run.final]
        best = each.score.best([run.final[each.score.metric] for run in evaluated]) if evaluated else None
        runs = [run for run in evaluated if run.final[each.score.metric] == best] or each.runs
        path = newest_film(runs[0].folder)
        if path is None:
            continue
        size = 4 * -(-path.stat().st_size // 3)  # in base64
        if size > room:
            missing.append((path, size))
            continue
        room -= size
        title = ", ".join(
            filter(None, (each.world, each.protocol, each.name, f"seed {runs[0].seed}", _spaced(path.stem)))
        )
        data = base64.b64encode(path.read_bytes()).decode()
        films.append({"title": one_line(title), "kind": FILMS[path.suffix], "data": data})
    if not missing:
        return films, ""
    total = sum(size for _, size in missing) / 1e6
    names = ", ".join(printable(path) for path, _ in missing[:3]) + " ..." * (len(missing) > 3)
    return films, f"Left out, for --film-megabytes {megabytes:g}: {len(missing)} films of {total:.1f} MB ({names})."


def _spaced(name: str) -> str:
    """The name of a film with its step as a number: "step-000000016000" is "step 16,000"."""
    return re.sub(r"step-0*(\d+)", lambda found: f"step {int(found[1]):,}", name)


def newest_film(folder: Path) -> Path | None:
    """The film of a run's folder whose name, which begins with its step, comes last."""
    here = [path for place in (folder / "videos", folder) if place.is_dir() for path in sorted(place.iterdir())]
    found = [path for path in here if path.suffix in FILMS and path.is_file() and not path.is_symlink()]
    return found[-1] if found else None
