"""The start line of a run: what published runs of the same recipe reached, in which time, or else nothing."""

import dataclasses
import importlib
import json

import pytest

import runs
from runs import publish
from runs.expected import differences, expected
from runs.reader import RECORDS, read_records
from tests.test_compare import describe, make_run


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    env: str = "Catch"
    steps: int = 200
    double: bool = False
    width: float = 1.0
    batch: int = 32
    decay: float | None = None


def published(tmp_path, *folders, topic="catch"):
    for number, folder in enumerate(folders):
        publish.publish(folder, tmp_path / "published", topic, f"v{number}" if number else "")
    return tmp_path / "published"


def said(into, world="Catch", protocol=None, **flags):
    return expected("agents.dqn", world, protocol, Config(**flags), into)


def test_one_run_and_several_seeds(tmp_path):
    into = published(tmp_path, make_run(tmp_path, scores=(1.0, 3.0)))
    assert said(into) == "the published run of this recipe: return 3.00 after 200 steps, 4 s on 2 cores (Abacus)"
    publish.publish(make_run(tmp_path, 2, scores=(1.0, 2.5)), into, "catch")
    assert said(into, seed=7, device="cpu", threads=2) == (
        "2 published runs of this recipe: return 2.50 to 3.00 after 200 steps, 4 s on 2 cores (Abacus)"
    )


def test_a_run_that_was_stopped_and_its_threads_are_said(tmp_path):
    folder = make_run(tmp_path, scores=(1.0, 3.0), finished=False, steps=400)
    describe(folder, hardware={"processor": "Abacus", "cores": 2, "torch_threads": 1})
    assert said(published(tmp_path, folder), steps=400) == (
        "the published run of this recipe: return 3.00 after 200 steps, stopped before its 400, 4 s on 2 cores "
        "(Abacus), 1 thread"
    )


def test_what_differs_is_named_and_the_nearest_is_chosen(tmp_path):
    first, second = make_run(tmp_path, name="a", double=True), make_run(tmp_path, name="b", scores=(1.0, 3.0, 5.0))
    into = published(tmp_path, first, second)
    assert said(into, steps=300, batch=64).startswith(
        "the published run of this recipe with --batch 32: return 5.00 after 300 steps"
    )
    assert "with --double: return 3.00" in said(into)
    assert said(into, steps=400, batch=64, width=0.5, decay=0.1) is None  # nothing like it was published


def test_flags_of_another_version_count_unless_they_are_off(tmp_path):
    into = published(tmp_path, make_run(tmp_path, noise=0.5, norm="none", folder="elsewhere", evaluate_every=7))
    (record,) = read_records(into / "catch" / "Catch" / RECORDS)
    assert differences(record, Config()) == ("--noise 0.5",)
    assert differences(record, Config(double=True, decay=0.1)) == ("no --decay", "--no-double", "--noise 0.5")


def test_games_played_afterwards_and_tests_come_before_evaluations(tmp_path):
    played = make_run(tmp_path, world="Pong", protocol="classic")
    (played / "watch.jsonl").write_text(json.dumps({"mean": 2.25, "games": 30}) + "\n")
    tested = describe(
        make_run(tmp_path, world="digits"), score={"metric": "eval/error", "better": "min", "unit": "%"}
    )
    with open(tested / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 200, "test/error": 1.5, "test/error_10": 1.25}) + "\n")
    describe(
        tested,
        hardware={"gpu": "H100", "processor": "Abacus"},
        unit="images",
        score=dict(metric="eval/error", better="min", unit="%"),
    )
    into = published(tmp_path, played, tested)
    assert "return 2.25 after 200 steps" in said(into, "Pong", "classic")
    assert said(into, "Pong", "sticky") is None and said(into, "Breakout", "classic") is None
    assert said(into, "digits").endswith("error 1.50% after 200 images, 4 s on H100")


@pytest.mark.parametrize("text", [None, "", "no JSON\n", "{}\n"])
def test_without_records_or_with_broken_ones_nothing_is_said(tmp_path, text):
    path = tmp_path / "published" / "catch" / "Catch" / RECORDS
    if text is not None:
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert said(tmp_path / "published") is None


@pytest.mark.parametrize(
    "program, flags, words",
    [
        ("agents.dqn", dict(env="Breakout"), "the published run of this recipe: return 81.8 after 1.2M steps"),
        ("agents.pqn", dict(env="Breakout"), "3 published runs of this recipe: return 271.2 to 342.5 after 4M steps"),
        ("agents.pqn", dict(env="Pong"), "3 published runs of this recipe: return"),
        ("agents.ppo", dict(env="CartPole"), "3 published runs of this recipe: return 495.1 to 500.0 after 300k"),
        ("vision.classification", dict(data="mnist"), "the published run of this recipe: error 0.330% after 440k"),
    ],
)
def test_recipes_are_those_of_their_published_runs(program, flags, words):
    module = importlib.import_module(f"{program}.train" if program.startswith("vision") else program)
    config = module.recipe(module.Config(**flags))
    world = flags.get("env", flags.get("data"))
    protocol = "classic" if world in ("Breakout", "Pong") else None
    world = "CartPole-v1" if world == "CartPole" else world
    assert expected(program, world, protocol, config).startswith(words)


def test_the_start_line_says_it(tmp_path, capsys, monkeypatch):
    into = published(tmp_path, make_run(tmp_path))
    for place, shown in ((into, True), (tmp_path / "nowhere", False)):
        monkeypatch.setattr("runs.expected.PUBLISHED", place)
        run = runs.Run(
            Config(folder=tmp_path / str(shown), wandb="disabled"), program="agents.dqn", world="Catch", note="a note"
        )
        run.track()
        for _ in run.steps(1):
            pass
        lines = capsys.readouterr().err.splitlines()
        assert ("the published run of this recipe with --steps 200" in "".join(lines)) is False
        assert any("the published run of this recipe: return 3.00" in line for line in lines) is shown
        assert "a note" in lines
