"""GANs: losses and penalties by hand and by autograd, mixtures and coverage, networks, metrics, learning, resume."""

import dataclasses
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import runs
from vision import classification, data
from vision.classification import train as classification_train
from vision.data import mnist, shapes
from vision.generation import adversarial_losses as losses
from vision.generation import classifier_metrics, dcgan, density_pictures, load, mixtures, mlp_gan, r3gan, toy_points
from vision.generation import train as generation

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
MNIST = next((root for root in ROOTS if (root / "mnist").is_dir()), None)


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([1.0, -1.0])
BY_HAND = {  # of these logits: discriminator's and generator's loss
    "minimax": (
        -(log_sigmoid(2) + log_sigmoid(0) + log_sigmoid(-1) + log_sigmoid(1)) / 2,
        (log_sigmoid(-1) + log_sigmoid(1)) / 2,
    ),
    "non_saturating": (
        -(log_sigmoid(2) + log_sigmoid(0) + log_sigmoid(-1) + log_sigmoid(1)) / 2,
        -(log_sigmoid(1) + log_sigmoid(-1)) / 2,
    ),
    "least_squares": ((1 + 1 + 1 + 1) / 4, (0 + 4) / 4),
    "wasserstein": (0 - 1, 0.0),
    "relativistic": (-log_sigmoid(1), -log_sigmoid(-1)),  # both pairs differ by 1
}


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_by_hand(name):
    loss, (discriminator, generator) = losses.LOSSES[name], BY_HAND[name]
    assert loss.discriminator(REAL, FAKE, 0.0).item() == pytest.approx(discriminator, abs=1e-6)
    assert loss.generator(REAL, FAKE).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_both_sides_pull_in_opposite_directions(name):
    """Each network's gradient by a generated sample's logit: the discriminator's makes it smaller, the generator's
    greater. At a sample that the discriminator is sure of, only the minimax generator's gradient vanishes."""
    loss = losses.LOSSES[name]
    fake = torch.tensor([0.5], requires_grad=True)
    real = torch.tensor([0.7])
    (down,) = torch.autograd.grad(loss.discriminator(real, fake, 0.0), fake)
    (up,) = torch.autograd.grad(loss.generator(real, fake), fake)
    assert down.item() > 0 > up.item()
    sure = torch.tensor([-12.0], requires_grad=True)
    (up,) = torch.autograd.grad(loss.generator(real, sure), sure)
    assert (abs(up.item()) < 1e-4) == (name == "minimax")


def test_minimax_is_one_value_with_two_signs():
    """Of generated samples the discriminator minimizes what the generator maximizes."""
    fake = torch.randn(8)
    real = torch.full((8,), 100.0)  # sure: adds nothing
    loss = losses.LOSSES["minimax"]
    assert loss.discriminator(real, fake, 0.0).item() == pytest.approx(-loss.generator(real, fake).item(), abs=1e-6)


def test_label_smoothing_is_one_sided():
    """With s = 0.1 the loss of real samples is the cross-entropy with the target 0.9; generated ones keep 0."""
    found = losses.bernoulli_discriminator(REAL, FAKE, 0.1)
    expected = F.binary_cross_entropy_with_logits(REAL, torch.full((2,), 0.9))
    expected += F.binary_cross_entropy_with_logits(FAKE, torch.zeros(2))
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    best = torch.tensor([math.log(9)], requires_grad=True)  # the logit of 0.9, where the loss is least
    assert torch.autograd.grad(losses.bernoulli_discriminator(best, best.detach(), 0.1), best)[0].abs() < 1e-6
    squares = losses.least_squares_discriminator(torch.tensor([0.9]), torch.tensor([0.0]), 0.1)
    assert squares.item() == pytest.approx(0, abs=1e-12)
    for name in ("wasserstein", "relativistic"):
        with pytest.raises(ValueError, match=f"{name} has none, and takes no 0.1"):
            losses.LOSSES[name].discriminator(REAL, FAKE, 0.1)


def quadratic(x):
    """A critic whose gradient at x is (2 x1, 3)."""
    return x[:, 0] ** 2 + 3 * x[:, 1]


