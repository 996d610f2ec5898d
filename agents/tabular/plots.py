"""Pictures of values, action values and policies on the map of a world with discrete states."""

from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrow, Polygon, Rectangle
from torch import Tensor


class Grid(NamedTuple):
    """A map to draw on."""

    title: str
    states: np.ndarray  # (H, W) int, the state of each cell
    letters: np.ndarray  # (H, W) of one character: # wall, S start, G goal, P or H or C a fall, others plain
    moves: dict[int, tuple[int, int]]  # action: intended move, rows down and columns right
    names: dict[int, str]  # of the other actions
    fences: list[tuple[int, int]]  # row and column of cells that have a wall on their right


def grids(env: gymnasium.Env) -> list[Grid]:
    """The maps of a world; empty for unknown worlds."""
    world, kind = env.unwrapped, env.spec.name
    left, down, right, up = (0, -1), (1, 0), (0, 1), (-1, 0)
    if kind.startswith("CliffWalking"):
        letters = np.full(world.shape, ".")
        letters[world._cliff], letters[-1, 0], letters[-1, -1] = "C", "S", "G"
        moves = {0: up, 1: right, 2: down, 3: left}
    elif kind == "Taxi":
        letters = np.full((5, 5), ".")
        for place, letter in zip(world.locs, "RGYB", strict=True):
            letters[place] = letter.lower()
        fences = [(r, c) for r in range(5) for c in range(4) if world.desc[1 + r, 2 + 2 * c] == b"|"]
        moves, names = {0: down, 1: up, 2: right, 3: left}, {4: "pick up", 5: "drop off"}
        found = []
        for title, rest in (("waiting at y, bound for b", (2, 3)), ("riding, bound for b", (4, 3))):
            states = np.array([[world.encode(r, c, *rest) for c in range(5)] for r in range(5)])
            found.append(Grid(f"passenger {title}", states, letters, moves, names, fences))
        return found
    elif hasattr(world, "cells"):
        letters, moves = world.cells, dict(enumerate((left, down, right, up)))
    elif hasattr(world, "desc") and np.size(world.desc) == len(world.P):
        letters, moves = np.asarray(world.desc).astype(str), dict(enumerate((left, down, right, up)))
    else:
        return []
    return [Grid("", np.arange(letters.size).reshape(letters.shape), letters, moves, {}, [])]


def draw(path: Path, title: str, table: Tensor, reachable: np.ndarray, maps: list[Grid]) -> None:
    """Write V as colors and numbers, Q as triangles in the direction of each move, the policy as arrows.

    table: (S, A). reachable: (S,) bool, the states in which an action is chosen.
    """
    height, width = maps[0].states.shape
    panels = ("V: value of the best action", "Q: value of each move", "policy: the best actions")
    stacked = width > 2 * height and len(maps) == 1
    rows, columns = (len(panels), 1) if stacked else (len(maps), len(panels))
    cell = min(max(4.6 / height, 0.7), 1.1)  # inches
    figure = Figure((columns * (width * cell + 0.5) + 0.9, rows * (height * cell + 0.6) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=12)
    values = table.numpy()
    shown = values[np.concatenate([grid.states[reachable[grid.states]] for grid in maps])]
    # A few moves far worse than all others, as off the cliff, would leave no range of colors for the rest.
    lowest = min(shown.max(1).min(), np.quantile(shown, 0.1))
    colors = ScalarMappable(Normalize(lowest, shown.max()), "viridis")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(len(maps), len(panels))
    for grid, line in zip(maps, axes, strict=True):
        for panel, (ax, name) in enumerate(zip(line, panels, strict=True)):
            ground(ax, grid, reachable, cell)
            ax.set_title(f"{name}\n{grid.title}" if grid.title else name, fontsize=10)
            for (row, column), state in np.ndenumerate(grid.states):
                if reachable[state]:
                    (value_cell, triangles, arrows)[panel](ax, row, column, values[state], grid, colors, cell)
    figure.colorbar(
        colors, ax=axes, shrink=0.8 if stacked else 0.9, aspect=40 if stacked else 25, pad=0.01, extend="min"
    )
    figure.savefig(path, dpi=130)


def ground(ax: Axes, grid: Grid, reachable: np.ndarray, cell: float) -> None:
    """Draw the map: walls, ends, the grid. reachable: (S,) bool. cell: inches."""
    height, width = grid.states.shape
    plain, falls = "#f4f4f0", dict.fromkeys("PHC", "#d66e64")
    for (row, column), letter in np.ndenumerate(grid.letters):
        color = {"#": "#464a54", "G": "#78be78"}.get(letter, falls.get(letter, plain))
        if not reachable[grid.states[row, column]]:
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color, edgecolor="none"))
            if letter not in "#.":
                ax.text(
                    column, row, letter, ha="center", va="center", fontsize=18 * cell, color="white", weight="bold"
                )
        elif letter not in "#.F":
            paper = dict(facecolor="white", edgecolor="none", alpha=0.7, pad=0.8)
            x, y, size = column - 0.45, row - 0.44, 8 * cell
            ax.text(x, y, letter, ha="left", va="top", fontsize=size, weight="bold", bbox=paper, zorder=4)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    ax.set_xticks(np.arange(width + 1) - 0.5, [])
    ax.set_yticks(np.arange(height + 1) - 0.5, [])
    ax.grid(color="#dcdcd8", linewidth=0.8, zorder=3)
    ax.tick_params(length=0)
    rows, columns = np.array(grid.fences).reshape(-1, 2).T
    ax.vlines(columns + 0.5, rows - 0.5, rows + 0.5, color="black", linewidth=3, zorder=5)


