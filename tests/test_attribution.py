"""Attribution: numbers by hand, equality with Captum, hooks and memory, localization and the sanity check."""

import gc

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

from vision import backbones
from vision.classification.classifier import Classifier
from vision.data import shapes
from vision.interpretation import attribution, class_activation, gradients, localization, occlusion, sanity_check
from vision.interpretation.attribution import deconvnet, guided_backpropagation, saliency

METHODS = {
    "saliency": saliency,
    "gradient_times_input": attribution.gradient_times_input,
    "guided_backpropagation": guided_backpropagation,
    "deconvnet": deconvnet,
    "cam": class_activation.cam,
    "grad_cam": class_activation.grad_cam,
    "hires_cam": class_activation.hires_cam,
    "guided_grad_cam": class_activation.guided_grad_cam,
    "occlusion": lambda *arguments: occlusion.occlusion(*arguments, window=8, stride=8),
}


def classifier(name="resnet20", shape=(3, 24, 24), **options):
    torch.manual_seed(0)
    model = Classifier(backbones.build(name, shape, **options), 10)
    for module in model.modules():  # statistics as a trained network has them
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def model():
    return classifier(width=0.5, stem="cifar")


def pictures(count=3, shape=(3, 24, 24)):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


class Hand(nn.Module):
    """score = relu(x1 - 2 x2) - relu(3 x1 + x2)"""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        x1, x2 = x.flatten(1).unbind(1)
        first, second = self.relu(torch.stack([x1 - 2 * x2, 3 * x1 + x2], 1)).unbind(1)
        return torch.stack([first - second, second], 1)


def test_gradients_by_hand():
    """At (1, 0.25) both ReLUs are active, at (0.25, 1) the second only; class 0 sends it a negative gradient."""
    x = torch.tensor([[1.0, 0.25], [0.25, 1.0]]).view(2, 1, 1, 2)
    found = {name: METHODS[name](Hand(), x, 0).view(2, 2) for name in list(METHODS)[:4]}
    assert found["saliency"].tolist() == [[2, 3], [3, 1]]  # |1 - 3|, |-2 - 1|; |-3|, |-1|
    assert found["gradient_times_input"].tolist() == [[-2, -0.75], [-0.75, -1]]
    assert found["guided_backpropagation"].tolist() == [[1, -2], [0, 0]]  # of the first: active, gradient 1
    assert found["deconvnet"].tolist() == [[1, -2], [1, -2]]  # as if it were active


@pytest.mark.parametrize("name", list(METHODS))
def test_methods_are_of_the_chosen_class_and_of_each_image_alone(model, name):
    images, classes = pictures(), torch.tensor([3, 0, 7])
    together = METHODS[name](model, images, classes)
    assert len(together) == 3 and not together.requires_grad and together.isfinite().all()
    for row in range(3):
        alone = METHODS[name](model, images[row : row + 1], int(classes[row]))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4 * alone.abs().max().item())
    best = model.eval()(images).argmax(1)
    torch.testing.assert_close(METHODS[name](model, images), METHODS[name](model, images, best))
    assert not torch.allclose(METHODS[name](model, images, 1), METHODS[name](model, images, 2))


