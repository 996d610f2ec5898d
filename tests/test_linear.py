"""Linear models: against scikit-learn and linear programs on the same data; the perceptron's bound; XOR."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch
from scipy import optimize

from vision import data
from vision.classification import classical, linear
from vision.classification.linear import Objective, least_squares, solve
from vision.data import shapes as drawn_shapes

program = importlib.import_module("vision.classification.linear.__main__")


def problem(seed=0, count=60, features=5, classes=3):
    """Inputs (N, D), labels (N,) of three clouds that overlap, and numbers (N, 1) with outliers; float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centers = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    inputs = centers[labels] + torch.randn(count, features, generator=generator, dtype=torch.float64)
    numbers = inputs @ torch.randn(features, 1, generator=generator, dtype=torch.float64) + 0.7
    numbers += torch.randn(count, 1, generator=generator, dtype=torch.float64).pow(3)
    return inputs, labels, numbers


def shares(labels, classes=3):
    return torch.nn.functional.one_hot(labels, classes).double()


def theirs(objective, model, inputs, targets, flip=False):
    """The objective of a fitted model of scikit-learn."""
    weight, bias = (torch.tensor(np.atleast_1d(each)).double() for each in (model.coef_, model.intercept_))
    return objective(weight.view(targets.shape[1], -1), bias.view(-1), inputs, targets).item()


def agree(mine, other, objective):
    assert mine.objective == pytest.approx(other, rel=1e-4), objective
    assert mine.objective <= other * (1 + 1e-5), objective  # scikit-learn's may stop a little early, ours not


# ---- numbers ------------------------------------------------------------------------------------------------


def test_least_squares_against_scikit_learn():
    models = pytest.importorskip("sklearn.linear_model")
    inputs, _, numbers = problem()
    count, x, y = len(inputs), inputs.numpy(), numbers[:, 0].numpy()
    for l2, model in ((0.0, models.LinearRegression()), (0.3, models.Ridge(alpha=0.3 * count))):
        model.fit(x, y)
        mine = least_squares(inputs, numbers, l2)
        np.testing.assert_allclose(mine.weight[0].numpy(), model.coef_, atol=1e-8)
        assert mine.bias.item() == pytest.approx(model.intercept_, abs=1e-8)
        again = solve(Objective("squared", l2=l2), inputs, numbers)
        assert again.objective == pytest.approx(mine.objective, rel=1e-8)
        slow = linear.gradient_descent(Objective("squared", l2=l2), inputs, numbers, 0.1, 2_000)
        assert slow.objective == pytest.approx(mine.objective, rel=1e-6)
    halves = [(inputs[:20], numbers[:20]), (inputs[20:], numbers[20:])]
    torch.testing.assert_close(linear.normal_equations(halves, 0.3)[0], mine.weight)
    flat = torch.cat([inputs, inputs[:, :1]], 1)  # singular: the copies share the weight
    weight = least_squares(flat, numbers).weight[0]
    assert weight[0].item() == pytest.approx(weight[-1].item(), abs=1e-8)


@pytest.mark.parametrize("l1, l2", [(0.1, 0.0), (0.1, 0.2)])
def test_lasso_and_elastic_net_against_scikit_learn(l1, l2):
    models = pytest.importorskip("sklearn.linear_model")
    inputs, _, numbers = problem()
    model = models.ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), tol=1e-10, max_iter=100_000)
    model.fit(inputs.numpy(), numbers[:, 0].numpy())
    objective = Objective("squared", l1, l2)
    mine = solve(objective, inputs, numbers)
    agree(mine, theirs(objective, model, inputs, numbers), objective)
    np.testing.assert_allclose(mine.weight[0].numpy(), model.coef_, atol=1e-5)


def test_absolute_error_against_scikit_learn():
    models = pytest.importorskip("sklearn.linear_model")
    inputs, _, numbers = problem()
    for l1 in (0.0, 0.05):  # its pinball loss at the median is half of the absolute value
        model = models.QuantileRegressor(quantile=0.5, alpha=l1 / 2).fit(inputs.numpy(), numbers[:, 0].numpy())
        objective = Objective("absolute", l1)
        agree(solve(objective, inputs, numbers), theirs(objective, model, inputs, numbers), objective)


def test_hubers_error_against_scikit_learn():
    """scikit-learn estimates a scale too; with that scale in our delta the weights are equal."""
    models = pytest.importorskip("sklearn.linear_model")
    inputs, _, numbers = problem()
    model = models.HuberRegressor(epsilon=1.35, alpha=0.1, tol=1e-9, max_iter=10_000)
    model.fit(inputs.numpy(), numbers[:, 0].numpy())
    count, scale = len(inputs), model.scale_
    # sum of scale * h((y - s) / scale) + alpha |w|^2, with h = z^2 inside: 2 / scale times our mean of half squares
    objective = Objective("huber", l2=0.1 * scale / count, delta=1.35 * scale)
    mine = solve(objective, inputs, numbers)
    agree(mine, theirs(objective, model, inputs, numbers), objective)
    np.testing.assert_allclose(mine.weight[0].numpy(), model.coef_, atol=1e-4)


