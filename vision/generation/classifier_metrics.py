"""Metrics of generated images by a trained classifier: FID, classifier score, confidence, balance, modes covered.

    metrics = classifier_metrics.load("results/mnist/classification-1", (1, 28, 28))
    print(metrics.name, metrics.measure(images, labels, samples))

Their numbers compare models only where the classifier is the same run on the same data: its name stands beside them.
They are not those of papers, whose FID and Inception score come from Inception-v3 on ImageNet.

FID: Frechet distance of normal distributions fitted to features (Heusel et al. 2017, arXiv 1706.08500, equation 6).
Classifier score: the Inception score (Salimans et al. 2016, arXiv 1606.03498, section 4) by this classifier.
Stacked digits: Metz et al. 2016, "Unrolled generative adversarial networks", arXiv 1611.02163, section 3.3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vision import classification
from vision.classification import stage_features


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance of two normal distributions.

    |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)), Dowson & Landau 1982. mean: (D,). covariance: (D, D), symmetric and
    positive semi-definite. Computed in float64 on the CPU, by the eigenvalues of S^(1/2) S' S^(1/2): it is symmetric,
    and its root has the trace of (S S')^(1/2).
    """
    m, s, m_other, s_other = (each.cpu().double() for each in (mean, covariance, other_mean, other_covariance))
    values, vectors = torch.linalg.eigh(s)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ s_other @ root).clamp(min=0).sqrt().sum()
    return ((m - m_other).square().sum() + s.diagonal().sum() + s_other.diagonal().sum() - 2 * shared).item()


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), float64 on the CPU.

    Raises ValueError unless N > D: the covariance of fewer samples has no full rank, and FID would measure that.
    """
    count, dimension = features.shape
    if count <= dimension:
        raise ValueError(f"FID of {dimension} features needs more than {dimension} samples: {count} are given")
    features = features.cpu().double()
    return features.mean(0), features.T.cov().view(dimension, dimension)


def fid(real: Tensor, generated: Tensor) -> float:
    """Frechet inception distance of features (N, D) and (M, D), which need not come from Inception.

    Raises ValueError unless N and M are greater than D.
    """
    return frechet(*moments(real), *moments(generated))


def classifier_score(probabilities: Tensor) -> float:
    """Exponential of the mean KL(p(y|x) || p(y)), of probabilities (N, classes): between 1 and the number of classes.

    Of all N samples at once; Salimans et al. average over ten parts.
    """
    p = probabilities.cpu().double()
    marginal = p.mean(0, keepdim=True)
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, marginal)).sum(1).mean().exp().item()


def imbalance(labels: Tensor, shares: Tensor) -> float:
    """The largest difference of a class's share to that of real images, in percent of the latter.

    labels: (N,) int64. shares: (classes,), of real images; classes without any do not count.
    """
    counts = torch.bincount(labels.cpu(), minlength=len(shares)).double()
    expected = shares.cpu().double()
    there = expected > 0
    return 100 * ((counts / counts.sum() - expected).abs()[there] / expected[there]).max().item()


class Modes(NamedTuple):
    """Modes of a discrete distribution that samples cover."""

    covered: int
    kl: float  # nats, of the samples' distribution over modes to that of the data


def mode_coverage(labels: Tensor, shares: Tensor) -> Modes:
    """Modes that occur among labels (N,) int64, and the divergence of their shares to those of the data (K,)."""
    counts = torch.bincount(labels.cpu(), minlength=len(shares)).double()
    found = counts / counts.sum()
    kl = torch.special.xlogy(found, found) - torch.special.xlogy(found, shares.cpu().double())
    return Modes(int((counts > 0).sum()), kl.sum().item())


class ClassifierMetrics:
    """Metrics of generated images by a trained classifier.

    trained: a run of vision.classification. name: of its folder, to stand beside numbers. shape: of images (C, H, W),
    the classifier's, or that of stacked digits: three channels, each of which a classifier of gray digits sees by
    itself. Raises ValueError for another one.
    """

    def __init__(self, trained: classification.Trained, name: str, shape: Sequence[int]) -> None:
        self.name, self.model, self._trained = name, trained.models[0].requires_grad_(False), trained
        own = tuple(trained.sets.train.images.shape[1:])
        self.stacked = own == (1, *shape[1:]) and shape[0] == 3 and len(trained.sets.classes) == 10
        if tuple(shape) != own and not self.stacked:
            raise ValueError(f"{name} classifies images of {own}, and these are {tuple(shape)}: name another run")

    def __deepcopy__(self, memo: dict) -> ClassifierMetrics:
        return self  # it does not learn: a copied model shares it

    @property
    def dimension(self) -> int:
        """Number of features, of which FID needs more samples."""
        return self.model.backbone.channels[-1] * (3 if self.stacked else 1)

    def features(self, images: Tensor) -> Tensor:
        """The mean over places of the last map, (N, D) float32, of images (N, C, H, W) uint8."""
        gray = images.reshape(-1, 1, *images.shape[2:]) if self.stacked else images
        return stage_features.extract(self.model.backbone, gray, stages=slice(-1, None))[0].view(len(images), -1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities (N, classes) of images (N, C, H, W) uint8, on the CPU; of stacked digits (3 N, 10)."""
        return self._trained.probabilities(images.reshape(-1, 1, *images.shape[2:]) if self.stacked else images).cpu()

    def measure(
        self, real: Tensor, labels: Tensor, generated: Tensor, asked: Tensor | None = None
    ) -> dict[str, float]:
        """Metrics of generated images (N, C, H, W) uint8 beside real ones (M, C, H, W) with labels (M,).

        fid, classifier_score; confidence: percent, the mean of the largest probability; imbalance: see there; with
        the labels (N,) that they were generated for, agreement: percent that the classifier classifies so; for
        stacked digits also modes, of 1,000, and mode_kl.
        Raises ValueError where N or M is not greater than the number of features.
        """
        if min(len(real), len(generated)) <= self.dimension:
            raise ValueError(
                f"FID by {self.name} has {self.dimension} features and needs more images than that: there are "
                f"{len(real)} real and {len(generated)} generated ones"
            )
        probabilities = self.probabilities(generated)
        found = probabilities.argmax(1)
        line = {
            "fid": fid(self.features(real), self.features(generated)),
            "classifier_score": classifier_score(probabilities),
            "confidence": 100 * probabilities.amax(1).mean().item(),
        }
        if self.stacked:
            found = found.view(-1, 3) @ torch.tensor([100, 10, 1])
            line["modes"], line["mode_kl"] = mode_coverage(found, torch.full((1_000,), 1 / 1_000))
        else:
            line["imbalance"] = imbalance(
                found, torch.bincount(labels.cpu(), minlength=probabilities.shape[1]) / len(labels)
            )
        if asked is not None:
            line["agreement"] = 100 * (found == asked.cpu()).double().mean().item()
        return line


def load(folder: Path | str, shape: Sequence[int], device: str | torch.device = "auto") -> ClassifierMetrics:
    """The metrics by a run of vision.classification for images (C, H, W).

    Raises RunError where there is no such run, and ValueError for images that it does not classify.
    """
    path = Path(folder).resolve()
    return ClassifierMetrics(classification.load(folder, device), f"{path.parent.name}/{path.name}", shape)


def pixel_distance(real: Tensor, generated: Tensor) -> float:
    """Frechet distance of images (N, C, H, W) and (M, C, H, W) from 0 to 1 themselves, a metric without a classifier.

    They are averaged over squares of 2, 4, ... pixels until at most 200 numbers an image are left, and no more than
    half of N and M: distances of other numbers of images cannot be compared.
    """
    most, (real, generated) = min(200, len(real) // 2, len(generated) // 2), (real.float(), generated.float())
    while real[0].numel() > most and max(real.shape[2:]) > 1:
        size = [-(-side // 2) for side in real.shape[2:]]
        real, generated = F.adaptive_avg_pool2d(real, size), F.adaptive_avg_pool2d(generated, size)
    return fid(real.flatten(1), generated.flatten(1))
