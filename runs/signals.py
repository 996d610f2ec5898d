"""Signals that end a run: Ctrl-C, SIGTERM (preemption by a cluster), SIGHUP (a closed terminal)."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
TOGETHER = 1.0  # seconds in which signals count as one: timeout(1), job managers, closed terminals send two


class Interrupted(BaseException):
    """Raised in the main thread by a signal that arrives during a side task."""


class Signals:
    """Notes the first signal, so that the run saves at the end of its iteration, and exits at once on a later one.

    number: of the first signal, None before it.
    breakable: whether a signal raises Interrupted immediately.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.breakable = False
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handlers, in the main thread only. Signals that are ignored (nohup) stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._arrive)

    def restore(self) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _arrive(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._since = number, now
            if self.breakable:
                raise Interrupted
        elif now - self._since > TOGETHER and number != getattr(signal, "SIGHUP", None):
            raise SystemExit(128 + number)  # a second request: exit without saving
