"""Results of a run as text: its last and best evaluation, its latest metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runs.score import RETURN, Score, number

SHOWN = {  # metrics beside the progress bar
    "episode/return": "return {:.2f}",
    "loss/td": "loss {:.4f}",
    "loss/train": "loss {:.4f}",
    "train/accuracy": "train {:.1%}",
    "explore/epsilon": "epsilon {:.2f}",
}


def evaluations(lines: list[dict[str, Any]], score: Score) -> list[float]:
    """The score's values, in the lines of metrics.jsonl."""
    return [line[score.metric] for line in lines if line.get(score.metric) is not None]


def result(lines: list[dict[str, Any]], score: Score) -> str:
    """The last and best evaluation (or, without any, the last return in training)."""
    if values := evaluations(lines, score):
        return f"evaluation {score.in_words(values[-1])} at the end, {score.format(score.best(values))} at best"
    returns = [line["episode/return"] for line in lines if line.get("episode/return") is not None]
    if returns:
        return f"return {returns[-1]:.1f} in training"
    return "no episode ended" if score == RETURN else "not evaluated"


def evaluation(step: int, metrics: Mapping[str, Any], score: Score) -> str:
    """One evaluation: its score, the other metrics that start with "eval/", and the games that were truncated."""
    others = [
        f"{word.removeprefix('eval/')} {found:,}" if isinstance(found, int) else f"{word[5:]} {number(found)}"
        for word, found in metrics.items()
        if word.startswith("eval/") and word != score.metric
    ]
    return (
        f"step {step:,}: evaluation {score.in_words(metrics[score.metric])}"
        + (f" ({', '.join(others)})" if others else "")
        + (f"; {metrics['eval/cut']} of them cut short by --evaluate-steps" if "eval/cut" in metrics else "")
    )


def latest(metrics: Mapping[str, float], score: Score) -> str:
    """The latest metrics beside the progress bar. metrics: name -> value; "eval" is the last evaluation's score."""
    words = [form.format(metrics[key]) for key, form in SHOWN.items() if key in metrics]
    if metrics.get("eval") is not None:
        words.insert("episode/return" in metrics, f"eval {score.format(metrics['eval'])}")
    return "  ".join(words)
