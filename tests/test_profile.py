"""The profile: what a trace says, by hand; what is written; that a run computes the same with it."""

import dataclasses
import json
import re
import signal
import subprocess
import sys

import pytest

from agents import dqn, pqn
from agents.rainbow import loop as rainbow
from runs import graph, profile, timeline, trace
from runs.trace import Span
from tests.test_runs import ROOT, Config, Walk, walk


def event(name, begin, end, cat="cpu_op", tid=1, **args):
    return {"name": name, "ts": begin, "dur": end - begin, "cat": cat, "tid": tid, "args": args}


def label(name, begin, end):
    return event(name, begin, end, "user_annotation")


BACKWARD = "autograd::engine::evaluate_function: "
EVENTS = [  # in microseconds: one iteration that learns, and one that does not
    label("ProfilerStep#1", 0, 100),
    event("aten::conv2d", 2, 8),
    event("aten::mkldnn_convolution", 3, 7),
    label("world.send", 10, 12),
    label("memory.sample", 15, 20),
    event("aten::conv2d", 22, 30),
    label("Optimizer.zero_grad#Adam.zero_grad", 40, 41),
    event(BACKWARD + "MulBackward", 44, 54, tid=2),
    event("aten::mul", 45, 50, tid=2),
    event(BACKWARD + "ConvolutionBackward", 60, 70, tid=2),
    label("Optimizer.step#Adam.step", 75, 80),
    label("world.recv", 85, 90),
    label("memory.add", 90, 95),
    event("cudaLaunchKernel", 65, 66, "cuda_runtime", correlation=7),
    event("convolve", 82, 98, "kernel", tid=7, stream=7, correlation=7),
    label("ProfilerStep#2", 100, 130),
    label("world.send", 110, 111),
    label("world.recv", 115, 125),
]


def test_spans_by_hand():
    assert trace.spans(EVENTS) == [
        Span(0, 10, "act"),
        Span(10, 12, "emulator: send"),
        Span(12, 15, "other"),
        Span(15, 20, "memory: draw"),
        Span(20, 40, "learn: forward"),
        Span(40, 41, "learn: optimizer"),
        Span(41, 44, "learn: forward"),
        Span(44, 70, "learn: backward"),  # the gap between two of its operations included
        Span(70, 80, "learn: optimizer"),  # and what leads to it: the gradient is clipped there
        Span(80, 85, "other"),
        Span(85, 90, "emulator: wait"),
        Span(90, 95, "memory: add"),
        Span(95, 100, "other"),
        Span(100, 110, "act"),
        Span(110, 111, "emulator: send"),
        Span(111, 115, "other"),
        Span(115, 125, "emulator: wait"),
        Span(125, 130, "other"),
    ]
    sums = trace.totals(trace.spans(EVENTS))
    assert sum(sums.values()) == 130 and next(iter(sums.items())) == ("learn: backward", 26)


def test_emulator_other_threads_and_streams_by_hand():
    assert trace.playing(EVENTS) == [
        Span(12, 85, "emulator: beside"),
        Span(85, 90, "emulator: wait"),
        Span(111, 115, "emulator: beside"),
        Span(115, 125, "emulator: wait"),
    ]
    assert trace.elsewhere(EVENTS, trace.spans(EVENTS)) == {
        "thread 2": [Span(44, 54, "learn: backward"), Span(60, 70, "learn: backward")],
        "CUDA stream 7": [Span(82, 98, "learn: backward")],  # it was launched at 65
    }


def test_waiting_for_the_device_by_hand():
    waits = [(3, 5), (9, 11), (50, 60)]  # within acting, across its end, in the backward pass
    events = EVENTS + [event("cudaStreamSynchronize", *wait, "cuda_runtime") for wait in waits]
    cut = trace.spans(events)
    assert cut[:6] == [
        Span(0, 3, "act"),
        Span(3, 5, "wait for the device"),
        Span(5, 9, "act"),
        Span(9, 10, "wait for the device"),
        Span(10, 11, "wait for the device"),
        Span(11, 12, "emulator: send"),
    ]
    before, after = trace.totals(trace.spans(EVENTS)), trace.totals(cut)
    assert after["wait for the device"] == 14 and sum(after.values()) == 130
    assert after["learn: backward"] == before["learn: backward"] - 10


