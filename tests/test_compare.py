"""Comparing and publishing runs: run folders made by hand, whose numbers are worked by hand."""

import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runs import compare, curves, hints, publish
from runs.curves import common, distinct, draw, running_mean
from runs.folder import OUTWARD
from runs.record import RECENT, SAME, group, read_run

ROOT = Path(__file__).resolve().parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


def make_run(root, seed=1, world="Catch", protocol=None, name=None, scores=(1.0, 3.0), finished=True, **flags):
    """A run of 100 steps an evaluation, at 50 steps/s; its training return is half the evaluation's."""
    folder = root / world / (name or f"dqn-{seed}")
    folder.mkdir(parents=True)
    config = {"seed": seed, "env": world, "steps": 100 * len(scores), "name": name, "double": False} | flags
    about = {
        "program": "agents.dqn",
        "config": config,
        "world": {"name": world, "protocol": protocol},
        "command": f"python -m agents.dqn --env {world} --seed {seed}",
        "hardware": {"device": "cpu", "processor": "Abacus", "cores": 2},
        "commit": "0123456789ab",
    }
    (folder / "config.json").write_text(json.dumps(about))
    metrics, clock = [], []
    for step, score in zip(range(100, 100 * len(scores) + 1, 100), scores, strict=True):
        metrics.append({"step": step, "episode/return": score / 2, "episode/count": 60, "loss/td": 0.5})
        metrics.append({"step": step, "eval/return": score, "eval/std": 0.25, "eval/games": 10})
        clock.append({"step": step, "seconds": step / 50})
    for file, lines in (("metrics.jsonl", metrics), ("clock.jsonl", clock)):
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (folder / "finished.json").write_text("{}")
    return folder


def rows(*folders):
    head, cells = compare.table(group(read_run(folder) for folder in folders))
    return [dict(zip(head, row, strict=True)) for row in cells]


@pytest.mark.parametrize(
    "seconds, told", [((155, 205), "3 min"), ((100, 105), "2 min"), ((120, 240), "2 min to 4 min")]
)
def test_seeds_that_take_different_times(tmp_path, seconds, told):
    folders = [make_run(tmp_path, seed) for seed in (1, 2)]
    for folder, taken in zip(folders, seconds, strict=True):
        (folder / "clock.jsonl").write_text(json.dumps({"step": 200, "seconds": taken}) + "\n")
    assert rows(*folders)[0]["wall time"] == told


def command(monkeypatch, main, *arguments):
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    main()


def test_interval_by_hand():
    # Mean 4; deviations -2, 0, 2: s = 2; Student's t with 2 degrees of freedom at 97.5% is 4.302653.
    mean, half = compare.interval([2.0, 4.0, 6.0])
    assert mean == 4.0
    assert half == pytest.approx(4.302653 * 2 / math.sqrt(3), rel=1e-6)


def test_table_over_seeds_by_hand(tmp_path):
    (row,) = rows(*(make_run(tmp_path, seed, scores=(8.0, final)) for seed, final in ((1, 2.0), (2, 4.0), (3, 6.0))))
    assert row["seeds"] == "1, 2, 3"
    assert row["final evaluation"] == "4.00 ± 4.97"  # 4.302653 x 2 / sqrt(3)
    assert row["best evaluation"] == "8.00 ± 0.00"
    # Two lines of 60 games each make the last hundred: (4 + 1)/2, (4 + 2)/2, (4 + 3)/2 are 2.5, 3, 3.5.
    assert row["last 100 training games"] == "3.00 ± 1.24"  # 4.302653 x 0.5 / sqrt(3)
    assert (row["steps"], row["wall time"], row["steps/s"]) == ("200", "4 s", "50")


def test_table_of_one_seed_shows_the_spread_over_games(tmp_path):
    (row,) = rows(make_run(tmp_path, scores=(3.0, 1.0)))
    assert row["final evaluation"] == "1.00 (sd 0.25, 10 games)"
    assert row["best evaluation"] == "3.00 (sd 0.25, 10 games)"


def test_errors_of_a_test_by_hand(tmp_path):
    folders = [make_run(tmp_path, seed) for seed in (1, 2, 3)]
    assert "test error, %" not in rows(*folders)[0]
    for folder, error, several in zip(folders, (2.0, 4.0, 6.0), (0.97, 0.97, 0.97), strict=True):
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 200, "test/error": error, "test/error_10": several}) + "\n")
    (one,), (three,) = rows(folders[0]), rows(*folders)
    assert one["test error, %"] == "2.00 (0.970 with 10)"
    assert three["test error, %"] == "4.00 ± 4.97 (0.970 ± 0.000 with 10)"  # 4.302653 * 2 / sqrt(3)
    publish.publish(folders[0], tmp_path / "published")
    (record,) = rows(*(path.parent for path in (tmp_path / "published").rglob("result.json")))
    assert record["test error, %"] == one["test error, %"]


