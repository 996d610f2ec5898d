"""Faults injected into every program: `python -m tests.faults`, see __main__.py.

programs.py    the programs, small
server.py      forks that run them; process.py asks it
strike.py      faults that strike a program from within
damage.py      faults of files
outcome.py     whether two runs ended alike, and whether a refusal says what it must
case.py        a program on which faults are tried, and the runs that tries are measured by
folders.py     tries of faults of files; running.py of faults of programs that run; tries.py all of them
report.py      the table
"""

import os

# Of the machine's own settings nothing shall matter; and threads are counted when torch is imported.
os.environ.update({"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "COLUMNS": "200"})
for name in [name for name in os.environ if name.startswith("WANDB")]:
    del os.environ[name]