def test_a_captured_update_is_one_kind_of_work():
    """Its launch is labeled by runs/graph.py; Python sees no forward and no backward pass within."""
    events = [label("ProfilerStep#1", 0, 100), label("memory.sample", 10, 20), label("graph.learn", 30, 80)]
    assert trace.spans(events) == [
        Span(0, 10, trace.OTHER),
        Span(10, 20, trace.DRAW),
        Span(20, 30, trace.OTHER),
        Span(30, 80, trace.GRAPH),
        Span(80, 100, trace.OTHER),
    ]

    def learn():
        """What is captured."""

    assert graph.label(learn) == "graph.learn"


def test_operations_by_hand():
    found = trace.spans(EVENTS)
    assert trace.operations(EVENTS, found) == {"convolve": {"learn: backward": 16}}
    without = [each for each in EVENTS if each["cat"] != "kernel"]
    assert trace.operations(without, found) == {
        "aten::conv2d": {"act": 2, "learn: forward": 8},  # without the convolution that it calls
        BACKWARD + "ConvolutionBackward": {"learn: backward": 10},
        "aten::mul": {"learn: backward": 5},
        BACKWARD + "MulBackward": {"learn: backward": 5},
        "aten::mkldnn_convolution": {"act": 4},
    }


def test_bottleneck_in_words():
    shares = {"learn: forward": 0.3, "act": 0.35, "learn: backward": 0.25, "other": 0.1}
    assert trace.bottleneck(shares) == "learn takes 55% of the time, forward alone 30%"
    assert trace.bottleneck({"act": 0.6, "learn: forward": 0.4}) == "act takes 60% of the time"


def test_picture_of_a_trace(tmp_path):
    timeline.draw(tmp_path / "timeline.png", "by hand", EVENTS)
    assert (tmp_path / "timeline.png").stat().st_size > 10_000
    page = trace.describe("by hand", EVENTS, 0.05)
    assert page.startswith("by hand: 2 iterations of 0.07 ms (0.05 ms before the recording began)")  # 130 us
    assert " 12.3%  of it CUDA stream 7 was busy" in page  # 16 of 130


