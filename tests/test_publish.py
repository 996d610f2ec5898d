"""Published records: they read like the run, say what it was, and are what a README shows."""

import json
from pathlib import Path

import numpy as np
import pytest

from runs import publish
from runs.record import read_run
from tests.test_compare import PNG, command, make_run, rows

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("other", [dict(protocol="sticky"), dict(seed=2), dict(program="agents.rainbow")])
def test_a_record_is_not_written_over_by_another_run(tmp_path, other):
    make = dict(world="Pong", protocol="classic", name="mine")
    first = make_run(tmp_path / "a", **make)
    record = publish.publish(first, tmp_path / "published", note="the first")
    publish.publish(first, tmp_path / "published")  # again: its note stays
    program = other.pop("program", "agents.dqn")
    second = make_run(tmp_path / "b", **make | other)
    about = json.loads((second / "config.json").read_text())
    (second / "config.json").write_text(json.dumps(about | {"program": program}))
    with pytest.raises(ValueError, match="another run"):
        publish.publish(second, tmp_path / "published")
    result = json.loads((record / "result.json").read_text())
    assert (result["note"], result["seed"], result["protocol"]) == ("the first", 1, "classic")


def test_published_record_reads_like_the_run(tmp_path):
    scores = np.sin(np.arange(900.0))
    scores[700] = 3  # none that would be kept as one of many
    run = read_run(make_run(tmp_path, world="Pong", protocol="classic", scores=tuple(scores)))
    record = publish.publish(run.folder, tmp_path / "published", note="a try")
    copy = read_run(record)
    assert record.name == "Pong-dqn-1" and copy.status == "finished"
    assert len(copy.lines) <= publish.CURVE and len(copy.clock) <= publish.CLOCK
    for word in (
        "final",
        "best",
        "training_return",
        "step",
        "seconds",
        "steps_per_second",
        "world",
        "protocol",
    ):
        assert getattr(copy, word) == getattr(run, word)
    assert rows(record) == rows(run.folder)
    result = json.loads((record / "result.json").read_text())
    assert result["best"]["return"] == run.best["eval/return"] and result["best"]["games"] == 10
    assert (result["note"], result["seed"], result["steps"], result["steps_per_second"]) == (
        "a try",
        1,
        90_000,
        50,
    )


def test_publish_says_interrupted_and_guards_other_flags(tmp_path, monkeypatch, capsys):
    folder = make_run(tmp_path, finished=False, steps=1000)
    command(monkeypatch, publish.main, folder, "--into", tmp_path / "published")
    assert "recorded as interrupted" in capsys.readouterr().out
    assert read_run(tmp_path / "published" / "Catch-dqn-1").unfinished == "interrupted, at 20%"
    publish.publish(folder, tmp_path / "published")  # the same run once more: newer numbers
    with pytest.raises(ValueError, match="another run, or one with other flags"):
        publish.publish(make_run(tmp_path / "elsewhere", double=True), tmp_path / "published")


def test_published_record_names_no_place_of_its_machine(tmp_path):
    folder = make_run(
        tmp_path / "secret", folder=str(tmp_path / "secret" / "results"), backbone=str(Path.home() / "x")
    )
    record = publish.publish(folder, tmp_path / "published")
    text = (record / "config.json").read_text()
    assert str(tmp_path) not in text and '"folder": "results"' in text and '"backbone": "~/x"' in text


def test_readme_round_trip(tmp_path, monkeypatch):
    page, into = tmp_path / "README.md", tmp_path / "docs" / "published"
    page.write_text("before\n")
    with pytest.raises(SystemExit, match="no place for results"):
        command(monkeypatch, publish.main, "--readme", page, "--into", into)
    page.write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
    runs = [make_run(tmp_path / "results", seed) for seed in (1, 2)]
    for _ in range(2):  # the second time finds nothing to change
        command(monkeypatch, publish.main, *runs, "--note", "Two seeds.", "--readme", page, "--into", into)
        before, between, after = publish.split(page.read_text(), page)
        assert (before, after) == ("before\n", "\nafter\n") and between == publish.block(into, page)
    assert "| Catch | – | dqn | 1, 2 | 3.00 (of two: 3.00 and 3.00) |" in between
    assert "](docs/published/curves.png)" in between and (into / "curves.png").read_bytes().startswith(PNG)
    recipe = "- **Catch · dqn**: `python -m agents.dqn --env Catch --seed 1`; commit 0123456789ab; on Abacus, 2"
    assert recipe in between and "Two seeds." in between


@pytest.mark.parametrize(
    "scores, words",
    [((0.94, 0.86, 1.0), "**0.94** [0.86, 1.00]"), ((3156.06, 3030.0, 3259.9), "**3,156** [3,030, 3,260]")],
)
def test_games_played_afterwards_are_told_to_the_digits_that_matter(tmp_path, scores, words):
    folder = make_run(tmp_path / "results")
    line = {"checkpoint": "best", "step": 1000, "games": 100}
    line |= dict(zip(("mean", "low", "high"), scores, strict=True))
    (folder / "watch.jsonl").write_text(json.dumps(line) + "\n")
    publish.publish(folder, tmp_path / "published")
    told = publish.block(tmp_path / "published", tmp_path / "README.md")
    assert f"seed 1, best weights (step 1,000): {words} over 100 games" in told


def test_readme_holds_what_is_published():
    page, into = ROOT / "README.md", ROOT / "runs" / "published"
    if not page.is_file() or publish.BEGIN not in page.read_text(encoding="utf-8"):
        pytest.skip("README.md has no place for results")
    if not list(into.glob("*/result.json")):
        pytest.skip("nothing is published")
    assert publish.split(page.read_text(encoding="utf-8"), page)[1] == publish.block(into, page)
