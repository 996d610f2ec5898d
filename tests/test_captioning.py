"""Captioning and questions: equations by hand, beam search against all sentences, scenes, learning, resume."""

import collections
import dataclasses
import itertools
import json
import math
import os
import random
from pathlib import Path

import pytest
import torch

import runs
from vision import backbones, captioning
from vision.captioning import attention, beam, data, predict, questions, scenes, train, vqa
from vision.captioning.answering import film
from vision.captioning.decoders import DECODERS
from vision.captioning.evaluation import Caption, evaluate, pointed
from vision.captioning.questions import Thing
from vision.captioning.vocabulary import IGNORE, Vocabulary
from vision.data.samples import Sample, Target

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
TINY = dict(wandb="disabled", device="cpu", features=16, hidden=16, width=0.125, bf16=False, scenes=16)


def small(**changes):
    """A config of the drawn scenes that trains with little."""
    return dataclasses.replace(train.recipe(train.Config()), **TINY | changes)


@pytest.fixture(scope="module")
def few():
    """Few scenes, those that programs train on with `scenes=16`."""
    return scenes.DescribedScenes(16, 0)


def test_the_doubly_stochastic_penalty_by_hand():
    """Two words, three places; the third word is behind the end."""
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]]])
    there = torch.tensor([[True, True, False]])
    assert attention.doubly_stochastic(weights, there).item() == pytest.approx(0.25**2 + 0.25**2 + 0.5**2)
    assert attention.entropy(torch.tensor([0.5, 0.5, 0.0])).item() == pytest.approx(math.log(2))
    assert attention.expected(torch.tensor([[0.25, 0.75]]), torch.tensor([[[0.0], [4.0]]])).item() == 3
    assert attention.chosen(torch.tensor([1]), torch.tensor([[[0.0], [4.0]]])).item() == 4


def test_reinforce_is_the_gradient_of_the_expected_likelihood():
    """Of two words whose places are drawn, where the second word's reward depends on both places.

    The expectation over all places, with any baselines, is the gradient of the mean of the whole sentence's reward.
    """
    first, both = torch.tensor([-1.0, -0.2, -3.0]), torch.randn(3, 3)
    logits = torch.tensor([[0.3, -0.4, 1.1], [-0.6, 0.2, 0.5]], requires_grad=True)
    one, two = logits.softmax(1)
    (expected,) = torch.autograd.grad((one * first).sum() + one @ both @ two, logits)
    total, baseline, there = torch.zeros(2, 3), torch.tensor([-0.7, 0.4]), torch.ones(1, 2).bool()
    shares = logits.detach().softmax(1)
    for i, j in itertools.product(range(3), range(3)):
        weights = logits.softmax(1)
        rewards = attention.rewards_to_go(torch.stack([first[i], both[i, j]])[None])
        chosen = torch.stack([weights[0, i], weights[1, j]])[None]
        loss = attention.reinforce(chosen, rewards, baseline, attention.entropy(weights)[None], there, 0.0)
        total -= shares[0, i] * shares[1, j] * torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(total, expected)
    entropies = attention.entropy(logits.softmax(1))[None]
    ones = torch.ones(1, 2)
    loss = attention.reinforce(ones, ones, baseline, entropies, torch.tensor([[True, False]]), 0.5)
    assert loss.item() == pytest.approx(-0.5 * entropies[0, 0].item())


def test_baselines_by_hand():
    """Each word has its own; one that no sentence has keeps its value."""
    assert attention.rewards_to_go(torch.tensor([[1.0, 2.0, 4.0]])).tolist() == [[7, 6, 4]]
    baseline = attention.Baseline(3)
    rewards, there = torch.tensor([[2.0, 4.0], [6.0, 9.0]]), torch.tensor([[True, False], [True, False]])
    assert baseline.of(rewards).tolist() == [0, 0]
    for _ in range(2):
        baseline.update(rewards, there)
    assert baseline.value.tolist() == pytest.approx([0.76, 0, 0, 0])
    again = attention.Baseline(3)
    again.load_state_dict(baseline.state_dict())
    assert torch.equal(again.value, baseline.value)


