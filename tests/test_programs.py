"""What programs there are, and the command that runs any of them by its name."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runs import programs

ROOT = Path(__file__).resolve().parents[1]
KNOWN = {
    "agents": {"dqn", "ppo", "watch", "tabular", "rainbow", "recurrent_attention.dram"},
    "vision": {"backbones", "classification", "data", "classification.search"},
    "runs": {"compare", "publish"},
}


@pytest.mark.parametrize("room", programs.ROOMS)
def test_a_room_lists_what_is_in_it(room):
    found = programs.programs(room)
    assert KNOWN.get(room, set()) <= found.keys() and "programs" not in found
    lines = programs.listed((room,), f"python -m {room}").splitlines()
    assert len(lines) > 1 and all(len(line) <= 80 for line in lines[1:])
    assert all(words and not words.startswith("no docstring") for words in (found or programs.modules(room)).values())


def test_the_list_of_all_rooms_has_every_program_once():
    text = programs.listed(programs.ROOMS, "saccade")
    names = re.findall(r"^  ([\w.]+) ", text, re.MULTILINE)
    assert len(names) == len(set(names)) == sum(len(programs.programs(room)) for room in programs.ROOMS)


def test_every_name_resolves_and_an_unknown_one_has_near_matches():
    for room in programs.ROOMS:
        for name in programs.programs(room):
            assert programs.named(name, programs.ROOMS) == programs.named(f"{room}.{name}", programs.ROOMS)
    for name, match in {
        "dqm": "unknown program 'dqm': did you mean 'dqn'",
        "agents.dqm": "unknown program 'agents.dqm': did you mean 'agents.dqn'",
        "vision.clasification": "did you mean 'vision.classification'",
        "zzzzzz": "unknown program 'zzzzzz': there are a2c",
    }.items():
        with pytest.raises(ValueError, match=match):
            programs.named(name, programs.ROOMS)
    with pytest.raises(ValueError, match="unknown program 'classification'"):
        programs.named("classification", ("agents",))


def test_a_name_that_two_rooms_have_is_asked_for(monkeypatch):
    monkeypatch.setattr(programs, "programs", lambda package: {"same": "x"})
    with pytest.raises(ValueError, match="'same' may be agents.same or vision.same"):
        programs.named("same", ("agents", "vision"))


def test_the_command_runs_a_program_with_its_flags(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "__init__.py").write_text("raise SystemExit('a folder of the user')")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["saccade", "runs.compare", "--help"])
    with pytest.raises(SystemExit) as stopped:
        programs.saccade()
    assert stopped.value.code == 0 and "python -m runs.compare" in capsys.readouterr().out
    assert sys.path[-1] == str(tmp_path)
    monkeypatch.setattr(sys, "argv", ["saccade", "compar\x1b[31m"])
    with pytest.raises(SystemExit, match="2"):
        programs.saccade()
    said = capsys.readouterr().err
    assert "did you mean 'compare'" in said and "\x1b" not in said
    monkeypatch.setattr(sys, "argv", ["saccade"])
    programs.saccade()
    assert "agents:" in capsys.readouterr().out


def test_it_is_installed_and_a_room_is_a_program():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"saccade": "runs.programs:saccade"}
    listed = subprocess.run([sys.executable, "-m", "runs"], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0 and "  compare " in listed.stdout
    assert all((ROOT / room / "__main__.py").exists() for room in programs.ROOMS)
