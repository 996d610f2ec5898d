"""Sweeps on a Ray cluster: nodes that die, nodes that do not share what they have to, and Ctrl-C."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from runs import ray_connection
from runs.files import RunError
from runs.reader import read_run
from runs.sweep import engine, local, node, ray_cluster
from tests.test_sweep import Pretended, ends, pretend

ROOT = Path(__file__).resolve().parent.parent
STORE = 80_000_000  # bytes of shared memory of a node
TINY = ("--wandb=disabled", "--film-seconds=0", "--log-every=50", "--evaluate-games=2", "--backbone=small")
TINY += ("--width=0.25", "--hidden=16", "--evaluate-every=1000", "--batch=8", "--learn-start=50", "--capacity=500")
TINY += ("--save-every=0.2", "--threads=1")


class Cluster(Pretended):
    """An executor whose runs are not killed, but lose their nodes."""

    def ended(self):
        found = super().ended()
        return [
            each
            if each.code != -signal.SIGKILL
            else local.Ended(each.key, each.code, 1.0, 0.0, "its node x was lost")
            for each in found
        ]


def test_a_lost_node_is_no_fault_of_the_run(tmp_path, monkeypatch):
    """It is started again however often that happens, and is recorded as lost."""
    faults = {("Catch/dqn-1", number): "kill" for number in (1, 2, 3, 4)}
    executor = Cluster(lambda flags, step: 1.0, faults)
    made, whole, said = pretend(tmp_path, monkeypatch, executor, seeds=(1,), retries=0)
    assert whole and executor.starts.count("Catch/dqn-1") == 5
    assert ends(tmp_path) == {"Catch/dqn-1": ["lost"] * 4 + ["finished"]}
    assert said[0] == "Catch/dqn-1: its node x was lost; it is started again, from its last checkpoint"
    assert made.states["Catch/dqn-1"].killed == 0 and isinstance(made, engine.Sweep)


def test_what_a_node_has_to_share_by_hand(tmp_path, monkeypatch):
    digest = node.code_digest(str(ROOT))
    given = dict(folder=str(tmp_path), token="ab12", root=str(ROOT), digest=digest, answer="answer")
    assert "does not see" in node.problem(**given)
    (tmp_path / node.TOKEN).write_text("other")
    assert "sees another" in node.problem(**given)
    (tmp_path / node.TOKEN).write_text("ab12")
    assert "does not see locks" in node.problem(**given)
    with open(tmp_path / node.TOKEN, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert node.problem(**given) == "" and (tmp_path / "answer").read_text() == "ab12"
        assert "has other code" in node.problem(**given | {"digest": "0" * 64})
        monkeypatch.setattr(node.importlib.util, "find_spec", lambda name: None)
        assert "has no code" in node.problem(**given | {"root": str(tmp_path)})
    (tmp_path / "runs").mkdir()
    assert node.code_digest(str(tmp_path)) == ""
    (tmp_path / "runs" / "a.py").write_text("a = 1\n")
    first = node.code_digest(str(tmp_path))
    (tmp_path / "runs" / "a.py").write_text("a = 2\n")
    assert len({first, node.code_digest(str(tmp_path)), digest}) == 3


def test_a_process_gets_signals_and_ends_with_its_parent(tmp_path):
    """node.STARTER: SIGTERM comes when the parent is killed, with signals as they are by default."""
    program = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1], 'ended').touch(), sys.exit(0)))\n"
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "pathlib.Path(sys.argv[1], 'begun').write_text(str(len(blocked)))\n"
        "time.sleep(60)"
    )
    parent = (
        "import os, signal, subprocess, sys, time\n"
        "from runs.sweep import node\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        f"words = [sys.executable, '-c', {program!r}, {str(tmp_path)!r}]\n"
        "subprocess.Popen([sys.executable, '-c', node.STARTER, str(os.getpid()), *words], start_new_session=True)\n"
        "time.sleep(60)"
    )
    running = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT)
    wait_for(lambda: (tmp_path / "begun").exists())
    running.kill(), running.wait()
    if sys.platform == "linux":
        wait_for(lambda: (tmp_path / "ended").exists())
    assert (tmp_path / "begun").read_text() == "0"


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"saccade\[ray\]"):
        ray_connection.package()


def test_an_address_where_nothing_listens_is_refused(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(RunError, match="no Ray cluster at 127.0.0.1:1: .*refused"):
        ray_cluster.opened("127.0.0.1:1", tmp_path, tmp_path / "nodes").__enter__()


def wait_for(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of this machine whose head has no CPUs for runs; tests add nodes that have one each."""
    pytest.importorskip("ray")
    ray_connection.package()
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else other programs of this machine come first
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray")  # short: paths of sockets are limited
    started = Cluster(shutdown_at_exit=False)
    try:
        started.add_node(
            num_cpus=0, object_store_memory=STORE, memory=10**9, include_dashboard=False, temp_dir=folder,
            include_log_monitor=False,
        )  # fmt: skip
        yield started
    finally:
        started.shutdown()
        monkeypatch.undo()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nodes(cluster):
    """nodes(count): add that many, which are removed after the test."""
    added = []

    def add(count):
        for _ in range(count):
            added.append(cluster.add_node(num_cpus=1, object_store_memory=STORE, memory=2 * 10**9))
        return added

    yield add
    for each in added:
        if each in cluster.worker_nodes:
            cluster.remove_node(each)


