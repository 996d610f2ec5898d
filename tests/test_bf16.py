"""bfloat16 is used where the device multiplies it in hardware, and nowhere else: on made-up processors."""

import platform
from types import SimpleNamespace

import pytest
import torch

from agents import optimization
from runs import machine


@pytest.fixture(autouse=True)
def asked_anew():
    machine.fast_bf16.cache_clear()
    yield
    machine.fast_bf16.cache_clear()


def processor(monkeypatch, avx512_bf16=False, amx=False, architecture="x86_64", features=()):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "_arm_features", lambda: set(features))


@pytest.mark.parametrize(
    ("has", "fast"),
    [
        (dict(), False),  # AVX2 alone, or AVX-512 without bf16: 937 ms an update instead of 164
        (dict(avx512_bf16=True), True),
        (dict(amx=True), True),
        (dict(architecture="aarch64", features=("fp", "asimd", "bf16")), True),
        (dict(architecture="aarch64", features=("fp", "asimd")), False),
        (dict(features=("bf16",)), False),
    ],
)
def test_a_cpu_calculates_in_bf16_where_it_has_the_instructions(monkeypatch, has, fast):
    processor(monkeypatch, **has)
    cpu = torch.device("cpu")
    assert machine.fast_bf16(cpu) is fast
    for wanted in (True, False):
        with machine.precision(SimpleNamespace(bf16=wanted), cpu):
            found = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        assert found == (torch.bfloat16 if fast and wanted else torch.float32)


@pytest.mark.parametrize("fast", [True, False])
def test_a_copy_that_acts_is_rounded_only_where_bf16_is_fast(monkeypatch, fast):
    processor(monkeypatch, avx512_bf16=fast)
    network = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2)})
    copy = optimization.frozen_copy(SimpleNamespace(bf16=True), network)
    assert copy["backbone"].weight.dtype == (torch.bfloat16 if fast else torch.float32)


@pytest.mark.parametrize(("capability", "fast"), [((6, 1), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_calculates_in_bf16_from_ampere_onwards(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert machine.fast_bf16(torch.device("cuda")) is fast


def test_what_a_run_ran_on_says_whether_bf16_was_fast(monkeypatch):
    processor(monkeypatch, amx=True)
    assert machine.hardware(torch.device("cpu"))["fast_bf16"] is True
    assert machine.fast_bf16(torch.device("mps")) is False
