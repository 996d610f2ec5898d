"""The picture of learning curves: what is drawn, where it lies, and that every name can be read on it."""

import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from runs import curves
from runs.curves import common, distinct, draw, running_mean
from runs.groups import group
from runs.reader import RECENT, read_run
from tests.test_compare import PNG, describe, make_run, rows


def test_of_image_sets_the_error_is_drawn(tmp_path, monkeypatch):
    games, images = make_run(tmp_path), make_run(tmp_path, world="MNIST")
    score = {"metric": "eval/error", "better": "min", "unit": "%"}
    describe(images, score=score, unit="images")
    (images / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": s, "eval/error": e}) + "\n" for s, e in ((100, 30.0), (200, 1.0), (300, 2.0)))
    )
    played, named = (rows(folder)[0][f"last {RECENT} training games"] for folder in (games, images))
    assert played != "–" and named == "–"
    drawn = {}
    finish = curves._finish_panel
    monkeypatch.setattr(
        curves, "_finish_panel", lambda axis, panel, x: (finish(axis, panel, x), drawn.update({panel.title: axis}))
    )
    draw(group(map(read_run, (games, images))), tmp_path / "curves.png")
    (row,) = rows(images)
    assert (row["final evaluation"], row["best evaluation"]) == ("2.00%", "1.00%")  # less is better
    assert drawn["MNIST"].lines[0].get_ydata().tolist() == [30, 1, 2] and drawn["MNIST"].get_yscale() == "log"
    assert drawn["MNIST"].get_xlabel() == "images shown"
    assert drawn["Catch"].lines[0].get_ydata().tolist() == [1, 3] and drawn["Catch"].get_yscale() == "linear"


def figure_of(*folders, metric=None, x="steps"):
    with curves.plain_text():
        figure, missing = curves.picture(group(map(read_run, folders)), metric, x, 1)
        figure.draw_without_rendering()
    return figure, missing


