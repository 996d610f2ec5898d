"""Artifacts of W&B as backbones, without a network: their names, and those that were fetched before."""

import pytest
import torch

from runs import artifacts
from vision import backbones


@pytest.mark.parametrize("name", ["wandb:", "wandb:team/saccade", "wandb:team/saccade/backbone", "wandb:../../x:v0"])
def test_what_is_no_artifact_is_refused_before_anything_is_fetched(name):
    with pytest.raises(ValueError, match="write wandb:entity/project/backbone:v3"):
        backbones.check(name)
    with pytest.raises(ValueError, match="names no artifact"):
        backbones.build(name, (1, 12, 12))


def test_a_version_that_was_fetched_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    name = "wandb:team/saccade/backbone:v3"
    place = artifacts.kept() / "team" / "saccade" / "backbone-v3"
    place.mkdir(parents=True)
    saved = backbones.build("small", (1, 12, 12), width=0.25)
    backbones.save(saved, place / "backbone.safetensors")
    backbones.check(name)
    found = backbones.build(name, (1, 12, 12), frozen=True)
    assert all(torch.equal(one, found.state_dict()[key]) for key, one in saved.state_dict().items())
    assert backbones.load(name).spec == saved.spec
    (place / "another.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="2 files that end in .safetensors"):
        artifacts.fetch(name, ".safetensors")