@pytest.mark.parametrize("name", list(METHODS))
def test_methods_leave_nothing_behind(name):
    """Frozen weights, training mode and inference mode make no difference; no hook, gradient or memory remains."""
    model, images = classifier("small", (3, 16, 16), width=0.25), pictures(2, (3, 16, 16))
    want = METHODS[name](model.eval(), images, 1)
    model.backbone.requires_grad_(False)
    model.train()
    with torch.inference_mode():
        torch.testing.assert_close(METHODS[name](model, images, 1), want)
        bytes_ = METHODS[name](model, (images * 255).byte(), 1)
    assert bytes_.shape == want.shape and model.training and model.backbone.training
    assert all(weight.grad is None for weight in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks and not module._backward_hooks and not module._forward_pre_hooks


def test_no_tensor_remains():
    model, images, counts = classifier("small", (3, 16, 16), width=0.25), pictures(1, (3, 16, 16)), []
    for calls in (1, 125):  # of 8 methods: 1,000 calls
        for _ in range(calls):
            for method in METHODS.values():
                method(model, images, 1)
        gc.collect()
        counts.append(sum(type(each) is torch.Tensor for each in gc.get_objects()))
    assert counts[0] == counts[1]


def test_hooks_are_removed_after_an_error(model):
    for wrong in (99, torch.tensor([1])):
        with pytest.raises(ValueError, match="class"):
            class_activation.guided_grad_cam(model, pictures(), wrong)
    with pytest.raises(ValueError, match="no map 9"):
        class_activation.grad_cam(model, pictures(), 1, layer=9)
    with pytest.raises(ValueError, match="no ReLU modules"):
        guided_backpropagation(classifier("small", (3, 16, 16), activation="elu"), pictures(2, (3, 16, 16)))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name, options", [("resnet20", {"stem": "cifar", "width": 0.5}), ("vgg11", {"width": 0.1})])
def test_attributions_equal_captums(name, options):
    captum = pytest.importorskip("captum.attr")
    model = classifier(name, (3, 32, 32), **options).eval()
    images, classes = pictures(2, (3, 32, 32)), torch.tensor([4, 8])
    layer = [module for module in model.backbone.modules() if isinstance(module, nn.Conv2d)][-1]
    x = images.clone().requires_grad_()
    pairs = {
        "saliency": (saliency(model, images, classes), captum.Saliency(model).attribute(x, classes)),
        "gradient x input": (
            attribution.gradient_times_input(model, images, classes),
            captum.InputXGradient(model).attribute(x, classes),
        ),
        "guided": (
            guided_backpropagation(model, images, classes),
            captum.GuidedBackprop(model).attribute(x, classes),
        ),
        "deconvnet": (deconvnet(model, images, classes), captum.Deconvolution(model).attribute(x, classes)),
        "Grad-CAM": (
            class_activation.grad_cam_map(model, images, classes, layer)[:, None],
            captum.LayerGradCam(model, layer).attribute(x, classes),
        ),
        "guided Grad-CAM": (
            class_activation.guided_grad_cam(model, images, classes, layer, "nearest"),
            captum.GuidedGradCam(model, layer).attribute(x, classes),
        ),
        "occlusion": (
            occlusion.occlusion(model, images, classes, (10, 8), (6, 8), 0.3)[:, None].expand(-1, 3, -1, -1),
            captum.Occlusion(model).attribute(
                images, (3, 10, 8), (3, 6, 8), baselines=0.3, target=classes, perturbations_per_eval=16
            ),
        ),
    }
    for method, (ours, theirs) in pairs.items():
        assert theirs.abs().max() > 0, method
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5, msg=lambda said, m=method: m + said)


def test_cam_is_grad_cam_of_a_pooled_head(model):
    """Their ratio is the number of places, and CAM's mean is the logit without its bias (Zhou et al., equation 2)."""
    images, classes = pictures(), torch.tensor([1, 2, 3])
    cam = class_activation.cam(model, images, classes)
    torch.testing.assert_close(cam, class_activation.grad_cam_map(model, images, classes) * cam[0].numel())
    logits = model.eval()(images)[range(3), classes] - model.head.fc.bias[classes]
    torch.testing.assert_close(cam.mean((1, 2)), logits)
    with pytest.raises(ValueError, match="Grad-CAM"):
        class_activation.cam(classifier("lenet5", (3, 32, 32)), pictures(2, (3, 32, 32)))


class TwoPlaces(nn.Module):
    """A map of the image itself, (B, 1, 1, 2), and a linear layer with a weight a place: score = 3 x1 - 2 x2."""

    def __init__(self):
        super().__init__()
        self.map = nn.Identity()

    def forward(self, images):
        return (self.map(images) * torch.tensor([3.0, -2.0])).sum((2, 3))


