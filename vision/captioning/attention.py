"""Attention of captioners: the equations of Xu et al. 2015, "Show, attend and tell", arXiv 1502.03044.

A word is written while looking at places of a map: softly, at their weighted mean, or hard, at one that is drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Options(NamedTuple):
    """Weights of the losses of attention."""

    doubly_stochastic: float = 1.0  # lambda of equation 14; 0: none
    reinforce: float = 1.0  # lambda_r of equation 11
    exploration: float = 0.01  # lambda_e: of the entropy, before the weight of the whole


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


def reinforce(
    chosen_weights: Tensor, reward: Tensor, baseline: Tensor, entropies: Tensor, there: Tensor, exploration: float
) -> Tensor:
    """Loss () whose gradient is that of equation 11's second and third term: REINFORCE with baseline and entropy.

    chosen_weights: (B, T), alpha of the places that were drawn. reward: (B,), the log-likelihood of each sentence in
    nats, without gradient. baseline: (), its moving average. entropies: (B, T) of alpha. there: (B, T) bool.
    exploration: weight of the entropy, lambda_e.
    """
    score = (chosen_weights.clamp(min=1e-12).log() * there).sum(1)
    advantage = reward.detach() - baseline
    return -(advantage * score).mean() - exploration * (entropies * there).sum(1).mean()


def word_losses(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Cross-entropy (B, T) in nats of logits (B, T, words) for targets (B, T), 0 where they are `ignored`."""
    flat = logits.flatten(0, 1).float()
    return F.cross_entropy(flat, targets.flatten(), ignore_index=ignored, reduction="none").view(targets.shape)
