"""BLEU-1 to 4, ROUGE-L and CIDEr-D of captions, without Java.

    scores = caption_scores(candidates, references)      # sentences, and for each of them the ones that people wrote
    scores["bleu4"], scores["rouge_l"], scores["cider_d"]

BLEU: Papineni et al. 2002. ROUGE-L: Lin 2004. CIDEr-D: Vedantam et al. 2014, arXiv 1411.5726. Each as in the COCO
caption evaluation (Chen et al. 2015, arXiv 1504.00325), whose program is pycocoevalcap.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from vision.captioning.metrics.tokenizer import tokenize

Words = Sequence[str]
Counts = Counter[tuple[str, ...]]
LONGEST = 4  # words of an n-gram
ROUGE_WEIGHT = 1.2  # of recall against precision in ROUGE-L
CIDER_SIGMA = 6.0  # words, of CIDEr-D's penalty of other lengths
CIDER_FACTOR = 10.0


def ngrams(words: Words, longest: int = LONGEST) -> Counts:
    """How often each n-gram of 1 to `longest` words occurs."""
    found: Counts = Counter()
    for size in range(1, longest + 1):
        found.update(tuple(words[begin : begin + size]) for begin in range(len(words) - size + 1))
    return found


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus of tokenized sentences.

    Modified n-gram precisions of all sentences together, their geometric mean, times the brevity penalty; the length
    compared with is, for each sentence, that of the reference nearest in length, the shorter of two as near.
    """
    matched, total = [0] * LONGEST, [0] * LONGEST
    length = compared = 0
    for candidate, own in zip(candidates, references, strict=True):
        most: Counts = Counter()
        for reference in own:
            most |= ngrams(reference)
        for ngram, count in ngrams(candidate).items():
            matched[len(ngram) - 1] += min(count, most[ngram])
        for size in range(LONGEST):
            total[size] += max(0, len(candidate) - size)
        length += len(candidate)
        compared += min((abs(len(reference) - len(candidate)), len(reference)) for reference in own)[1]
    penalty = 1.0 if length >= compared else math.exp(1 - compared / length) if length else 0.0
    found, product = [], 1.0
    for size in range(LONGEST):
        product *= matched[size] / total[size] if total[size] else 0.0
        found.append(penalty * product ** (1 / (size + 1)))
    return found


def rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """ROUGE-L of each tokenized sentence: the F-measure of longest common subsequences.

    Precision and recall are the best over the references, each by itself; recall weighs ROUGE_WEIGHT squared.
    """
    found, weight = [], ROUGE_WEIGHT**2
    for candidate, own in zip(candidates, references, strict=True):
        common = [longest_common(candidate, reference) for reference in own]
        precision = max(each / len(candidate) if candidate else 0.0 for each in common)
        recall = max(each / len(words) if words else 0.0 for each, words in zip(common, own, strict=True))
        both = precision and recall
        found.append((1 + weight) * precision * recall / (recall + weight * precision) if both else 0.0)
    return found


def longest_common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence of two sentences."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0  # of the row above, one to the left
        for place, each in enumerate(other, 1):
            above = row[place]
            row[place] = before + 1 if word == each else max(above, row[place - 1])
            before = above
    return row[-1]


def cider_d(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """CIDEr-D of each tokenized sentence, from 0 to 10.

    Cosines of n-gram counts weighted by their inverse document frequency among the references of all images, with the
    candidate's clipped to the reference's, times a Gaussian penalty of the difference in length; the mean over
    references and n. With one image every weight, log 1, is 0, and so is the score.
    """
    counts = [[ngrams(words) for words in own] for own in references]
    images: Counts = Counter()
    for own in counts:
        images.update({ngram for each in own for ngram in each})
    whole = math.log(len(references)) if references else 0.0

    def weighted(found: Counts) -> tuple[dict[tuple[str, ...], float], list[float]]:
        vector = {ngram: count * (whole - math.log(max(1, images[ngram]))) for ngram, count in found.items()}
        squares = [0.0] * LONGEST
        for ngram, value in vector.items():
            squares[len(ngram) - 1] += value**2
        return vector, [math.sqrt(each) for each in squares]

    scores = []
    for candidate, own, sentences in zip(candidates, counts, references, strict=True):
        vector, norms = weighted(ngrams(candidate))
        total = 0.0
        for found, words in zip(own, sentences, strict=True):
            other, others = weighted(found)
            products = [0.0] * LONGEST
            for ngram, value in vector.items():
                weight = other.get(ngram, 0.0)
                products[len(ngram) - 1] += min(value, weight) * weight
            # Lengths are counted in pairs of words, as by the reference program.
            penalty = math.exp(-((_pairs(candidate) - _pairs(words)) ** 2) / (2 * CIDER_SIGMA**2))
            for product, one, two in zip(products, norms, others, strict=True):
                total += penalty * (product / (one * two) if one and two else product)
        scores.append(CIDER_FACTOR * total / LONGEST / len(own))
    return scores


def _pairs(words: Words) -> int:
    return max(0, len(words) - 1)


def caption_scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """bleu1 to bleu4, rouge_l and cider_d of sentences, each with the sentences that it is compared with.

    Raises ValueError where there are none, or a sentence has nothing to be compared with.
    """
    if not candidates or len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} sentences cannot be compared with those of {len(references)} images")
    if not all(references):
        raise ValueError("a sentence without references cannot be scored")
    own = [tokenize(sentence) for sentence in candidates]
    others = [[tokenize(sentence) for sentence in each] for each in references]
    found = {f"bleu{size}": value for size, value in enumerate(bleu(own, others), 1)}
    found["rouge_l"] = sum(rouge_l(own, others)) / len(own)
    found["cider_d"] = sum(cider_d(own, others)) / len(own)
    return found
