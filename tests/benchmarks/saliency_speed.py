"""Frames a second of perturbation saliency, many perturbed frames in one call and one at a time, by one core.

python tests/benchmarks/saliency_speed.py

The network is DQN's (Nature), for four frames of 84 x 84; a place every 5 pixels makes 289 forward passes a frame.
"""

import time

import torch
from torch import nn

from vision import backbones
from vision.interpretation.occlusion import perturbation_saliency

FRAMES = 3


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = backbones.build("nature", (4, 84, 84))
    head = nn.Sequential(nn.Flatten(), nn.Linear(backbone.output_size(), 512), nn.ReLU(), nn.Linear(512, 6))

    def network(observation: torch.Tensor) -> torch.Tensor:
        return head(backbone(observation)[-1])

    for batch in (1, 64, 289):
        perturbation_saliency(network, torch.zeros(1, 4, 84, 84, dtype=torch.uint8), 0, batch=batch)
        observation = torch.randint(256, (1, 4, 84, 84), dtype=torch.uint8)
        began = time.process_time()
        for _ in range(FRAMES):
            perturbation_saliency(network, observation, 0, batch=batch)
        print(f"{batch:4} perturbed frames at a time: {FRAMES / (time.process_time() - began):6.2f} frames/s")


if __name__ == "__main__":
    main()
