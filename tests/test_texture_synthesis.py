"""Textures by Efros & Leung, Wei & Levoy and Gram matrices: patterns with one continuation, and pieces by hand."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from vision import backbones
from vision.interpretation import neighborhoods, texture_synthesis, tree_quantizer


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stripes(side, period):
    """Horizontal stripes (1, side, side), half a period black and half white."""
    return (torch.arange(side) % period >= period // 2).float()[None, :, None].repeat(1, 1, side)


def colors(picture):
    return {tuple(pixel) for pixel in picture.flatten(1).T.tolist()}


def test_efros_leung_continues_a_checkerboard():
    """A checkerboard has one continuation, which a window of 5 finds."""
    sample = ((torch.arange(12)[:, None] + torch.arange(12)) % 2).float()[None].repeat(3, 1, 1)
    found = neighborhoods.efros_leung(sample, 16, 5, generator())
    first = found[0, 0, 0]
    checkers = ((torch.arange(16)[:, None] + torch.arange(16)) % 2).float()
    assert torch.equal(found[0], checkers if first == 0 else 1 - checkers)
    sample = noise(3, 10, 10)
    assert colors(neighborhoods.efros_leung(sample, 9, 3, generator())) <= colors(sample)
    with pytest.raises(ValueError, match="odd"):
        neighborhoods.efros_leung(sample, 9, 4, generator())


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
def test_wei_levoy_takes_pixels_of_the_sample(levels, tree):
    sample = noise(3, 16, 16)
    found = neighborhoods.wei_levoy(sample, 13, 5, levels, generator(), tree)
    assert found.shape == (3, 13, 13) and colors(found) <= colors(sample)
    assert torch.equal(found, neighborhoods.wei_levoy(sample, 13, 5, levels, generator(), tree))
    for window, levels_, match in ((4, 1, "odd"), (17, 1, "no whole neighborhood"), (3, 5, "no 5 levels")):
        with pytest.raises(ValueError, match=match):
            neighborhoods.wei_levoy(sample, 13, window, levels_, generator())


def test_wei_levoy_continues_stripes_downwards():
    """Rows of vertical stripes are equal, and so are those of the texture once they are below the noise."""
    found = neighborhoods.wei_levoy(stripes(16, 4).mT, 16, 5, 1, generator())[0]
    assert torch.equal(found[3:], found[2:3].expand(13, 16)) and not torch.equal(found[0], found[2])


def test_a_coarser_level_sees_what_a_window_does_not():
    """Stripes of 8 rows: a causal window of 7 sees three of the four rows of a color, the coarser level all."""

    def right(levels, seed):
        found = neighborhoods.wei_levoy(stripes(32, 8), 32, 7, levels, generator(seed))[0]
        return max((found == stripes(32, 8)[0].roll(shift, 0)).float().mean().item() for shift in range(8))

    single, two = (sum(right(levels, seed) for seed in range(5)) / 5 for levels in (1, 2))
    assert single < 0.8 and two > 0.9


def test_neighborhoods_by_hand():
    assert neighborhoods.causal_offsets(3).tolist() == [[-1, -1], [-1, 0], [-1, 1], [0, -1]]
    assert [neighborhoods.coarse_window(window) for window in (3, 5, 7, 9, 11)] == [1, 3, 3, 5, 5]
    level = torch.arange(16.0).view(1, 4, 4)
    found = neighborhoods.neighborhoods(level, None, 3)
    assert found.centers.tolist() == [5, 6, 9, 10, 13, 14]
    assert found.vectors[0].tolist() == [0, 1, 2, 4] and found.vectors[-1].tolist() == [9, 10, 11, 13]
    with_coarse = neighborhoods.neighborhoods(level, torch.tensor([[[20.0, 21], [22, 23]]]), 3)
    assert with_coarse.centers.tolist() == found.centers.tolist()
    assert with_coarse.vectors[:, 4].tolist() == [20, 21, 22, 23, 22, 23]  # what the pixel's quarter became


def test_a_gaussian_pyramid_by_hand():
    """A pixel of 1 leaves the middle weight 6 / 16 in both directions, and 1 / 16 two pixels away."""
    picture = torch.zeros(1, 8, 8)
    picture[0, 4, 4] = 1
    fine, coarse = neighborhoods.gaussian_pyramid(picture, 2, "circular")
    assert torch.equal(fine, picture) and coarse.shape == (1, 4, 4)
    assert coarse[0, 2].tolist() == pytest.approx([0, 6 / 256, 36 / 256, 6 / 256])
    flat = neighborhoods.gaussian_pyramid(torch.full((2, 9, 7), 0.3), 3, "reflect")
    assert [tuple(each.shape) for each in flat] == [(2, 9, 7), (2, 5, 4), (2, 3, 2)]
    torch.testing.assert_close(flat[2], torch.full((2, 3, 2), 0.3))


def test_two_means_and_the_plane_between_them():
    normal, threshold = tree_quantizer.hyperplane(torch.tensor([0.0, 0]), torch.tensor([4.0, 0]))
    assert normal.tolist() == [4, 0] and threshold == 8  # 4 x > 8: x > 2
    chosen = tree_quantizer.two_means(torch.tensor([[0.0, 0], [0, 1], [9, 0], [9, 1], [8, 0]]))
    assert chosen[0] == chosen[1] != chosen[2] == chosen[3] == chosen[4]
    assert tree_quantizer.two_means(torch.ones(5, 2)) is None


def test_a_tree_finds_near_vectors():
    vectors = torch.cat([noise(40, 6, seed=k) + 2 * k for k in range(5)])
    find, whole = tree_quantizer.search(vectors), neighborhoods.exhaustive(vectors)
    assert [find(each) for each in vectors] == list(range(200))
    wanted = noise(100, 6, seed=9) + 2 * (torch.arange(100) % 5)[:, None]
    same = [find(each) == whole(each) for each in wanted]
    assert sum(same) > 50 and all(find(each) // 40 == n % 5 for n, each in enumerate(wanted))  # the right cluster
    assert tree_quantizer.search(torch.ones(50, 3))(torch.zeros(3)) == 0


def test_a_texture_by_gram_matrices():
    torch.manual_seed(0)
    backbone = backbones.build("small", (3, 16, 16), width=0.5, frozen=True)
    sample = texture_synthesis.bricks(24, 0)[None]
    found, losses = texture_synthesis.from_gram(backbone, sample, 20, (0, 1), 60, 1)
    start, end = (torch.tensor(losses[when]) for when in ("start", "end"))
    assert found.shape == (1, 3, 20, 20) and (end / start).mean() < 0.2


@pytest.mark.parametrize("method", ["efros_leung", "wei_levoy", "gram"])
def test_the_program_leaves_a_record(method, tmp_path):
    backbones.save(backbones.build("small", (1, 16, 16), width=0.5), tmp_path / "small.safetensors")
    flags = dict(size=24, output_side=16, window=5, evaluations=5, device="cpu", threads=1)
    config = texture_synthesis.Config(method=method, **flags, out=tmp_path / "texture.png")
    if method == "gram":
        with pytest.raises(ValueError, match="--backbone"):
            texture_synthesis.main(config)
        config = dataclasses.replace(config, backbone=str(tmp_path / "small.safetensors"))
    texture_synthesis.main(config)
    (trial,) = json.loads((tmp_path / "texture.json").read_text())["trials"]
    assert trial["method"] == method and trial["output_side"] == 16 and trial["seconds"] >= 0
    assert ("losses" in trial) == (method == "gram") and Image.open(tmp_path / "texture.png").width > 100
