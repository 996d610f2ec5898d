"""Generation: densities by hand and enumerated, KL and flows, learning, resume, samples, completions, backbones."""

import dataclasses
import itertools
import json
import math
import time

import pytest
import torch
from torch.nn import functional as F

import runs
from vision import backbones, generation
from vision.classification import train as classify
from vision.data import Labeled, Sets, shapes
from vision.generation import data, likelihoods, pixelrnn, plots, posteriors, predict, train
from vision.generation.autoencoder import latent_line, traversal
from vision.generation.generator import Generator, bits_per_dim

SQUARE = ("dcgan", "r3gan")  # models of square images
TINY = dict(
    features=12,
    layers=2,
    head_width=8,
    width=0.5,
    latents=4,
    hidden=16,
    wandb="disabled",
    device="cpu",
    batch=8,
    samples=9,
    evaluate_images=16,
)


@pytest.fixture
def few(monkeypatch):
    """Small gray images of shapes in the place of every named set: (1, 8, 8)."""
    parts = []
    for seed, count in enumerate((64, 16, 16)):
        images, labels = shapes.draw(count, 8, seed)
        parts.append(Labeled(images[:, :1], labels % 3))
    sets = Sets(*parts, ("one", "two", "three"))
    monkeypatch.setattr(train.data, "load", lambda *_: sets)
    return sets


def every_image(shape, levels):
    """All images (N, C, H, W) of a shape with some levels from 0 to 1."""
    values = itertools.product(range(levels), repeat=math.prod(shape))
    return torch.tensor(list(values)).float().view(-1, *shape) / (levels - 1)


def small(model, **changes):
    """A config that learns few images."""
    return dataclasses.replace(train.recipe(train.Config(model=model)), **TINY | dict(levels=2) | changes)


def test_likelihoods_by_hand_and_as_distributions():
    """Every distribution's masses sum to 1; a Bernoulli's and a categorical's by hand."""
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    logit = torch.full((1, 1, 1, 1), math.log(3.0))  # a probability of 3/4
    assert likelihoods.Bernoulli().log_prob(logit, one).item() == pytest.approx(math.log(0.75))
    assert likelihoods.Bernoulli().log_prob(logit, zero).item() == pytest.approx(math.log(0.25))
    shares = torch.tensor([0.2, 0.5, 0.3]).log().view(1, 3, 1, 1)
    third = likelihoods.Categorical(3)
    assert third.log_prob(shares, torch.full((1, 1, 1, 1), 0.5)).item() == pytest.approx(math.log(0.5))
    assert third.mean(shares).item() == pytest.approx(0.5 * 0.5 + 0.3)
    torch.manual_seed(0)
    for kind in (likelihoods.DiscretizedLogistic(256), likelihoods.Categorical(256)):
        parameters = torch.randn(1, kind.outputs, 1, 1) * 2
        levels = torch.arange(256).view(256, 1, 1, 1) / 255
        masses = kind.log_prob(parameters.expand(256, -1, 1, 1), levels).exp()
        assert masses.sum().item() == pytest.approx(1, abs=1e-4)
        drawn = kind.sample(parameters.expand(20_000, -1, 1, 1)).flatten()
        mean = (masses.flatten() * levels.flatten()).sum().item()
        assert drawn.mean().item() == pytest.approx(mean, abs=0.01)
        assert torch.equal((drawn * 255).round() / 255, drawn)


def test_kl_and_elbo_by_hand():
    """KL(N(1, 4) | N(0, 1)) = (1 + 4 - 1 - ln 4) / 2; log-densities by the formula; bits/dim of 8 ln 2 nats: 1."""
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.log(4.0), 0.0]])
    assert posteriors.gaussian_kl(mean, log_variance).tolist()[0] == pytest.approx([2 - math.log(4) / 2, 0])
    at = torch.tensor([[3.0, 0.0]])
    expected = -0.5 * (math.log(2 * math.pi * 4) + 1) - 0.5 * math.log(2 * math.pi)
    assert posteriors.log_normal(at, mean, log_variance).item() == pytest.approx(expected)
    nats = torch.tensor([8 * math.log(2)])
    assert bits_per_dim(nats, torch.zeros(1, 2, 2, 2)).item() == pytest.approx(1)
    model = train.build(small("vae"), (1, 8, 8), 3)
    with torch.no_grad():  # a posterior equal to the prior, and pixels of probability 1/2 whatever z is
        for layer in (model.posterior.to_mean, model.decoder[-1].conv):
            layer.weight.zero_(), layer.bias.zero_()
    images = torch.bernoulli(torch.full((5, 1, 8, 8), 0.5))
    assert model.log_prob(images).tolist() == pytest.approx([64 * math.log(0.5)] * 5)
    assert model.importance_log_prob(images, count=3).tolist() == pytest.approx([64 * math.log(0.5)] * 5)


