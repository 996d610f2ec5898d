"""--capture: its bookkeeping with a stand-in for the device, and its losses where there is one."""

import contextlib
import dataclasses
import json

import pytest
import torch

import runs
from agents import dqn, pqn
from runs import graph


class Recorded:
    """Stands in for torch.cuda.CUDAGraph: what is captured happens at replay, in the same places."""

    def __init__(self):
        self.replayed = 0

    def replay(self):
        self.replayed += 1
        is_first = self.captured.function(*self.captured.inputs)
        for place, value in zip(graph.leaves(self.captured.outputs), graph.leaves(is_first), strict=True):
            place.copy_(value)


def test_launches_with_fresh_numbers_and_keeps_what_it_returned(monkeypatch):
    total = torch.zeros(())

    def learn(batch, weight):
        if not dry:
            total.add_(batch["x"].sum())
        return {"sum": batch["x"].sum()}, None if weight is None else weight * 2

    captured = runs.Captured(learn, torch.device("cuda"))
    monkeypatch.setattr(captured, "_beside", lambda inputs: learn(*inputs))
    dry = False

    @contextlib.contextmanager
    def record(made):
        nonlocal dry
        made.captured, dry = captured, True  # a capture records without doing
        yield
        dry = False

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", record)
    results = [captured({"x": torch.full((2,), float(k))}, torch.tensor([float(k)])) for k in range(8)]
    assert [metrics["sum"].item() for metrics, _ in results] == [2.0 * k for k in range(8)]
    assert [twice.item() for _, twice in results] == [2.0 * k for k in range(8)]
    assert total.item() == sum(2.0 * k for k in range(8)), "each call counts once"
    assert captured.graph.replayed == 8 - graph.EAGER
    with pytest.raises(ValueError, match=r"captured for \(2,\), called with \(3,\)"):
        captured({"x": torch.zeros(3)}, torch.zeros(1))


def test_needs_cuda(tmp_path):
    config = dataclasses.replace(dqn.recipe(dqn.Config(env="Catch")), folder=tmp_path, device="cpu", capture=True)
    with pytest.raises(ValueError, match="--capture"):
        dqn.train(config)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("program", [dqn, pqn])
def test_captured_losses_are_the_plain_ones(tmp_path, program):
    plain = program.recipe(program.Config(env="Catch"))
    short = dict(
        steps=3_200, log_every=200, evaluate_every=100_000, wandb="disabled", film_seconds=0.0, device="cuda"
    )
    short |= {"learn_start": 400} if hasattr(plain, "learn_start") else {}
    curves = []
    for capture in (False, True):
        program.train(dataclasses.replace(plain, folder=tmp_path, name=str(capture), capture=capture, **short))
        lines = (tmp_path / "Catch" / str(capture) / "metrics.jsonl").read_text().splitlines()
        curves.append([value for line in lines for key, value in json.loads(line).items() if key == "loss/td"][:4])
    assert len(curves[0]) >= 3 and curves[0] == pytest.approx(curves[1], rel=0.02, abs=1e-3)
