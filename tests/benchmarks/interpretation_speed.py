"""Speed of interpretation methods: perturbation saliency, fast style transfer, t-SNE, texture synthesis.

    python tests/benchmarks/interpretation_speed.py
    python tests/benchmarks/interpretation_speed.py --only saliency style --json speed.json
    python tests/benchmarks/interpretation_speed.py --threads 2     # by the clock; nothing else may run

Perturbation saliency is of DQN's network (Nature) for four frames of 84 x 84: a place every 5 pixels makes 289
forward passes a frame, all of them one at a time, or several at a time. Style transfer is of 256 x 256 pixels, by the
published network of Johnson et al. 2016 and by ours of half its width. t-SNE is of 10,000 points of 512 features in
ten clusters (openTSNE, perplexity 30). Textures of 72 x 72 pixels are synthesized from drawn bricks of several sizes,
in windows of 11; those by trees include building them, and the share of neighborhoods that a tree finds as an
exhaustive search does is printed.

Rates of one thread are a second of the processor's time: what else a machine does counts little. Those of several
threads are a second by the clock.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from paired import circumstances, median, report
from torch import nn

import runs
from runs.machine import precision
from vision import backbones
from vision.image_to_image import train
from vision.interpretation import embedding, neighborhoods, texture_synthesis, tree_quantizer
from vision.interpretation.occlusion import perturbation_saliency

POINTS, CLUSTERS = 10_000, 10
SAMPLES = (48, 96, 192)  # pixels, sides of the samples of textures
WINDOW = 11  # pixels, of their neighborhoods
TEXTURE = 72  # pixels, side of a texture
SIDE = 256  # pixels of pictures to transform
CPU = torch.device("cpu")


def seconds() -> float:
    """The processor's time of one thread; by the clock with several."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def rates(call: Callable[[], object], rounds: int, times: int) -> list[float]:
    """Calls a second, of each round of some calls; one before them is not counted."""
    call()
    found = []
    for _ in range(rounds):
        began = seconds()
        for _ in range(times):
            call()
        found.append(times / (seconds() - began))
    return found


def saliency(rounds: int) -> dict[str, list[float]]:
    """Of one chosen action."""
    backbone = backbones.build("nature", (4, 84, 84))
    head = nn.Sequential(nn.Flatten(), nn.Linear(backbone.output_size(), 512), nn.ReLU(), nn.Linear(512, 6))

    def network(observation: torch.Tensor) -> torch.Tensor:
        return head(backbone(observation)[-1])

    observation = torch.randint(256, (1, 4, 84, 84), dtype=torch.uint8)
    call = functools.partial(perturbation_saliency, network, observation, 0)
    return {
        f"{batch} at a time": rates(functools.partial(call, batch=batch), rounds, 2) for batch in (1, 32, 64, 289)
    }


@torch.inference_mode()
def style(rounds: int) -> dict[str, list[float]]:
    """Of the network alone, as vision.image_to_image predict runs it."""
    found, picture = {}, torch.rand(1, 3, SIDE, SIDE)
    recipe = train.recipe(train.Config(task="style", style=(Path("painting.jpg"),)))
    for width in (1.0, recipe.width):
        for bf16 in (False, True):
            config = dataclasses.replace(recipe, width=width, bf16=bf16)
            model = train.build(config).to(memory_format=torch.channels_last).eval()
            model.autocast = functools.partial(precision, config, CPU)
            found[f"width {width:g}, {'bfloat16' if bf16 else 'float32'}"] = rates(
                functools.partial(model, picture), rounds, 3
            )
    return found


def tsne(rounds: int) -> dict[str, list[float]]:
    """Maps a second; one round."""
    middles = 4 * torch.randn(CLUSTERS, 512)
    labels = torch.arange(POINTS) % CLUSTERS
    features = torch.randn(POINTS, 512) + middles[labels]
    embedding.tsne(features[:300])  # compiles
    began = seconds()
    points = embedding.tsne(features, threads=torch.get_num_threads())
    taken = seconds() - began
    right = embedding.neighbor_accuracy(points, labels)
    print(f"t-SNE of {POINTS:,} points: {taken:.0f} s, {right:.1f}% of nearest neighbors alike", flush=True)
    return {f"{POINTS:,} points": [1 / taken]}


def texture(rounds: int) -> dict[str, list[float]]:
    """Textures a second, one a round; Efros & Leung of the smallest sample alone, for it is the slowest."""
    found = {}
    for side in SAMPLES:
        sample = texture_synthesis.bricks(side, 1)

        def wei_levoy(levels: int, tree: bool, sample: torch.Tensor = sample) -> None:
            neighborhoods.wei_levoy(sample, TEXTURE, WINDOW, levels, torch.Generator().manual_seed(1), tree)

        for levels in (1, 2):
            for tree in (False, True):
                name = f"Wei & Levoy, {levels} levels{', tree' if tree else ''}, sample of {side}"
                found[name] = rates(functools.partial(wei_levoy, levels, tree), rounds, 1)
        vectors = neighborhoods.neighborhoods(sample, None, WINDOW).vectors
        wanted = (vectors + 0.1 * torch.randn(vectors.shape))[:: max(len(vectors) // 1_000, 1)]
        near, exact = tree_quantizer.search(vectors), neighborhoods.exhaustive(vectors)
        same = sum(near(each) == exact(each) for each in wanted) / len(wanted)
        print(f"sample of {side}: the tree finds the nearest of {len(vectors):,} in {same:.1%}", flush=True)

    def efros_leung() -> None:
        generator = torch.Generator().manual_seed(1)
        neighborhoods.efros_leung(texture_synthesis.bricks(SAMPLES[0], 1), TEXTURE, WINDOW, generator)

    return found | {f"Efros & Leung, sample of {SAMPLES[0]}": rates(efros_leung, rounds, 1)}


WHAT = {"saliency": saliency, "style": style, "tsne": tsne, "texture": texture}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is printed (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    runs.prepare("cpu", 1, options.threads)
    of = "of one core" if options.threads == 1 else f"with {options.threads} threads"
    configuration = circumstances()
    found = {name: WHAT[name](options.rounds) for name in options.only}
    report(
        f"a second {of}",
        ["", "", "median", "least", "most"],
        [
            [name, variant, median(values), min(values), max(values)]
            for name, variants in found.items()
            for variant, values in variants.items()
        ],
        {"benchmark": "interpretation_speed", "side": SIDE, f"per_second_{of.replace(' ', '_')}": found}
        | configuration,
        options.json,
    )


if __name__ == "__main__":
    main()
