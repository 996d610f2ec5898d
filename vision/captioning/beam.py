"""Beam search: the most probable sentences of a step-by-step model that a beam of a given width finds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]


def beam_search(
    step: Step, state: tuple[Tensor, ...], start: int, end: int, width: int, longest: int
) -> tuple[list[list[int]], Tensor]:
    """The likeliest sentence found for each of B images, without its end, and log-likelihoods (B,) in nats.

    At each word the `width` likeliest continuations are kept; those that end wait, and compete with what is likelier
    than they are, until all that are kept have ended. Likelihoods are whole sentences', not divided by lengths.
    step: from words (N,) and a state of tensors (N, ...) to log-probabilities (N, words) and the state.
    state: of the B images (B, ...). start: what is read before the first word; end: the word that ends a sentence.
    longest: words at most, the end not counted; a sentence that has as many counts as ended.
    """
    count, device = len(state[0]), state[0].device
    scores = torch.full((count, width), -torch.inf, device=device)
    scores[:, 0] = 0.0  # at first all beams are the same
    state = tuple(each.repeat_interleave(width, 0) for each in state)
    words = torch.full((count * width,), start, device=device)
    sentences = torch.full((count, width, longest), end, device=device)
    ended = torch.zeros(count, width, dtype=torch.bool, device=device)
    for place in range(longest):
        found, state = step(words, state)
        found = found.view(count, width, -1)
        size = found.shape[2]
        kept = torch.full_like(found, -torch.inf)
        kept[..., end] = 0.0  # an ended sentence goes on with ends, at no cost
        total = scores[..., None] + torch.where(ended[..., None], kept, found)
        scores, best = total.flatten(1).topk(width)
        beams, words = best // size, best % size
        sentences = sentences.gather(1, beams[..., None].expand(-1, -1, longest))
        sentences[:, :, place] = words
        ended = ended.gather(1, beams) | (words == end)
        if ended.all():
            break
        rows = (torch.arange(count, device=device)[:, None] * width + beams).flatten()
        state, words = tuple(each[rows] for each in state), words.flatten()
    best = scores.argmax(1)
    chosen = sentences[torch.arange(count, device=device), best].tolist()
    likelihoods = scores[torch.arange(count, device=device), best]
    return [row[: row.index(end)] if end in row else row for row in chosen], likelihoods
