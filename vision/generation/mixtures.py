"""GANs on mixtures of normal distributions in the plane: how many modes a loss covers, as a density and as a film.

    python -m vision.generation.mixtures                                       # a grid of 25, R3GAN's loss
    python -m vision.generation.mixtures --data ring --loss non_saturating
    python -m vision.generation.mixtures --data grid --loss wasserstein

Losses: minimax and non_saturating (Goodfellow et al. 2014, arXiv 1406.2661), least_squares, wasserstein with a
gradient penalty, relativistic with zero-centered ones (R3GAN: Huang et al. 2024, arXiv 2501.05441), as in
adversarial_losses.py.
Ring, grid and what is counted are those of PacGAN (toy_points.py): a mode is covered by one of 2,500 samples within
three deviations of its mean. The score is the number of modes. videos/ has a film of the samples of the same noise as
training goes on, density.png the densities of data and samples at its end.

Deviations: fully connected networks of our own size; what is sampled is a moving average of the generator's weights.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor

import runs
from runs import suggestions
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from vision.generation import density_pictures, plots, toy_points
from vision.generation.adversarial_losses import LOSSES, check_penalty, discriminator_losses, generator_loss
from vision.generation.mlp_gan import MLPDiscriminator, MLPGenerator
from vision.training import optimizers, schedules
from vision.training.losses import total_loss


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    data: str = "grid"  # ring, of 8, or grid, of 25
    loss: str = "relativistic"  # minimax, non_saturating, least_squares, wasserstein, relativistic
    smoothing: Share = 0.0  # one-sided label smoothing: real samples count as 1 minus this
    penalty_weight: NonNegative = 0.0  # of the gradient penalty of wasserstein and relativistic; 0: none
    latent: Count = 2  # numbers of the noise, normally distributed
    hidden: Count = 128  # units of a layer, of both networks
    layers: Count = 3  # hidden ones, of both networks
    steps: Count = 3_000  # updates of the generator
    discriminator_updates: Count = 1  # for each of them
    batch: Count = 256  # samples
    learning_rate: Positive = 1e-3  # of both networks' Adam, at its highest
    beta_1: Share = 0.5
    beta_2: Share = 0.99
    ema_decay: Share = 0.995  # of the moving average of the generator, kept an update
    evaluate_every: Count = 500  # updates between evaluations
    film_points: Count = 2_500  # of fixed noise, in each frame
    film_every: Whole = 50  # updates between frames; 0: no film
    log_every: Count = 100  # updates a line of metrics.jsonl

    def validate(self) -> None:
        super().validate()
        for flag, known in (("data", toy_points.MIXTURES), ("loss", LOSSES)):
            if (asked := getattr(self, flag)) not in known:
                raise ValueError(f"unknown --{flag} {asked!r}: {suggestions.one_of(asked, known)}")
        check_penalty(self.loss, self.penalty_weight)


RECIPES: dict[str, dict[str, Any]] = {  # by loss
    "relativistic": dict(learning_rate=2e-3, penalty_weight=0.02, beta_1=0.0),
    "wasserstein": dict(learning_rate=2e-3, penalty_weight=0.1, discriminator_updates=3),
}
SCORE = runs.Score("eval/modes", "max")
FRAMES = "frames"  # of the film, in a run's folder
FPS = 20
DENSITY = 200_000  # samples of the picture


def recipe(asked: Config) -> Config:
    """The recipe of the loss."""
    return Config(data=asked.data, loss=asked.loss, **RECIPES.get(asked.loss, {}))


def schedule(progress: float) -> float:
    """Factor of the learning rate: 1 in the first half of a run, then by a cosine to 0."""
    return schedules.cosine(max(0.0, 2 * progress - 1))


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    config.validate()
    mixture, loss = toy_points.MIXTURES[config.data](), LOSSES[config.loss]
    there = mixture._replace(means=mixture.means.to(device))  # drawn without a wait for copies from the CPU
    spread = mixture.means.abs().max().item()  # the networks see points divided by it
    generator = MLPGenerator(config.latent, (2,), config.hidden, config.layers, squashed=False).to(device)
    discriminator = MLPDiscriminator((2,), config.hidden, config.layers).to(device)
    averaged = copy.deepcopy(generator).requires_grad_(False)
    betas = (config.beta_1, config.beta_2)
    adam, critic_adam = (
        torch.optim.Adam(each.parameters(), config.learning_rate, betas) for each in (generator, discriminator)
    )
    run = runs.Run(config, "vision.generation.mixtures", config.data, score=SCORE, unit="updates")
    run.track(generator=generator, discriminator=discriminator, averaged=averaged, adam=adam, critic_adam=critic_adam)
    fixed = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(config.film_points, config.latent, generator=fixed).to(device)

    def draw_noise() -> Tensor:
        return torch.randn(config.batch, config.latent, device=device)

    def real() -> Tensor:
        return there.sample(config.batch) / spread

    def learn() -> dict[str, Tensor]:
        for _ in range(config.discriminator_updates):
            with torch.no_grad():
                fake = generator(draw_noise())
            found = discriminator_losses(loss, discriminator, real(), fake, config.penalty_weight, config.smoothing)
            critic_adam.zero_grad()
            total_loss(found).backward()
            critic_adam.step()
        found["loss/generator"] = generator_loss(loss, discriminator, real(), generator(draw_noise()))
        adam.zero_grad()
        found["loss/generator"].backward()
        adam.step()
        return {name: value.detach() for name, value in found.items()}

    for step in run.steps(config.steps):
        for each in (adam, critic_adam):
            optimizers.set_learning_rate(each, config.learning_rate * schedule(step / config.steps))
        run.log(learn())
        optimizers.ema_update(averaged, generator, config.ema_decay, updates=step)
        last = step + 1 >= config.steps
        if run.due(config.evaluate_every) or last:
            evaluate(run, averaged, mixture, spread)
        if run.due(config.film_every) or (last and config.film_every):
            with run.side_task("picture"), run.writing(f"{FRAMES}/{step + 1:012d}.png") as path:
                with torch.no_grad():
                    points = spread * averaged(noise).cpu()
                count = toy_points.coverage(points, mixture).modes
                words = f"update {step + 1:,}: {count} of {len(mixture.means)} modes, {config.loss}"
                plots.write(density_pictures.frame(points, mixture, words), path)
        if last:
            finish(run, averaged, discriminator, mixture, spread)


@torch.no_grad()
def evaluate(run: runs.Run, generator: MLPGenerator, mixture: toy_points.Mixture, spread: float) -> None:
    """Count the modes that samples cover, from noise that is the same at each evaluation."""
    with run.side_task("evaluation", needed=True):
        drawn = torch.Generator().manual_seed(run.config.seed + 1)
        noise = torch.randn(toy_points.SAMPLES, run.config.latent, generator=drawn).to(run.device)
        found = toy_points.coverage(spread * generator(noise).cpu(), mixture)
    run.log_evaluation({f"eval/{name}": value for name, value in found._asdict().items()})


@torch.no_grad()
def finish(
    run: runs.Run,
    generator: MLPGenerator,
    discriminator: MLPDiscriminator,
    mixture: toy_points.Mixture,
    spread: float,
) -> None:
    """Draw the densities, and join the frames into a film."""
    with run.side_task("picture"), run.writing("density.png") as path:
        noise = torch.randn(DENSITY, run.config.latent).to(run.device)
        points = spread * generator(noise).cpu()
        found = toy_points.coverage(points, mixture)
        title = f"{run.config.loss}: {found.high_quality:.1f}% of the samples within three deviations of a mean"
        density_pictures.draw_densities(
            mixture, points, lambda where: discriminator((where / spread).to(run.device)).cpu(), title, path
        )
    if run.config.film_every:
        with run.side_task("film"), run.writing(f"videos/step-{run.step + 1}.mp4") as path:
            plots.film(sorted((run.folder / FRAMES).glob("*.png")), path, FPS)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "vision.generation.mixtures", __doc__)
