"""Comparing and publishing runs: run folders made by hand, whose numbers are worked by hand."""

import csv
import json
import math
import os
import sys
import time
from pathlib import Path

import pytest

from runs import compare, export, publish, suggestions
from runs.compare import __main__ as program
from runs.folder import RESUME_MAY_CHANGE
from runs.groups import NOT_THE_EXPERIMENT, group
from runs.reader import RECORDS, read_records, read_run
from runs.score import RETURN, Score, number

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


def describe(folder, **changes):
    """Change what a run's config.json says."""
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | changes))
    return folder


def rows(*folders):
    head, cells = compare.table(group(read_run(folder) for folder in folders))
    return [dict(zip(head, row, strict=True)) for row in cells]


@pytest.mark.parametrize(
    "seconds, message", [((155, 205), "3 min"), ((100, 105), "2 min"), ((120, 240), "2 min to 4 min")]
)
def test_seeds_that_take_different_times(tmp_path, seconds, message):
    folders = [make_run(tmp_path, seed) for seed in (1, 2)]
    for folder, taken in zip(folders, seconds, strict=True):
        (folder / "clock.jsonl").write_text(json.dumps({"step": 200, "seconds": taken}) + "\n")
    assert rows(*folders)[0]["wall time"] == message


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
    for folder in folders:
        describe(folder, score={"metric": "eval/error", "better": "min", "unit": "%"})
    for folder, error, several in zip(folders, (2.0, 4.0, 6.0), (0.97, 0.97, 0.97), strict=True):
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 200, "test/error": error, "test/error_10": several}) + "\n")
    (one,), (three,) = rows(folders[0]), rows(*folders)
    assert one["test error, %"] == "2.00 (0.970 with 10)"
    assert three["test error, %"] == "4.00 ± 4.97 (0.970 ± 0.000 with 10)"  # 4.302653 * 2 / sqrt(3)
    place = publish.publish(folders[0], tmp_path / "published", "catch")
    head, (row,) = compare.table(group(read_records(place.parent / RECORDS)))
    assert row[head.index("test error, %")] == one["test error, %"]


def test_suggestions_name_near_matches_or_all_names():
    assert suggestions.did_you_mean("Brekout", ["Breakout", "Pong"]) == "did you mean 'Breakout'?"
    assert suggestions.did_you_mean("pong", ["Breakout", "Pong"]) == "did you mean 'Pong'?"  # in any case
    assert suggestions.did_you_mean("x", ["Breakout", "Pong"]) == ""
    assert suggestions.one_of("x", ["Breakout", "Pong"]) == "there are Breakout, Pong"
    assert suggestions.one_of("x", iter(["a1", "b2"]), "choose one of") == "choose one of a1, b2"


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


@pytest.mark.parametrize("kept", ["", "[]", "null", '{"step": 100, "seconds": 2.0}\n', None])
def test_a_finished_run_whose_clock_is_cut_has_no_wall_time_and_says_so(tmp_path, capsys, kept):
    folder = make_run(tmp_path)
    assert read_run(folder).seconds == 4.0 and not read_run(folder).untimed
    (folder / "clock.jsonl").unlink() if kept is None else (folder / "clock.jsonl").write_text(kept)
    (run,) = compare.load([folder])
    assert f"{folder / 'clock.jsonl'} does not reach step 200: no wall time" in capsys.readouterr().err
    assert run.seconds is None and rows(folder)[0]["wall time"] == "–"
    (folder / "finished.json").unlink()
    assert not read_run(folder).untimed, "it goes on, and so does its clock"


def test_runs_still_going_are_marked(tmp_path):
    folder = make_run(tmp_path, finished=False, steps=1000)
    assert read_run(folder).unfinished == "running, at 20%"
    assert rows(folder)[0]["seeds"] == "1 (running, at 20%)"
    long_ago = time.time() - 3600
    os.utime(folder / "metrics.jsonl", (long_ago, long_ago))
    assert read_run(folder).unfinished == "interrupted, at 20%"


def test_a_run_that_wrote_nothing_yet_is_a_row(tmp_path, monkeypatch, capsys):
    waiting = make_run(tmp_path, 1, finished=False)
    for name in ("metrics.jsonl", "clock.jsonl"):
        (waiting / name).unlink()
    (waiting / ".lock").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["Bert"]}')  # of another program
    command(monkeypatch, program.main, tmp_path, "--out", tmp_path / "c.png")
    said = capsys.readouterr()
    assert "1 (interrupted, at 0%)" in said.out and "no picture" in said.err and "model" not in said.err
    make_run(tmp_path, 2)
    make_run(tmp_path, 3, world="Pong", protocol="classic", scores=())
    command(monkeypatch, program.main, tmp_path, "--out", tmp_path / "c.png")
    said = capsys.readouterr()
    assert "3.00 (1 of 2 seeds)" in said.out and (tmp_path / "c.png").read_bytes().startswith(PNG)
    assert "not in the picture: Pong, dqn: no training return (mean of whole games) yet" in said.err


