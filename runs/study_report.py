"""The page and the record of a study: its picture, its table, and the command, machine and commit behind them.

Both stand beside the picture, .md and, with the figures of every trial, .json. Published studies are these files, in
runs/published.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from runs import groups, machine, output
from runs.compare import markdown
from runs.printing import compact_json, printable


def write(
    out: Path,
    program: str,
    device: torch.device,
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    note: str,
    trials: Iterable[dict[str, Any]] = (),
) -> None:
    """Write the page and the record beside a study's picture, as .md and .json.

    out: of the picture; a .json is that of a study without one. program: the module in the command. head, rows: of
    the table. note: what its figures are.
    trials: the rows of the study's file, of which the record leaves out the config.
    Raises RunError where they cannot be written.
    """
    about = machine.circumstances(program, device)
    where, date = about["hardware"], datetime.now(UTC).date().isoformat()
    parts = [
        f"# {title}",
        *([f"![{title}]({out.name})"] if out.suffix != ".json" else []),
        markdown(head, list(rows)),
        note,
        f"    {about['command']}",
        f"On {where['processor']}, {where['cores']} cores, torch {about['versions']['torch']}, commit "
        f"{about['commit']}, {date}.",
    ]
    output.write(out.with_suffix(".md"), printable("\n\n".join(parts)) + "\n", "--out")
    measured = [{key: value for key, value in trial.items() if key != "config"} for trial in trials]
    record = {"title": title, "note": note, "trials": measured, "program": program, **about, "date": date}
    output.write(out.with_suffix(".json"), compact_json(json.loads(json.dumps(record, default=str))) + "\n", "--out")


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], width: int = 120) -> None:
    """Print the table of a study. width: columns, where it is not printed on a terminal."""
    table = Table(*head, title=printable(title))
    for row in rows:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else width).print(table)


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of some values and half its 95% interval (Student's t); None for a single value."""
    return groups.interval(values) if len(values) > 1 else (values[0], None)


def plus_minus(mean: float, half: float | None, sign: str = "") -> str:
    """A mean with half its interval, as "41.20 ± 0.50". sign: "+" for one before numbers above 0."""
    return f"{mean:{sign}.2f}" + (f" ± {half:.2f}" if half is not None else "")
