"""Programs as forks of one prepared server: started, waited for, and what they said."""

import dataclasses
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Ended:
    """A program that has ended: its exit code (minus a signal's number; None where it hung) and what it said."""

    code: int | None
    said: str
    seconds: float
    heard: str = ""  # of standard output alone, where that was asked for


class Server:
    """Asks a server (tests/faults/server.py), a fork of this process, for forks that run programs. For one thread.

    Args:
        questions, answers: the pipes' ends to write to and to read from.
    """

    def __init__(self, questions: int, answers: int) -> None:
        self._questions, self._answers = os.fdopen(questions, "w"), os.fdopen(answers)

    def _ask(self, request: dict) -> dict:
        self._questions.write(json.dumps(request) + "\n")
        self._questions.flush()
        return json.loads(self._answers.readline())

    def start(
        self,
        program: str,
        arguments: Sequence[str],
        folder: Path,
        said: Path,
        fault: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        stdout: Path | None = None,
        stderr: Path | None = None,
    ) -> int:
        """Start a program; returns its process id. said: file of what it prints; stdout, stderr: pipes instead."""
        return self._ask(
            {
                "start": {
                    "program": program,
                    "arguments": list(arguments),
                    "environment": environment or {},
                    "stdout": str(stdout or said),
                    "stderr": str(stderr or said),
                    "fault": fault or {},
                    "folder": str(folder),
                }
            }
        )["pid"]

    def wait(self, pid: int, seconds: float) -> int | None:
        """Its exit code; None, and it is killed with all that it started, if it lasts longer."""
        code = self._ask({"wait": pid, "seconds": seconds})["code"]
        if code is None:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(pid, signal.SIGKILL)
            self._ask({"wait": pid, "seconds": 10})
        return code

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        folder: Path,
        seconds: float = 120.0,
        meanwhile: Callable[[int], None] | None = None,
        **how: Any,
    ) -> Ended:
        """Start a program and wait for its end. meanwhile: is called with its process id."""
        handle, said = tempfile.mkstemp(prefix="said-")
        os.close(handle)
        began = time.monotonic()
        pid = self.start(program, arguments, folder, Path(said), **how)
        if meanwhile:
            meanwhile(pid)
        code = self.wait(pid, seconds)
        text = Path(said).read_text(errors="replace")
        os.unlink(said)
        return Ended(code, text, time.monotonic() - began)

    def close(self) -> None:
        """End the server."""
        self._questions.write(json.dumps({"end": True}) + "\n")
        self._questions.close()


def head(path: Path, lines: int) -> threading.Thread:
    """A reader of the pipe `path` that closes it after some lines, as `| head` does."""
    os.mkfifo(path)

    def read() -> None:
        with open(path, "rb") as pipe:
            for _ in range(lines):
                pipe.readline()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader


def stopped(pid: int, seconds: float = 60.0) -> bool:
    """Whether a process stops (SIGSTOP) within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state in "TZ":
            return state == "T"
        time.sleep(0.01)
    return False
