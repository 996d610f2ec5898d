"""Activations, gradients and update sizes by layer while a network learns, as metrics, histograms and a picture.

    statistics = LayerStatistics(model)
    with statistics.measure(step):                    # one update, with its forward and backward pass
        ...
    run.log(statistics.metrics())
    statistics.draw(path)

CS231n, lecture 6, "Neural Networks Part 3": activations and gradients of all layers should be alike in size (Glorot
& Bengio 2010, figures 6 and 7), and an update about a thousandth of the weights that it changes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runs import output
from vision.backbones.layers.activation import ACTIVATIONS

KINDS = tuple({type(make()) for make in ACTIVATIONS.values()})  # modules whose outputs are activations
BINS = 40
SHOWN = 12  # layers of the picture, spread over the network
GOOD = 1e-3  # ratio of update to weight that the lecture asks for


class LayerStatistics:
    """Measures single updates of a model. What it has measured is its state, and part of a run's checkpoints."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.records: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def measure(self, step: int) -> Iterator[None]:
        """A context of one update, whose forward pass is the model's own and not a compiled one."""
        seen: dict[str, tuple[Tensor, Tensor | None]] = {}
        weights = {name: weight for name, weight in self.model.named_parameters() if weight.dim() > 1}
        before = {name: weight.detach().clone() for name, weight in weights.items() if weight.requires_grad}
        hooks = [
            module.register_forward_hook(self._hook(name, seen))
            for name, module in self.model.named_modules()
            if isinstance(module, KINDS)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        record: dict[str, Any] = {"step": step, "activations": {}, "gradients": {}, "ratios": {}}
        for name, (activation, gradient) in seen.items():
            record["activations"][name] = _summary(activation)
            if gradient is not None:
                record["gradients"][name] = _summary(gradient)
        for name, old in before.items():
            size = old.norm().item()
            if size:
                record["ratios"][name.removesuffix(".weight")] = (weights[name].detach() - old).norm().item() / size
        self.records.append(record)

    @staticmethod
    def _hook(name: str, seen: dict[str, tuple[Tensor, Tensor | None]]):
        def keep(module: nn.Module, inputs: tuple, out: Tensor) -> None:
            seen[name] = out.detach(), None
            if out.requires_grad:
                out.register_hook(lambda gradient: seen.update({name: (seen[name][0], gradient.detach())}))

        return keep

    def metrics(self) -> dict[str, float]:
        """The last measurement by layer: deviations of activations and of gradients at them, the share of activations
        that are 0, and the norm of the update over that of the weights."""
        last = self.records[-1]
        found = {f"layers/update_ratio/{name}": ratio for name, ratio in last["ratios"].items()}
        for word, kind in (("activation", "activations"), ("gradient", "gradients")):
            found |= {f"layers/{word}_std/{name}": each["std"] for name, each in last[kind].items()}
        return found | {f"layers/zeros/{name}": each["zeros"] for name, each in last["activations"].items()}

    def state_dict(self) -> dict[str, Any]:
        return {"records": self.records}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.records = list(state["records"])

    def draw(self, path: Path) -> None:
        """Write the picture: update ratios against images, and histograms of the first and the last measurement.

        Raises RunError where it cannot be written.
        """
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        first, last = self.records[0], self.records[-1]
        names = _spread(list(last["activations"]))
        figure = Figure(figsize=(15, max(4.0, 1.0 + 0.8 * len(names))), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
        ratios = left.subplots()
        steps, weights = [record["step"] for record in self.records], _spread(list(last["ratios"]))
        for number, name in enumerate(weights):
            color = colormaps["viridis"](number / max(1, len(weights) - 1))
            values = [record["ratios"].get(name, math.nan) for record in self.records]
            ratios.plot(steps, values, "o-", markersize=3, linewidth=1, color=color, label=name)
        ratios.axhline(GOOD, color="tab:red", linestyle="--", linewidth=1)
        ratios.set(yscale="log", xlabel="images", title="norm of an update / norm of its weights (red: 1e-3)")
        if weights:
            ratios.legend(fontsize=6)
        panels = right.subplots(max(1, len(names)), 4, squeeze=False)
        columns = [(kind, record) for kind in ("activations", "gradients") for record in (first, last)]
        for line, name in zip(panels, names, strict=False):
            for panel, (kind, record) in zip(line, columns, strict=True):
                panel.set_yticks([])
                panel.tick_params(labelsize=5)
                panel.locator_params(axis="x", nbins=3)
                if each := record[kind].get(name):
                    wide = (each["high"] - each["low"]) / BINS
                    places = [each["low"] + (place + 0.5) * wide for place in range(BINS)]
                    panel.bar(
                        places, each["counts"], wide, color="tab:blue" if kind == "activations" else "tab:orange"
                    )
                    panel.set_title(f"std {each['std']:.2g}", fontsize=6, pad=1)
            line[0].set_ylabel(name.removeprefix("backbone."), fontsize=6, rotation=0, ha="right")
        for panel, (kind, record) in zip(panels[-1], columns, strict=True):
            panel.set_xlabel(f"{kind} at image {record['step']:,}", fontsize=7)
        output.draw(path, figure, "--folder", dpi=100)


def _spread(names: list[str]) -> list[str]:
    """At most SHOWN of the names, the first and the last among them."""
    if len(names) <= SHOWN:
        return names
    return [names[round(place * (len(names) - 1) / (SHOWN - 1))] for place in range(SHOWN)]


def _summary(values: Tensor) -> dict[str, Any]:
    """Deviation, share of zeros and histogram of some numbers."""
    values = values.float().flatten()
    low, high = values.min().item(), values.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        return {"std": math.nan, "zeros": 0.0, "low": 0.0, "high": 1.0, "counts": [0.0] * BINS}
    high = high if high > low else low + 1e-12 + abs(low) * 1e-6
    counts = torch.histc(values, BINS, low, high) / len(values)
    zeros = (values == 0).float().mean().item()
    return {"std": values.std().item(), "zeros": zeros, "low": low, "high": high, "counts": counts.tolist()}
