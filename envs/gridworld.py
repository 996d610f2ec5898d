"""Gridworlds, given by a map in text: exact Markov decision processes that fit on a page.

The default map is the 4 x 3 world of Russell & Norvig, "Artificial Intelligence: A Modern Approach" (chapter on
complex decisions), with its slip of 0.2 and its step reward of -0.04; the others are Sutton, Precup & Singh's four
rooms (1999) and the maze of Dyna (Sutton & Barto 2018, example 8.1). A new map is written as its rows, from
the top, with a newline or a slash between them:

    #  wall: moving into it is not a move  S  start, one of them at random; without any S, any floor
    .  floor                            G  goal, +1, the end        P  pit, -1, the end

An action moves left, down, right or up (0 to 3). With probability `slip` the move is at a right angle to that
instead, to either side with half of it. Every step has the reward `step_reward`, the last one that of the goal or pit
in addition.

Registered with Gymnasium as "saccade/Gridworld-v0", also for other libraries, with the exact model in the form of
Gymnasium's toy texts, `env.unwrapped.P[state][action] = [(probability, next state, reward, terminated), ...]`:
    gymnasium.make("saccade/Gridworld-v0", map="S..G/.#.P", slip=0.1)
"""

import difflib

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode

from envs.vector_env import BatchVectorEnv, SingleEnv

ID = "saccade/Gridworld-v0"
REWARDS = {"G": 1.0, "P": -1.0}
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # rows and columns; left, down, right, up: neighbors are at right angles
MAPS = {
    "4x3": "...G/.#.P/S...",
    "four-rooms": (
        "#############/#.....#.....#/#.....#.....#/#...........#/#.....#.....#/#.....#.....#/##.####.....#/"
        "#.....###.###/#.....#.....#/#.....#...G.#/#...........#/#S....#.....#/#############"
    ),
    "maze": ".......#G/..#....#./S.#....#./..#....../.....#.../.........",
}
CELL = 40  # pixels
COLORS = {
    "#": (70, 74, 84),
    ".": (244, 244, 240),
    "S": (206, 222, 244),
    "G": (120, 190, 120),
    "P": (214, 110, 100),
}
AGENT, LINE = (50, 90, 170), (205, 205, 200)


def read_map(name: str) -> np.ndarray:
    """The cells of a map, (H, W) of one character each; `name` is one of MAPS, or the rows themselves.

    Raises:
        ValueError: an unknown name or character, rows of unequal length, or nothing to walk on or to end at.
    """
    text = MAPS.get(name, name)
    rows = text.strip().replace("/", "\n").split()
    unknown = sorted(set("".join(rows)) - set(COLORS))
    if unknown:
        near = difflib.get_close_matches(name, MAPS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"maps by name are {', '.join(MAPS)}"
        raise ValueError(f"a map is made of {' '.join(COLORS)}, not of {unknown[0]!r} as in {name!r}: {hint}")
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"the rows of a map are equally long, these have {[len(row) for row in rows]} cells")
    cells = np.array([list(row) for row in rows])
    if not np.isin(cells, list(REWARDS)).any() or not np.isin(cells, ["S", "."]).any():
        raise ValueError(f"a map needs somewhere to walk (. or S) and somewhere to end (G or P), got {name!r}")
    return cells