@pytest.mark.filterwarnings("error")  # as matplotlib's of a legend without lines
def test_a_world_without_evaluation_shows_its_training_and_no_panel_is_empty(tmp_path):
    played, waiting = make_run(tmp_path, world="Pong"), make_run(tmp_path, scores=(), steps=100)
    lines = [{"step": 100, "episode/return": 1.0}, {"step": 200, "episode/return": 2.0}]
    (played / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure, missing = figure_of(played, waiting)
    (axis,) = figure.axes
    assert axis.get_title("left") == "Pong" and axis.lines[0].get_ydata().tolist() == [1, 2]
    assert axis.get_ylabel() == curves.MEANING["episode/return"] and missing == [
        "Catch, dqn: no training return (mean of whole games) yet"
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("steps", [((100,),), ((100,), (200,)), ((0,),), ((10, 20), (30, 40))])
def test_seeds_that_share_no_step_are_all_seen(tmp_path, steps):
    folders = []
    for seed, places in enumerate(steps, 1):
        folders.append(make_run(tmp_path, seed))
        lines = [{"step": step, "eval/return": 5.0} for step in places]
        (folders[-1] / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure, _ = figure_of(*folders)
    (axis,) = figure.axes
    low, high = axis.get_xlim()
    drawn = sorted({place for line in axis.lines for place in line.get_xdata()})
    assert drawn == sorted({place for places in steps for place in places})
    assert high - low >= 1  # no axis of thousandths of a step
    for line in axis.lines:  # a single point has a mark, or nothing of it is seen
        assert len(line.get_xdata()) != 1 or line.get_marker() not in (None, "None")


@pytest.mark.filterwarnings("error")
def test_an_error_of_zero_has_a_scale(tmp_path):
    folder = describe(make_run(tmp_path), score={"metric": "eval/error", "better": "min", "unit": "%"})
    lines = [{"step": step, "eval/error": error} for step, error in ((1, 50.0), (2, 0.0))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure, _ = figure_of(folder)
    assert figure.axes[0].get_yscale() == "linear" and figure.axes[0].get_ylim()[0] <= 0


LONG = "a_very_long_name_of_a_variant_$x_1$ " * 5


@pytest.mark.filterwarnings("error")
def test_no_text_leaves_the_picture(tmp_path):
    many = [make_run(tmp_path, 1, world=f"World{n}", scores=()) for n in range(9)]
    mixed = [make_run(tmp_path, seed, name=f"{LONG}-{seed}", scores=(1.0, 2.0, 3.0)[:seed]) for seed in (2, 3)]
    mixed += [make_run(tmp_path, 1, world="Long " * 30, name=f"_{seed}", double=[LONG]) for seed in (1, 2)]
    figure, missing = figure_of(*many, *mixed)
    renderer = FigureCanvasAgg(figure).get_renderer()
    foot = figure._supxlabel
    assert "World0" in foot.get_text() and "and 3 more" in foot.get_text() and len(missing) == 9
    texts = [foot, figure._suptitle]
    for axis in figure.axes:
        texts += [axis._left_title, axis.xaxis.label, axis.yaxis.label, *axis.get_legend().get_texts()]
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, text.get_text()
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1, text.get_text()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["$x", "a$b$c", "$\\frac{", "_hidden", "100%", "\u6f22\u5b57", "a\tb", "new\nline"])
def test_names_are_shown_as_they_are(tmp_path, name):
    folder = describe(make_run(tmp_path), program=f"agents.{name}", world={"name": name})
    draw(group([read_run(folder)]), tmp_path / "c.png")
    figure, _ = figure_of(folder)
    (text,) = figure.axes[0].get_legend().get_texts()
    shown = name.replace("\t", "\\t").replace("\n", "\\n")
    assert text.get_text().strip() == f"{shown} (seed 1)"
    (row,) = rows(folder)
    assert row["world"] == shown


def test_very_many_runs_make_a_picture_that_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MOST_PANELS", 4)
    monkeypatch.setattr(curves, "MOST_NAMED", 5)
    monkeypatch.setattr(curves, "MOST_PIXELS", 600)
    folders = [make_run(tmp_path, 1, world=f"World{n}") for n in range(9)]
    folders += [make_run(tmp_path, 1, world="World0", name=f"v{n}") for n in range(30)]
    figure, missing = figure_of(*folders)
    assert len(figure.axes) == 4 and figure.bbox.height <= 600 and missing == ["5 more worlds (name fewer folders)"]
    texts = figure.axes[0].get_legend().get_texts()
    assert len(texts) == 5 and texts[-1].get_text().endswith("and 26 more")


def test_labels_of_one_panel_look_different_and_the_same_in_the_next():
    many = [("Pong", str(n)) for n in range(12)]
    looks = distinct([("Catch", "dqn"), ("Catch", "iqn"), ("Hopper", "ppo"), *many, ("Pong", "ppo"), ("Pong", "dqn")])
    here = [looks[label] for _, label in many] + [looks["ppo"], looks["dqn"]]
    assert sorted(here) == list(range(14)) and looks["iqn"] == 1


def test_curves_along_steps_frames_and_hours(tmp_path):
    run = read_run(make_run(tmp_path, world="Pong", protocol="classic", scores=(1.0, 3.0)))
    assert [part.tolist() for part in run.curve("eval/return")] == [[100, 200], [1, 3]]
    assert run.curve("eval/return", "frames")[0].tolist() == [400, 800]
    assert run.curve("eval/return", "hours")[0].tolist() == [2 / 3600, 4 / 3600]
    run = read_run(make_run(tmp_path, world="Pong", protocol="classic", name="quick", frame_skip=2))
    assert run.curve("eval/return", "frames")[0].tolist() == [200, 400]
    run = read_run(make_run(tmp_path, world="Catch", frame_skip=4))  # every config has the flag
    assert run.curve("eval/return", "frames")[0].tolist() == [100, 200]


def test_interpolation_and_running_mean_by_hand():
    grid, values = common(
        [(np.array([0.0, 10, 20]), np.array([0.0, 10, 40])), (np.array([5.0, 15]), np.array([1.0, 3]))]
    )
    assert grid.tolist() == [5, 10, 15]  # where both are known
    assert values.tolist() == [[5, 10, 25], [1, 2, 3]]
    assert running_mean(np.array([1.0, 2, 6, 7]), 1).tolist() == [1, 2, 6, 7]
    assert running_mean(np.array([1.0, 2, 6, 7]), 3).tolist() == [1.5, 3, 5, 6.5]


@pytest.mark.parametrize("x", ["steps", "frames", "hours"])
def test_picture_is_written(tmp_path, x):
    runs = [make_run(tmp_path, seed, scores=(1.0, 2.0, 3.0)[: seed + 1]) for seed in (1, 2)]
    runs += [
        make_run(tmp_path, 1, "Pong", "classic"),
        make_run(tmp_path, 1, "Pong", "sticky", name="sticky-1"),
    ]
    out = tmp_path / "new" / "curves.png"
    draw(group(map(read_run, runs)), out, x=x, smooth=3)
    assert out.read_bytes().startswith(PNG)
    draw(group(map(read_run, runs)), tmp_path / "rough.png", x=x)
    assert (tmp_path / "rough.png").read_bytes() != out.read_bytes()
