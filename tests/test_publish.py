"""Published records: they read like the run, say what it was, and are what a README shows."""

import json
from pathlib import Path

import numpy as np
import pytest

from runs import compare, pages, publish
from runs.groups import group
from runs.printing import compact_json
from runs.reader import RECORDS, read_records, read_run
from tests.test_compare import PNG, command, describe, make_run, rows

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "runs" / "published"


def table_of(runs):
    head, cells = compare.table(group(runs))
    return [dict(zip(head, row, strict=True)) for row in cells]


@pytest.mark.parametrize("other", [dict(protocol="sticky"), dict(double=True)])
def test_a_record_is_not_written_over_by_another_run(tmp_path, other):
    make = dict(world="Pong", protocol="classic", name="mine")
    first = make_run(tmp_path / "a", **make)
    place = publish.publish(first, tmp_path / "published", "atari", note="the first")
    assert place == tmp_path / "published" / "atari" / "Pong" / "dqn-1"
    publish.publish(first, tmp_path / "published", "atari")  # again: its note stays
    second = make_run(tmp_path / "b", **make | other)
    with pytest.raises(ValueError, match="another run"):
        publish.publish(second, tmp_path / "published", "atari")
    (record,) = read_records(place.parent / RECORDS)
    assert (record.published["note"], record.seed, record.protocol) == ("the first", 1, "classic")


def test_seeds_of_a_variant_have_the_same_flags(tmp_path):
    into = tmp_path / "published"
    publish.publish(make_run(tmp_path, 1), into, "catch")
    double = make_run(tmp_path, 2, double=True)
    with pytest.raises(ValueError, match="other flags than dqn-1: give it a --variant"):
        publish.publish(double, into, "catch")
    place = publish.publish(double, into, "catch", "double_q")
    publish.publish(make_run(tmp_path, 3), into, "catch")
    assert place.name == "dqn-double_q-2"
    found = table_of(read_records(into / "catch" / "Catch" / RECORDS))
    assert [(row["program"], row["seeds"]) for row in found] == [("dqn", "1, 3"), ("dqn double q", "2")]
    found = table_of(compare.load([into, make_run(tmp_path, 4, batch=64)]))  # beside a run that is not published
    assert [row["program"] for row in found] == ["dqn", "dqn batch=64, double=False", "dqn double q"]


@pytest.mark.parametrize("word", ["", "../x", "a-b", "a/b", "a b"])
def test_a_topic_is_a_word_and_a_world_stays_in_its_folder(tmp_path, word):
    folder = describe(make_run(tmp_path), world={"name": "../../evil:x"})
    with pytest.raises(ValueError, match="--topic .* should be a word"):
        publish.publish(folder, tmp_path / "published", word)
    assert publish.publish(folder, tmp_path / "published", "catch").parent.parent == tmp_path / "published" / "catch"


def test_published_record_reads_like_the_run(tmp_path):
    scores = np.sin(np.arange(900.0))
    scores[700] = 3  # none that would be kept as one of many
    run = read_run(make_run(tmp_path, world="Pong", protocol="classic", scores=tuple(scores)))
    place = publish.publish(run.folder, tmp_path / "published", "atari", note="a try")
    (copy,) = read_records(place.parent / RECORDS)
    assert copy.folder == place and copy.status == "finished"
    assert len(copy.lines) <= publish.CURVE and len(copy.clock) <= publish.CLOCK
    words = "final", "best", "training_return", "step", "seconds", "steps_per_second", "world", "protocol", "config"
    for word in words:
        assert getattr(copy, word) == getattr(run, word)
    assert table_of([copy]) == rows(run.folder)
    assert table_of(compare.load([tmp_path / "published"])) == rows(run.folder)
    assert copy.published["note"] == "a try" and copy.best["eval/games"] == 10


