"""Early stopping of a real run that is killed near its end: it is over when it goes on, and tested once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_classification import lines, outcome

ROOT = Path(__file__).resolve().parent.parent
FLAGS = "--backbone=mlp --steps=100000 --batch=64 --evaluate-every=256 --stop-after=2 --learning-rate=1e-9"
FLAGS += " --log-every=256 --augment=none --save-every=0 --wandb=disabled --threads=1 --device=cpu"


def classify(folder, name, killed_at="never"):
    """Run `python -m vision.classification`, killed before a file of that name appears. Returns the exit code."""
    code = (
        "import os, runpy, signal, sys\n"
        f"def strike(event, arguments, at={killed_at!r}):\n"
        "    if event == 'os.rename' and os.path.basename(arguments[1]) == at:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(strike)\n"
        "runpy.run_module('vision.classification', run_name='__main__', alter_sys=True)\n"
    )
    command = [sys.executable, "-c", code, "--data=shapes", f"--folder={folder}", f"--name={name}", *FLAGS.split()]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, timeout=900).returncode


@pytest.mark.slow
def test_killed_between_its_last_save_and_its_end_it_neither_learns_on_nor_tests_twice(tmp_path):
    assert classify(tmp_path, "whole") == 0
    whole = tmp_path / "shapes" / "whole"
    last = max((whole / "checkpoint").glob("0*.json")).name
    assert 256 <= int(Path(last).stem) < 100_000 and outcome(whole)
    for name, at in (("before-the-end", "finished.json"), ("before-the-save", last)):
        assert classify(tmp_path, name, at) == -signal.SIGKILL
        run = tmp_path / "shapes" / name
        assert not (run / "finished.json").exists() and (run / "checkpoint" / last).exists() == (at != last)
        assert classify(tmp_path, name) == 0
        assert (run / "finished.json").exists() and lines(run) == lines(whole)
        assert max((run / "checkpoint").glob("0*.json")).name == last