def test_hires_cam_by_hand():
    """Each place has its own weight; Grad-CAM gives both the mean of the two, 0.5, and points at x2."""
    model, images = TwoPlaces(), torch.tensor([[[[1.0, 4.0]]]])
    assert class_activation.hires_cam_map(model, images, 0, model.map).tolist() == [[[3.0, -8.0]]]
    assert class_activation.hires_cam(model, images, 0, model.map).tolist() == [[[3.0, 0.0]]]
    assert class_activation.grad_cam_map(model, images, 0, model.map).tolist() == [[[0.5, 2.0]]]
    with pytest.raises(ValueError, match="has no places"):
        hand = Hand()
        class_activation.hires_cam_map(hand, torch.ones(1, 1, 1, 2), 0, hand.relu)


def test_hires_cam_is_grad_cam_of_a_pooled_head(model):
    images, classes = pictures(), torch.tensor([1, 2, 3])
    maps = (method(model, images, classes) for method in (class_activation.hires_cam, class_activation.grad_cam))
    torch.testing.assert_close(*maps)
    earlier = (
        method(model, images, classes, 0) for method in (class_activation.hires_cam, class_activation.grad_cam)
    )
    assert not torch.allclose(*earlier)


def test_maps_are_enlarged_around_receptive_fields():
    """Of one pixel that differs: the place with the largest change is enlarged around it, not near it."""
    model = classifier("nature", (3, 84, 84), norm="batch").eval()
    assert class_activation.fields_of(model.backbone)[-1] == (36, 8, 0)  # middles at 17.5, 25.5, ..., 65.5
    places = torch.zeros(1, 7, 7)
    places[0, 0, 6] = 1.0
    found = class_activation.enlarge(places, (84, 84), model)[0]
    assert found.argmax() in (17 * 84 + 65, 17 * 84 + 66, 18 * 84 + 65, 18 * 84 + 66)
    assert found.max() == (1 - 0.5 / 8) ** 2 and not found[:10].any() and not found[:, :58].any()
    stretched = class_activation.resize(places, (84, 84))[0]
    assert stretched.argmax() < 6 * 84  # 12 pixels higher
    whole = torch.ones(1, 7, 7)
    assert torch.allclose(class_activation.enlarge(whole, (84, 84), model)[0, 18:66, 18:66], torch.ones(48, 48))
    module = model.backbone.stages[0]
    assert torch.equal(class_activation.enlarge(places, (84, 84), model, module)[0], stretched)


def test_occlusion_by_hand():
    """The score is the sum of pixels: a window of zeros takes away its own, the cut last one its single column."""
    image = torch.arange(9.0).view(1, 1, 3, 3)
    found = occlusion.occlusion(lambda x: x.flatten(1).sum(1, keepdim=True), image, 0, 2, 1)
    corners = torch.tensor([[8.0, 12.0], [20.0, 24.0]])  # sums of the four windows
    assert found[0, 0, 0] == 8 and found[0, 2, 2] == 24 and found[0, 1, 1] == corners.mean()
    cut = occlusion.occlusion(lambda x: x.flatten(1).sum(1, keepdim=True), image, 0, 2, 2)
    assert cut[0].tolist() == [[8, 8, 7], [8, 8, 7], [13, 13, 8]]
    with pytest.raises(ValueError, match="stride <= window"):
        occlusion.occlusion(Hand(), image, 0, 2, 3)


def test_blur_is_scipys():
    image = pictures(1, (1, 21, 33))
    for deviation in (1.0, 3.0, 7.0):
        theirs = ndimage.gaussian_filter(image[0, 0].double().numpy(), deviation)
        np.testing.assert_allclose(occlusion.gaussian_blur(image, deviation)[0, 0], theirs, atol=1e-6)


BETWEEN = torch.tensor([[0.24, 0.36], [0.16, 0.24]])  # weights of the places around pixel (2, 3), 5 apart


