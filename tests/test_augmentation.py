"""Augmentation: by hand, on bytes and floats, the same by the same generator, and quick."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from vision.data import augmented, image_ops
from vision.data import shapes as drawn_shapes
from vision.data.transforms import (
    ColorJitter,
    Cutout,
    Flip,
    Lighting,
    RandomCrop,
    Rotate,
    ScaledCrop,
    Transform,
    Translate,
)
from vision.data.warps import Noise, RandomMix, Shear
from vision.training import augmentation


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return drawn_shapes.draw(64).images


@pytest.fixture
def ramp():
    """(1, 1, 4, 4): 0, 1, ..., 15."""
    return torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)


# Where things are


def test_flip_by_hand(ramp):
    mirrored = [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8], [15, 14, 13, 12]]
    assert Flip(1.0)(ramp)[0, 0].tolist() == mirrored
    assert torch.equal(Flip(0.0)(ramp), ramp)
    many = Flip(0.25)(ramp.expand(2_000, 1, 4, 4), generator())
    assert (many[:, 0, 0, 0] == 3).float().mean().item() == pytest.approx(0.25, abs=0.03)  # 3 deviations


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_crop_is_a_window_of_the_padded_image(mode, images):
    floats = images.float()
    padded = F.pad(floats, (3,) * 4, mode="constant" if mode == "zero" else "reflect")
    found = RandomCrop(3, mode=mode)(images, generator())
    places = set()
    for before, after in zip(padded, found.float(), strict=True):
        match = [(y, x) for y in range(7) for x in range(7) if torch.equal(before[:, y : y + 32, x : x + 32], after)]
        assert len(match) == 1
        places.add(match[0])
    assert len(places) > 20  # of 49, in 64 images


def test_crop_of_a_strange_shape():
    tall = torch.arange(2 * 3 * 5, dtype=torch.float32).view(1, 1, 6, 5).repeat(50, 1, 1, 1)
    found = RandomCrop(2, mode="reflect")(tall, generator())
    assert found.shape == tall.shape and set(found.unique().tolist()) <= set(range(30))
    with pytest.raises(ValueError, match="5 pixels cannot be reflected 5 pixels"):
        RandomCrop(5, mode="reflect")(tall)
    with pytest.raises(ValueError, match="unknown padding 'mirror'"):
        RandomCrop(1, mode="mirror")(tall)


def test_translate_moves_and_leaves_black():
    white = torch.full((500, 1, 16, 8), 255, dtype=torch.uint8)
    found = Translate(0.25)(white, generator())
    kept = (found > 0).flatten(2).sum(2).squeeze(1)
    rows, columns = ((found > 0).any(3).sum(2).squeeze(1), (found > 0).any(2).sum(2).squeeze(1))
    assert torch.equal(kept, rows * columns)  # a rectangle stays
    assert rows.min() == 12 and columns.min() == 6 and rows.max() == 16  # by 4 rows and 2 columns at most


def test_scaled_crop_of_everything_changes_nothing(images):
    assert torch.equal(ScaledCrop(least=1.0, aspect=1.0)(images), images)
    halved = ScaledCrop((16, 16), least=1.0, aspect=1.0)(images.float() / 255)
    assert halved.shape == (64, 3, 16, 16)
    thin = images[:1, :1].float()
    weights = torch.tensor([0.125, 0.375, 0.375, 0.125])  # a triangle two pixels to each side, at halves of pixels
    by_hand = (thin[0, 0, 3:7, 5:9] * weights[:, None] * weights).sum()
    assert halved[0, 0, 2, 3].item() * 255 == pytest.approx(by_hand.item(), abs=1e-3)


def test_scaled_crop_areas_and_aspects():
    """On a picture whose pixels say where they are, the corners of the result say what was cut out."""
    line = torch.arange(64.0) / 64
    where = torch.stack([line[:, None].expand(64, 64), line.expand(64, 64)]).expand(2_000, 2, 64, 64)
    found = ScaledCrop(least=0.25, aspect=4 / 3)(where, generator())
    high = (found[:, 0, -2, 0] - found[:, 0, 1, 0]) * 64 / 61
    wide = (found[:, 1, 0, -2] - found[:, 1, 0, 1]) * 64 / 61
    area, ratio = high * wide, wide / high
    assert area.min() > 0.24 and area.max() < 1.01 and area.mean().item() == pytest.approx(0.62, abs=0.02)
    assert ratio.min() > 0.74 and ratio.max() < 1.35 and ratio.log().mean().abs() < 0.02


def test_rotate_by_a_quarter(images):
    assert torch.equal(Rotate(0.0)(images, generator()), images)
    quarter = torch.full((64,), math.pi / 2)
    assert torch.equal(image_ops.rotate(images, quarter), images.rot90(1, (2, 3)))
    wide = F.pad(images, (8, 8))
    turned = wide.rot90(1, (2, 3))[:, :, 8:-8]  # of a wide image only the middle stays inside
    assert torch.equal(image_ops.rotate(wide, quarter)[:, :, :, 8:-8], turned)


# Colors


def test_jitter_by_hand():
    pixel = torch.tensor([[0.2, 0.4, 0.6], [0.4, 0.4, 0.4]]).T.reshape(1, 3, 1, 2)
    bright, strong, vivid = torch.tensor([1.25, 1.25, 0.75]).view(3, 1, 1, 1)
    found = image_ops.jitter(pixel, bright, strong, vivid, torch.zeros(1))
    bright = pixel * 1.25
    gray = 0.299 * bright[0, 0] + 0.587 * bright[0, 1] + 0.114 * bright[0, 2]
    strong = gray.mean() + 1.25 * (bright - gray.mean())
    gray = 0.299 * strong[:, :1] + 0.587 * strong[:, 1:2] + 0.114 * strong[:, 2:]
    assert torch.allclose(found, gray + 0.75 * (strong - gray), atol=1e-5)


def test_hue_keeps_luma_and_comes_round():
    turn = image_ops.hue_rotation(torch.tensor([0.0, math.pi / 2, 2 * math.pi]))
    assert torch.allclose(turn[0], torch.eye(3), atol=1e-5) and torch.allclose(turn[2], torch.eye(3), atol=1e-5)
    luma = torch.tensor(image_ops.GRAY)
    assert torch.allclose(luma @ turn[1], luma, atol=1e-5)
    assert torch.allclose(turn[1] @ torch.ones(3), torch.ones(3), atol=1e-5)


def test_colors_of_gray_images_and_of_none(images):
    gray = images[:, :1]
    found = ColorJitter(0.4, 0.0, 0.4, 0.4)(gray, generator())
    factor = (found.float().sum((1, 2, 3)) / gray.float().sum((1, 2, 3)))[:, None, None, None]
    assert (found - gray.float() * factor).abs()[factor.expand_as(gray) < 0.95].max() < 2
    with pytest.raises(ValueError, match="with 3 channels, or gray ones with 1, not with 2"):
        ColorJitter()(images[:, :2])


def test_lighting_moves_along_the_axes(images):
    axes = image_ops.principal_axes(images)
    pixels = images.double().div(255).transpose(0, 1).flatten(1)
    assert torch.allclose((axes @ axes.T).double(), torch.cov(pixels, correction=0), atol=1e-5)
    flat = torch.full((4_000, 3, 1, 1), 0.5)
    moved = Lighting(axes, 0.1)(flat, generator()).flatten(1) - 0.5
    assert torch.allclose(torch.cov(moved.T), 0.01 * torch.cov(pixels).float(), atol=5e-5)


# What is left out, what is put together


def test_cutout_by_hand():
    white = torch.full((3_000, 2, 8, 8), 255, dtype=torch.uint8)
    found = Cutout(4, torch.tensor([0.0, 0.2]))(white, generator())
    assert found[:, 0].unique().tolist() == [0, 255] and found[:, 1].unique().tolist() == [51, 255]
    holes = (found[:, 0] == 0).flatten(1).sum(1)
    sides = torch.tensor([2, 3, 4, 4, 4, 4, 4, 3.0])  # of the square, its middle in rows 0..7
    assert holes.max() == 16 and holes.min() == 4
    assert holes.float().mean().item() == pytest.approx(sides.mean().item() ** 2, abs=0.2)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_mixup(kind, images):
    labels = torch.arange(64)
    given = images if kind == "bytes" else images.float() / 255 - 0.5
    mixed, first, second, weight = augmentation.mixup(given, labels, 0.4, generator())
    assert torch.equal(first, labels) and sorted(second.tolist()) == labels.tolist()
    share = weight[:, None, None, None]
    expected = share * given[first] + (1 - share) * given[second]
    assert mixed.dtype == given.dtype
    assert (mixed - expected).abs().max() <= (0.501 if kind == "bytes" else 1e-6)
    many = augmentation.mixup(torch.zeros(20_000, 1, 1, 1), torch.zeros(20_000), 0.4, generator())[3]
    assert many.mean().item() == pytest.approx(0.5, abs=0.01)
    assert many.var().item() == pytest.approx(0.4**2 / (0.8**2 * 1.8), abs=0.005)  # of Beta(0.4, 0.4)


# At test time


def test_views_by_hand():
    image = torch.arange(36).view(1, 1, 6, 6)
    found = augmentation.views(image, 10, 4)
    assert found.shape == (10, 1, 1, 4, 4)
    assert found[:5, 0, 0, 0, 0].tolist() == [7, 0, 2, 12, 14]  # the middle, then the corners
    assert torch.equal(found[5:], found[:5].flip(4))
    assert torch.equal(augmentation.views(image, 1)[0], image)
    assert torch.equal(augmentation.views(image, 2)[1], image.flip(3))
    padded = augmentation.views(torch.rand(2, 3, 32, 32), 5)
    assert padded.shape == (5, 2, 3, 32, 32) and not torch.equal(padded[1], padded[2])
    with pytest.raises(ValueError, match="3 views: there are 1, 2, 5, 10 or 50"):
        augmentation.views(image, 3)
    with pytest.raises(ValueError, match="side 7 do not fit into images of 6 x 6"):
        augmentation.views(image, 5, 7)


def test_fifty_views_are_ten_of_five_scales():
    """He et al. 2015: short sides of 224, 256, 384, 480 and 640 for views of 224."""
    images = torch.rand(2, 3, 28, 42)
    found = augmentation.views(images, 50)
    assert found.shape == (50, 2, 3, 28, 28)
    assert torch.equal(found[0], images[:, :, :, 7:35]) and torch.equal(found[1], images[:, :, :, :28])
    assert torch.equal(found[5:10], found[:5].flip(4))
    largest = F.interpolate(images, (80, 120), mode="bilinear", antialias=True)  # 28 * 640 / 224
    assert torch.equal(found[40:50], augmentation.views(largest, 10, 28))


# A set's own scale


def test_normal_is_measured_and_makes_mean_0_and_deviation_1(images):
    normal = augmentation.Normalization.of(images)
    found = normal(images)
    assert found.mean((0, 2, 3)).abs().max() < 1e-4
    assert found.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert torch.allclose(normal(images.float() / 255), found, atol=1e-5)
    by_hand = augmentation.Normalization((0.5,), (0.25,))(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert by_hand.flatten().tolist() == [-2, 2]
    assert set(normal.state_dict()) == {"mean", "std"}
    gray = torch.full((2, 1, 4, 4), 7, dtype=torch.uint8)
    assert augmentation.Normalization.of(gray)(gray).abs().max() < 1e-6
    with pytest.raises(ValueError, match="a standard deviation is above 0, not 0"):
        augmentation.Normalization((0.5, 0.5), (0.1, 0.0))


# By name


@pytest.mark.parametrize("name", augmentation.OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation(name, channels, images):
    """Same shape and type, the same by the same generator, bytes as floats, never out of range."""
    given = images[:, :channels]
    change = augmentation.Augmentation(name, given)
    for batch in (given, given.float() / 255):
        found = change(batch, generator())
        assert found.shape == batch.shape and found.dtype == batch.dtype
        assert torch.equal(found, change(batch, generator())) and not torch.equal(found, change(batch, generator(1)))
        assert not torch.equal(found, batch)
        if batch.is_floating_point():
            assert found.min() >= -1e-6 and found.max() <= 1 + 1e-5
            assert (change(batch, generator()) * 255 - change(given, generator()).float()).abs().max() <= 1.01
    torch.manual_seed(3)
    assert torch.equal(change(given), change(given, generator(3)))  # without a generator it is torch's own


def test_names_are_read(images):
    assert augmentation.Augmentation("none", images)(images) is images
    both = augmentation.Augmentation("flip, cutout=4", images)
    assert torch.equal(
        both(images, generator()),
        Cutout(4, images.float().mean((0, 2, 3)) / 255)(Flip()(images, lot := generator()), lot),
    )
    for names, said in {
        "flip,crpo": "unknown augmentation 'crpo': did you mean 'crop'",
        "flip,": "unknown augmentation ''",
        "zoom": "there are flip, vertical_flip",
        "crop=2.5": "crop takes a whole number",
        "rotate=far": "rotate takes a number",
        "crop=-1": "takes no negative number",
        "0of(flip)": "one round or more",
        "2of(flip crpo)": "unknown augmentation 'crpo'",
        "nowhere_at_all:Blur": "no transform 'nowhere_at_all:Blur'",
        "vision.data.transforms:Nothing": "no transform",
        "math:sqrt=4": "math:sqrt is no vision.data.transforms.Transform",
    }.items():
        with pytest.raises(ValueError, match=said):
            augmentation.Augmentation(names, images)


def test_a_mix_and_a_transform_of_ones_own(images):
    own = augmentation.Augmentation("vision.data.warps:Shear=10", images)
    assert torch.equal(own(images, generator()), Shear(10)(images, generator()))
    mix = augmentation.Augmentation("flip,2of(rotate shear=5 lens noise=0.1)", images)
    assert [type(step).__name__ for step in mix.steps[1].steps] == ["Rotate", "Shear", "LensDistortion", "Noise"]
    assert mix(images, generator()).shape == images.shape


def test_a_mix_uses_each_transform_on_its_share(images):
    """One round of three: each image is brightened, darkened or left, a third of them each, in their own places."""

    class Add(Transform):
        def __init__(self, number):
            self.number = number

        def apply(self, batch, generator):
            return dataclasses.replace(batch, images=batch.images + self.number)

    zeros = torch.arange(60.0).view(60, 1, 1, 1).expand(60, 1, 2, 2)
    found = RandomMix([Add(0), Add(100), Add(1_000)], 1)(zeros, generator())
    added = (found - zeros)[:, 0, 0, 0]
    assert [int((added == number).sum()) for number in (0, 100, 1_000)] == [20, 20, 20]
    twice = (RandomMix([Add(0), Add(100), Add(1_000)], 2)(zeros, generator()) - zeros)[:, 0, 0, 0]
    assert set(twice.tolist()) <= {0, 100, 200, 1_000, 1_100, 2_000}


def test_noise_is_as_strong_as_it_says():
    gray = torch.full((100, 1, 20, 20), 0.5)
    assert (Noise(0.1)(gray, generator()) - gray).std().item() == pytest.approx(0.1, rel=0.02)
    assert (Noise(0.1)((gray * 255).byte(), generator()).float() / 255).std().item() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("augment", ["rotate", pytest.param("", marks=pytest.mark.slow)])
def test_a_film_goes_through_the_transforms(tmp_path, capsys, augment):
    import imageio.v3 as imageio

    assert augmented.names(augmented.Config())[:-1] == list(augmentation.OPERATIONS)  # and a mix of them
    imageio.imwrite(tmp_path / "image.png", drawn_shapes.draw(1, seed=0).images[0].permute(1, 2, 0).numpy())
    config = augmented.Config(file=tmp_path / "image.png", size=32, augment=augment, seconds=0.5, fps=4, changes=2)
    augmented.main(dataclasses.replace(config, out=tmp_path / "sheet.png"))
    count = len(augmented.names(config))
    assert f"{count} transforms" in capsys.readouterr().out
    assert len(imageio.imread(tmp_path / "sheet.mp4")) == 2 * count
    assert (tmp_path / "sheet.png").stat().st_size > 5_000
