"""Synchronous and asynchronous SGD: times, staleness and weights by hand on a parabola."""

import pytest
import torch

from vision.training import parameter_server
from vision.training.parameter_server import asynchronous, synchronous


def parabola(weights, batch):
    """The loss w^2 / 2, whose gradient is w."""
    return (weights**2).sum() / 2, weights.clone()


def clock(*times):
    left = iter(times)
    return lambda: next(left)


def test_synchronous_updates_by_hand():
    """Each update waits for the slowest of two: 3 and then 2. w = 1, 0.5, 0.25 by the rate 0.5."""
    weights = torch.ones(1)
    found = synchronous(parabola, weights, 2, 2, 0.5, clock(1.0, 3.0, 2.0, 1.0))
    assert [each.time for each in found] == [3.0, 5.0] and weights.item() == 0.25
    assert [each.loss for each in found] == [0.5, 0.125] and [each.gradients for each in found] == [2, 4]
    assert {each.staleness for each in found} == {0}
    weights = torch.ones(1)
    found = synchronous(parabola, weights, 3, 1, 0.5, clock(1.0, 9.0, 2.0), backups=1)
    assert found[0].time == 2.0 and found[0].gradients == 2  # the slowest of three is not waited for


def test_asynchronous_updates_by_hand():
    """Two workers fetch w = 1. The first is ready at 1: w = 0.5; it fetches that, and is ready at 3. The second is
    ready at 2, by the gradient of w = 1, one update old: w = 0. At 3 the first's, of w = 0.5, one old: w = -0.25."""
    weights = torch.ones(1)
    found = asynchronous(parabola, weights, 2, 3, 0.5, clock(1.0, 2.0, 2.0, 9.0, 9.0))
    assert [each.time for each in found] == [1.0, 2.0, 3.0] and weights.item() == -0.25
    assert [each.staleness for each in found] == [0, 1, 1] and [each.loss for each in found] == [0.5, 0.5, 0.125]


def test_one_worker_is_the_same_either_way():
    ends = []
    for run in (synchronous, asynchronous):
        weights = torch.tensor([1.0, -2.0])
        run(parabola, weights, 1, 20, 0.1, lambda: 1.0)
        ends.append(weights)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_the_study_draws_its_picture(tmp_path, capsys):
    out = tmp_path / "picture.png"
    config = parameter_server.Config(workers=(2, 4), updates=60, images=300, hidden=16, out=out)
    parameter_server.main(config)
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "synchronous" in line]
    found = {(int(row[0]), row[1].strip()): [float(cell) for cell in row[2:]] for row in rows}
    assert out.stat().st_size > 10_000 and len(found) == 4
    for workers in (2, 4):  # updates, time, staleness, loss
        assert found[workers, "synchronous"][2] == 0 and found[workers, "asynchronous"][2] > workers - 1.5
        assert found[workers, "asynchronous"][1] < found[workers, "synchronous"][1]
    with pytest.raises(ValueError, match="--backups 2"):
        parameter_server.main(parameter_server.Config(workers=(2,), backups=2, out=out))
