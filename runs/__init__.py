"""Runs as folders: checkpoints, resume, logs, W&B, comparison and publishing.

run.py             Run: iterates, times, saves, resumes and logs a training run
options.py         Options: the flags that every program has for its run
tracked.py         Tracked: the parts of a run that its checkpoints hold
summary.py         results and latest metrics in words
score.py           Score: the metric that runs are compared by, and how numbers are shown
folder.py          a run's folder: its lock, its config.json, its writes
checkpoint.py      checkpoint files: atomic, with checksums
files.py           files written whole, with checksums, no links followed
log.py             metrics.jsonl and clock.jsonl
signals.py         Ctrl-C, SIGTERM and SIGHUP
progress.py        progress bar and time left
expected.py        what published runs of a recipe reached, and in which time
machine.py         device, hardware, random states, mixed precision
loss_scaling.py    the scaled loss of float16
threads.py         number of torch threads: as many as cores are free
parallel.py        several processes that train one network: torchrun
ray_connection.py  connections to a Ray cluster, an extra
graph.py           updates captured as CUDA graphs
profile.py         profiler of a run's iterations; trace.py reads its trace, timeline.py draws it
wandb_mirror.py    a copy of the run in W&B, uploaded by a process of its own, wandb_process.py
artifacts.py       files of W&B artifacts: wandb:entity/project/backbone:v3
command.py         launch: from a command line to a running program; of_package: a package's programs
flags.py           command-line flags: parsing, --help in groups
flag_types.py      ranges of numbers as types: Count, Share, Positive
suggestions.py     near matches of unknown names
printing.py        text without terminal escapes
onnx_file.py       networks as ONNX files
torch_export.py    networks as torch.export programs
output.py          files that programs write beside their runs
study_report.py    the page and the record of a study: table, command, machine and commit
hub.py             `python -m runs.hub`: runs on the Hugging Face Hub
programs.py        lists all programs; the command saccade
saved.py           config and weights of a run's folder
lines.py           lines of metrics as columns
reader.py          metrics of runs, from their folders or from published records
groups.py          seeds of one configuration, and their confidence intervals
compare/           `python -m runs.compare`: tables, learning curves and a report of many runs
sweep/             `python -m runs.sweep`: many runs at once, over programs, worlds, seeds and hyperparameters
statistics.py      IQM, performance profiles, probability of improvement, with bootstrap intervals
human_scores.py    human-normalized scores of the Atari games
curves.py          learning curves
export.py          the comparison as CSV and JSON
publish.py         `python -m runs.publish`: a small record of a finished run
published/         published records
pages.py           tables of published records in READMEs
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
    "of_package": "command",
    "prepare": "machine",
}

__all__ = ["Captured", "Finished", "Options", "Run", "RunError", "Score", "launch", "of_package", "prepare"]


def __getattr__(name: str) -> Any:
    """Import on first use: the programs that only read folders then start without torch."""
    if name in _MODULES:
        return getattr(import_module(f"runs.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'runs' has no attribute {name!r}")
