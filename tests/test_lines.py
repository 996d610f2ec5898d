"""Lines of metrics as columns: the same numbers as line by line, and the scale of a comparison."""

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runs import lines
from runs.lines import Lines, parse

ROOT = Path(__file__).resolve().parent.parent
ROWS = [
    {"step": 1, "eval/return": 1.5, "eval/games": 10},
    {"step": 2, "loss/td": 0.25},
    {"step": 3, "eval/return": 0.1 + 0.2, "eval/games": 10},
    {"step": 3, "loss/td": 5},
]


def text(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_lines_are_those_that_were_written():
    found, unreadable = parse(text(ROWS))
    assert found == ROWS and list(found) == ROWS and unreadable == 0 and len(found) == 4
    kinds = [[(word, type(value)) for word, value in line.items()] for line in found]
    assert kinds == [[(word, type(value)) for word, value in line.items()] for line in ROWS]  # and their order
    assert (
        found[-1] == ROWS[-1] and found[1:3] == ROWS[1:3] and found.words == {"eval/return", "eval/games", "loss/td"}
    )
    assert found.last_step == 3 and Lines().last_step == 0 and not Lines() and Lines() == []
    with pytest.raises(IndexError):
        found[4]


def test_columns_by_hand():
    found, _ = parse(text(ROWS))
    places, values = found.column("loss/td")
    assert places.tolist() == [1, 3] and values.tolist() == [0.25, 5.0] and values.dtype == float
    assert [each.tolist() for each in found.column("none")] == [[], []]
    rows = [{"step": step, "x": value} for step, value in ((2, 1.0), (1, 2.0), (2, 3.0))]
    steps, values = Lines(rows).curve("x")
    assert steps.tolist() == [1, 2] and values.tolist() == [2.0, 3.0]  # of a step written twice the last


@pytest.mark.parametrize(
    "more",
    [
        *(b"", b'{"step": 4, "x"', b'{"step": 4, "x": 1}', b"\n\n", b"[1]\n", b'{"x": 1}\n', b"\xff\n"),
        *(b'{"step": 4, "x": ' + value + b"}\n" for value in (b"null", b"NaN", b'"1"', b"true", b"1e999", b"[]")),
        *(b'{"step": ' + value + b"}\n" for value in (b"true", b'"1"', b"null", b"Infinity")),
        *(b'{"step": 4, "x": 1' + zeros * b"0" + b"}\n" for zeros in (18, 19, 400)),
        *(
            b'{"step": 4}, {"step": 5}\n',
            b'{"step": 4, "x": 1}\r\n',
            b'{"step": 4,\n"x": 1}\n{"step": 5}, {"step": 6}\n',
        ),
    ],
)
def test_fast_and_slow_reading_agree(monkeypatch, more):
    data = text(ROWS) + more
    fast, unreadable = parse(data)
    monkeypatch.setattr(lines, "_are_lines", lambda rows: False)  # nothing then is read at once
    monkeypatch.setattr(lines, "_alike", lambda data: None)
    slow, also = parse(data)
    assert list(fast) == list(slow) and unreadable == also
    assert [list(map(type, row.values())) for row in fast] == [list(map(type, row.values())) for row in slow]


ALIKE = [{"step": 1, "eval/return": 0.5}, {"step": 2, "eval/return": -3.25}, {"step": 30, "eval/return": 1e-4}]


@pytest.mark.parametrize(
    "change",
    [
        *((b"}", b"}"), (b"0.5", b"7"), (b"0.5", b"1e-5"), (b"-3.25", b"-0.0"), (b"0.5", b"1" + 19 * b"0")),
        *(
            (b'"st', b'"s7t'),
            (b"step", b"step5"),
            (b'{"s', b'{5"s'),
            (b"}\n", b"}5\n"),
            (b"1,", b"1 2,"),
            (b", ", b",5 "),
        ),
        *((b": -3", b":5 -3"), (b": -3", b":- 3"), (b"0.5", b""), (b"2,", b","), (b"-3.25", b"--3.25")),
        *((b"-3.25", b"NaN"), (b"-3.25", b"true"), (b'"eval/return": 0.5', b'"step": 5'), (b"-3.25", b"03")),
        *((b"return", b"retu"), (b"}\n", b"} \n"), (b", ", b","), (b"30", b"30, 31"), (b"30", b"3.5")),
    ],
)
@pytest.mark.parametrize("count", [1, -1])
def test_lines_of_the_same_words_are_read_as_one_by_one(monkeypatch, change, count):
    """Whatever is changed in the first line, or in all of them."""
    data = text(ALIKE[:2]).replace(*change, count) + text(ALIKE[2:]).replace(b"0.0001", b"0.25")
    fast, unreadable = parse(data)
    monkeypatch.setattr(lines, "_alike", lambda data: None)
    slow, also = parse(data)
    assert list(fast) == list(slow) and unreadable == also
    assert [list(map(type, row.values())) for row in fast] == [list(map(type, row.values())) for row in slow]
    assert change[0] != change[1] or lines._count_alike(data, ["step", "eval/return"], lines.DIGITS) == 3


def test_a_clock_is_read_when_it_is_needed(tmp_path):
    rows = [{"step": step, "seconds": step / 4} for step in (1, 2, 3)]
    path = tmp_path / "clock.jsonl"
    path.write_bytes(text(rows))
    later, unreadable = lines.parse_later(path, path.read_bytes(), ("step", "seconds"))
    with open(path, "ab") as file:
        file.write(text([{"step": 4, "seconds": 1.0}]))  # since then
    assert isinstance(later, lines.Later) and unreadable == 0 and not later._read
    assert len(later) == 3 and later[-1] == rows[-1] and later.last_step == 3 and not later._read
    assert later == rows and later.curve("seconds")[1].tolist() == [0.25, 0.5, 0.75] and later.words == {"seconds"}


@pytest.mark.parametrize("more", [b"x\n", b'{"step": 5}\n', b'{"step": 5, "seconds": null}\n', b'{"step": 5, "sec'])
def test_a_damaged_clock_is_read_at_once(tmp_path, more):
    data = text([{"step": 1, "seconds": 2.0}]) + more
    assert lines.parse_later(tmp_path / "clock.jsonl", data, ("step", "seconds")) == lines.parse(data)
    assert lines.parse_later(tmp_path / "clock.jsonl", b"", ("step", "seconds")) == (Lines(), 0)


@pytest.mark.slow
def test_a_thousand_runs_of_ten_thousand_points(tmp_path):
    """The whole command with its pictures: under 1 GB, and under 10 s of a core that no other program uses."""
    random, steps = np.random.default_rng(0), range(100, 1_000_001, 100)
    clock = text([{"step": step, "seconds": step / 500} for step in steps])
    curves = [random.normal(0.001, 1, 10_000).cumsum().tolist() for _ in range(20)]
    texts = [
        text({"step": at, "eval/return": value} for at, value in zip(steps, each, strict=True)) for each in curves
    ]
    for number in range(1000):
        world, agent, seed = f"World-{number % 20}", f"agent{number // 20 % 10}", number // 200
        folder = tmp_path / "results" / world / f"{agent}-{seed}"
        folder.mkdir(parents=True)
        about = {"program": f"agents.{agent}", "world": {"name": world}, "config": {"seed": seed, "steps": 1_000_000}}
        (folder / "config.json").write_text(json.dumps(about))
        metrics = texts[random.integers(20)]
        (folder / "metrics.jsonl").write_bytes(metrics)
        (folder / "clock.jsonl").write_bytes(clock)
        written = {"metrics.jsonl": metrics, "clock.jsonl": clock}
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in written.items()}
        (folder / "finished.json").write_text(json.dumps(sums))
    command = [sys.executable, "-m", "runs.compare", str(tmp_path / "results"), "--out", str(tmp_path / "c.png")]
    begin, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime  # of the processor: others use it too
    print(f"{seconds:.1f} s of a core, {time.perf_counter() - begin:.1f} s, {after.ru_maxrss / 1e6:.2f} GB")
    assert done.returncode == 0 and done.stdout.count("agent9") > 20, done.stderr
    assert after.ru_maxrss / 1e6 < 1
    if os.getloadavg()[0] < os.cpu_count():  # a core that is shared with others takes up to twice as long
        assert seconds < 10
