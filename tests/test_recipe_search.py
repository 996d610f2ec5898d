"""The search for recipes: points, curves and ranking by hand, and a search of seconds that goes on where it was."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "tests/benchmarks/recipe_search.py"


@pytest.fixture
def search(monkeypatch):
    monkeypatch.syspath_prepend(PROGRAM.parent)
    spec = importlib.util.spec_from_file_location("recipe_search", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_points_are_the_recipe_and_some_of_the_grid(search):
    space = {"worlds": ["8", "16"], "width": ["0.25", "0.5", "1"]}
    found = search.points(space, 5, seed=1)
    assert found[0] == {} and len(found) == 5 and found == search.points(space, 5, seed=1)
    assert all(point.keys() == space.keys() for point in found[1:])
    assert len({tuple(point.items()) for point in search.points(space, 99, seed=2)}) == 1 + 2 * 3
    assert search.points({}, 3, seed=1) == [{}]
    assert search.chosen("width=0.5 --norm=layer") == {"width": "0.5", "norm": "layer"}
    with pytest.raises(ValueError, match="norm=VALUE"):
        search.chosen("width=0.5 norm")
    assert search.words({"width": "0.5", "bf16": "no", "noisy": "yes"}) == "--width 0.5 --no-bf16 --noisy".split()


def test_when_a_score_was_reached_by_hand(search):
    found = [(0.5, 10, -21.0), (1.0, 20, 3.0), (1.5, 30, 18.5), (2.0, 40, 17.0)]
    assert search.minutes_to(18, found) == 1.5 and search.minutes_to(19, found) is None
    line = dict(env="Pong", program="agents.pqn", minutes=2.0, steps_per_second=7.0, played=None)
    assert search.final(line | dict(curve=found)) == 17 and search.final(line | dict(curve=[], played=[1, 2])) == 1.5
    lines = [line | dict(flags={"width": width}, curve=curve) for width, curve in (("1", found[:2]), ("2", found))]
    rows = search.table(lines, 18.0)
    assert list(rows.columns[0].cells) == ["--width 2", "--width 1"]
    assert list(rows.columns[2].cells) == ["1.5", "not in time"]


@pytest.mark.slow
def test_a_search_on_catch_goes_on_where_it_was(tmp_path):
    out = tmp_path / "found.jsonl"
    flags = "--worlds 4 --rollout 8 --steps 4000"
    command = [sys.executable, str(PROGRAM), "agents.pqn", "--env", "Catch", "--minutes", "0.2", "--games", "4"]
    command += ["--evaluate-every", "1000", "--try", "learning-rate=1e-3,3e-3", "--flags", flags, "--score", "0.5"]
    command += ["--folder", str(tmp_path / "runs"), "--out", str(out)]
    for trials in ("2", "3", "3"):
        around = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([*command, "--trials", trials], capture_output=True, text=True, cwd=ROOT, env=around)
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["flags"].get("learning-rate") for line in lines].count(None) == 1 and len(lines) == 3
    for line in lines:
        assert line["took"] <= 0.3 and len(line["played"]) == 4 and line["ended"] in ("finished", "interrupted")
        assert line["curve"] and all(minutes <= 0.3 for minutes, _, _ in line["curve"])
    assert "the recipe" in done.stdout and "minutes to 0.5" in done.stdout
