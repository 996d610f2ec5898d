"""The RAM of the consoles that an ALE vector environment plays, which it does not show: the same games played again.

A second console a world gets the same seed and the same actions, and so plays the same game, sticky actions included
(a game is a function of its seed and its actions). The vector environment's frames stay what they are. After every
step both have to agree on the frames played, on lives, reward and end.
"""

from __future__ import annotations

from typing import Any

import ale_py.roms
import numpy as np
from ale_py import Action, ALEInterface, LoggerMode

SIZE = 128  # bytes


class ConsoleMemory:
    """RAM of N consoles that keep step with a vector environment of the same ROM.

    rom, frameskip, full_action_space, use_fire_reset, max_num_frames_per_episode, repeat_action_probability: as
        AtariVectorEnv takes them.

    Attributes:
        present: (N, 128) uint8, of the vector environment's observations.
        arrived: (N, 128) uint8, where the last step led: the same, unless a game ended there and the next began.
        before: (N, 128) uint8, one emulator frame before `present`: some games draw first and move then.
    """

    def __init__(
        self,
        rom: str,
        count: int,
        frameskip: int,
        full_action_space: bool,
        use_fire_reset: bool,
        max_num_frames_per_episode: int,
        repeat_action_probability: float,
    ) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._rom = ale_py.roms.get_rom_path(rom)
        self._consoles = [ALEInterface() for _ in range(count)]
        self._frameskip, self._limit = frameskip, max_num_frames_per_episode
        self._full, self._fire = full_action_space, use_fire_reset
        self._frames = np.zeros(count, np.int64)  # of each game
        self._reward = np.zeros(count, np.int64)
        self._over = np.zeros(count, bool)
        self.present, self.arrived, self.before = np.zeros((3, count, SIZE), np.uint8)
        for console in self._consoles:
            console.setFloat("repeat_action_probability", repeat_action_probability)

    def restart(self, seeds: np.ndarray, mask: np.ndarray, info: dict[str, Any]) -> None:
        """Start the games in `mask` (N,) on newly seeded consoles, as the vector environment (info: its).

        Loading a ROM takes each of them about 0.1 s.
        """
        for n in np.flatnonzero(mask).tolist():
            console = self._consoles[n]
            console.setInt("random_seed", int(seeds[n]))
            console.loadROM(self._rom)
            self._actions = console.getLegalActionSet() if self._full else console.getMinimalActionSet()
            self._begin(n, info)
        self._check(info)

    def step(self, action: np.ndarray) -> None:
        """Play what the vector environment plays with the actions (N,)."""
        for n, number in enumerate(action.tolist()):
            console, held, reward = self._consoles[n], self._actions[number], 0
            for _ in range(self._frameskip):
                console.getRAM(self.before[n])
                reward += console.act(held)
                self._frames[n] += 1
                if console.game_over() or self._frames[n] >= self._limit:
                    break
            self._reward[n], self._over[n] = reward, console.game_over()
            console.getRAM(self.present[n])

    def finish(self, reward: np.ndarray, terminated: np.ndarray, ended: np.ndarray, info: dict[str, Any]) -> None:
        """Begin the next game where one ended (N,), as the vector environment did, which gave the rest of the step.

        Raises RuntimeError where the consoles played another game than the vector environment.
        """
        self.arrived = self.present.copy()
        wrong = (self._reward != reward) | (self._over != terminated)
        if wrong.any():
            self._differ("reward or end", np.flatnonzero(wrong))
        for n in np.flatnonzero(ended).tolist():
            self._begin(n, info)
        self._check(info)

    def screens(self) -> np.ndarray:
        """The last frame of each console, (N, 210, 160, 3) uint8: it alone, not the maximum of two."""
        return np.stack([console.getScreenRGB() for console in self._consoles])

    def _begin(self, n: int, info: dict[str, Any]) -> None:
        """The start of game n. How many no-ops were drawn shows in the number of frames since its power was on."""
        console, until = self._consoles[n], int(info["frame_number"][n])
        console.reset_game()
        if self._fire and Action.FIRE in self._actions:
            console.act(Action.FIRE)
        console.getRAM(self.before[n])
        while console.getFrameNumber() < until:
            console.getRAM(self.before[n])
            console.act(Action.NOOP)
            if console.game_over():
                console.reset_game()
        self._frames[n] = 0
        console.getRAM(self.present[n])

    def _check(self, info: dict[str, Any]) -> None:
        frames = np.array([console.getFrameNumber() for console in self._consoles])
        lives = np.array([console.lives() for console in self._consoles])
        if (frames != info["frame_number"]).any() or (lives != info["lives"]).any():
            self._differ(
                "frames or lives", np.flatnonzero((frames != info["frame_number"]) | (lives != info["lives"]))
            )

    def _differ(self, what: str, worlds: np.ndarray) -> None:
        raise RuntimeError(
            f"ram=True: the consoles whose memory is read differ in {what} from those whose frames are seen, in "
            f"worlds {worlds.tolist()}. Make the world without ram=True, and please report it with ale_py's version"
        )
