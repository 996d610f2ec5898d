"""The run: its folder, log, checkpoints, resume; every failure it promises to say clearly."""

import dataclasses
import errno
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch

from runs import Options, Run, RunError, Score, checkpoint, flag_types, launch, machine
from runs.flag_types import Count, Share
from runs.reader import read_run

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Config(Options):
    steps: int = 40
    rate: float = 0.5
    wandb: str = "disabled"
    log_every: int = 10
    save_every: float = 0.0  # at every iteration


class Walk:
    """A random walk that uses the global generator: its end shows whether every step happened once."""

    def __init__(self):
        self.place = torch.zeros(3)

    def step(self):
        self.place = self.place + torch.randn(3)
        return self.place.sum()

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def walk(config, die_at=None, act=None, about=None, **others):
    config.validate()
    machine.prepare("cpu", config.seed, config.threads)
    run = Run(config, "tests.walk", "Nowhere", **(about or {}))
    part = Walk()
    run.track(walk=part, **others)
    for step in run.steps(config.steps, stride=2):
        if act:
            act(run, step)
        if step == die_at:
            raise MemoryError("killed")
        run.log({"loss/td": part.step(), "episode/return": [float(step)] if step % 6 == 0 else []})
    return run, part


@pytest.fixture
def config(tmp_path):
    return Config(folder=tmp_path)


def lines(run_folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (run_folder / name).read_text().splitlines()]


def test_log_holds_means_and_counts(config):
    run, _ = walk(config)
    log = lines(run.folder)
    assert [line["step"] for line in log] == [10, 20, 30, 40]
    assert log[0]["episode/return"] == 3.0 and log[0]["episode/count"] == 2  # steps 0 and 6
    assert log[1]["episode/return"] == 15.0  # steps 12 and 18
    clock = lines(run.folder, "clock.jsonl")
    assert len(clock) == 4 and clock[-1]["seconds"] >= clock[0]["seconds"]


def test_due_counts_multiples(config):
    run = Run(config, "tests.walk", "Nowhere")
    run.stride, run.step = 10, 30
    assert [len(run.due(every)) for every in (4, 10, 16, 40, 45)] == [3, 1, 1, 1, 0]  # of (30, 40]


