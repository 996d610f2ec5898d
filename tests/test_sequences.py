"""Recurrent networks: cells equal torch's, gradients by hand, every task in its shape, learning, resume, samples."""

import dataclasses
import importlib
import math

import pytest
import torch
from torch import nn

import runs
from vision import sequences
from vision.sequences import gradient_flow, sample
from vision.sequences.cells import CELLS, gru, lstm, rnn
from vision.sequences.network import SequenceNetwork, draw
from vision.sequences.recurrent import Recurrent, detach
from vision.sequences.tasks import IGNORE, TASKS, films, numerals, text
from vision.sequences.tasks.task import part_of

train = importlib.import_module("vision.sequences.train")
TORCHS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.mark.parametrize("kind", CELLS)
def test_layers_equal_torchs_with_their_gradients(kind):
    """Two layers, outputs, last states, and the gradients of inputs and all weights, in float64 to 1e-6 and below."""
    torch.manual_seed(0)
    theirs = TORCHS[kind](5, 7, num_layers=2, batch_first=True).double()
    ours = Recurrent(kind, 5, 7, layers=2).double()
    for number, cell in enumerate(ours.cells):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(theirs, f"{name}_l{number}") for name in names})
    x = torch.randn(3, 11, 5, dtype=torch.float64)
    results = []
    for network in (theirs, ours):
        inputs = x.clone().requires_grad_()
        outputs, states = network(inputs)
        weight = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)
        (outputs * weight).sum().backward()
        results.append((outputs, states, inputs.grad, [each.grad for each in network.parameters()]))
    (expected, last, gradient, weights), (found, states, own, owns) = results
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(own, gradient, atol=1e-6, rtol=0)
    for one, other in zip(owns, weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    last = last if kind == "lstm" else (last,)
    for layer in range(2):
        for one, other in zip(states[layer], last, strict=True):
            torch.testing.assert_close(one, other[layer], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", CELLS)
def test_a_state_dict_of_torchs_cell_loads(kind):
    torchs = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind](4, 6)
    cell = CELLS[kind](4, 6)
    cell.load_state_dict(torchs.state_dict())
    x, state = torch.randn(2, 4), tuple(torch.randn(2, 6) for _ in range(cell.STATES))
    expected = torchs(x, state if kind == "lstm" else state[0])
    torch.testing.assert_close(cell(x, state)[0], expected[0] if kind == "lstm" else expected, atol=1e-6, rtol=0)


def test_equations_by_hand():
    """A unit with products of 0: sigmoids are a half. And with gates that are open or shut."""
    zero, half = torch.zeros(1, 1), torch.full((1, 1), 0.5)
    assert rnn(half, zero, half).item() == pytest.approx(math.tanh(1.0))
    hidden, cell = lstm(torch.zeros(1, 4), torch.ones(1, 1), torch.zeros(1, 4))
    assert cell.item() == 0.5 and hidden.item() == pytest.approx(0.5 * math.tanh(0.5))
    opened = torch.tensor([[-100.0, 100.0, 0.3, 100.0]])  # nothing in, all kept, all shown
    hidden, cell = lstm(opened, torch.full((1, 1), 2.0), torch.zeros(1, 4))
    assert cell.item() == 2.0 and hidden.item() == pytest.approx(math.tanh(2.0))
    assert gru(torch.zeros(1, 3), half, torch.zeros(1, 3)).item() == 0.25  # half of the old, half of tanh(0)
    kept = torch.tensor([[0.0, 100.0, 7.0]])
    assert gru(kept, half, torch.zeros(1, 3)).item() == 0.5
    reset = torch.tensor([[-100.0, -100.0, 0.2]])  # the hidden state is not read
    assert gru(reset, half, torch.tensor([[0.0, 0.0, 9.0]])).item() == pytest.approx(math.tanh(0.2))


def test_the_lectures_hello():
    """CS231n, lecture 10: logits of the four steps of "hello", their softmax, and the loss by hand."""
    logits = torch.tensor(
        [[1.0, 2.2, -3.0, 4.1], [0.5, 0.3, -1.0, 1.2], [0.1, 0.5, 1.9, -1.1], [0.2, -1.5, -0.1, 2.2]]
    )
    shares = logits.softmax(1)
    expected = [
        [0.03, 0.13, 0.00, 0.84],
        [0.25, 0.20, 0.05, 0.50],
        [0.11, 0.17, 0.68, 0.03],
        [0.11, 0.02, 0.08, 0.79],
    ]
    torch.testing.assert_close(shares, torch.tensor(expected), atol=0.009, rtol=0)  # the slide cuts 0.038 to .03
    batch = TASKS["hello"](train.Config(task="hello", batch=1)).training(0)
    assert batch.inputs.tolist() == [[0, 1, 2, 2]] and batch.targets.tolist() == [[1, 2, 2, 3]]
    by_hand = -sum(math.log(shares[t, right]) for t, right in enumerate((1, 2, 2, 3))) / 4
    assert train.loss_of(logits[None], batch.targets).item() == pytest.approx(by_hand)


def test_truncation_cuts_gradients_and_keeps_values():
    torch.manual_seed(0)
    whole, cut = Recurrent("lstm", 3, 4), Recurrent("lstm", 3, 4, truncate=2)
    cut.load_state_dict(whole.state_dict())
    x = torch.randn(1, 6, 3)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    outputs, again = whole(one)[0], cut(other)[0]
    assert torch.equal(outputs, again)
    outputs[:, -1].sum().backward(), again[:, -1].sum().backward()
    assert (one.grad.abs().sum(2) > 0).all()
    assert (other.grad.abs().sum(2)[0] > 0).tolist() == [False] * 4 + [True] * 2
    torch.testing.assert_close(other.grad[:, 4:], one.grad[:, 4:])
    halves, states = whole(x[:, :3])
    rest, _ = whole(x[:, 3:], detach(states))
    torch.testing.assert_close(torch.cat([halves, rest], 1), outputs)


def test_gradients_explode_and_vanish_by_the_singular_value():
    """Without inputs tanh is at 0, its slope 1: k steps back the gradient is g to the power of k."""
    config = gradient_flow.Config(length=30, hidden=8)
    direction = torch.eye(8)[0]
    for gain in (0.5, 1.0, 1.5):
        norms = gradient_flow.flow(gradient_flow.make("rnn", config, gain), torch.zeros(30, 8), direction)
        torch.testing.assert_close(norms, gain ** torch.arange(30.0), rtol=1e-3, atol=0)
    cell = gradient_flow.make("lstm", config, 0.0, forget=100.0)
    kept = gradient_flow.flow(cell, torch.zeros(30, 8), direction)
    assert kept[29] == pytest.approx(0.5, rel=1e-4)  # of the cell state, a sum: only the output gate's half is lost


def test_the_picture_of_gradients(tmp_path):
    found = gradient_flow.draw(gradient_flow.Config(out=tmp_path / "a.png", length=12, hidden=8))
    assert (tmp_path / "a.png").exists() and len(found) == 7


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", CELLS)
def test_every_task_runs_with_every_cell(name, kind):
    """Logits for each target, gradients for every weight, and something to show."""
    config = train.recipe(train.Config(task=name))
    config = dataclasses.replace(config, cell=kind, hidden=8, batch=3, length=10 if name == "order" else 3)
    task = TASKS[name](config)
    torch.manual_seed(0)
    network = train.build(config, task)
    batch = task.training(0)
    again = task.training(0)
    assert torch.equal(batch.inputs, again.inputs) and torch.equal(batch.targets, again.targets)
    logits, states = network(batch.inputs, batch.targets)
    assert logits.shape == (*batch.targets.shape, len(task.outputs)) and len(states) == config.layers
    train.loss_of(logits, batch.targets).backward()
    assert all(weight.grad is not None for weight in network.parameters())
    if name != "text":
        assert task.show(network, torch.Generator().manual_seed(0))
    targets = next(iter(task.held_out("test"))).targets
    assert targets[targets != IGNORE].max() < len(task.outputs)


def test_streams_read_the_text_in_order(tmp_path):
    """Each stream goes on where its last window ended; a pass reads nearly all; held-out parts are read once each."""
    path = tmp_path / "a.txt"
    words = "\n\n".join(f"paragraph {number} of the text" for number in range(4_000))
    path.write_text(words)
    task = text.Text(path, 10, 4, seed=1, temperature=1.0)
    first, second = task.training(0), task.training(4)
    assert first.begins and not second.begins
    assert torch.equal(first.targets[:, :-1], first.inputs[:, 1:])
    assert torch.equal(second.inputs[:, 0], first.targets[:, -1])
    assert task.training(4 * task.windows).begins
    assert sum(len(part) for part in task.parts.values()) == pytest.approx(len(words), abs=4)
    assert 0.04 < len(task.parts["test"]) / len(words) < 0.06
    read = sum((batch.targets != IGNORE).sum() for batch in task.held_out("test"))
    assert read == len(task.parts["test"]) - 1


def test_paragraphs_are_read_once():
    assert text.deduplicated("a\n\nb\n\na\n\nc") == "a\n\nb\n\nc"
    parts = text.split(text.reference())
    seen = [set(part.split("\n\n")) - {""} for part in parts.values()]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_numbers_in_words():
    assert [numerals.in_words(n) for n in (0, 7, 13, 20, 42, 100, 305, 9999)] == [
        *("zero", "seven", "thirteen", "twenty", "forty two", "one hundred", "three hundred five"),
        "nine thousand nine hundred ninety nine",
    ]
    assert numerals.features(torch.tensor([305])).view(4, 10).argmax(1).tolist() == [0, 3, 0, 5]
    parts = [part_of(number) for number in range(10_000)]
    assert 900 < parts.count("test") < 1_100 and 900 < parts.count("validation") < 1_100


def test_directions_of_films():
    """The ball's center, found in the frames, moves as the classes say."""
    task = films.DrawnFilms(8, 4, seed=1)
    batch = task.training(0)
    frames = batch.inputs[:, :, 0].float()
    grid = torch.arange(films.SIDE) + 0.5
    weight = (frames - 100).clamp(min=0)
    x = (weight.sum(2) * grid).sum(2) / weight.sum((2, 3))
    y = (weight.sum(3) * grid).sum(2) / weight.sum((2, 3))
    moved = torch.stack([x.diff(dim=1), y.diff(dim=1)], 2)
    clear = moved.abs().amin(2) > 0.7
    assert clear.float().mean() > 0.5 and (batch.targets[:, 0] == IGNORE).all()
    assert (films.way(moved[clear]) == batch.targets[:, 1:][clear]).all()


def test_recorded_films(tmp_path):
    """A folder of annotated images, in the order of their numbers: where the class goes."""
    import json

    import numpy as np
    from PIL import Image

    for part in ("train", "val", "test"):
        images, lines = [], []
        for game in range(2):
            for number in range(12):
                name = f"{part}_{game}_{number}.png"
                Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / name)
                images.append(dict(id=len(images), file_name=name, width=40, height=40))
                if number != 5:
                    place = [2.0 * number, 20 - number] if game == 0 else [30 - number, 5.0 + number]
                    lines.append(dict(id=len(lines), image_id=images[-1]["id"], category_id=1, bbox=[*place, 4, 4]))
        content = dict(images=images, annotations=lines, categories=[dict(id=1, name="ball")])
        (tmp_path / f"{part}.json").write_text(json.dumps(content))
    task = films.RecordedFilms(tmp_path, "ball", 12, 32, 2, seed=1)
    assert len(task.parts["train"]) == len(task.parts["test"]) == 2
    found = [[task.outputs[each] for each in row[1].tolist()[1:]] for row in task.parts["train"]]
    for game, word in enumerate(("up right", "down left")):
        assert found[game] == [word] * 4 + [films.STILL] * 2 + [word] * 5
    assert task.training(0).inputs.shape == (2, 12, 3, 32, 32)
    with pytest.raises(ValueError, match="did you mean 'ball'"):
        films.RecordedFilms(tmp_path, "bal", 4, 32, 2, seed=1)


