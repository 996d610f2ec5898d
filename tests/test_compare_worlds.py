"""Comparisons over worlds, sample efficiency, thresholds, caveats and their files, against numbers worked by hand."""

import csv
import json

import numpy as np
import pytest

from runs.compare import __main__ as program
from runs.compare import aggregate, caveats, efficiency, pictures, sections
from runs.curves import bounds, thin
from runs.groups import group
from runs.reader import read_run
from tests.test_compare import PNG, command, describe, make_run


def grouped(*folders):
    return group(map(read_run, folders))


def agent(root, name, scores, protocol="classic"):
    """Runs of a program called `name`: {world: final score of each seed}."""
    for world, finals in scores.items():
        for seed, final in enumerate(finals, start=1):
            describe(
                make_run(root, seed, world, protocol, f"{name}-{seed}", scores=(0.0, final), steps=200),
                program=f"agents.{name}",
                config={"seed": seed, "steps": 200},
            )


def games(root):
    """DQN and PPO in two games. Breakout is (x - 1.7) / 28.8 of human, Pong (x + 20.7) / 35.3."""
    agent(root, "dqn", {"Breakout": (1.7, 16.1, 30.5), "Pong": (-20.7, -20.7, -20.7)})  # 0, 0.5, 1 and 0, 0, 0
    agent(root, "ppo", {"Breakout": (30.5, 30.5, 59.3), "Pong": (14.6, 14.6, 14.6)})  # 1, 1, 2 and 1, 1, 1
    return group(map(read_run, sorted(path.parent for path in root.rglob("config.json"))))


def test_aggregates_over_games_by_hand(tmp_path):
    (block,) = aggregate.blocks(games(tmp_path))
    assert block.worlds == ("Breakout", "Pong") and block.unit == "human-normalized score" and block.telling
    assert block.scores["dqn"][0] == pytest.approx([0, 0.5, 1]) and block.ranked == ["ppo", "dqn"]
    found = {name: estimate.value for name, estimate in block.estimates("dqn").items()}
    # 0, 0, 0, 0, 0.5, 1 without one on each side: 0.125. Means of games 0.5 and 0. All are below human.
    assert found == pytest.approx({"IQM": 0.125, "median": 0.25, "mean": 0.25, "optimality gap": 0.75})
    ((one, two, estimate),) = block.improvements
    # In Breakout 1, 1 and 2 tie with 1 or beat it: 8 of 9, since two pairs tie; in Pong 9 of 9.
    assert (one, two) == ("ppo", "dqn") and estimate.value == pytest.approx((8 / 9 + 1) / 2)
    section = sections.aggregates(block)
    assert section.rows[1][:3] == ["dqn", "2", "6"] and section.rows[1][3].startswith("0.12 [")


def test_agents_are_compared_over_the_worlds_that_they_share(tmp_path):
    agent(tmp_path, "a2c", {"Pong": (0.0, 1.0)})
    agent(tmp_path, "r2d2", {"Pong": (0.0, 1.0)}, protocol="sticky")
    found = aggregate.blocks(games(tmp_path))
    assert [(block.protocol, block.worlds, list(block.groups)) for block in found] == [
        ("classic", ("Breakout", "Pong"), ["dqn", "ppo"]),
        ("classic", ("Pong",), ["a2c", "dqn", "ppo"]),
        ("sticky", ("Pong",), ["r2d2"]),
    ]


def test_worlds_without_human_scores_by_hand(tmp_path):
    agent(tmp_path, "dqn", {"Catch": (0.0, 0.5), "CartPole-v1": (100.0, 300.0)}, None)
    agent(tmp_path, "ppo", {"Catch": (0.5, 1.0), "CartPole-v1": (500.0, 500.0)}, None)
    groups = group(map(read_run, sorted(path.parent for path in tmp_path.rglob("config.json"))))
    (block,) = aggregate.blocks(groups)
    assert block.worlds == ("CartPole-v1", "Catch") and "range" in block.unit
    assert [scores.tolist() for scores in block.scores["dqn"]] == [[0, 0.5], [0, 0.5]]
    (raw,) = aggregate.blocks(groups, "none")
    assert raw.scores["ppo"][0].tolist() == [500, 500] and "optimality gap" not in raw.estimates("ppo")
    with pytest.raises(ValueError, match="no human score of 'CartPole-v1' is published"):
        aggregate.blocks(groups, "human")
    with pytest.raises(ValueError, match="it takes auto"):
        aggregate.blocks(groups, "all")


