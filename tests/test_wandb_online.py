"""W&B online, against a server on this machine: each line arrives once, and costs the run no time."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from runs import Run, machine, wandb_mirror
from runs.wandb_process import hold
from tests.test_wandb_mirror import BUDGET, Config, extra, logged, timed
from tests.wandb_server import WandbServer
from vision import backbones

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


def everything(config, die=None):
    """A run with lines, evaluations, films, pictures and weights; it is killed at a step, when W&B has what there
    is.
    """
    machine.prepare("cpu", config.seed)
    torch.manual_seed(1)
    network = torch.nn.Linear(2, 1)
    run = Run(config, "tests.walk", "Nowhere")
    run.track(network=network)
    for step in run.steps(config.steps, stride=2):
        run.log({"loss/td": float(step)})
        if run.due(10):
            network.weight.data.fill_(step)
            with run.writing(f"videos/step-{step + 2:012d}.gif") as path:
                path.write_bytes(b"film %d" % step)
            with run.writing(f"predictions/{step + 2:012d}.png") as path:
                Image.new("RGB", (4, 4), (step, 0, 0)).save(path, format="png")
            run.log_evaluation({"eval/return": float(step)})
            with run.writing("backbone.safetensors") as path:
                path.write_bytes(b"weights %d" % step)
        if step == die:
            time.sleep(5)
            os.kill(os.getpid(), signal.SIGKILL)


def check_everything(server, folder, page):
    """Each line, film, picture and config once, and the weights as artifacts, the last ones the latest."""
    lines = page.lines()
    numbers = [line for line in lines if "eval/film" not in line and "eval/predictions" not in line]
    known = [line for line in logged(folder) if "loss/td" in line or "eval/return" in line]
    assert ordered(line for line in numbers if "seconds" not in line) == ordered(known)
    for kind in ("eval/film", "eval/predictions"):
        assert [line["step"] for line in lines if kind in line] == [10, 20, 30, 40]
    sent = [name for name in page.files if name.startswith("media/")]
    assert len(sent) == len(set(sent)) == 8
    assert json.loads(page.config)["steps"]["value"] == 40
    latest = {name: server.artifacts.find(f"{name}:latest") for name in ("backbone", "checkpoint")}
    assert latest["backbone"].files == {"backbone.safetensors": b"weights 38"}
    assert latest["checkpoint"].files == {"best.pt": (folder / "checkpoint/best.pt").read_bytes()}
    assert all({*version.aliases} == {"latest", "Nowhere-walk-1"} for version in latest.values())
    assert server.artifacts.uploads == 2 * len(server.artifacts.versions), "a file and its manifest, once"


def test_everything_arrives_once_also_after_a_kill_and_a_resume(server, tmp_path):
    code = (
        "from pathlib import Path\nfrom tests.test_wandb_mirror import Config\n"
        "from tests.test_wandb_online import everything\n"
        f"everything(Config(folder=Path({str(tmp_path)!r}), wandb='online', log_every=10, save_every=0), die=24)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, timeout=900)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "Nowhere" / "walk-1"
    arrived(server, folder, exits=1)
    assert [version.files for version in server.artifacts.versions if version.name == "backbone"] == [
        {"backbone.safetensors": b"weights 18"}
    ]
    everything(Config(folder=tmp_path, wandb="online", log_every=10, save_every=0))
    check_everything(server, folder, arrived(server, folder, exits=2))


def offline_run(root):
    """The folders of an offline run and of W&B's part of it, once it is written."""
    everything(Config(folder=root, wandb="offline", log_every=10))
    folder = root / "Nowhere" / "walk-1"
    until = time.monotonic() + 600
    while (folder / "wandb/copying.lock").exists() and not hold_free(folder) and time.monotonic() < until:
        time.sleep(0.2)
    (offline,) = (folder / "wandb").glob("offline-run-*")
    return folder, offline


