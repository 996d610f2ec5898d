"""Data-parallel training: shares by hand; gradients of 1, 2 and 4 processes; a rank that is killed and goes on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import runs
from agents import dqn
from agents.loading import WATCH_SEED
from runs import checkpoint, parallel
from runs.compare import find_runs

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torchrun starts processes as Unix does")
COMMON = ("--wandb=disabled", "--film-seconds=0", "--threads=1", "--device=cpu")
AGENT = (*COMMON, "--env=Catch", "--worlds=4", "--hidden=16", "--width=0.25", "--evaluate-games=2", "--log-every=64")
PROGRAMS = {
    "agents.dqn": (*AGENT, "--steps=512", "--evaluate-every=256", "--batch=8", "--learn-start=64", "--capacity=400"),
    "agents.pqn": (*AGENT, "--steps=512", "--evaluate-every=256", "--rollout=8"),
    "agents.ppo": (*AGENT, "--steps=512", "--evaluate-every=256", "--rollout=8", "--minibatches=2"),
    "vision.classification": (
        *("--wandb=disabled", "--threads=1", "--device=cpu", "--data=shapes", "--backbone=lenet5", "--steps=512"),
        *("--batch=32", "--evaluate-every=256", "--log-every=64"),
    ),
}


def torchrun(count: int, *words: str, **options) -> subprocess.Popen:
    """A command of several processes, which is asked for no fixed port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, **options)


def ended(process: subprocess.Popen) -> None:
    said = process.communicate(timeout=1200)[1]
    assert process.returncode == 0, said


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is taken for rank 1 of 2; it exchanges nothing."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def test_one_process_is_left_as_it_is(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # without a rank torchrun has not set it
    config, rows = dqn.Config(), torch.arange(6.0)
    assert parallel.ranks() == 1 and parallel.rank() == 0
    assert parallel.share(config, "worlds") is config and parallel.whole(config, "agents.dqn") is config
    assert parallel.part(rows) is rows and parallel.gathered(rows) is rows
    assert parallel.agree(3, 0) == (3, 0) and parallel.first(0.5) == 0.5 and parallel.common_step([1]) is None
    assert parallel.folder(Path("x")) == Path("x") and parallel.place("auto") == "auto"
    torch.testing.assert_close(parallel.standardize(rows), (rows - 2.5) / (3.5**0.5 + 1e-8))  # sample variance 3.5


def test_a_share_by_hand(second_of_two):
    config = dqn.Config(worlds=8, batch=64, capacity=1_000, seed=5)
    own = parallel.share(config, "worlds", "batch", "capacity")
    assert (own.worlds, own.batch, own.capacity, own.seed) == (4, 32, 500, 5 + parallel.SEEDS)
    assert parallel.SEEDS > WATCH_SEED + 10**6, "no rank trains on games that are for evaluations or agents.watch"
    assert parallel.whole(own, "agents.dqn") is config and own.learning_rate == config.learning_rate
    assert parallel.part(torch.arange(6)).tolist() == [3, 4, 5]
    assert parallel.folder(Path("run")) == Path("run/ranks/1")


def test_what_processes_cannot_share_is_named(second_of_two, tmp_path):
    with pytest.raises(ValueError, match="--worlds 3: 2 processes cannot share it evenly"):
        parallel.share(dqn.Config(worlds=3), "worlds")
    with pytest.raises(ValueError, match="--batch 5: 2 processes"):
        parallel.part(torch.arange(5))
    with pytest.raises(ValueError, match="--capture: not with several processes"):
        parallel.share(dqn.Config(capture=True), "worlds")
    with pytest.raises(ValueError, match="agents.r2d2 trains in one process: start it without torchrun"):
        runs.Run(runs.Options(folder=tmp_path, device="cpu", wandb="disabled"), "agents.r2d2", "Catch")


def test_a_run_of_two_processes_is_not_gone_on_with_by_one(second_of_two, tmp_path, monkeypatch):
    config = dataclasses.replace(dqn.Config(), folder=tmp_path, device="cpu", wandb="disabled", worlds=8)
    monkeypatch.setenv("RANK", "0")
    run = runs.Run(parallel.share(config, "worlds"), "agents.dqn", "Catch")
    assert run.folder == tmp_path / "Catch" / "dqn-1" and run.config.worlds == 4
    run._place.begin()
    about = json.loads((run.folder / "config.json").read_text())
    assert about["config"]["worlds"] == 8 and about["ranks"] == 2
    (run.folder / "metrics.jsonl").write_text('{"step": 1}\n')
    run._place.close()
    monkeypatch.delenv("RANK")
    with pytest.raises(runs.RunError, match="a run of 2 processes, and these are 1"):
        runs.Run(config, "agents.dqn", "Catch")


