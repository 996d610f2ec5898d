"""Gradients of a process, or of several that torchrun starts, each of which learns from its part of the same batch.

python tests/parallel_gradients.py one.pt
torchrun --standalone --nproc-per-node 2 tests/parallel_gradients.py two.pt
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn
from torch.nn import functional as F

from agents import dqn, ppo
from agents.networks.normalization import RunningNormalizer
from runs import parallel
from vision.classification import classifier

ROWS = 32


def gradients(network: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of a loss, averaged over the processes."""
    network.zero_grad()
    loss.backward()
    parallel.average(network)
    return {name: weight.grad.clone() for name, weight in network.named_parameters()}


def main(out: str) -> None:
    """Write the gradients of three losses as rank 0 has them, and of every rank whether it has the same."""
    parallel.join(torch.device("cpu"))
    torch.manual_seed(parallel.rank())  # each rank initializes its own network
    values = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    pictures = classifier.build("lenet5", (3, 16, 16), 4, 0.0, 0.0, 0.0)
    parallel.start_equal([values, pictures])
    generator = torch.Generator().manual_seed(7)
    observation = torch.randn(ROWS, 6, generator=generator)
    following = torch.randn(ROWS, 6, generator=generator)
    images = torch.randint(256, (ROWS, 3, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(4, (ROWS,), generator=generator)
    action = torch.randint(3, (ROWS,), generator=generator)
    number = torch.randn(ROWS, generator=generator)
    observation, following, images, labels, action, number = map(
        parallel.part, (observation, following, images, labels, action, number)
    )
    found = {}
    with torch.no_grad():
        target = dqn.td_target(number, torch.full_like(number, 0.9), values(following))
    found["dqn"] = gradients(values, dqn.td_loss(values(observation), action, target))
    advantage = parallel.standardize(number)
    log_prob = values(observation).log_softmax(1).gather(1, action[:, None]).squeeze(1)
    found["ppo"] = gradients(values, ppo.policy_loss(log_prob, log_prob.detach() - 0.05, advantage, 0.2))
    found["classification"] = gradients(pictures, F.cross_entropy(pictures(images), labels))
    statistics = RunningNormalizer((6,))
    statistics.update(observation)
    found["statistics"] = {"mean": statistics.mean, "variance": statistics.variance}
    row = torch.cat([each.flatten() for part in found.values() for each in part.values()]).double()
    alike = all(parallel.first(value) == value for value in (row.sum().item(), row.square().sum().item()))
    if parallel.agree(not alike) != (0,):
        raise SystemExit("the ranks have other gradients")
    if parallel.rank() == 0:
        torch.save(found | {"weights": values.state_dict()}, out)
    parallel.leave()


if __name__ == "__main__":
    main(sys.argv[1])
