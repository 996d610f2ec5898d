"""Prioritized replay: transitions come back as often as they were last surprising.

Schaul et al. 2016, "Prioritized experience replay", the proportional variant (replay/prioritized.py).

    python -m agents.prioritized --env Breakout

The loop is agents/rainbow.py's with only this component on. As in the paper, importance weights are normalised by
the largest in the batch, and their exponent rises to 1 by the end of the run.
"""


def beta_at(step: int, steps: int, start: float) -> float:
    """The exponent of the importance weights: linearly from `start` to 1 over the run. Schaul 2016, section 3.4."""
    return start + (1.0 - start) * min(step / max(steps, 1), 1.0)


if __name__ == "__main__":
    from agents import rainbow

    rainbow.launch("prioritized", __doc__)