def test_checkpoints_are_kept_where_another_process_has_lost_its_own(second_of_two, tmp_path, monkeypatch):
    config = dataclasses.replace(dqn.Config(), folder=tmp_path, device="cpu", wandb="disabled")
    run = runs.Run(parallel.share(config), "agents.dqn", "Catch")
    (run.folder / "checkpoint").mkdir()
    for step in (100, 200):
        checkpoint.save(run.folder / "checkpoint", step, {"step": step, "files": {}}, run.identity)
    monkeypatch.setattr(parallel, "common_step", lambda steps: 0)
    with pytest.raises(runs.RunError, match="checkpoints of steps 200, 100, and another process has none of these"):
        run.track()
    assert checkpoint.steps(run.folder / "checkpoint") == [200, 100]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_gradients_of_several_processes_are_those_of_one(tmp_path, count):
    """Of DQN's, PPO's and a classifier's loss, and the statistics of observations: within 1e-5."""
    script, files = str(ROOT / "tests/parallel_gradients.py"), [tmp_path / "one.pt", tmp_path / "several.pt"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, str(files[0])], check=True, cwd=ROOT, env=environment)
    ended(torchrun(count, script, str(files[1])))
    one, several = (torch.load(file, weights_only=True) for file in files)
    assert one.keys() == several.keys() and one["dqn"]["0.weight"].abs().max() > 1e-3
    torch.testing.assert_close(several, one, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_two_processes_end_in_the_same_weights_and_write_one_run(tmp_path, program):
    ended(torchrun(2, "-m", program, *PROGRAMS[program], f"--folder={tmp_path}", "--name=two"))
    folder = next(tmp_path.glob("*/two"))
    assert find_runs([tmp_path]) == [folder]
    latest = [max(place.glob("checkpoint/0*.pt")) for place in (folder, folder / "ranks" / "1")]
    assert latest[0].name == latest[1].name
    first, second = (torch.load(path, weights_only=True)["parts"] for path in latest)
    for name in {"online", "target", "network", "model", "optimizer"} & first.keys():
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if any(word.startswith("eval/") for word in line)] == [256, 512]
    if program.startswith("agents."):
        others = (folder / "ranks" / "1" / "metrics.jsonl").read_text()
        assert "eval/" not in others and "loss/" in others
        assert others != (folder / "metrics.jsonl").read_text()  # its worlds are others


def ranks_of(folder: Path) -> dict[int, int]:
    """The processes that train in a folder: rank -> process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            environment = dict(line.split(b"=", 1) for line in (path / "environ").read_bytes().split(b"\0") if line)
        except (OSError, ValueError):
            continue
        if f"--folder={folder}".encode() in words and b"RANK" in environment:
            found[int(environment[b"RANK"])] = int(path.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds ranks in /proc")
def test_a_killed_rank_is_started_again_and_the_run_goes_on_as_if_it_had_never_been(tmp_path):
    words = [*PROGRAMS["agents.dqn"], "--steps=4096", "--evaluate-every=1024", f"--folder={tmp_path}"]
    running = torchrun(2, "--max-restarts=2", "-m", "agents.dqn", *words, "--name=killed", "--save-every=0.3")
    while len(list(tmp_path.glob("*/killed/ranks/1/checkpoint/0*.json"))) < 2:
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.05)
    os.kill(ranks_of(tmp_path)[1], signal.SIGKILL)
    ended(running)
    ended(torchrun(2, "-m", "agents.dqn", *words, "--name=whole"))
    for place in (".", "ranks/1"):
        folders = [tmp_path / "Catch" / name / place for name in ("killed", "whole")]
        metrics = [(folder / "metrics.jsonl").read_bytes() for folder in folders]
        assert metrics[0] == metrics[1] and b'"loss/' in metrics[0]
        parts = [torch.load(max(folder.glob("checkpoint/0*.pt")), weights_only=True)["parts"] for folder in folders]
        torch.testing.assert_close(parts[0]["online"], parts[1]["online"], rtol=0, atol=0)