def test_of_errors_less_is_better(tmp_path):
    for name, errors in (("sgd", (1.0, 2.0, 3.0)), ("adam", (2.0, 4.0, 6.0))):
        agent(tmp_path, name, {"MNIST": errors}, None)
    for folder in sorted(path.parent for path in tmp_path.rglob("config.json")):
        describe(folder, score={"metric": "eval/error", "better": "min", "unit": "%"}, unit="images")
        text = (folder / "metrics.jsonl").read_text().replace("eval/return", "eval/error")
        (folder / "metrics.jsonl").write_text(text)
    groups = group(map(read_run, sorted(path.parent for path in tmp_path.rglob("config.json"))))
    (block,) = aggregate.blocks(groups)
    assert block.ranked == ["sgd", "adam"] and block.unit == "error (%)"
    error = block.estimates("sgd")["mean"]
    assert error.value == 2.0 and error.low < 2.0 < error.high
    # Of nine pairs 1 beats all three; 2 ties once and beats two; 3 loses once and beats two: 7.5 of 9.
    assert block.improvements[0][2].value == pytest.approx(7.5 / 9)
    run = groups[1].runs[0]  # its curve falls from 0, which is better than any error
    assert run.score.better == "min" and efficiency.reached(run, 0.5) == 100


def curve(root, values, seed=1, **changes):
    folder = make_run(root, seed, scores=values, name=f"dqn-{seed}")
    return read_run(describe(folder, **changes) if changes else folder)


def test_thresholds_and_scores_by_hand(tmp_path):
    run = curve(tmp_path, (0.0, 4.0, 2.0, 8.0))  # at 100, 200, 300 and 400, 50 steps a second
    assert efficiency.reached(run, 3.0) == 175 and efficiency.reached(run, 5.0) == 350
    assert efficiency.reached(run, 0.0) == 100 and efficiency.reached(run, 8.5) is None
    assert efficiency.reached(run, 3.0, "hours") == pytest.approx(175 / 50 / 3600)
    assert efficiency.score_at(run, 250) == 3.0
    assert efficiency.score_at(run, 99) is None and efficiency.score_at(run, 401) is None  # nothing is extrapolated
    # Trapezoids up to 250: 100 x 2 and 50 x 3.5, over 150 steps.
    assert efficiency.area(run, 250) == pytest.approx(375 / 150) and efficiency.area(run, 500) is None
    assert efficiency.median_reached([10.0, 20.0, None]) == 20.0
    assert efficiency.median_reached([10.0, 20.0]) == 15.0
    assert efficiency.median_reached([10.0, None]) is None and efficiency.median_reached([]) is None


def test_the_budget_is_what_finished_runs_reach(tmp_path):
    long = curve(tmp_path, (1.0, 2.0, 3.0))  # of 300 steps
    short = make_run(tmp_path, 2, scores=(1.0,), name="dqn-2", finished=False, steps=300)
    groups = group([long, read_run(short)])
    assert efficiency.budget(groups) == 300
    (row,) = sections.sample_efficiency(groups).rows
    # A tenth of 300 lies before the first evaluation, half of it between the first two.
    assert row[3:6] == ["300", "–", "–"] and row[6] == "1.50 (1 of 2 seeds)"


