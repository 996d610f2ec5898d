"""W&B as the mirror of a run's folder: it may fail, lag or be absent, and the run never notices."""

from __future__ import annotations

import netrc
import os
import warnings
from pathlib import Path
from typing import Any


def logged_in() -> bool:
    """Whether W&B has a key on this machine (in the environment or the netrc file). Asks no network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].rstrip("/")
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class Mirror:
    """A W&B run that copies what a folder holds. Every failure is warned about once and then ignored.

    Args:
        mode: "auto" (online when logged in, else offline), "online", "offline" or "disabled".
        folder: the run's folder; W&B's own files go to folder/wandb.
        identity: W&B's run id: the same after a resume, so that the curve goes on.
    """

    def __init__(
        self,
        mode: str,
        folder: Path,
        identity: str,
        name: str,
        group: str,
        tags: tuple[str, ...],
        config: dict,
    ):
        self.run: Any = None
        if mode == "auto":
            mode = "online" if logged_in() else "offline"
        self.mode = mode
        self._page = dict(dir=folder, id=identity, name=name, group=group, tags=list(tags), config=config)

    def open(self) -> None:
        """Begin: a run that is refused before its first step leaves no page."""
        if self.mode == "disabled":
            return
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            import wandb

            self.run = wandb.init(
                **self._page,
                project=os.environ.get("WANDB_PROJECT", "saccade"),
                mode=self.mode,
                resume="allow" if self.mode == "online" else None,
                settings=wandb.Settings(init_timeout=30, silent=True, console="off"),
            )
            # Steps before a kill are logged again after the resume: as an axis of its own that does no harm.
            self.run.define_metric("step")
            self.run.define_metric("*", step_metric="step")
        except Exception as error:  # whatever W&B raises, the folder is the truth and the run goes on
            self._give_up(error)

    def log(self, metrics: dict) -> None:
        """Copy one line; metrics holds "step"."""
        self._try(lambda: self.run.log(metrics))

    def video(self, key: str, path: Path, step: int) -> None:
        """Copy a film that lies in the folder already."""
        import wandb

        self._try(lambda: self.run.log({key: wandb.Video(str(path), format="mp4"), "step": step}))

    def finish(self) -> None:
        """Close the W&B run."""
        self._try(lambda: self.run.finish())
        self.run = None

    def _try(self, act: Any) -> None:
        if self.run is None:
            return
        try:
            act()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.run = None
        self.mode = "failed"
        warnings.warn(f"W&B stopped ({error!r}); the run goes on, its folder holds everything", stacklevel=2)