def test_draws_follow_the_temperature():
    logits = torch.tensor([[1.0, 2.0, 0.0]]).expand(4_000, -1)
    generator = torch.Generator().manual_seed(0)
    assert (draw(logits, 0.0, generator) == 1).all()
    for temperature in (0.5, 1.0):
        shares = draw(logits, temperature, generator).bincount(minlength=3) / 4_000
        torch.testing.assert_close(shares, (logits[0] / temperature).softmax(0), atol=0.03, rtol=0)


def test_the_generated_equals_what_is_read_with_teacher_forcing():
    """Fed with its own symbols as the right ones, a decoder gives them again."""
    torch.manual_seed(0)
    network = SequenceNetwork("encoder_decoder", tuple("ab"), tuple("xyz"), "gru", 8, end=None)
    inputs = torch.randint(2, (5, 4))
    said = network.generate(inputs, 6)
    targets = torch.tensor([["xyz".index(each) for each in text] for text in said])
    assert torch.equal(network(inputs, targets)[0].argmax(2), targets)


@pytest.mark.parametrize("name", ["hello", "numerals"])
def test_a_run_learns_resumes_and_says(name, tmp_path, monkeypatch, stop_at):
    """Stopped halfway and gone on, a run is the same, bit for bit."""
    config = dataclasses.replace(
        train.recipe(train.Config(task=name)), folder=tmp_path, wandb="disabled", device="cpu"
    )
    if name == "numerals":
        config = dataclasses.replace(config, hidden=16, steps=400, evaluate_every=200, log_every=50, save_every=0.0)
        monkeypatch.setattr(numerals, "part_of", lambda number: part_of(number) if number % 50 else "train")
    train.train(config)
    folder = tmp_path / name / "sequences-1"
    lines = (folder / "metrics.jsonl").read_text()
    assert "eval/nats" in lines and "test/nats" in lines and list((folder / "samples").glob("*.txt"))
    trained = sequences.load(folder, "cpu")
    if name == "hello":
        assert trained.sample("h", 4, 0.0) == "hello" == trained.sample()
        with pytest.raises(ValueError, match="knows no 'x'"):
            trained.sample("x")
        assert sample.main(sample.Config(folder, device="cpu")) is None
        return
    assert "exact" in lines and set(trained.sample("305")) <= set(numerals.Numerals.outputs)

    again = dataclasses.replace(config, name="again")
    stop_at(250, train.train, again)
    train.train(again)
    assert (tmp_path / name / "again" / "metrics.jsonl").read_text() == lines