def test_perturbation_saliency_by_its_equations():
    """As the authors' code does it, one place at a time, with SciPy's filter."""
    model, images = classifier("nature", (2, 40, 40), width=0.25).eval(), pictures(2, (2, 40, 40))
    together = occlusion.perturbation_saliency(model, images, batch=20)
    chosen = occlusion.perturbation_saliency(model, images, 6)
    assert together.shape == chosen.shape == (2, 40, 40)
    blurred = torch.from_numpy(ndimage.gaussian_filter(images.numpy(), 3, axes=(2, 3)))
    rows, columns = np.ogrid[:40, :40]
    score = torch.zeros(2, 2, 8, 8)
    for i in range(8):
        for j in range(8):
            disc = ((rows - 5 * i) ** 2 + (columns - 5 * j) ** 2 <= 1).astype(float)
            mask = ndimage.gaussian_filter(disc, 5)
            mask = torch.from_numpy(mask / mask.max()).float()
            with torch.no_grad():
                change = model(images) - model(images * (1 - mask) + blurred * mask)
            score[0, :, i, j], score[1, :, i, j] = change.square().sum(1) / 2, change[:, 6].square() / 2
    for ours, theirs in ((together, score[0]), (chosen, score[1])):
        torch.testing.assert_close(ours[:, ::5, ::5], theirs, rtol=1e-3, atol=1e-9)
        torch.testing.assert_close(ours[:, 2, 3], theirs[:, :2, :2].mul(BETWEEN).sum((1, 2)), rtol=1e-3, atol=1e-9)
        assert torch.equal(ours[:, -1], ours[:, 35])  # after the last place


@pytest.mark.parametrize("where", [20, 40, 60])
def test_perturbation_saliency_is_largest_at_the_pixel_that_is_read(where):
    found = occlusion.perturbation_saliency(lambda x: x[:, 0, where, where, None], pictures(1, (1, 84, 84)))
    assert divmod(found[0].argmax().item(), 84) == (where, where)


def test_localization_by_hand():
    maps = torch.tensor([[[4.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [0.0, 2.0]], [[5.0, 5.0], [0.0, 0.0]]])
    masks = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]]).bool()
    assert localization.pointing_game(maps, masks).tolist() == [True, False, True]  # of equal maxima one is enough
    assert localization.relevance_mass_accuracy(maps, masks).tolist() == pytest.approx([0.6, 0.0, 0.5])
    assert localization.relevance_rank_accuracy(maps, masks).tolist() == [0.5, 0.0, 1.0]
    found = localization.box_masks(torch.tensor([[1.0, 0.0, 3.0, 2.0]]), (3, 4))
    assert found.int().tolist() == [[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]]
    assert localization.widened(found, 1)[0].int().tolist() == [[1] * 4] * 3
    assert localization.widened(found, 0).equal(found)
    with pytest.raises(ValueError, match="bool"):
        localization.pointing_game(maps, masks.float())


def test_masks_of_shapes_are_of_their_images():
    (images, labels), masks = shapes.draw_with_masks(40, 32, seed=3)
    assert torch.equal(images, shapes.draw(40, 32, seed=3).images) and masks.shape == (40, 32, 32)
    share = masks.float().mean((1, 2))
    assert (share > 0.02).all() and (share < 0.7).all()
    inside, outside = (
        torch.stack([image[:, mask].float().std(1).mean() for image, mask in zip(images, each, strict=True)])
        for each in (masks, ~masks)
    )
    assert (inside < outside + 20).float().mean() > 0.8  # a shape has one color, but for noise and smooth edges