def test_neighboring_training_lines_are_averaged_over_their_games():
    lines = [{"step": 1, "episode/return": 1.0, "episode/count": 3, "loss/td": 1.0}]
    lines += [{"step": 2, "episode/return": 5.0, "episode/count": 1, "episode/length": 2.0}]
    assert publish.mean_line(lines) == {"step": 2, "episode/return": 2.0, "episode/count": 4}
    tables = publish.columns([{"step": 1, "eval/x": 2.0}, {"step": 1, "eval/y": 3.0}, {"step": 2, "eval/x": 4.0}])
    assert tables == [{"step": [1, 2], "eval/x": [2.0, 4.0]}, {"step": [1], "eval/y": [3.0]}]


def test_publish_says_interrupted_and_where_records_belong(tmp_path, monkeypatch, capsys):
    folder, into = make_run(tmp_path, finished=False, steps=1000), tmp_path / "published"
    command(monkeypatch, publish.main, folder, "--into", into, "--topic", "catch")
    assert "recorded as interrupted" in capsys.readouterr().out
    (record,) = read_records(into / "catch" / "Catch" / RECORDS)
    assert record.unfinished == "interrupted, at 20%"
    with pytest.raises(SystemExit, match="--topic: there are catch"):
        command(monkeypatch, publish.main, folder, "--into", into)


def test_published_record_names_no_place_of_its_machine(tmp_path):
    folder = make_run(
        tmp_path / "secret", folder=str(tmp_path / "secret" / "results"), backbone=str(Path.home() / "x")
    )
    text = (publish.publish(folder, tmp_path / "published", "catch").parent / RECORDS).read_text()
    assert str(tmp_path) not in text and '"folder": "results"' in text and '"backbone": "~/x"' in text


@pytest.mark.parametrize("damage", ['{"name": 1', "[]", '{"program": "x", "config": {}}', '"curve"', "1e999"])
def test_a_damaged_record_is_named_and_not_written_over(tmp_path, damage, capsys):
    into = tmp_path / "published"
    path = publish.publish(make_run(tmp_path, 1), into, "catch").parent / RECORDS
    text = path.read_text().replace("2.0", damage) if damage == "1e999" else path.read_text() + damage + "\n"
    path.write_text(text)
    with pytest.raises(ValueError, match="records.jsonl, line "):
        publish.publish(make_run(tmp_path, 2), into, "catch")
    assert path.read_text() == text
    compare.load([into, make_run(tmp_path, 3)])
    assert "left out" in capsys.readouterr().err


def page_of(folder, *topics):
    page = folder / "README.md"
    marks = "".join(f"<!-- results:begin {topic} -->\nold\n<!-- results:end -->\nbetween\n" for topic in topics)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"before\n{marks}")
    return page


def test_pages_are_written_from_records(tmp_path, monkeypatch):
    into = tmp_path / "docs" / "published"
    runs = [make_run(tmp_path / "results", seed) for seed in (1, 2)]
    command(monkeypatch, publish.main, *runs, "--note", "Two seeds.", "--into", into, "--topic", "catch")
    (into / "front_page.json").write_text('["catch/Catch/dqn"]')
    page, own = page_of(tmp_path, "front_page", "catch"), page_of(into / "catch", "catch")
    for _ in range(2):  # the second time finds nothing to change
        command(monkeypatch, publish.main, "--readme", page, own, "--into", into)
        text = page.read_text()
        assert text == pages.rewritten(page, into) and text.startswith("before\n") and text.endswith("\nbetween\n")
    assert "| Catch | dqn | 1, 2 | 3.00 (of two: 3.00 and 3.00) | last evaluation | 200 | 4 s |" in text
    assert "| Catch | dqn | 1, 2 | 3.00 (of two: 3.00 and 3.00) | 3.00 (of two" in text  # no column without a value
    assert "[catch](docs/published/catch)" in text and "](docs/published/front_page.png)" in text
    for picture in (into / "front_page.png", into / "catch" / "curves.png"):
        assert picture.read_bytes().startswith(PNG)
    recipe = (
        "- **Catch · dqn**: `python -m agents.dqn --env Catch --seed 1`; commit 0123456789ab; on Abacus, 2 cores; "
    )
    assert (
        recipe in own.read_text() and own.read_text().count("Two seeds.") == 1 and "](curves.png)" in own.read_text()
    )


