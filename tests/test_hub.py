"""Runs on the Hugging Face Hub: what a server on this machine is given is what comes back, and plays."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import agents
from agents import dqn
from runs import hub
from runs.files import RunError
from runs.reader import read_run
from tests.hub_server import HubServer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of dqn on Catch with an evaluation."""
    folder = tmp_path_factory.mktemp("runs")
    small = dict(backbone="small", width=0.5, hidden=16, wandb="disabled", device="cpu", film_seconds=0.0)
    config = dataclasses.replace(dqn.recipe(dqn.Config(env="Catch")), **small, steps=96, learn_start=32)
    dqn.train(dataclasses.replace(config, folder=folder, evaluate_every=48, evaluate_games=2))
    (folder / "Catch/dqn-1/videos").mkdir(exist_ok=True)
    (folder / "Catch/dqn-1/videos/step-96.gif").write_bytes(b"GIF89a")
    played = {"checkpoint": "best", "games": 30, "mean": 0.5}
    (folder / "Catch/dqn-1/watch.jsonl").write_text(json.dumps(played) + "\n")
    return folder / "Catch/dqn-1"


def asked(server: HubServer, home: Path, *words: object) -> subprocess.CompletedProcess:
    """`python -m runs.hub` in a process of its own: the client reads its address when it is imported."""
    more = dict(HF_ENDPOINT=server.url, HF_TOKEN="hf_" + "a" * 30, HF_HOME=str(home), HF_HUB_DISABLE_XET="1")
    command = [sys.executable, "-m", "runs.hub", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=os.environ | more, capture_output=True, text=True, timeout=300)


def test_a_run_is_pushed_and_pulled(run, tmp_path):
    pytest.importorskip("huggingface_hub")
    with HubServer() as server:
        done = asked(server, tmp_path, "push", run, "someone/catch")
        assert done.returncode == 0 and "someone/catch" in done.stdout, done.stderr
        stored = server.files["someone/catch"]
        assert {"README.md", "config.json", "checkpoint/best.pt", "metrics.jsonl", "film.gif"} <= stored.keys()
        assert not any("0000" in name for name in stored), "no checkpoints to resume from"
        place = tmp_path / "pulled"
        done = asked(server, tmp_path, "pull", "someone/catch", "--folder", place)
        assert done.returncode == 0, done.stderr
        for name in ("config.json", "checkpoint/best.pt", "metrics.jsonl"):
            assert (place / name).read_bytes() == (run / name).read_bytes()
        assert asked(server, tmp_path, "pull", "someone/catch", "--folder", place).returncode == 1
        missing = asked(server, tmp_path, "pull", "someone/nothing", "--folder", tmp_path / "nothing")
        assert missing.returncode == 1 and missing.stderr.startswith("error: ") and "Traceback" not in missing.stderr
        server.files["someone/other"] = {"README.md": b"no run"}
        other = asked(server, tmp_path, "pull", "someone/other", "--folder", tmp_path / "other")
        assert other.returncode == 1 and "config.json" in other.stderr
    assert agents.play(place, games=2)["return"]


def test_a_card_states_protocol_and_scores(run):
    text = hub.card(read_run(run), "someone/catch", "film.gif")
    _, front, body = text.split("---\n", 2)
    found = json.loads(front)
    (result,) = found["model-index"][0]["results"]
    values = {each["type"]: each["value"] for each in result["metrics"]}
    known = read_run(run)
    assert values == {
        "return_best": known.best["eval/return"],
        "return_last": known.final["eval/return"],
        "mean_reward": 0.5,
    }
    assert result["dataset"]["name"] == "Catch" and found["tags"] == ["reinforcement-learning", "dqn", "Catch"]
    assert "python -m agents.watch results/hub/catch" in body
    about = known.about | {"follow_up": "python -m vision.detection predict"}
    config = {name: value for name, value in known.config.items() if name != "env"}
    boxes = hub.card(dataclasses.replace(known, about=about, config=config), "someone/boxes")
    assert '"computer-vision"' in boxes and "python -m vision.detection predict results/hub/boxes" in boxes
    assert "| 30 games played afterwards by the best weights | 0.500 |" in body and "](film.gif)" in body
    assert "python -m runs.hub pull someone/catch" in body and "# dqn on Catch" in body


def test_what_is_no_run_is_not_pushed(run, tmp_path):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(RunError, match="no config.json"):
        hub.push(tmp_path, "someone/x")
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    with pytest.raises(RunError, match="has no checkpoint/best.pt"):
        hub.push(tmp_path, "someone/x")
    with pytest.raises(RunError, match="not empty"):
        hub.pull("someone/x", tmp_path)
