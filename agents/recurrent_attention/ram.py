"""RAM, the recurrent attention model: classifies an image in a few glimpses, and learns where to look.

Mnih et al. 2014, "Recurrent models of visual attention". A glimpse through a small retina is the input of a recurrent
core, whose state determines the next location, learned by REINFORCE, and after the last glimpse the class.

    python -m agents.recurrent_attention --env MNIST
    python -m agents.recurrent_attention --env Cluttered --seed 3
    python -m agents.recurrent_attention --env Translated --attention random       # baseline: random locations
    python -m agents.recurrent_attention --env Cluttered --images glyphs           # drawn digits, no download
    python -m agents.recurrent_attention --env Pairs                               # two digits, one after the other

Training scenes are newly generated each time; those of validation and test stay the same. The network with the lowest
error on 5,000 validation images is tested once, at the end. Its glimpses are drawn in videos/, as a film and as a
sheet.

Deviations from the paper:
1. Adam instead of momentum, with the learning rate going to 0 along a half cosine; on MNIST, whose images are the
   same each time, with weight decay.
2. The location network has a hidden layer and ends in tanh. With a tenth of the weight REINFORCE trains the core, too
   (--no-location-gradient), so that its state keeps what is needed for the search.
3. A moving average of the weights is evaluated.
4. The reward of REINFORCE is the probability of the true class instead of 0 or 1 (--reward right).
5. He initialization before ReLUs, and a core initialized to keep its state; on scenes of 60x60 and more an LSTM
   (--core relu), which makes fewer errors with clutter, in bf16 (--no-bf16).
6. In evaluation and test a single rollout is deterministic except for its first location; ten are sampled.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import runs
from agents import optimization
from agents.config import load_backbone
from agents.recurrent_attention import plots
from agents.recurrent_attention.model import GlimpseFlags, RecurrentAttention, classification_reward, hybrid_loss
from envs import glimpse
from envs.glimpse import Retina, Scenes
from runs import loss_scaling, suggestions
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.saved import best_copy
from vision import backbones, data
from vision.training import optimizers, sampling


@dataclasses.dataclass(frozen=True)
class Config(GlimpseFlags, runs.Options):
    env: str = "MNIST"  # the task: MNIST, Translated, Cluttered, Cluttered100 or Pairs
    images: Literal["mnist", "glyphs"] = "mnist"  # MNIST, or drawn digits that need no download
    data: Path | None = None  # folder of the image set; None: $SACCADE_DATA/mnist or ~/.cache/saccade/mnist
    steps: Count = 4_400_000  # images shown; 55,000 are an epoch of MNIST
    batch: Count = 100  # images an update
    rollouts: Count = 1  # M, rollouts over each image with other glimpses
    reward: Literal["probability", "right"] = (
        "probability"  # of the true class, or 1 if it is the most probable, else 0
    )
    reinforce_weight: float = 1.0  # of the REINFORCE term, beside the cross-entropy's 1
    learning_rate: NonNegative = 1e-3  # Adam, at the start
    location_lr_scale: NonNegative = 1.0  # of that, for the location network
    weight_decay: NonNegative = 0.0  # decoupled (Loshchilov & Hutter 2019)
    max_grad_norm: NonNegative = 0.0  # of the gradient, larger ones are scaled down; 0 for no limit
    ema_decay: Share = 0.999  # of the averaged weights, kept an update; less in the first 10,000
    evaluate_every: Count = 110_000  # images shown between evaluations on validation
    evaluate_rollouts: Count = 1  # M in these: one is deterministic, several are sampled
    evaluate_passes: Count = 3  # over all images in these, from other first locations
    test_rollouts: Count = 10  # M of the second test; the first has one
    film: bool = True  # write the glimpses at some test images, at the end
    log_every: Count = 55_000  # images shown a line of metrics.jsonl
    threads: Whole = 1  # of torch on the CPU
    bf16: bool = False  # bf16 autocast where the device is fast at it; logits and baseline in fp32
    fp16: bool = False  # fp16 autocast in place of bf16, on any device, with dynamic loss scaling
    compile: bool = False  # torch.compile learn
    capture: bool = False  # CUDA: learn becomes a graph of the device, launched whole

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)
        loss_scaling.check(self, "compile", "capture")


SCORE = runs.Score("eval/error", "min", unit="%")  # of validation images
CORE_LEARNS = dict(location_gradient=True, reinforce_weight=0.1)
LARGE = CORE_LEARNS | dict(glimpses=8, patch_size=12, scales=3, core="lstm", steps=5_500_000, bf16=True)
RECIPES = {
    "MNIST": CORE_LEARNS | dict(weight_decay=0.1),  # the only task whose images are the same each time
    "Translated": LARGE,
    "Cluttered": LARGE,
    "Cluttered100": LARGE | dict(scales=4),
    "Pairs": LARGE | dict(glimpses=3, scales=4),
}


def recipe(asked: Config) -> Config:
    """The config that suits the task asked for. Raises ValueError on an unknown one."""
    name = task_name(asked)
    return Config(env=name, **RECIPES[name])


def task_name(asked: Config) -> str:
    """The task asked for, as RECIPES spells it. Raises ValueError on an unknown one."""
    known = {name.lower(): name for name in RECIPES}
    if asked.env.lower() not in known:
        raise ValueError(f"unknown task {asked.env!r}: {suggestions.one_of(asked.env, RECIPES)}")
    return known[asked.env.lower()]


Builder = Callable[[Config, Scenes], RecurrentAttention]


def image_set(config: Config) -> data.Sets:
    """The image set of a config. Raises ValueError where it is not available."""
    if config.images == "mnist":
        return data.load("mnist", config.data)
    images, labels = glimpse.glyphs(7_000)
    parts = (slice(0, 5_000), slice(5_000, 6_000), slice(6_000, 7_000))
    return data.Sets(*(data.Labeled(images[part, None], labels[part]) for part in parts), tuple("0123456789"))


def scenes(config: Config, labeled: data.Labeled, device: torch.device) -> Scenes:
    """The scenes of a config's task, from a part of an image set."""
    task = glimpse.TASKS["Plain" if config.env == "MNIST" else config.env]
    return Scenes(labeled.images.to(device), labeled.labels.to(device), task)


