"""W&B beside the run: one whole curve offline; a dead, silent or stopped W&B costs a run less than two seconds."""

import dataclasses
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest.mock
from pathlib import Path

import pytest

from runs import Options, Run, RunError, Score, machine, wandb_mirror
from runs.wandb_process import Copy, Handed, Tail, begin

BUDGET = 2.0  # seconds that W&B may add to a run, at its start and end together


@dataclasses.dataclass(frozen=True)
class Config(Options):
    steps: int = 40
    wandb: str = "offline"
    log_every: int = 10


def play(config, pause=0.0, act=None):
    """A run of nothing but a log; with a pause (seconds) in its middle."""
    machine.prepare("cpu", config.seed)
    run = Run(config, "tests.walk", "Nowhere")
    run.track()
    for step in run.steps(config.steps, stride=2):
        run.log({"loss/td": float(step)})
        if step == 20:
            time.sleep(pause)
            if act:
                act(run)
    return run


@pytest.fixture
def config(tmp_path):
    return Config(folder=tmp_path)


@pytest.fixture(autouse=True)
def patience(monkeypatch, tmp_path):
    """W&B has few seconds here to answer, and no account of this machine."""
    for key in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(wandb_mirror, "ANSWER", 2.0)
    monkeypatch.setattr(wandb_mirror, "LINGER", 15.0)


def records(file):
    """The records of a .wandb file: LevelDB's log format, blocks of 32 KiB, a protobuf message each."""
    from wandb.proto import wandb_internal_pb2

    data, place, message = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32_768 - place % 32_768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            message = b""
            yield record


def copied(folder):
    """The lines and the run record of the only offline run under a run's folder. None while there is none."""
    files = list((folder / "wandb").glob("*run-*/*.wandb"))
    if [file.parent.name.startswith("offline-run-") for file in files] != [True]:
        return None
    lines, about = [], None
    for record in records(files[0]):
        if record.HasField("run"):
            about = about or record.run
        if record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            lines.append({key: value for key, value in items.items() if not key.startswith("_")})
    return lines, about


def logged(folder):
    """What the folder itself holds, in the order of its steps."""
    text = "".join((folder / name).read_text() for name in ("metrics.jsonl", "clock.jsonl"))
    return sorted(map(json.loads, text.splitlines()), key=lambda line: (line["step"], "seconds" in line))


