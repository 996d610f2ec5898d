"""Watching a run: the games' result is shown while they are played, and is not lost to what comes after them."""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from gymnasium.error import DependencyNotInstalled

from agents import dqn, loading, watch
from agents.recurrent_attention import ram
from envs.gymnasium_world import GymnasiumWorld
from runs import RunError, files


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of dqn on Catch that was saved after a few steps."""
    config = dqn.recipe(dqn.Config(env="Catch"))
    changes = dict(folder=tmp_path_factory.mktemp("runs"), wandb="disabled", steps=400, learn_start=200)
    dqn.train(dataclasses.replace(config, evaluate_every=0, **changes))
    return changes["folder"] / "Catch" / "dqn-1"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def config(folder, **changes):
    return watch.Config(folder, **{"games": 3, "device": "cpu", "film_seconds": 0.2} | changes)


def test_games_are_counted_while_they_are_played(run, capsys, monkeypatch):
    monkeypatch.setattr("runs.progress.PLAIN_EVERY", 0.0)
    watch.main(config(run, film=False, games=20))  # in 16 worlds, whose games take equally long
    said = capsys.readouterr()
    assert "0/20 games" in said.err and "16/20 games" in said.err and "so far" in said.err and "steps" in said.err
    assert said.out.splitlines()[-1].startswith("return ")


@pytest.mark.parametrize(
    "error", [DependencyNotInstalled("pygame is not installed"), RuntimeError("no display"), OSError("codec")]
)
def test_without_a_film_the_result_stands(run, capsys, monkeypatch, error):
    def render(world):
        raise error

    monkeypatch.setattr(GymnasiumWorld, "render", render)
    watch.main(config(run))
    said = capsys.readouterr()
    assert "return " in said.out and said.err.count("no film") == 1 and str(error) in said.err
    assert len(json.loads((run / "watch.jsonl").read_text())["returns"]) == 3


def test_without_its_codec_the_result_stands(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio.v3", None)  # import then raises
    watch.main(config(run))
    said = capsys.readouterr()
    assert "return " in said.out and "no film" in said.err


def test_a_folder_that_takes_nothing_is_said_once(run, capsys, tmp_path):
    (run / "watch.jsonl").mkdir()
    watch.main(config(run))
    said = capsys.readouterr()
    assert "return " in said.out and said.err.count("\nno ") + said.err.startswith("no ") == 1
    assert "no line in watch.jsonl and no film" in said.err and "--out FOLDER" in said.err
    watch.main(config(run, out=tmp_path / "new" / "mine"))
    (line,) = map(json.loads, (tmp_path / "new" / "mine" / "watch.jsonl").read_text().splitlines())
    assert line["run"] == str(run) and list((tmp_path / "new" / "mine" / "videos").glob("watch-last-*.mp4"))
    assert not (run / "videos").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(run, capsys):
    run.chmod(0o500)
    try:
        watch.main(config(run))
    finally:
        run.chmod(0o700)
    said = capsys.readouterr()
    assert "return " in said.out and "Permission denied" in said.err


def test_a_film_that_has_no_place_is_no_loss(run, capsys):
    (run / "videos").write_text("a file where a folder is expected")
    watch.main(config(run))
    said = capsys.readouterr()
    assert "return " in said.out and "no film" in said.err and (run / "watch.jsonl").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the world broke")])
def test_truncated_games_count_their_scores_so_far(run, capsys, monkeypatch, error):
    step, steps = GymnasiumWorld.step, iter(range(10_000))

    def breaking(world, action):
        if next(steps) == 12:  # the first game of each of the 16 worlds is over
            raise error
        return step(world, action)

    monkeypatch.setattr(GymnasiumWorld, "step", breaking)
    with pytest.raises(type(error)):
        watch.main(config(run, games=20))
    said = capsys.readouterr().out
    assert "cut short after 16 of 20 games" in said and "return " in said
    assert not (run / "watch.jsonl").exists()


def test_no_film_of_glimpses_unless_wanted_and_none_where_it_cannot_be(tmp_path, capsys):
    short = dict(
        images="glyphs", steps=200, batch=100, evaluate_every=200, glimpses=2, core_units=16, glimpse_units=16
    )
    asked = ram.Config(folder=tmp_path, wandb="disabled", film=False, test_rollouts=2, **short)
    ram.train(asked)
    folder = tmp_path / ram.world_name(asked) / "recurrent_attention-1"
    watch.main(config(folder, film=False))
    assert "validation error" in capsys.readouterr().out and not (folder / "videos").exists()
    (folder / "videos").write_text("a file where a folder is expected")
    watch.main(config(folder))
    said = capsys.readouterr()
    assert "validation error" in said.out and "no picture of its glimpses" in said.err


# What a folder says is data.


def rewrite(run, **changes):
    """Say something else in config.json, with a checksum that fits."""
    about = json.loads((run / "config.json").read_text())
    flags = changes.pop("config", {})
    (run / "config.json").write_bytes(files.sealed(about | changes | {"config": about["config"] | flags}))


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module in the working folder, as `python -m` has it on its path, that tells when it is imported."""
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nload = watch = Config = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "sprung"