@pytest.mark.parametrize("kind", ["planar", "iaf"])
def test_flows_have_the_log_determinants_of_their_jacobians(kind):
    torch.manual_seed(0)
    posterior = posteriors.Posterior(kind, 6, 5, flows=2, width=16).double()
    for weight in posterior.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.3)
    h, z = torch.randn(1, 6, dtype=torch.float64), torch.randn(1, 5, dtype=torch.float64)
    for flow in posterior.flows:
        jacobian = torch.autograd.functional.jacobian(lambda x, flow=flow: flow(x, h)[0], z)[0, :, 0]
        sign, expected = torch.linalg.slogdet(jacobian)
        assert flow(z, h)[1].item() == pytest.approx(expected.item(), abs=1e-5) and sign != 0
        if kind == "iaf":  # that of dimension i depends on dimensions up to i, before the order is reversed
            assert torch.equal(jacobian.flip(0).triu(1), torch.zeros_like(jacobian))
    drawn = posterior(h)
    assert drawn.kl.item() == pytest.approx((drawn.log_q - posteriors.log_normal(drawn.z)).item())


def test_the_importance_weighted_bound_is_tighter():
    """It rises with the number of samples; with one it is the ELBO, whose KL without flows is exact."""
    torch.manual_seed(0)
    model = train.build(small("vae", posterior="planar"), (1, 8, 8), 3)
    images = torch.bernoulli(torch.full((64, 1, 8, 8), 0.5))
    for weight in model.posterior.to_mean.parameters():
        weight.data.mul_(10)
    with torch.no_grad():
        values = [model.importance_log_prob(images, count=count).mean().item() for count in (1, 10, 200)]
        one, bound = (
            torch.stack([each(images) for _ in range(100)]).mean().item()
            for each in (lambda x: model.importance_log_prob(x, count=1), model.log_prob)
        )
    assert values[0] < values[1] < values[2] and one == pytest.approx(bound, abs=0.5)


