"""Optimizers: every name takes a step downhill; rates, decay and freezing reach the weights they should."""

import pytest
import torch

from vision.classification import classifier
from vision.training import optimizers, schedules
from vision.training.muon import orthogonalize

SHAPE = (3, 16, 16)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def network(name="small", **options):
    return classifier.build(name, SHAPE, 4, **({"norm": "batch", "stem": "cifar", "width": 0.5} | options))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_goes_downhill(name):
    model = network()
    if name in ("newton", "bfgs"):  # which keep a matrix of the square of all weights
        optimizers.set_trainable(model, "last")
    images, labels = torch.rand(16, *SHAPE), torch.randint(4, (16,))
    optimizer = optimizers.build(name, optimizers.groups(model))
    optimizers.set_learning_rate(optimizer, 1.0 if name in ("newton", "bfgs", "lbfgs") else 0.01)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizers.backward(optimizer, loss)
        return loss

    found = [optimizer.step(closure).item() for _ in range(8)]
    assert found[-1] < found[0] - 0.01, found


def test_steps_by_hand():
    """Twice along a gradient of 1 with rate 0.1: sgd 0.2; momentum 0.1 + 0.19; Nesterov 0.19 + 0.271."""
    for name, distance in {"sgd": 0.2, "momentum": 0.29, "nesterov": 0.461, "adam": 0.2}.items():
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = optimizers.build(name, [{"params": [weight], "weight_decay": 0.0}], 0.1, 0.9)
        for _ in range(2):
            weight.grad = torch.ones(1)
            optimizer.step()
        assert weight.item() == pytest.approx(-distance, abs=1e-6), name


def test_muon_orthogonalizes():
    """Singular vectors stay, singular values come near 1; of wide, tall and square matrices, several at a time."""
    for shape in ((3, 8, 20), (2, 20, 8), (1, 9, 9)):
        matrices = torch.randn(shape)
        found = orthogonalize(matrices)
        assert 0.6 < torch.linalg.svdvals(found).min() and torch.linalg.svdvals(found).max() < 1.3
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        inner = left.mT @ found @ right.mT
        torch.testing.assert_close(inner, torch.diag_embed(inner.diagonal(dim1=1, dim2=2)), atol=1e-4, rtol=0)


def test_muon_equals_that_of_torch():
    """A convolution's kernel as the matrix of its rows, where torch calculates in bfloat16; biases by AdamW."""
    kernel, bias = torch.randn(12, 4, 3, 3), torch.randn(12)
    matrix = torch.nn.Parameter(kernel.flatten(1).clone())
    ours, theirs = [torch.nn.Parameter(kernel.clone()), torch.nn.Parameter(bias.clone())], torch.nn.Parameter(bias)
    muon = optimizers.build("muon", [{"params": ours, "weight_decay": 0.1}], 0.02, 0.9)
    others = [
        torch.optim.Muon([matrix], 0.02, 0.1, 0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([theirs], 0.02, (0.9, 0.99), weight_decay=0.1),
    ]
    for _ in range(4):
        gradient = torch.randn_like(kernel)
        ours[0].grad, matrix.grad = gradient, gradient.flatten(1)
        ours[1].grad = theirs.grad = torch.randn(12)
        for optimizer in (muon, *others):
            optimizer.step()
    moved = (matrix - kernel.flatten(1)).norm()
    assert (ours[0].flatten(1) - matrix).norm() < 0.02 * moved
    torch.testing.assert_close(ours[1], theirs)


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="did you mean 'nesterov'"):
        optimizers.build("nestrov", [])
    with pytest.raises(ValueError, match="--l2"):
        optimizers.build("lbfgs", [{"params": [], "weight_decay": 0.1}])


