"""Files of weights as people have them: wrapped, prefixed, beside an optimizer; and such as are none."""

import argparse
import json
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from vision import backbones
from vision.backbones import checkpoints, published
from vision.classification import classifier, torchvision_weights

NAME, SHAPE = "squeezenet1_1", (3, 64, 64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return classifier.build(NAME, SHAPE, 5).eval()


@pytest.fixture(scope="module")
def state(model):
    return torchvision_weights.to_torchvision(model)


WRAPPED = {
    "DataParallel": lambda state, _: {f"module.{key}": value for key, value in state.items()},
    "torch.compile": lambda state, _: {f"_orig_mod.{key}": value for key, value in state.items()},
    "both": lambda state, _: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "Lightning": lambda state, _: {"epoch": 3, "state_dict": {f"model.{key}": value for key, value in state.items()}},
    "with an optimizer": lambda state, _: {
        "model": state,
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 3,
    },
    "MoCo's way": lambda state, _: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "the tutorial's": lambda state, _: {"model_state_dict": state, "loss": 0.1},
    "twice": lambda state, _: {"state_dict": {"model": state}},
    "AveragedModel": lambda _, model: AveragedModel(model).state_dict(),
    "our own classifier": lambda _, model: model.state_dict(),
    "half": lambda state, _: {key: value.half() for key, value in state.items()},
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_wrapped_weights_arrive(kind, suffix, model, state, tmp_path):
    wrapped, path = WRAPPED[kind](state, model), tmp_path / f"a.{suffix}"
    if suffix == "pth":
        torch.save(wrapped, path)
    elif all(isinstance(value, torch.Tensor) for value in wrapped.values()):
        save_file({key: value.clone() for key, value in wrapped.items()}, path)
    else:
        return  # such a file has tensors only
    found = published.read(NAME, str(path)).state
    assert found.keys() == state.keys()
    for key, value in found.items():
        assert torch.equal(value, state[key].half().float() if kind == "half" else state[key]), key
    again = classifier.build(f"{NAME}:{path}", SHAPE, 5)
    assert torch.equal(again.backbone.features[0].weight, found["features.0.weight"])


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_states_arrive(kind, model, state):
    again = torchvision_weights.from_torchvision(NAME, WRAPPED[kind](state, model))
    assert torchvision_weights.to_torchvision(again).keys() == state.keys()


def test_files_that_are_none_are_said_in_a_line(state, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(
        ValueError, match=r"holds more than weights \(argparse.Namespace\).*save the model's state_dict"
    ):
        published.read(NAME, str(path))
    whole = path.read_bytes()
    for body in (b"", b"root:x:0:0\n", whole[: len(whole) // 2], b"PK\3\4", b"\x80\2."):
        for other in (path, tmp_path / "a.safetensors"):
            other.write_bytes(body)
            with pytest.raises(ValueError, match="is damaged, or no file of weights") as caught:
                published.read(NAME, str(other))
            assert "weights_only" not in str(caught.value) or "\x1b" not in str(caught.value)
    for nothing in ({}, [], None, 3, {"state_dict": {}}, {"a": 1}, {"state_dict": {"a": "text"}}):
        torch.save(nothing, path)
        with pytest.raises(ValueError, match="holds no weights by their names"):
            published.read(NAME, str(path))


def test_files_that_ask_for_more_than_they_hold(state, tmp_path):
    key = "features.0.weight"
    torch.save(state | {key: torch.zeros(1).expand(1_000_000_000)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="does not hold the 1,000,000,000 values of its 'features.0.weight'"):
        published.read(NAME, str(tmp_path / "a.pth"))
    torch.save({key: torch.zeros(1_000_000)}, tmp_path / "b.pth")
    with (
        zipfile.ZipFile(tmp_path / "b.pth") as old,
        zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ValueError, match="c.pth is damaged, or no file of weights: its .* bytes unpack to 4,0"):
        published.read(NAME, str(tmp_path / "c.pth"))


SPECS = {
    "another run": {"name": "results/x", "shape": [3, 64, 64]},
    "published ones": {"name": "resnet18:imagenet", "shape": [3, 64, 64]},
    "no name": {"shape": [3, 64, 64]},
    "no shape": {"name": NAME},
    "a shape of words": {"name": NAME, "shape": "abc"},
    "a large shape": {"name": "mlp", "shape": [10**9]},
    "a large width": {"name": NAME, "shape": [3, 64, 64], "width": 1000.0},
    "an unknown option": {"name": NAME, "shape": [3, 64, 64], "frozen": True, "color": 1},
    "null": None,
    "a list": [],
    "a number": 3,
}


@pytest.mark.parametrize("kind", SPECS)
def test_a_spec_is_data(kind, tmp_path):
    """It names an architecture of the zoo, and takes no more memory than its weights."""
    path = tmp_path / checkpoints.FILENAME
    save_file({"features.0.weight": torch.zeros(2)}, path, metadata={"spec": json.dumps(SPECS[kind])})
    with pytest.raises(ValueError, match="backbone.safetensors|do not fit"):
        backbones.load(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"spec": "{"}, {"other": "1"}])
def test_a_file_without_a_spec(metadata, tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / checkpoints.FILENAME, metadata=metadata)
    with pytest.raises(ValueError, match="backbone.safetensors"):
        backbones.load(tmp_path)


def test_damaged_backbones_are_named(model, tmp_path):
    path = tmp_path / checkpoints.FILENAME
    backbones.save(model.backbone, path)
    whole = path.read_bytes()
    assert backbones.load(tmp_path).spec == model.backbone.spec
    for body in (b"", whole[:4], whole[: len(whole) // 2], b"\xff" * 100):
        path.write_bytes(body)
        with pytest.raises(ValueError, match="backbone.safetensors is damaged"):
            backbones.load(tmp_path)