def test_a_text_resumes_with_its_states(tmp_path, stop_at):
    """The carried states are part of the checkpoint; another text in the file's place is noticed."""
    path = tmp_path / "abc.txt"
    path.write_text("\n\n".join(f"{number}: " + "abcdefgh" * (number % 7) for number in range(600)))
    config = dataclasses.replace(
        train.recipe(train.Config(text=path)), folder=tmp_path, wandb="disabled", device="cpu"
    )
    config = dataclasses.replace(config, hidden=8, batch=4, length=8, steps=80, evaluate_every=40, save_every=0.0)
    train.train(config)
    lines = (tmp_path / "abc" / "sequences-1" / "metrics.jsonl").read_text()

    again = dataclasses.replace(config, name="again")
    stop_at(48, train.train, again)
    right = path.read_text()
    path.write_text(right.replace("a", "b"))
    with pytest.raises(runs.RunError, match="this run read another text"):
        train.train(again)
    path.write_text(right)
    train.train(again)
    assert (tmp_path / "abc" / "again" / "metrics.jsonl").read_text() == lines
    path.write_text("xyz " * 2_000)
    with pytest.raises(runs.RunError, match="other symbols"):
        sequences.load(tmp_path / "abc" / "sequences-1", "cpu")


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="unknown --task 'sum': did you mean 'sums'"):
        train.Config(task="sum").validate()
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(ValueError, match="too short for this batch"):
        text.Text(tmp_path / "a.txt", 40, 50, 1, 1.0)
    with pytest.raises(ValueError, match="none of the characters"):
        TASKS["sums"](train.Config(task="sums", length=2)).read("1-2")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["order", "numerals", "sums", "films"])
def test_every_shape_learns_its_task(name, tmp_path):
    """With smaller numbers than the recipes': what is asked is learned far beyond chance."""
    changes = dict(
        order=dict(length=20, steps=40_000, hidden=32),
        numerals=dict(steps=60_000, learning_rate=5e-3),
        sums=dict(length=2, steps=200_000, hidden=64, learning_rate=5e-3),
        films=dict(length=8, steps=4_000),
    )[name]
    config = dataclasses.replace(train.recipe(train.Config(task=name)), **changes, evaluate_every=100_000)
    train.train(dataclasses.replace(config, folder=tmp_path, wandb="disabled", device="cpu"))
    import json

    line = json.loads((tmp_path / name / "sequences-1" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line.get("test/exact", line["test/accuracy"]) > 90
