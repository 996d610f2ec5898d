"""Muon: an optimizer that orthogonalizes the momentum of weight matrices.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". The update of a weight matrix is its
Nesterov momentum with all singular values near 1, by five Newton-Schulz iterations; a convolution's kernel (out, in,
height, width) is a matrix of `out` rows. It is scaled by 0.2 sqrt(max(rows, columns)), about the size of Adam's
update, so that one learning rate serves both (Liu et al. 2025, arXiv 2502.16982, section 2.2). Weights of fewer than
two dimensions are updated by AdamW. torch.optim.Muon takes matrices alone.

Deviation: the first and the last layer are orthogonalized too; Jordan et al. leave them to AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from runs.machine import fast_bf16

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a, b, c of a x + b x^3 + c x^5
ITERATIONS = 5
LARGE = 128  # rows and columns, from which on bfloat16 pays
ADAM_SIZE = 0.2  # root mean square of an update, in learning rates: about that of Adam


def orthogonalize(matrices: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Matrices (N, rows, columns) with the singular vectors of those given, and singular values near 1.

    Singular values of at least a hundredth of a matrix's norm end between about 0.7 and 1.2. Large matrices are
    multiplied in bfloat16 where the device is fast at it.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    if min(x.shape[1:]) >= LARGE and fast_bf16(x.device):
        x = x.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(iterations):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for weights of two dimensions and more, AdamW for the others.

    momentum: of Muon, and Adam's beta_1. weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        beta_2: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, beta_2=beta_2, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update by the gradients. closure: computes them, and returns the loss, a scalar, as this does."""
        loss = None
        if closure:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike = defaultdict(list)  # weights by their shape: orthogonalized together
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if group["weight_decay"]:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                if weight.dim() < 2:
                    self._adam(weight, group)
                else:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                self._muon(weights, group)
        return loss

    def _muon(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update weights of one shape."""
        ahead = []
        for weight in weights:  # one by one: torch 2.11 cannot compile torch._foreach_lerp for CUDA
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
            momentum = self.state[weight]["momentum"].lerp_(weight.grad, 1 - group["momentum"])
            ahead.append(weight.grad.lerp(momentum, group["momentum"]).flatten(1))
        updates = orthogonalize(torch.stack(ahead))
        updates = updates * (-group["lr"] * ADAM_SIZE * max(updates.shape[1:]) ** 0.5)
        for weight, update in zip(weights, updates, strict=True):
            weight.add_(update.view(weight.shape))

    def _adam(self, weight: Tensor, group: dict[str, Any]) -> None:
        """Update a weight by Adam (Kingma & Ba 2014). The count of updates is a tensor, for CUDA graphs."""
        state, betas = self.state[weight], (group["momentum"], group["beta_2"])
        if not state:
            state.update(updates=weight.new_zeros(()), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["updates"] += 1
        state["mean"].lerp_(weight.grad, 1 - betas[0])
        state["square"].lerp_(weight.grad.square(), 1 - betas[1])
        mean, square = (
            state[name] / (1 - beta ** state["updates"]) for name, beta in zip(("mean", "square"), betas, strict=True)
        )
        weight.sub_(group["lr"] * mean / (square.sqrt() + group["eps"]))