def test_binarization():
    images = torch.tensor([0, 51, 127, 128, 255], dtype=torch.uint8).view(5, 1, 1, 1)
    assert data.quantize(images, 2, "threshold").flatten().tolist() == [0, 0, 0, 1, 1]
    assert data.quantize(images, 256).flatten().tolist() == pytest.approx([0, 0.2, 127 / 255, 128 / 255, 1])
    assert data.quantize(images, 4).flatten().tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    many = images[1:2].expand(20_000, 1, 1, 1)
    assert data.quantize(many, 2).mean().item() == pytest.approx(0.2, abs=0.01)
    part = Labeled(torch.full((4, 1, 8, 8), 128, dtype=torch.uint8), torch.arange(4))
    static, dynamic = (data.Pixels(part, 2, kind, "cpu") for kind in ("static", "dynamic"))
    rows = torch.arange(4)
    assert torch.equal(static.rows(rows)[0], static.rows(rows)[0])
    assert not torch.equal(dynamic.rows(rows)[0], dynamic.rows(rows)[0])
    (one, _), (again, _) = next(dynamic.batches(4)), next(dynamic.batches(4))
    assert torch.equal(one, again) and set(one.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("model", train.MODELS)
def test_contract(model, conditional):
    """Losses with gradients for every weight, samples from 0 to 1, and what a model cannot do is said."""
    torch.manual_seed(0)
    shapes = ((1, 8, 8), (3, 16, 16) if model in SQUARE else (3, 9, 7))
    for shape, levels in zip(shapes, (2, 4), strict=True):
        made = train.build(small(model, levels=levels, conditional=conditional), shape, 3)
        images, labels = torch.randint(levels, (6, *shape)) / (levels - 1), torch.arange(6) % 3
        if type(made).losses is not Generator.losses:
            losses = made.losses(images, labels)
            total = sum(value for name, value in losses.items() if name.startswith("loss/"))
            total.backward()
            assert total.isfinite()
        found = made.update(images, labels, made.optimizers(1e-3))
        assert all(value.dim() == 0 and not value.requires_grad and value.isfinite() for value in found.values())
        assert not [name for name, weight in made.named_parameters() if weight.grad is None]
        made.eval()
        with torch.no_grad():
            drawn = made.sample(5)
            assert drawn.shape == (5, *shape) and drawn.min() >= 0 and drawn.max() <= 1
            measured = made.measure([(images, labels)])
            assert made.score.name in measured and all(map(math.isfinite, measured.values()))
            known = torch.zeros(shape[1:], dtype=torch.bool)
            for name, arguments in {"reconstruct": (), "complete": (known,), "log_prob": ()}.items():
                if getattr(type(made), name) is getattr(Generator, name):
                    with pytest.raises(ValueError, match=type(made).__name__):
                        getattr(made, name)(images, *arguments, labels)
                else:
                    result = getattr(made, name)(images, *arguments, labels)
                    assert result.shape == ((6,) if name == "log_prob" else images.shape)
            if made.likelihood != "none":
                assert made.log_prob(images, labels).max() <= 0
        if conditional and made.likelihood != "none":
            with pytest.raises(ValueError, match="needs the images' labels"):
                made.log_prob(images)
            with pytest.raises(ValueError, match="4 labels for 5 images"):
                made.sample(5, torch.zeros(4, dtype=torch.int64))


PIXELS = {  # the autoregressive models
    "pixelcnn": dict(model="pixelcnn"),
    "gated": dict(model="pixelcnn", gated=True),
    "row": dict(model="pixelrnn", recurrence="row"),
    "diagonal": dict(model="pixelrnn", recurrence="diagonal"),
}


def autoregressive(kind, shape, levels=2, conditional=False, **changes):
    """A model with random weights that are large enough for its probabilities to differ."""
    torch.manual_seed(0)
    config = small(**PIXELS[kind], levels=levels, conditional=conditional, **changes)
    model = train.build(config, shape, 3).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(1.7)
    return model


@pytest.mark.parametrize("shape, levels", [((1, 3, 3), 2), ((3, 2, 1), 2), ((1, 2, 2), 3), ((2, 2, 2), 2)])
@pytest.mark.parametrize("kind", PIXELS)
def test_the_likelihood_of_all_images_sums_to_one(kind, shape, levels):
    """Of a small space, enumerated; and samples with cached activations are those of the whole network."""
    for conditional in (False, True):
        model = autoregressive(kind, shape, levels, conditional)
        images = every_image(shape, levels)
        labels = torch.full((len(images),), 2) if conditional else None
        assert model.log_prob(images, labels).exp().sum().item() == pytest.approx(1, abs=1e-5)
        drawn = []
        for cached in (True, False):
            torch.manual_seed(1)
            drawn.append(model.sample(40, cached=cached))
        assert torch.equal(*drawn) and len(drawn[0].unique(dim=0)) > 10
        known = torch.rand(40, *shape[1:]) < 0.5
        drawn = []
        for cached in (True, False):
            torch.manual_seed(1)
            drawn.append(model.complete(images[:1].expand(40, *shape), known, model.drawn_labels(40), cached))
        kept = known[:, None].expand_as(drawn[0])
        assert torch.equal(*drawn) and (drawn[0][kept] == images[0, 0, 0, 0]).all()


@pytest.mark.parametrize("kind", PIXELS)
def test_samples_have_the_probabilities_of_the_model(kind):
    model = autoregressive(kind, (1, 2, 2))
    images = every_image((1, 2, 2), 2)
    torch.manual_seed(2)
    drawn = model.sample(20_000).flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])
    found = torch.bincount(drawn.long(), minlength=16) / 20_000
    torch.testing.assert_close(found, model.log_prob(images).exp(), atol=0.015, rtol=0)
    known = torch.tensor([[True, True], [False, False]])  # the second row, given a first row of ones
    half = model.complete(torch.ones(20_000, 1, 2, 2), known).flatten(1)
    shares = model.log_prob(images[12:]).softmax(0)
    found = torch.bincount((half[:, 2] * 2 + half[:, 3]).long(), minlength=4) / 20_000
    torch.testing.assert_close(found, shares, atol=0.015, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", PIXELS)
def test_a_pixel_sees_those_before_it_alone(kind, channels):
    """Gradients reach values before it in reading order, colors of the same pixel in order, and none behind; with two
    stacks, and with LSTMs from both corners, all that are near enough. One stack has a blind spot to the right."""
    model = autoregressive(kind, (channels, 9, 9), features=48, head_width=48)  # ReLUs are not all dead
    images = torch.rand(1, channels, 9, 9, requires_grad=True)
    row = column = 4
    order = torch.arange(81).view(9, 9) - (row * 9 + column)
    for channel in range(channels):
        value = model.parameters_of(images)[0, channel, row, column]
        seen = torch.autograd.grad(value, images)[0][0] != 0
        allowed = (order < 0).repeat(channels, 1, 1)
        allowed[:channel, row, column] = True
        assert not (seen & ~allowed).any()
        assert seen[:, row, column - 1].all() and seen[:, row - 1, column].all()
        if kind == "diagonal":  # the first convolution has moved the row above by one: its end is out of reach
            allowed[-1, row - 1, -1] = False
        if kind in ("gated", "diagonal"):
            assert torch.equal(seen, allowed)


def test_pixelcnn_has_the_published_size():
    """53,569 weights, those under masks included: pytorch-generative's PixelCNN of 81.45 nats."""
    model = train.build(train.Config(model="pixelcnn", data="mnist", levels=2), (1, 28, 28), 10)
    assert sum(weight.numel() for weight in model.parameters()) == 53_569


def test_lstm_and_skew_by_hand():
    """Gates of 0 are a half; open and shut gates; rows of a map moved, and moved back."""
    hidden, cell = pixelrnn.lstm(torch.zeros(1, 4), torch.ones(1, 1))
    assert cell.item() == 0.5 and hidden.item() == pytest.approx(0.5 * math.tanh(0.5))
    hidden, cell = pixelrnn.lstm(torch.tensor([[100.0, -100.0, 100.0, 0.3]]), torch.ones(1, 1))
    assert cell.item() == pytest.approx(math.tanh(0.3)) and hidden.item() == pytest.approx(math.tanh(math.tanh(0.3)))
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6]])[None, None]
    assert pixelrnn.skew(x)[0, 0].tolist() == [[1, 2, 3, 0], [0, 4, 5, 6]]
    assert torch.equal(pixelrnn.unskew(pixelrnn.skew(x)), x)


