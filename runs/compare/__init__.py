"""Comparison of runs, from their folders or from W&B.

__main__.py        `python -m runs.compare`
loading.py         finds and reads the runs
from_wandb.py      reads the runs of a W&B project
to_wandb.py        makes the comparison in W&B: tables, report, workspace
by_world.py        the table of seeds in each world, and tables as text
aggregate.py       agents over worlds: normalized scores and their statistics
efficiency.py      scores at shares of a budget, and time to a threshold
caveats.py         what speaks against a comparison
sections.py        all tables, as text, Markdown and LaTeX
numbers.py         the statistics unrounded, for JSON and CSV
pictures.py        the picture of agents over worlds
report.py          the HTML report; report.css and report.js are in it
"""

from runs.compare.by_world import markdown, over_seeds, show, table, tested
from runs.compare.loading import check_metric, find_runs, load
from runs.groups import interval

__all__ = ["check_metric", "find_runs", "interval", "load", "markdown", "over_seeds", "show", "table", "tested"]
