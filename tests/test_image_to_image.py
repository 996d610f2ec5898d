"""Images into images: norms, losses and quality by hand, tasks, learning, resume, pictures and films of a run."""

import dataclasses
import os
import shutil
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

import runs
from vision import backbones, image_to_image
from vision.image_to_image import data, network, perceptual, predict, quality, tasks, train
from vision.interpretation import features

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
TINY = dict(width=0.125, blocks=1, wandb="disabled", device="cpu", batch=2, bf16=False, samples=2, size=0, crop=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of pictures of two sizes, with ramps of color and a bright square."""
    made, generator = tmp_path_factory.mktemp("images") / "pictures", np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2), ("test", 2)):
        (made / part / "some").mkdir(parents=True)
        for number in range(count):
            tall, wide = (24, 32) if number % 2 else (28, 24)
            ramp = np.linspace(0, 200, wide)[None, :, None] * generator.uniform(0.2, 1, 3)
            image = np.broadcast_to(ramp, (tall, wide, 3)).astype(np.uint8).copy()
            image[5 : 9 + number, 5 : 9 + number] = 255
            Image.fromarray(image).save(made / part / "some" / f"{number}.png")
    (made / "train" / ".hidden.png").write_bytes(b"")
    torch.manual_seed(0)
    backbones.save(backbones.build("airbench", (3, 32, 32), width=0.125), made.parent / "features.safetensors")
    return made


def small(task, folder, /, **changes):
    """A config that learns pictures with little."""
    asked = train.Config(task=task, data=str(folder))
    changes |= {"style": (folder / "train" / "some" / "0.png",), "style_size": 16} if task == "style" else {}
    changes["features"] = str(folder.parent / "features.safetensors")
    return dataclasses.replace(train.recipe(asked), **TINY | changes)


def test_instance_normalization_by_hand():
    """Of 1, 3, 1, 3 the mean is 2 and the variance 1, of each channel of each image alone."""
    norm = network.InstanceNorm(2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 1.0]))
        norm.bias.copy_(torch.tensor([1.0, 0.0]))
    x = torch.tensor([1.0, 3, 1, 3]).view(1, 1, 2, 2) * torch.tensor([1.0, 10.0]).view(1, 2, 1, 1)
    expected = torch.tensor([[-1.0, 3, -1, 3], [-1.0, 1, -1, 1]])  # 2 (x - 2) + 1, and (x - 20) / 10
    for images in (x, x.to(memory_format=torch.channels_last), torch.cat([x, 7 * x])):
        torch.testing.assert_close(norm(images)[0].flatten(1), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm(x), torch.nn.functional.instance_norm(x, None, None, norm.weight, norm.bias))


def test_the_published_network_has_its_size():
    """1,679,235 weights with biases before norms, as torch's fast_neural_style has them; those have no use."""
    count = sum(
        each.numel() for each in network.TransformationNetwork(3, 3, (32, 64, 128), 5, "instance").parameters()
    )
    assert count == 1_679_235 - (32 + 64 + 128 + 10 * 128 + 64 + 32)


@pytest.mark.parametrize("norm", network.NORMS)
def test_networks_take_images_of_any_size(norm):
    torch.manual_seed(0)
    made = network.TransformationNetwork(3, 2, (4, 6, 8), 1, norm)
    assert made.smallest == 8 and made(torch.rand(2, 3, 9, 14)).shape == (2, 2, 9, 14)
    assert network.TransformationNetwork(1, 3, (4,), 1, norm, factor=4)(torch.rand(1, 1, 5, 8)).shape == (
        1,
        3,
        20,
        32,
    )
    with pytest.raises(ValueError, match="7 x 20 pixels are too few"):
        made(torch.rand(1, 3, 7, 20))
    with pytest.raises(ValueError, match="powers of 2"):
        network.TransformationNetwork(3, 3, (4,), 1, norm, factor=3)


def test_perceptual_losses_by_hand():
    """Channels 1, 2 and 3, 4: products 5, 11, 25, divided by C H W = 4."""
    maps = torch.tensor([[[[1.0, 2]], [[3.0, 4]]]])
    assert perceptual.gram(maps).tolist() == [[[1.25, 2.75], [2.75, 6.25]]]
    empty = torch.zeros(1, 2, 2)
    assert perceptual.style_loss(maps, empty).item() == 1.25**2 + 2 * 2.75**2 + 6.25**2
    assert perceptual.feature_loss(maps, torch.ones_like(maps)).item() == (0 + 1 + 4 + 9) / 4
    assert perceptual.roughness(torch.tensor([[[[0.0, 1], [1, 3]]]])).item() == (1 + 4 + 1 + 4) / 4


class Two(torch.nn.Module):
    """A backbone of two maps: the image itself, and the mean of its pixels."""

    channels, strides, shape, maps = [3, 3], [1, 1], (3, 8, 8), None

    def forward(self, x):
        return [x, x.mean((2, 3), keepdim=True)]


def test_losses_are_parts_of_photographs_own():
    style, photograph, made = (torch.full((1, 3, 4, 4), value) for value in (1.0, 0.5, 0.75))
    loss = perceptual.PerceptualLoss(Two(), (0,), (-1,), [style])
    loss.measure(photograph)
    # content: (0.25)^2 of 0.5^2. Gram matrices of the mean are x^2 / 3 everywhere: (1 - 0.75^2)^2 of (1 - 0.5^2)^2
    found = loss(made, photograph)
    assert found["content"].item() == pytest.approx(0.25)
    assert found["style"].item() == pytest.approx((1 - 0.5625) ** 2 / 0.75**2)
    assert loss(photograph, photograph)["style"].item() == pytest.approx(1)
    assert set(perceptual.PerceptualLoss(Two(), (0,))(made, photograph)) == {"content"}
    with pytest.raises(ValueError, match="there is no stage 2 of 2"):
        perceptual.PerceptualLoss(Two(), (2,))


def test_no_stage_is_calculated_in_vain():
    torch.manual_seed(0)
    whole = backbones.build("airbench", (3, 32, 32), width=0.125, stem="cifar").freeze()
    shorter, images = perceptual.upto(whole, 1), torch.rand(1, 3, 32, 32)
    assert len(shorter.stages) == 2 and len(whole.stages) == 3
    assert all(torch.equal(one, other) for one, other in zip(shorter(images), whole(images), strict=False))


def test_quality_by_hand():
    true = torch.full((1, 3, 12, 12), 0.5)
    assert quality.psnr(true + 0.1, true).item() == pytest.approx(20, abs=1e-4)
    assert quality.psnr(true, true).item() == 100
    assert quality.luma(torch.ones(1, 3, 1, 1)).item() == pytest.approx(235 / 255)
    assert quality.luma(torch.zeros(1, 3, 1, 1)).item() == pytest.approx(16 / 255)
    assert quality.shaved(true, 2).shape == (1, 3, 8, 8)
    # Without variance: (2 a b + c1) / (a^2 + b^2 + c1)
    assert quality.ssim(true / 2, true).item() == pytest.approx((0.25 + 1e-4) / (0.3125 + 1e-4), abs=1e-5)
    assert quality.ssim(true, true).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="windows of 11 pixels"):
        quality.ssim(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20))


