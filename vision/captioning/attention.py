"""Attention of captioners: the equations of Xu et al. 2015, "Show, attend and tell", arXiv 1502.03044.

A word is written while looking at places of a map: softly, at their weighted mean, or hard, at one that is drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECAY = 0.9  # of the baseline of hard attention, an update: section 4.1


class Options(NamedTuple):
    """Weights of the losses of attention."""

    doubly_stochastic: float = 1.0  # lambda of equation 14; 0: none
    reinforce: float = 1.0  # lambda_r of equation 11
    exploration: float = 0.01  # lambda_e: of the entropy, before the weight of the whole


class Baseline:
    """Moving averages of the rewards of words by their position in the sentence, part of a run's checkpoints.

    longest: words of a sentence at most.
    """

    def __init__(self, longest: int, device: torch.device | str = "cpu") -> None:
        self.value: Tensor = torch.zeros(longest + 1, device=device)  # and of the end

    def of(self, rewards: Tensor) -> Tensor:
        """The baseline (T,) of rewards (B, T)."""
        return self.value[: rewards.shape[1]]

    def update(self, rewards: Tensor, there: Tensor) -> None:
        """b <- 0.9 b + 0.1 r, of the mean of rewards (B, T) over the sentences that have the word: there (B, T)."""
        count, old = there.sum(0), self.of(rewards)
        mean = torch.where(count > 0, (rewards * there).sum(0) / count.clamp(min=1), old)
        self.value = torch.cat([mean.lerp(old, DECAY), self.value[len(old) :]])

    def state_dict(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.value = state["value"].to(self.value.device)


class AdditiveAttention(nn.Module):
    """Weights of places (B, L), of features (B, L, D) and a hidden state (B, H): equations 4 and 5.

    e_i = v . tanh(W a_i + U h); alpha = softmax(e). `project(features)` is W a_i, the same for all words.
    """

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        self.feature, self.hidden = nn.Linear(features, width), nn.Linear(hidden, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def project(self, features: Tensor) -> Tensor:
        """W a_i (B, L, width) of features (B, L, D)."""
        return self.feature(features)

    def forward(self, projected: Tensor, hidden: Tensor) -> Tensor:
        return self.score(torch.tanh(projected + self.hidden(hidden)[:, None])).squeeze(2).softmax(1)


def expected(weights: Tensor, features: Tensor) -> Tensor:
    """Soft attention: the mean (B, D) of features (B, L, D) by weights (B, L), equation 8."""
    return torch.einsum("bl,bld->bd", weights, features)


def chosen(places: Tensor, features: Tensor) -> Tensor:
    """Hard attention: the features (B, D) at places (B,), of features (B, L, D)."""
    return features[torch.arange(len(features), device=features.device), places]


def doubly_stochastic(weights: Tensor, there: Tensor) -> Tensor:
    """Doubly stochastic penalty (), equation 14: over places (1 - sum over words of alpha)^2, mean over images.

    weights: (B, T, L), alpha of each word. there: (B, T) bool, the words of the sentence.
    """
    return (1 - (weights * there[..., None]).sum(1)).square().sum(1).mean()


def entropy(weights: Tensor) -> Tensor:
    """Entropy (...,) in nats of weights (..., L)."""
    return -(weights * weights.clamp(min=1e-12).log()).sum(-1)


def rewards_to_go(likelihoods: Tensor) -> Tensor:
    """The log-likelihood (B, T) of the rest of a sentence from each word on, of that of its words (B, T), in nats."""
    return likelihoods.flip(1).cumsum(1).flip(1)


def reinforce(
    chosen_weights: Tensor, rewards: Tensor, baseline: Tensor, entropies: Tensor, there: Tensor, exploration: float
) -> Tensor:
    """Loss () of REINFORCE with baseline and entropy, the second and third term of equation 11.

    A place is credited with the words from its own on, as earlier ones do not depend on it: the expected gradient is
    that of the whole sentence's likelihood, with less variance.

    chosen_weights: (B, T), alpha of the places that were drawn. rewards: (B, T), those to go, without gradient.
    baseline: (T,), their moving averages. entropies: (B, T) of alpha. there: (B, T) bool, the words whose place was
    drawn. exploration: weight of the entropy, lambda_e.
    """
    score = chosen_weights.clamp(min=1e-12).log()
    advantage = rewards.detach() - baseline
    return -((advantage * score + exploration * entropies) * there).sum(1).mean()


def word_losses(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Cross-entropy (B, T) in nats of logits (B, T, words) for targets (B, T), 0 where they are `ignored`."""
    flat = logits.flatten(0, 1).float()
    return F.cross_entropy(flat, targets.flatten(), ignore_index=ignored, reduction="none").view(targets.shape)