def number(ax: Axes, x: float, y: float, value: float, color: tuple[float, ...], size: float) -> None:
    """Write a value in three digits, white on dark colors."""
    light = np.dot(color[:3], (0.299, 0.587, 0.114)) < 0.5
    text = f"{round(value, 3) + 0.0:.3g}"
    ax.text(x, y, text, ha="center", va="center", fontsize=size, zorder=4, color="white" if light else "black")


def value_cell(
    ax: Axes, row: int, column: int, values: np.ndarray, grid: Grid, colors: ScalarMappable, cell: float
) -> None:
    """Draw the largest of a cell's action values (A,)."""
    color = colors.to_rgba(values.max())
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color))
    number(ax, column, row, values.max(), color, 12 * cell)


def triangles(
    ax: Axes, row: int, column: int, values: np.ndarray, grid: Grid, colors: ScalarMappable, cell: float
) -> None:
    """Draw the action values (A,) of a cell as triangles."""
    for action, (down, right) in grid.moves.items():
        x, y, color = column + right / 2, row + down / 2, colors.to_rgba(values[action])
        corners = [(column, row), (x - down / 2, y - right / 2), (x + down / 2, y + right / 2)]
        ax.add_patch(Polygon(corners, facecolor=color, edgecolor="white", linewidth=0.4))
        number(ax, column + right * 0.31, row + down * 0.33, values[action], color, 6.5 * cell)


def arrows(
    ax: Axes, row: int, column: int, values: np.ndarray, grid: Grid, colors: ScalarMappable, cell: float
) -> None:
    """Draw the greedy actions of a cell, from its values (A,), as arrows."""
    best = np.flatnonzero(values >= values.max() - 1e-9 * max(np.abs(values).max(), 1e-9))
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="#f4f4f0"))
    if len(best) == len(values):  # all the same: nothing was learned here, or nothing matters
        ax.plot(column, row, ".", color="gray", zorder=4)
        return
    begin = 0.05 if len(best) > 1 else -0.2  # one arrow stands in the middle, several leave it
    for action in best:
        if action in grid.names:
            name = grid.names[action].replace(" ", "\n")
            ax.text(column, row, name, ha="center", va="center", fontsize=9 * cell, zorder=4)
            continue
        down, right = grid.moves[action]
        x, y, length = column + right * begin, row + down * begin, 0.35 if len(best) > 1 else 0.4
        shape = dict(width=0.05, head_width=0.2, head_length=0.14, length_includes_head=True)
        ax.add_patch(FancyArrow(x, y, right * length, down * length, color="#325aaa", zorder=4, **shape))
