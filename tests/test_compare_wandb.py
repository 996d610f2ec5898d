"""Runs compared from W&B: those of a project on a server of this machine are what their folders hold."""

import json
import os
import subprocess
import sys

import pytest

from runs import compare
from runs.compare import from_wandb
from runs.groups import group
from runs.reader import read_run
from runs.wandb_process import CIRCUMSTANCES
from tests.test_compare import make_run
from tests.wandb_server import Page, WandbServer

pytest.importorskip("wandb")


def uploaded(folder) -> Page:
    """What W&B holds of a run's folder."""
    about = json.loads((folder / "config.json").read_text())
    config = about["config"] | {key: about[key] for key in CIRCUMSTANCES if key in about}
    page = Page(
        config=json.dumps({key: {"value": value} for key, value in config.items()} | {"_wandb": {"value": 1}})
    )
    rows = [json.loads(line) for name in ("metrics.jsonl", "clock.jsonl") for line in (folder / name).open()]
    page.streams["wandb-history.jsonl"] = {n: json.dumps(row | {"_step": n}) for n, row in enumerate(rows)}
    page.exits = [0]
    return page


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with WandbServer() as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        yield found


def test_a_project_is_read_and_compared(server, tmp_path):
    """In a process of its own: the client keeps its settings for as long as it lives."""
    folders = [make_run(tmp_path / "results", seed) for seed in (1, 2)]
    server.pages |= {f"run{n}": uploaded(folder) for n, folder in enumerate(folders)}
    server.pages["other"] = Page(config='{"lr": {"value": 1}}')
    command = [sys.executable, "-m", "runs.compare", "wandb:team/saccade", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "curves.png")], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "left out: wandb:team/saccade/other" in done.stderr and "world" in done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    (one,) = found["groups"] if isinstance(found, dict) else found
    (other,) = group(compare.load(folders))
    assert one["world"] == other.world and [run["seed"] for run in one["runs"]] == [1, 2]
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_a_run_is_what_its_folder_holds(monkeypatch, tmp_path):
    folder = make_run(tmp_path, 3)
    mine, page = read_run(folder), uploaded(folder)

    class Stored:
        entity, project, id, state = "team", "saccade", "abc", "crashed"
        config = {key: each["value"] for key, each in json.loads(page.config).items()}

        def scan_history(self):
            lines = page.streams["wandb-history.jsonl"]
            return [json.loads(line) for _, line in sorted(lines.items(), reverse=True)]

    found = from_wandb._read(Stored())
    assert (found.world, found.program, found.seed, found.score) == (mine.world, mine.program, 3, mine.score)
    assert list(found.lines) == list(mine.lines) and list(found.clock) == list(mine.clock)
    assert found.status == "interrupted" and found.config == mine.config
    assert str(found.folder) == "wandb:team/saccade/abc"


def test_what_cannot_be_read_is_said(server):
    with pytest.raises(ValueError, match="names no project"):
        from_wandb.read_project("wandb:")
    command = [sys.executable, "-m", "runs.compare", "wandb:team/saccade"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1 and "no run of this project's programs in team/saccade" in done.stderr
    assert "Traceback" not in done.stderr
