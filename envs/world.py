"""World: the base class of environments, N games side by side, whose step returns a Transition.

A world keeps its current `observation` and restarts a finished game within the step, which rules out two classic
mistakes: learning from the next episode's first frame, and bootstrapping through an end. It also records the actions
of its games. A game is a function of its seed and its actions, so that `state_dict` holds only those, and
`load_state_dict` plays them again. No state of an emulator is ever serialized.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs import checks, tape
from envs.transition import StepResult, Transition, WorldError

__all__ = ["StepResult", "Transition", "World", "WorldError"]
LONG_REPLAY = 20_000  # steps whose replay is announced: some seconds of Atari


class World:
    """N games side by side. A subclass defines the simulator: `_restart`, `_emit`, `_collect`, `render`.

    Attributes:
        name: canonical, e.g. "Breakout"; `envs.make(name)` makes this world again.
        family: "atari", "control" (vectors) or "pixels"; a program picks its recipe by it.
        protocol: the rules of the game that a score must be quoted with, e.g. "classic"; or None.
        observation: (N, *observation_shape), current, on `device`. It is never written to again.
        stack: frames stacked on axis 0 of an observation; 1 means none.
        flicker: probability that a frame of a picture is black (Hausknecht & Stone 2015, "Deep recurrent Q-learning
            for partially observable MDPs"); drawn once a frame, which stays black as it moves through the stack.
        actions: number of discrete actions; None if actions are continuous.
        action_shape: shape of one world's action, () or (A,); with action_low and action_high if continuous.
        finished: returns and lengths of the whole games that ended in the last step.
        finished_worlds: the worlds in which they ended, in the same order.
        interrupted: (N,) bool on the CPU, the games that the last load_state_dict could not resume: others were
            started in their place, so that stored episodes of them are truncated.
        caveat: a warning for the start of a run, e.g. that no seed determines the games; or None.
        frames_per_second: how fast a film of `render` after every step should run.
    """

    observation: Tensor
    frames_per_second: int = 15
    caveat: str | None = None
    _seeded = True  # whether seeds and actions determine a game
    _tape_limit = 0  # steps since its last seeding after which a world's next game is seeded anew

    def __init__(
        self,
        name: str,
        family: str,
        protocol: str | None,
        count: int,
        seed: int,
        device: str | torch.device,
        observation_shape: tuple[int, ...],
        stack: int,
        actions: int | None,
        action_low: np.ndarray | None = None,
        action_high: np.ndarray | None = None,
        options: dict[str, Any] | None = None,
        flicker: float = 0.0,
    ) -> None:
        if not 0 <= flicker < 1:
            raise ValueError(f"flicker={flicker}: it is the probability that a frame is black, from 0 to below 1")
        if flicker and len(observation_shape) != 3:
            raise ValueError(f"flicker blackens frames, and {name} gives vectors: leave it out, or add pixels=True")
        self.name, self.family, self.protocol = name, family, protocol
        self.count, self.device = count, torch.device(device)
        self.observation_shape, self.stack = observation_shape, stack
        self.actions = actions
        self.action_low, self.action_high = action_low, action_high
        self.action_shape = () if action_low is None else action_low.shape
        self.options = options or {}
        self.flicker = flicker
        self._newest_only = stack > 1 and self.device.type != "cpu"  # stacks are then assembled on the device
        self._tape_dtype = np.float32 if actions is None else np.min_scalar_type(actions)
        self._all = np.ones(count, bool)
        self._rows = np.arange(count)
        self.interrupted = torch.zeros(count, dtype=torch.bool)
        self.reset(seed)

    # ---- called by programs

    def reset(self, seed: int) -> Tensor:
        """Restart every game, as a new world with this seed would. Returns the observation (N, ...)."""
        self._seed = seed
        self._seedings = np.zeros(self.count, np.int64)  # how often each world was seeded before
        self._tape = np.zeros((self.count, 64, *self.action_shape), self._tape_dtype)
        self._taped = np.zeros(self.count, np.int64)  # steps on each world's tape
        self._return = np.zeros(self.count, np.float64)
        self._length = np.zeros(self.count, np.int64)
        self._sent: Tensor | None = None
        self._failed = False
        self._clear_finished()
        self._visible = np.ones((self.count, self.stack), bool)  # frames that are not black, oldest first
        self._draw_flicker(self._all, 1)
        self.observation = self._tensor(self._blacken(self._begin(self._seedings, self._all)))
        return self.observation

    def send(self, action: Tensor) -> None:
        """Start a step; the simulator may run while the caller does something else until `recv`.

        Args:
            action: (N,) int64 in [0, actions), or (N, A) float32, on the world's device.

        Raises:
            TypeError: not a tensor, or of the wrong dtype.
            ValueError: of the wrong shape, on the wrong device, or out of range.
            RuntimeError: the step before was not received yet, or failed.
            WorldError: an observation or reward is invalid. state_dict() is then that of before the step.
        """
        if self._sent is not None:
            raise RuntimeError("send() was called twice: call recv() for the step before first")
        if self._failed:
            raise RuntimeError(f"the last step of {self.name} failed: reset(seed) or load a state first")
        array = checks.action(action, self.name, self.actions, (self.count, *self.action_shape), self.device)
        if self._taped.max() == self._tape.shape[1]:
            self._tape = np.concatenate([self._tape, np.zeros_like(self._tape)], axis=1)
        self._tape[self._rows, self._taped] = array
        self._taped += 1
        self._sent = action
        try:
            self._emit(array)
        except BaseException:
            self._undo()
            raise

    def recv(self) -> Transition:
        """Finish the step that `send` started, and start the next game wherever one ended. Returns (N, ...) fields.

        Raises:
            RuntimeError: no step was begun.
            WorldError: as send does.
        """
        if self._sent is None:
            raise RuntimeError("recv() without a step under way: call send(action) first")
        try:  # no state changes before all results are checked
            arrival = self._collect()
            self._check(arrival.observation, self._all, arrival.reward)
            ended = arrival.terminated | arrival.truncated
            reseed = ended & (self._taped >= self._tape_limit)
            seedings = self._seedings + reseed
            present = self._begin(seedings, reseed) if reseed.any() else arrival.present
        except BaseException:
            self._undo()
            raise
        action, self._sent = self._sent, None
        over, last = arrival.terminated, ended
        if arrival.lost is not None:
            over, last = over | arrival.lost, last | arrival.lost
        self._return += arrival.reward
        self._length += 1
        self._clear_finished()
        if self.flicker:
            self._visible = np.roll(self._visible, -1, axis=1)
            self._draw_flicker(self._all, 0)
        before = self.observation
        next_observation = self._moved(before, self._blacken(arrival.observation))
        if ended.any():
            self.finished_worlds = np.flatnonzero(ended).tolist()
            self.finished["episode/return"] = self._return[ended].tolist()
            self.finished["episode/length"] = self._length[ended].tolist()
            self._return[ended] = 0
            self._length[ended] = 0
            self._seedings = seedings
            self._taped[reseed] = 0
            self._visible[ended] = True  # a fresh stack: one frame, and nothing before it
            self._draw_flicker(ended, 1)
        self.observation = next_observation
        if present is not arrival.observation:
            self.observation = self._begun(next_observation, self._blacken(present), ended)
        reward, discount, last = self._signals(arrival.reward, ~over, last)
        return Transition(before, action, reward, discount, next_observation, last)

    def step(self, action: Tensor) -> Transition:
        """`send`, then `recv`: action (N,) int64 or (N, A) float32 -> Transition of (N, ...)."""
        self.send(action)
        return self.recv()

    def cancel_step(self) -> None:
        """Undo a step that was started and cannot be finished; afterwards only state_dict() may be called."""
        if self._sent is not None:
            self._sent = None
            self._taped -= 1

    @property
    def running(self) -> list[tuple[float, int]]:
        """Return so far and length of each world's current game, N pairs."""
        return list(zip(self._return.tolist(), self._length.tolist(), strict=True))

    def render(self) -> np.ndarray:
        """Pictures of all games, (N, H, W, 3) uint8, in color."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the simulator. The world cannot be used afterwards."""

    def state_dict(self) -> dict[str, Any]:
        """Seeds and actions from which all games can be replayed. Python numbers and tensors only.

        Raises:
            RuntimeError: a step is under way.
        """
        if self._sent is not None:
            raise RuntimeError("state_dict() in the middle of a step: call recv() first")
        return {
            "world": self.name,
            "options": dict(self.options),
            "count": self.count,
            "seed": self._seed,
            "seedings": torch.from_numpy(self._seedings.copy()),
            "taped": torch.from_numpy(self._taped.copy()),
            "tape": tape.storable(np.concatenate([self._tape[n, :k] for n, k in enumerate(self._taped)])),
            "return": torch.from_numpy(self._return.copy()),
            "length": torch.from_numpy(self._length.copy()),
            "visible": torch.from_numpy(self._visible.copy()),
            "present": tape.checksums(self.observation),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume the games of `state`, bit for bit, by playing their actions again.

        Prints a line where that takes more than some seconds. Where the observation then differs, or no seed
        determines the games, new ones start, with a warning, and `interrupted` tells which.

        Raises:
            ValueError: the state is of another world, of other options, or of another number of games.
        """
        mine = {"world": self.name, "options": self.options, "count": self.count}
        for key, value in mine.items():
            if state[key] != value:
                raise ValueError(f"this state is of another world: its {key} is {state[key]!r}, here {value!r}")
        self._seed = state["seed"]
        self._seedings = state["seedings"].numpy().copy()
        self._taped = state["taped"].numpy().copy()
        self._tape = np.zeros((self.count, max(64, 2 * self._taped.max()), *self.action_shape), self._tape_dtype)
        pieces = np.split(state["tape"].numpy(), np.cumsum(self._taped)[:-1])
        for n, piece in enumerate(pieces):
            self._tape[n, : len(piece)] = piece
        self._return = state["return"].numpy().copy()
        self._length = state["length"].numpy().copy()
        self._visible = state["visible"].numpy().copy()
        self._sent, self._failed = None, False
        self._clear_finished()
        lost = self._all
        if self._seeded:
            if (steps := self.count * int(self._taped.max())) > LONG_REPLAY:
                print(f"{self.name}: playing {steps:,} steps again, up to where its games were", flush=True)
            self.observation = self._tensor(self._blacken(self._replay(self._restart, self._advance)))
            lost = np.array(tape.checksums(self.observation)) != np.array(state["present"])
        self.interrupted = torch.from_numpy(lost.copy())
        if lost.any():
            warnings.warn(
                f"{self.name} played the same actions from the same seeds and arrived elsewhere: this run goes on, "
                f"but not exactly where it stopped (new games begin in {lost.sum()} of {self.count})"
                if self._seeded
                else f"no seed determines {self.name}: this run goes on, but not exactly where it stopped "
                "(its games under way are cut short, new ones begin)",
                RuntimeWarning,
                stacklevel=2,
            )
            self._seedings[lost] += 1
            self._taped[lost] = self._return[lost] = self._length[lost] = 0
            present = self._begin(self._seedings, lost)
            self._visible[lost] = True
            self._draw_flicker(lost, 1)
            self.observation = self._tensor(self._blacken(present))

    # ---- defined by subclasses

    def _restart(self, seeds: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Start the games in `mask` (N,) from their `seeds` (N,); returns all current observations (N, ...)."""
        raise NotImplementedError

    def _emit(self, action: np.ndarray) -> None:
        raise NotImplementedError

    def _collect(self) -> StepResult:
        raise NotImplementedError

    def _undo(self) -> None:
        """Undo the step that failed, except in the simulator."""
        self._taped -= 1
        self._sent, self._failed = None, True

    def _begin(self, seedings: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """_restart the games in `mask` (N,) by how often each world was seeded before, (N,), and check them."""
        present = self._restart(self._seeds(seedings), mask)
        self._check(present, mask)
        return present

    def _check(self, observation: np.ndarray, mask: np.ndarray, reward: np.ndarray | None = None) -> None:
        if found := checks.not_finite(observation, mask, reward):
            raise self._fault(*found, at_reset=reward is None)

    def _fault(self, n: int, what: str, at_reset: bool) -> WorldError:
        """The error for an invalid observation or reward of game n."""
        when = "at a reset" if at_reset else f"at step {self._length[n] + 1:,} of its game"
        return WorldError(
            f"{self.name}, world {n}, {when}: {what}. Nothing of this step is kept. A world gives finite numbers "
            "within float32's range: mend it, or wrap it (gymnasium.wrappers.TransformReward, TransformObservation)"
        )

    # ---- replay of recorded actions

    def _seeds(self, seedings: np.ndarray) -> np.ndarray:
        """(N,) 31-bit seeds, from the world's seed, its index and how often it was seeded before."""
        states = (np.random.SeedSequence([self._seed, n, int(e)]) for n, e in enumerate(seedings))
        return np.array([s.generate_state(1)[0] & 0x7FFFFFFF for s in states], np.int64)

    def _advance(self, action: np.ndarray) -> np.ndarray:
        self._emit(action)
        arrival = self._collect()
        ended = arrival.terminated | arrival.truncated
        if self._tape_limit == 0 and ended.any():  # only games that have not been started yet in _replay end here
            return self._restart(self._seeds(self._seedings), ended)
        return arrival.present

    def _replay(
        self,
        restart: Callable[[np.ndarray, np.ndarray], np.ndarray],
        advance: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Replay the actions of every game from its seed, so that all finish together; returns observations (N, ...).

        The simulator can only step all games at once, so that a game with few actions is started later, and plays
        arbitrary actions until then.
        """
        seeds, max_steps = self._seeds(self._seedings), int(self._taped.max())
        begins = max_steps - self._taped
        present = restart(seeds, self._all)
        for t in range(max_steps + 1):
            begin = begins == t
            if t and begin.any():
                present = restart(seeds, begin)
            if t < max_steps:
                # As wide as it was sent: some environments compute with the action's own dtype.
                action = self._tape[self._rows, np.maximum(t - begins, 0)]
                present = advance(action if self.actions is None else action.astype(np.int64))
        return present

    # ---- flickering

    def _draw_flicker(self, mask: np.ndarray, start: int) -> None:
        """Draw whether the newest frame of the worlds in `mask` (N,) is black, a function of seeds and steps alone.

        start: 1 for the first frame of a game, which is not the one that ended the game before in the same step.
        """
        if self.flicker:
            key = tape.mix(
                tape.mix(np.uint64(self._seed) + self._rows.astype(np.uint64)) + self._seedings.astype(np.uint64)
            )
            drawn = tape.mix(key + np.uint64(2) * self._taped.astype(np.uint64) + np.uint64(start))
            self._visible[mask, -1] = ((drawn >> np.uint64(11)) * 2.0**-53 >= self.flicker)[mask]

    def _blacken(self, picture: np.ndarray) -> np.ndarray:
        """(N, k * c, H, W) with its black frames blackened; the same array if there are none."""
        if not self.flicker or self._visible.all():
            return picture
        frames = picture.reshape(self.count, self.stack, -1)
        return (frames * self._visible[:, :, None]).reshape(picture.shape)

    # ---- transfers between NumPy and the device

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":  # the caching host allocator keeps the pinned copy until it has arrived
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _moved(self, before: Tensor, picture: np.ndarray) -> Tensor:
        """`picture` (N, ...) on the device of `before`; of a stack only its newest frame is transferred."""
        if not self._newest_only:
            return self._tensor(picture)
        frame = picture.shape[1] // self.stack
        return torch.cat([before[:, frame:], self._tensor(np.ascontiguousarray(picture[:, -frame:]))], 1)

    def _begun(self, next_observation: Tensor, present: np.ndarray, ended: np.ndarray) -> Tensor:
        """`present` (N, ...) on the device: next_observation or, where a game `ended` (N,), the next one's first
        frame."""
        if not self._newest_only:
            return self._tensor(present)
        first = self._moved(torch.zeros_like(next_observation), present)
        return torch.where(self._tensor(ended).view(-1, 1, 1, 1), first, next_observation)

    def _signals(self, reward: np.ndarray, going: np.ndarray, last: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        if self.device.type == "cpu":
            discount = torch.from_numpy(going.astype(np.float32))
            return torch.from_numpy(reward), discount, torch.from_numpy(last)
        packed = self._tensor(np.stack([reward, going, last]).astype(np.float32))  # one transfer, not three
        return packed[0], packed[1], packed[2].bool()

    def _clear_finished(self) -> None:
        self.finished_worlds: list[int] = []
        self.finished: dict[str, list[float]] = {"episode/return": [], "episode/length": []}
