"""A run outlives what it does not need: films, evaluations, its terminal; and is saved when a world fails."""

import dataclasses
import errno
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from agents import evaluation, film
from runs import RunError
from runs import run as run_module
from runs.progress import Lasting
from runs.signals import Interrupted, Signals
from tests import test_runs
from tests.test_runs import lines, walk
from tests.test_worlds_contract import program, small

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Config(test_runs.Config):
    evaluate_every: int = 10


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "EVALUATION_SAVE_RATIO", 0)
    return Config(folder=tmp_path, save_every=300.0)


def scores(folder):
    return [line for line in lines(folder) if "eval/return" in line]


# ---- films ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "shows"),
    [("Flat", True), ("Growing", True), ("NoRender", False), ("Nothing", False), ("Broken", False), ("Words", False)],
)
def test_a_film_is_no_reason_to_stop(world, shows, tmp_path, capsys):
    config = small("dqn", f"tests.failing_worlds:failing/{world}-v0", tmp_path, film_seconds=0.5)
    program("dqn")[0](config)
    folder = next(tmp_path.glob("*/*/dqn"))
    said = capsys.readouterr().err
    films = list((folder / "videos").glob("*")) if (folder / "videos").exists() else []
    assert (folder / "finished.json").exists() and len(scores(folder)) == 2
    assert said.count("no film (") == (not shows)
    if shows:
        assert [path.name for path in films][0].startswith("step-")
        seen = imageio.imread(films[0])
        assert seen[0].max() > 150 and max(seen.shape[1:3]) <= film.WIDTH
    else:
        assert not films


def test_an_encoder_that_fails_leaves_nothing_and_is_reported_once(tmp_path, capsys, monkeypatch):
    def fail(path, *_, **__):
        Path(path).write_bytes(b"half a film")
        raise BrokenPipeError("ffmpeg died")

    monkeypatch.setattr(imageio, "imwrite", fail)
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: score(next(better)))
    better = iter(range(100))
    program("dqn")[0](small("dqn", "tests.failing_worlds:failing/Pictures-v0", tmp_path, film_seconds=0.5))
    folder = next(tmp_path.glob("*/*/dqn"))
    assert capsys.readouterr().err.count("no film (BrokenPipeError: ffmpeg died)") == 1
    assert len(scores(folder)) == 2 and not list((folder / "videos").iterdir())


def test_frames_of_all_kinds_become_pictures():
    gray = np.full((4, 6), 7, np.uint8)
    for frame in (gray, gray[:, :, None], np.full((4, 6, 4), 7, np.uint8), np.full((4, 6, 3), 7.4), gray.tolist()):
        shown = film.picture(frame)
        assert shown.shape == (4, 6, 3) and shown.dtype == np.uint8 and (shown == 7).all()
    assert film.picture(None) is None
    for strange in ("words", np.zeros((4, 6, 2), np.uint8), np.zeros((0, 6, 3), np.uint8), np.array([None])):
        with pytest.raises(ValueError, match="gave no picture"):
            film.picture(strange)
    with pytest.raises(ValueError, match="no picture in the whole game"):
        film.stacked([])
    for height, width in ((5, 300), (300, 5), (1, 1), (210, 160), (4_000, 3), (1, 5_000), (4_321, 4_001)):
        made = film.stacked([np.ones((height, width, 3), np.uint8)])
        assert not any(side % 2 for side in made.shape[1:3]) and max(made.shape[1:3]) <= 1_920
        assert min(made.shape[1:3]) >= film.SMALLEST


# ---- evaluations ----------------------------------------------------------------------------------------


def test_an_endless_evaluation_is_cut_short_and_says_so(tmp_path, capsys):
    world = "tests.failing_worlds:failing/Endless-v0"
    program("dqn")[0](small("dqn", world, tmp_path, evaluate_games=3, evaluate_steps=30))
    line = scores(next(tmp_path.glob("*/*/dqn")))[0]
    assert (line["eval/return"], line["eval/length"], line["eval/games"], line["eval/cut"]) == (30.0, 30.0, 3, 3)
    assert "3 of them cut short by --evaluate-steps" in capsys.readouterr().err