def test_ssim_of_one_window_by_hand():
    """An image of 11 x 11 pixels has one window: its weighted means, variances and covariance are sums."""
    torch.manual_seed(0)
    made, true = torch.rand(2, 1, 1, 11, 11, dtype=torch.float64)
    line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    weights = line[:, None] * line / line.sum() ** 2
    a, b = (float((weights * each).sum()) for each in (made, true))
    aa, bb, ab = (float((weights * x * y).sum()) for x, y in ((made, made), (true, true), (made, true)))
    expected = (2 * a * b + 1e-4) * (2 * (ab - a * b) + 9e-4)
    expected /= (a * a + b * b + 1e-4) * (aa - a * a + bb - b * b + 9e-4)
    assert quality.ssim(made, true).item() == pytest.approx(expected, abs=1e-9)


def test_quality_equals_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    torch.manual_seed(0)
    made, true = torch.rand(2, 1, 1, 20, 30, dtype=torch.float64)
    flags = dict(gaussian_weights=True, use_sample_covariance=False, data_range=1.0, win_size=11)
    _, whole = metrics.structural_similarity(made[0, 0].numpy(), true[0, 0].numpy(), full=True, **flags)
    assert quality.ssim(made, true).item() == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-9)
    noise = metrics.peak_signal_noise_ratio(true[0, 0].numpy(), made[0, 0].numpy(), data_range=1.0)
    assert quality.psnr(made, true).item() == pytest.approx(noise, abs=1e-9)


