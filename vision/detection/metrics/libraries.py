"""Average precision of boxes and masks by pycocotools or hotcoco instead of coco.py, to compare with it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vision.data.annotated.polygons import encode, runs_of
from vision.data.samples import Target
from vision.detection.detections import Detections
from vision.detection.metrics.coco import CocoEvaluator

Library = Literal["own", "hotcoco", "pycocotools"]
MODULES = {"hotcoco": ("hotcoco", "hotcoco"), "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval")}
STATS = (  # in the order in which both libraries have them
    *("map", "map_50", "map_75", "map_small", "map_medium", "map_large"),
    *("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"),
)


def check(library: Library) -> None:
    """Raises ValueError where a library is not installed."""
    if library != "own" and importlib.util.find_spec(library) is None:
        raise ValueError(f"--evaluator {library}: it is not installed. pip install {library}, or choose own")


class LibraryEvaluator(CocoEvaluator):
    """Collects images as CocoEvaluator does, and has a library score their boxes or masks.

    Matches, for kinds of errors, and results where there are no objects or no detections are CocoEvaluator's.
    """

    def __init__(self, classes: int, kind: Literal["boxes", "masks"], library: Library) -> None:
        super().__init__(classes, kind)
        self.library = library
        self._truth: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []

    def add(self, found: Detections, target: Target) -> None:
        """Add an image, as CocoEvaluator.add."""
        super().add(found, target)
        columns = (each[-1].tolist() for each in (self._objects["area"], self._objects["crowd"]))
        for place, area, crowd in zip(self._placed(target), *columns, strict=True):
            line = {"id": len(self._truth) + 1, "area": area, "iscrowd": int(crowd)}
            self._truth.append(place | line)
        for place, score in zip(self._placed(found), found.scores.tolist(), strict=True):
            self._results.append(place | {"score": score})

    def results(self) -> dict[str, float]:
        """The metrics of CocoEvaluator.results, by the library."""
        if not self._truth or not self._results:
            return super().results()
        data, evaluation = (importlib.import_module(name) for name in MODULES[self.library])
        images = [{"id": number, "file_name": f"{number}", "height": 1, "width": 1} for number in range(self.images)]
        categories = [{"id": label, "name": f"{label}"} for label in range(self.classes)]
        content = {"info": {}, "images": images, "annotations": self._truth, "categories": categories}
        with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "truth.json"
            path.write_text(json.dumps(content))
            truth = data.COCO(str(path))
            evaluator = evaluation.COCOeval(
                truth, truth.loadRes(self._results), "bbox" if self.kind == "boxes" else "segm"
            )
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return {name: float(value) for name, value in zip(STATS, evaluator.stats, strict=True)}

    def _placed(self, objects: Detections | Target) -> list[dict[str, Any]]:
        """COCO's lines of objects: image, class, and box or mask."""
        lines = []
        for row, label in enumerate(objects.labels.tolist()):
            line: dict[str, Any] = {"image_id": self.images - 1, "category_id": label}
            left, top, right, bottom = objects.boxes[row].tolist()
            if self.kind == "boxes":
                line["bbox"] = [left, top, right - left, bottom - top]
            else:
                mask = np.asarray(objects.masks[row].cpu())
                line["segmentation"] = {"size": list(mask.shape), "counts": encode(runs_of(mask))}
            lines.append(line)
        return lines
