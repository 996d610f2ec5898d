"""Frames a second of perturbation saliency, batched and one at a time, and seconds of t-SNE, of one core.

python tests/benchmarks/interpretation_speed.py

The network is DQN's (Nature), for four frames of 84 x 84; a place every 5 pixels makes 289 forward passes a frame.
t-SNE is of 10,000 points of 512 features in ten clusters (openTSNE, perplexity 30).
"""

import time

import torch
from torch import nn

from vision import backbones
from vision.interpretation import embedding
from vision.interpretation.occlusion import perturbation_saliency

FRAMES = 5
POINTS, CLUSTERS = 10_000, 10


def saliency() -> None:
    """Of one chosen action."""
    backbone = backbones.build("nature", (4, 84, 84))
    head = nn.Sequential(nn.Flatten(), nn.Linear(backbone.output_size(), 512), nn.ReLU(), nn.Linear(512, 6))

    def network(observation: torch.Tensor) -> torch.Tensor:
        return head(backbone(observation)[-1])

    for batch in (1, 32, 64, 289):
        perturbation_saliency(network, torch.zeros(1, 4, 84, 84, dtype=torch.uint8), 0, batch=batch)
        observation = torch.randint(256, (1, 4, 84, 84), dtype=torch.uint8)
        began = time.process_time()
        for _ in range(FRAMES):
            perturbation_saliency(network, observation, 0, batch=batch)
        print(
            f"{batch:4} perturbed frames at a time: {FRAMES / (time.process_time() - began):6.2f} frames/s",
            flush=True,
        )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    saliency()
    middles = 4 * torch.randn(CLUSTERS, 512)
    labels = torch.arange(POINTS) % CLUSTERS
    features = torch.randn(POINTS, 512) + middles[labels]
    embedding.tsne(features[:300])  # compiles
    began = time.process_time()
    points = embedding.tsne(features)
    right = embedding.neighbor_accuracy(points, labels)
    print(f"t-SNE of {POINTS:,} points: {time.process_time() - began:.0f} s, {right:.1f}% of nearest neighbors alike")


if __name__ == "__main__":
    main()
