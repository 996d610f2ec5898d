"""Atari: every bundled ROM, through ale_py's C++ vector environment (its own threads, its own send and recv).

Two protocols, which a score must be quoted with:
    classic   Mnih et al. 2015, "Human-level control through deep reinforcement learning": up to 30 no-ops at
              the start, a lost life ends a training episode, no sticky actions.
    sticky    Machado et al. 2018, "Revisiting the Arcade Learning Environment": each frame repeats the
              action before with probability 0.25, no no-ops, no signal of lost lives.
Both use the minimal action set by default (Machado et al. recommend the full one), and scores are always those of
whole games.

Not every game is seeded: a seed reaches the emulator only by loading the ROM again, and ALE then computes an unused
palette for 85 ms, as long as 200 steps take. The RAM of the emulated console also survives its reset switch, so that
a game depends on the ones before it. A world therefore keeps one emulator, and all actions since it was started;
after `power_cycle` steps the next game starts in a new, newly seeded emulator.
"""

import re
from typing import Any

import ale_py.roms
import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from torch import Tensor

from envs.console_memory import ConsoleMemory
from envs.world import StepResult, World

PROTOCOLS: dict[str, dict[str, Any]] = {
    "classic": {"noop_max": 31, "repeat_action_probability": 0.0},  # ALE draws below noop_max: 0 to 30 no-ops
    "sticky": {"noop_max": 0, "repeat_action_probability": 0.25},
}

# ALE has no one-player mode of these, and aborts the process if one is opened.
TWO_PLAYERS = {"combat", "joust", "maze_craze", "warlords"}
ROMS = {
    rom.title().replace("_", ""): rom  # "MsPacman": "ms_pacman"
    for rom in sorted(ale_py.roms.get_all_rom_ids())
    if rom not in TWO_PLAYERS
}


def canonical(name: str) -> str | None:
    """The canonical name of a game: "ms_pacman", "ALE/MsPacman-v5" -> "MsPacman"; None if unknown."""
    plain = re.sub(r"^ALE/", "", name, flags=re.IGNORECASE)
    plain = re.sub(r"((NoFrameskip|Deterministic)?-v\d+)$", "", plain, flags=re.IGNORECASE)
    key = re.sub(r"[\s_-]", "", plain).lower()
    return next((game for game in ROMS if game.lower() == key), None)


def meant(name: str) -> str:
    """The protocol that a game's name implies: Gymnasium's ids of v5 and v0 have sticky actions, others have none."""
    return "sticky" if re.search(r"-v[05]$", name, re.IGNORECASE) else "classic"