# ---- classes ------------------------------------------------------------------------------------------------


def test_softmax_and_logistic_against_scikit_learn():
    models = pytest.importorskip("sklearn.linear_model")
    inputs, labels, _ = problem()
    count, x, y = len(inputs), inputs.numpy(), labels.numpy()
    l1, l2 = 0.02, 0.05
    model = models.LogisticRegression(C=1 / (l2 * count), tol=1e-10, max_iter=10_000).fit(x, y)
    objective, targets = Objective("softmax", l2=l2), shares(labels)
    agree(solve(objective, inputs, targets), theirs(objective, model, inputs, targets), objective)
    binary = (labels == 0).double()[:, None]
    for first, second in ((0.0, l2), (l1, 0.0), (l1, l2)):
        total = first + second
        model = models.LogisticRegression(
            solver="saga", l1_ratio=first / total, C=1 / (total * count), tol=1e-10, max_iter=50_000
        )
        model.fit(x, binary[:, 0].numpy())
        objective = Objective("logistic", first, second)
        agree(solve(objective, inputs, binary), theirs(objective, model, inputs, binary), objective)


def test_svms_against_scikit_learn():
    """SVC has a free bias, LinearSVC penalizes it: it is compared without one."""
    svm = pytest.importorskip("sklearn.svm")
    inputs, labels, _ = problem()
    count, x, y = len(inputs), inputs.numpy(), labels.numpy()
    binary, l2 = (labels == 0).double()[:, None], 0.05
    model = svm.SVC(kernel="linear", C=1 / (l2 * count), tol=1e-9).fit(x, binary[:, 0].numpy())
    objective = Objective("one_vs_all_hinge", l2=l2)
    agree(solve(objective, inputs, binary), theirs(objective, model, inputs, binary), objective)
    none = dict(fit_intercept=False, tol=1e-9, max_iter=1_000_000, random_state=0)
    three = shares(labels)
    for loss, theirs_ in (("one_vs_all_hinge", "hinge"), ("one_vs_all_squared_hinge", "squared_hinge")):
        model = svm.LinearSVC(C=1 / (l2 * count), loss=theirs_, dual=True, **none).fit(x, y)
        model.intercept_ = np.zeros(3)
        objective = Objective(loss, l2=l2)
        agree(solve(objective, inputs, three, bias=False), theirs(objective, model, inputs, three), objective)
    model = svm.LinearSVC(C=1 / (0.02 * count), penalty="l1", loss="squared_hinge", dual=False, **none).fit(x, y)
    model.intercept_ = np.zeros(3)
    objective = Objective("one_vs_all_squared_hinge", 0.02)
    agree(solve(objective, inputs, three, bias=False), theirs(objective, model, inputs, three), objective)


def test_weston_watkins_of_two_classes_is_the_binary_svm():
    """With w_1 = -w_2 = v / 2 the sum of squares is half of v's: the binary SVM with half the penalty."""
    svm = pytest.importorskip("sklearn.svm")
    inputs, labels, _ = problem(classes=2)
    model = svm.SVC(kernel="linear", C=2 / (0.1 * len(inputs)), tol=1e-9).fit(inputs.numpy(), labels.numpy())
    mine = solve(Objective("weston_watkins", l2=0.1), inputs, shares(labels, 2))
    other = theirs(Objective("one_vs_all_hinge", l2=0.05), model, inputs, labels.double()[:, None])
    assert mine.objective == pytest.approx(other, rel=1e-4)
    np.testing.assert_allclose((mine.weight[1] - mine.weight[0]).numpy(), model.coef_[0], atol=2e-3)


def program_of(inputs, labels, classes, l1):
    """The minimum of Weston & Watkins' hinge with an L1 penalty, by scipy's linear program."""
    count, features = inputs.shape
    pairs = [(i, j) for i in range(count) for j in range(classes) if j != labels[i]]
    weights, total = classes * features, 2 * classes * features + 2 * classes + len(pairs)
    cost = np.zeros(total)
    cost[: 2 * weights], cost[2 * weights + 2 * classes :] = l1, 1 / count
    rows, bounds = np.zeros((len(pairs), total)), -np.ones(len(pairs))
    for number, (i, j) in enumerate(pairs):  # s_j - s_y + 1 <= slack
        for k, sign in ((j, 1), (int(labels[i]), -1)):
            part = sign * inputs[i].numpy()
            rows[number, k * features : (k + 1) * features] = part
            rows[number, weights + k * features : weights + (k + 1) * features] = -part
            rows[number, 2 * weights + k], rows[number, 2 * weights + classes + k] = sign, -sign
        rows[number, 2 * weights + 2 * classes + number] = -1
    return optimize.linprog(cost, rows, bounds, method="highs").fun


