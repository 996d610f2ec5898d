"""Attribution scores on Atari: how often the maps of an agent's decisions point at objects of the game.

    python -m agents.studies.attribution_objects results/Pong/pqn-1
    python -m agents.studies.attribution_objects results/Breakout/dqn-1 --methods gradcam perturbation --states 500

The agent plays, and its best action at some of the states is explained by the methods of agents.watch --explain. The
boxes of the objects on the screen are read from the console's memory (envs/objects: eight games), so that nobody has
to label them. A map points right if its largest value lies inside of an object of a class (Zhang et al. 2016);
relevance mass is the part of the map's sum inside of it, relevance rank the part of as many largest values as it has
pixels (Arras et al. 2022). "chance" is the share of the picture inside of the objects: the pointing and the mass of a
map that knows nothing. Boxes are taken to the pixels of the agent's picture and made larger by --margin, because a
ball is one pixel there, the picture is the maximum of two frames, and the agent sees where the ball was too.

The sanity check replaces weights by permutations of themselves (Adebayo et al. 2018): the mean rank correlation with
the original maps of the same actions (Huber et al. 2022) and its 95% interval, after the output layer alone and after
all layers. "empty" is the share of constant maps, after the one and after the other. When a method passes is in
vision/interpretation/sanity_check.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor, nn

import agents
import envs
import runs
from agents.evaluation import Policy
from agents.explanations import EXPLANATIONS, ActionScores, attribute, explain
from envs import objects
from runs import study_report
from runs.flag_types import Count, NonNegative, Whole
from runs.printing import printable
from runs.progress import Bar
from vision.interpretation import localization, sanity_check

PROGRAM = "agents.studies.attribution_objects"
ANY = "any object"
SCORES = ("pointing", "mass", "rank", "chance")
CHECKS = ("output layer", "all layers")
CRITICS = ("network.value",)  # layers beside the output, which do not choose actions


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # folder of a run of an agent that plays a game of envs.objects.GAMES
    checkpoint: Literal["best", "last"] = "best"
    methods: tuple[str, ...] = ("saliency", "gradcam", "hirescam", "occlusion", "perturbation")  # of agents.watch
    stage: int = -1  # whose map gradcam and hirescam weight, from 0 or from the end
    states: Count = 200  # whose decisions are explained
    every: Count = 8  # agent steps between two of them
    margin: NonNegative = 1.0  # pixels of the agent's picture by which boxes are made larger on each side
    sanity_states: Whole = 100  # for the sanity check, the first; 0: it is left out
    sanity_draws: Count = 5  # of random weights, at least two
    seed: Whole = 1  # of the games and the random weights
    device: str = "cpu"
    threads: Whole = 0  # of torch; 0: as many as cores are free
    out: Path = Path("attribution_objects.json")  # where the scores go, and as .md their page

    def validate(self) -> None:
        if unknown := set(self.methods) - set(EXPLANATIONS):
            raise ValueError(f"unknown --methods {', '.join(sorted(unknown))}: choose from {', '.join(EXPLANATIONS)}")
        if self.sanity_states:
            sanity_check.check_draws(self.sanity_draws)


def masks_of(there: list[objects.Object], size: tuple[int, int], margin: float) -> dict[str, Tensor]:
    """The pixels (H, W) bool of a picture of some size that each class of objects covers, and all of them together.

    there: objects with boxes in pixels of the console's screen. margin: pixels of the picture added on each side.
    """
    found: dict[str, Tensor] = {}
    scale = torch.tensor([size[1] / objects.WIDTH, size[0] / objects.HEIGHT] * 2)
    for each in there:
        box = torch.tensor(each.box, dtype=torch.float32) * scale + torch.tensor([-margin, -margin, margin, margin])
        mask = localization.box_masks(box[None], size)[0]
        for name in (each.name, ANY):
            found[name] = found[name] | mask if name in found else mask
    return {name: mask for name, mask in found.items() if mask.any()}


def states(
    policy: Policy, world: envs.World, count: int, every: int
) -> Iterator[tuple[Tensor, list[objects.Object]]]:
    """Play, and give each `every`-th observation (1, C, H, W) with the objects in its newest frame, `count` in all.

    The policy has acted on the observation when it is given, so that a recurrent one can be explained.
    """
    game, transition = objects.GAMES[world.name], None
    for step in range(count * every):
        observation = world.observation
        memory = world.previous_ram if game.lag else world.ram
        with torch.inference_mode():
            action = policy(observation, transition)
        if step % every == every - 1:
            yield observation, objects.read(world.name, memory[0].cpu().numpy())
        transition = world.step(action)


def score(found: Tensor, masks: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """For each class: pointing, mass and rank of a map (H, W), and the share of the picture that the class covers.

    A map of zeros has found nothing.
    """
    scores = {}
    for name, mask in masks.items():
        maps, inside = found[None], mask[None]
        nothing = not found.any()
        scores[name] = {
            "pointing": 0.0 if nothing else localization.pointing_game(maps, inside).item(),
            "mass": 0.0 if nothing else localization.relevance_mass_accuracy(maps, inside).item(),
            "rank": 0.0 if nothing else localization.relevance_rank_accuracy(maps, inside).item(),
            "chance": mask.float().mean().item(),
        }
    return scores


class ScoresOf(nn.Module):
    """A policy's scores of observations (B, C, H, W), by weights of its own that can be changed.

    A copy has other weights, which the policy gets for the time of a call.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy, self.network = policy, policy.network

    @contextlib.contextmanager
    def playing(self) -> Iterator[Policy]:
        """The policy with these weights, within the context."""
        theirs = {name: value.clone() for name, value in self.policy.network.state_dict().items()}
        self.policy.network.load_state_dict(self.network.state_dict())
        try:
            yield self.policy
        finally:
            self.policy.network.load_state_dict(theirs)

    def forward(self, observations: Tensor) -> Tensor:
        with self.playing() as policy:
            return torch.cat([policy.scores(each[None]) for each in observations])


