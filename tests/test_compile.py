"""--compile: the compiled step learns what the plain one learns."""

import dataclasses
import importlib
import json

import pytest
import torch._inductor.config

PROGRAMS = ("dqn", "rainbow", "pqn", "r2d2", "reinforce", "a2c", "ppo")


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_losses_are_the_plain_ones(tmp_path, name, monkeypatch):
    monkeypatch.setattr(torch._inductor.config, "fallback_random", True)  # draws what eager mode draws
    program = importlib.import_module(f"agents.{name}")
    asked = program.Config(env="Catch")
    plain = program.recipe("rainbow", asked) if name == "rainbow" else program.recipe(asked)
    short = dict(steps=1_600, log_every=100, evaluate_every=100_000, wandb="disabled", film_seconds=0.0)
    short |= {"learn_start": 400} if hasattr(plain, "learn_start") else {}
    curves = []
    for compiled in (False, True):
        config = dataclasses.replace(plain, folder=tmp_path, name=str(compiled), compile=compiled, **short)
        program.train(*(["rainbow"] if name == "rainbow" else []), config)
        lines = (tmp_path / "Catch" / str(compiled) / "metrics.jsonl").read_text().splitlines()
        losses = [value for line in lines for key, value in json.loads(line).items() if key.startswith("loss/")]
        curves.append(losses[:4])  # later ones part: rounding decides between two actions in the end
    assert len(curves[0]) >= 2 and curves[0] == pytest.approx(curves[1], rel=0.02, abs=1e-3)