def eventually(folder, patience=600.0):
    """Wait for the copy to become whole, in the background."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        found = copied(folder)
        if found and sorted(found[0], key=lambda line: (line["step"], "seconds" in line)) == logged(folder):
            return found
        time.sleep(0.2)
    log = folder / "wandb" / "process.log"
    raise AssertionError(f"no whole copy: {found and found[0]}\n{log.read_text() if log.exists() else ''}")


def test_a_resumed_run_is_one_offline_run_with_one_curve(config):
    config = dataclasses.replace(config, wandb_project="gym", wandb_entity="team", wandb_group="tries", tags=("x",))
    with pytest.raises(SystemExit):
        play(config, act=lambda run: os.kill(os.getpid(), signal.SIGTERM))
    folder = config.folder / "Nowhere" / "walk-1"
    eventually(folder)
    run = play(dataclasses.replace(config, log_every=4))
    lines, about = eventually(folder)
    steps = [line["step"] for line in lines if "loss/td" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 40
    assert (about.project, about.entity, about.run_group, about.display_name) == (
        "gym",
        "team",
        "tries",
        "Nowhere/walk-1",
    )
    assert about.run_id == json.loads((run.folder / "config.json").read_text())["id"]
    message = {item.key: json.loads(item.value_json) for item in about.config.update}
    assert message["program"] == "tests.walk" and "torch" in message["versions"] and "cores" in message["hardware"]
    assert message["steps"] == 40 and message["log_every"] == 4


def test_offline_says_how_to_upload(config, capsys):
    run = play(dataclasses.replace(config, name="two words"), pause=0.1)
    said = capsys.readouterr().err
    command = f"wandb sync {shlex.quote(str(run.folder / 'wandb'))}/*run-*"
    assert f"W&B offline (to upload: {command})" in said
    eventually(run.folder)
    done = subprocess.run(  # the command finds it
        ["sh", "-c", command.replace("sync", "sync --dry-run")], capture_output=True, text=True, timeout=900
    )
    assert "1 run" in done.stdout + done.stderr


def test_a_refused_run_opens_no_page(config):
    run = play(dataclasses.replace(config, wandb="disabled"))
    with pytest.raises(RunError, match="is finished"):
        play(config)
    assert not (run.folder / "wandb").exists()


@pytest.mark.parametrize("wandb", ["disabled", "offline"])
def test_a_wandb_that_cannot_be_imported_is_reported_once(config, monkeypatch, tmp_path, recwarn, wandb):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "wandb.py").write_text("raise ImportError('no such library')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    run = play(dataclasses.replace(config, wandb=wandb, log_every=2), pause=0.0 if wandb == "disabled" else 3.0)
    message = [str(warning.message) for warning in recwarn if "W&B" in str(warning.message)]
    assert len(message) == (wandb == "offline") and all("wandb cannot be imported" in words for words in message)
    assert run.step == 40


def test_a_python_without_room_for_a_process_goes_on(config, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(wandb_mirror.subprocess, "Popen", refuse)
    with pytest.warns(UserWarning, match="W&B stopped .*the run goes on"):
        assert play(config).step == 40


@pytest.mark.parametrize("asked", ["online", "offline", "disabled"])
def test_auto_follows_the_environment(tmp_path, monkeypatch, asked):
    monkeypatch.setenv("WANDB_MODE", asked)
    assert wandb_mirror.WandbMirror("auto", tmp_path, "id", "n", "g", ()).mode == asked


class Page:
    """A W&B run that keeps what it is given."""

    def __init__(self):
        self.lines = []

    def log(self, line):
        self.lines.append(line)


@pytest.mark.parametrize("score, summary", [(Score("eval/nats", "min"), "min"), (Score("eval/map"), "max")])
def test_the_summary_holds_the_best_score(tmp_path, monkeypatch, score, summary):
    wandb, run = unittest.mock.MagicMock(), Run(Config(folder=tmp_path), "tests.walk", "Nowhere", score=score)
    run._place.begin()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    wandb.init.return_value.dir = str(tmp_path)
    asked = dict(id="0", name="a", group="b", tags=[], project="c", entity=None)
    begin(run.folder, asked | dict(pid=1, again=False, mode="offline", answer=2.0, linger=2.0))
    defined = wandb.init.return_value.define_metric.call_args_list
    assert defined[-1] == unittest.mock.call(score.metric, step_metric="step", summary=summary)


def test_half_lines_wait_and_what_is_no_line_is_passed_over(tmp_path):
    tail = Tail(tmp_path / "metrics.jsonl")
    assert tail.read() == []
    with open(tail.path, "w") as file:
        file.write('{"step": 1, "a": null, "b": 2}\n[]\nnull\n\x00\x00\n{"step"')
        file.flush()
        assert tail.read() == [{"step": 1, "b": 2}]
        file.write(": 2}\n")
    assert tail.read() == [{"step": 2}] and tail.read() == []


def test_online_goes_on_after_what_is_there(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (10, 20, 30)))
    page = Page()
    Copy(tmp_path, page, after=20).update(last=True)
    assert page.lines == [{"step": 30}]


def test_what_has_arrived_is_not_sent_again_and_all_else_is(tmp_path):
    """The means of a step had arrived when the run was killed; its evaluation and its film come after the resume."""
    lines = [{"step": 10, "loss/td": 1.0}, {"step": 10, "eval/return": 2.0}, {"step": 20, "loss/td": 3.0}]
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
    page = Page()
    Copy(tmp_path, page, handed=Handed(tmp_path / "handed.txt", 0)).update(last=True)
    assert page.lines == lines[:1]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "step-000000000010.gif").write_bytes(b"film")
    page.step = 1
    for _ in range(2):  # the second process finds nothing new
        copy = Copy(tmp_path, page, after=10, handed=Handed(tmp_path / "handed.txt", len(page.lines)))
        copy._film = lambda path, step: page.log({"eval/film": path.name, "step": step})
        copy.update(last=True)
    assert page.lines == [*lines, {"eval/film": "step-000000000010.gif", "step": 10}]


def test_what_was_handed_over_and_has_not_arrived_is_sent_again(tmp_path):
    for _ in range(2):
        handed = Handed(tmp_path / "handed.txt", 0)
        assert handed.new("a") and handed.new("b") and not handed.new("a")
    assert not Handed(tmp_path / "handed.txt", 1).new("a") and Handed(tmp_path / "handed.txt", 1).new("b")
    with pytest.raises(ValueError, match="of 7 things"):
        Handed(tmp_path / "handed.txt", 7)


def test_films_are_copied_once_and_a_broken_one_stops_nothing(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    (tmp_path / "videos").mkdir()
    names = ("step-000000000010.mp4", "step-000000000020.mp4", "000000000025.mp4", "Freeway-seed-1.mp4")
    for name in (*names, "saccades.gif", "x.mp4.tmp"):
        (tmp_path / "videos" / name).write_bytes(b"no film")
    (tmp_path / "metrics.jsonl").write_text('{"step": 30}\n')
    import wandb

    def video(path, format):
        if "10.mp4" in path:
            raise OSError("broken")
        return Path(path).name

    monkeypatch.setattr(wandb, "Video", video)
    page = Page()
    copy = Copy(tmp_path, page)
    copy.update()
    by_step = [(25, "000000000025.mp4"), (20, "step-000000000020.mp4")]

    def films():
        return [(line["step"], line["eval/film"]) for line in page.lines if "eval/film" in line]

    assert films() == by_step
    copy.update(last=True)
    assert films() == [*by_step, (30, "Freeway-seed-1.mp4"), (30, "saccades.gif")], "at the step that the run reached"


@pytest.mark.parametrize("kind", ["samples", "reconstructions", "predictions"])
def test_pictures_are_copied_once(tmp_path, monkeypatch, kind):
    wandb = pytest.importorskip("wandb")
    (tmp_path / kind).mkdir()
    for name in ("000000000010.png", "000000000020.png", "000000000030.png", "000000000020.txt", "grid.png"):
        (tmp_path / kind / name).write_bytes(b"no picture")

    def image(path):
        if "20.png" in path:
            raise OSError("broken")
        return Path(path).name

    monkeypatch.setattr(wandb, "Image", image)
    page = Page()
    copy = Copy(tmp_path, page, after=10)
    copy.update()
    copy.update(last=True)
    assert page.lines == [{"step": 30, f"eval/{kind}": "000000000030.png"}]


def timed(config, **others):
    began = time.monotonic()
    run = play(config, **others)
    return run, time.monotonic() - began


def extra(config, pause):
    """A run beside W&B and the seconds it takes more than one without."""
    alone = timed(dataclasses.replace(config, wandb="disabled", name="alone"), pause=pause)[1]
    run, beside = timed(dataclasses.replace(config, wandb="online", name="beside"), pause=pause)
    print(f"{beside - alone:.2f} s more than disabled")
    return run, beside - alone


@pytest.fixture
def server():
    """A loopback port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refusing", "silent"])