@pytest.mark.parametrize(
    "name",
    ["trap", "agents..trap", "agents.trap", "os", "runs.folder", "agents.watch", "agents", "../trap", "", None, 3],
)
@pytest.mark.parametrize("key", ["player", "program"])
def test_only_programs_of_this_project_are_imported(run, trap, key, name):
    rewrite(run, **({"player": name} if key == "player" else {"player": name, "program": name}))
    with pytest.raises(RunError):
        watch.main(config(run))
    assert not trap.exists()


def test_the_package_of_a_world_is_imported_only_on_request(run, trap, tmp_path):
    rewrite(run, config={"env": "trap:Catch"})
    with pytest.raises(RunError, match="trap:Catch, comes from the package 'trap'.*--import-world"):
        watch.main(config(run))
    with pytest.raises(RunError, match="import_world=True"):
        loading.load(run)
    assert not trap.exists()
    watch.main(config(run, import_world=True, film=False))
    assert trap.exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"capacity": "many"}, "--capacity takes no 'many'"),
        ({"env": None}, "--env takes no None"),
        ({"env": ["Catch"]}, "--env takes no"),
        ({"stack": True}, "--stack takes no True"),
        ({"worlds": -1}, "--worlds -1"),
        ({"protocol": "wild"}, "--protocol takes no 'wild'"),
    ],
)
def test_a_config_of_other_types_is_refused_in_a_sentence(run, flags, message):
    rewrite(run, config=flags)
    with pytest.raises(RunError, match=f"config.json: {message}"):
        watch.main(config(run))


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "{}", '{"program": 3, "config": {}}', '{"program": "agents.dqn"}']
)
def test_a_damaged_config_is_refused_in_a_sentence(run, content):
    (run / "config.json").write_text(content)
    with pytest.raises(RunError, match="config.json"):
        watch.main(config(run))


@pytest.mark.parametrize("name", ["best", "last"])
def test_weights_that_are_damaged_or_anothers_are_not_played(run, name):
    newest = max((run / "checkpoint").glob("0*.pt"))
    shutil.copy(newest, run / "checkpoint/best.pt")
    for path in [run / "checkpoint/best.pt"] if name == "best" else (run / "checkpoint").glob("0*.pt"):
        whole = path.read_bytes()
        path.write_bytes(whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    with pytest.raises(
        RunError, match="best.pt is damaged.*--checkpoint last" if name == "best" else "no checkpoint"
    ):
        watch.main(config(run, checkpoint=name))
    rewrite(run, id="01234567")
    with pytest.raises(RunError, match="belongs to another run" if name == "best" else "no checkpoint"):
        path.write_bytes(whole)
        watch.main(config(run, checkpoint=name))


def test_no_link_in_a_watched_folder_is_followed(run, tmp_path, capsys):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (run / "watch.jsonl").symlink_to(victim)
    watch.main(config(run, film=False))
    assert victim.read_text() == "precious" and "is a symbolic link" in capsys.readouterr().err
    (run / "watch.jsonl").unlink()
    shutil.rmtree(run / "videos", ignore_errors=True)
    (tmp_path / "elsewhere").mkdir()
    (run / "videos").symlink_to(tmp_path / "elsewhere")
    watch.main(config(run))
    assert not any((tmp_path / "elsewhere").iterdir()) and "is a symbolic link" in capsys.readouterr().err


def test_escapes_in_the_name_of_a_folder_are_not_printed(run, capsys):
    strange = run.rename(run.with_name("a\x1b[31mb\x9b"))
    watch.main(config(strange))
    said = capsys.readouterr()
    assert "\\x1b" in said.out and not {"\x1b", "\x9b"} & set(said.out + said.err)
