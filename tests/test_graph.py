"""--capture: its bookkeeping with a stand-in for the device; its losses are compared in test_gpu.py."""

import contextlib
import dataclasses

import pytest
import torch

import runs
from agents import dqn, reinforce, tabular
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


def test_launches_with_new_inputs_and_keeps_earlier_outputs(monkeypatch):
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


def test_a_run_on_cuda_suggests_graphs():
    cuda = torch.device("cuda")
    assert "--capture" in graph.advice(dqn.Config(), cuda)
    for other in (dict(capture=True), dict(compile=True), dict(fp16=True)):
        assert graph.advice(dqn.Config(**other), cuda) is None
    assert graph.advice(dqn.Config(), torch.device("cpu")) is None
    assert graph.advice(reinforce.Config(), cuda) is None, "it cannot be captured"
    assert graph.advice(tabular.Config(), cuda) is None