def test_a_topic_says_when_scores_are_reached(tmp_path, monkeypatch):
    into = tmp_path / "published"
    publish.publish(make_run(tmp_path), into, "catch")
    own = page_of(into / "catch", "catch")
    (into / "catch/thresholds.json").write_text('{"Catch": [2.5, 9], "Pong": [1]}')
    command(monkeypatch, publish.main, "--readme", own, "--into", into)
    table = own.read_text().partition("Minutes from the start")[2].partition("- **Catch")[0]
    assert [line for line in table.splitlines() if line.startswith("| Catch")] == ["| Catch | 2.5 | dqn | 0 |"]


def test_pages_that_cannot_be_written_say_why(tmp_path, monkeypatch):
    into = tmp_path / "published"
    publish.publish(make_run(tmp_path), into, "catch")
    for text, why in (("", "no place for results"), ("cath", "did you mean 'catch'"), ("front_page", "dqn-x")):
        page = page_of(tmp_path, *filter(None, [text]))
        (into / "front_page.json").write_text('["catch/Catch/dqn-x"]')
        with pytest.raises(SystemExit, match=why):
            command(monkeypatch, publish.main, "--readme", page, "--into", into)


@pytest.mark.parametrize(
    "scores, words",
    [((0.94, 0.86, 1.0), "**0.94** [0.86, 1.00]"), ((3156.06, 3030.0, 3259.9), "**3,156** [3,030, 3,260]")],
)
def test_games_played_afterwards_are_rounded_to_the_digits_that_matter(tmp_path, scores, words):
    folder, into = make_run(tmp_path / "results"), tmp_path / "published"
    line = {"checkpoint": "best", "step": 1000, "games": 100}
    line |= dict(zip(("mean", "low", "high"), scores, strict=True))
    (folder / "watch.jsonl").write_text(json.dumps(line) + "\n")
    publish.publish(folder, into, "catch")
    message = pages.block(["catch"], into, into / "catch" / "README.md")
    assert f"seed 1, best weights (step 1,000): {words} over 100 games" in message
    (folder / "watch.jsonl").write_text(json.dumps(line | {"games": 1, "low": None, "high": None}) + "\n")
    publish.publish(folder, into, "catch")
    assert "** in one game" in pages.block(["catch"], into, into / "catch" / "README.md")


PAGES = [
    path
    for path in [ROOT / "README.md", *ROOT.glob("*/**/*.md")]
    if path.relative_to(ROOT).parts[0] in ("README.md", "agents", "envs", "replay", "vision", "runs")
    and pages.BLOCK.search(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_holds_what_is_published(page):
    assert page.read_text(encoding="utf-8") == pages.rewritten(page, PUBLISHED)


def test_every_topic_has_its_page_and_every_record_its_name():
    for path in PUBLISHED.glob(f"*/*/{RECORDS}"):
        assert path.parents[1] / "README.md" in PAGES, f"{path.parents[1]} has no page"
        for run in read_records(path):
            parts = [run.program, run.published["variant"], str(run.seed)]
            assert run.folder == path.parent / "-".join(filter(None, parts))
        names = {run.folder.name for run in read_records(path)}
        assert {place.name for place in path.parent.iterdir() if place.is_dir()} <= names  # their pictures


def test_json_for_people():
    value = {"numbers": list(range(100)), "short": [1, "a b"], "long": ["a b " * 20] * 2, "nested": {"a": {}}}
    text = compact_json(value)
    assert json.loads(text) == value and all(len(line) <= 120 for line in text.split("\n"))
    assert ' "short": [1, "a b"],\n' in text and text.count("\n") < 15
