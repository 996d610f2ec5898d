"""What is seen: backbones, data, tasks (make a model) and studies (examine any model)."""

from vision import backbones

__all__ = ["backbones"]