def test_resume_is_exact(config):
    whole, part = walk(dataclasses.replace(config, name="whole"))
    with pytest.raises(MemoryError):
        walk(dataclasses.replace(config, name="killed"), die_at=34)
    again, resumed = walk(dataclasses.replace(config, name="killed"))
    assert torch.equal(part.place, resumed.place)
    assert (again.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_no_checkpoint_yet_begins_again(config):
    config = dataclasses.replace(config, save_every=300.0)
    with pytest.raises(MemoryError):
        walk(config, die_at=14)
    run, _ = walk(config)
    assert [line["step"] for line in lines(run.folder)] == [10, 20, 30, 40]


def test_finished_run_says_so(config):
    walk(config)
    with pytest.raises(RunError, match="is finished.*return .*compare"):
        try:
            walk(config)
        except RunError as error:
            raise RunError(str(error).replace("\n", " ")) from error


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("flag", ["save_every", "rate"])  # one with a range, one without
def test_a_number_that_no_json_holds_is_refused(config, flag, value):
    with pytest.raises(ValueError, match=f"--{flag.replace('_', '-')} {value}: it takes"):
        walk(dataclasses.replace(config, **{flag: value}))


@pytest.mark.parametrize(("flag", "value"), [("threads", -1), ("profile", -2)])
def test_numbers_out_of_range_are_refused_before_there_is_a_folder(config, flag, value):
    with pytest.raises(ValueError, match=f"--{flag} {value}: it takes 0 or more"):
        walk(dataclasses.replace(config, **{flag: value}))
    assert not config.folder.exists() or not any(config.folder.iterdir())


@dataclasses.dataclass(frozen=True)
class Sizes:
    side: Count | None = None
    share: Share = 0.5


def test_a_number_that_may_be_left_out_has_its_range_too(monkeypatch, capsys):
    for good in (Sizes(), Sizes(side=1), Sizes(share=1.0)):
        flag_types.check(good)
    for bad, message in (
        (Sizes(side=0), "--side 0: it takes 1 or more"),
        (Sizes(share=-0.1), "--share -0.1: it takes"),
    ):
        with pytest.raises(ValueError, match=message):
            flag_types.check(bad)
    begun = []
    monkeypatch.setattr(Run, "stepping", False)  # as in a program that has just been called
    monkeypatch.setattr(sys, "argv", ["sizes", "--side", "0"])
    with pytest.raises(SystemExit):
        launch(begun.append, Sizes, None, "tests.sizes", None)
    assert not begun and "--side 0: it takes 1 or more" in capsys.readouterr().err


def test_a_run_that_was_refused_before_its_first_step_binds_nobody(config):
    first = Run(config, "tests.walk", "Nowhere")
    first._place.close()  # a program that ends
    assert not list(config.folder.iterdir())
    run, _ = walk(dataclasses.replace(config, rate=0.25))
    assert json.loads((run.folder / "config.json").read_text())["config"]["rate"] == 0.25


def test_other_config_is_refused_with_the_difference(config):
    walk(config)
    with pytest.raises(RunError, match="--rate: 0.5 there, 0.25 here"):
        walk(dataclasses.replace(config, rate=0.25))


def test_flags_that_change_no_learning_may_change(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=34)
    run, _ = walk(dataclasses.replace(config, save_every=100.0, tags=("x",)))
    assert run.step == 40


def test_damaged_checkpoints_fall_back(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=32)
    for damaged in sorted((config.folder / "Nowhere/walk-1/checkpoint").glob("*.pt"))[-2:]:  # of steps 30 and 32
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 255
        damaged.write_bytes(data)
    with pytest.warns(UserWarning, match="damaged"):
        run, part = walk(config)  # from step 28: the line of step 30 is written again, once
    whole, expected = walk(dataclasses.replace(config, name="whole"))
    assert torch.equal(part.place, expected.place)
    assert (run.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_half_written_checkpoint_is_none(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=34)
    folder = config.folder / "Nowhere/walk-1/checkpoint"
    sorted(folder.glob("*.json"))[-1].unlink()  # killed between the file and its manifest
    run, _ = walk(config)
    assert run.step == 40


def test_all_damaged_is_an_error(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=34)
    for path in (config.folder / "Nowhere/walk-1/checkpoint").glob("*.pt"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(RunError, match="every checkpoint"):
        walk(config)


def test_checkpoint_without_a_new_part_is_refused(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=34)
    with pytest.raises(RunError, match="checkpoint of step 34 .* has no scale: an older version"):
        walk(config, scale=Walk())
    run, _ = walk(config)
    assert run.step == 40


def test_keeps_the_last_few(config):
    run, _ = walk(config)
    assert len(list((run.folder / "checkpoint").glob("0*.json"))) == 3


@pytest.mark.parametrize("what", ["loss/td", "a weight of network"])
@pytest.mark.parametrize("save_every", [0.0, 3600.0])
def test_nan_stops_and_is_not_kept(config, what, save_every):
    network = torch.nn.Linear(2, 2)

    def poison(run, step):
        if step == 24 and what == "loss/td":
            run.log({what: math.nan})
        elif step == 24:
            network.weight.data[0] = math.nan

    config = dataclasses.replace(config, save_every=save_every)
    message = "step 26.*checkpoint of step 24" if not save_every else "step [34]0.*no checkpoint yet"
    with pytest.raises(RunError, match=f"{what} became infinite or no number by {message}.*with a --name of its own"):
        walk(config, act=poison, network=network)
    saved = sorted((config.folder / "Nowhere/walk-1/checkpoint").glob("*.pt"))
    kept = [torch.load(path, weights_only=True)["parts"]["network"]["weight"] for path in saved]
    assert all(weight.isfinite().all() for weight in kept)


class Pages:
    """A part with a file for every save, of which each checkpoint needs the newest."""

    def __init__(self):
        self.count = 0

    def save(self, folder):
        self.count += 1
        (folder / f"{self.count}.page").write_text(str(self.count))
        return {
            "count": self.count,
            "files": {f"{self.count}.page": checkpoint.file_hash(folder / f"{self.count}.page")},
        }

    def load(self, folder, state):
        self.count = int((folder / f"{state['count']}.page").read_text())


def test_files_beside_a_checkpoint_are_checked_and_dropped_with_it(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=32, pages=Pages())
    pages = config.folder / "Nowhere/walk-1/checkpoint/memory"
    assert len(list(pages.iterdir())) == 3
    newest = max(pages.iterdir(), key=lambda path: int(path.stem))
    newest.write_text("12345")
    with pytest.warns(UserWarning, match=f"memory/{newest.name} does not match"):
        walk(config, pages=Pages())


def test_what_a_kill_left_is_swept_and_a_damaged_manifest_is_no_checkpoint(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=32)
    folder = config.folder / "Nowhere/walk-1/checkpoint"
    shutil.copy(folder / "000000000032.pt", folder / "000000000031.pt")  # a save that was killed before its manifest
    for path in (folder / ".000000000035.pt.0123abcd.tmp", folder / "memory" / ".a.0123abcd.tmp"):
        path.write_bytes(b"")
    (folder / "000000000999.json").write_text("{")
    with pytest.warns(UserWarning, match="999.pt is skipped .No such file"):
        walk(config)
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"0000000000{step}.{kind}" for step in (36, 38, 40) for kind in ("json", "pt")),
        "memory",
    ]
    assert not any((folder / "memory").iterdir())


def test_a_log_that_lost_its_end_is_reported(config):
    with pytest.raises(MemoryError):
        walk(config, die_at=32)
    os.truncate(config.folder / "Nowhere/walk-1/metrics.jsonl", 10)
    with pytest.raises(RunError, match="metrics.jsonl has lost its end: it holds 10 bytes"):
        walk(config)


def test_a_resumed_run_knows_its_best_and_its_time(config):
    def evaluate(run, step):
        if step in (10, 34):
            run.log_evaluation({"eval/return": 3.0 - step / 34, "eval/median": 0.0, "eval/std": 0.0, "eval/games": 1})
        run.seconds += 100  # as if it took so long

    with pytest.raises(MemoryError):
        walk(config, act=evaluate, die_at=32)
    run, _ = walk(config, act=evaluate)
    assert torch.load(run.folder / "checkpoint/best.pt", weights_only=True)["step"] == 12
    assert run.seconds > 1_900  # twenty iterations


def test_full_disk_says_what_is_kept(config, monkeypatch):
    def fill(run, step):
        if step == 20:

            def full(*_):
                raise OSError(errno.ENOSPC, "No space left on device")

            monkeypatch.setattr(checkpoint.os, "fsync", full)

    with pytest.raises(RunError, match="No space left on device.*checkpoint of step 20.*Make room"):
        walk(config, act=fill)
    assert not list(config.folder.rglob("*.tmp"))


def test_unwritable_folder(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write.*--folder"):
        walk(dataclasses.replace(config, folder=tmp_path / "file"))


def test_two_programs_in_one_folder(config):
    Run(config, "tests.walk", "Nowhere").wandb_mirror.finish()
    held = Run(dataclasses.replace(config, seed=2), "tests.walk", "Nowhere")
    with pytest.raises(RunError, match="in use"):
        Run(dataclasses.replace(config, seed=2), "tests.walk", "Nowhere")
    del held


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_leave(config, number):
    def interrupt(run, step):
        if step == 14:
            os.kill(os.getpid(), number)

    with pytest.raises(SystemExit) as left:
        walk(config, act=interrupt)
    assert left.value.code == 128 + number
    run, _ = walk(config)
    assert run.step == 40
    whole, _ = walk(dataclasses.replace(config, name="whole"))
    assert (run.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_a_signal_just_before_a_film_leaves_the_film_out(config, capsys):
    def interrupt(run, step):
        if step == 14:
            os.kill(os.getpid(), signal.SIGTERM)
            with run.side_task("film"):
                raise AssertionError("filmed")

    with pytest.raises(SystemExit) as left:
        walk(config, act=interrupt)
    assert left.value.code == 128 + signal.SIGTERM and "film broken off, kept: " in capsys.readouterr().err
    run, _ = walk(config)
    whole, _ = walk(dataclasses.replace(config, name="whole"))
    assert (run.folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()


def test_best_is_kept(config):
    def evaluate(run, step):
        if step in (10, 20, 30):
            score = {10: 1.0, 20: 3.0, 30: 2.0}[step]
            spread = {"eval/median": score, "eval/std": 0.0, "eval/games": 1}
            assert run.log_evaluation({"eval/return": score} | spread) == (step < 30)

    run, _ = walk(config, act=evaluate)
    best = torch.load(run.folder / "checkpoint/best.pt", weights_only=True)
    assert best["step"] == 22 and best["best"] == 3.0
    assert "evaluation return 2.00 at the end, 3.00 at best" in run.result()


@pytest.mark.parametrize("better, best", [("min", 1.5), ("max", 3.0)])
def test_a_program_names_the_score_of_its_runs(config, capsys, better, best):
    about = dict(score=Score("eval/nats", better, unit="nats"), unit="images", follow_up="python -m vision.dream")
    nats = {10: 2.0, 20: 3.0, 30: 1.5}

    def evaluate(run, step):
        if step in nats:
            run.log_evaluation({"eval/nats": nats[step], "eval/images": 1_200, "eval/return": 100.0 - step})

    with pytest.raises(MemoryError):
        walk(config, die_at=24, act=evaluate, about=about)
    run, _ = walk(config, act=evaluate, about=about)  # what is best survives a resume
    kept = torch.load(run.folder / "checkpoint/best.pt", weights_only=True)
    assert (kept["best"], kept["step"]) == (best, {1.5: 32, 3.0: 22}[best])
    finished = json.loads((run.folder / "finished.json").read_text())
    assert (finished["metric"], finished["final"], finished["best"]) == ("eval/nats", 1.5, best)
    assert finished["score"] == f"evaluation 1.50 nats at the end, {best:.2f} nats at best"
    message = json.loads((run.folder / "config.json").read_text())
    assert (
        message["score"] == {"metric": "eval/nats", "better": better, "unit": "nats"} and message["unit"] == "images"
    )
    record = read_run(run.folder)
    assert (record.score, record.unit, record.best["eval/nats"]) == (about["score"], "images", best)
    said = capsys.readouterr().err
    assert "step 12: evaluation 2.00 nats (images 1,200, return 90.0)" in said
    assert f"Next: python -m vision.dream {run.folder}" in said
    with pytest.raises(RunError, match="python -m vision.dream"):
        walk(config, about=about)


@pytest.mark.parametrize(
    "every, first, steps, when",
    [(10, 0, 40, [10, 20, 30, 40]), (16, 4, 40, [4, 16, 32, 40]), (50, 0, 40, []), (50, 6, 40, [6]), (0, 4, 40, [])],
)
def test_evaluations_are_made_at_equal_distances_and_at_the_end_of_a_longer_run(config, every, first, steps, when):
    found, flags = [], dict(evaluate_every=every, evaluate_first=first)
    asked = dataclasses.make_dataclass(
        "Evaluated", [(key, int, value) for key, value in flags.items()], bases=(Config,), frozen=True
    )
    run = Run(asked(folder=config.folder, steps=steps), "tests.walk", "Nowhere")
    for step in run.steps(steps, stride=2):
        if run.evaluates():
            found.append(step + 2)
    assert found == when


def test_an_evaluation_after_the_loop_is_refused_in_a_sentence(tmp_path):
    run = Run(Config(folder=tmp_path), "tests.walk", "Nowhere")
    list(run.steps(2))
    with pytest.raises(RuntimeError, match=r"log_evaluation\(\) is for the loop over run.steps\(\)"):
        run.log_evaluation({"eval/return": 1.0})


def test_a_best_by_another_metric_is_not_resumed(config, capsys):
    with pytest.raises(MemoryError):
        walk(config, die_at=24)
    error = Score("eval/error", "min", unit="%")
    with pytest.raises(RunError, match="chosen by eval/return, and now it would be by eval/error"):
        walk(config, about=dict(score=error))
    folder = dataclasses.replace(config, name="images", log_every=100)
    run = Run(folder, "tests.walk", "Nowhere", score=error, unit="images")
    run.track()
    for _ in run.steps(10, stride=10):
        pass
    assert "finished 10 images in" in capsys.readouterr().err and run.result() == "not evaluated"


@pytest.mark.parametrize("spoilt", [math.nan, math.inf, -math.inf])
def test_an_evaluation_that_is_no_number_is_never_the_best(config, spoilt):
    def evaluate(run, step):
        if step in (10, 20, 30):
            score = {10: spoilt, 20: 3.0, 30: 2.0}[step]
            run.log_evaluation({"eval/return": score, "eval/median": score, "eval/std": 0.0, "eval/games": 1})
        run.log({"value/mean": spoilt if step == 10 else 1.0, "value/sum": [math.inf, -math.inf, 1e308, 1e308]})

    run, _ = walk(config, act=evaluate)
    best = torch.load(run.folder / "checkpoint/best.pt", weights_only=True)
    assert best["step"] == 22 and best["best"] == 3.0
    assert "evaluation return 2.00 at the end, 3.00 at best" in run.result()
    for name in ("metrics.jsonl", "clock.jsonl"):
        text = (run.folder / name).read_text()
        assert not any(word in text for word in ("NaN", "Infinity"))
    message = [line for line in lines(run.folder) if "eval/return" in line]
    assert [line["eval/return"] for line in message] == [None, 3.0, 2.0]
    assert all(line["value/sum"] is None for line in lines(run.folder) if "value/sum" in line)


def test_random_states_round_trip():
    import random

    import numpy as np

    state = machine.random_state()
    first = (random.random(), np.random.rand(), torch.rand(1).item())
    machine.set_random_state(state)
    assert first == (random.random(), np.random.rand(), torch.rand(1).item())


def test_unknown_device():
    with pytest.raises(ValueError, match="--device cpu"):
        machine.prepare("cuda:99")
