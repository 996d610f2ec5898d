"""What was tried, how far it got, how it compares.

run.py         Run, Options: a folder, a clock, a log, checkpoints
folder.py      that folder: whose it is, who has it, what it holds
command.py     from a command line to a running program
flags.py       whole numbers as people write them, --help in groups
machine.py     the device and its settings, random states, hardware in words
threads.py     how many of them torch computes with: as many as cores are free
log.py         metrics.jsonl and clock.jsonl
files.py       how its files are written and read: whole, with a checksum, no links followed
checkpoint.py  all that a run needs to go on
wandb_mirror.py   the folder's copy in W&B, which a process beside the run makes
wandb_process.py  that process
progress.py    what a person sees meanwhile
graph.py       updates as CUDA graphs
profile.py     where the time of its iterations goes
timeline.py    the picture of that
reader.py      runs, read back from their folders or their published records
groups.py      which of them are seeds of one configuration
score.py       what a run is judged by, and how numbers are shown
flag_types.py  what numbers a flag takes
printing.py    text that a terminal does not obey
programs.py    what programs there are; the command saccade
suggestions.py near matches of a name that is unknown
compare.py     python -m runs.compare: a table and a picture of many runs
curves.py      that picture
export.py      that table as CSV and JSON
publish.py     python -m runs.publish: the small record of a finished run
published/     those records
pages.py       what READMEs quote of them
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "Captured": "graph",
    "Finished": "files",
    "Options": "options",
    "Run": "run",
    "RunError": "files",
    "Score": "score",
    "launch": "command",
    "prepare": "machine",
}

__all__ = ["Captured", "Finished", "Options", "Run", "RunError", "Score", "launch", "prepare"]


def __getattr__(name: str) -> Any:
    """Import on first use: the programs that only read folders then start without torch."""
    if name in _MODULES:
        return getattr(import_module(f"runs.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'runs' has no attribute {name!r}")
