"""tests/benchmarks/gpu.py: what hangs or dies is named and the rest is done; all of it, small, on the CPU."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests/benchmarks"))

import gpu  # noqa: E402
import gpu_plan  # noqa: E402
import gpu_summary  # noqa: E402

from agents import pqn  # noqa: E402
from runs import flags  # noqa: E402

WORKER = """
import json, os, sys, time
for job in sys.argv[2:]:
    def say(event, **more):
        with open(sys.argv[1], "a") as file:
            file.write(json.dumps({"job": job, "event": event, "time": 0.0} | more) + "\\n")
    say("begin")
    if job == "dies":
        print("last words", flush=True)
        os._exit(7)
    if job == "hangs":
        time.sleep(600)
    say("end", status="failed" if job == "fails" else "passed", result={"per_second": 3.0})
"""


def work(tmp_path, jobs, limit=1.0, code=WORKER):
    report = tmp_path / "report.jsonl"
    return gpu.Work(
        jobs, lambda left: [sys.executable, "-c", code, str(report), *left], limit, tmp_path / "log", report
    )


def test_the_others_go_on(tmp_path):
    done = work(tmp_path, ["first", "dies", "hangs", "fails", "last"])
    done.run(gpu.Clock(60))
    assert {job: about["status"] for job, about in done.found.items()} == {
        "first": "passed", "dies": "crashed", "hangs": "hung", "fails": "failed", "last": "passed",
    }  # fmt: skip
    assert "exit status 7" in done.found["dies"]["error"] and "last words" in done.found["dies"]["error"]


def test_time_is_kept(tmp_path):
    done, began = work(tmp_path, ["first", "hangs", "last"], limit=100), time.monotonic()
    done.run(gpu.Clock(2))
    assert time.monotonic() - began < 20
    assert done.found["hangs"]["status"] == "out of time" and done.found["last"] == {"status": "not begun"}


def test_a_process_that_never_begins_is_not_started_forever(tmp_path):
    done = work(tmp_path, ["first", "second"], code="import sys; sys.exit('no such module')")
    done.run(gpu.Clock(60))
    assert all("no such module" in about["error"] for about in done.found.values())


def test_plan_and_summary(tmp_path):
    """Every mode of every agent is planned once; the games' flags are understood; a summary without results."""
    for device in ("cuda", "cpu"):
        names = [job["name"] for job in gpu_plan.jobs(device, 200)]
        assert len(names) == len(set(names)) and names[0].startswith("emulator")
        for game, seconds, words in gpu_plan.games(device, 100, None):
            config = flags.parse(pqn.Config, "agents.pqn", args=words)
            config.validate()
            assert config.env == game and config.device == device and 0 < seconds <= 100
    assert {f"PPO, 128 worlds, {mode}" for mode in ("plain", "capture", "compile")} <= {
        job["name"] for job in gpu_plan.jobs("cuda", 200)
    }
    found = {"table": {"PQN, 128 worlds, plain": {"status": "passed", "result": {"per_second": 5.0}}}}
    found["table"] |= {"PQN, 256 worlds, plain": {"status": "passed", "result": {"per_second": 9.0}}}
    found["table"] |= {"DQN, 16 worlds, plain": {"status": "hung", "error": "hung: 75 s"}}
    assert gpu_summary.measured(found, "PQN, 256 worlds, plain") == 9.0
    assert gpu_summary.measured(found, "DQN, 16 worlds, plain") is gpu_summary.measured({}, "PQN") is None
    about = {"hardware": {"processor": "x", "cores": 1}, "versions": {"torch": "2", "python": "3"}, "commit": None}
    gpu_summary.write(tmp_path, about, found)
    assert "hung  hung: 75 s" in (tmp_path / "summary.txt").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["counts"]["table"] == {"passed": 2, "hung": 1}


@pytest.mark.slow
def test_all_of_it_on_the_cpu(tmp_path):
    """Nothing fails but what needs a GPU; a slow machine may not come to everything."""
    began, out = time.monotonic(), tmp_path / "out"
    command = [sys.executable, "tests/benchmarks/gpu.py", "--device", "cpu", "--minutes", "3", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert time.monotonic() - began < 3 * 60 + 10
    found = json.loads((out / "summary.json").read_text())["found"]
    assert found.keys() == {"tests", "table", "train"} and found["table"]["emulator, 4 worlds"]["status"] == "passed"
    bad = {
        name: about
        for group in found.values()
        for name, about in group.items()
        if about["status"] in ("failed", "crashed")
    }
    expected = bad.pop("DQN, 4 worlds, capture", None)
    assert not bad and (expected is None or "--capture: CUDA graphs need" in expected["error"]), bad
