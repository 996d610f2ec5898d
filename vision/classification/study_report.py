"""The Markdown page of a study: its picture, its table, and the command, machine and commit that measured them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from runs import groups, machine, output
from runs.compare import markdown
from runs.printing import printable


def write(
    out: Path,
    program: str,
    device: torch.device,
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    note: str,
) -> None:
    """Write the page beside a study's picture, as .md.

    out: of the picture. program: the module in the command. head, rows: of the table. note: what its figures are.
    Raises RunError where it cannot be written.
    """
    about = machine.circumstances(program, device)
    where, date = about["hardware"], datetime.now(UTC).date().isoformat()
    parts = [
        f"# {title}",
        f"![{title}]({out.name})",
        markdown(head, rows),
        note,
        f"    {about['command']}",
        f"On {where['processor']}, {where['cores']} cores, torch {about['versions']['torch']}, commit "
        f"{about['commit']}, {date}.",
    ]
    output.write(out.with_suffix(".md"), printable("\n\n".join(parts)) + "\n", "--out")


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean of some values and half its 95% interval (Student's t); None for a single value."""
    return groups.interval(values) if len(values) > 1 else (values[0], None)


def plus_minus(mean: float, half: float | None, sign: str = "") -> str:
    """A mean with half its interval, as "41.20 ± 0.50". sign: "+" for one before numbers above 0."""
    return f"{mean:{sign}.2f}" + (f" ± {half:.2f}" if half is not None else "")
