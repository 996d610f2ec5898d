"""A run's process on a node of a Ray cluster, and whether that node shares files, locks and code with the sweep.

Ray sends this module to the nodes by value, so that it needs nothing there but Python: a node without the code of the
rooms can say so.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where Ray has no clusters of several machines
    fcntl = None

ROOMS = ("agents", "envs", "replay", "runs", "vision")
TOKEN = "token"  # a file that the sweep writes, and holds a lock of

# Becomes the run, once it has asked Linux to send it SIGTERM where its parent, the worker of Ray, is killed: it then
# saves its checkpoint, and nobody else starts it as long as it holds its folder. (A worker that Ray ends kills its
# children itself.) Workers block SIGINT, which children inherit.
STARTER = """
import ctypes, os, signal, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != parent:
    sys.exit(143)
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execv(program[0], program)
"""


def code_digest(root: str) -> str:
    """SHA-256 of the rooms' Python files below a folder, "" where it has none."""
    found, paths = hashlib.sha256(), sorted(path for room in ROOMS for path in Path(root, room).rglob("*.py"))
    for path in paths:
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest() if paths else ""


def code_folder(root: str) -> str:
    """Where this node has the code of the rooms: `root`, the sweep's own, or where it is installed; "" without."""
    if Path(root, "runs", "sweep").is_dir():
        return root
    found = importlib.util.find_spec("runs")
    return str(Path(found.origin).parents[1]) if found and found.origin else ""


def problem(folder: str, token: str, root: str, digest: str, answer: str) -> str:
    """Why runs of the sweep cannot be on this node, in words; "" where they can.

    folder: with the sweep's token file, which has the content `token` and is locked by the sweep. root, digest: of
    the sweep's code. answer: the name of the file that is written there for the sweep to see.
    """
    path = Path(folder, TOKEN)
    try:
        found = path.read_text()
    except OSError as error:
        return f"does not see {folder} ({error.strerror}): --folder has to be on a file system that all nodes share"
    if found != token:
        return f"sees another {folder}: --folder has to be on a file system that all nodes share"
    try:
        with open(path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return f"does not see locks in {folder}: a run could be done twice. Mount it with locks over the network"
    except OSError as error:
        if not isinstance(error, BlockingIOError):
            return f"cannot write to {folder} ({error.strerror})"
    code = code_folder(root)
    if not code:
        return f"has no code: install the same version there, or put {root} on a file system that all nodes share"
    if code_digest(code) != digest:
        return f"has other code in {code} than this machine in {root}: install the same version there"
    Path(folder, answer).write_text(token)
    return ""


def where() -> str:
    """This node's host name."""
    return socket.gethostname()


class NodeProcess:
    """An actor of Ray that starts one process on its node, waits for it and sends it signals, from two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0  # signal that came before the process

    def node(self) -> tuple[str, str]:
        """Ray's name of the node, and its host name."""
        import ray

        return ray.get_runtime_context().get_node_id(), where()

    def run(
        self,
        command: Sequence[str],
        log: str,
        folder: str,
        variables: Mapping[str, str],
        gpus: float,
        checked: Mapping[str, str],
    ) -> tuple[str, int, float, float]:
        """Run a command to its end.

        command: what Python is called with, "-m agents.dqn --env=Catch ...". log: the file that its output is added
        to. folder: to run in, where the node has it. variables: of the environment, beside the node's own. gpus: that
        Ray has given it. checked: the arguments of `problem`.

        Returns why the node cannot run it ("" where it has), the exit status (minus a signal's number), seconds, and
        GB of memory that it had at most.
        """
        began = time.monotonic()
        if found := problem(**checked, answer=f"{where()}-{os.getpid()}"):
            return found, 1, 0.0, 0.0
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment.pop("OMP_NUM_THREADS", None)  # Ray's; a run's flag --threads sets its own
        environment |= variables
        paths = code_folder(checked["root"]), variables.get("PYTHONPATH"), os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        with self._lock:
            if self._asked:
                return "", -self._asked, 0.0, 0.0
            with open(log, "ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", STARTER, str(os.getpid()), sys.executable, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=folder if Path(folder).is_dir() else None,
                    start_new_session=True,
                )
            pid = self._process.pid
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it stays there to be signaled until the lock is taken
        with self._lock:
            _, status, usage = os.wait4(pid, 0)
            self._process.returncode = code = os.waitstatus_to_exitcode(status)
        return "", code, time.monotonic() - began, usage.ru_maxrss / 1e6  # kB

    def send(self, number: int) -> None:
        """Send the process a signal; before it is started, it never is."""
        with self._lock:
            if self._process is None:
                self._asked = number
            elif self._process.returncode is None:
                os.kill(self._process.pid, number)


def stopped(number: int) -> int:
    """The exit status of a process that a signal ended."""
    return -signal.Signals(number).value
