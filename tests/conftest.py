"""What tests share: a thread each, because they run side by side, a process a core; and runs that are killed."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which starts as many threads as it is told

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import runs

ROOT = Path(__file__).resolve().parent.parent

# A shell's background job, or nohup, starts the tests with signals ignored, and runs leave those as they are: what
# is tested here is what a signal does.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests train for minutes, on a loaded machine for hours: the limit of the quick ones is not theirs."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(14_400))


@pytest.fixture
def kill(tmp_path) -> Callable[..., None]:
    """kill(program, **flags): start a run called "killed" in tmp_path, and kill it after its second checkpoint."""

    def run(program: str, **flags: object) -> None:
        flags |= {"folder": tmp_path, "name": "killed", "wandb": "disabled", "film_seconds": 0}
        words = []
        for key, value in flags.items():
            flag = key.replace("_", "-")
            words.append(f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag}={value}")
        running = subprocess.Popen(
            [sys.executable, "-m", program, *words],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(list(tmp_path.glob("*/killed/checkpoint/0*.json"))) < 2 and running.poll() is None:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "the run was over before it could be killed"

    return run


@pytest.fixture
def stop_at() -> Callable[..., None]:
    """stop_at(step, train, config): train(config) ends with an error where its run logs a step from `step` on."""

    class Stopped(Exception):
        pass

    log = runs.Run.log

    def run(step: int, train: Callable[..., None], config: object) -> None:
        def stopping(self: runs.Run, metrics: object) -> None:
            if self.step >= step:
                raise Stopped
            log(self, metrics)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(runs.Run, "log", stopping)
            train(config)

    return run


@pytest.fixture
def same_ends(tmp_path) -> Callable[..., None]:
    """same_ends(*parts): the runs "killed" and "whole" in tmp_path wrote the same metrics, and end in equal parts."""

    def check(*parts: str) -> None:
        folders = [next(tmp_path.glob(f"*/{name}")) for name in ("killed", "whole")]
        metrics = [(folder / "metrics.jsonl").read_bytes() for folder in folders]
        assert metrics[0] == metrics[1] and b'"loss/' in metrics[0]
        files = [max((folder / "checkpoint").glob("0*.pt")) for folder in folders]
        assert files[0].name == files[1].name
        ends = [torch.load(file, weights_only=True)["parts"] for file in files]
        for part in parts:
            torch.testing.assert_close(ends[0][part], ends[1][part], rtol=0, atol=0)

    return check


@pytest.fixture
def browser():
    """Chromium, opened by playwright; without either the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with playwright.sync_playwright() as started:
        if not found:
            found = started.chromium.executable_path
        try:
            opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {error}")
        yield opened
        opened.close()
