"""Encoders of single frames: quantization by hand, and stacks of frames."""

import pytest
import torch

from vision import backbones
from vision.backbones.layers.quantization import FiniteScalarQuantization


def test_quantization_by_hand():
    quantize = FiniteScalarQuantization(5)
    x = torch.tensor([-9.0, -0.3, 0.1, 0.3, 9.0], requires_grad=True)  # tanh(0.3) = 0.29: nearer to 0.5 than to 0
    values = quantize(x)
    torch.testing.assert_close(values, torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))
    assert quantize.index(values).tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(quantize.value(quantize.index(values)), values)
    values.sum().backward()
    torch.testing.assert_close(x.grad, 1 - x.detach().tanh().square())
    for levels in (1, 4):
        with pytest.raises(ValueError, match=f"odd number from 3 on, got {levels}"):
            FiniteScalarQuantization(levels)


def test_frames_of_a_stack_are_encoded_one_by_one(tmp_path):
    torch.manual_seed(0)
    one = backbones.build("frame_encoder", (3, 40, 40), body="small", frame=3, latents=2, levels=3)
    one.set_mean_observation(torch.full((3, 40, 40), 90, dtype=torch.uint8))
    backbones.save(one, tmp_path / "encoder.safetensors")
    stacked = backbones.build(tmp_path / "encoder.safetensors", (6, 40, 40))
    frames = torch.randint(256, (4, 6, 40, 40), dtype=torch.uint8)
    expected = torch.cat([one(frames[:, :3])[-1], one(frames[:, 3:])[-1]], 1)
    assert torch.equal(stacked(frames)[-1], expected) and stacked.channels == [4]
    assert set(expected.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_the_mean_of_a_stack_is_subtracted_from_each_frame():
    torch.manual_seed(0)
    encoder = backbones.build("frame_encoder", (2, 40, 40), body="small", subtracts_mean=True)
    encoder.set_mean_observation(torch.stack([torch.full((40, 40), 10), torch.full((40, 40), 30)]).byte())
    x = torch.randint(30, 200, (1, 2, 40, 40), dtype=torch.uint8)
    plain = backbones.build("frame_encoder", (2, 40, 40), body="small")
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if "mean_observation" not in k})
    torch.testing.assert_close(encoder(x)[-1], plain(x - 20)[-1])


def test_what_cannot_be_built():
    with pytest.raises(ValueError, match="unknown body 'vgg11'"):
        backbones.build("frame_encoder", (1, 40, 40), body="vgg11")
    with pytest.raises(ValueError, match="frames of 3 channels, and 4 are no multiple"):
        backbones.build("frame_encoder", (4, 40, 40), frame=3)
    encoder = backbones.build("frame_encoder", (4, 40, 40), frame=2)
    with pytest.raises(ValueError, match="a mean observation"):
        encoder.set_mean_observation(torch.zeros(3, 40, 40, dtype=torch.uint8))