def test_penalties_by_hand():
    """Slopes at (2, 0) and (0, 1) are 5 and 3: R1 is (25 + 9) / 4. Between them, at (1, 1/2), it is sqrt(13)."""
    real, fake = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    both = torch.cat([real, fake]).requires_grad_()
    assert losses.zero_centered_penalty(quadratic(both), both).item() == pytest.approx((25 + 9) / 4)
    assert losses.slopes(quadratic(both), both).tolist() == [5, 3]
    found = losses.interpolated_penalty(quadratic, real, fake, torch.tensor([0.5]))
    assert found.item() == pytest.approx((math.sqrt(13) - 1) ** 2)
    assert losses.interpolated_penalty(quadratic, real, fake, torch.tensor([1.0])).item() == pytest.approx(16)
    assert 0 < losses.interpolated_penalty(quadratic, real, fake).item() <= 16
    weighed = losses.discriminator_losses(losses.LOSSES["relativistic"], quadratic, real, fake, weight=2.0)
    assert weighed["loss/penalty"].item() == pytest.approx(2 * (25 / 2 + 9 / 2))  # R1 and R2
    assert weighed["train/real"].item() == 4 and weighed["train/fake"].item() == 3
    assert "loss/penalty" not in losses.discriminator_losses(losses.LOSSES["relativistic"], quadratic, real, fake)
    assert "loss/penalty" not in losses.discriminator_losses(losses.LOSSES["minimax"], quadratic, real, fake, 1.0)