def test_a_truncated_game_is_the_last_of_its_world():
    import envs

    world = envs.make("tests.failing_worlds:failing/Endless-v0", 2)
    scores = evaluation.play(
        lambda observation, transition: torch.zeros(2, dtype=torch.int64), world, games=3, limit=10
    )
    assert scores == {"return": [10.0, 10.0], "length": [10, 10], "cut": [10.0, 10.0]}


def test_games_that_end_are_not_cut():
    import envs

    world = envs.make("tests.failing_worlds:failing/Pictures-v0", 2)
    scores = evaluation.play(
        lambda observation, transition: torch.ones(2, dtype=torch.int64), world, games=4, limit=12
    )
    assert scores == {"return": [12.0] * 4, "length": [12] * 4, "cut": []}


def test_an_evaluation_that_fails_is_reported_once(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise KeyError("joint")

    monkeypatch.setattr(evaluation, "evaluate", fail)
    program("dqn")[0](small("dqn", "CartPole", tmp_path))
    folder = next(tmp_path.glob("*/dqn"))
    assert (folder / "finished.json").exists() and not scores(folder)
    assert capsys.readouterr().err.count("no evaluation (KeyError: 'joint'); the run goes on without") == 1


def test_what_is_needed_still_fails_and_so_does_a_full_disk(config):
    for error, needed in ((KeyError("joint"), True), (RunError("no room"), False)):

        def act(run, step, error=error, needed=needed):
            with run.side_task("evaluation", needed):
                raise error

        with pytest.raises(type(error)):
            walk(dataclasses.replace(config, name=type(error).__name__), act=act)


def score(value):
    return {"eval/return": float(value), "eval/median": 0.0, "eval/std": 0.0, "eval/games": 1}


def evaluate(run, step, what="evaluation", break_at=None, number=signal.SIGINT):
    """Evaluate every ten steps, with draws from every global generator; a signal arrives in that of step break_at."""
    if run.due(10):
        found = None
        with run.side_task(what):
            torch.rand(3), np.random.rand(3), random.random()
            if step == break_at:
                os.kill(os.getpid(), number)
                time.sleep(60)
            found = score(step)
        if found:
            run.log_evaluation(found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_breaks_off_an_evaluation_which_is_then_made_again(config, number, capsys):
    began = time.monotonic()
    with pytest.raises(SystemExit) as left:
        walk(config, act=lambda run, step: evaluate(run, step, break_at=28, number=number))
    assert left.value.code == 128 + number and time.monotonic() - began < 10
    assert "kept: the checkpoint of step 28" in capsys.readouterr().err
    run, part = walk(config, act=evaluate)
    whole, expected = walk(dataclasses.replace(config, name="whole"), act=evaluate)
    assert torch.equal(part.place, expected.place)
    assert (run.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_a_signal_leaves_a_film_out_and_the_run_is_saved_as_it_is(config):
    with pytest.raises(SystemExit) as left:
        walk(config, act=lambda run, step: evaluate(run, step, "film", break_at=28))
    assert left.value.code == 130
    assert max((config.folder / "Nowhere/walk-1/checkpoint").glob("0*.pt")).name == "000000000030.pt"
    _, part = walk(config, act=evaluate)
    _, expected = walk(dataclasses.replace(config, name="whole"), act=evaluate)
    assert torch.equal(part.place, expected.place)


@pytest.mark.parametrize("changed", [{"evaluate_every": 14}, {"evaluate_every": 0}, {"log_every": 6}])
def test_what_is_drawn_aside_is_not_drawn_from_what_is_learned(config, changed):
    def act(run, step):
        if run.due(run.config.evaluate_every):
            with run.side_task("evaluation"):
                torch.rand(3), np.random.rand(3), random.random()

    _, expected = walk(config, act=act)
    _, part = walk(dataclasses.replace(config, name="other", **changed), act=act)
    assert torch.equal(part.place, expected.place)


# ---- signals --------------------------------------------------------------------------------------------


def test_a_closed_terminal_saves_and_leaves(config):
    with pytest.raises(SystemExit) as left:
        walk(config, act=lambda run, step: step == 14 and os.kill(os.getpid(), signal.SIGHUP))
    assert left.value.code == 128 + signal.SIGHUP
    assert (config.folder / "Nowhere/walk-1/checkpoint/000000000016.json").exists()


def test_under_nohup_a_closed_terminal_is_nothing(config):
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run, _ = walk(config, act=lambda run, step: step == 14 and os.kill(os.getpid(), signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert run.step == 40


def test_two_signals_at_once_are_one_and_a_later_one_leaves_at_once(monkeypatch):
    signals, now = Signals(), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    signals._arrive(signal.SIGTERM, None)
    signals._arrive(signal.SIGTERM, None)  # as timeout(1) sends it to a process and to its group
    now[0] += 5
    signals._arrive(signal.SIGHUP, None)
    assert signals.number == signal.SIGTERM
    with pytest.raises(SystemExit):
        signals._arrive(signal.SIGINT, None)
    signals = Signals()
    signals.breakable = True
    with pytest.raises(Interrupted):
        signals._arrive(signal.SIGINT, None)


class Pipe(io.StringIO):
    """A stream whose reader has gone."""

    def __init__(self, number):
        super().__init__()
        self.number, self.file = number, open(os.devnull, "w")

    def write(self, text):
        raise OSError(self.number, "gone")

    def flush(self):
        raise OSError(self.number, "gone")

    def fileno(self):
        return self.file.fileno()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_a_stream_without_a_reader_is_silent(number):
    stream = Lasting(Pipe(number))
    assert stream.write("words") == 5
    print("more", file=stream)
    stream.flush()


# ---- programs of their own ------------------------------------------------------------------------------


def command(folder, env, name="dqn", *more):
    words = (
        f"-m agents.{name} --env {env} --steps 1000 --worlds 2 --evaluate-every 0 --log-every 100 --folder {folder}"
    )
    words += " --wandb disabled --no-bf16 --threads 1 --film-seconds 0 --hidden 8"
    words += " --rollout 10" if name == "ppo" else " --learn-start 40 --learn-every 20 --batch 4"
    words += " --lstm-units 8 --burn-in 2 --length 4 --n-step 2" if name == "r2d2" else ""
    return [sys.executable, *words.split(), *more]


@pytest.mark.slow
@pytest.mark.parametrize(
    "shell", ["{} 2>&1 | head -1", "{} 2>&1 | true", "{} >&- 2>&-", "{} </dev/null >/dev/full 2>&1"]
)
def test_a_run_whose_output_nobody_reads_goes_on(tmp_path, shell):
    words = " ".join(command(tmp_path, "CartPole"))
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell.format(words)], cwd=ROOT, timeout=900)
    assert done.returncode == 0
    assert next(tmp_path.glob("*/dqn-1/finished.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dqn", "ppo", "r2d2"])
def test_a_world_that_fails_is_shown_and_what_was_learned_is_kept(tmp_path, name):
    switch = tmp_path / "raises"
    switch.touch()
    words = command(tmp_path, "tests.failing_worlds:failing/Raises-v0", name, "--backbone", "mlp", "--steps", "1000")
    surroundings = os.environ | {"SACCADE_TEST_RAISES": str(switch)}
    done = subprocess.run(words, cwd=ROOT, timeout=900, capture_output=True, text=True, env=surroundings)
    assert done.returncode == 1 and "ArithmeticError: the motor fell off" in done.stderr
    folder = next(tmp_path.glob(f"*/*/{name}-1"))
    step = int(max((folder / "checkpoint").glob("0*.json")).stem)
    assert 150 <= step <= 300 and f"saved at step {step:,}" in done.stderr
    switch.unlink()  # mended
    done = subprocess.run(words, cwd=ROOT, timeout=900, capture_output=True, text=True, env=surroundings)
    assert done.returncode == 0 and f"from step {step:,}" in done.stderr, done.stderr
    assert all(math.isfinite(line["loss/policy" if name == "ppo" else "loss/td"]) for line in lines(folder)[4:])
    assert json.loads((folder / "finished.json").read_text())["step"] >= 1_000