def test_of_image_sets_the_error_is_drawn(tmp_path, monkeypatch):
    games, images = make_run(tmp_path), make_run(tmp_path, world="MNIST", scores=(90.0, 99.0))
    with open(images / "metrics.jsonl", "a") as file:
        file.writelines(
            json.dumps({"step": step, "eval/return": 100 - error, "eval/error": error}) + "\n"
            for step, error in ((100, 10.0), (200, 1.0))
        )
    played, named = (rows(folder)[0][f"last {RECENT} training games"] for folder in (games, images))
    assert played != "–" and named == "–"
    drawn = {}
    finish = curves._finish_panel
    monkeypatch.setattr(
        curves, "_finish_panel", lambda panel, *args: (drawn.update({args[0]: panel}), finish(panel, *args))
    )
    draw(group(map(read_run, (games, images))), tmp_path / "curves.png")
    assert drawn["MNIST"].lines[0].get_ydata().tolist() == [10, 1] and drawn["MNIST"].get_xlabel() == "images shown"
    assert drawn["Catch"].lines[0].get_ydata().tolist() == [1, 3] and drawn["Catch"].get_yscale() == "linear"


def test_hints_name_what_is_near_or_all_there_is():
    assert hints.near("Brekout", ["Breakout", "Pong"]) == "did you mean 'Breakout'?"
    assert hints.near("pong", ["Breakout", "Pong"]) == "did you mean 'Pong'?"  # in any case
    assert hints.near("x", ["Breakout", "Pong"]) == ""
    assert hints.one_of("x", ["Breakout", "Pong"]) == "there are Breakout, Pong"
    assert hints.one_of("x", iter(["a1", "b2"]), "choose one of") == "choose one of a1, b2"


def test_protocols_and_configs_are_never_averaged_together(tmp_path):
    found = rows(
        make_run(tmp_path, 1, "Pong", "classic"),
        make_run(tmp_path, 1, "Pong", "sticky", name="sticky-1"),
        make_run(tmp_path, 2, "Pong", "classic"),
        make_run(tmp_path, 1, "Pong", "classic", name="other-1", double=True),
        make_run(tmp_path, 1, "Catch", device="cuda", wandb="offline"),
        make_run(tmp_path, 2, "Catch", device="cpu", wandb="online"),  # no other experiment
    )
    assert [(row["world"], row["protocol"], row["program"], row["seeds"]) for row in found] == [
        ("Catch", "–", "dqn", "1, 2"),
        ("Pong", "classic", "dqn double=False", "1, 2"),
        ("Pong", "classic", "dqn double=True, name=other", "1"),
        ("Pong", "sticky", "dqn", "1"),
    ]


def test_named_seeds_are_one_group_and_other_names_are_not(tmp_path):
    found = rows(*(make_run(tmp_path, seed, name=f"{name}-{seed}") for name in ("old", "new") for seed in (1, 2)))
    assert [(row["program"], row["seeds"]) for row in found] == [
        ("dqn name=new", "1, 2"),
        ("dqn name=old", "1, 2"),
    ]


def test_a_flag_that_is_off_is_as_good_as_unknown(tmp_path):
    folders = [make_run(tmp_path, 1), make_run(tmp_path, 2, later=False), make_run(tmp_path, 3, later=[1])]
    assert [(row["program"], row["seeds"]) for row in rows(*folders)] == [
        ("dqn later=False", "1, 2"),
        ("dqn later=[1]", "3"),
    ]
    folders = [make_run(tmp_path, 4), make_run(tmp_path, 5, width=1.0), make_run(tmp_path, 6, width=0.5)]
    assert [row["seeds"] for row in rows(*folders)] == ["6", "4, 5"]


def test_the_programs_own_choice_is_not_off(tmp_path):
    folders = [make_run(tmp_path, 1, slippery=None), make_run(tmp_path, 2, slippery=False)]
    assert [row["seeds"] for row in rows(*folders)] == ["1", "2"]


def test_half_written_last_line_is_skipped_and_damage_is_counted(tmp_path):
    folder = make_run(tmp_path)
    lines = read_run(folder).lines
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 300, "eval/ret')
    assert (read_run(folder).lines, read_run(folder).unreadable) == (lines, 0)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('\n[1]\n{"step": 400, "eval/return": NaN}\n')
    run = read_run(folder)
    assert (run.unreadable, run.step, run.final["step"]) == (2, 400, 200)


def test_runs_still_going_are_marked(tmp_path):
    folder = make_run(tmp_path, finished=False, steps=1000)
    assert read_run(folder).unfinished == "running, at 20%"
    assert rows(folder)[0]["seeds"] == "1 (running, at 20%)"
    long_ago = time.time() - 3600
    os.utime(folder / "metrics.jsonl", (long_ago, long_ago))
    assert read_run(folder).unfinished == "interrupted, at 20%"


