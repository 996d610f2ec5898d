"""Faults injected into programs (tests/faults): a sample by default, all of them among the slow tests."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import runs
from runs import flags, programs
from tests.faults.programs import PROGRAMS

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults need Linux: fork, /proc, tmpfs")
SAMPLE = ["kill -9 at a write", "flip", "disk full"]


def inject(out, *arguments):
    command = [sys.executable, "-m", "tests.faults", "--out", str(out), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    tries = [json.loads(line) for line in (out / "tries.jsonl").read_text().splitlines()]
    assert tries, done.stderr
    failed = [f"{each['program']}: {each['fault']}: {each['why']}" for each in tries if each["outcome"] == "failed"]
    assert not failed and done.returncode == 0, "\n".join(failed) + done.stderr
    return tries


def test_a_sample_of_faults_is_survived_or_named(tmp_path):
    tries = inject(tmp_path, "--programs", "classification", "--faults", *SAMPLE)
    assert len(tries) == len(SAMPLE) and "| all |" in (tmp_path / "faults.md").read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_flags_of_every_program_parse(name, monkeypatch, tmp_path):
    parsed = []

    def launch(main, config, recipe, program, description=None):
        parsed.append(flags.parse(config, program))

    arguments = PROGRAMS[name].arguments(tmp_path, tmp_path)
    monkeypatch.setattr(runs, "launch", launch)
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    runpy.run_module(PROGRAMS[name].module, run_name="__main__", alter_sys=True)
    assert len(parsed) == 1


UNTRIED = {  # and why
    "agents.watch": "reads runs, and is tried on damaged ones",
    "agents.apex": "keeps its run as agents.rainbow does; what its actors need, Ray, is an extra",
    **dict.fromkeys(["agents.export", "vision.classification.export"], "reads runs, and writes one file at the end"),
    "vision.training.loss_scaling": "writes one picture by runs.output, as parameter_server",
    "agents.studies.state_embedding": "reads runs, as agents.watch does, and writes one picture by runs.output",
    "agents.studies.export_observations": "reads runs, as agents.watch does, and writes files by runs.output",
    "agents.studies.attribution_objects": "reads runs, as agents.watch does, and writes one page",
    "agents.studies.world_model.plan": "reads runs, as agents.watch does, and writes one page",
    "agents.studies.film_detections": "reads runs, and is tried on damaged ones as predictions are",
    "agents.studies.representation.transfer": "collects, pretrains and trains by programs that are tried",
    "vision.classification.ensembles": "reads runs, and is tried on damaged ones",
    "vision.interpretation": "reads runs, as ensembles do",
    **dict.fromkeys(
        [
            f"vision.interpretation.{name}"
            for name in ("activations", "embedding", "feature_visualization", "neighbors")
            + ("deepdream", "feature_inversion", "style_transfer", "saliency_segmentation")
        ],
        "reads runs, as ensembles do, and writes one picture by runs.output, as retrieval does",
    ),
    "vision.interpretation.attribution_scores": "reads runs, as ensembles do",
    "vision.interpretation.layer_table": "writes no file",
}


def test_faults_are_tried_on_every_program():
    known = {f"{room}.{name}" for room in ("agents", "vision") for name in programs.programs(room)}
    assert known == {program.module for program in PROGRAMS.values()} | UNTRIED.keys()


@pytest.mark.slow
def test_every_fault_on_every_program_is_survived_or_named(tmp_path):
    inject(tmp_path, "--workers", 2)