def test_a_name_commands_no_terminal(tmp_path, monkeypatch, capsys):
    evil = "\x1b]0;owned\x07\x1b[2J"
    describe(make_run(tmp_path, name=f"{evil}-1", double=evil, finished=False), world={"name": evil})
    other = describe(make_run(tmp_path, name=f"{evil}-2"), world={"name": evil})
    with open(other / "metrics.jsonl", "ab") as file:
        file.write(b"\xff\n")
    (make_run(tmp_path, name=f"{evil}-3") / "config.json").write_text(evil)
    files = ["--csv", tmp_path / "c.csv", "--json", tmp_path / "c.json", "--out", tmp_path / "c.png"]
    for more in ([], ["--markdown"]):
        command(monkeypatch, program.main, tmp_path, *files, *more)
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err and "\\x1b]0;owned" in said.out and "left out" in said.err
    assert "\x1b" not in (tmp_path / "c.csv").read_text() + (tmp_path / "c.json").read_text()


@pytest.mark.parametrize(
    "about",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        b"\xff\xfe",
        {"program": None},
        {"program": "x"},
        {"program": "x", "config": []},
        {"program": "x", "config": {"seed": "1"}},
        {"program": "x", "config": {"frame_skip": "4"}},
        {"program": "x", "config": {}, "world": "Pong"},
        {"program": "x", "config": {}, "world": {"name": 3}},
        {"program": "x", "config": {}, "world": {"protocol": []}},
        {"program": "x", "config": {}, "score": "eval/return"},
        {"program": "x", "config": {}, "score": {"metric": "eval/x", "better": "most"}},
        {"program": "x", "config": {}, "score": {"metric": 3}},
        {"program": "x", "config": {}, "score": {"metric": "eval/x", "more": 1}},
    ],
)
def test_a_damaged_config_leaves_its_run_out_and_no_other(tmp_path, monkeypatch, capsys, about):
    make_run(tmp_path, 2)
    damaged = make_run(tmp_path, 1) / "config.json"
    if isinstance(about, bytes):
        damaged.write_bytes(about)
    else:
        damaged.write_text(about if isinstance(about, str) else json.dumps(about))
    command(monkeypatch, program.main, tmp_path, "--out", tmp_path / "c.png")
    said = capsys.readouterr()
    assert str(damaged) in said.err and "left out" in said.err and "3.00 (sd 0.25, 10 games)" in said.out


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "line",
    [
        '{"step": 150, "eval/return": NaN, "eval/std": NaN}',
        '{"step": 150, "eval/return": Infinity}',
        '{"step": 150, "eval/return": null}',
        '{"step": 150, "eval/return": "3"}',
        '{"step": 150, "eval/return": true}',
        '{"step": 150, "eval/return": 1' + 400 * "0" + "}",
        '{"step": 150, "eval/return": 1' + 5000 * "0" + "}",
        '{"step": NaN, "eval/return": 9}',
        '{"step": 150, "episode/return": 1.0, "episode/count": "sixty"}',
        '{"step": 150, "eval/x": ' + "[" * 100_000 + "}",
        "null",
        "{}",
        "",
    ],
)
def test_a_line_that_is_no_number_is_as_good_as_not_written(tmp_path, monkeypatch, capsys, line):
    folder = make_run(tmp_path)
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(line + "\n" + text + line + "\n")
    (folder / "clock.jsonl").write_text(line + "\n" + (folder / "clock.jsonl").read_text())
    files = ["--csv", tmp_path / "c.csv", "--json", tmp_path / "c.json", "--out", tmp_path / "c.png"]
    command(monkeypatch, program.main, tmp_path, "--x", "hours", *files)
    assert "3.00 (sd 0.25, 10 games)" in capsys.readouterr().out
    (one,) = json.loads((tmp_path / "c.json").read_text())["groups"]
    assert (one["final"]["values"], one["best"]["values"]) == ([3.0], [3.0])


def test_csv_and_json_hold_every_number(tmp_path, monkeypatch):
    for seed, score in ((1, 1.23456789), (2, 3.0), (3, 5.0)):
        make_run(tmp_path, seed, scores=(score, score / 2), finished=seed < 3)
    make_run(tmp_path, 1, world="Pong", protocol="classic", scores=(), name="waiting")
    files = ["--csv", tmp_path / "new" / "c.csv", "--json", tmp_path / "new" / "c.json"]
    command(monkeypatch, program.main, tmp_path, *files, "--out", tmp_path / "c.png")
    with open(files[1], newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["seed"], line["final"], line["status"]) for line in lines] == [
        ("1", "0.617283945", "finished"),
        ("2", "1.5", "finished"),
        ("3", "2.5", "running"),
        ("1", "", "finished"),
    ]
    assert (lines[0]["metric"], lines[0]["better"], lines[0]["best_step"]) == ("eval/return", "max", "100")
    catch, pong = json.loads(files[3].read_text())["groups"]
    low, high = catch["final"]["interval"]
    mean, half = compare.interval([0.617283945, 1.5, 2.5])
    assert catch["final"]["mean"] == mean and (low, high) == (mean - half, mean + half)
    assert pong["final"] == {"mean": None, "interval": None, "values": [None]}
    assert catch["score"] == {"metric": "eval/return", "better": "max", "unit": ""}