class GridworldVectorEnv(BatchVectorEnv):
    """N episodes on one map in NumPy. Observations (N,) int64, row * columns + column; actions (N,) 0 to 3.

    Args:
        num_envs: N.
        map: a name of MAPS, or the rows.
        slip: probability of a move to the side.
        step_reward: of every step.
        max_episode_steps: steps after which an episode is truncated; None for never.
        autoreset_mode: Gymnasium's, any of the three.
        render_mode: "rgb_array" or None.

    Attributes:
        cells: (H, W) the map.
        P: the exact model, as in Gymnasium's toy texts. Walls, goals and pits are absorbing states.
        initial_state_distrib: (H * W,) probability of starting there.

    Raises:
        ValueError: a slip that is not a probability, or as read_map does.
    """

    def __init__(
        self,
        num_envs: int = 1,
        map: str = "4x3",
        slip: float = 0.2,
        step_reward: float = -0.04,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if not 0 <= slip <= 1:
            raise ValueError(f"slip is a probability, 0 to 1, got {slip}")
        self.cells = read_map(map)
        states = self.cells.size
        super().__init__(num_envs, Discrete(states), Discrete(len(MOVES)), autoreset_mode, render_mode, fps=5)
        self._slip, self._limit = slip, max_episode_steps
        flat = self.cells.ravel()
        self._ends = np.isin(flat, list(REWARDS))
        self._gain = step_reward + np.array([REWARDS.get(cell, 0.0) for cell in flat])
        self._leads = self._destinations()
        starts = flat == "S" if (flat == "S").any() else flat == "."
        self.initial_state_distrib = starts / starts.sum()
        self._starts = np.flatnonzero(starts)
        self.P = {s: {a: self._outcomes(s, a) for a in range(len(MOVES))} for s in range(states)}
        self._state = np.full(num_envs, self._starts[0])
        self._length = np.zeros(num_envs, np.int64)

    def _play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        drawn = np.array([random.random() for random in self._randoms])
        turn = np.where(drawn < 1 - self._slip, 0, np.where(drawn < 1 - self._slip / 2, -1, 1))
        self._state = self._leads[self._state, (actions + turn) % len(MOVES)]
        self._length += 1
        terminated = self._ends[self._state]
        return self._gain[self._state], terminated, ~terminated & (self._length == self._limit)

    def _observe(self) -> np.ndarray:
        return self._state.copy()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """N pictures of the map with the agent, each of shape (H * CELL, W * CELL, 3), uint8; None without
        render_mode."""
        if self.render_mode is None:
            return None
        colors = np.array([[COLORS[cell] for cell in row] for row in self.cells], np.uint8)
        ground = colors.repeat(CELL, axis=0).repeat(CELL, axis=1)
        ground[::CELL] = ground[:, ::CELL] = LINE
        offset = np.arange(CELL) - (CELL - 1) / 2
        disc = offset[:, None] ** 2 + offset**2 < (0.3 * CELL) ** 2
        pictures = []
        for row, column in zip(*np.divmod(self._state, self.cells.shape[1]), strict=True):
            picture = ground.copy()
            picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL][disc] = AGENT
            pictures.append(picture)
        return tuple(pictures)

    def _start(self, mask: np.ndarray) -> None:
        self._length[mask] = 0
        if len(self._starts) == 1:
            self._state[mask] = self._starts[0]
        else:
            self._state[mask] = [self._randoms[n].choice(self._starts) for n in np.flatnonzero(mask)]

    def _destinations(self) -> np.ndarray:
        """(S, 4) the state to which each move leads."""
        height, width = self.cells.shape
        row, column = np.divmod(np.arange(height * width)[:, None], width)
        down, right = np.array(MOVES).T
        there = np.clip(row + down, 0, height - 1) * width + np.clip(column + right, 0, width - 1)
        here = row * width + column
        return np.where(self.cells.ravel()[there] == "#", here, there)

    def _outcomes(self, state: int, action: int) -> list[tuple[float, int, float, bool]]:
        if self._ends[state] or self.cells.ravel()[state] == "#":
            return [(1.0, state, 0.0, True)]
        turns = {0: 1 - self._slip, -1: self._slip / 2, 1: self._slip / 2}
        found = [(chance, int(self._leads[state, (action + turn) % 4])) for turn, chance in turns.items() if chance]
        return [(chance, there, float(self._gain[there]), bool(self._ends[there])) for chance, there in found]


class GridworldEnv(SingleEnv):
    """A single gridworld. Arguments and attributes are those of GridworldVectorEnv."""

    def __init__(
        self, map: str = "4x3", slip: float = 0.2, step_reward: float = -0.04, render_mode: str | None = None
    ) -> None:
        walks = GridworldVectorEnv(
            1, map, slip, step_reward, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode
        )
        super().__init__(walks)
        self.cells, self.P, self.initial_state_distrib = walks.cells, walks.P, walks.initial_state_distrib


gymnasium.register(
    id=ID,
    entry_point="envs.gridworld:GridworldEnv",
    vector_entry_point="envs.gridworld:GridworldVectorEnv",
    max_episode_steps=200,
)
