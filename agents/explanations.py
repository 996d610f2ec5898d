"""Explanations of agents: which pixels an action's value or probability depends on, as a film beside the values.

Saliency (Simonyan et al. 2013), Grad-CAM (Selvaraju et al. 2016), HiResCAM (Draelos & Carin 2020), occlusion (Zeiler
& Fergus 2013), and perturbation saliency as Greydanus et al. 2018 define it, of the score of the action with the
highest one: Huber et al. 2022 show that the sum over all actions hardly depends on the output layer. For soft
attention (Mott et al. 2019) there is also the attention itself. A policy with `network` and `scores` can be
explained, see agents/evaluation.py; films of hard attention show its glimpses anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from agents.evaluation import Policy
from vision.interpretation import attribution, class_activation, pictures
from vision.interpretation.occlusion import occlusion, perturbation_saliency

WINDOW = 10  # of an occlusion map: a tenth of the picture's side, moved by half of that
PANEL = 110  # pixels, width of the bars beside a frame
ROW = 14  # pixels, height of an action's bar, at most
LEAST = 210  # pixels, to which the height of a frame is enlarged
BAR, BEST, BACK = (86, 180, 233), (230, 159, 0), (24, 24, 24)  # colors
STEPS = 16  # places of perturbation saliency along a picture's side: 80 pixels with a stride of 5


class ActionScores:
    """What the attributions take for a model: observations (B, C, H, W) -> the scores (B, A) of a policy's actions.

    They are of the step that the policy has just made: a recurrent state is that before it.
    """

    def __init__(self, policy: Policy) -> None:
        if not hasattr(policy, "scores"):
            raise ValueError("--explain is for agents that score discrete actions: Q-values or a policy's logits")
        self.policy, self.backbone = policy, policy.network.backbone

    def __call__(self, observation: Tensor) -> Tensor:
        return self.policy.scores(observation)


def _saliency(model: ActionScores, observation: Tensor, action: Tensor) -> Tensor:
    return attribution.heat(attribution.saliency(model, observation, action))


def _occlusion(model: ActionScores, observation: Tensor, action: Tensor) -> Tensor:
    """How much the score changes, up or down, while a gray window covers a place."""
    window, stride = ([max(side // part, 1) for side in observation.shape[2:]] for part in (WINDOW, 2 * WINDOW))
    gray = observation.float().mean((2, 3), keepdim=True) / 255
    return occlusion(model, observation, action, tuple(window), tuple(stride), gray).abs()


def _perturbation(model: ActionScores, observation: Tensor, action: Tensor) -> Tensor:
    """The paper's 5 pixels of 80, for a picture of any size."""
    stride = max(round(min(observation.shape[2:]) / STEPS), 1)
    return perturbation_saliency(model, observation, action, stride, stride, blur=0.6 * stride)


def _attention(model: ActionScores, observation: Tensor, action: Tensor) -> Tensor:
    """What the network has attended to in the step just made, the mean over its queries, whatever the action."""
    found = model.policy.attention(observation) if hasattr(model.policy, "attention") else None
    if found is None:
        raise ValueError("--explain attention is for agents that attend, as agents.soft_attention: choose another")
    return found.clone()  # of inference mode


EXPLANATIONS: dict[str, Callable[..., Tensor]] = {  # -> maps (B, H, W), not negative
    "saliency": _saliency,
    "gradcam": class_activation.grad_cam,
    "hirescam": class_activation.hires_cam,
    "perturbation": _perturbation,
    "occlusion": _occlusion,
    "attention": _attention,
}
OF_A_MAP = ("gradcam", "hirescam")  # of one of the backbone's maps


def attribute(method: str, model: ActionScores, observation: Tensor, action: Tensor, stage: int = -1) -> Tensor:
    """A method's maps (N, H, W), not negative, of observations (N, C, H, W) for actions (N,).

    stage: whose map the methods of OF_A_MAP weight, from 0 or from the end: -1 is the coarsest.
    """
    options = {"layer": stage} if method in OF_A_MAP else {}
    return EXPLANATIONS[method](model, observation, action, **options)


def explain(method: str, policy: Policy, observation: Tensor, stage: int = -1) -> tuple[Tensor, Tensor]:
    """The map (N, H, W) of each observation (N, C, H, W) for its best action, and the scores (N, A) of all.

    Call it after the policy has acted on the observation. stage: as of attribute. Raises ValueError for observations
    that are no pictures, policies without scores, and attention where there is none.
    """
    if observation.dim() != 4 or observation.dtype != torch.uint8:
        seen = tuple(observation.shape[1:])
        raise ValueError(f"--explain is for agents that see pictures, and this one's observations are {seen}")
    model = ActionScores(policy)
    with torch.no_grad():
        scores = model(observation)
    return attribute(method, model, observation, scores.argmax(1), stage).detach(), scores.detach()


class Explained:
    """Draws the frames of a film: a map over each frame, and the actions' Q-values or probabilities beside it.

    The brightness of maps is comparable within the film: it is relative to the highest value of the last seconds.
    """

    def __init__(self, method: str, policy: Policy, stage: int = -1) -> None:
        self.method, self.policy, self.stage, self.highest = method, policy, stage, 0.0

    def __call__(self, frame: np.ndarray, observation: Tensor) -> np.ndarray:
        """The frame (H, W, 3) uint8 with map and values, (H', W', 3), of an observation (1, C, H, W)."""
        found, scores = explain(self.method, self.policy, observation, self.stage)
        high = torch.quantile(found.float().flatten(), pictures.PERCENTILE / 100).item()
        self.highest = max(high, 0.95 * self.highest, 1e-30)
        level = (found[0] / self.highest).clamp(0, 1).float().cpu().numpy()
        scale = max(1, -(-LEAST // len(frame)))
        large = frame.repeat(scale, 0).repeat(scale, 1)
        shaded = pictures.overlay(large, level)
        return np.concatenate([shaded, self._panel(scores[0].float().cpu(), len(shaded))], 1)

    def _panel(self, scores: Tensor, height: int) -> np.ndarray:
        """A bar an action, the best one in another color."""
        from PIL import Image, ImageDraw

        is_policy = self.policy.score_kind == "logits"
        values = scores.softmax(0) if is_policy else scores
        low, high = (0.0, 1.0) if is_policy else (values.min().item(), values.max().item())
        panel = Image.new("RGB", (PANEL, height), BACK)
        draw = ImageDraw.Draw(panel)
        draw.text((4, 2), "policy" if is_policy else "Q-values", fill="white")
        tall = min(ROW, (height - ROW) // len(values))
        for action, value in enumerate(values.tolist()):
            top = ROW + 2 + action * tall
            long = 4 + (PANEL - 70) * (value - low) / max(high - low, 1e-12)
            color = BEST if action == int(values.argmax()) else BAR
            draw.rectangle((18, top, 18 + long, top + max(tall - 4, 1)), fill=color)
            if tall >= 9:
                draw.text((4, top - 1), str(action), fill="white")
                draw.text((22 + long, top - 1), f"{value:.2f}", fill="white")
        return np.asarray(panel)