def test_a_held_lock_tells_a_living_run(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = make_run(tmp_path, finished=False)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_run(folder).status == "running"
    assert read_run(folder).status == "interrupted"


def test_labels_of_one_panel_look_different_and_the_same_in_the_next():
    many = [("Pong", str(n)) for n in range(12)]
    looks = distinct([("Catch", "dqn"), ("Catch", "iqn"), ("Hopper", "ppo"), *many, ("Pong", "ppo"), ("Pong", "dqn")])
    here = [looks[label] for _, label in many] + [looks["ppo"], looks["dqn"]]
    assert sorted(here) == list(range(14)) and looks["iqn"] == 1


def test_curves_along_steps_frames_and_hours(tmp_path):
    run = read_run(make_run(tmp_path, world="Pong", protocol="classic", scores=(1.0, 3.0)))
    assert [part.tolist() for part in run.curve("eval/return")] == [[100, 200], [1, 3]]
    assert run.curve("eval/return", "frames")[0].tolist() == [400, 800]
    assert run.curve("eval/return", "hours")[0].tolist() == [2 / 3600, 4 / 3600]
    run = read_run(make_run(tmp_path, world="Pong", protocol="classic", name="quick", frame_skip=2))
    assert run.curve("eval/return", "frames")[0].tolist() == [200, 400]
    run = read_run(make_run(tmp_path, world="Catch", frame_skip=4))  # every config has the flag
    assert run.curve("eval/return", "frames")[0].tolist() == [100, 200]


def test_interpolation_and_running_mean_by_hand():
    grid, values = common(
        [(np.array([0.0, 10, 20]), np.array([0.0, 10, 40])), (np.array([5.0, 15]), np.array([1.0, 3]))]
    )
    assert grid.tolist() == [5, 10, 15]  # where both are known
    assert values.tolist() == [[5, 10, 25], [1, 2, 3]]
    assert running_mean(np.array([1.0, 2, 6, 7]), 1).tolist() == [1, 2, 6, 7]
    assert running_mean(np.array([1.0, 2, 6, 7]), 3).tolist() == [1.5, 3, 5, 6.5]


@pytest.mark.parametrize("x", ["steps", "frames", "hours"])
def test_picture_is_written(tmp_path, x):
    runs = [make_run(tmp_path, seed, scores=(1.0, 2.0, 3.0)[: seed + 1]) for seed in (1, 2)]
    runs += [
        make_run(tmp_path, 1, "Pong", "classic"),
        make_run(tmp_path, 1, "Pong", "sticky", name="sticky-1"),
    ]
    out = tmp_path / "new" / "curves.png"
    draw(group(map(read_run, runs)), out, x=x, smooth=3)
    assert out.read_bytes().startswith(PNG)
    draw(group(map(read_run, runs)), tmp_path / "rough.png", x=x)
    assert (tmp_path / "rough.png").read_bytes() != out.read_bytes()


def test_command_prints_table_and_writes_picture(tmp_path, monkeypatch, capsys):
    make_run(tmp_path, 1)
    make_run(tmp_path, 2)
    out = tmp_path / "c.png"
    command(monkeypatch, compare.main, tmp_path, "--out", out, "--markdown", "--metric", "loss/td")
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| world | protocol |") and table[0].endswith("| last loss/td |")
    assert table[2].startswith("| Catch | – | dqn | 1, 2 | 3.00 ± 0.00 |") and table[2].endswith("| 0.500 ± 0.000 |")
    assert out.read_bytes().startswith(PNG)
    command(monkeypatch, compare.main, tmp_path, tmp_path / "Catch", out, "--out", out)  # each run once
    head, row = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "world" and "1, 2 " in row and "1, 1" not in row


@pytest.mark.parametrize("columns", ["60", "200"])
def test_terminal_table_loses_nothing(tmp_path, monkeypatch, capsys, columns):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes what it writes to for a terminal
    monkeypatch.setenv("COLUMNS", columns)
    folders = [make_run(tmp_path, seed, name=f"run-{seed}", sizes=[seed]) for seed in (1, 2)]
    compare.show(*compare.table(group(map(read_run, folders))))
    shown = capsys.readouterr().out
    assert "\x1b[" in shown and all(cell in shown for cell in ("Catch", "sizes=[1]", "sizes=[2]", "3.00", "200"))


def test_errors_name_the_way_out(tmp_path, monkeypatch, capsys):
    (tmp_path / "results").mkdir()
    with pytest.raises(SystemExit, match="no runs in .*results.*python -m agents.dqn"):
        command(monkeypatch, compare.main, tmp_path / "results")
    with pytest.raises(SystemExit, match="no folder .*did you mean '.*/results'"):
        command(monkeypatch, compare.main, tmp_path / "result")
    folder = make_run(tmp_path / "results")
    with pytest.raises(SystemExit, match="unknown metric 'eval/retrun': did you mean 'eval/return'"):
        command(monkeypatch, compare.main, folder, "--metric", "eval/retrun")
    make_run(tmp_path / "more", 1)
    with open(make_run(tmp_path / "more", 2) / "config.json", "a") as file:
        file.write("}")
    command(monkeypatch, compare.main, tmp_path, "--out", tmp_path / "c.png")
    said = capsys.readouterr().err
    assert "left out: " in said and "seed 1 counts twice" in said


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


def test_what_changes_no_result_makes_no_other_experiment():
    scoring = {flag for flag in OUTWARD if flag.startswith(("evaluate_", "test_"))} | {"views"}
    assert set(OUTWARD) - {"name"} - scoring <= set(SAME)


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
    assert "| Catch | – | dqn | 1, 2 | 3.00 ± 0.00 |" in between
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
