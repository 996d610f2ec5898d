"""Newton, BFGS and L-BFGS: against scipy, by hand, on Rosenbrock's valley, and as optimizers of networks."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from vision.training import optimizer_paths, optimizers
from vision.training.line_search import Trial, wolfe
from vision.training.optimizer_paths import evaluated, path, ravine, rosenbrock, saddle
from vision.training.second_order import BFGS, LBFGS, Newton, SecondOrder, minimize


def valley(x):
    """Rosenbrock's function of many variables, x (n,)."""
    return (100 * (x[1:] - x[:-1].square()).square() + (1 - x[:-1]).square()).sum()


def points(function, start, direction, iterations=200, tolerance=1e-8, **options):
    start = torch.tensor(start, dtype=torch.float64)
    if isinstance(direction, Newton):
        options["hessian"] = torch.func.hessian(function)
    return list(minimize(lambda x: evaluated(function, x), start, direction, iterations, tolerance, **options))


STARTS = {"lecture's valley": (rosenbrock, (-1.2, 1.0)), "six variables": (valley, (-1.2, 1.0, 0.7, 1.3, -0.5, 2.0)),
          "ravine": (ravine, (-4.5, 1.0))}  # fmt: skip


@pytest.mark.parametrize("function, start", STARTS.values(), ids=STARTS)
def test_bfgs_takes_the_path_of_scipy(function, start):
    """scipy 1.17's BFGS, step by step, as long as rounding has not grown."""
    theirs = []
    optimize.minimize(
        lambda x: evaluated(function, torch.from_numpy(x))[0],
        np.array(start),
        jac=lambda x: evaluated(function, torch.from_numpy(x))[1].numpy(),
        method="BFGS",
        callback=lambda x: theirs.append(x.copy()),
    )
    mine = [point.x.numpy() for point in points(function, start, BFGS(), tolerance=1e-5)[1:]]
    count = min(12, len(theirs))
    assert len(mine) == len(theirs) and count >= 3
    np.testing.assert_allclose(mine[:count], theirs[:count], rtol=0, atol=1e-6)


@functools.cache
def momentum():
    """Evaluations in which SGD with momentum reaches 1e-10."""
    return next(point.evaluations for point in path("rosenbrock", "momentum", 20_000) if point.value < 1e-10)


@pytest.mark.parametrize("direction", [BFGS, LBFGS, Newton])
def test_rosenbrocks_minimum_in_fewer_evaluations_than_momentum(direction):
    found = points(rosenbrock, (-1.2, 1.0), direction(), tolerance=1e-9)
    assert found[-1].value < 1e-10 and (found[-1].x - 1).abs().max() < 1e-5
    assert found[-1].evaluations < 100 < momentum() / 10
    assert all(below.value < above.value for above, below in zip(found, found[1:], strict=False))


def test_lbfgs_finds_the_minimum_that_scipys_finds():
    start = np.linspace(-1.5, 1.5, 40)
    theirs = optimize.minimize(
        lambda x: tuple(np.asarray(each) for each in evaluated(valley, torch.from_numpy(x))),
        start, jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-9, "maxiter": 1_000},
    )  # fmt: skip
    mine = points(valley, tuple(start), LBFGS(), 1_000)[-1]
    assert mine.value == pytest.approx(theirs.fun, abs=1e-10)
    np.testing.assert_allclose(mine.x.numpy(), theirs.x, atol=1e-5)
    assert mine.evaluations < 2 * theirs.nfev


