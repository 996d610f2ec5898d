"""What is left out in training: whole blocks (stochastic depth), and paths between joins (drop-path)."""

import pytest
import torch

from vision import backbones
from vision.backbones.resnet import StochasticDepth


def test_stochastic_depth_keeps_whole_images_and_their_mean():
    depth, x = StochasticDepth(0.25), torch.ones(4000, 2, 3, 3)
    torch.manual_seed(0)
    kept = depth(x).mean((1, 2, 3))
    assert set(kept.tolist()) == {0.0, 1.0}
    assert kept.mean().item() == pytest.approx(0.75, abs=0.03)
    assert depth.eval()(x).eq(0.75).all()


def test_stochastic_depth_grows_linearly_to_the_last_block():
    with torch.device("meta"):
        backbone = backbones.build("resnet18", (3, 32, 32), stochastic_depth=0.5)
    drops = [module.drop for module in backbone.modules() if isinstance(module, StochasticDepth)]
    assert drops == pytest.approx([n / 16 for n in range(1, 9)])


@pytest.mark.parametrize("column", [0, 1, 2])
def test_an_image_of_one_column_sees_nothing_else(column):
    torch.manual_seed(0)
    backbone = backbones.build("fractalnet20", (3, 8, 8), width=0.1, norm="none", dropout=0.0)
    x = torch.randn(2, 3, 8, 8)
    backbone._columns = lambda images: torch.full((len(images),), column)
    seen = backbone(x)[-1]
    for pool, block in zip(backbone.pools, backbone.blocks, strict=True):
        x = pool(x)
        for layer in block.columns[column]:
            x = layer(x)
    torch.testing.assert_close(seen, x)


def test_a_join_never_leaves_out_every_path():
    torch.manual_seed(0)
    block = backbones.build("fractalnet20", (3, 8, 8), width=0.1, drop_path=0.5).blocks[0]
    paths = [torch.full((4000, 1, 1, 1), value) for value in (1.0, 2.0)]
    joined = block.join(paths, [1, 2], torch.full((4000,), -1)).flatten()
    shares = [joined.eq(value).float().mean().item() for value in (1.0, 1.5, 2.0)]
    # both with 1/4; one alone with 1/4, and half of the 1/4 in which both were out
    assert shares == pytest.approx([3 / 8, 1 / 4, 3 / 8], abs=0.03)
