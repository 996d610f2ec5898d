"""Losses of generative adversarial networks: discriminator, generator, and penalties of the discriminator's gradient.

Logits C(x) are what a discriminator gives before the sigmoid: D(x) = 1 / (1 + exp(-C(x))) is its probability that x
is real. A critic's (Wasserstein) are no probabilities. x are real samples, G(z) generated ones; every loss here is a
mean over a batch, and is minimized by the network that it is named for.

minimax          Goodfellow et al. 2014, arXiv 1406.2661, equation 1: both networks have one value, in opposite signs
non_saturating   the same, section 3: the generator maximizes log D(G(z)), whose gradient does not vanish where the
                 discriminator is sure
least_squares    Mao et al. 2016, arXiv 1611.04076, equation 9
wasserstein      Arjovsky et al. 2017, arXiv 1701.07875, with the gradient penalty of Gulrajani et al. 2017,
                 arXiv 1704.00028, equation 3
relativistic     R3GAN: Huang et al. 2024, arXiv 2501.05441, pairs of a real and a generated sample, with the
                 zero-centered penalties R1 of real and R2 of generated samples (Mescheder et al. 2018, arXiv
                 1801.04406)

One-sided label smoothing (Salimans et al. 2016, arXiv 1606.03498, section 3.4) is an argument of the losses that have
targets: real samples count as 1 - smoothing, generated ones as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Critic = Callable[[Tensor], Tensor]  # samples (B, ...) -> logits (B,)


def bernoulli_discriminator(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the discriminator, a scalar: -(1 - s) log D(x) - s log(1 - D(x)) - log(1 - D(G(z))).

    real: C(x), (B,). fake: C(G(z)), (B,). smoothing: s, one-sided.
    """
    return (F.softplus(-real) + smoothing * real).mean() + F.softplus(fake).mean()


def minimax_generator(real: Tensor, fake: Tensor) -> Tensor:
    """log(1 - D(G(z))), a scalar: the discriminator's value with its sign changed. real, fake: logits (B,)."""
    return -F.softplus(fake).mean()


def non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(G(z)), a scalar. real, fake: logits (B,)."""
    return F.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """(C(x) - 1 + s)^2 / 2 + C(G(z))^2 / 2, a scalar. real, fake: outputs (B,). smoothing: s, one-sided."""
    return ((real - 1 + smoothing).square().mean() + fake.square().mean()) / 2


def least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """(C(G(z)) - 1)^2 / 2, a scalar. real, fake: outputs (B,)."""
    return (fake - 1).square().mean() / 2


def wasserstein_critic(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """C(G(z)) - C(x), a scalar: minus the estimated distance of a critic whose slope is at most 1.

    real, fake: outputs (B,). Raises ValueError for smoothing: there are no labels.
    """
    _without_labels("wasserstein", smoothing)
    return fake.mean() - real.mean()


def wasserstein_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-C(G(z)), a scalar. real, fake: outputs (B,)."""
    return -fake.mean()


