"""Parameters, multiply-adds, maps and smallest image of a backbone: measured on the meta device, or from table.json.

table.json holds what was measured of every backbone for the settings in SETTINGS, because deep networks take up to a
second each. `python -m vision.backbones --update` writes it. It counts only for the code it was measured of: where a
statement of a backbone's source has changed since, all is measured again.
"""

import ast
import functools
import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from runs import files
from vision import backbones
from vision.backbones.shapes import ShapesOnly

FILE = Path(__file__).with_name("table.json")
SETTINGS = (((3, 224, 224), "imagenet", 1000), ((3, 32, 32), "cifar", 10))  # shape of one image, stem, classes


def measure(name: str, shape: tuple[int, int, int], stem: str, classes: int) -> dict[str, object]:
    """{"parameters", "multiply_adds", "maps", "strides", "smallest"} of a classifier; maps are [channels, h, w].

    Raises ValueError where the backbone cannot take such images.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports sympy, which takes a second

    with torch.device("meta"):
        options = {"stem": stem} if backbones.default_options(name).stem else {}
        backbone = backbones.build(name, shape, **options)
        model = nn.Sequential(backbone, backbone.head(classes)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad(), ShapesOnly():
            maps = backbone(torch.empty(1, *shape))
            model[1](maps)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,
        "maps": [list(m.shape[1:]) for m in maps],
        "strides": backbone.strides,
        "smallest": backbone.smallest,
    }


def find(name: str, shape: tuple[int, int, int], stem: str, classes: int) -> dict[str, object]:
    """What `measure` says, from table.json where it is there. Raises ValueError as `measure` does."""
    row = stored().get(key(shape, stem, classes), {}).get(name)
    if row is None:
        return measure(name, shape, stem, classes)
    if "error" in row:
        raise ValueError(row["error"])
    return row


@functools.cache
def stored() -> dict[str, dict[str, dict]]:
    """setting -> name -> row, from table.json; nothing where it is missing or of other code."""
    try:
        content = json.loads(FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content["rows"] if content["sources"] == sources() else {}


def sources() -> str:
    """SHA-256 of what the backbones' source files say, without docstrings, comments and empty lines."""
    digest = hashlib.sha256()
    for path in sorted(FILE.parent.rglob("*.py")):
        if path.name == "__main__.py":
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                first, last = node.body[0].lineno, node.body[0].end_lineno or 0
                lines[first - 1 : last] = [""] * (last - first + 1)
        said = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        digest.update("\n".join([path.relative_to(FILE.parent).as_posix(), *said, ""]).encode())
    return digest.hexdigest()


def update() -> int:
    """Measure every backbone for every setting, and write table.json. Returns the number of rows.

    Raises OSError where it cannot be written.
    """
    rows: dict[str, dict[str, dict]] = {}
    for case in SETTINGS:
        found = rows[key(*case)] = {}
        for name in backbones.BACKBONES:
            try:
                found[name] = measure(name, *case)
            except ValueError as error:
                found[name] = {"error": str(error)}
    lines = [
        f" {json.dumps(case)}: {{\n" + ",\n".join(f"  {json.dumps(n)}: {json.dumps(r)}" for n, r in found.items())
        for case, found in rows.items()
    ]
    text = f'{{"sources": "{sources()}", "rows": {{\n' + "\n },\n".join(lines) + "\n }\n}}\n"
    files.write(FILE, text.encode())
    stored.cache_clear()
    return sum(map(len, rows.values()))


def key(shape: tuple[int, ...], stem: str, classes: int) -> str:
    """A setting's name in table.json."""
    return f"{'x'.join(map(str, shape))} {stem} {classes}"