@pytest.mark.parametrize("name", ["wasserstein", "relativistic"])
def test_penalties_against_autograd(name):
    """The gradient of a penalty by a network's weights equals that of the one written out with autograd's jacobian,
    and finite differences, in float64."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    real, fake = (torch.randn(4, 3, dtype=torch.float64) for _ in range(2))
    shares = torch.rand(4, dtype=torch.float64)

    def penalty():
        if name == "wasserstein":
            return losses.interpolated_penalty(critic, real, fake, shares)
        return losses.discriminator_losses(losses.LOSSES[name], critic, real, fake, 1.0)["loss/penalty"]

    def slope(x):
        jacobian = torch.autograd.functional.jacobian(lambda row: critic(row[None])[0], x, create_graph=True)
        return jacobian.norm()

    if name == "wasserstein":
        points = shares[:, None] * real + (1 - shares[:, None]) * fake
        expected = torch.stack([(slope(x) - 1) ** 2 for x in points]).mean()
    else:
        expected = sum(torch.stack([slope(x) ** 2 for x in each]).mean() / 2 for each in (real, fake))
    weights = list(critic.parameters())[:3]
    torch.testing.assert_close(penalty(), expected)
    found, known = (torch.autograd.grad(each, weights) for each in (penalty(), expected))
    torch.testing.assert_close(found, known)
    with torch.no_grad():
        weights[0][0, 0] += 1e-5
    more = penalty().item()
    with torch.no_grad():
        weights[0][0, 0] -= 2e-5
    assert (more - penalty().item()) / 2e-5 == pytest.approx(found[0][0, 0].item(), rel=1e-4)


def test_generated_samples_are_constants_for_the_discriminator():
    network = nn.Linear(2, 2)
    critic = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    for loss in losses.LOSSES.values():
        fake = network(torch.randn(4, 2))
        found = losses.discriminator_losses(loss, critic, torch.randn(4, 2), fake, 1.0)
        sum(value for name, value in found.items() if name.startswith("loss/")).backward()
        assert network.weight.grad is None and critic[0].weight.grad is not None
        losses.generator_loss(loss, critic, torch.randn(4, 2), fake).backward()
        assert network.weight.grad is not None
        network.zero_grad(), critic.zero_grad()


# ---- mixtures -------------------------------------------------------------------------------------------


def test_mixtures():
    ring, grid = toy_points.ring(), toy_points.grid()
    assert ring.means.shape == (8, 2) and grid.means.shape == (25, 2)
    torch.testing.assert_close(ring.means.norm(dim=1), torch.ones(8))
    assert grid.means[:, 0].unique().tolist() == [-4, -2, 0, 2, 4] == grid.means[:, 1].unique().tolist()
    points = grid.sample(50_000, torch.Generator().manual_seed(0))
    assert points.shape == (50_000, 2) and points.mean(0).abs().max() < 0.05
    density = toy_points.Mixture(torch.zeros(1, 2), 1.0).log_prob(torch.tensor([[1.0, 1.0]]))
    assert density.item() == pytest.approx(-1 - math.log(2 * math.pi))
    places = density_pictures.places(grid.reach, 400)
    cell = (2 * grid.reach / 400) ** 2
    assert (grid.log_prob(places).exp().sum() * cell).item() == pytest.approx(1, abs=1e-3)
    assert (density_pictures.histogram(points, grid.reach).sum() * 4 * cell).item() == pytest.approx(1, abs=1e-5)


def test_histogram_by_hand():
    points = torch.tensor([[-0.9, 0.9], [0.9, 0.9], [0.9, 0.8], [5.0, 0.0]])
    assert density_pictures.histogram(points, 1.0, 2).tolist() == [[0.25, 0.5], [0, 0]]


def test_coverage_by_hand():
    """Means at 0 and 10, deviation 1: of five points one is 3 deviations from the first, two are near the second."""
    mixture = toy_points.Mixture(torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]), 1.0)
    points = torch.tensor([[3.0, 0.0], [10.0, 2.9], [10.1, 0.0], [3.1, 0.0], [15.0, 0.0]])
    found = toy_points.coverage(points, mixture)
    assert found.modes == 2 and found.high_quality == pytest.approx(60)
    assert found.kl == pytest.approx((1 / 3) * math.log(1) + (2 / 3) * math.log(2))
    lost = toy_points.coverage(torch.full((4, 2), 99.0), mixture)
    assert lost == (0, 0.0, pytest.approx(math.log(3)))
    for make in toy_points.MIXTURES.values():
        drawn = toy_points.coverage(make().sample(2_500, torch.Generator().manual_seed(0)), make())
        assert drawn.modes == len(make().means) and drawn.high_quality == pytest.approx(98.9, abs=0.7)
        assert drawn.kl < 0.02


def points_config(tmp_path, **changes):
    numbers = dict(wandb="disabled", device="cpu", folder=tmp_path, steps=20, hidden=16, batch=32, film_points=50)
    return dataclasses.replace(
        mixtures.Config(), **numbers | dict(evaluate_every=10, film_every=10, log_every=5) | changes
    )


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_trains_on_points(tmp_path, name):
    mixtures.train(points_config(tmp_path, data="ring", loss=name, discriminator_updates=2, name=name))
    folder = tmp_path / "ring" / name
    assert len(list((folder / "frames").glob("*.png"))) == 2
    assert (folder / "density.png").stat().st_size > 10_000
    assert (folder / "videos" / "step-20.mp4").stat().st_size > 1_000
    assert (folder / "finished.json").exists()


def test_unknown_names_have_near_matches(tmp_path):
    with pytest.raises(ValueError, match="unknown --data 'rings': did you mean 'ring'"):
        mixtures.train(points_config(tmp_path, data="rings"))
    with pytest.raises(ValueError, match="unknown --loss 'wasserstien': did you mean 'wasserstein'"):
        mixtures.train(points_config(tmp_path, loss="wasserstien"))


def test_a_stopped_run_on_points_goes_on(tmp_path, stop_at):
    """The same lines, bit for bit, and a film of all its frames."""
    config = points_config(tmp_path, data="grid", save_every=0.0)
    mixtures.train(config)
    stop_at(13, mixtures.train, dataclasses.replace(config, name="again"))
    mixtures.train(dataclasses.replace(config, name="again"))
    whole, again = (tmp_path / "grid" / name for name in ("mixtures-1", "again"))
    lines = (whole / "metrics.jsonl").read_text()
    assert (again / "metrics.jsonl").read_text() == lines and '"eval/modes"' in lines
    films = [folder / "videos" / "step-20.mp4" for folder in (whole, again)]
    assert films[0].read_bytes() == films[1].read_bytes()


# ---- networks -------------------------------------------------------------------------------------------


def test_dcgan_follows_its_guidelines():
    """No pools, no dense layers; batch norms but at the generator's end and the discriminator's begin; ReLU and tanh,
    leaky ReLU; weights of deviation 0.02."""
    torch.manual_seed(0)
    network, discriminator = dcgan.DCGANGenerator(100, (3, 64, 64), 64), dcgan.DCGANDiscriminator((3, 64, 64), 64)
    known = (nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.Tanh)
    assert all(isinstance(layer, known) for layer in network.layers) and isinstance(network.layers[-1], nn.Tanh)
    assert all(isinstance(each, nn.Conv2d | nn.BatchNorm2d | nn.LeakyReLU) for each in discriminator.layers)
    convolutions = [layer for layer in network.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.in_channels for layer in convolutions] == [100, 512, 256, 128, 64]  # figure 1 at half its width
    norms = [sum(isinstance(each, nn.BatchNorm2d) for each in net.layers) for net in (network, discriminator)]
    assert norms == [4, 3] and not isinstance(discriminator.layers[1], nn.BatchNorm2d)
    assert {each.negative_slope for each in discriminator.layers if isinstance(each, nn.LeakyReLU)} == {0.2}
    assert convolutions[1].weight.std().item() == pytest.approx(0.02, rel=0.02)
    images = network(torch.randn(2, 100))
    assert images.shape == (2, 3, 64, 64) and images.abs().max() <= 1 and discriminator(images).shape == (2,)
    assert [dcgan.doublings(side) for side in (8, 16, 28, 32, 48, 64)] == [1, 2, 2, 3, 3, 4]
    with pytest.raises(ValueError, match="30 pixels a side"):
        dcgan.DCGANGenerator(10, (1, 30, 30), 8)
    with pytest.raises(ValueError, match="32 x 16"):
        dcgan.DCGANDiscriminator((1, 32, 16), 8)


def test_r3gan_starts_as_its_paper_says():
    """Blocks start as the identity, without any normalization; outputs have a deviation of about 1."""
    torch.manual_seed(0)
    network, discriminator = r3gan.R3GANGenerator(64, (1, 28, 28), 32), r3gan.R3GANDiscriminator((1, 28, 28), 32)
    for net in (network, discriminator):
        blocks = [each for each in net.modules() if isinstance(each, r3gan.ResidualBlock)]
        assert len(blocks) == 2 and not any("Norm" in type(each).__name__ for each in net.modules())
        x = torch.randn(2, blocks[0].body[0].in_channels, 7, 7)
        assert torch.equal(blocks[0](x), x)
        assert {blocks[0].body[2].groups, blocks[1].body[2].groups} <= {4, 8}
    images = network(torch.randn(400, 64))
    assert images.shape == (400, 1, 28, 28) and images.std().item() == pytest.approx(1, abs=0.5)
    assert discriminator(torch.randn(400, 1, 28, 28)).std().item() == pytest.approx(1, abs=0.6)
    with pytest.raises(ValueError, match="a patch of 8 pixels"):
        r3gan.R3GANGenerator(64, (1, 28, 28), 32, patch=8)
    with pytest.raises(ValueError, match="a width of 12 channels"):
        r3gan.R3GANGenerator(64, (1, 28, 28), 12)


NETWORKS = {
    "gan": (mlp_gan.MLPGenerator, mlp_gan.MLPDiscriminator, (16, 2)),
    "dcgan": (dcgan.DCGANGenerator, dcgan.DCGANDiscriminator, (8,)),
    "r3gan": (r3gan.R3GANGenerator, r3gan.R3GANDiscriminator, (8, 1, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_conditional_networks_read_labels(name):
    torch.manual_seed(0)
    generator, discriminator, size = NETWORKS[name]
    network, critic = generator(6, (1, 16, 16), *size, classes=3), discriminator((1, 16, 16), *size, classes=3)
    network.eval(), critic.eval()
    noise, labels = torch.randn(1, 6).expand(3, 6), torch.arange(3)
    images = network(noise, labels)
    assert images.shape == (3, 1, 16, 16) and not torch.allclose(images[0], images[1])
    said = critic(images[:1].expand(3, -1, -1, -1), labels)
    assert said.shape == (3,) and said[0] != said[1]
    for net, inputs in ((network, noise), (critic, images)):
        with pytest.raises(ValueError, match="of 3 classes needs labels"):
            net(inputs)
    with pytest.raises(ValueError, match="is not conditional"):
        generator(6, (1, 16, 16), *size)(noise, labels)


def test_only_penalized_discriminators_do_without_batch_norm():
    """There the logit of an image depends on no other one."""
    plain, penalized = (
        generation.build(generation.Config(model="dcgan", loss=loss, penalty_weight=weight), (1, 16, 16), 3)
        for loss, weight in (("non_saturating", 0.0), ("wasserstein", 10.0))
    )
    images = torch.randn(4, 1, 16, 16)
    for model, alike in ((plain, False), (penalized, True)):
        all_of_them, two = model.discriminator(images), model.discriminator(images[:2])
        assert torch.allclose(all_of_them[:2], two, atol=1e-5) == alike


# ---- metrics --------------------------------------------------------------------------------------------


def test_frechet_distance_of_normal_distributions():
    """By the closed form where covariances commute, symmetric, 0 of itself, and of drawn samples near it."""
    ours = classifier_metrics.frechet
    mean, other = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1.0])
    one, two = torch.diag(torch.tensor([4.0, 9.0])), torch.diag(torch.tensor([1.0, 16.0]))
    assert ours(mean, one, other, two) == pytest.approx(4 + (2 - 1) ** 2 + (3 - 4) ** 2)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0))).Q
    turned = [turn @ each @ turn.T for each in (one, two)]
    assert ours(turn @ mean, turned[0], turn @ other, turned[1]) == pytest.approx(6, abs=1e-5)
    drawn = [torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(seed)).double() for seed in (1, 2)]
    for a, b in zip(*drawn, strict=True):
        a, b, zero = a @ a.T, b @ b.T, torch.zeros(3)
        values = torch.linalg.eigvals(a @ b).real.clamp(min=0)  # of S S', which is not symmetric
        expected = (a.diagonal().sum() + b.diagonal().sum() - 2 * values.sqrt().sum()).item()
        assert ours(zero, a, zero, b) == pytest.approx(expected, abs=1e-8)
        assert ours(zero, b, zero, a) == pytest.approx(expected, abs=1e-8)
        assert ours(zero, a, zero, a) == pytest.approx(0, abs=1e-6)
    singular = torch.diag(torch.tensor([1.0, 0.0]))
    assert ours(mean, singular, mean, one) == pytest.approx(1 + 9)
    drawn = torch.randn(2, 100_000, 2, generator=torch.Generator().manual_seed(0))
    samples = (drawn[0] * torch.tensor([2.0, 3.0]) + mean, drawn[1] * torch.tensor([1.0, 4.0]) + other)
    assert classifier_metrics.fid(*samples) == pytest.approx(6, abs=0.1)


def test_fid_asks_for_more_samples_than_features():
    with pytest.raises(ValueError, match="FID of 4 features needs more than 4 samples: 4 are given"):
        classifier_metrics.fid(torch.randn(9, 4), torch.randn(4, 4))
    assert classifier_metrics.fid(torch.randn(9, 4), torch.randn(5, 4)) > 0


def test_classifier_score_by_hand():
    """Sure and even: the number of classes. Always the same: 1. Two sure and two unsure ones by the formula."""
    assert classifier_metrics.classifier_score(torch.eye(10)) == pytest.approx(10)
    assert classifier_metrics.classifier_score(torch.full((5, 10), 0.1)) == pytest.approx(1)
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    kl = (math.log(1 / 0.75) + 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    assert classifier_metrics.classifier_score(p) == pytest.approx(math.exp(kl))


def test_balance_and_modes_by_hand():
    labels = torch.tensor([0, 0, 0, 1])
    assert classifier_metrics.imbalance(labels, torch.tensor([0.5, 0.5])) == pytest.approx(50)
    assert classifier_metrics.imbalance(labels, torch.tensor([0.75, 0.25, 0.0])) == 0
    found = classifier_metrics.mode_coverage(labels, torch.full((4,), 0.25))
    assert found.covered == 2 and found.kl == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1))


def test_pixel_distance():
    torch.manual_seed(0)
    images = torch.rand(64, 3, 9, 9)
    near, far = (images + 0.01 * torch.rand(64, 3, 9, 9)).clamp(0, 1), 1 - images / 2
    distance = classifier_metrics.pixel_distance
    assert distance(images, images) == pytest.approx(0, abs=1e-6)
    assert distance(images, near) < distance(images, far) and distance(images[:6], far[:6]) > 0


def test_stacked_digits():
    part = data.Labeled(torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 2), torch.arange(10))
    found = mnist.stacked(part, 50, 0)
    assert found.images.shape == (50, 3, 2, 2) and found.images.dtype == torch.uint8
    digits = found.images[:, :, 0, 0].long()
    assert torch.equal(digits @ torch.tensor([100, 10, 1]), found.labels) and len(found.labels.unique()) > 40


@pytest.fixture
def gray(monkeypatch):
    """Gray drawn shapes (1, 16, 16) of ten classes in the place of MNIST, few of them."""
    parts = []
    for seed, count in enumerate((400, 300, 100)):
        images, labels = shapes.draw(count, 16, seed)
        parts.append(data.Labeled(images[:, :1], labels))
    sets = data.Sets(*parts, tuple("0123456789"))
    stacks = [mnist.stacked(part, count, 0) for part, count in zip(parts, (400, 300, 300), strict=True)]
    monkeypatch.setitem(data.SETS, "mnist", lambda folder: sets)
    names = tuple(str(number) for number in range(1000))
    monkeypatch.setitem(data.SETS, "stacked_mnist", lambda folder: data.Sets(*stacks, names))
    return sets


@pytest.fixture
def classifier(gray, tmp_path):
    """The folder of a classifier of them, trained for moments."""
    asked = classification.Config(data="mnist", folder=tmp_path, wandb="disabled", device="cpu", backbone="small")
    config = dataclasses.replace(asked, width=0.25, steps=640, batch=32, evaluate_every=640, test=False)
    classification_train.train(config)
    return tmp_path / "mnist" / "classification-1"


def gan_config(tmp_path, model="dcgan", **changes):
    base = generation.recipe(generation.Config(model=model, data="mnist"))
    numbers = dict(wandb="disabled", device="cpu", folder=tmp_path, steps=48, batch=16, evaluate_every=32, samples=9)
    numbers |= dict(latents=8, hidden=16, channels=8, log_every=16, evaluate_images=200)
    return dataclasses.replace(base, **numbers | changes)


def test_metrics_of_a_classifier(classifier, gray):
    metrics = classifier_metrics.load(classifier, (1, 16, 16), "cpu")
    assert metrics.name == "mnist/classification-1" and not metrics.stacked
    images, labels = gray.train.images[:300], gray.train.labels[:300]
    same = metrics.measure(images, labels, images, labels)
    other = metrics.measure(images, labels, 255 - images, labels)
    assert abs(same["fid"]) < 1e-9 < other["fid"]
    assert 1 <= same["classifier_score"] <= 10 and 10 <= same["confidence"] <= 100
    said = metrics.probabilities(images).argmax(1)
    assert same["agreement"] == pytest.approx(100 * (said == labels).double().mean().item())
    assert "agreement" not in metrics.measure(images, labels, images)
    few = metrics.dimension
    with pytest.raises(ValueError, match=f"mnist/classification-1 has {few} features and needs more images"):
        metrics.measure(images, labels, images[:few])
    with pytest.raises(ValueError, match=r"classifies images of \(1, 16, 16\), and these are \(3, 8, 8\)"):
        classifier_metrics.load(classifier, (3, 8, 8), "cpu")
    stacked = classifier_metrics.load(classifier, (3, 16, 16), "cpu")
    assert stacked.stacked and stacked.dimension == 3 * few
    three = mnist.stacked(gray.train, 300, 0)
    found = stacked.measure(three.images, three.labels, three.images, three.labels)
    digits = metrics.probabilities(three.images.reshape(-1, 1, 16, 16)).argmax(1).view(-1, 3)
    assert found["modes"] == len({tuple(row) for row in digits.tolist()}) and found["mode_kl"] > 0
    assert found["fid"] == pytest.approx(0, abs=1e-3) and "imbalance" not in found


# ---- training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gan", "dcgan", "r3gan"])
def test_a_run_is_scored_by_a_classifier_and_resumes(model, tmp_path, classifier, stop_at):
    """Conditional, stopped in its middle, and gone on bit for bit; loaded where the classifier is gone."""
    config = gan_config(tmp_path, model, classifier=classifier, conditional=True, save_every=0.0)
    generation.train(config)
    whole = tmp_path / "mnist" / f"{model}-1"
    lines = (whole / "metrics.jsonl").read_text()
    assert all(f'"eval/{name}"' in lines for name in ("fid", "classifier_score", "confidence", "agreement"))
    assert '"test/fid"' in lines and len(list((whole / "samples").glob("*.png"))) == 2
    stop_at(32, generation.train, dataclasses.replace(config, name="again"))
    generation.train(dataclasses.replace(config, name="again"))
    assert (tmp_path / "mnist" / "again" / "metrics.jsonl").read_text() == lines
    shutil.rmtree(classifier)
    trained = load(whole, "cpu")
    drawn = trained.sample(6, torch.arange(6))
    assert drawn.shape == (6, 1, 16, 16) and 0 <= drawn.min() and drawn.max() <= 1
    with pytest.raises(ValueError, match="GAN has no likelihood"):
        trained.log_prob(drawn)


def test_stacked_digits_are_counted(tmp_path, classifier):
    config = gan_config(
        tmp_path, data="stacked_mnist", classifier=classifier, loss="wasserstein", penalty_weight=10.0
    )
    generation.train(dataclasses.replace(config, discriminator_updates=3))
    lines = (tmp_path / "stacked_mnist" / "dcgan-1" / "metrics.jsonl").read_text()
    assert '"eval/modes"' in lines and '"test/mode_kl"' in lines and '"loss/penalty"' in lines


def test_without_a_classifier_pixels_are_compared(tmp_path, gray):
    generation.train(gan_config(tmp_path, "gan", smoothing=0.1))
    lines = (tmp_path / "mnist" / "gan-1" / "metrics.jsonl").read_text()
    assert '"eval/pixel_distance"' in lines and "fid" not in lines
    with pytest.raises(runs.RunError, match="is not a run's folder"):
        generation.train(gan_config(tmp_path, "gan", classifier=tmp_path / "nothing", name="other"))
    with pytest.raises(ValueError, match="unknown --loss 'hinge'"):
        generation.train(gan_config(tmp_path, "gan", loss="hinge"))


def test_recipes_follow_the_loss():
    """A penalty where the loss has one, with the weight that is its own."""
    for model, loss, expected in (
        ("r3gan", None, ("relativistic", 1.0)),
        ("dcgan", None, ("non_saturating", 0.0)),
        ("dcgan", "wasserstein", ("wasserstein", 10.0)),
        ("r3gan", "wasserstein", ("wasserstein", 10.0)),
        ("r3gan", "non_saturating", ("non_saturating", 0.0)),
    ):
        found = generation.recipe(generation.Config(model=model, loss=loss))
        assert (found.loss, found.penalty_weight) == expected
    for config in (generation.Config(model="dcgan"), mixtures.Config(loss="minimax")):
        with pytest.raises(ValueError, match="--penalty-weight 5: .* is a loss without a gradient penalty"):
            dataclasses.replace(config, penalty_weight=5.0).validate()


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_a_gan_learns_points(loss):
    """Two well separated points of a line: both are covered, by half of the samples each."""
    torch.manual_seed(0)
    network, critic = mlp_gan.MLPGenerator(2, (1,), 32, 2, squashed=False), mlp_gan.MLPDiscriminator((1,), 32, 2)
    adams = [torch.optim.Adam(each.parameters(), 3e-3, (0.5, 0.99)) for each in (network, critic)]
    chosen = losses.LOSSES[loss]
    for _ in range(300):
        real = torch.randint(2, (64, 1)) * 2.0 - 1 + 0.05 * torch.randn(64, 1)
        fake = network(torch.randn(64, 2))
        found = losses.discriminator_losses(chosen, critic, real, fake, 0.02)
        adams[1].zero_grad()
        sum(value for name, value in found.items() if name.startswith("loss/")).backward()
        adams[1].step()
        adams[0].zero_grad()
        losses.generator_loss(chosen, critic, real, network(torch.randn(64, 2))).backward()
        adams[0].step()
    with torch.no_grad():
        drawn = network(torch.randn(1_000, 2))[:, 0]
    near = (drawn.abs() - 1).abs() < 0.3
    assert near.double().mean() > 0.7 and 0.25 < (drawn > 0).double().mean() < 0.75


@pytest.mark.skipif(MNIST is None, reason="needs the files of MNIST")
def test_stacked_mnist():
    sets = data.load("stacked_mnist", MNIST / "mnist")
    assert [len(part.labels) for part in sets[:3]] == [55_000, 5_000, 26_000] and len(sets.classes) == 1000
    assert sets.test.images.shape == (26_000, 3, 28, 28) and len(sets.test.labels.unique()) == 1000
