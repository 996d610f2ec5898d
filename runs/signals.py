"""What asks a run to leave: Ctrl-C, SIGTERM (a cluster's notice), SIGHUP (a terminal that was closed)."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
TOGETHER = 1.0  # seconds in which signals count as one: timeout(1), job managers, closed terminals send two


class Interrupted(BaseException):
    """Raised in the main thread by a signal that reaches what a run can do without, or do again."""


class Signals:
    """Notes the first signal, for a run that saves at its iteration's end, and leaves at once on a later one.

    number: of the first signal, None before it.
    breakable: whether a signal is to raise Interrupted where it arrives.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.breakable = False
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Begin to listen. A signal that was ignored before (nohup) stays so; other threads cannot listen."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._arrive)

    def restore(self) -> None:
        """Listen no more."""
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
            raise SystemExit(128 + number)  # asked again: at once, the last checkpoint stands