def test_bands_and_thinning_by_hand():
    values = np.array([[2.0, 1.0], [4.0, 1.0], [6.0, 1.0]])
    low, high, meaning = bounds(values, "interval")
    assert high == pytest.approx([4 + 4.302653 * 2 / np.sqrt(3), 1.0]) and "95%" in meaning  # Student's t
    assert low == pytest.approx([4 - 4.302653 * 2 / np.sqrt(3), 1.0])
    assert bounds(values, "range")[0].tolist() == bounds(values[:2], "interval")[0].tolist() == [2.0, 1.0]
    places, kept = thin(np.arange(11.0), np.arange(22.0).reshape(2, 11), 3)
    assert places.tolist() == [0, 5, 10] and kept[1].tolist() == [11, 16, 21]


def test_caveats_name_what_they_are_about(tmp_path):
    make_run(tmp_path, 1, "Pong", "classic", evaluate_games=10)
    make_run(tmp_path, 1, "Pong", "sticky", name="sticky-1", evaluate_games=5, finished=False, steps=1000)
    groups = group(map(read_run, sorted(path.parent for path in tmp_path.rglob("config.json"))))
    found = "\n".join(caveats.caveats(groups))
    for said in (
        "Fewer than 3 seeds, too few for an interval over seeds: Pong dqn classic (1), Pong dqn sticky (1).",
        "Still running, so that the last evaluation is not the final one: Pong dqn sticky seed 1.",
        "Pong: scores under the protocols classic and sticky do not compare.",
        "Pong: runs of 200 to 1k steps stand beside one another",
        "Pong: games an evaluation differ (10, 5).",
    ):
        assert said in found
    whole = tmp_path / "five"
    assert caveats.caveats(grouped(*(make_run(whole, seed) for seed in range(5)))) == []


def test_all_files_of_a_comparison(tmp_path, monkeypatch, capsys):
    games(tmp_path / "results")
    names = {flag: tmp_path / f"c.{flag}" for flag in ("csv", "json", "md", "tex")}
    flags = [word for flag, path in names.items() for word in (f"--{flag}", path)]
    out = tmp_path / "c.png"
    command(monkeypatch, program.main, tmp_path / "results", *flags, "--out", out, "--threshold", 0, "--x", "frames")
    said = capsys.readouterr()
    assert "Over Breakout, Pong (classic)" in said.out and "Time to a score of 0.000" not in said.err
    assert "warning: Fewer than 5 seeds" in said.err
    assert out.read_bytes().startswith(PNG) and (tmp_path / "c-worlds.png").read_bytes().startswith(PNG)
    with open(names["csv"], newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["human_normalized"], first["steps_to_0"], first["frames_to_0"]) == ("0.0", "100.0", "400.0")
    found = json.loads(names["json"].read_text())
    assert found["over_worlds"][0]["agents"]["dqn"]["IQM"]["value"] == pytest.approx(0.125)
    assert found["time_to_threshold"][0]["steps"] == [100.0, 100.0, 100.0] and found["warnings"]
    page, tex = names["md"].read_text(), names["tex"].read_text()
    assert page.startswith("# Comparison") and "## Probability of improvement over Breakout, Pong (classic)" in page
    assert tex.count(r"\begin{tabular}") == tex.count(r"\bottomrule") == 5 and r"16.1 $\pm$ 35.8" in tex


def test_latex_is_escaped():
    section = sections.Section("a_b & 50%", ["program", "IQM"], [["x_1 {y}", "[2, 3]"]], "~^\\")
    tex = sections.as_tex([section], ["50%"])
    assert r"x\_1 \{y\} & {}[2, 3] \\" in tex and r"a\_b \& 50\%" in tex and r"\textbackslash{}" in tex


def test_iqm_curve_by_hand(tmp_path):
    (block,) = aggregate.blocks(games(tmp_path))
    places, values, low, high = pictures.iqm_curve(block, "ppo")
    # Every run begins at 0: -1.7 / 28.8 and 20.7 / 35.3 of human; the middle four of six are two of each.
    assert places[0] == 100 and places[-1] == 200
    assert values[0] == pytest.approx((-1.7 / 28.8 + 20.7 / 35.3) / 2) and values[-1] == pytest.approx(1.0)
    assert (low <= values).all() and (values <= high).all()