def sanity(
    method: str, policy: Policy, observations: list[Tensor], draws: int, seed: int, stage: int = -1
) -> dict[str, sanity_check.Verdict]:
    """The verdicts of the sanity check on a policy's maps: of the output layer's and of all layers' random weights.

    observations: (1, C, H, W) each. A recurrent policy keeps its present state.
    """

    def maps(model: ScoresOf, images: Tensor, actions: Tensor) -> Tensor:
        with model.playing() as playing:
            of = ActionScores(playing)
            found = [
                attribute(method, of, *each, stage) for each in zip(images[:, None], actions[:, None], strict=True)
            ]
        return torch.cat(found).detach()

    model, images = ScoresOf(policy), torch.cat(observations)
    with torch.no_grad():
        actions = model(images).argmax(1)
    critics = CRITICS if policy.score_kind == "logits" else ()
    return sanity_check.randomization_test(model, maps, images, actions, draws, seed, without=critics)


def measure(config: Config, policy: Policy, world: envs.World) -> dict[str, dict[str, dict[str, Any]]]:
    """For each method and class: mean scores over the states where the class is visible, and their number.

    Of any object the verdicts of the sanity check too, and whether the method passes.
    """
    sums: dict[str, dict[str, dict[str, Any]]] = {method: {} for method in config.methods}
    kept: list[Tensor] = []
    bar = Bar(config.states, 0, unit="states")
    try:
        for number, (observation, there) in enumerate(states(policy, world, config.states, config.every), 1):
            masks = masks_of(there, tuple(observation.shape[2:]), config.margin)
            if number <= config.sanity_states:
                kept.append(observation.clone())
            for method in config.methods:
                found = explain(method, policy, observation, config.stage)[0][0].float().cpu()
                for name, values in score(found, masks).items():
                    total = sums[method].setdefault(name, dict.fromkeys((*SCORES, "states"), 0))
                    for key, value in values.items():
                        total[key] += value
                    total["states"] += 1
            bar.update(number, "")
    finally:
        bar.close()
    for classes in sums.values():
        for total in classes.values():
            total |= {key: total[key] / total["states"] for key in SCORES}
    for method in config.methods if kept else ():
        found = sanity(method, policy, kept, config.sanity_draws, config.seed, config.stage)
        sums[method].setdefault(ANY, {}).update(found, passes=sanity_check.passes(found))
    return sums


def main(config: Config) -> dict[str, dict[str, dict[str, Any]]]:
    """Play, explain, score, print and write. Returns the scores of each method by class."""
    config.validate()
    device = runs.prepare(config.device, config.seed, config.threads)
    agent = agents.load(config.run, config.checkpoint, device, config.seed)
    game = envs.atari.canonical(agent.env) or agent.env
    if game not in objects.GAMES:
        raise ValueError(f"objects are known in {', '.join(objects.GAMES)}, not in {agent.env}")
    world = agent.world(1, config.seed, ram=True)
    try:
        found = measure(config, agent.policy, world)
    finally:
        world.close()
    head = ["method", "objects", "states", *SCORES, *CHECKS, "empty", "passes"]
    trials, rows = [], []
    for method, classes in found.items():
        for name, values in sorted(classes.items(), key=lambda item: item[0] != ANY):
            row = [method, name, f"{values.get('states', 0):,}"]
            row += [f"{values[key]:.3f}" if key in values else "" for key in SCORES]
            verdicts = {key: values[key] for key in CHECKS if key in values}
            row += [f"{each.mean:.2f} [{each.low:.2f}, {each.high:.2f}]" for each in verdicts.values()]
            row += [", ".join(f"{each.empty:.2f}" for each in verdicts.values())]
            row += [("yes" if values["passes"] else "no")] if verdicts else [""] * (len(CHECKS) + 1)
            rows.append(row)
            named = {key: each._asdict() for key, each in verdicts.items()}
            trials.append({"method": method, "objects": name} | values | named)
    title = f"Attribution on the objects of {game}: {config.run.name}, step {agent.step:,}"
    study_report.show(title, head, rows)
    note = (
        f"Of {config.states} states of one agent's play, every {config.every} steps, those in which the objects are "
        f"visible: a map's largest value inside of their boxes (made {config.margin:g} pixel larger), shares of its "
        "sum and of its largest values there, and the share of the picture that they cover. Output layer, all "
        "layers: the rank correlation with the map once their weights are random, mean and 95% interval of the first "
        f"{min(config.sanity_states, config.states)} states and {config.sanity_draws} draws of weights. Empty: "
        f"shares of constant maps after the one and the other. A method {sanity_check.RULE}. Grad-CAM and HiResCAM "
        f"weight map {config.stage} of the backbone (-1: the last)."
    )
    study_report.write(config.out, PROGRAM, device, printable(title), head, rows, note, trials)
    return found


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
