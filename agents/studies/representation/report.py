"""The picture and the Markdown page of the transfer study (transfer.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runs import compare, output
from runs.curves import COLORS

METHODS = ("scratch", "memory", "autoencoder", "agent")
COLOR = dict(zip((*METHODS, "photographs", "random", "blind"), COLORS, strict=True))  # the same in every panel


def spread(values: list[float]) -> dict[str, object]:
    """Mean over seeds, half the width of its interval (None for one seed), and the values."""
    mean, half = compare.interval(values) if len(values) > 1 else (values[0], None)
    return {"mean": mean, "half": half, "each": list(values)}


def draw(study: dict, path: Path) -> None:
    """Learning curves, and beside them the probes of memory and of games, where they were made."""
    wanted = [("agents", curves_panel), ("memory", ram_panel), ("naming", games_panel)]
    there = [(study[key], paint) for key, paint in wanted if study.get(key)]
    figure = Figure(figsize=(5.4 * len(there), 4.4), layout="constrained", dpi=100)
    for panel, (part, paint) in zip(np.atleast_1d(figure.subplots(1, len(there))), there, strict=True):
        paint(panel, part)
        panel.grid(alpha=0.3, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    output.draw(path, figure, "--out")


def curves_panel(panel: Axes, part: dict) -> None:
    """Draw the learning curves of each method."""
    for method, one in part["curves"].items():
        color, values = COLOR[method.removesuffix("-frozen")], np.array(one["returns"])
        style = "-" if method.endswith("-frozen") or method == "scratch" else "--"
        label = f"{method} ({len(values)} seeds)"
        panel.plot(one["steps"], values.mean(0), style, color=color, label=label, marker="o", ms=3)
        panel.fill_between(one["steps"], values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
    panel.set(xlabel="agent steps (band: lowest to highest seed)", ylabel="evaluation return")
    panel.set_title(f"DQN on {part['env']} by backbone", fontsize=10)
    panel.legend(fontsize=8, frameon=False)


def ram_panel(panel: Axes, part: dict) -> None:
    """Draw the F1 scores of linear probes, a group of bars a variable."""
    width = 0.8 / len(part["scores"])
    for k, (name, one) in enumerate(part["scores"].items()):
        values = np.array(one["f1"])
        place = np.arange(values.shape[1]) + (k - (len(part["scores"]) - 1) / 2) * width
        panel.bar(place, values.mean(0), width, color=COLOR.get(name), label=name)
        panel.vlines(place, values.min(0), values.max(0), color="black", linewidth=0.8)
    panel.set_xticks(range(len(part["variables"])), part["variables"], rotation=30, ha="right", fontsize=8)
    panel.set(ylabel="F1 on other games (line: lowest to highest seed)", ylim=(0, 1.25))
    panel.set_title(f"{part['game']}: linear probes of the console's RAM", fontsize=10)
    panel.legend(fontsize=7, frameon=False, ncols=3, loc="upper center")


def games_panel(panel: Axes, part: dict) -> None:
    """Draw the accuracy of classifying games over labels a class."""
    for name, counts in part["accuracy"].items():
        values, places = np.array(list(counts.values())), list(map(int, counts))
        (line,) = panel.plot(places, values.mean(1), color=COLOR.get(name), label=name, marker="o", ms=3)
        panel.fill_between(places, values.min(1), values.max(1), color=line.get_color(), alpha=0.15, linewidth=0)
    panel.set_xscale("log")
    panel.set_xticks(places, list(map(str, places)))
    panel.minorticks_off()
    panel.set(xlabel="labels a class", ylabel="accuracy on other games (band: seeds)")
    panel.set_title(f"which of {len(part['games'])} games a frame is from: linear probes", fontsize=10)
    panel.legend(fontsize=8, frameon=False)


def page(study: dict) -> str:
    """The study as Markdown: tables, commands and hardware."""
    lines, commands = ["# Transferred backbones", "", "![The study](study.png)"], [study["command"]]
    lines += [
        "",
        "scratch and random are as initialized; memory, autoencoder and photographs were pretrained by",
        "agents.studies.representation.pretrain, to predict the console's RAM, to reconstruct frames and to",
        "classify CIFAR-10 (a stand-in for ImageNet); agent is the backbone of an agent that had learned the game;",
        "blind is a layer without input. A frozen backbone is not trained further; scratch is trained whole.",
    ]
    if part := study.get("agents"):
        words = ("end", "area", "end - scratch", "area - scratch")
        rows = [
            [
                method,
                str(len(part["curves"][method]["seeds"])),
                *(plus_minus(row[w]) if w in row else "" for w in words),
            ]
            for method, row in part["summary"].items()
        ]
        steps, games = study["config"]["steps"], study["config"]["evaluate_games"]
        lines += [
            "",
            f"DQN on {part['env']} by backbone, {steps:,} agent steps, evaluations of {games}",
        ]
        lines += [f"games: mean of the last {study['config']['last']} (end) and of all of them (area).", ""]
        lines += [compare.markdown(["backbone", "seeds", *words], rows)]
    if part := study.get("memory"):
        rows = [
            [
                name,
                *against_random(part["scores"], name),
                *(plus_minus(spread(list(v)), 3) for v in zip(*one["f1"], strict=True)),
            ]
            for name, one in part["scores"].items()
        ]
        lines += [
            "",
            f"F1 of linear probes of {part['game']}'s variables, on frozen backbones, in games that neither probe",
            f"nor backbone was trained on. Left out, because they hardly change: {', '.join(part['constant'])}.",
        ]
        lines += ["", compare.markdown(["backbone", "mean", "mean - random", *part["variables"]], rows)]
        commands.append(part["command"])
    if part := study.get("naming"):
        counts = list(next(iter(part["accuracy"].values())))
        rows = [
            [name, *(plus_minus(spread([100 * x for x in one[c]]), 1) for c in counts)]
            for name, one in part["accuracy"].items()
        ]
        lines += [
            "",
            f"Which of {', '.join(part['games'])} a frame is from: percent right in other games, by labels a class.",
            "",
        ]
        lines += [compare.markdown(["backbone", *counts], rows)]
        commands.append(part["command"])
    where = study["hardware"]
    lines += ["", "Mean over seeds ± its 95% interval (Student's t over seeds).", ""]
    lines += [*(f"    {command}" for command in commands), ""]
    lines += [f"On {where['processor']}, {where['cores']} cores, commit {study['commit']}.", ""]
    return "\n".join(lines)


def against_random(scores: dict[str, dict], name: str) -> tuple[str, str]:
    """The mean F1 of a backbone over variables, and its difference to a random backbone, seed by seed."""
    mine = np.mean(scores[name]["f1"], 1)
    if name == "random" or "random" not in scores:
        return plus_minus(spread(mine.tolist()), 3), ""
    return plus_minus(spread(mine.tolist()), 3), plus_minus(
        spread((mine - np.mean(scores["random"]["f1"], 1)).tolist()), 3
    )


def plus_minus(one: dict, digits: int = 2) -> str:
    """A mean and half the width of its interval, 17.30 ± 1.20."""
    return f"{one['mean']:.{digits}f}" + ("" if one["half"] is None else f" ± {one['half']:.{digits}f}")
