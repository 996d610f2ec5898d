"""Flags: whole numbers as people write them, --help in groups, the command's name in every usage line."""

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from agents import dqn, hard_attention
from agents.recurrent_attention import ram
from agents.tabular import q_learning as tabular
from runs import Options, flags, launch
from runs.flag_types import Count
from vision.classification import train as classification

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e6", 10**6), ("1_000_000", 10**6), ("10k", 10_000), ("10M", 10**7), ("1.5e3", 1_500), ("0.01M", 10_000)]
    + [("-1", -1), ("0", 0), ("007", 7), ("1G", 10**9), ("4611686018427387904", 2**62)],
)
def test_whole_numbers_as_people_write_them(text, value):
    assert flags.whole(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [("1.5", "not a whole number"), ("1e-3", "not a whole number"), ("ten", "write 1000000"), ("", "write 1000000")]
    + [("k", "write 1000000"), ("nan", "not a whole number"), ("inf", "not a whole number"), ("1kk", "write 1000000")]
    + [("99999999999999999999", "too large"), ("1e400000000", "too large"), ("9e18k", "too large")],
)
def test_other_texts_are_refused_in_a_sentence(text, message):
    with pytest.raises(ValueError, match=message):
        flags.whole(text)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Every kind of whole number that a config has."""

    GROUP: ClassVar[str] = "world"

    one: Count = 1
    some: tuple[int, ...] = (1,)
    perhaps: int | None = None
    share: float = 0.5
    evaluate_every: int = 5  # 10k steps


def test_every_kind_of_flag_takes_them():
    given = "--one 1e3 --some 1k 2_0 --perhaps 2M --share 1e-3".split()
    assert flags.parse(Numbers, "tests.numbers", args=given) == Numbers(1_000, (1_000, 20), 2_000_000, 1e-3)
    assert flags.parse(Numbers, "tests.numbers", args=["--perhaps", "None"]) == Numbers()


def test_a_seed_beyond_64_bits_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dqn", "--env", "Catch", "--seed", "99999999999999999999"])
    with pytest.raises(SystemExit) as end:
        launch(None, dqn.Config, dqn.recipe, "agents.dqn", None)
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert end.value.code == 2 and "'99999999999999999999' is too large" in said and "Traceback" not in said


PAGES = {dqn: "world backbone learning evaluation run", classification: "data backbone learning evaluation run"}


@pytest.mark.parametrize("program", PAGES, ids=lambda program: program.__name__)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_help_is_in_groups_and_loses_no_flag(program, encoding, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit) as end:
        flags.parse(program.Config, "agents.any", "What it is.", args=["--help"])
    out.seek(0)
    page = out.read()
    lines = [line.strip("│╭╰─╮╯ ") for line in page.splitlines()]
    assert end.value.code == 0 and lines[0].startswith("usage: python -m agents.any")
    assert [line for line in lines if line in PAGES[program].split()] == PAGES[program].split()
    assert all(len(line) <= 80 for line in page.splitlines())
    named = [line.split()[0].rstrip(",") for line in lines if line.startswith("--") and line.strip("-")]
    assert sorted(named) == sorted(f"--{each.name.replace('_', '-')}" for each in dataclasses.fields(program.Config))


@pytest.mark.parametrize(
    ("config", "name", "heading"),
    [
        (dqn.Config, "env", "world"),
        (hard_attention.Config, "stack", "world"),  # declared again there, and still in the world's group
        (dqn.Config, "backbone", "backbone"),
        (dqn.Config, "learn_start", "learning"),
        (dqn.Config, "evaluate_epsilon", "evaluation"),
        (dqn.Config, "film_seconds", "evaluation"),
        (tabular.Config, "threads", "run"),
        (ram.Config, "log_every", "run"),
        (Options, "wandb", "run"),
    ],
)
def test_headings(config, name, heading):
    assert flags.group(config, name) == heading


QUICKLY_ASKED = (
    "vision.backbones",
    "runs.publish",
    "agents.studies.representation.probe",
)  # of the others, each start takes seconds


def programs():
    """Every module that can be called, as it is called."""
    for room in ("agents", "vision", "runs", "envs"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if '__name__ == "__main__"' in path.read_text():
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


@pytest.mark.parametrize(
    "program",
    [pytest.param(each, marks=() if each in QUICKLY_ASKED else pytest.mark.slow) for each in programs()],
)
def test_usage_names_the_command(program):
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python -m {program} "), done.stdout + done.stderr
