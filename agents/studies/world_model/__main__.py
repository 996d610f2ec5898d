"""World model of an Atari game: a VAE of its frames and an LSTM of the latents learn to dream it.

    python -m agents.studies.world_model --env Pong --agent results/Pong/pqn-1
    python -m agents.studies.world_model --env Breakout
    python -m agents.ppo --env Pong --stack 1 --lstm-units 256 --backbone results/Pong/world_model-1 --frozen

Ha & Schmidhuber 2018, arXiv 1803.10122. Games are played by an agent's run, with some random actions, or at random.
The first updates teach the VAE single frames, the others the LSTM windows of latents; worlds of the recording that
neither saw are for evaluation. The score is the squared error of the next frame, beside which stand that of copying
the last frame (`copy`) and that of the frame's own reconstruction, the least that a prediction can have. videos/ has
a game and its dream side by side: same first frames, same actions. The encoder is a backbone for agents.

Deviations from the paper: frames of 84 x 84 gray pixels as agents see them; latents are a map, and errors of pixels
are in units of their deviations, so that a small ball counts and is found; the LSTM keeps a share of each latent that
it chooses, and predicts the sign of rewards.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

import runs
from agents import film
from agents.studies.world_model import dream
from agents.studies.world_model.model import WorldModel
from agents.studies.world_model.recording import Recording, record
from runs.flag_types import Count, NonNegative, Positive, Share
from runs.machine import precision
from vision import backbones
from vision.training import optimizers
from vision.training.losses import total_loss

PROGRAM = "agents.studies.world_model"
ENCODED = 256  # frames encoded at once


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    env: str = "Pong"  # an Atari game; that of the agent, if there is one
    agent: Path | None = None  # a run's folder whose agent plays; None: random play
    noise: Share = 0.1  # share of the agent's actions that are random
    frames: Count = 20_000  # recorded in all worlds together
    worlds: Count = 8  # games side by side, of which an eighth is for evaluation
    backbone: str = "nature"  # the encoder: a name of python -m vision.backbones
    width: Positive = 1.0  # channels of the backbone, times its family's
    channels: Count = 8  # of the map of latents
    hidden: Count = 256  # units of the LSTM
    components: Count = 3  # Gaussians of a latent's mixture
    kl_weight: NonNegative = 0.1  # of the VAE's KL, which rises from 0 between a fifth and four fifths of its updates
    steps: Count = 10_000  # updates
    frame_share: Share = 0.35  # of the updates that teach the VAE; the others teach the LSTM
    frame_batch: Count = 64  # frames an update
    batch: Count = 16  # windows an update
    length: Count = 32  # steps of a window
    learning_rate: NonNegative = 3e-3  # of Adam at the start of either part; falls linearly to 0 over it
    clip: NonNegative = 100.0  # norm of the gradient, at most
    evaluate_every: Count = 1_000  # updates between evaluations
    evaluate_places: Count = 64  # places in recorded games from which frames are predicted
    context: Count = 8  # frames seen before a dream
    dream_steps: Count = 100  # of a film's dream
    temperature: NonNegative = 0.5  # of a film's dream; 0: what is expected
    log_every: Count = 100
    bf16: bool = True  # learn in bfloat16 where the device is fast at it

    def validate(self) -> None:
        super().validate()
        if self.worlds < 2:
            raise ValueError("--worlds 1: one more is needed for evaluation")


HORIZONS = (1, 5, 20)  # steps ahead, of the errors


def main(config: Config) -> None:
    """Record, learn, evaluate, film."""
    config.validate()
    device = runs.prepare(config.device, config.seed, config.threads)
    game, actions, recording = record(
        config.env, config.agent, config.worlds, config.frames, config.noise, config.seed, device
    )
    held_out = max(1, config.worlds // 8)
    train, test = (
        Recording(*(field.to(device) for field in recording.part(part)))
        for part in (slice(held_out, None), slice(held_out))
    )
    starts = train.starts(config.length, may_end=True)
    backbone = backbones.build(config.backbone, (1, 84, 84), width=config.width)
    model = WorldModel(backbone, actions, config.channels, config.hidden, config.components).to(device)
    frames = train.frame.flatten(0, 1)
    model.fit_pixels(frames)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    run = runs.Run(
        config, PROGRAM, game, score=runs.Score("eval/next_frame_error", "min"), unit="updates",
        note=f"{len(recording.frame) * config.worlds:,} frames of {config.worlds} worlds, {held_out} for evaluation",
    )  # fmt: skip
    run.track(model=model, optimizer=optimizer)
    first = round(config.frame_share * config.steps)  # update of the LSTM
    latents: tuple[torch.Tensor, torch.Tensor] | None = None
    for step in run.steps(config.steps):
        begun, end = (0, first) if step < first else (first, config.steps)
        optimizers.set_learning_rate(optimizer, config.learning_rate * (end - step) / (end - begun))
        if step < first:
            chosen = frames[torch.randint(len(frames), (config.frame_batch,))]
            weight = config.kl_weight * min(max((step / first - 0.2) / 0.6, 0.0), 1.0)
            with precision(config, device):
                losses = model.vae.losses(chosen, weight)
        else:
            if latents is None:  # of all frames, once the VAE has learned
                latents = encode(model, train)
            window = starts[torch.randint(len(starts), (config.batch,))]
            losses = model.dynamics_losses(*windows(train, latents, window, config.length))
        optimizer.zero_grad()
        total_loss(losses).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        run.log({name: value.detach() for name, value in losses.items()} | {"train/gradient_norm": norm})
        if run.evaluates():
            evaluate(run, model, test)


@torch.no_grad()
def encode(model: WorldModel, part: Recording) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and deviations (T, N, L) of the latents of all frames."""
    found = [model.encode(some) for some in part.frame.flatten(0, 1).split(ENCODED)]
    mean, deviation = (torch.cat(each).view(*part.last.shape, -1) for each in zip(*found, strict=True))
    return mean, deviation


def windows(
    part: Recording, latents: tuple[torch.Tensor, torch.Tensor], starts: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Drawn latents (B, length + 1, L), actions, rewards and ends (B, length) of windows from starts (B, 2)."""
    time, world = starts[:, :1] + torch.arange(length + 1, device=starts.device), starts[:, 1:]
    mean, deviation = (each[time, world] for each in latents)
    z = mean + deviation * torch.randn_like(mean)
    action, reward, last = (field[time, world][:, :-1] for field in part[1:])
    return z, action, reward, last


def evaluate(run: runs.Run, model: WorldModel, test: Recording) -> None:
    """Errors on worlds that were not learned from; the best weights save their encoder and film a dream."""
    config = run.config
    model.eval()
    with run.side_task("evaluation", needed=True):
        found = dream.errors(model, test, HORIZONS, config.context, config.evaluate_places)
    line = {"eval/next_frame_error": found.pop("dream/1")} | {f"eval/{name}": value for name, value in found.items()}
    if run.log_evaluation(line):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
        with run.side_task("film"):
            pictures = dream.film(model, test, config.context, config.dream_steps, config.temperature, config.seed)
            with run.writing(f"videos/{run.step + run.stride:012d}.mp4") as path:
                film.write(pictures, path, 15)
    model.train()


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