class AtariWorld(World):
    """N games of one Atari ROM. Observations are (stack, size, size) uint8, newest frame last.

    Args:
        name: of `ROMS`.
        protocol: "classic" or "sticky".
        evaluation: whole games: no end is signaled when a life is lost.
        frame_skip: emulator frames per agent step; the picture is the maximum of the last two.
        stack: frames in an observation; after a start the missing ones are black.
        size: height and width of a frame in pixels.
        full_actions: all 18 actions, instead of those the game uses.
        color: RGB frames; an observation is then (stack * 3, size, size).
        fire_reset: press FIRE once at the start of a game, for games that wait for it.
        max_frames: emulator frames after which a game is truncated (discount 1).
        threads: emulator threads; 0 means one a core.
        bind: each emulator thread stays on one core, counted from the first. Faster where the machine is for this
            program alone, slower where another program keeps such a core busy.
        power_cycle: agent steps after which the next game starts in a new, seeded emulator. Fewer mean a faster
            resume (at most this many steps of a world, and the rest of the game then under way, are played again) and
            slower play.
        flicker: probability that a frame is black; see World.
        ram: read the consoles' memory beside the frames, `ram` and `next_ram`, by playing every game a second time
            (console_memory.py). The frames are the same as without.

    Raises:
        ValueError: an unknown game or protocol.
    """

    def __init__(
        self,
        name: str,
        count: int,
        seed: int = 1,
        device: str | torch.device = "cpu",
        protocol: str = "classic",
        evaluation: bool = False,
        frame_skip: int = 4,
        stack: int = 4,
        size: int = 84,
        full_actions: bool = False,
        color: bool = False,
        fire_reset: bool = False,
        max_frames: int = 108_000,
        threads: int = 0,
        power_cycle: int = 16_384,
        flicker: float = 0.0,
        ram: bool = False,
        bind: bool = False,
    ) -> None:
        if name not in ROMS:
            raise ValueError(f"unknown game {name!r}; envs.atari.ROMS lists them")
        if protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
        self._settings = dict(
            game=ROMS[name],
            num_envs=count,
            num_threads=threads,
            thread_affinity_offset=0 if bind else -1,
            max_num_frames_per_episode=max_frames,
            full_action_space=full_actions,
            autoreset_mode=AutoresetMode.SAME_STEP,
            frameskip=frame_skip,
            reward_clipping=False,
            use_fire_reset=fire_reset,
            **PROTOCOLS[protocol],
        )
        self._emulators = AtariVectorEnv(
            **self._settings, img_height=size, img_width=size, stack_num=stack, grayscale=not color
        )
        self._twin: AtariVectorEnv | None = None
        self._consoles = self._open_consoles() if ram else None
        self._color = color
        self._signals_lives = protocol == "classic" and not evaluation
        self._tape_limit = power_cycle
        self._lives = np.zeros(count, np.int32)
        options = dict(
            protocol=protocol, evaluation=evaluation, frame_skip=frame_skip, stack=stack, size=size,
            full_actions=full_actions, color=color, fire_reset=fire_reset, max_frames=max_frames,
            power_cycle=power_cycle, flicker=flicker, **({"ram": True} if ram else {}),
        )  # fmt: skip
        super().__init__(
            name=name,
            family="atari",
            protocol=protocol,
            count=count,
            seed=seed,
            device=device,
            observation_shape=(stack * (3 if color else 1), size, size),
            stack=stack,
            actions=int(self._emulators.single_action_space.n),
            options=options,
            flicker=flicker,
        )

    @property
    def ram(self) -> Tensor:
        """The consoles' memory at the present, (N, 128) uint8 on the device: of the frames in `observation`.

        Raises ValueError where the world was made without ram=True.
        """
        return self._tensor(self._memory().present.copy())

    @property
    def next_ram(self) -> Tensor:
        """The consoles' memory where the last step led, (N, 128) uint8: of the frames in its `next_observation`.

        Raises ValueError where the world was made without ram=True.
        """
        return self._tensor(self._memory().arrived.copy())

    @property
    def previous_ram(self) -> Tensor:
        """The consoles' memory one emulator frame before `ram`, (N, 128) uint8 on the device.

        Raises ValueError where the world was made without ram=True.
        """
        return self._tensor(self._memory().before.copy())

    @property
    def screen(self) -> np.ndarray:
        """The last frame of the consoles whose memory is read, (N, 210, 160, 3) uint8, and not the maximum of two, as
        observations and `render` have it: what `ram` says is where it shows.

        Raises ValueError where the world was made without ram=True.
        """
        return self._memory().screens()

    def _memory(self) -> ConsoleMemory:
        if self._consoles is None:
            raise ValueError(f"{self.name} was opened without its memory: envs.make({self.name!r}, ram=True)")
        return self._consoles

    def _open_consoles(self) -> ConsoleMemory:
        names = ("frameskip", "full_action_space", "use_fire_reset", "max_num_frames_per_episode")
        settings = {key: self._settings[key] for key in (*names, "repeat_action_probability")}
        return ConsoleMemory(self._settings["game"], self._settings["num_envs"], **settings)

    def _restart(self, seeds: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if self._twin is not None:
            self._screen = _reset(self._twin, seeds, mask)[0]
        observation, info = _reset(self._emulators, seeds, mask)
        self._lives = info["lives"]
        if self._consoles is not None:
            self._consoles.restart(seeds, mask, info)
        return self._picture(observation)

    def _emit(self, action: np.ndarray) -> None:
        self._emulators.send(action.astype(np.int32))
        if self._twin is not None:
            self._twin.send(action.astype(np.int32))
        if self._consoles is not None:  # while the emulators' threads play
            self._consoles.step(action)

    def _collect(self) -> StepResult:
        if self._twin is not None:
            self._screen = self._twin.recv()[0]
        observation, reward, terminated, truncated, info = self._emulators.recv()
        ended = terminated | truncated
        if self._consoles is not None:
            self._consoles.finish(reward, terminated, ended, info)
        lost = (info["lives"] < self._lives) & ~ended if self._signals_lives else None
        self._lives = info["lives"]
        present = arrived = self._picture(observation)
        if "final_obs" in info:
            final = self._picture(info["final_obs"])  # filled only where a game ended
            arrived = present.copy()
            arrived[ended] = final[ended]
        return StepResult(arrived, present, reward.astype(np.float32), terminated, truncated, lost)

    def _picture(self, observation: np.ndarray) -> np.ndarray:
        # ALE returns a new array at every recv, so that it needs no copy.
        if not self._color:
            return observation
        return np.ascontiguousarray(observation.transpose(0, 1, 4, 2, 3)).reshape(
            self.count, -1, *observation.shape[2:4]
        )

    def render(self) -> np.ndarray:
        """The screens in full color, (N, 210, 160, 3) uint8.

        ALE's vector environment does not give its screen. The first call therefore starts a second one with color
        pictures, replays the same actions in it, and from then on steps both: only films pay for it.
        """
        if self._twin is None:
            twin = AtariVectorEnv(**self._settings, img_height=210, img_width=160, stack_num=1, grayscale=False)
            self._screen = self._replay(
                lambda seeds, mask: _reset(twin, seeds, mask)[0],
                lambda action: twin.step(action.astype(np.int32))[0],
            )
            self._twin = twin
        return self._screen[:, 0].copy()

    def close(self) -> None:
        """Stop the emulators' threads."""
        self._emulators = self._twin = self._consoles = None


def _reset(emulators: AtariVectorEnv, seeds: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    return emulators.reset(seed=seeds[mask], options={"reset_mask": mask})