def build(
    config: Config, world: Scenes, network: type[RecurrentAttention] = RecurrentAttention
) -> RecurrentAttention:
    """The network for a task, on the device of its images."""
    device = world.images.device
    retina = Retina(world.shape, config.patch_size, config.scales, device)
    return network(config, retina, world).to(device)


@torch.inference_mode()
def errors(
    network: RecurrentAttention, world: Scenes, rollouts: int, seed: int, passes: int = 1, batch: int = 500
) -> dict[str, float]:
    """Percentage of images with a wrong digit: the mean over `passes` from different first locations.

    A single rollout is deterministic. The probabilities of several, with sampled locations, are averaged. Scenes and
    noise are determined by the seed. The network is put into evaluation mode.

    Returns:
        "error", "loss" (nats) and "images", how many.
    """
    network.eval()
    device = world.images.device
    generator = torch.Generator(device).manual_seed(seed)
    wrong = loss = torch.zeros((), device=device)
    for rows in torch.arange(len(world), device=device).split(batch):
        uniform = torch.rand(len(rows), world.draws, generator=generator, device=device)
        maps, label = network.retina.prepare(world.paint(rows, uniform)), world.answers(rows, uniform)
        for _ in range(passes):
            drawn = (
                network.sample_noise(len(rows), device, generator, deterministic=rollouts == 1)
                for _ in range(rollouts)
            )
            probability = sum(network(maps, chance).logits.softmax(2) for chance in drawn) / rollouts
            wrong = wrong + (probability.argmax(2) != label).any(1).sum()
            loss = loss - probability.gather(2, label[..., None]).clamp(min=1e-9).log().sum()
    seen = passes * len(world)
    return {"error": 100 * wrong.item() / seen, "loss": loss.item() / seen, "images": len(world)}


def adam(config: Config, network: RecurrentAttention) -> torch.optim.AdamW:
    """AdamW over the weights that require gradients, in two groups: others, and the location modules."""
    location_modules = [
        weight for module in network.location_modules() for weight in module.parameters() if weight.requires_grad
    ]
    in_location = {id(weight) for weight in location_modules}
    others = [weight for weight in network.parameters() if weight.requires_grad and id(weight) not in in_location]
    device = others[0].device
    groups = [
        {"params": weights, "lr": optimization.initial_learning_rate(config, device)}
        for weights in (others, location_modules)
    ]
    return optimization.keep_on_device(
        torch.optim.AdamW(
            groups, weight_decay=config.weight_decay, fused=device.type != "mps", capturable=config.capture
        )
    )


