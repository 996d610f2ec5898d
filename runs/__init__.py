"""What was tried, how far it got, how it compares.

run.py         Run, Options: a folder, a clock, a log, checkpoints
launch.py      from a command line to a running program
machine.py     the device and its settings, random states, hardware in words
checkpoint.py  atomic, checksummed files
mirror.py      the folder's copy in W&B
progress.py    what a person sees meanwhile
compare.py     python -m runs.compare: a table and a picture of many runs
publish.py     python -m runs.publish: the small record that the README quotes
published/     those records
"""

from runs.launch import launch
from runs.machine import prepare
from runs.run import Options, Run, RunError

__all__ = ["Options", "Run", "RunError", "launch", "prepare"]