def test_groups_by_hand():
    model = network()
    assert [(g["weight_decay"], g["scale"]) for g in optimizers.groups(model, 0.1)] == [(0.1, 1.0)]
    parted = optimizers.groups(model, 0.1, decay_biases=False)
    assert [group["weight_decay"] for group in parted] == [0.1, 0.0]
    assert all(weight.dim() <= 1 for weight in parted[1]["params"])
    quicker = optimizers.groups(model, 0.1, bias_scale=64.0)
    assert [(g["weight_decay"], g["scale"]) for g in quicker] == [(0.1, 1.0), (0.1 / 64, 64.0)]
    layers = optimizers.groups(model, layer_decay=0.5)  # the head, and two stages
    assert [group["scale"] for group in layers] == [1.0, 0.5, 0.25]
    first = {id(weight) for weight in model.backbone.stages[0].parameters()}
    assert {id(weight) for weight in layers[2]["params"]} == first
    optimizer = optimizers.build("sgd", layers)
    optimizers.set_learning_rate(optimizer, 0.8)
    assert [group["lr"] for group in optimizer.param_groups] == [0.8, 0.4, 0.2]


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "airbench", "squeezenet1_0"])
def test_stages_share_out_all_weights(name):
    shape = (3, 64, 64)
    with torch.device("meta"):
        model = classifier.build(name, shape, 4)
    parts = optimizers.stages(model.backbone)
    assert len(parts) == {"resnet18": 5, "vgg11_bn": 6 - 1}.get(name, len(model.backbone.channels))
    names = [weight for part in parts for weight in part]
    assert sorted(names) == sorted(dict(model.backbone.named_parameters()))
    if name == "resnet18":
        assert {weight.split(".")[0] for weight in parts[-1]} == {"layer4"}
        assert {weight.split(".")[0] for weight in parts[0]} == {"conv1", "bn1"}


@pytest.mark.parametrize("which", ["all", "last-2", "last-1", "head", "last"])
def test_what_is_frozen_stays(which):
    model = network("resnet20", norm="batch")
    optimizers.set_trainable(model, which)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = optimizers.build("momentum", optimizers.groups(model), 0.1)
    optimizers.train_mode(model)
    torch.nn.functional.cross_entropy(model(torch.rand(8, *SHAPE)), torch.arange(8) % 4).backward()
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    parts = optimizers.stages(model.backbone)
    count = {"all": 3, "last-2": 2, "last-1": 1, "head": 0, "last": 0}[which]
    for i, part in enumerate(parts):
        for name in part:
            assert (f"backbone.{name}" in moved) == (i >= len(parts) - count), name
            mean = name.replace("weight", "running_mean")  # of a norm: it moves where the stage learns
            if f"backbone.{mean}" in before and "running_mean" in mean:
                assert (f"backbone.{mean}" in moved) == (i >= len(parts) - count), mean
    assert "head.fc.weight" in moved


def test_last_is_the_layer_that_names_classes():
    with torch.device("meta"):
        model = classifier.build("vgg11", (3, 64, 64), 4)
    optimizers.set_trainable(model, "last")
    assert [key for key, weight in model.named_parameters() if weight.requires_grad] == [
        "head.classifier.6.weight",
        "head.classifier.6.bias",
    ]


def test_what_cannot_be_thawed():
    with pytest.raises(ValueError, match="choose all, last-N"):
        optimizers.set_trainable(network(), "first")
    with pytest.raises(ValueError, match="this backbone has 2"):
        optimizers.set_trainable(network(), "last-3")
    model = network()
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no weight learns"):
        optimizers.groups(model)


def test_max_norm_constraint_by_hand():
    """Rows of 3, 4 (length 5) and 0.3, 0.4 (0.5): the first is scaled to 2, a bias and a short row stay."""
    model = torch.nn.Linear(2, 2)
    model.weight.data, model.bias.data = torch.tensor([[3.0, 4.0], [0.3, 0.4]]), torch.tensor([9.0, -9.0])
    optimizers.constrain_norms(model, 2.0)
    assert torch.allclose(model.weight, torch.tensor([[1.2, 1.6], [0.3, 0.4]]))
    assert model.bias.tolist() == [9, -9]
    conv = torch.nn.Conv2d(3, 4, 3)
    conv.weight.data.fill_(1.0)
    optimizers.constrain_norms(conv, 1.0)
    assert torch.allclose(conv.weight.flatten(1).norm(dim=1), torch.ones(4))


def test_halving_by_hand():
    """Ten passes, halved every four of them: 1, then 1/2 from the 4th on, and 1/4 from the 8th."""
    factors = [schedules.at("halve", epoch / 10, halvings=10 / 4) for epoch in range(10)]
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