def test_tasks_begin_as_what_needs_no_network(folder):
    torch.manual_seed(0)
    pictures = torch.rand(2, 3, 26, 21)
    for task in ("super_resolution", "colorization"):
        model = train.build(small(task, folder, factor=2)).eval()
        inputs = model.inputs(pictures)
        with torch.no_grad():
            torch.testing.assert_close(model(inputs), model.baseline(inputs), rtol=0, atol=2e-4)  # YIQ's inverse
        assert "psnr" in model.scores(model.baseline(inputs), model.crop(pictures))
    assert tuple(model.inputs(pictures).shape) == (2, 1, 26, 21)
    resolver = train.build(small("super_resolution", folder, factor=4))
    assert resolver.inputs(pictures).shape == (2, 3, 6, 5) and resolver.crop(pictures).shape == (2, 3, 24, 20)
    flat = torch.full((1, 3, 16, 16), 51 / 255)
    torch.testing.assert_close(resolver.baseline(resolver.inputs(flat)), flat)  # cubic weights sum to 1
    colors = tasks.Colorizer(network.TransformationNetwork(1, 2, (4, 4, 4), 1, "none"))
    torch.nn.init.normal_(colors.network.layers[-1][0].weight)
    luminance = colors.inputs(pictures)
    torch.testing.assert_close(colors.inputs(colors(luminance)), luminance, rtol=0, atol=1e-5)


def test_folders_of_pictures(folder, tmp_path):
    found = data.load(str(folder))
    assert [len(part) for part in found] == [6, 2, 2] and found.train[0].shape == (3, 28, 24)
    assert data.load(str(folder), 12).train[0].shape == (3, 14, 12)
    cut = data.load(str(folder / "train"))
    assert [len(part) for part in cut] == [4, 1, 1]
    assert data.squares(found.train, 4, 4).shape == (4, 3, 24, 24)
    assert [len(each) for each in data.stacked(found.train, 6, 2)] == [1] * 6  # of two sizes in turn
    assert [len(each) for each in data.stacked([found.train[0]] * 7, 5, 2)] == [2, 2, 1]
    with pytest.raises(ValueError, match="one size, and these have 2: choose a --crop"):
        batches = data.Batches(found.train, 0, 6, 1, torch.device("cpu"))
        batches.at(0)
    batches.close()
    with pytest.raises(ValueError, match="no image files for train"):
        data.load(str(tmp_path))
    with pytest.raises(ValueError, match="unknown data 'photographs'"):
        data.load("photographs")
    shutil.copytree(folder / "val", tmp_path / "parts" / "val")
    with pytest.raises(ValueError, match="parts has val/ but no train/"):
        data.load(str(tmp_path / "parts"))


def test_what_cannot_be_learned_is_refused(folder):
    for changes, words in (
        (dict(task="style", style=()), "needs a picture"),
        (dict(factor=3), "powers of 2"),
        (dict(pixel_weight=0.0), "nothing to learn"),
    ):
        with pytest.raises(ValueError, match=words):
            dataclasses.replace(small("super_resolution", folder), **changes).validate()
    with pytest.raises(ValueError, match="vgg11 has random weights"):
        features.frozen("vgg11")


