"""What float16 loses of small gradients: by hand, and in a network with and without loss scaling."""

import pytest
import torch

from vision.training import loss_scaling


def test_underflow_by_hand():
    wanted = torch.tensor([1.0, 2.0**-30, 0.0, -(2.0**-20)])
    assert loss_scaling.underflow(wanted, wanted.half().float()) == pytest.approx(1 / 3)
    assert loss_scaling.underflow(wanted, (wanted * 2**16).half().float() / 2**16) == 0.0
    assert loss_scaling.underflow(wanted, wanted.bfloat16().float()) == 0.0
    assert loss_scaling.underflow(torch.zeros(3), torch.zeros(3)) == 0.0


def test_a_scaled_loss_keeps_what_float16_loses(tmp_path):
    small = dict(backbone="lenet5", width=1.0, updates=4, batch=32, loss_weight=1e-5, device="cpu", threads=1)
    found = loss_scaling.main(loss_scaling.Config(**small, out=tmp_path / "scaling.png"))
    assert found["float32"]["underflow"] == 0.0 and found["bfloat16"]["underflow"] < 0.01
    assert (
        found["float16"]["underflow"] > 10 * found["float16, scaled"]["underflow"]
        and found["float16"]["underflow"] > 0.05
    )
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "scaling.json").is_file()


def test_scaled_gradients_are_those_of_the_loss():
    """They are divided by the scale again before they are compared, and before the update."""
    config = loss_scaling.Config(loss_weight=1e-4)
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    found = []
    for form in ("float32", "float16, scaled"):
        torch.manual_seed(2)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        learned = loss_scaling.learn(config, network, form, [(images, torch.tensor([0, 1, 0, 1]))])
        found.append((learned.gradients, network[1].weight.detach()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=1e-7)


def test_an_overflow_halves_the_scale_and_leaves_the_weights():
    config = loss_scaling.Config(scale=2.0**40, loss_weight=1.0, batch=4)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    before = [weight.clone() for weight in network.parameters()]
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(4, 3, 2, 2, generator=generator), torch.tensor([0, 1, 0, 1])
    learned = loss_scaling.learn(config, network, "float16, scaled", [(images, labels)])
    assert learned.scale == 2.0**39
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