def test_weston_watkins_against_a_linear_program():
    inputs, labels, _ = problem(count=36, features=3)
    mine = solve(Objective("weston_watkins", l1=0.05), inputs, shares(labels))
    assert mine.objective == pytest.approx(program_of(inputs, labels, 3, 0.05), rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [loss if kind.smooth else pytest.param(loss, marks=pytest.mark.slow) for loss, kind in linear.LOSSES.items()],
)
def test_no_small_step_is_better(loss):
    """Every loss with the elastic net: they are convex, so what no small step betters is the minimum."""
    inputs, labels, numbers = problem(count=30, features=3)
    objective = Objective(loss, 0.02, 0.05, margin=0.8, delta=0.5)
    targets = numbers if linear.LOSSES[loss].numbers else shares(labels)
    mine, generator = solve(objective, inputs, targets), torch.Generator().manual_seed(0)
    for scale in (1e-1, 1e-2, 1e-3):
        for _ in range(40):
            parts = (mine.weight, mine.bias)
            moved = (part + scale * torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in parts)
            assert objective(*moved, inputs, targets).item() >= mine.objective - 1e-5
    assert mine.objective <= objective(mine.weight * 0, mine.bias * 0, inputs, targets).item()


def test_the_margin_is_free():
    """Margin and penalty choose the same: with a margin of D the weights are D times those of D^(power) l2."""
    inputs, labels, _ = problem()
    for loss in ("one_vs_all_hinge", "weston_watkins_squared"):
        power = 2 if "squared" in loss else 1
        one = solve(Objective(loss, l2=0.05, margin=1.0), inputs, shares(labels))
        other = solve(Objective(loss, l2=0.05 * 3.0 ** (power - 2), margin=3.0), inputs, shares(labels))
        assert other.objective == pytest.approx(3.0**power * one.objective, rel=1e-5)


def test_losses_by_hand():
    """Scores 0.5, -2 for a class and not: z = 0.5 and 2."""
    scores, target = torch.tensor([[0.5, -2.0]]), torch.tensor([[1.0, 0.0]])

    def found(loss, **options):
        return Objective(loss, **options).data(scores, target).item()

    assert found("one_vs_all_hinge") == 0.5 and found("one_vs_all_hinge", margin=3.0) == 3.5
    assert found("one_vs_all_squared_hinge", margin=3.0) == 7.25
    assert found("weston_watkins", margin=3.0) == 0.5 and found("weston_watkins_squared", margin=3.0) == 0.25
    assert found("logistic") == pytest.approx(np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-2.0)))
    assert found("perceptron") == 0.0 and Objective("perceptron").data(-scores, target).item() == 2.5
    assert found("squared") == (0.25 + 4) / 2 and found("absolute") == 2.5  # of the numbers 1 and 0
    assert found("huber", delta=1.0) == 0.125 + 1.5
    with pytest.raises(ValueError, match="did you mean 'one_vs_all_hinge'"):
        Objective("one_vs_al_hinge")
    with pytest.raises(ValueError, match="margin and delta above it"):
        Objective("squared", margin=0.0)


# ---- rules --------------------------------------------------------------------------------------------------


def test_perceptron_and_adaline_are_those_of_scikit_learn():
    models = pytest.importorskip("sklearn.linear_model")
    points = program.clouds(60, 2.0, seed=3)
    x, y = (each.numpy() for each in points)
    same = dict(shuffle=False, tol=None, max_iter=7)
    model = models.Perceptron(penalty=None, **same).fit(x, y)
    mine = linear.perceptron(*points, epochs=7)
    np.testing.assert_allclose(mine.weight.numpy(), model.coef_[0], atol=1e-10)
    assert mine.bias == pytest.approx(model.intercept_[0], abs=1e-10)
    model = models.SGDRegressor(penalty=None, learning_rate="constant", eta0=0.01, **same).fit(x, y)
    mine = linear.adaline(*points, epochs=7, rate=0.01)
    np.testing.assert_allclose(mine.weight.numpy(), model.coef_, atol=1e-10)
    assert mine.bias == pytest.approx(model.intercept_[0], abs=1e-10)
    assert mine.history[-1] < mine.history[0]


