"""Sweeps: dimensions and points, early stopping by hand, and sweeps of runs of seconds: killed, failed, resumed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import runs
from runs import files
from runs.reader import read_run
from runs.sweep import __main__ as program
from runs.sweep import engine, local, plan, preview, samplers, space, wandb_sweep
from runs.sweep.asha import EarlyStopping, Ladder, rungs
from runs.sweep.record import Record
from runs.sweep.samplers import Outcome, Sampler
from runs.sweep.table import closing, ranked

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"learning_rate": "float", "batch": "int", "double": "bool", "backbone": "str"}
TINY = ("--wandb=disabled", "--film-seconds=0", "--log-every=50", "--evaluate-games=2", "--backbone=small")
TINY += ("--width=0.25", "--hidden=16")
DQN = (*TINY, "--steps=400", "--evaluate-every=100", "--batch=8", "--learn-start=50", "--capacity=500")


@pytest.fixture
def quick(monkeypatch):
    """Previews in this process, which has imported the programs already."""
    monkeypatch.setattr(runs, "launch", runs.launch, raising=False)
    monkeypatch.setattr(sys, "argv", ["pytest"])

    def inside(name, commands, whole=False):
        answers = preview.found(name, commands, whole)
        return [preview.Preview(**each | {"binding": tuple(each["binding"])}) for each in answers]

    for module in (plan, wandb_sweep):
        monkeypatch.setattr(module, "preview", inside)
    monkeypatch.setattr(runs, "Run", runs.Run, raising=False)


def test_dimensions_from_their_texts():
    assert space.parse("learning_rate=1e-5:1e-2:log", KINDS) == space.Dimension(
        "learning_rate", (), 1e-5, 1e-2, log=True
    )
    assert space.parse("--learning-rate=0.1:1:4", KINDS) == space.Dimension("learning_rate", (), 0.1, 1, count=4)
    assert space.parse("batch=16:1k:log:3", KINDS) == space.Dimension("batch", (), 16, 1000, True, True, 3)
    assert space.parse("learning_rate=0.1,1e-2,0.1", KINDS).values == (0.1, 0.01)
    assert space.parse("double=true,no", KINDS).values == ("yes", "no")
    assert space.parse("backbone=nature,runs:x", KINDS).values == ("nature", "runs:x")


@pytest.mark.parametrize(
    "text, said",
    {
        "learnin_rate=1,2": "did you mean 'learning_rate'",
        "learning_rate": "write flag=low:high",
        "learning_rate=1:0.1": "not a range from low to high",
        "learning_rate=0:1:log": "above 0",
        "learning_rate=a,b": "'a' is not a number",
        "learning_rate=0:1:linear": "behind a range",
        "batch=1.5,2": "whole number",
        "double=maybe": "neither yes nor no",
    }.items(),
)
def test_a_wrong_dimension_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        space.parse(text, KINDS)


def test_a_grid_by_hand():
    texts = ("learning_rate=1e-4:1e-2:log:3", "double=yes,no")
    found = space.grid([space.parse(text, KINDS) for text in texts])
    assert found == [{"learning_rate": rate, "double": word} for rate in (1e-4, 1e-3, 1e-2) for word in ("yes", "no")]
    assert space.words(found[1], KINDS) == ["--learning-rate=0.0001", "--no-double"]
    assert space.parse("batch=1:4:9", KINDS).grid() == [1, 2, 3, 4]  # rounded ones once each
    with pytest.raises(ValueError, match="learning_rate=0.1:1:4"):
        space.parse("learning_rate=0.1:1", KINDS).grid()


def test_random_points_are_uniform_in_the_logarithm_and_the_same_again():
    dimensions = [space.parse(text, KINDS) for text in ("learning_rate=1e-4:1:log", "batch=1:3", "double=yes,no")]
    sampler = Sampler("random", tuple(dimensions), trials=2000, seed=3)
    points = [sampler.point("dqn Catch", number, (), "max") for number in range(1, 2001)]
    assert points[7] == sampler.point("dqn Catch", 8, points, "max")
    assert points[7] != sampler.point("dqn Pong", 8, points, "max")
    logs = [math.log10(point["learning_rate"]) for point in points]
    assert -4 <= min(logs) and max(logs) <= 0
    for low in (-4, -3, -2, -1):  # a quarter in each decade, within five standard deviations
        assert abs(sum(low <= each < low + 1 for each in logs) - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75)
    for batch in (1, 2, 3):
        assert abs(sum(point["batch"] == batch for point in points) - 667) < 5 * math.sqrt(2000 * 2 / 9)
    with pytest.raises(ValueError, match="--trials"):
        Sampler("random", tuple(dimensions), trials=0)


@pytest.mark.parametrize("kind", samplers.BAYESIAN)
def test_bayesian_points_gather_at_the_best(kind):
    """On -(log10 rate + 2)^2, of both directions; the record alone decides on the next point."""
    optuna = pytest.importorskip("optuna")
    dimensions = (space.parse("learning_rate=1e-5:1:log", KINDS), space.parse("double=yes,no", KINDS))
    sampler = Sampler(kind, dimensions, trials=24, seed=1)
    assert sampler.state()["optuna"] == optuna.__version__
    for better, sign in (("max", -1.0), ("min", 1.0))[kind == "gp" :]:  # the other direction takes it seconds
        before = []
        for number in range(1, 25 if kind == "tpe" else 16):
            point = sampler.point("study", number, before, better)
            assert point == sampler.point("study", number, before, better)
            distance = (math.log10(point["learning_rate"]) + 2) ** 2 + (point["double"] == "no")
            before.append(Outcome(point, "finished", sign * distance))
        late = [abs(math.log10(outcome.point["learning_rate"]) + 2) for outcome in before[-5:]]
        early = [abs(math.log10(outcome.point["learning_rate"]) + 2) for outcome in before[:10]]
        assert sorted(late)[2] < sorted(early)[5]
        before[-1] = Outcome(before[-1].point, "stopped", None, {100: sign})
        before += [Outcome(before[0].point, "failed"), Outcome(before[1].point, "running")]
        assert sampler.point("study", 40, before, better).keys() == {"learning_rate", "double"}


def test_rungs_by_hand():
    assert rungs(900, 1 / 9, 3) == [100, 300]
    assert rungs(1000, 0.25, 2) == [250, 500]
    with pytest.raises(ValueError, match="--first-rung"):
        rungs(100, 1.0, 3)


def test_successive_halving_by_hand():
    """Six trials, eta 3: floor(n / 3) of the n at a rung go on, whenever they arrived (algorithm 2)."""
    ladder = Ladder([100, 300], 3)
    assert ladder.goes_on("a") and ladder.rung("a") == -1
    assert ladder.report("a", 100, 1.0) == [0] and not ladder.goes_on("a")  # 1 // 3 = 0: nobody yet
    ladder.report("b", 120, 2.0)
    ladder.report("c", 100, 0.5)
    assert ladder.best(0) == ["b"] and ladder.goes_on("b") and not ladder.goes_on("c")
    assert ladder.report("b", 240, 9.0) == [] and ladder.reached[0]["b"] == 2.0  # the first at the rung counts
    for name, value in (("d", 3.0), ("e", 0.1)):
        ladder.report(name, 100, value)
    assert ladder.best(0) == ["d"]  # b is past the rung already; 5 // 3 = 1
    ladder.report("f", 100, 0.2)
    assert ladder.best(0) == ["d", "b"] and ladder.goes_on("b")
    assert ladder.report("d", 300, 3.0) == [1] and not ladder.goes_on("d")
    assert Ladder([100], 2, "min", [{"a": 1.0, "b": 2.0}]).best(0) == ["a"]
    assert Ladder([100, 300], 3).report("late", 400, 1.0) == [0, 1]


@pytest.mark.slow  # two processes that import torch
def test_the_preview_is_the_config_that_the_program_trains_with():
    found = preview.preview("agents.dqn", [["--env=Catch", "--batch=7"], ["--env=Nowhere"], ["--bacth=7"]])
    assert found[0].config["batch"] == 7 and found[0].config["steps"] == 16_000  # of Catch's recipe
    assert found[0].kinds["learning_rate"] == "float" and found[0].kinds["double"] == "bool"
    assert "Nowhere" in found[1].error and "bacth" in found[2].error
    with pytest.raises(ValueError, match="keeps no run"):
        preview.preview("agents.watch", [["results"]])


def test_what_cannot_be_swept_is_refused(tmp_path, capsys, quick):
    asha = "dqn --env Catch --search batch=8:32 --early-stopping asha --trials 3"
    for words, said in {
        "dqm": "did you mean 'dqn'",
        "runs.compare": "unknown program",
        "dqn --env Catch --data shapes": "sweep each by itself",
        "dqn --env Catch --early-stopping asha": "give --search",
        "dqn --env Catch --search learnin_rate=1,2": "did you mean 'learning_rate'",
        "dqn --env Catch --search learning_rate=-1:1 --trials 2": "--learning-rate -1.0",
        "dqn --env Catch --search learning_rate=1,2 -- --learning-rate=3": "give it too",
        "dqn --env Catch -- --seed=3": "gives it to each run itself",
        f"{asha} -- --evaluate-every 16000": "the first evaluation",
    }.items():
        assert program.main([*words.replace(" -- ", f" --folder={tmp_path} -- ").split()]) == 2, words
        assert said in " ".join(capsys.readouterr().err.split()), words
    assert not list(tmp_path.glob("*/*/metrics.jsonl"))


def test_memory_and_cores_limit_how_many_run(monkeypatch, tmp_path):
    executor = local.Local(jobs=3, memory=2.0)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(local, "available", lambda: 5.0)
    assert executor.room()
    try:
        for key in "ab":
            executor.start(key, sleep, tmp_path / key, os.environ)
        assert not executor.room()  # 0.9 x 5 GB less what the two may still grow, about 4 GB
        monkeypatch.setattr(local, "available", lambda: 12.0)
        assert executor.room()
        executor.start("c", sleep, tmp_path / "c", os.environ)
        assert not executor.room()  # three are as many as asked for
        executor.stop("a"), executor.kill("b"), executor.kill("c")
        found = {}
        while len(found) < 3:
            found |= {each.key: each for each in executor.ended()}
        assert [found[key].code for key in "abc"] == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGKILL]
    finally:
        for key in list(executor.running):
            executor.kill(key)
    assert local.Local(jobs=1, devices=("cuda:0", "cuda:1")).jobs == 1
    assert local.Local(devices=("cuda:0", "cuda:1")).jobs == 2


def test_the_definition_for_wandb(tmp_path, quick):
    pytest.importorskip("optuna")
    words = f"dqn --env Catch CartPole --seeds 2 --sampler tpe --trials 5 --early-stopping asha --folder={tmp_path}"
    search = ["--search", "learning_rate=1e-4:1e-2:log", "batch=8,16", "double=yes,no", "worlds=2:8"]
    path = tmp_path / "sweep.yaml"
    flags = ["--", "--evaluate-every=1000"]
    assert program.main([*words.split(), *search, "--wandb-sweep", str(path), *flags]) == 0
    found = yaml.safe_load(path.read_text())
    assert found["method"] == "bayes" and found["metric"] == {"name": "eval/return", "goal": "maximize"}
    assert found["parameters"] == {
        "env": {"values": ["Catch", "CartPole"]},
        "seed": {"values": [1, 2]},
        "learning_rate": {"min": 1e-4, "max": 1e-2, "distribution": "log_uniform_values"},
        "batch": {"values": [8, 16]},
        "no_double": {"values": [False, True]},  # their recipe has it on
        "worlds": {"min": 2, "max": 8, "distribution": "int_uniform"},
    }
    assert found["run_cap"] == 20 and found["early_terminate"]["eta"] == 3
    assert found["command"][:4] == ["${env}", "${interpreter}", "-m", "agents.dqn"]
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    drawn = {"env": "Catch", "seed": 1, "learning_rate": 0.001, "no_double": True, "batch": 8}
    own = utils.create_sweep_command_args({"args": {key: {"value": value} for key, value in drawn.items()}})
    shown = plan.preview("agents.dqn", [own["args_no_boolean_flags"]])[0]
    assert shown.config["batch"] == 8 and shown.config["double"] is False and not shown.error


class Pretended:
    """An executor whose runs are lines in their folders: each evaluation is a call of `ended`.

    scores: of a run at a step. faults: by run and start, "kill", "fail" or "diverge" after its first evaluation.
    """

    jobs, threads, every, steps = 2, 1, 100, 900

    def __init__(self, scores, faults=None, better="max"):
        self.scores, self.faults, self.better = scores, faults or {}, better
        self.running, self.starts, self.halts = {}, [], []

    def room(self, expected=0.0):
        return len(self.running) < self.jobs

    def start(self, key, command, log, environment, expected=0.0):
        flags = dict(word.lstrip("-").split("=", 1) for word in command if "=" in word)
        world = "env" if "env" in flags else "data"
        folder = Path(flags["folder"]) / flags[world] / flags["name"]
        folder.mkdir(parents=True, exist_ok=True)
        about = {"program": command[2], "config": {world: flags[world], "steps": self.steps}, "id": "0" * 8}
        (folder / "config.json").write_bytes(
            files.sealed(about | {"score": {"metric": "eval/return", "better": self.better}})
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
        self.starts.append(key)
        self.running[key] = (folder, flags, log)

    def ended(self):
        found = []
        for key, (folder, flags, log) in list(self.running.items()):
            path = folder / "metrics.jsonl"
            step = self.every * (len(path.read_text().splitlines()) if path.exists() else 0)
            fault = self.faults.get((key, self.starts.count(key))) if step else None
            code = {"kill": -signal.SIGKILL, "fail": 1, "diverge": files.Diverged.status}.get(fault)
            code = 128 + signal.SIGTERM if key in self.halts else code
            if fault == "fail":
                log.write_text("Traceback\nValueError: no such luck\n")
            if code is None:
                line = {"step": step + self.every, "eval/return": self.scores(flags, step + self.every)}
                with open(path, "a") as file:
                    file.write(json.dumps(line) + "\n")
                if step + self.every == self.steps:
                    (folder / "finished.json").write_text("{}")
                    code = 0
            if code is not None:
                del self.running[key]
                self.halts = [each for each in self.halts if each != key]
                found.append(local.Ended(key, code, 1.0, 0.5))
        return found

    def stop(self, key):
        self.halts.append(key)

    kill = stop


def pretend(folder, monkeypatch, executor, search=(), trials=0, early=None, seeds=(1,), folds=0, **options):
    """A sweep of agents.dqn in Catch by an executor that pretends."""
    monkeypatch.setattr(engine, "PAUSE", 0)
    monkeypatch.setattr(engine, "POLL_EVERY", 0)
    study = plan.Study("agents.dqn", ("env", "Catch"), KINDS, executor.steps, executor.every)
    dimensions = tuple(space.parse(text, KINDS) for text in search)
    made = plan.Plan("mine", (study,), tuple(seeds), dimensions, (), str(folder), folds=folds)
    kept = Record(folder / "sweeps" / "mine", made.state())
    said = []
    early = EarlyStopping(made, kept, *early) if early else None
    kind = "random" if trials else "grid"
    made = engine.Sweep(made, Sampler(kind, dimensions, trials), executor, kept, early, say=said.append, **options)
    try:
        return made, made.run(), said
    finally:
        kept.close()


def test_killed_and_failed_runs_of_a_grid_by_hand(tmp_path, monkeypatch):
    faults = {("Catch/dqn-1", 1): "kill", ("Catch/dqn-2", 1): "fail"}
    faults |= {("Catch/dqn-3", 1): "kill", ("Catch/dqn-3", 2): "kill"}
    executor = Pretended(lambda flags, step: 1.0, faults)
    made, whole, said = pretend(tmp_path, monkeypatch, executor, seeds=(1, 2, 3, 4))
    states = {key[-1]: state for key, state in made.states.items()}
    assert not whole and {key: state.status for key, state in states.items()} == {
        **{"1": "finished", "2": "failed", "3": "failed", "4": "finished"}
    }
    assert (
        states["2"].reason == "exit 1: ValueError: no such luck"
        and states["3"].reason == "killed by SIGKILL, 2 times"
    )
    assert executor.starts.count("Catch/dqn-1") == 2 and executor.starts.count("Catch/dqn-2") == 1
    assert [line for line in closing(made) if "failed: Catch/dqn-2: exit 1: ValueError: no such luck" in line]
    again = Pretended(lambda flags, step: 1.0)
    made, whole, said = pretend(tmp_path, monkeypatch, again, seeds=(1, 2, 3, 4))
    assert whole and sorted(again.starts) == ["Catch/dqn-2", "Catch/dqn-3"]  # those that failed, and no other


def test_a_point_is_the_mean_over_its_seeds(tmp_path, monkeypatch):
    executor = Pretended(lambda flags, step: float(flags["batch"]) + float(flags["seed"]))
    made, whole, _ = pretend(tmp_path, monkeypatch, executor, ["batch=10,20,30"], seeds=(1, 2))
    assert whole and [row[:2] for row in ranked(made, made.plan.studies[0])] == [(3, 31.5), (2, 21.5), (1, 11.5)]
    assert "--batch=30" in closing(made)[0] and len(executor.starts) == 6
    again = Pretended(lambda flags, step: 0.0)
    assert pretend(tmp_path, monkeypatch, again, ["batch=10,20,30"], seeds=(1, 2))[1] and not again.starts


def test_a_point_is_the_mean_over_its_folds(tmp_path, monkeypatch):
    executor = Pretended(lambda flags, step: float(flags["batch"]) + float(flags["fold"]) * float(flags["folds"]))
    made, whole, _ = pretend(tmp_path, monkeypatch, executor, ["batch=10,20"], seeds=(1, 2), folds=3)
    assert whole and len(executor.starts) == len(set(executor.starts)) == 2 * 2 * 3
    assert [row[:2] for row in ranked(made, made.plan.studies[0])] == [(2, 23.0), (1, 13.0)]  # 3 times 0, 1 and 2
    assert "Catch/dqn-mine-2-1-fold2" in made.states and made.plan.state()["folds"] == 3


def test_a_point_that_diverges_is_the_worst_and_is_not_tried_again(tmp_path, monkeypatch):
    search, faults = ["batch=10,20,30"], {("Catch/dqn-mine-3-1", 1): "diverge", ("Catch/dqn-mine-2-1", 1): "fail"}
    executor = Pretended(lambda flags, step: float(flags["batch"]), faults)
    made, whole, _ = pretend(tmp_path, monkeypatch, executor, search)
    rows = ranked(made, made.plan.studies[0])
    assert [(number, status) for number, _, status in rows] == [(1, "finished"), (3, "diverged"), (2, "failed")]
    assert not whole and not any("dqn-mine-3" in line for line in closing(made))
    again = Pretended(lambda flags, step: float(flags["batch"]))
    made, whole, _ = pretend(tmp_path, monkeypatch, again, search)
    assert whole and again.starts == ["Catch/dqn-mine-2-1"]
    assert [row[0] for row in ranked(made, made.plan.studies[0])] == [2, 1, 3]
    alone = Pretended(lambda flags, step: 1.0, {("Catch/dqn-1", 1): "diverge"})
    made, whole, _ = pretend(tmp_path / "grid", monkeypatch, alone)
    assert not whole and made.states["Catch/dqn-1"].status == "failed"  # where nothing is searched


def test_early_stopping_of_a_search_by_hand(tmp_path, monkeypatch):
    """Nine points, each better than the one before it; rungs at 100 and 300 of 900 steps, eta 3."""
    executor = Pretended(lambda flags, step: float(flags["batch"]))
    search = ["batch=1,2,3,4,5,6,7,8,9"]
    made, whole, said = pretend(tmp_path, monkeypatch, executor, search, early=(1 / 9, 3))
    states = made.states.values()
    assert whole and {state.status for state in states} == {"finished", "stopped"}
    steps = {state.trial.point["batch"]: state.progress.step for state in states}
    assert steps[9] == 900 and made.outcomes(made.plan.studies[0])[8].value == 9.0
    assert all(steps[batch] < 300 for batch in (1, 2)) and sum(steps.values()) < 9 * 900 * 0.6
    again = Pretended(lambda flags, step: 0.0)
    assert pretend(tmp_path, monkeypatch, again, search, early=(1 / 9, 3))[1] and not again.starts


def test_a_stopped_run_goes_on_once_it_is_among_the_best(tmp_path, monkeypatch):
    """Each point is worse than the one before it: the first stops at the first rung, as one of one may not go on, and
    goes on when three have come that far."""
    executor = Pretended(lambda flags, step: -float(flags["batch"]))
    made, whole, _ = pretend(tmp_path, monkeypatch, executor, ["batch=1,2,3,4,5,6"], early=(1 / 9, 3))
    first = "Catch/dqn-mine-1-1"
    assert whole and executor.starts.count(first) >= 2 and made.states[first].status == "finished"
    before = executor.starts[: executor.starts.index("Catch/dqn-mine-6-1")]
    assert before.count(first) >= 2  # a run that may go on comes before a new point
    assert made.states["Catch/dqn-mine-6-1"].progress.step < 300


def test_promotions_of_a_score_that_is_better_when_smaller_survive_a_restart(tmp_path, monkeypatch):
    """Of three runs stopped at the first rung, with 1, 2 and 3, the next command goes on with 1."""
    search = ["batch=1,2,3"]
    executor = Pretended(lambda flags, step: float(flags["batch"]), better="min")
    monkeypatch.setattr(EarlyStopping, "promotion", lambda early, states: None)
    monkeypatch.setattr(EarlyStopping, "finalist", lambda early, states: None)
    made, _, _ = pretend(tmp_path, monkeypatch, executor, search, early=(1 / 9, 3))
    assert {state.status for state in made.states.values()} == {"stopped"}
    monkeypatch.undo()
    again = Pretended(lambda flags, step: float(flags["batch"]), better="min")
    pretend(tmp_path, monkeypatch, again, search, early=(1 / 9, 3))
    assert again.starts[0] == "Catch/dqn-mine-1-1"


def test_runs_that_finish_between_two_polls_count_at_their_rungs(tmp_path, monkeypatch):
    executor = Pretended(lambda flags, step: float(flags["batch"]))
    monkeypatch.setattr(engine.Sweep, "_read", lambda sweep: None)
    pretend(tmp_path, monkeypatch, executor, ["batch=1,2"], early=(1 / 9, 3))
    rungs_of = [(line["number"], line["step"]) for line in record(tmp_path) if line["kind"] == "rung"]
    assert sorted(rungs_of) == [(1, 100), (1, 300), (2, 100), (2, 300)]


def test_the_budget_of_time_counts_all_commands(tmp_path, monkeypatch):
    executor = Pretended(lambda flags, step: 1.0)
    kept = Record(tmp_path / "sweeps" / "mine", {"studies": []})
    kept.add("spent", seconds=61.0)
    kept.close()
    (tmp_path / "sweeps" / "mine" / "sweep.json").unlink()
    made, whole, _ = pretend(tmp_path, monkeypatch, executor, minutes=1.0)
    assert made.spent and not whole and not executor.starts
    assert "the same command goes on from here, with more --minutes" in closing(made)


def test_the_agent_of_wandb_names_its_run(tmp_path, monkeypatch):
    config = runs.Options(folder=tmp_path, device="cpu", wandb="disabled")
    assert runs.Run(config, "agents.dqn", "Catch").folder.name == "dqn-1"
    monkeypatch.setenv("WANDB_RUN_ID", "ab12cd34")
    assert runs.Run(config, "agents.dqn", "Catch").folder.name == "dqn-1"
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    run = runs.Run(config, "agents.dqn", "Catch")
    assert run.folder.name == "dqn-1-ab12cd34" and run.wandb_mirror._asked["id"] == "ab12cd34"


def started(words: list[str], **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "runs.sweep", *words], cwd=ROOT, env=environment, **options)


def record(folder: Path) -> list[dict]:
    return [json.loads(line) for line in next(folder.glob("sweeps/*/trials.jsonl")).read_text().splitlines()]


def ends(folder: Path) -> dict[str, list[str]]:
    """The statuses of each run, in their order."""
    found = {}
    for line in record(folder):
        if line["kind"] == "run":
            found.setdefault(line["run"], []).append(line["status"])
    return found


@pytest.mark.slow
def test_a_grid_goes_on_after_an_interruption_and_no_run_is_done_twice(tmp_path):
    words = ["dqn", "--env", "Catch", "--seeds=3", f"--folder={tmp_path}", "--jobs=2", "--", *DQN, "--save-every=0"]
    first = started(words, stdout=subprocess.DEVNULL)
    while len(list(tmp_path.glob("Catch/dqn-*/checkpoint/0*.json"))) < 1 and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    assert first.wait() == 130
    found = ends(tmp_path)
    assert found and {"saved", "finished"} >= {status for each in found.values() for status in each}
    second = started(words, stdout=subprocess.PIPE, text=True)
    said = second.communicate()[0]
    assert second.returncode == 0 and "3 of 3" in said
    wrote = {path: path.stat().st_mtime_ns for path in tmp_path.glob("Catch/*/finished.json")}
    assert len(wrote) == 3 and {read_run(path.parent).step for path in wrote} == {400}
    assert all(each[-1] == "finished" for each in ends(tmp_path).values())
    third = started(words, stdout=subprocess.PIPE, text=True)
    assert "3 of 3" in third.communicate()[0] and third.returncode == 0
    assert wrote == {path: path.stat().st_mtime_ns for path in tmp_path.glob("Catch/*/finished.json")}


@pytest.mark.slow
def test_a_killed_and_a_crashing_run_are_accounted_for(tmp_path):
    """A grid of 3 programs, 2 worlds and 3 seeds on 2 cores: one run is killed and finishes nevertheless, one always
    crashes and is named, and the 16 others finish."""
    flags = ["--wandb=disabled", "--film-seconds=0", "--log-every=100", "--steps=800", "--evaluate-every=400"]
    flags += ["--evaluate-games=2", "--save-every=0.2"]
    crash = tmp_path / "Catch" / "ppo-2"
    crash.mkdir(parents=True)
    (crash / "checkpoint").write_text("a file where a run has a folder")  # refused at its start
    words = ["dqn", "pqn", "ppo", "--env", "Catch", "CartPole", "--seeds=3", f"--folder={tmp_path}", "--jobs=2"]
    running = started([*words, "--", *flags], stdout=subprocess.PIPE, text=True)
    victim = tmp_path / "Catch" / "dqn-1"
    while not list(victim.glob("checkpoint/0*.json")):
        assert running.poll() is None
        time.sleep(0.02)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"--folder={tmp_path}".encode() in command and {b"--name=dqn-1", b"--env=Catch"} <= set(command):
            os.kill(int(path.parent.name), signal.SIGKILL)
    said = running.communicate()[0]
    assert running.returncode == 1
    found = ends(tmp_path)
    assert len(found) == 18 and found.pop("Catch/ppo-2") == ["failed"]
    assert found.pop("Catch/dqn-1") == ["killed", "finished"]
    assert all(statuses == ["finished"] for statuses in found.values())
    assert len(list(tmp_path.glob("*/*/finished.json"))) == 17
    assert "Catch/dqn-1: it was killed by SIGKILL; it is started again" in said
    named = next(line for line in said.splitlines() if line.startswith("failed: Catch/ppo-2"))
    assert "is not a folder" in named and "2 of 3" in said
    killed = read_run(victim)
    assert killed.step == 800 and killed.status == "finished"
    (crash / "checkpoint").unlink()
    again = started([*words, "--", *flags], stdout=subprocess.PIPE, text=True)
    assert "failed" not in again.communicate()[0] and again.returncode == 0
    assert len(list(tmp_path.glob("*/*/finished.json"))) == 18


@pytest.mark.slow
def test_a_search_stops_poor_points_early(tmp_path):
    """Of nine learning rates some are stopped at a rung and keep their checkpoints, and the best goes to the end."""
    words = ["dqn", "--env", "Catch", f"--folder={tmp_path}", "--name=rates", "--jobs=2", "--early-stopping=asha"]
    words += ["--search", "learning_rate=0,1e-5,1e-4,3e-4,1e-3,2e-3,3e-3,1e-2,3e-2", "--first-rung=0.25"]
    flags = ["--", *TINY, "--steps=4000", "--evaluate-every=500", "--batch=32", "--evaluate-games=20"]
    running = started([*words, *flags], stdout=subprocess.PIPE, text=True)
    said = running.communicate()[0]
    assert running.returncode == 0, said
    last = {run: statuses[-1] for run, statuses in ends(tmp_path).items()}
    assert len(last) == 9 and set(last.values()) == {"finished", "stopped"}
    assert list(last.values()).count("finished") <= 5 and "best: python -m agents.dqn --env Catch" in said
    for key in (key for key, status in last.items() if status == "stopped"):
        folder = tmp_path / key
        assert 1000 <= read_run(folder).step < 4000 and list((folder / "checkpoint").glob("0*.json"))
    rungs_of = [line for line in record(tmp_path) if line["kind"] == "rung"]
    assert {line["number"] for line in rungs_of} == set(range(1, 10))


def test_a_sweep_of_another_kind_is_refused_in_the_same_folder(tmp_path, capsys, quick):
    words = ["dqn", "--env", "Catch", f"--folder={tmp_path}", "--name=mine", "--minutes=0.0001"]
    assert program.main([*words, "--", "--steps=100", "--wandb=disabled"]) == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert program.main([*words, "--", "--steps=200", "--wandb=disabled"]) == 2
    assert "holds another sweep" in capsys.readouterr().err


def test_the_plan_names_runs_as_the_programs_do(tmp_path, quick):
    made = plan.make(["dqn"], [("env", "Catch")], [1, 2], ["batch=8,16"], [], str(tmp_path))
    study = made.studies[0]
    assert [each.name for each in made.trials(study)] == ["dqn-1", "dqn-2"]
    searched = made.trials(study, 3, {"batch": 8})[1]
    assert searched.name == f"dqn-{made.name}-3-2" and searched.key == f"Catch/{searched.name}"
    assert searched.arguments(["--steps=9"], "results") == [
        *("--env=Catch", "--steps=9", "--batch=8", "--seed=2", "--folder=results", f"--name={searched.name}")
    ]
