"""Caption metrics: published examples, numbers by hand, and words as the Penn Treebank has them."""

import json
import math
import os
from collections import defaultdict
from pathlib import Path

import pytest

from vision.captioning.metrics import bleu, caption_scores, cider_d, rouge_l, tokenize
from vision.captioning.metrics.scores import longest_common
from vision.captioning.metrics.tokenizer import words

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]


def test_the_example_of_aac_metrics():
    """Its README's sentences and numbers: BLEU-1 0.4278, CIDEr-D 0.9614, of 1.3641 and 0.5587."""
    candidates = ["a man is speaking", "rain falls"]
    references = [
        ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"],
        ["rain is falling hard on a surface"],
    ]
    found = caption_scores(candidates, references)
    assert found["bleu1"] == pytest.approx(0.4278, abs=5e-5)
    assert found["cider_d"] == pytest.approx(0.9614, abs=5e-5)
    own = [tokenize(each) for each in candidates]
    assert cider_d(own, [[tokenize(each) for each in row] for row in references]) == pytest.approx(
        [1.3641, 0.5587], abs=5e-5
    )


def test_the_example_of_pycocoevalcap():
    """Its 1,000 captions of COCO's validation images of 2014, where the two files of its example are."""
    names = ("captions_val2014.json", "captions_val2014_fakecap_results.json")
    folder = next((root / "coco_caption" for root in ROOTS if (root / "coco_caption" / names[0]).is_file()), None)
    if folder is None:
        pytest.skip(f"no coco_caption/ with {names[0]} and {names[1]}: name the folder above it in $SACCADE_DATA")
    said = json.loads((folder / names[1]).read_text())
    written = defaultdict(list)
    for line in json.loads((folder / names[0]).read_text())["annotations"]:
        written[line["image_id"]].append(line["caption"])
    found = caption_scores([line["caption"] for line in said], [written[line["image_id"]] for line in said])
    expected = dict(bleu1=0.579, bleu2=0.404, bleu3=0.279, bleu4=0.191, rouge_l=0.396, cider_d=0.600)
    assert {name: round(value, 3) for name, value in found.items()} == expected


def test_scores_of_real_captions():
    """The first caption of each of 128 images of COCO against the others: as pycocoevalcap scores them."""
    path = next(
        (root / "coco_val128" / "captions_val2017.json" for root in ROOTS if (root / "coco_val128").is_dir()), None
    )
    if path is None:
        pytest.skip("no coco_val128: name the folder above coco_val128/ in $SACCADE_DATA")
    written = defaultdict(list)
    for line in json.loads(path.read_text())["annotations"]:
        written[line["image_id"]].append(line["caption"])
    rows = [written[key] for key in sorted(written)]
    found = caption_scores([row[0] for row in rows], [row[1:] for row in rows])
    for name, value in EXPECTED.items():
        assert found[name] == pytest.approx(value, abs=1e-9)


EXPECTED = dict(  # by pycocoevalcap 1.2 with its Java tokenizer
    bleu1=0.6552511415520128,
    bleu2=0.45759487690825845,
    bleu3=0.31371388854814813,
    bleu4=0.19768286664194604,
    rouge_l=0.48452906256758643,
    cider_d=0.9805215701579251,
)


def test_bleu_by_hand():
    """Papineni et al. 2002, example 2: "the" seven times matches twice; and the brevity penalty."""
    references = ["the cat is on the mat".split(), "there is a cat on the mat".split()]
    assert bleu(["the the the the the the the".split()], [references])[0] == pytest.approx(2 / 7)
    found = bleu(["the cat".split()], [references])
    assert found[0] == pytest.approx(math.exp(1 - 6 / 2)) and found[1] == pytest.approx(math.exp(-2))
    assert found[2] == found[3] == 0
    perfect = ["a b c d e".split()]
    assert bleu(perfect, [perfect]) == [1.0] * 4


def test_the_nearest_length_counts_and_of_two_the_shorter():
    one, two = "a b c".split(), "a b c d e".split()
    assert bleu(["a b c d".split()], [[two, one]])[0] == pytest.approx(1.0)  # compared with 3 words, not 5
    assert bleu([[]], [[one]]) == [0.0] * 4


def test_rouge_by_hand():
    """Lin 2004, section 3: "police kill the gunman" has 3 of 4 words in common with "police killed the gunman"."""
    reference = "police killed the gunman".split()
    assert longest_common("police kill the gunman".split(), reference) == 3
    assert longest_common("the gunman kill police".split(), reference) == 2
    assert rouge_l(["police kill the gunman".split()], [[reference]]) == pytest.approx([0.75])
    precision, recall = 2 / 2, 2 / 4
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(["the gunman".split()], [[reference]]) == pytest.approx([expected])
    assert rouge_l([[]], [[reference]]) == [0.0]


def test_cider_by_hand():
    """Two images, one word each: a match is the cosine 1 for 1-grams alone, a quarter of the factor 10."""
    assert cider_d([["a"], ["b"]], [[["a"]], [["b"]]]) == pytest.approx([2.5, 2.5])
    assert cider_d([["b"], ["a"]], [[["a"]], [["b"]]]) == pytest.approx([0, 0])
    assert cider_d([["a"]], [[["a"]]]) == [0.0]  # one image: log 1
    sentence = "a b c d e".split()
    assert cider_d([sentence, ["z"]], [[sentence], [["y"]]]) == pytest.approx([10, 0])


def test_words_of_the_penn_treebank():
    """As Stanford CoreNLP 3.4.1 splits these."""
    for text, expected in {
        "Don't you can't won't isn't I'm we're": "do n't you ca n't wo n't is n't i 'm we 're",
        "they've she'd he'll it's the dog's dogs'": "they 've she 'd he 'll it 's the dog 's dogs '",
        "cannot gonna wanna gimme": "can not gon na wan na gim me",
        "A man (with a hat) sits. [ok]": "a man -lrb- with a hat -rrb- sits . -lsb- ok -rsb-",
        "Mr. Smith lives on St. Mary Ave. in the U.S.": "mr. smith lives on st. mary ave. in the u.s.",
        'He said "hello" to us... ok -- fine - yes': "he said '' hello '' to us ... ok -- fine - yes",
        "1,000 and 3.5 or $5 100% & more #1": "1,000 and 3.5 or $ 5 100 % & more # 1",
        "black-and-white T-shirt and/or 10:30 a.m. 3rd": "black-and-white t-shirt and/or 10:30 a.m. 3rd",
        "A cat's paw; a dog: yes! what? ?!": "a cat 's paw ; a dog : yes ! what ? ?!",
        "a sign that says 'stop' over there,and here": "a sign that says ' stop ' over there , and here",
        "The end.": "the end .",
    }.items():
        assert words(text) == expected.split()
    assert tokenize("Stop! A dog, a cat -- and a bird...") == "stop a dog a cat and a bird".split()


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="2 sentences cannot be compared with those of 1 images"):
        caption_scores(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="without references"):
        caption_scores(["a"], [[]])
