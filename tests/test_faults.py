"""Faults injected into programs (tests/faults): a sample by default, all of them among the slow tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults need Linux: fork, /proc, tmpfs")
SAMPLE = ["kill -9 at a write", "flip", "disk full"]


def inject(out, *arguments):
    command = [sys.executable, "-m", "tests.faults", "--out", str(out), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    tries = [json.loads(line) for line in (out / "tries.jsonl").read_text().splitlines()]
    assert tries, done.stderr
    failed = [f"{each['program']}: {each['fault']}: {each['why']}" for each in tries if each["outcome"] == "failed"]
    assert not failed and done.returncode == 0, "\n".join(failed) + done.stderr
    return tries


def test_a_sample_of_faults_is_survived_or_named(tmp_path):
    tries = inject(tmp_path, "--programs", "classification", "--faults", *SAMPLE)
    assert len(tries) == len(SAMPLE) and "| all |" in (tmp_path / "faults.md").read_text()


@pytest.mark.slow
def test_every_fault_on_every_program_is_survived_or_named(tmp_path):
    inject(tmp_path, "--workers", 2)