def test_film_by_hand():
    found = film(torch.ones(1, 2, 1, 1), torch.tensor([[2.0, 3.0]]), torch.tensor([[0.5, -1.0]]))
    assert found.flatten().tolist() == [2.5, 2.0]


def chain(size, seed):
    """A model of sentences with a memory: the log-probabilities of a word depend on all words before it."""
    table = torch.randn(size + 1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def step(words, state):
        (kept,) = state
        kept = torch.tanh(0.5 * kept + table[words])
        return (2 * kept).log_softmax(1), (kept,)

    return step


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_what_all_sentences_have(seed):
    """Three words and the end, up to four words: 121 sentences; and a beam of one takes the likeliest word."""
    size, longest = 4, 4
    step, begin = chain(size, seed), (torch.zeros(1, size, dtype=torch.float64),)

    def likelihood(sentence):
        state, before, total = begin, size, 0.0
        for word in sentence if len(sentence) == longest else [*sentence, 0]:
            found, state = step(torch.tensor([before]), state)
            total, before = total + found[0, word].item(), word
        return total

    sentences = [list(each) for count in range(longest + 1) for each in itertools.product((1, 2, 3), repeat=count)]
    best = max(sentences, key=likelihood)
    assert len(sentences) == 121
    (found,), scores = beam.beam_search(step, begin, size, 0, 81, longest)
    assert found == best and scores.item() == pytest.approx(likelihood(best))
    (greedy,), scores = beam.beam_search(step, begin, size, 0, 1, longest)
    state, before, expected = begin, size, []
    while len(expected) < longest:
        found, state = step(torch.tensor([before]), state)
        before = found.argmax().item()
        if not before:
            break
        expected.append(before)
    assert greedy == expected and scores.item() == pytest.approx(likelihood(greedy))


def test_images_of_a_batch_are_searched_by_themselves():
    step = chain(4, 0)
    state = torch.randn(3, 4, dtype=torch.float64)
    together, scores = beam.beam_search(step, (state,), 4, 0, 3, 5)
    for row in range(3):
        (alone,), score = beam.beam_search(step, (state[row : row + 1],), 4, 0, 3, 5)
        assert alone == together[row] and score.item() == pytest.approx(scores[row].item())


def test_words_and_numbers():
    vocabulary = Vocabulary.of(["A red disc.", "a blue disc", "rare"], least=2)
    assert vocabulary.words == ("<end>", "<unknown>", "a", "disc") and vocabulary.start == 4
    assert vocabulary.encode("A green disc!", 20).tolist() == [2, 1, 3, 0]
    assert vocabulary.encode("a disc a disc", 2).tolist() == [2, 3, 0]
    assert vocabulary.decode([2, 3, 0, 2]) == "a disc"
    with pytest.raises(ValueError, match="no word occurs 9 times"):
        Vocabulary.of(["a"], least=9)


def test_sentences_say_what_is_drawn():
    """Objects have their color and lie where the sentence says; the same every time."""
    found, again = scenes.DescribedScenes(60, 3), scenes.DescribedScenes(60, 3)
    assert torch.equal(found.images, again.images)
    assert not torch.equal(found.images, scenes.DescribedScenes(60, 4).images)
    for sample in found:
        boxes, labels = sample.target.boxes, sample.target.labels
        (sentence,) = sample.target.captions
        places = [sentence.index(scenes.CLASSES[label]) for label in labels.tolist()]
        assert places == sorted(places) and len(set(places)) == len(labels)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        if " above " in sentence:
            assert centers[0, 1] < centers[1, 1] - 5
        elif len(boxes) > 1:
            assert (centers[:, 0].diff() > 5).all()
        for row, label in enumerate(labels.tolist()):
            ink = torch.tensor(list(scenes.COLORS.values())[label // len(scenes.KINDS)])
            owned = sample.image[:, found.owner[found.images.eq(sample.image).all((1, 2, 3)).nonzero()[0, 0]] == row]
            assert (owned.float().mean(1) / 255 - ink).abs().max() < 0.2
    assert {len(sample.target.boxes) for sample in found} == {1, 2, 3}


def test_describe():
    red_disc, blue_star = (scenes.CLASSES.index(name) for name in ("red disc", "blue star"))
    assert scenes.describe([red_disc], [4]) == "a red disc"
    assert scenes.describe([red_disc, blue_star], [1, 7]) == "a red disc above a blue star"
    assert scenes.describe([red_disc, blue_star], [6, 1]) == "a red disc to the left of a blue star"
    three = scenes.describe([red_disc, blue_star, red_disc], [0, 1, 2])
    assert three == "from left to right a red disc a blue star and a red disc"
    assert scenes.ordered(torch.tensor([[5, 0, 3], [9, 4, 9]])).tolist() == [[1, 2, 0], [1, 0, 2]]


def test_pointing_by_hand():
    """Of "a red disc above a blue star" the first name is pointed at, the second is not; a third is missing."""
    weights = torch.zeros(7, 4, 4)
    weights[2, 0, 0] = weights[6, 0, 3] = 1.0
    boxes, labels = torch.tensor([[0.0, 0, 8, 8], [16, 16, 32, 32]]), torch.tensor([0, 1])
    sample = Sample(torch.zeros(3, 32, 32, dtype=torch.uint8), Target(boxes=boxes, labels=labels))
    classes = ("red disc", "blue star", "green ring", "disc")
    caption = Caption("a red disc above a blue star", weights)
    assert pointed(caption, sample, classes) == [True, False]
    assert pointed(Caption("a green ring", weights), sample, classes) == [False]
    assert pointed(Caption("nothing", weights), sample, classes) == []


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("backbone", ["vgg11_bn", "impala"])
def test_captioners_stand_on_any_backbone(name, backbone, few):
    """Losses with gradients for every part of the decoder, sentences, and maps of attention that add up to one."""
    config = small(model=name, backbone=backbone, width=0.25, batch=4)
    vocabulary = Vocabulary.of(data.load("shapes", count=16).captions())
    torch.manual_seed(0)
    model = train.build(config, vocabulary)
    images, words, targets = data.Batches(few, vocabulary, None, 4, 14, seed=1).training(0)
    assert words[:, 0].tolist() == [vocabulary.start] * 4 and torch.equal(words[:, 1:], targets[:, :-1].clamp(min=0))
    found = model.losses(images, words, targets, attention.Baseline(14), attention.Options())
    assert {"plain": {"loss/words"}, "soft": {"loss/words", "loss/places"}}.get(
        name, {"loss/words", "loss/places", "loss/reinforce"}
    ) == {key for key in found if key.startswith("loss/")}
    sum(value for key, value in found.items() if key.startswith("loss/")).backward()
    unused = [
        key for key, value in model.named_parameters() if value.grad is None and not key.startswith("backbone.")
    ]
    assert not unused
    sentences, weights = model.eval().write(images, 2, 5)
    assert len(sentences) == 4 and all(len(sentence) <= 5 for sentence in sentences)
    assert (weights is None) == (name == "plain")
    if weights is not None:
        assert weights.shape[:2] == (4, 5)
        torch.testing.assert_close(weights.sum((2, 3)), torch.ones(4, 5))


def test_attention_of_a_sentence_is_that_of_writing_it(few):
    """The maps that are drawn are those by which the words were chosen: reading a sentence again gives them."""
    vocabulary = Vocabulary.of(data.load("shapes", count=16).captions())
    torch.manual_seed(0)
    model = train.build(small(), vocabulary).eval()
    features, _ = model.features(few.images[:2])
    state, words, found = model.decoder.begin(features), torch.full((2,), vocabulary.start), []
    for _ in range(4):
        logits, state, weights = model.decoder.step(words, state)
        words = logits.argmax(1)
        found.append(weights)
    maps = model.write(few.images[:2], 1, 4)[1]
    torch.testing.assert_close(maps.flatten(2), torch.stack(found, 1), atol=1e-5, rtol=0)


def test_a_backbone_that_is_asked_for_is_as_published():
    drawn, folder = train.recipe(train.Config()), train.recipe(train.Config(data="recorded"))
    assert (drawn.backbone, drawn.width) == ("vgg11_bn", 0.25)
    assert (folder.backbone, folder.width) == ("resnet18", None)
    asked = train.recipe(train.Config(backbone="resnet18"))
    assert (asked.backbone, asked.width, asked.steps) == ("resnet18", None, drawn.steps)


def test_networks_without_maps_are_refused():
    with pytest.raises(ValueError, match="gives no maps of images"):
        train.build(small(backbone="mlp", width=None), Vocabulary(["<end>", "<unknown>", "a"]))
    with pytest.raises(ValueError, match="unknown --model 'sof': did you mean 'soft'"):
        train.Config(model="sof").validate()
    with pytest.raises(ValueError, match="--train last: what answers is no single layer"):
        vqa.Config(train="last").validate()
    with pytest.raises(ValueError, match="unknown data 'shape'"):
        data.load("shape")


class Stop(Exception):
    """Raised in the middle of a run."""


def stopped_and_resumed(program, config, at, monkeypatch):
    """Run, then the same under another name, stopped at a step and gone on. Returns the lines of both."""
    program(config)
    with monkeypatch.context() as patch:
        kept = runs.Run.log

        def log(self, metrics):
            if self.step >= at:
                raise Stop
            return kept(self, metrics)

        patch.setattr(runs.Run, "log", log)
        with pytest.raises(Stop):
            program(dataclasses.replace(config, name="again"))
    program(dataclasses.replace(config, name="again"))
    folders = sorted(config.folder.glob("*/*/"))
    return {folder.name: (folder / "metrics.jsonl").read_text() for folder in folders}


@pytest.mark.parametrize("model", ["soft", pytest.param("hard", marks=pytest.mark.slow)])
def test_a_run_learns_resumes_and_predicts(model, tmp_path, monkeypatch, few):
    """Stopped halfway and gone on, a run is the same, bit for bit; captions are written as pictures and JSON."""
    config = small(folder=tmp_path, model=model, batch=4, steps=16, evaluate_every=8, log_every=4, save_every=0.0)
    lines = stopped_and_resumed(train.train, dataclasses.replace(config, pictures=2), 12, monkeypatch)
    assert lines["again"] == lines["captioning-1"]
    assert all(word in lines["again"] for word in ("eval/bleu4", "eval/exact", "test/cider_d"))
    folder = tmp_path / "shapes" / "captioning-1"
    assert len(list((folder / "predictions").glob("*.png"))) == 2 and (folder / backbones.FILENAME).exists()
    if model == "hard":
        return
    trained = captioning.load(folder, "cpu")
    (sentence,) = trained.predict([few.images[0]], beam=1)
    assert set(sentence.split()) <= set(trained.vocabulary.words)
    from PIL import Image

    Image.fromarray(few.images[0].permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    out = tmp_path / "out"
    said = predict.main(predict.Config(folder, (tmp_path / "a.png",), out=out, device="cpu"))
    assert (out / "a.png").exists() and json.loads((out / "captions.json").read_text()) == said
    with pytest.raises(runs.RunError, match="is a run of vision.captioning, not of vision.captioning.vqa"):
        vqa.load(folder, "cpu")


def test_questions_by_hand():
    """Two things: what may be asked, and what is right."""
    two = [Thing("red", "disc", 0), Thing("blue", "star", 5)]
    found = {}
    draw = random.Random(0)
    for _ in range(3_000):
        question = questions.ask(two, draw)
        assert found.setdefault(question.text, question.answer) == question.answer
        assert set(question.text.split()) <= set(questions.words()) and question.answer in questions.ANSWERS
    for text, answer in {
        "how many objects are there": "2",
        "how many red objects are there": "1",
        "how many crosses are there": "0",
        "what color is the star": "blue",
        "what shape is the red object": "disc",
        "is there a red disc": "yes",
        "is there a red star": "no",
        "is the red disc to the left of the blue star": "yes",
        "is the red disc below the blue star": "no",
        "is the blue star to the right of the red disc": "yes",
        "what shape is above the blue star": "disc",
    }.items():
        assert found[text] == answer, text
    assert "what shape is above the red disc" not in found and "is there a green ring" not in found
    alone = [Thing("red", "disc", 4)]
    assert all(questions.relation(alone, draw) is None for _ in range(9))
    twins = [Thing("red", "disc", 0), Thing("blue", "disc", 3)]
    assert all(questions.color_of(twins, draw) is None and questions.shape_of(twins, draw) for _ in range(9))
    related = [questions.relation(twins, draw) for _ in range(99)]
    assert any(related) and all(" above " in each.text or " below " in each.text for each in related if each)


def test_answers_are_balanced():
    """The most frequent answer to each type is right in at most six of ten; and of yes and no in about half."""
    asked = vqa.held_out(scenes.DescribedScenes(300, 5))
    found = vqa.score(asked, ["yes"] * len(asked.questions))
    assert found["majority"] < 60 and 40 < found["exists"] < 65 and 40 < found["relation"] < 60
    kinds = collections.Counter(question.kind for question in asked.questions)
    assert len(kinds) == 6 and min(kinds.values()) > 0.05 * len(asked.questions)
    right = vqa.score(asked, [question.answer for question in asked.questions])
    assert right["accuracy"] == 100 and right["majority"] == found["majority"]


def test_questions_are_learned_resumed_and_answered(tmp_path, monkeypatch):
    images = scenes.DescribedScenes(2, 0).images
    config = vqa.Config(
        folder=tmp_path, wandb="disabled", device="cpu", scenes=16, width=0.125, channels=8, hidden=8, batch=8,
        steps=32, evaluate_every=16, log_every=8, save_every=0.0, bf16=False,
    )  # fmt: skip
    lines = stopped_and_resumed(vqa.train, config, 24, monkeypatch)
    assert lines["again"] == lines["vqa-1"] and "test/majority" in lines["again"]
    folder = tmp_path / "shapes" / "vqa-1"
    assert len(list((folder / "predictions").glob("*.png"))) == 2
    trained = vqa.load(folder, "cpu")
    said = trained.answer(images, ["How many objects are there?", "what color is the star"])
    assert set(said) <= set(questions.ANSWERS)
    with pytest.raises(ValueError, match="no question has the word 'why'"):
        trained.answer(images[:1], ["why"])
    other = dataclasses.replace(config, backbone=str(folder), width=None, train="head", steps=8, name="transfer")
    vqa.train(other)
    assert vqa.load(tmp_path / "shapes" / "transfer", "cpu").model.backbone.spec["name"] == "vgg11_bn"


def test_a_folder_in_cocos_format(tmp_path):
    """Photographs with five captions each, where they are: read, batched, overfit for some steps, and scored."""
    folder = next((root / "coco_val128" for root in ROOTS if (root / "coco_val128").is_dir()), None)
    if folder is None:
        pytest.skip("no coco_val128: name the folder above coco_val128/ in $SACCADE_DATA")
    sets = data.load(str(folder), overfit=8)
    assert len(sets.train) == len(sets.test) == 8 and all(len(each.target.captions) >= 5 for each in sets.train)
    vocabulary = Vocabulary.of(sets.captions())
    loader = data.Batches(sets.train, vocabulary, 64, 4, 20, seed=1)
    images, words, targets = loader.training(0)
    loader.close()
    assert images.shape == (4, 3, 64, 64) and (targets != IGNORE).sum(1).min() > 5 and words.max() <= vocabulary.start
    model = train.build(small(size=64), vocabulary)
    found, shown = evaluate(model, vocabulary, sets.test, sets.classes, 4, (64, 1, 20, 4), 2)
    assert len(shown) == 2 and 0 <= found["bleu4"] <= 1 and "exact" in found


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_sixteen_scenes_are_overfit(name, few):
    """Every sentence is learned, by each decoder."""
    torch.manual_seed(0)
    config = small(model=name, features=64, hidden=64, width=0.25)
    vocabulary = Vocabulary.of(data.load("shapes", count=16).captions())
    model = train.build(config, vocabulary)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    batches, baseline = data.Batches(few, vocabulary, None, 16, 14, seed=1), attention.Baseline(14)
    for step in range(0, 16 * 150, 16):
        optimizer.zero_grad()
        model.train()
        found = model.losses(*batches.training(step), baseline, attention.Options(exploration=0.0))
        sum(value for key, value in found.items() if key.startswith("loss/")).backward()
        optimizer.step()
    batches.close()
    found, _ = evaluate(model, vocabulary, few, few.classes, 16, (None, 3, 14, 16))
    assert found["exact"] > 90