@pytest.mark.slow
@pytest.mark.parametrize("gated", [False, True])
def test_cached_sampling_is_fifty_times_as_fast(gated, count=32):
    """At 28 x 28, with equal samples, both on one thread, in seconds of the processor."""
    config = train.recipe(train.Config(model="pixelcnn", data="mnist", gated=gated))
    torch.manual_seed(0)
    model, times, drawn = train.build(config, (1, 28, 28), 10), [], []
    for cached in (True, False):
        torch.manual_seed(1)
        began = time.process_time()
        drawn.append(model.sample(count, cached=cached))
        times.append(time.process_time() - began)
    print(f"gated {gated}, {count} images: {times[0]:.2f} s and {times[1]:.1f} s, {times[1] / times[0]:.0f} times")
    assert torch.equal(*drawn) and times[1] > 50 * times[0]


@pytest.mark.parametrize("name", ["mlp", "lenet5", "nature", "resnet18"])
def test_any_backbone_is_an_encoder(name):
    """Fully connected ones get a fully connected decoder, others the way back through their strides."""
    for side in (36, 45):
        config = small("autoencoder", backbone=name, width=0.25)
        model = train.build(config, (1, side, side), 0)
        images = torch.rand(3, 1, side, side)
        assert model.reconstruct(images).shape == images.shape
    kinds = [layer for layer in model.decoder if isinstance(layer, torch.nn.Linear)]
    assert len(kinds) == (3 if name == "mlp" else 2)


