"""Watching a run: the games' result is shown while they are played, and is not lost to what comes after them."""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from gymnasium.error import DependencyNotInstalled

from agents import dqn, watch
from agents import recurrent_attention as ram
from envs.control import ControlWorld


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

    monkeypatch.setattr(ControlWorld, "render", render)
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
def test_games_cut_short_tell_the_scores_so_far(run, capsys, monkeypatch, error):
    step, steps = ControlWorld.step, iter(range(10_000))

    def breaking(world, action):
        if next(steps) == 12:  # the first game of each of the 16 worlds is over
            raise error
        return step(world, action)

    monkeypatch.setattr(ControlWorld, "step", breaking)
    with pytest.raises(type(error)):
        watch.main(config(run, games=20))
    said = capsys.readouterr().out
    assert "cut short after 16 of 20 games" in said and "return " in said
    assert not (run / "watch.jsonl").exists()


def test_no_film_of_glimpses_unless_wanted_and_none_where_it_cannot_be(tmp_path, capsys):
    short = dict(images="glyphs", steps=200, batch=100, evaluate_every=200, glimpses=2, units=16, sight=16)
    asked = ram.Config(folder=tmp_path, wandb="disabled", film=False, test_rollouts=2, **short)
    ram.train(asked)
    folder = tmp_path / ram.world_name(asked) / "recurrent_attention-1"
    watch.main(config(folder, film=False))
    assert "validation error" in capsys.readouterr().out and not (folder / "videos").exists()
    (folder / "videos").write_text("a file where a folder is expected")
    watch.main(config(folder))
    said = capsys.readouterr()
    assert "validation error" in said.out and "no picture of its glimpses" in said.err