@pytest.mark.parametrize("task", ["style", "super_resolution", "colorization"])
def test_a_run_learns_resumes_and_predicts(task, folder, tmp_path, stop_at):
    """Stopped halfway and gone on, a run is the same, bit for bit."""
    changes = dict(factor=2, content_weight=1.0, folder=tmp_path, save_every=0.0)
    config = small(task, folder, steps=16, evaluate_every=8, log_every=4, **changes)
    train.train(config)
    whole = tmp_path / "pictures" / f"{task}-1"
    lines = (whole / "metrics.jsonl").read_text()
    assert f'"{train.TASKS[task].score.metric}"' in lines and '"test/of_step"' in lines and '"loss/content"' in lines
    assert ('"loss/style"' in lines) == (task == "style") and ('"eval/baseline_psnr"' in lines) == (task != "style")
    assert len(list((whole / "samples").glob("*.png"))) == 2 and (whole / "videos" / "step-16.mp4").exists()

    stop_at(12, train.train, dataclasses.replace(config, name="again"))
    train.train(dataclasses.replace(config, name="again"))
    assert (tmp_path / "pictures" / "again" / "metrics.jsonl").read_text() == lines

    file = folder / "test" / "some" / "1.png"
    trained = image_to_image.load(whole, "cpu")
    (made,) = trained.predict([file])
    size = (3, 48, 64) if task == "super_resolution" else (3, 24, 32)
    assert made.shape == size and made.dtype == torch.uint8
    (again,) = predict.main(predict.Config(whole, (file,), tmp_path / "out", device="cpu", threads=1))
    assert np.array_equal(imageio.imread(again), made.permute(1, 2, 0).numpy())
    if task == "style":
        (kept,) = trained.predict([file], keep_color=True)
        assert not torch.equal(kept, made)
    elif task == "super_resolution":
        with pytest.raises(ValueError, match="leaves its size"):
            trained.predict([file], keep_color=True)
    with pytest.raises(runs.RunError):
        image_to_image.load(tmp_path)


def test_films_are_transformed_frame_by_frame(folder, tmp_path):
    config = small("style", folder, steps=2, evaluate_every=2, folder=tmp_path, samples=0)
    train.train(config)
    frames = np.zeros((5, 32, 48, 3), np.uint8)
    frames[:, 8:20, 8:20] = 200
    imageio.imwrite(tmp_path / "film.mp4", frames, fps=10, codec="libx264", macro_block_size=2)
    flags = dict(out=tmp_path / "out", device="cpu", threads=1)
    (made,) = predict.main(
        predict.Config(tmp_path / "pictures" / "style-1", (tmp_path / "film.mp4",), frames=3, **flags)
    )
    assert imageio.imread(made).shape == (3, 32, 48, 3)


def test_one_picture_is_overfit(folder):
    """The weighted loss of one picture falls to a third and less in 60 updates; nothing of the features changes."""
    torch.manual_seed(0)
    config = small("style", folder, width=0.25, blocks=2)
    model, loss = train.build(config), train.perceptual_loss(config, torch.device("cpu"))
    picture = data.squares(data.load(str(folder)).train, 1, 1)
    loss.measure(picture)
    before = {key: value.clone() for key, value in loss.backbone.state_dict().items()}
    optimizer, values = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(60):
        optimizer.zero_grad()
        found = train.losses(config, loss, model(model.inputs(picture)), picture)
        found["loss"].backward()
        optimizer.step()
        values.append(found["loss"].item())
    assert min(values[-5:]) < values[0] / 3
    assert all(torch.equal(before[key], value) for key, value in loss.backbone.state_dict().items())


@pytest.mark.slow
def test_super_resolution_of_photographs_is_better_than_bicubic(tmp_path):
    folder = next((root / "coco_val128" / "images" for root in ROOTS if (root / "coco_val128").is_dir()), None)
    if folder is None:
        pytest.skip("no coco_val128: name the folder above it in $SACCADE_DATA")
    asked = train.recipe(train.Config(data=str(folder)))
    flags = dict(size=128, crop=64, factor=2, width=0.5, steps=4_000, evaluate_every=4_000, folder=tmp_path)
    config = dataclasses.replace(asked, **flags, wandb="disabled", device="cpu", samples=0)
    train.train(config)
    trained = image_to_image.load(tmp_path / "images" / "super_resolution-1", "cpu")
    found = train.evaluate(config, trained.model, None, data.load(str(folder), 128).test, 12)
    assert found["psnr"] > found["baseline_psnr"] + 0.3 and found["ssim"] > found["baseline_ssim"]
