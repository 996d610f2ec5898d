"""A parent process that has imported everything, and forks: a program then starts in milliseconds, not seconds.

It is a fork itself, of tests/faults/__main__.py, and is asked and answers over two pipes, a line of JSON each:

    {"start": {"program", "arguments", "environment", "stdout", "stderr", "fault", "folder"}}   -> {"pid"}
    {"wait": pid, "seconds": s}   -> {"code": of the exit, minus the signal where one ended it, or null: still alive}

A fork that is to run a program comes back from all functions and runs it as `python -m` does, so that it ends as any
interpreter ends. Nothing here starts a thread: a fork would not have it.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys
import time
import warnings
from pathlib import Path

from tests.faults import strike

IMPORTED = (
    "torch",
    "numpy",
    "gymnasium",
    "scipy.signal",
    "PIL.Image",
    "safetensors.torch",
    "tyro",
    "rich.console",
    "rich.progress",
    "rich.table",
    "gymnasium.envs.toy_text.frozen_lake",
    "gymnasium.envs.classic_control.cartpole",
    "envs",
    "envs.catch",
    "envs.gymnasium_world",
    "envs.glimpse",
    "replay",
    "runs.run",
    "runs.command",
    "runs.reader",
    "vision.backbones",
    "vision.data",
    "vision.training.augmentation",
    "vision.training.schedules",
    "vision.optimizers",
)


def warm_up() -> None:
    """Do once what torch imports at its first use: meta tensors, an optimizer, autocast."""
    import torch

    from vision import backbones

    torch.set_num_threads(1)
    for name, shape in (("small", (1, 40, 40)), ("mlp", (4,)), ("lenet5", (3, 16, 16))):
        network = backbones.build(name, shape)
        optimizer = torch.optim.AdamW(network.parameters())
        network.maps(torch.zeros(2, *shape))[-1].sum().backward()
        optimizer.step()


def prepare() -> None:
    """Import what programs do. Raises RuntimeError where that has started a thread."""
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # moved, or an extra: the program imports it itself
            continue
    warm_up()
    gc.collect()
    gc.freeze()  # forks then do not go through all of it again
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{threads} threads: a fork would lack all but one of them")


def serve(questions: int, answers: int) -> dict | None:
    """Answer requests until there are no more: None then, and in a fork what it is to run. Takes two pipes' ends."""
    asked, answer = os.fdopen(questions), os.fdopen(answers, "w")
    for line in asked:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                os.close(questions)
                os.close(answers)
                return request["start"]
            found = {"pid": pid}
        elif "wait" in request:
            found = {"code": wait(request["wait"], request["seconds"])}
        else:
            break
        answer.write(json.dumps(found) + "\n")
        answer.flush()
    return None


def wait(pid: int, seconds: float) -> int | None:
    """The exit code of a fork, or None if it lives on after so many seconds, but those in which it lacked a core."""
    spent, lacked, before, pause = 0.0, 0.0, time.monotonic(), 0.005
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        spent += min(now - before, 1.0)  # more: this process lacked a core itself, or was stopped with the fork
        before, lacked = now, max(lacked, starved(pid))
        if spent - lacked > seconds:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def starved(pid: int) -> float:
    """Seconds that a process could have run and other programs had the cores: of its thread that waited longest."""
    waited = 0.0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError):  # it has ended
            waited = max(waited, int(path.read_text().split()[1]) / 1e9)
    return waited


def become(start: dict) -> None:
    """Take on the standard streams, the environment and the faults of what is to run."""
    os.setsid()  # a process group of its own, as a program has that a shell started
    for number, path in ((0, os.devnull), (1, start["stdout"]), (2, start["stderr"])):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.update(start["environment"])
    sys.argv[1:] = start["arguments"]
    strike.arm(start["fault"], Path(start["folder"]))


def run(start: dict) -> None:
    """Run a program, as `python -m` does."""
    become(start)
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import")
    runpy.run_module(start["program"], run_name="__main__", alter_sys=True)
