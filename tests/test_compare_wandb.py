"""Runs compared from W&B: those of a project on a server of this machine are what their folders hold."""

import json
import os
import subprocess
import sys

import pytest

from runs import compare
from runs.artifacts import CIRCUMSTANCES
from runs.compare import from_wandb, to_wandb
from runs.groups import group
from runs.reader import read_run
from tests.test_compare import describe, make_run
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


def compare_in_wandb(tmp_path, *flags):
    """A comparison of three runs with --wandb, in a process of its own."""
    for seed, words in ((1, {}), (2, {}), (3, {"learning_rate": 0.5})):
        folder = describe(make_run(tmp_path / "results", seed, **words), id=f"abcdef0{seed}")
        (folder / "videos").mkdir(exist_ok=True)
        (folder / "videos" / "step-000000000010.gif").write_bytes(b"film %d" % seed)
    command = [sys.executable, "-m", "runs.compare", str(tmp_path / "results"), "--wandb"]
    command += ["--out", str(tmp_path / "out" / "curves.png"), "--html", str(tmp_path / "out" / "page.html"), *flags]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ)


@pytest.mark.slow
def test_a_comparison_is_made_in_wandb(server, tmp_path):
    pytest.importorskip("wandb_workspaces")
    done = compare_in_wandb(tmp_path, "--wandb-project", "team/saccade")
    assert done.returncode == 0, done.stderr
    assert "W&B report: " in done.stderr and "W&B workspace: " in done.stderr
    (page,) = server.pages.values()
    tables = [name for name in page.files if name.startswith("media/table/compare/runs_")]
    assert len(tables) == 1 and page.exits == [0]
    films = [data for version in server.artifacts.versions for name, data in version.files.items() if "gif" in name]
    assert sorted(films) == [b"film 1", b"film 2", b"film 3"]
    assert any(name.startswith("media/images/compare/curves") for name in page.files)
    assert any(name.startswith("media/html/compare/report") for name in page.files)
    report, workspace = server.views
    assert report["displayName"] == "Comparison of 3 runs" == workspace["displayName"]
    ids = [f"abcdef0{seed}" for seed in (1, 2, 3)]
    for view in server.views:
        spec = view["spec"]
        assert all(f'"{each}"' in spec for each in ids), "it shows these runs and no others"
        assert "program.value" in spec and "learning_rate.value" in spec, "grouped by agent and by what differs"
        assert "eval/return" in spec and "eval/film" in spec
    assert "compare/runs" in report["spec"] and "Runs by world" in report["spec"]


def test_without_a_key_the_comparison_waits_for_a_sync(server, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    done = compare_in_wandb(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "W&B offline, to upload: wandb sync" in done.stderr and not server.pages and not server.views
    (run,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    assert list(run.glob("files/media/table/compare/runs_*.json")) and run.is_dir()
    films = [path.read_bytes() for path in (tmp_path / "out" / "wandb" / "data").rglob("*") if path.is_file()]
    assert {b"film 1", b"film 2", b"film 3"} <= {*films}


def test_the_table_of_runs_by_hand(tmp_path):
    folders = [make_run(tmp_path, 1), make_run(tmp_path, 2, learning_rate=0.5)]
    groups = group(compare.load(folders))
    head, rows = to_wandb.runs_table(groups)
    assert head[:9] == ["world", "protocol", "agent", "seed", "status", "steps", "score", "last", "best"]
    assert "learning_rate" in head[9:-1] and head[-1] == "film" and len(rows) == 2
    assert {row[head.index("learning_rate")] for row in rows} == {None, "0.5"}
    assert [to_wandb.place_of(run).project for each in groups for run in each.runs] == ["saccade", "saccade"]