def test_the_perceptron_makes_no_more_mistakes_than_its_bound():
    """Eight sets that a line separates: it ends, and under (R / gamma)^2, of the widest margin and another."""
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(40, 3, generator=generator, dtype=torch.float64)
        weight = torch.randn(3, generator=generator, dtype=torch.float64)
        scores = inputs @ weight + 0.3
        inputs, signs = inputs[scores.abs() > 0.2], scores[scores.abs() > 0.2].sign()
        trained = linear.perceptron(inputs, signs, epochs=1_000)
        assert trained.history[-1] == 0 and (signs * (inputs @ trained.weight + trained.bias) > 0).all()
        given = linear.convergence_bound(inputs, signs, weight, 0.3)
        widest = solve(Objective("one_vs_all_squared_hinge", l2=1e-6), inputs, (signs[:, None] + 1) / 2)
        best = linear.convergence_bound(inputs, signs, widest.weight[0], widest.bias.item())
        assert sum(trained.history) <= min(best, given)


def test_the_bound_by_hand():
    """(0, 2) and (0, -2), by the line y = 0: R^2 = 5 with the bias, gamma 2."""
    inputs, signs = torch.tensor([[0.0, 2.0], [0.0, -2.0]]), torch.tensor([1.0, -1.0])
    assert linear.convergence_bound(inputs, signs, torch.tensor([0.0, 3.0]), 0.0) == pytest.approx(5 / 4)
    assert linear.convergence_bound(inputs, signs, torch.tensor([1.0, 0.0]), 0.0) == float("inf")
    assert sum(linear.perceptron(inputs, signs).history) == 1


def test_xor_is_beyond_a_line():
    """The perceptron errs in every epoch; of 100,000 lines none has more than three points of four right."""
    inputs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    signs = torch.tensor([-1, 1, 1, -1], dtype=torch.float64)
    history = linear.perceptron(inputs, signs, epochs=200).history
    assert len(history) == 200 and min(history) >= 1
    lines = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sides = (lines[:, :2] @ inputs.T + lines[:, 2:]).sign()
    assert (sides == signs).sum(1).max() == 3
    # w x + b >= 1 for the class and <= -1 for the other: a linear program without a solution
    rows = -signs[:, None] * torch.cat([inputs, torch.ones(4, 1, dtype=torch.float64)], 1)
    answer = optimize.linprog(np.zeros(3), rows.numpy(), -np.ones(4), bounds=[(None, None)] * 3)
    assert answer.status == 2  # infeasible


def test_random_parameters_are_the_best_of_their_tries():
    inputs, labels, _ = problem()
    objective, targets = Objective("weston_watkins"), shares(labels)
    few, many, local = (
        linear.random_parameters(objective, inputs, targets, tries, torch.Generator().manual_seed(0), near)
        for tries, near in ((5, False), (300, False), (300, True))
    )
    assert many.objective <= few.objective and local.objective < few.objective
    assert solve(objective, inputs, targets).objective < min(many.objective, local.objective)


# ---- programs -----------------------------------------------------------------------------------------------


def test_the_program_shows_what_the_lecture_says(tmp_path, capsys):
    program.main(program.Config(points=40, epochs=10, out=tmp_path / "linear.png"))
    assert (tmp_path / "linear.png").read_bytes()[:4] == b"\x89PNG"
    assert "separable" in capsys.readouterr().out
    words = {}
    lines = program.separate(program.Config(epochs=30), program.xor(80, 1), words)
    assert "not converged; bound inf" in words["perceptron"]
    assert max(program.right(program.xor(80, 1), *line) for line in lines.values()) <= 75
    program.separate(program.Config(epochs=30), program.clouds(80, 4.0, 1), words)
    assert "mistakes, converged in epoch" in words["perceptron"]


@pytest.fixture(scope="module")
def drawings():
    sizes = (1_200, 300, 300)
    parts = (drawn_shapes.draw(count, side=16, seed=seed) for seed, count in enumerate(sizes))
    return data.Sets(*parts, tuple(drawn_shapes.SHAPES))


FAST = ("l2-svm", "adaline", "least-squares", "random-local")  # test_classical.py has SVM, softmax and two layers


@pytest.mark.parametrize(
    "method",
    [
        method if method in FAST else pytest.param(method, marks=pytest.mark.slow)
        for method in (*classical.LOSSES, "least-squares", "random", "random-local")
    ],
)
def test_images_are_classified_by_every_method(method, drawings, tmp_path):
    asked = classical.Config(method=method, features="hog")
    config = dataclasses.replace(classical.recipe(asked), epochs=4, tries=60, threads=1, search=0, folder=tmp_path)
    found = classical.learn(config, drawings, torch.device("cpu"), tmp_path)
    assert found["test"] > (5 if "random" in method else 14), (method, found["test"])  # chance is 10
    assert ("tries" in found["chosen"]) == ("random" in method)
