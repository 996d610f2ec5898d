"""The tables of a comparison as rows of text, and as Markdown and LaTeX."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import groupby

from runs.compare import efficiency
from runs.compare.aggregate import Block
from runs.compare.by_world import WORDS, markdown, over_seeds, table
from runs.groups import Group
from runs.progress import duration
from runs.score import number, short
from runs.statistics import Estimate

INTERVALS = (
    "Brackets are 95% intervals of the stratified bootstrap, widened for few runs (runs/statistics.py); without them "
    "there are too few runs for an interval."
)
UNITS: dict[str, Callable[[float], str]] = {
    "steps": short,
    "frames": short,
    "hours": lambda hours: duration(3600 * hours),
}
TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "·": r"$\cdot$",
        "<": r"\textless{}", ">": r"\textgreater{}", "≤": r"$\leq$", "≥": r"$\geq$",
    }
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Section:
    """A table with its title and a note below it."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def sections(
    groups: Sequence[Group],
    blocks: Sequence[Block],
    thresholds: Sequence[float] = (),
    metric: str | None = None,
    few: bool = False,
) -> list[Section]:
    """All tables of a comparison, the one by world first.

    few: leave out those that say little beside it: aggregates over a single world, and sample efficiency.
    """
    found = [Section("Runs by world", *table(groups, metric))]
    for block in blocks:
        if block.telling or not few:
            found.append(aggregates(block))
            found += [improvements(block)] if block.improvements else []
    if not few:
        found.append(sample_efficiency(groups))
    return found + [time_to(groups, threshold) for threshold in thresholds]


def aggregates(block: Block) -> Section:
    """IQM, median, mean and optimality gap of each agent of a block, the best IQM first."""
    names = list(dict.fromkeys(name for agent in block.ranked for name in block.estimates(agent)))
    rows = []
    for agent in block.ranked:
        runs = sum(map(len, block.scores[agent]))
        found = block.estimates(agent)
        rows.append([agent, str(len(block.worlds)), str(runs), *(bracketed(found[name]) for name in names)])
    note = f"Of the last evaluations: {block.unit}. {INTERVALS}"
    return Section(f"Over {block.title}", ["program", "worlds", "runs", *names], rows, note)


def improvements(block: Block) -> Section:
    """The probability that a run of one agent beats a run of another in the same world, for pairs of a block."""
    rows = [[one, two, bracketed(estimate)] for one, two, estimate in block.improvements]
    note = "Mann-Whitney: the share of pairs of runs in which X scores more, ties one half; mean over worlds."
    return Section(f"Probability of improvement over {block.title}", ["X", "Y", "P(X > Y)"], rows, note)


def sample_efficiency(groups: Sequence[Group]) -> Section:
    """Scores at shares of the budget that the runs of a world have in common, and the mean along the curve."""
    head = ["world", "protocol", "program", "budget", *(f"at {share:.0%}" for share in efficiency.SHARES)]
    rows = []
    for here in by_world(groups):
        end = efficiency.budget(here)
        for each in here:
            scores = [
                over_seeds([efficiency.score_at(run, share * end) for run in each.runs], each.score.suffix)
                for share in efficiency.SHARES
            ]
            whole = over_seeds([efficiency.area(run, end) for run in each.runs], each.score.suffix)
            rows.append([each.world, each.protocol or "–", each.name, short(end), *scores, whole])
    note = (
        "The budget is what all finished runs of a world reach; scores are interpolated between evaluations, never "
        "beyond them, and the mean along the curve is the area under it divided by its length."
    )
    return Section("Sample efficiency", [*head, "mean along the curve"], rows, note)


def time_to(groups: Sequence[Group], threshold: float) -> Section:
    """Steps, frames and hours until the score of each run is at a threshold: medians over runs."""
    rows = []
    for each in groups:
        row = [each.world, each.protocol or "–", each.name]
        there = sum(efficiency.reached(run, threshold) is not None for run in each.runs)
        row.append(f"{there} of {len(each.runs)}")
        for x, form in UNITS.items():
            times = [efficiency.reached(run, threshold, x) for run in each.runs]
            middle, known = efficiency.median_reached(times), [time for time in times if time is not None]
            spread = f" ({form(min(known))} to {form(max(known))})" if len(known) > 1 else ""
            row.append("–" if not known else (f"{form(middle)}" if middle is not None else "not half") + spread)
        rows.append(row)
    note = (
        "Median over runs of where the score first is there, interpolated between evaluations; runs that never are "
        'count as later than all others ("not half": half or more of them). In brackets, those that are.'
    )
    head = ["world", "protocol", "program", "reached", *UNITS]
    return Section(f"Time to a score of {number(threshold)}", head, rows, note)


def by_world(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that compare: those of one world, protocol and score."""
    return [
        list(here) for _, here in groupby(groups, key=lambda each: (each.world, each.protocol, each.score.metric))
    ]


def bracketed(estimate: Estimate) -> str:
    """ "1.23 [1.05, 1.40]"; the value alone without an interval."""
    if estimate.interval is None:
        return number(estimate.value)
    largest = max(abs(estimate.value), *map(abs, estimate.interval)) or 1.0
    low, high = (number(end, largest) for end in estimate.interval)
    return f"{number(estimate.value, largest)} [{low}, {high}]"


def as_markdown(found: Sequence[Section], warnings: Sequence[str]) -> str:
    """All tables as Markdown, under headings, with the caveats first."""
    parts = ["# Comparison", *(f"- {warning}" for warning in warnings)]
    text = "\n".join(parts[1:])
    blocks = [parts[0], text] if text else [parts[0]]
    for section in found:
        blocks += [f"## {section.title}", markdown(section.head, section.rows)]
        blocks += [section.note] if section.note else []
    return "\n\n".join(blocks) + "\n"


def as_tex(found: Sequence[Section], warnings: Sequence[str]) -> str:
    r"""All tables as LaTeX for \input{}: booktabs' rules, one table environment each."""
    lines = ["% needs \\usepackage{booktabs}", *(f"% {' '.join(warning.split())}" for warning in warnings)]
    for section in found:
        columns = "".join("l" if name in WORDS or not at else "r" for at, name in enumerate(section.head))
        lines += ["", r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [_tex_row(section.head), r"\midrule", *map(_tex_row, section.rows), r"\bottomrule"]
        said = f"{section.title}. {section.note}".strip()
        lines += [r"\end{tabular}", rf"\caption{{{said.translate(TEX)}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _tex_row(cells: Sequence[str]) -> str:
    cells = [" ".join(cell.translate(TEX).split()) for cell in cells]
    cells = [f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells]  # \\[...] would be a length
    return " & ".join(cells) + r" \\"
