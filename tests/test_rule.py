"""Who may import whom. The rooms stay separable because this test reads every import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "envs", "replay", "vision", "runs")
ALLOWED = {"runs": set(), "envs": set(), "replay": set(), "vision": {"runs"}, "agents": set(ROOMS)}


@pytest.mark.parametrize("room", ROOMS)
def test_imports(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: import by full name"
                names = [node.module]
            else:
                continue
            for name in names:
                target = name.split(".")[0]
                if target in ROOMS and target != room:
                    assert target in ALLOWED[room], f"{path}:{node.lineno}: {room} must not import {target}"
                assert target != "torchvision", f"{path}: torchvision cannot be installed beside CPU torch"


def test_top_level_holds_nothing_else():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= set(ROOMS) | {"tests"}
