"""Copies a run's folder to W&B in a process of its own, for which the run never waits.

The process is `runs.wandb_process`. It may fail, hang or be stopped without affecting the run.
"""

from __future__ import annotations

import json
import netrc
import os
import shlex
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 1.5  # seconds that a run waits at its end for the copy to be complete
ANSWER = 30.0  # seconds that W&B has to answer the process at its start; else it copies offline
LINGER = 60.0  # and to receive the rest after the end of the run


def logged_in() -> bool:
    """Whether W&B has a key on this machine (in the environment or the netrc file), without network access."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].rstrip("/")
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def agent_run() -> str:
    """The id that an agent of a W&B sweep has given the run which it started; "" where none did."""
    return os.environ.get("WANDB_RUN_ID", "") if os.environ.get("WANDB_SWEEP_ID") else ""


class WandbMirror:
    """A copy of a run's folder in W&B, made by a process beside the run. Its failure is a single warning.

    Args:
        mode: "auto" (WANDB_MODE, else online when logged in, else offline), "online", "offline" or "disabled".
        folder: the run's folder; W&B's own files go to folder/wandb.
        identity: W&B's run id: the same after a resume, so that the curve goes on.
        project, entity: where in W&B; None: WANDB_PROJECT, else "saccade"; the account's own entity.
    """

    def __init__(
        self,
        mode: str,
        folder: Path,
        identity: str,
        name: str,
        group: str,
        tags: tuple[str, ...],
        project: str | None = None,
        entity: str | None = None,
    ):
        if mode == "auto":
            wished = os.environ.get("WANDB_MODE")
            known = wished in ("online", "offline", "disabled")
            mode = wished if known else "online" if logged_in() else "offline"
        self.mode, self.folder = mode, folder
        project = project or os.environ.get("WANDB_PROJECT") or "saccade"
        self._asked = dict(folder=str(folder.absolute()), mode=mode, id=identity, name=name, group=group)
        self._asked |= dict(tags=list(tags), project=project, entity=entity, pid=os.getpid(), again=False)
        self._asked |= dict(answer=ANSWER, linger=LINGER)
        self._process: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._whole = False

    @property
    def command(self) -> str:
        """The command that uploads the folder's offline runs."""
        return f"wandb sync {shlex.quote(str(self.folder / 'wandb'))}/*run-*"

    @property
    def words(self) -> str:
        """The mode and, if it is offline, the command to upload."""
        return f"offline (to upload: {self.command})" if self.mode == "offline" else self.mode

    def open(self) -> None:
        """Start the process, when the run starts to iterate: a run that is refused leaves no page in W&B."""
        if self.mode == "disabled":
            return
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        try:
            (self.folder / "wandb").mkdir(exist_ok=True)
            with open(self.folder / "wandb" / "process.log", "wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "runs.wandb_process", json.dumps(self._asked)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": path, "WANDB_SILENT": "true"},
                    start_new_session=True,  # Ctrl-C and a closed terminal are not for it
                )
            os.set_blocking(self._process.stdout.fileno(), False)
        except OSError as error:
            self._give_up(str(error))

    def poll(self) -> None:
        """Read reports of the process, without waiting."""
        if self._process is None:
            return
        try:
            self._said += os.read(self._process.stdout.fileno(), 1 << 16)
        except OSError:  # nothing yet
            return
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            report: dict[str, Any] = json.loads(line)
            self.mode = report.get("mode", self.mode)
            self._whole |= "done" in report
            if "failed" in report:
                self._give_up(report["failed"])
                return

    def finish(self, whole: bool = True) -> str | None:
        """End the copy, waiting for it at most PATIENCE seconds. Returns a message for the user, None without any.

        whole: the run is finished.
        """
        if self._process is None:
            return None
        process = self._process
        try:
            if whole:
                os.write(process.stdin.fileno(), b"finished")
            process.stdin.close()
        except OSError:  # it has gone already
            pass
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        self.poll()
        if self._process is None:  # it failed, and that was said
            return None
        self._process = None
        if not self._whole:
            return f"W&B takes in the rest in the background; if it does not get there: {self.command}"
        return f"W&B offline, to upload: {self.command}" if self.mode == "offline" else None

    def _give_up(self, reason: str) -> None:
        self._process = None
        self.mode = "failed"
        warnings.warn(f"W&B stopped ({reason}); the run goes on, its folder holds everything", stacklevel=2)
