"""ActorPool: publishes weights to the actors, receives what they play, replaces those that die."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from agents.apex.actor import Actor
from agents.apex.messages import Message
from runs.files import RunError

POLL_EVERY = 1.0  # seconds that one wait for a message takes at most
WAIT = 60.0  # seconds without a message after which that is said
MAX_DEATHS = 3  # an actor, in a row and before its first message: then the run ends


@dataclasses.dataclass
class _Slot:
    actor: Any
    reply: Any = None  # reference to the message that it is playing
    version: int = -1  # of the weights that it has


class ActorPool:
    """The actors, each in a process of Ray that plays one message after the other.

    Args:
        ray: the package, connected to a cluster.
        config: with actors, and max_staleness.
        build: makes the network for a world.
        seed: of the first actor's games; every further one has the next.
        say: prints a line.

    lost: actors that have died. discarded: messages that were too old.
    """

    def __init__(
        self, ray: Any, config: Any, build: Callable[..., Any], seed: int, say: Callable[[str], None] = print
    ) -> None:
        self._ray, self._config, self._build, self._seed, self._say = ray, config, build, seed, say
        self._actor = ray.remote(Actor)
        self._weights, self.version = None, -1
        self._slots: list[_Slot | None] = [None] * config.actors
        self._deaths = self.lost = self.discarded = 0

    def publish(self, weights: Mapping[str, Any], version: int) -> None:
        """Have actors play with these weights from their next message on. version: updates of the learner so far."""
        self._weights, self.version = self._ray.put(weights), version
        for number, slot in enumerate(self._slots):
            if slot is None:
                self._slots[number] = self._start_actor(number)

    def receive(self, updates: int) -> Message:
        """The next message that is no older than max_staleness. updates: of the learner so far.

        An actor that has died is replaced by one with other games, on whichever machine has room. Raises RunError
        where actors die as they start, and the error of an actor that has failed.
        """
        quiet = time.monotonic()
        while True:
            replies = {slot.reply: number for number, slot in enumerate(self._slots)}
            ready, _ = self._ray.wait(list(replies), timeout=POLL_EVERY)
            if not ready:
                if time.monotonic() - quiet > WAIT:
                    quiet = time.monotonic()
                    self._say(f"no message of an actor for {WAIT:.0f} s: are there CPUs for them?")
                continue
            number = replies[ready[0]]
            try:
                message = self._ray.get(ready[0])
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self._ray.exceptions.RayActorError as error:
                self._replace(number, error)
                continue
            self._deaths = 0
            self._assign(self._slots[number])
            if updates - message.version <= self._config.max_staleness:
                return message
            self.discarded += 1

    def _start_actor(self, number: int) -> _Slot:
        options = {"num_cpus": 1, "max_restarts": 0}
        actor = self._actor.options(**options).remote(self._config, self._build, number, self._seed)
        self._seed += 1
        slot = _Slot(actor)
        self._assign(slot)
        return slot

    def _assign(self, slot: _Slot) -> None:
        weights = self._weights if slot.version != self.version else None
        slot.reply = slot.actor.play.remote(self.version, weights)
        slot.version = self.version

    def _replace(self, number: int, error: Exception) -> None:
        self.lost += 1
        self._deaths += 1
        why = (str(error).strip().splitlines() or [repr(error)])[0]
        if self._deaths > MAX_DEATHS * self._config.actors:
            raise RunError(f"actors die as they start: {why}")
        self._say(f"actor {number} has died ({why}): another one takes its place")
        self._slots[number] = self._start_actor(number)

    def close(self) -> None:
        """End the actors."""
        for slot in filter(None, self._slots):
            self._ray.kill(slot.actor)
