"""World model of a game: an autoencoder of its frames and a recurrent network of its latents learn to dream it.

    python -m agents.studies.world_model --env Pong --agent results/Pong/pqn-1
    python -m agents.studies.world_model --env Breakout
    python -m agents.studies.world_model.plan results/Pong/world_model-1
    python -m agents.ppo --env Pong --backbone results/Pong/world_model-1 --frozen

Ha & Schmidhuber 2018, arXiv 1803.10122. Games are played at random, or by an agent's run with random actions among
its own. The first updates teach the autoencoder single frames, the others the LSTM windows of latents; worlds of the
recording that neither saw are for evaluation. The score is the squared error of the next frame, beside which stand
that of copying the last frame (`copy`) and that of the frame's own reconstruction, the least that a prediction can
have; of Pong also how often the ball and the score are the game's (pong.py). videos/ has a game and its dream side by
side: same first frames, same actions. The encoder is a backbone for agents, whose features are then the latents.

Deviations from the paper:
1. Frames of 84 x 84 gray pixels, as agents see them; errors of pixels are in units of their deviations, so that a
   small ball counts and is found.
2. Latents are a map, each one of a few levels (finite scalar quantization, Mentzer et al. 2023, arXiv 2309.15505), in
   place of a vector with a Gaussian posterior: a dream's small errors are rounded away, where they would add up. The
   LSTM therefore gives a categorical distribution for each latent, as DreamerV2's (Hafner et al. 2021, arXiv
   2010.02193), in place of a mixture of Gaussians.
3. The LSTM is convolutional (Shi et al. 2015, arXiv 1506.04214): a ball moves by the same rule everywhere.
4. It learns from its own predictions too: in a share of the windows it reads the most probable latents that it
   predicted in place of the recorded ones (Bengio et al. 2015, arXiv 1506.03099).
5. It predicts the sign of rewards, so that agents can plan in the dream (plan.py); the paper's controller, learned by
   evolution, is left to the programs that take the encoder.
6. --optimizer muon (vision/training/muon.py) in place of Adam.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import torch

import envs
import runs
from agents import film, loading
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
    env: str = "Pong"  # a world of pictures with discrete actions; that of the agent, if there is one
    agent: Path | None = None  # a run's folder whose agent plays; None: random play
    noise: Share = (
        1.0  # share of the agent's actions that are random, at most: each world draws its own, now and then
    )
    frames: Count = 20_000  # recorded in all worlds together
    worlds: Count = 8  # games side by side, of which an eighth is for evaluation
    backbone: str = "nature"  # the encoder's convolutions: nature, small or impala
    width: Positive = 0.5  # channels of the encoder, times its family's
    decoder_width: Count = 2  # channels of the decoder, times the encoder's
    channels: Count = 8  # of the map of latents
    levels: Count = 5  # that a latent can have, an odd number
    sparsity: NonNegative = 0.1  # weight of the sum of the latents' absolute values
    hidden: Count = 48  # channels of the LSTM
    steps: Count = 8_000  # updates
    frame_share: Share = 0.2  # of the updates that teach the autoencoder; the others teach the LSTM
    frame_batch: Count = 64  # frames an update
    batch: Count = 16  # windows an update
    length: Count = 12  # steps of a window
    context: Count = 6  # frames seen before a dream
    dreamed: Share = 0.5  # of the windows, in which the LSTM reads what it predicted once it has seen the context
    outcome_weight: NonNegative = 10.0  # of the losses of reward and end, which are rare, beside that of all latents
    optimizer: Literal["muon", "adam"] = "muon"
    learning_rate: NonNegative = 2e-2  # at the start of either part; falls linearly to 0 over it
    clip: NonNegative = 100.0  # norm of the gradient, at most
    evaluate_every: Count = 1_000  # updates between evaluations
    evaluate_places: Count = 128  # places in recorded games from which frames are predicted
    horizons: tuple[int, ...] = (1, 5, 10, 20)  # steps ahead, of the errors
    dream_steps: Count = 100  # of a film's dream
    temperature: NonNegative = 0.0  # of a film's dream; 0: what is most probable
    log_every: Count = 100
    bf16: bool = True  # learn in bfloat16 where the device is fast at it

    def validate(self) -> None:
        super().validate()
        if self.worlds < 2:
            raise ValueError("--worlds 1: one more is needed for evaluation")
        if self.context > self.length:
            raise ValueError(f"--context {self.context}: a window has only --length {self.length} steps")


CATCH = dict(  # a game has nine steps
    backbone="small", width=1.0, decoder_width=1, channels=4, hidden=16, steps=1_200,
    frame_share=0.3, frame_batch=32, length=7, context=1, evaluate_every=600, horizons=(1, 3, 7), dream_steps=8,
)  # fmt: skip


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    env = loading.load_config(asked.agent)[1].env if asked.agent else asked.env
    return Config(**{"env": env, "agent": asked.agent} | (CATCH if envs.describe(env).family == "catch" else {}))


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
    frames = train.frame.flatten(0, 1)
    model = build(config, tuple(frames.shape[1:]), actions).to(device)
    model.fit_pixels(frames)
    kind = {"muon": optimizers.Muon, "adam": torch.optim.Adam}[config.optimizer]
    optimizer = kind(model.parameters(), config.learning_rate)
    run = runs.Run(
        config, PROGRAM, game, score=runs.Score("eval/next_frame_error", "min"), unit="updates",
        note=f"{len(recording.frame) * config.worlds:,} frames of {config.worlds} worlds, {held_out} for evaluation",
    )  # fmt: skip
    run.track(model=model, optimizer=optimizer)
    first = round(config.frame_share * config.steps)  # update of the LSTM
    latents: torch.Tensor | None = None
    for step in run.steps(config.steps):
        begun, end = (0, first) if step < first else (first, config.steps)
        optimizers.set_learning_rate(optimizer, config.learning_rate * (end - step) / (end - begun))
        if step < first:
            with precision(config, device):
                some = frames[torch.randint(len(frames), (config.frame_batch,))]
                losses = model.autoencoder.losses(some, config.sparsity)
        else:
            if latents is None:  # of all frames, once the autoencoder has learned
                latents = encode(model, train)
            window = starts[torch.randint(len(starts), (config.batch,))]
            with precision(config, device):
                losses = model.dynamics_losses(*windows(train, latents, window, config), config.outcome_weight)
        optimizer.zero_grad()
        total_loss(losses).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        run.log({name: value.detach() for name, value in losses.items()} | {"train/gradient_norm": norm})
        if run.evaluates():
            evaluate(run, model, test)


def build(config: Config, shape: tuple[int, ...], actions: int) -> WorldModel:
    """The untrained model of a world whose frames have this shape (C, H, W)."""
    encoder = backbones.build(
        "frame_encoder", shape, body=config.backbone, width=config.width, latents=config.channels,
        levels=config.levels, frame=shape[0],
    )  # fmt: skip
    return WorldModel(encoder, actions, config.hidden, config.decoder_width)


@torch.no_grad()
def encode(model: WorldModel, part: Recording) -> torch.Tensor:
    """Levels (T, N, L, h, w) uint8 of the latents of all frames."""
    found = [model.encode(some).byte() for some in part.frame.flatten(0, 1).split(ENCODED)]
    return torch.cat(found).unflatten(0, part.last.shape)


def windows(
    part: Recording, latents: torch.Tensor, starts: torch.Tensor, config: Config
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What WorldModel.dynamics_losses takes of windows from starts (B, 2): levels (T + 1, B, L, h, w), actions,
    rewards and ends (T, B), and which steps read recorded latents (T, B)."""
    time, world = starts[:, 0] + torch.arange(config.length + 1, device=starts.device)[:, None], starts[:, 1]
    action, reward, last = (field[time, world][:-1] for field in part[1:])
    recorded = torch.rand(len(starts), device=starts.device) >= config.dreamed
    given = recorded | (torch.arange(config.length, device=starts.device)[:, None] < config.context)
    return latents[time, world].long(), action, reward, last, given


def evaluate(run: runs.Run, model: WorldModel, test: Recording) -> None:
    """Errors on worlds that were not learned from; the best weights save their encoder and film a dream."""
    config = run.config
    model.eval()
    with run.side_task("evaluation", needed=True):
        found = dream.errors(model, test, config.horizons, config.context, config.evaluate_places, run.world)
    line = {"eval/next_frame_error": found.pop("dream/1")} | {f"eval/{name}": value for name, value in found.items()}
    if run.log_evaluation(line):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.encoder, path)
        with run.side_task("film"):
            pictures = dream.film(model, test, config.context, config.dream_steps, config.temperature, config.seed)
            with run.writing(f"videos/{run.step + run.stride:012d}.mp4") as path:
                film.write(pictures, path, 15)
    model.train()


if __name__ == "__main__":
    runs.launch(main, Config, recipe, PROGRAM, __doc__)