def test_rank_correlation_is_scipys():
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(0, 9, (3, 50), generator=generator).float()
    other = one + torch.randint(0, 5, (3, 50), generator=generator)
    theirs = [stats.spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert sanity_check.rank_correlation(one, other).tolist() == pytest.approx(theirs)


def test_randomization_goes_from_the_output_to_the_input(model):
    before = {key: value.clone() for key, value in model.eval().state_dict().items()}
    names = []
    for name, changed in sanity_check.randomized(model):
        names.append(name)
        if name == "head.fc":
            assert not torch.equal(changed.head.fc.weight, model.head.fc.weight)
            assert torch.equal(changed.head.fc.weight.flatten().sort()[0], model.head.fc.weight.flatten().sort()[0])
            assert torch.equal(changed.backbone(pictures())[-1], model.backbone(pictures())[-1])
    assert names[0] == "head.fc" and names[-1].startswith("backbone.stages.0")
    assert next(sanity_check.randomized(model, without=["head.fc"]))[0] == names[1]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_randomization_test(model):
    images, classes = pictures(6), torch.arange(6)
    found = sanity_check.randomization_test(model, saliency, images, classes)
    assert abs(found["all layers"].mean) < 0.6 < 0.999 > found["output layer"].mean
    assert all(each.low < each.mean < each.high for each in found.values())
    assert sanity_check.randomization_test(model, saliency, images, classes) == found
    of_images = sanity_check.randomization_test(model, lambda _, images, __: images, images, classes)
    assert not sanity_check.passes(of_images) and of_images["all layers"].mean == pytest.approx(1)
    nothing = sanity_check.randomization_test(model, lambda _, images, __: 0 * images, images, classes)
    assert not sanity_check.passes(nothing) and np.isnan(nothing["output layer"].mean)  # a map of zeros shows nothing


def test_empty_maps_of_random_weights_are_counted(model):
    """A method that gives nothing for other weights is not found to depend on them."""
    images, classes = pictures(6), torch.arange(6)

    def attribute(network, images, _):
        return images * (network is model)

    found = sanity_check.randomization_test(model, attribute, images, classes)
    assert [(each.mean, each.empty, each.passes) for each in found.values()] == [(0, 1, False)] * 2
    found = sanity_check.randomization_test(model, saliency, images, classes)
    assert [each.empty for each in found.values()] == [0, 0]


def test_verdicts_by_hand():
    """Means over draws 0.3 and 0.5, over images too: variances of 0.02 / 2 each; 2 degrees of freedom, t = 4.303."""
    found = sanity_check.verdict(torch.tensor([[0.2, 0.4], [0.4, 0.6]]))
    half = 4.302653 * 0.02**0.5
    assert found[:3] == pytest.approx((0.4, 0.4 - half, 0.4 + half)) and not found.passes
    draws = torch.tensor([[0.1], [0.2], [0.3]]).repeat(1, 100)  # images do not differ: Student's t of three draws
    low, high = stats.t.interval(0.95, 2, 0.2, stats.sem([0.1, 0.2, 0.3]))
    found = sanity_check.verdict(draws)
    assert found[:3] == pytest.approx((0.2, low, high)) and found.passes
    assert not sanity_check.verdict(draws, limit=0.4).passes
    images = torch.linspace(0, 1, 100).repeat(3, 1)  # draws do not differ: of a hundred images
    assert sanity_check.verdict(images)[1:3] == pytest.approx(stats.t.interval(0.95, 99, 0.5, stats.sem(images[0])))
    assert sanity_check.verdict(torch.full((3, 9), 0.4)) == (pytest.approx(0.4),) * 3 + (True, 0.0)
    assert [sanity_check.verdict(draws, empty=share).passes for share in (0.4, 0.5)] == [True, False]
    with pytest.raises(ValueError, match="at least two"):
        sanity_check.verdict(torch.zeros(1, 5))


def test_models_are_functions_too():
    images = pictures(2)
    found = gradients.input_gradients(lambda x: x.flatten(2).sum(2).square(), images, 1)
    torch.testing.assert_close(found[:, 1], (2 * images[:, 1].sum((1, 2)))[:, None, None].expand(-1, 24, 24))
    assert not found[:, 0].any() and not images.requires_grad