def relativistic_discriminator(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(C(x) - C(G(z))), a scalar: each real sample is to look more real than the one paired with it.

    Jolicoeur-Martineau 2018, arXiv 1807.00734; Huang et al. 2024, equation 2. real, fake: logits (B,), pairs by row.
    Raises ValueError for smoothing: there are no labels.
    """
    _without_labels("relativistic", smoothing)
    return F.softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigmoid(C(G(z)) - C(x)), a scalar. real, fake: logits (B,), pairs by row."""
    return F.softplus(real - fake).mean()


def _without_labels(name: str, smoothing: float) -> None:
    if smoothing:
        raise ValueError(f"label smoothing is of losses with labels: {name} has none, and takes no {smoothing:g}")


class Loss(NamedTuple):
    """The two sides of an adversarial loss, and the penalty that its paper trains it with."""

    discriminator: Callable[[Tensor, Tensor, float], Tensor]  # C(x), C(G(z)), smoothing -> scalar
    generator: Callable[[Tensor, Tensor], Tensor]  # C(x), C(G(z)) -> scalar
    penalty: str = "none"  # none, interpolated, or zero_centered
    paired: bool = False  # whether the generator's loss reads C(x)


LOSSES: dict[str, Loss] = {
    "minimax": Loss(bernoulli_discriminator, minimax_generator),
    "non_saturating": Loss(bernoulli_discriminator, non_saturating_generator),
    "least_squares": Loss(least_squares_discriminator, least_squares_generator),
    "wasserstein": Loss(wasserstein_critic, wasserstein_generator, "interpolated"),
    "relativistic": Loss(relativistic_discriminator, relativistic_generator, "zero_centered", paired=True),
}


def check_penalty(name: str, weight: float) -> None:
    """Raise ValueError where a penalty is weighed that the loss of this name does not have."""
    if weight and LOSSES[name].penalty == "none":
        raise ValueError(f"--penalty-weight {weight:g}: {name} is a loss without a gradient penalty")


def slopes(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Length (B,) of the gradient of each output (B,) by its own input (B, ...), to be differentiated again.

    Right where no output depends on another row's input, as in a discriminator without batch normalization.
    """
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return gradient.flatten(1).norm(dim=1)


def interpolated_penalty(critic: Critic, real: Tensor, fake: Tensor, shares: Tensor | None = None) -> Tensor:
    """WGAN-GP's penalty, a scalar: (|grad C(x')| - 1)^2 at points x' on the lines between real and generated samples.

    real, fake: (B, ...). shares: (B,) in [0, 1], of the real sample in each point; None: drawn uniformly. Gulrajani
    et al. 2017 weigh it by 10.
    """
    shares = torch.rand(len(real), device=real.device) if shares is None else shares
    shares = shares.view(-1, *[1] * (real.dim() - 1))
    points = torch.lerp(fake.detach(), real.detach(), shares.to(real.dtype)).requires_grad_()
    return (slopes(critic(points), points) - 1).square().mean()


def zero_centered_penalty(outputs: Tensor, inputs: Tensor) -> Tensor:
    """|grad C(x)|^2 / 2, a scalar: R1 where inputs are real samples, R2 where they are generated ones.

    outputs: (B,), of inputs (B, ...), which require gradients. It is weighed by gamma.
    """
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean() / 2


def discriminator_losses(
    loss: Loss,
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    weight: float = 0.0,
    smoothing: float = 0.0,
) -> dict[str, Tensor]:
    """What a discriminator minimizes: the sum of these scalars, "loss/discriminator" and "loss/penalty".

    real, fake: samples (B, ...), of which the generated ones are taken as constants. weight: of the penalty; 0:
    there is none. Beside them are the outputs' means, "train/real" and "train/fake", which are not for minimizing.
    """
    centered = weight > 0 and loss.penalty == "zero_centered"
    real, fake = real.detach().requires_grad_(centered), fake.detach().requires_grad_(centered)
    real_logits, fake_logits = critic(real), critic(fake)
    found = {"loss/discriminator": loss.discriminator(real_logits, fake_logits, smoothing)}
    if centered:
        both = zero_centered_penalty(real_logits, real) + zero_centered_penalty(fake_logits, fake)
        found["loss/penalty"] = weight * both
    elif weight > 0 and loss.penalty == "interpolated":
        found["loss/penalty"] = weight * interpolated_penalty(critic, real, fake)
    return found | {"train/real": real_logits.detach().mean(), "train/fake": fake_logits.detach().mean()}


def generator_loss(loss: Loss, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """What a generator minimizes, a scalar.

    real: samples (B, ...), read by paired losses alone. fake: G(z), (B, ...), with its graph.
    """
    fake_logits = critic(fake)
    if not loss.paired:
        return loss.generator(fake_logits, fake_logits)
    with torch.no_grad():  # real samples give the generator no gradient
        real_logits = critic(real)
    return loss.generator(real_logits, fake_logits)