def train(config: Config, program: str = "agents.recurrent_attention", build: Builder = build) -> None:
    """Train the network that `build` makes; dram.py has its own."""
    device = runs.prepare(config.device, config.seed, config.threads)
    sets = image_set(config)
    world, validation = scenes(config, sets.train, device), scenes(config, sets.validation, device)
    if config.batch > len(world):
        raise ValueError(f"--batch {config.batch}: there are {len(world)} images to train on")
    run = runs.Run(
        config, program, world_name(config), score=SCORE, unit="images", follow_up="python -m agents.watch"
    )

    network = build(config, world)
    averaged = copy.deepcopy(network).requires_grad_(False)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer, scaler = adam(config, network), loss_scaling.LossScaler(config.fp16, device)
    run.track(network=network, averaged=averaged, optimizer=optimizer, **scaler.parts)

    def learn(maps: Tensor, label: Tensor, chance: Tensor) -> dict[str, Tensor]:
        logits, _, log_prob, baseline = network(maps, chance)
        reward = classification_reward(logits, label, config.reward)
        weight = config.reinforce_weight
        loss, parts = hybrid_loss(logits, label, reward, log_prob, baseline, weight, config.glimpses)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        scaler.step(optimizer)
        return parts | scaler.metrics

    if config.compile:
        learn = torch.compile(learn)
    if config.capture:
        learn = runs.Captured(learn, device)

    for step in run.steps(config.steps, stride=config.batch):
        for group, rate in zip(optimizer.param_groups, (1.0, config.location_lr_scale), strict=True):
            cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
            optimization.set_group_rate(group, config.learning_rate * rate * cosine)
        rows = sampling.batch_indices(len(world), step, config.batch, config.seed, device)
        uniform = torch.rand(len(rows), world.draws, device=device)
        maps, label = network.retina.prepare(world.paint(rows, uniform)), world.answers(rows, uniform)
        if config.rollouts > 1:
            maps, label = maps.repeat(config.rollouts, 1, 1), label.repeat(config.rollouts, 1)
        run.log(learn(maps, label, network.sample_noise(len(label), device)))
        optimizers.ema_update(averaged, network, config.ema_decay, updates=step // config.batch)
        last = step + config.batch >= config.steps
        if run.due(config.evaluate_every) or last:
            assess(run, averaged, validation)
        if last:
            test(run, averaged, scenes(config, sets.test, device))


def world_name(config: Config) -> str:
    """The name of a task's folder of runs."""
    return config.env if config.images == "mnist" else f"{config.images.capitalize()}-{config.env}"


def assess(run: runs.Run, network: RecurrentAttention, validation: Scenes) -> None:
    """Evaluate on the validation images, and save the backbone of the best so far."""
    config = run.config
    with run.side_task("evaluation", needed=True):
        found = errors(network, validation, config.evaluate_rollouts, seed=1_000_000, passes=config.evaluate_passes)
    if run.log_evaluation({f"eval/{word}": value for word, value in found.items()}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(network.backbone, path)


def test(run: runs.Run, network: RecurrentAttention, world: Scenes) -> None:
    """Test the network of the best evaluation, once, with one rollout and with several, and film its glimpses."""
    network, step = best_copy(run, network, "averaged")
    several = run.config.test_rollouts
    with run.side_task("evaluation", needed=True):
        one, many = (errors(network, world, rollouts, seed=2_000_000) for rollouts in (1, several))
    run.log_evaluation(
        {
            "test/error": one["error"],
            "test/loss": one["loss"],
            f"test/error_{several}": many["error"],
            f"test/loss_{several}": many["loss"],
            "test/images": one["images"],
            "test/of_step": step,
        }
    )
    if run.config.film:
        with run.side_task("film"):
            show(network, world, run.folder / "videos", seed=run.config.seed)
    run.bar.say(f"test error {one['error']:.2f}% (M=1), {many['error']:.2f}% (M={several}), weights of {step:,}")


@torch.inference_mode()
def show(network: RecurrentAttention, world: Scenes, folder: Path, seed: int, count: int = 25) -> Path:
    """Write the glimpses of a deterministic rollout over random images as saccades.gif and saccades.png.

    Returns the path of the gif.
    """
    network.eval()
    device = world.images.device
    generator = torch.Generator(device).manual_seed(seed)
    images, labels = world.sample(count, generator)
    rollout = network(
        network.retina.prepare(images), network.sample_noise(count, device, generator, deterministic=True)
    )
    answers, locations = rollout.logits.argmax(2), rollout.location
    plots.film(folder / "saccades.gif", images, locations, answers, labels, network.retina)
    few = slice(0, 8)
    plots.sheet(folder / "saccades.png", images[few], locations[:, few], answers[few], labels[few], network.retina)
    return folder / "saccades.gif"


def watch(
    config: Config, folder: Path, state: dict, device: torch.device, seed: int, build: Builder = build
) -> Callable[[Path], Path]:
    """For agents.watch: print validation errors of a run's saved weights.

    Returns a function that draws glimpses at validation images into a folder, see show().
    """
    world = scenes(config, image_set(config).validation, device)
    network = build(load_backbone(config, folder), world)
    network.load_state_dict(state["parts"]["averaged"])
    for rollouts in (1, config.test_rollouts):
        found = errors(network, world, rollouts, seed=3_000_000 + seed)
        print(f"validation error {found['error']:.2f}% of {found['images']:,} images (M={rollouts})", flush=True)
    return lambda place: show(network, world, place, seed)