def on_a_terminal(command, words, patience=120.0):
    """What a program draws on a terminal, without its escapes, once all words are there; then q is pressed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, os.environ | {"TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
    drawn, until = b"", time.monotonic() + patience
    try:
        while time.monotonic() < until and not all(word in plain(drawn) for word in words):
            if select.select([terminal], [], [], 0.2)[0]:
                new = os.read(terminal, 65_536)
                drawn += new
                if b"\x1b[6n" in new:  # it asks where the cursor is
                    os.write(terminal, b"\x1b[1;1R")
        os.write(terminal, b"q")
    except OSError:  # it has ended
        pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return plain(drawn)


def plain(drawn):
    return re.sub(r"\x1b[\[\]()>=?]*[0-9;?]*[a-zA-Z]?", "", drawn.decode(errors="replace"))


def test_leet_opens_an_offline_run(server, tmp_path):
    """`wandb leet`, W&B's viewer on the terminal: the run's numbers, and its picture."""
    folder, offline = offline_run(tmp_path)
    leet = [sys.executable, "-m", "wandb", "leet"]
    done = subprocess.run([*leet, "inspect", "--summary", "--json", str(offline)], capture_output=True, text=True)
    if "No such command" in done.stderr:
        pytest.skip("an older version of wandb")
    found = json.loads(done.stdout)
    assert json.dumps(found).count("Nowhere/walk-1") and found["project"] == "saccade", found
    last = logged(folder)[-1]
    assert any(found["summary"].get(word) == value for word, value in last.items() if word != "step"), found
    drawn = on_a_terminal([*leet, "run", str(offline)], ("Nowhere/walk-1", "Metrics [1-", "loss/td"))
    assert "Nowhere/walk-1" in drawn and "Metrics [1-" in drawn and "loss/td" in drawn, drawn


def test_an_offline_run_that_is_synced_later_keeps_everything(server, tmp_path):
    folder, offline = offline_run(tmp_path)
    command = [sys.executable, "-m", "wandb", "sync", str(offline)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, timeout=900, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    check_everything(server, folder, arrived(server, folder, exits=1))


def hold_free(folder):
    """Whether the process that copies a folder has ended."""
    lock = hold(folder / "wandb", 0.0)
    if lock is None:
        return False
    lock.close()
    return True


def test_a_backbone_is_an_artifact(server, tmp_path, monkeypatch):
    """An agent and a classifier begin with one that a run has logged; the second time without a server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(3)
    backbone = backbones.build("small", (1, 12, 12), width=0.25)
    backbones.save(backbone, tmp_path / "backbone.safetensors")
    code = (
        "import wandb\n"
        f"run = wandb.init(project='saccade', entity='team', dir={str(tmp_path)!r})\n"
        "artifact = wandb.Artifact('backbone', type='backbone')\n"
        f"artifact.add_file({str(tmp_path / 'backbone.safetensors')!r})\nrun.log_artifact(artifact)\nrun.finish()"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=600, check=True, capture_output=True)
    assert len(server.artifacts.versions) == 1
    few = ["--backbone", "wandb:team/saccade/backbone:v0", "--wandb", "disabled", "--device", "cpu", "--threads", "1"]
    few += ["--steps", "64", "--batch", "8", "--evaluate-every", "32", "--folder", str(tmp_path), "--frozen"]
    agent = ["agents.dqn", "--env", "Catch", "--film-seconds", "0", "--learn-start", "32", "--evaluate-games", "1"]
    pictures = ["vision.classification", "--data", "shapes", "--no-test", "--train", "head"]
    for module, *flags in (agent, pictures):
        given = few if module == "agents.dqn" else few[:-1]
        done = subprocess.run(
            [sys.executable, "-m", module, *flags, *given], cwd=ROOT, env=os.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # fetched already
        (saved,) = tmp_path.glob("*/dqn-1" if module == "agents.dqn" else "*/classification-1")
        found = backbones.load(saved).state_dict()
        first = next(iter(backbone.state_dict()))
        assert found.keys() == backbone.state_dict().keys()
        if module == "agents.dqn":
            assert torch.equal(found[first], backbone.state_dict()[first])
    few[1] = "wandb:team/saccade/backbone:latest"
    done = subprocess.run(
        [sys.executable, "-m", *agent, *few, "--name", "x"], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 2 and "W&B has not given wandb:team/saccade/backbone:latest" in done.stderr
    assert "Traceback" not in done.stderr