def test_two_seeds_have_no_interval(tmp_path, monkeypatch):
    folders = [make_run(tmp_path, seed, scores=(score,)) for seed, score in ((1, 9.2), (2, 103.4))]
    (row,) = rows(*folders)
    assert row["final evaluation"] == "56.3 (of two: 9.2 and 103.4)"  # Student's interval would be 598.5
    (one,) = json.loads(export.as_json(group(map(read_run, folders))))["groups"]
    assert one["final"] == {"mean": pytest.approx(56.3), "interval": None, "values": [9.2, 103.4]}


@pytest.mark.parametrize("flag", ["--out", "--csv", "--json"])
def test_a_file_that_cannot_be_written_is_named_with_the_way_out(tmp_path, monkeypatch, capsys, flag):
    make_run(tmp_path / "results")
    (tmp_path / "taken").write_text("a file where a folder is expected")
    places = {"--out": tmp_path / "c.png", "--csv": tmp_path / "c.csv", "--json": tmp_path / "c.json"}
    places[flag] = tmp_path / "taken" / "x.png"
    with pytest.raises(SystemExit, match=f"cannot write .*taken.x.png .*: choose another place with {flag}"):
        command(monkeypatch, program.main, tmp_path / "results", *(word for pair in places.items() for word in pair))
    assert "3.00" in capsys.readouterr().out  # the table, and the other two files
    assert all(path.exists() for other, path in places.items() if other != flag)
    if flag == "--out":
        with pytest.raises(SystemExit, match="no.such.format"):
            command(monkeypatch, program.main, tmp_path / "results", flag, tmp_path / "x.no.such.format")


def test_scores_by_hand():
    error, nats = Score("eval/error", "min", "%"), Score("eval/nats", "min", "nats")
    assert RETURN.improves(2.0, 2.0) and RETURN.improves(-5.0, RETURN.worst) and not RETURN.improves(1.0, 2.0)
    assert error.improves(2.0, 2.0) and error.improves(50.0, error.worst) and not error.improves(3.0, 2.0)
    for value in (math.nan, math.inf, -math.inf):
        assert not RETURN.improves(value, RETURN.worst) and not error.improves(value, error.worst)
        assert RETURN.improves(1.0, math.nan)  # nothing that is not a number stays the best
    assert (RETURN.best([1.0, 3.0]), error.best([1.0, 3.0])) == (3.0, 1.0)
    message = [error.format(6.8), nats.format(2.4137), Score("eval/miou").format(0.4127), RETURN.format(17.26)]
    assert message == ["6.80%", "2.41 nats", "0.413", "17.3"] and nats.name == "nats"
    assert [number(value) for value in (1e300, -2e12, 1234.5, 0.001)] == ["1e+300", "-2e+12", "1,234", "0.001"]
    for wrong in (("eval/x", "most"), ("", "max")):
        with pytest.raises(ValueError, match="'max' or 'min' is better"):
            Score(*wrong)


def test_a_held_lock_marks_a_living_run(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    folder = make_run(tmp_path, finished=False)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_run(folder).status == "running"
    assert read_run(folder).status == "interrupted"


def test_command_prints_table_and_writes_picture(tmp_path, monkeypatch, capsys):
    make_run(tmp_path, 1)
    make_run(tmp_path, 2)
    out = tmp_path / "c.png"
    command(monkeypatch, program.main, tmp_path, "--out", out, "--markdown", "--metric", "loss/td")
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| world | protocol |") and table[0].endswith("| last loss/td |")
    assert table[2].startswith("| Catch | – | dqn | 1, 2 | 3.00 (of two: 3.00 and 3.00) |")
    assert table[2].endswith("| 0.500 (of two: 0.500 and 0.500) |")
    assert out.read_bytes().startswith(PNG)
    command(monkeypatch, program.main, tmp_path, tmp_path / "Catch", out, "--out", out)  # each run once
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
        command(monkeypatch, program.main, tmp_path / "results")
    with pytest.raises(SystemExit, match="no folder .*did you mean '.*/results'"):
        command(monkeypatch, program.main, tmp_path / "result")
    folder = make_run(tmp_path / "results")
    with pytest.raises(SystemExit, match="unknown metric 'eval/retrun': did you mean 'eval/return'"):
        command(monkeypatch, program.main, folder, "--metric", "eval/retrun")
    make_run(tmp_path / "more", 1)
    with open(make_run(tmp_path / "more", 2) / "config.json", "a") as file:
        file.write("}")
    command(monkeypatch, program.main, tmp_path, "--out", tmp_path / "c.png")
    said = capsys.readouterr().err
    assert "left out: " in said and "seed 1 counts twice" in said


def test_what_changes_no_result_makes_no_other_experiment():
    scoring = {flag for flag in RESUME_MAY_CHANGE if flag.startswith(("evaluate_", "test_"))} | {"views"}
    assert set(RESUME_MAY_CHANGE) - {"name"} - scoring <= set(NOT_THE_EXPERIMENT)
