"""What is seen: backbones, data, tasks (make a model) and studies (examine any model)."""

from vision import backbones, data

__all__ = ["backbones", "data"]