@pytest.mark.parametrize("pause", [0.0, 8.0])
def test_a_dead_server_costs_nothing(config, monkeypatch, server, kind, pause):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server if kind == 'silent' else 9}")
    run, longer = extra(config, pause)
    assert longer < BUDGET
    eventually(run.folder)


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.parametrize("whom", ["service", "process"])
def test_a_stopped_service_stops_no_run(config, whom):
    stopped, stopped_at = [], []

    def stop(run):
        pid = run.wandb_mirror._process.pid
        until = time.monotonic() + 300
        while not list(run.folder.glob("wandb/offline-run-*/*.wandb")) and time.monotonic() < until:
            time.sleep(0.1)
        stopped.extend(children(pid) if whom == "service" else [pid])
        for each in stopped:
            os.kill(each, signal.SIGSTOP)
        stopped_at.append(time.monotonic())

    run = play(dataclasses.replace(config, log_every=2), act=stop)
    took = time.monotonic() - stopped_at[0]
    print(f"stopped {whom}: {took:.2f} s from there to the run's end")
    assert stopped and took < BUDGET and run.step == 40
    if whom == "process":
        os.kill(stopped[0], signal.SIGCONT)
    eventually(run.folder)


@pytest.mark.slow
def test_a_killed_run_leaves_a_whole_copy_and_no_process(tmp_path):
    code = (
        "from tests.test_wandb_mirror import *; import os, signal\n"
        f"play(Config(folder=Path({str(tmp_path)!r}), log_every=2, save_every=0), pause=4,"
        " act=lambda run: os.kill(os.getpid(), signal.SIGKILL))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, timeout=900)
    eventually(tmp_path / "Nowhere" / "walk-1")
