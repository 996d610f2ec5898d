"""W&B online, against a server on this machine: each line arrives once, and costs the run no time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs import wandb_mirror
from tests.test_wandb_mirror import BUDGET, Config, extra, logged, timed
from tests.wandb_server import WandbServer

pytest.importorskip("wandb")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setattr(wandb_mirror, "ANSWER", 600.0)  # seconds, on a busy machine
    monkeypatch.setattr(wandb_mirror, "LINGER", 600.0)
    with WandbServer() as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        yield found


def ordered(lines):
    return sorted(lines, key=lambda line: (line["step"], "seconds" in line))


def arrived(server, folder, exits, patience=600.0):
    """The run's page, once its mirror has ended so many times."""
    identity = json.loads((folder / "config.json").read_text())["id"]
    until = time.monotonic() + patience
    while time.monotonic() < until:
        with server.lock:
            page = server.pages.get(identity)
            if page and len(page.exits) >= exits:
                return page
        time.sleep(0.2)
    log = folder / "wandb" / "process.log"
    raise AssertionError(f"{server.pages}: not there yet\n{log.read_text() if log.exists() else ''}")


def test_every_line_arrives_once_and_costs_no_time(server, tmp_path):
    config = Config(folder=tmp_path, log_every=2)
    run, longer = extra(config, pause=10.0)
    assert longer < BUDGET
    page = arrived(server, run.folder, exits=1)
    assert ordered(page.lines()) == logged(run.folder)
    history = [number for name, number in page.sent if name == "wandb-history.jsonl"]
    assert sorted(history) == list(range(len(history))) and page.exits == [0]
    stored = json.loads(page.config)
    assert stored["program"]["value"] == "tests.walk" and stored["steps"]["value"] == 40


def test_a_killed_run_goes_on_in_the_same_curve(server, tmp_path):
    code = (
        "from pathlib import Path\nimport os, signal\nfrom tests.test_wandb_mirror import Config, play\n"
        f"config = Config(folder=Path({str(tmp_path)!r}), wandb='online', log_every=2, save_every=0)\n"
        "play(config, pause=4, act=lambda run: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, timeout=900)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "Nowhere" / "walk-1"
    page = arrived(server, folder, exits=1)
    before = page.lines()
    assert ordered(before) == logged(folder) and before[-1]["step"] < 40
    timed(Config(folder=tmp_path, wandb="online", log_every=2, save_every=0))
    page = arrived(server, folder, exits=2)
    lines = page.lines()
    assert lines[: len(before)] == before
    steps = [line["step"] for line in lines if "loss/td" in line]
    assert steps == list(range(2, 42, 2)), "each once, in order"
    assert ordered(line for line in lines if "loss/td" in line) == [
        line for line in logged(folder) if "loss/td" in line
    ]
    counted = [json.loads(line)["_step"] for _, line in sorted(page.streams["wandb-history.jsonl"].items())]
    assert counted == list(range(len(counted))), "W&B's own count goes on, or its pages would drop the lines"
    assert len(server.pages) == 1 and page.exits[-1] == 0