def test_the_estimates_of_bfgs_by_hand_and_of_lbfgs_as_a_matrix():
    """s = (1, 0), y = (2, 1): H = [[1/2 + 1/4, -1/2], [-1/2, 1]], which maps y to s."""
    step, change = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0])
    dense = BFGS()
    dense.update(step, change)
    assert dense.inverse.tolist() == [[0.75, -0.5], [-0.5, 1.0]]
    assert (dense.inverse @ change).tolist() == step.tolist()
    dense.update(step, -change)  # of negative curvature: it would not stay positive definite
    assert dense.inverse.tolist() == [[0.75, -0.5], [-0.5, 1.0]]
    generator = torch.Generator().manual_seed(0)
    pairs = [[torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2)] for _ in range(4)]
    pairs = [(step, change * (step @ change).sign()) for step, change in pairs]
    limited, dense = LBFGS(memory=3), BFGS()
    for pair in pairs:
        limited.update(*pair)
    last = pairs[-1]
    dense.inverse = torch.eye(5, dtype=torch.float64) * (last[0] @ last[1]) / (last[1] @ last[1])
    for pair in pairs[1:]:  # the oldest is forgotten
        dense.update(*pair)
    gradient = torch.randn(5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(limited(gradient), dense(gradient))


def test_newton_on_quadratics():
    """The minimum in one step; a saddle is where the plain method goes, and what the other one leaves."""
    assert points(ravine, (-4.5, 1.0), Newton())[1].x.abs().max() < 1e-12
    plain = points(saddle, (-1.6, 0.01), Newton(saddle_free=False), search=False)
    assert plain[1].x.abs().max() < 1e-12 and len(plain) == 2
    x, y = (points(saddle, (-1.6, 0.01), Newton(), iterations=1, search=False)[1].x).tolist()
    assert abs(x) < 1e-12 and y == pytest.approx(0.02)


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
def test_line_searches_fulfill_the_wolfe_conditions(first):
    """Functions 1 to 3 of Moré & Thuente 1994, from first trials of six decades."""

    def rational(a):
        return -a / (a * a + 2), (a * a - 2) / (a * a + 2) ** 2

    def quartic(a):
        return (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4, 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3

    def wavy(a, width=0.01, waves=39):
        inside = abs(a - 1) <= width
        value = ((a - 1) ** 2 / (2 * width) + width / 2) if inside else abs(a - 1)
        slope = (a - 1) / width if inside else np.sign(a - 1)
        angle = waves * np.pi / 2 * a
        value += 2 * (1 - width) / (waves * np.pi) * np.sin(angle)
        return value, slope + (1 - width) * np.cos(angle)

    for function in (rational, quartic, wavy):
        start = Trial(0.0, *function(0.0))
        found = wolfe(function, start, first, decrease=1e-3, curvature=0.1)
        assert found.value <= start.value + 1e-3 * found.step * start.slope
        assert abs(found.slope) <= 0.1 * abs(start.slope), function
    with pytest.raises(ValueError, match="does not fall"):
        wolfe(rational, Trial(0.0, 0.0, 1.0))


def test_a_function_that_leaves_its_domain_is_searched_nearer():
    def logarithm(a):
        return (a - np.log1p(-a), 1 + 1 / (1 - a)) if a < 1 else (float("nan"), float("nan"))

    found = wolfe(lambda a: (logarithm(a)[0] - 4 * a, logarithm(a)[1] - 4), Trial(0.0, 0.0, -2.0), 3.0)
    assert 0 < found.step < 1 and abs(found.slope) <= 0.9 * 2


def regression(seed=0):
    """A small network, images of two classes, and a closure."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    inputs = torch.randn(60, 4, dtype=torch.float64)
    labels = (inputs[:, 0] * inputs[:, 1] > 0).long()

    def closure(optimizer):
        def evaluate():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels) + 1e-3 * sum(
                weight.square().sum() for weight in model.parameters()
            )
            optimizers.backward(optimizer, loss)
            return loss

        return evaluate

    return model, closure


@pytest.mark.parametrize("name", ["newton", "bfgs", "lbfgs"])
def test_networks_are_minimized_and_states_go_on(name):
    whole, halves = regression(), regression()
    losses = []
    for model, closure in (whole, halves):
        optimizer = optimizers.build(name, [{"params": list(model.parameters()), "weight_decay": 0.0}], 1.0)
        for step in range(6):
            losses.append(optimizer.step(closure(optimizer)).item())
            if model is halves[0] and step == 2:
                state = optimizer.state_dict()
                optimizer = optimizers.build(name, [{"params": list(model.parameters()), "weight_decay": 0.0}], 1.0)
                optimizer.load_state_dict(state)
    assert losses[:6] == losses[6:]
    assert all(below <= above + 1e-12 for above, below in zip(losses[:6], losses[1:6], strict=False))
    assert losses[5] < 0.5 * losses[0]


def test_what_second_order_optimizers_refuse():
    weight = nn.Parameter(torch.zeros(6_000))
    with pytest.raises(ValueError, match="bfgs keeps a matrix.*6,000 weights.*choose lbfgs"):
        SecondOrder([weight], 1.0, BFGS())
    with pytest.raises(ValueError, match="newton has one rate.*--l2"):
        optimizers.build("newton", [{"params": [weight], "weight_decay": 0.1}])


def test_the_film(tmp_path, capsys):
    import imageio.v3 as imageio

    config = optimizer_paths.Config(("saddle", "rosenbrock"), ("sgd", "adam", "newton", "bfgs"), evaluations=2, fps=1)
    config = dataclasses.replace(config, out=tmp_path / "deep" / "paths.mp4")
    optimizer_paths.main(config)
    assert len(imageio.imread(config.out)) == 3
    assert config.out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert "value after 2 evaluations" in capsys.readouterr().out
    with pytest.raises(ValueError, match="did you mean 'ravine'"):
        optimizer_paths.main(dataclasses.replace(config, surfaces=("ravin",)))


@pytest.mark.parametrize("surface", optimizer_paths.SURFACES)
def test_rates_do_not_diverge(surface):
    """Every optimizer goes down, and reaches a ravine's floor or leaves the saddle as far as it can."""
    ends = {name: list(path(surface, name, 120)) for name in optimizer_paths.NAMES}
    for name, found in ends.items():
        assert found[-1].value < found[0].value, name
    if surface == "saddle":
        assert ends["newton"][-1].value == pytest.approx(0, abs=1e-12) and ends["saddle_free_newton"][-1].value < -1
    if surface == "ravine":
        assert ends["momentum"][-1].value < ends["sgd"][-1].value
