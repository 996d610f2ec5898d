"""The number of torch's threads: from the cores that are free, the same when a run goes on, and said."""

import dataclasses
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from runs import threads
from tests.test_runs import Config, walk


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    """A machine of four cores whose counters the test sets; torch's own number is put back afterwards."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(threads, "limit", lambda: 1 << 16)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)
    threads.choose(before)


def counters(monkeypatch, others, own=0.0):
    """Seconds that the cores are busy and that this process is on them, as they grow in a second."""
    now = [0.0]
    clock = SimpleNamespace(sleep=lambda seconds: now.__setitem__(0, now[0] + seconds), monotonic=lambda: now[0])
    monkeypatch.setattr(threads, "time", clock)
    monkeypatch.setattr(threads, "_busy", lambda: 1_000 + now[0] * (others + own))
    monkeypatch.setattr(threads, "_own", lambda: now[0] * own)
    monkeypatch.setattr(threads, "_imported", threads.Load())
    return now


@pytest.mark.parametrize(
    ("others", "own", "count"),
    [(0.0, 0.0, 4), (0.1, 0.0, 4), (0.0, 1.0, 4), (0.5, 0.0, 3), (1.0, 0.0, 3), (2.0, 1.0, 2), (4.0, 0.0, 1)],
)
def test_as_many_as_cores_are_free(monkeypatch, others, own, count):
    counters(monkeypatch, others, own)
    assert threads.choose() == torch.get_num_threads() == count
    assert threads.in_words().startswith(f"{count} thread")
    assert ("other programs use" in threads.in_words()) == (count < 4)


def test_the_load_is_measured_while_the_program_is_imported(monkeypatch):
    now = counters(monkeypatch, others=2.0)
    now[0] = 1.4  # seconds that the rest of the imports took
    assert threads.choose() == 2 and now[0] == 1.4, "nothing is waited for"
    now = counters(monkeypatch, others=2.0)
    now[0] = 0.1
    assert threads.choose() == 2 and now[0] == pytest.approx(threads.WINDOW), "the rest of the window"
    now[0] = 3_600.0  # a second run of the same process
    busy = threads._busy()
    monkeypatch.setattr(threads, "_busy", lambda: busy)
    torch.set_num_threads(4)
    assert threads.choose() == 4 and now[0] == pytest.approx(3_600 + threads.WINDOW), "measured anew"


def test_what_is_asked_for_is_not_measured(monkeypatch):
    monkeypatch.setattr(threads, "Load", None)
    assert threads.choose(2) == 2 and threads.in_words() == "2 threads"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)  # as torch does when it starts
    assert threads.choose() == 3


def test_a_container_s_share_of_the_cores_is_a_limit(monkeypatch):
    counters(monkeypatch, 0.0)
    monkeypatch.setattr(threads, "limit", lambda: 2)
    assert threads.choose() == 2
    assert threads._quota(["150000", "100000"]) == [1.5] and threads._quota(["max", "100000"]) == []
    assert threads._quota(["-1\n", "100000\n"]) == []


def test_a_system_that_does_not_count_by_core(monkeypatch):
    counters(monkeypatch, 0.0)
    monkeypatch.setattr(threads, "_busy", lambda: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.4, 0.0, 0.0), raising=False)
    assert threads.choose() == 2
    monkeypatch.delattr(os, "getloadavg")
    torch.set_num_threads(4)
    assert threads.choose() == 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/stat is Linux's")
def test_another_program_is_seen_and_this_one_is_not(monkeypatch):
    monkeypatch.undo()
    hog = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        hog.stdout.readline()
        load = threads.Load()
        time.sleep(1.0)
        assert load.others() > 0.4  # of a core: others than the two may run here
    finally:
        hog.kill()
        hog.wait()
    busy, own = threads._busy(), threads._own()
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    assert threads._busy() - busy >= threads._own() - own - 0.1


def test_a_run_keeps_the_number_it_began_with(monkeypatch, tmp_path, capsys):
    config = Config(folder=tmp_path)
    counters(monkeypatch, others=2.0)
    with pytest.raises(MemoryError):
        walk(config, die_at=20)
    assert "2 threads, for other programs use 2.0 of the cores" in capsys.readouterr().err
    counters(monkeypatch, others=0.0)
    torch.set_num_threads(4)
    walk(config)
    assert torch.get_num_threads() == 2 and "2 threads as before" in capsys.readouterr().err


def test_another_number_is_taken_and_said(monkeypatch, tmp_path, capsys):
    config = Config(folder=tmp_path, threads=2)
    with pytest.raises(MemoryError):
        walk(config, die_at=20)
    capsys.readouterr()
    walk(dataclasses.replace(config, threads=3))
    assert torch.get_num_threads() == 3
    assert "3 threads, and 2 before: sums differ in their last digits" in capsys.readouterr().err


def test_more_threads_than_cores_are_not_kept(monkeypatch):
    counters(monkeypatch, others=0.0)
    threads.choose()
    threads.keep(16)
    assert torch.get_num_threads() == 4 and "and 16 before" in threads.in_words()


def test_cores_taken_while_it_runs(monkeypatch):
    counters(monkeypatch, others=1.0, own=3.0)
    torch.set_num_threads(4)
    load = threads.Load()
    threads.time.sleep(60)
    assert "use 1.0 of the 4 cores" in threads.crowded(load) and "--threads 3" in threads.crowded(load)
    torch.set_num_threads(3)
    assert threads.crowded(load) is None