@pytest.mark.parametrize("model", ["autoencoder", "vae", "pixelcnn", "pixelrnn"])
def test_a_run_learns_resumes_and_samples(model, tmp_path, few, stop_at):
    """Stopped halfway and gone on, a run is the same, bit for bit; its encoder is a backbone."""
    config = small(model, folder=tmp_path, steps=64, evaluate_every=32, log_every=16, save_every=0.0, ema_decay=0.9)
    train.train(config)
    whole = tmp_path / "shapes" / f"{model}-1"
    lines = (whole / "metrics.jsonl").read_text()
    assert f'"{train.build(config, (1, 8, 8), 3).score.metric}"' in lines and '"test/of_step"' in lines
    pixels = model.startswith("pixel")
    assert [len(list((whole / folder).glob("*.png"))) for folder in ("samples", "reconstructions")] == [
        2,
        2 - 2 * pixels,
    ]
    assert len(list((whole / "videos").glob("step-64.mp4"))) == 1

    stop_at(48, train.train, dataclasses.replace(config, name="again"))
    train.train(dataclasses.replace(config, name="again"))
    assert (tmp_path / "shapes" / "again" / "metrics.jsonl").read_text() == lines

    trained = generation.load(whole, "cpu")
    assert torch.equal(trained.sample(4), trained.sample(4)) and trained.classes == few.classes
    assert not torch.equal(trained.sample(4), trained.sample(4, seed=2))
    if not pixels:
        backbone = backbones.build(str(whole), (1, 8, 8))
        images = torch.rand(2, 1, 8, 8)
        assert torch.equal(backbone(images)[-1], trained.model.backbone(images)[-1])
        taught = classify.recipe(classify.Config(data="shapes", backbone=str(whole)))
        taught = dataclasses.replace(taught, folder=tmp_path, steps=16, batch=8, evaluate_every=16, wandb="disabled")
        classify.train(dataclasses.replace(taught, device="cpu", train="head", name="taught", bf16=False))
        assert (tmp_path / "shapes" / "taught" / "finished.json").exists()
    unable = {"autoencoder": {"log_prob", "complete"}, "vae": set()}
    for command in predict.COMMANDS:
        asked = predict.Config(command, whole, count=4, steps=3, out=tmp_path / f"{command}.png", device="cpu")
        if command in unable.get(model, {"reconstruct", "interpolate", "traverse"}):
            with pytest.raises(ValueError, match="has no likelihood|has no codes|cannot complete"):
                predict.main(asked)
            continue
        found = predict.main(asked)
        assert found.isfinite().all()
        if command == "log_prob":
            figures = json.loads(asked.out.with_suffix(".json").read_text())["trials"][0]
            assert figures["nats"] == pytest.approx(found.mean().item()) and figures["images"] == 4
        else:
            assert asked.out.exists()
    with pytest.raises(ValueError, match="this model has 0 classes"):
        predict.main(predict.Config("sample", whole, label=1, device="cpu"))


def test_a_vae_completes_by_its_chain():
    """What is known stays; the rest is drawn from a decoder that prefers ones, whatever the latents are."""
    torch.manual_seed(0)
    model = train.build(small("vae"), (1, 8, 8), 3)
    with torch.no_grad():
        model.decoder[-1].conv.weight.zero_(), model.decoder[-1].conv.bias.fill_(math.log(9.0))
        known = torch.zeros(8, 8, dtype=torch.bool)
        known[:4] = True
        found = model.complete(torch.zeros(3, 1, 8, 8), known, rounds=4)
    assert (found[:, :, :4] == 0).all()
    torch.testing.assert_close(found[:, :, 4:], torch.full((3, 1, 4, 8), 0.9))


def test_models_learn(few, tmp_path):
    """Nats, and an autoencoder's error, fall far below those of the mean image."""
    images = data.quantize(few.train.images, 2, "threshold")
    mean = images.mean(0).clamp(0.02, 0.98)
    independent = (
        F.binary_cross_entropy(mean.expand_as(images), images, reduction="none").sum((1, 2, 3)).mean().item()
    )
    large = dict(width=2.0, latents=8, hidden=64, features=24, layers=1, head_width=24)
    scores = {"vae": "nats", "autoencoder": "cross_entropy"} | dict.fromkeys(PIXELS, "nats")
    for model, name in scores.items():
        torch.manual_seed(0)
        made = train.build(small(**PIXELS.get(model, {"model": model}), **large), (1, 8, 8), 3)
        learners = made.optimizers(1e-2 if model in PIXELS else 3e-3)
        for _ in range(30 if model in PIXELS else 150):
            made.update(images, few.train.labels, learners)
        with torch.no_grad():
            found = made.measure([(images, few.train.labels)])[name]
        assert found < 0.7 * independent, model


def test_codes_on_lines_and_traversals():
    line = latent_line(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]), 3)
    assert line.tolist() == [[0, 2], [0.5, 1], [1, 0]]
    rows = traversal(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([2, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert rows.tolist() == [[[5, 6, 1], [5, 6, 2]], [[3, 6, 7], [4, 6, 7]]]


def test_grids():
    picture = plots.grid(torch.zeros(5, 1, 4, 4), 3)
    assert picture.shape[2] == 3 and picture.shape[0] >= plots.LEAST and (picture == 255).any()
    assert plots.paired(torch.zeros(5, 1, 4, 4), torch.ones(5, 1, 4, 4), 3).shape[2] == 3


def test_unknown_names_are_named(tmp_path):
    with pytest.raises(ValueError, match="unknown --model 'vea': did you mean 'vae'"):
        train.Config(model="vea").validate()
    with pytest.raises(ValueError, match="pixels of 8 bits have 2 to 256"):
        train.Config(levels=300).validate()
    with pytest.raises(ValueError, match="unknown posterior"):
        posteriors.Posterior("cauchy", 3, 2)
    with pytest.raises(runs.RunError, match="is not a run's folder"):
        generation.load(tmp_path)