PROGRAMS = {
    "dqn": (dqn, dqn.train, dict(steps=280, learn_start=200)),
    "rainbow": (rainbow, rainbow.train, dict(steps=280, learn_start=200)),
    "pqn": (pqn, pqn.train, dict(steps=16 * 2 * 9, rollout=2, epochs=1)),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_run_with_a_profile_is_the_run_without(tmp_path, program):
    module, train, changes = PROGRAMS[program]
    config = module.Config(env="Catch")
    config = module.recipe(config)
    changes = changes | dict(folder=tmp_path, wandb="disabled", log_every=40, evaluate_every=10**9)
    for name, count in (("plain", 0), ("profiled", 2)):
        train(dataclasses.replace(config, name=name, profile=count, **changes))
    plain, profiled = (tmp_path / "Catch" / name for name in ("plain", "profiled"))
    assert (plain / "metrics.jsonl").read_bytes() == (profiled / "metrics.jsonl").read_bytes()
    assert not (plain / "profile").exists()
    assert {path.name for path in (profiled / "profile").iterdir()} == {"trace.json", "timeline.png", "profile.txt"}
    trace = json.loads((profiled / "profile/trace.json").read_text())["traceEvents"]
    assert sum(each["name"].startswith("ProfilerStep#") for each in trace) == 2
    page = (profiled / "profile/profile.txt").read_text()
    table = page.split("\n\n")[1]
    shares = {line.split("  ")[-1]: float(line[:5]) for line in table.splitlines()}
    expected = {"act", "emulator: send", "emulator: wait", "learn: forward", "learn: backward", "learn: optimizer"}
    expected |= {"memory: add", "memory: draw"} if program != "pqn" else set()
    assert expected <= set(shares) and sum(shares.values()) == pytest.approx(100, abs=1)
    assert re.search(r"2 iterations of [\d.]+ ms", page) and "aten::" in page


class Pushed(Walk):
    """A walk with a method that is labeled."""

    def add(self, amount):
        self.place = self.place + amount


@pytest.fixture
def config(tmp_path):
    return Config(folder=tmp_path, steps=80)


def test_labels_are_taken_off_again(config, monkeypatch):
    monkeypatch.setattr("tests.test_runs.Walk", Pushed)
    seen = []

    def push(run, step):
        part = run.parts["walk"]
        part.add(0.5)
        seen.append("add" in vars(part))

    run, part = walk(dataclasses.replace(config, profile=3), act=push)
    assert not seen[5] and seen[6:10] == [True] * 4 and not any(seen[10:]), seen  # one to warm up, three recorded
    assert "add" not in vars(part)
    assert "memory: add" in (run.folder / "profile/profile.txt").read_text()
    plain, same = walk(dataclasses.replace(config, name="plain"), act=push)
    assert same.place.tolist() == part.place.tolist()


def test_profile_may_be_asked_for_when_a_run_goes_on(config, capsys):
    with pytest.raises(MemoryError):
        walk(config, die_at=40)
    run, _ = walk(dataclasses.replace(config, profile=2))
    assert run.step == 80 and (run.folder / "profile/trace.json").exists()


def test_a_recording_cut_short_is_written(config):
    run, _ = walk(dataclasses.replace(config, profile=1000))
    assert (run.folder / "profile/profile.txt").exists()


def test_too_short_a_run_says_so(config, capsys):
    run, _ = walk(dataclasses.replace(config, steps=10, profile=2))
    assert "no profile: the run ended" in capsys.readouterr().err
    assert not (run.folder / "profile").exists()


def test_full_disk_does_not_end_the_run(config, capsys):
    def block(run, step):
        if step == 0:
            (run.folder / "profile").write_text("no folder")

    run, _ = walk(dataclasses.replace(config, profile=2), act=block)
    assert run.step == 80 and "could not write the profile" in capsys.readouterr().err


def test_a_run_that_is_left_writes_no_profile(config, capsys, monkeypatch):
    def leave(run, step):
        if step == 16:  # while it is recorded
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(profile.Recorder, "_write", None)
    with pytest.raises(SystemExit):
        walk(dataclasses.replace(config, profile=1000), act=leave)
    assert "no profile: the run was left" in capsys.readouterr().err
    monkeypatch.undo()
    run, part = walk(dataclasses.replace(config, profile=2))  # and the next one is recorded
    assert (run.folder / "profile/profile.txt").exists()


def test_a_signal_breaks_off_the_reading_of_a_trace(config, capsys, monkeypatch):
    def read(*_):
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not broken off")

    monkeypatch.setattr(profile, "describe", read)
    with pytest.raises(SystemExit):
        walk(dataclasses.replace(config, profile=2))
    said = capsys.readouterr().err
    assert "profile broken off" in said and "saved at step" in said


def test_a_recording_prints_no_lines_of_torch_s_own(config):
    code = (
        "import dataclasses\nfrom pathlib import Path\nfrom tests.test_runs import Config, walk\n"
        f"walk(Config(folder=Path({str(config.folder)!r}), steps=80, profile=2))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "profile, in" in done.stderr, done.stderr
    assert not re.search(r"profiler|kineto|\[W\d|STAGE|WARNING", done.stderr + done.stdout, re.I), done.stderr