def sweep(folder, address, seeds, *flags, **options):
    words = [sys.executable, "-m", "runs.sweep", "dqn", "--env", "Catch", f"--seeds={seeds}", f"--folder={folder}"]
    words += ["--ray", address, "--", *TINY, *flags]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True, **options)


def parents():
    """The parent of every process of this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    return found


def raylet(each):
    """The process by which a node is a node."""
    return each.all_processes["raylet"][0].process.pid


def reap(each):
    """Workers see by its number that their raylet has ended, which it keeps until its parent, this process, looks."""
    each.all_processes["raylet"][0].process.wait()


def below(process):
    """The processes that a process has started, and theirs."""
    found, known = [process], parents()
    for each in found:
        found += [pid for pid, parent in known.items() if parent == each]
    return found


def running_on(each, folder):
    """The runs on a node: process and name."""
    found = {}
    for pid in below(raylet(each)):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if f"--folder={folder}" in words and "-c" not in words:
            found[pid] = next(word.removeprefix("--name=") for word in words if word.startswith("--name="))
    return found


def saved(folder, name):
    return len(list(folder.glob(f"Catch/{name}/checkpoint/0*.json"))) > 1


@pytest.mark.slow
def test_runs_of_a_node_that_dies_go_on_elsewhere(tmp_path, cluster, nodes):
    """Three nodes, four runs. One node dies with all its processes, as where a machine loses its power. Of another
    the raylet alone dies, as where Ray takes a machine for dead: its run is not done twice. Both runs go on elsewhere
    from their checkpoints, to the weights of an unbroken run."""
    added = nodes(3)
    began = time.monotonic()
    running = sweep(tmp_path, cluster.address, 4, "--steps=2000")
    said = []
    try:
        wait_for(
            lambda: running.poll() is not None or len({raylet(e) for e in added if running_on(e, tmp_path)}) == 3
        )
        first, second = ({*running_on(each, tmp_path).values()}.pop() for each in added[:2])
        wait_for(lambda: running.poll() is not None or saved(tmp_path, first))
        assert running.poll() is None
        for pid in below(raylet(added[0])):
            os.kill(pid, signal.SIGKILL)
        reap(added[0])
        wait_for(lambda: running.poll() is not None or saved(tmp_path, second))
        assert {*running_on(added[1], tmp_path).values()} == {second}, "it was over before its node died"
        os.kill(raylet(added[1]), signal.SIGKILL)
        reap(added[1])
        said = running.communicate()[0]
    finally:
        running.kill()
    seconds = time.monotonic() - began
    print(
        said, f"{seconds:.0f} s of the clock from start to end, four runs of 2,000 steps, two of three nodes killed"
    )
    assert running.returncode == 0 and "4 of 4" in said
    found = ends(tmp_path)
    assert len(found) == 4 and all(each[-1] == "finished" for each in found.values())
    for name in (first, second):
        assert found[f"Catch/{name}"] == ["lost", "finished"]
        assert re.search(rf"Catch/{name}: its node \S+ was lost; it is started again", said)
    for name in {key[6:] for key in found} - {first, second}:  # the fourth may have been on its way to a lost node
        waiting = f"Catch/{name}: the node that it was to be on was lost" in said
        assert found[f"Catch/{name}"] == (["lost", "finished"] if waiting else ["finished"])
    for number in range(1, 5):
        log = next(tmp_path.glob(f"sweeps/*/logs/Catch-dqn-{number}.log")).read_text()
        assert log.count("steps from the start") == 1  # none is done twice
        assert log.count("steps from step") == (f"dqn-{number}" in (first, second))  # nor begins again
        run = read_run(tmp_path / "Catch" / f"dqn-{number}")
        assert run.status == "finished" and [line["step"] for line in run.evaluations] == [1000, 2000]
    unbroken = tmp_path / "unbroken"
    for name in (first, second):
        words = [f"--folder={unbroken}", f"--seed={name[-1]}", "--env=Catch", *TINY, "--steps=2000"]
        subprocess.run([sys.executable, "-m", "agents.dqn", *words], cwd=ROOT, check=True, capture_output=True)
        pair = [folder / "Catch" / name for folder in (tmp_path, unbroken)]
        metrics = [(each / "metrics.jsonl").read_bytes() for each in pair]
        assert metrics[0] == metrics[1]
        last = [torch.load(max(each.glob("checkpoint/0*.pt")), weights_only=True)["parts"] for each in pair]
        torch.testing.assert_close(last[0]["online"], last[1]["online"], rtol=0, atol=0)


@pytest.mark.slow
def test_ctrl_c_saves_runs_on_a_cluster_and_the_same_command_goes_on(tmp_path, cluster, nodes):
    nodes(1)
    first = sweep(tmp_path, cluster.address, 2, "--steps=1500")
    wait_for(lambda: first.poll() is not None or saved(tmp_path, "dqn-1"))
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    said = first.communicate()[0]
    assert first.returncode == 130, said
    assert ends(tmp_path) == {"Catch/dqn-1": ["saved"]} and "goes on from here" in said
    second = sweep(tmp_path, cluster.address, 2, "--steps=1500")
    said = second.communicate()[0]
    assert second.returncode == 0 and "2 of 2" in said
    assert ends(tmp_path) == {"Catch/dqn-1": ["saved", "finished"], "Catch/dqn-2": ["finished"]}
    assert "steps from step" in next(tmp_path.glob("sweeps/*/logs/Catch-dqn-1.log")).read_text()
    assert not list(tmp_path.glob("sweeps/*/nodes"))


@pytest.mark.slow
def test_a_folder_that_nodes_do_not_share_is_refused(tmp_path, cluster, monkeypatch):
    def gone(executor):
        file = write(executor)
        (tmp_path / "nodes" / node.TOKEN).unlink()
        return file

    write = ray_cluster.RayCluster._write_token
    places = tmp_path, tmp_path / "nodes"
    monkeypatch.setattr(ray_cluster.RayCluster, "_write_token", gone)
    with pytest.raises(RunError, match=r"node \S+ \(\S+\) does not see .*all nodes share"):
        ray_cluster.opened(cluster.address, *places).__enter__()
    monkeypatch.undo()
    said = []
    with ray_cluster.opened(cluster.address, *places, cpus=4, say=said.append) as executor:
        assert executor.jobs == 1 and executor.threads == 4 and executor.room()
        assert said == ["no node has 4 CPUs and 0 GPUs for a run: they wait for one that has"]
        executor.start("a", [sys.executable, "-c", "pass"], tmp_path / "a.log", os.environ)
        assert not executor.room() and not executor.ended()
        executor.stop("a")
        wait_for(lambda: [each.code for each in executor.ended()] == [-signal.SIGTERM])
