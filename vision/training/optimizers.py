"""Optimizers by name, frozen layers, parameter groups with layer-wise rates, weight averaging, max-norm constraint.

    optimizers.set_trainable(model, "last-1")            # train the head and the backbone's last stage
    optimizer = optimizers.build("nesterov", optimizers.groups(model, weight_decay=5e-4, layer_decay=0.5))
    optimizers.set_learning_rate(optimizer, 0.1 * factor)         # times each group's own scale

A model is a module whose `backbone` is a vision.backbones.Backbone and whose `head` reads its maps.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from runs import suggestions
from vision.backbones import Backbone
from vision.training import second_order
from vision.training.muon import Muon


def _second_order(direction: type[second_order.Direction]) -> Callable[[list[dict], float, float], Optimizer]:
    def build(groups: list[dict], rate: float, _: float) -> Optimizer:
        if len(groups) > 1 or groups[0]["weight_decay"]:
            name = direction.__name__.lower()
            raise ValueError(
                f"{name} has one rate for all weights and no weight decay: use --l2, and --layer-decay 1"
            )
        return second_order.SecondOrder(groups[0]["params"], rate, direction())

    return build


OPTIMIZERS: dict[str, Callable[[list[dict], float, float], Optimizer]] = {  # of groups, rate, momentum
    # w <- w - rate g
    "sgd": lambda groups, rate, _: torch.optim.SGD(groups, rate),
    # v <- momentum v + g; w <- w - rate v
    "momentum": torch.optim.SGD,
    # the gradient where v leads to: Sutskever et al. 2013
    "nesterov": lambda groups, rate, momentum: torch.optim.SGD(groups, rate, momentum, nesterov=True),
    # Duchi et al. 2011
    "adagrad": lambda groups, rate, _: torch.optim.Adagrad(groups, rate),
    # Tieleman & Hinton 2012
    "rmsprop": lambda groups, rate, _: torch.optim.RMSprop(groups, rate),
    # Kingma & Ba 2014, arXiv 1412.6980; momentum is beta_1
    "adam": lambda groups, rate, momentum: torch.optim.Adam(groups, rate, (momentum, 0.999)),
    # Loshchilov & Hutter 2017, arXiv 1711.05101
    "adamw": lambda groups, rate, momentum: torch.optim.AdamW(groups, rate, (momentum, 0.999)),
    # Jordan et al. 2024; weights that are no matrices by AdamW. momentum is beta_1 there: muon.py
    "muon": lambda groups, rate, momentum: Muon(groups, rate, momentum),
    # up to 10 iterations a batch with a strong-Wolfe line search, for large batches: second_order.py. The Hessian, an
    # estimate of its inverse, and one of the last 10 steps alone
    "newton": _second_order(second_order.Newton),
    "bfgs": _second_order(second_order.BFGS),
    "lbfgs": _second_order(second_order.LBFGS),
}

SECOND_ORDER = ("newton", "bfgs", "lbfgs")  # which search along lines, by several gradients an update

CAPTURED: dict[str, dict[str, bool]] = {  # what makes each of them ready for a CUDA graph, as far as it can be
    **dict.fromkeys(("sgd", "momentum", "nesterov"), {"fused": True}),  # the unfused one reads its rate on the CPU
    **dict.fromkeys(("rmsprop", "adam", "adamw"), {"capturable": True}),
}


def build(
    name: str,
    groups: list[dict[str, Any]],
    rate: float = 1e-3,
    momentum: float = 0.9,
    captured: torch.device | None = None,
) -> Optimizer:
    """An optimizer of OPTIMIZERS for parameter groups as `groups` makes them.

    rate: at first; momentum: of those that have one; captured: the device, where its steps are to be captured as a
    CUDA graph: its rates are then tensors there.
    Raises ValueError for an unknown name, what the second-order ones cannot do, and those that cannot be captured.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: {suggestions.one_of(name, OPTIMIZERS)}")
    if captured is None:
        return OPTIMIZERS[name](groups, rate, momentum)
    if name not in CAPTURED:
        raise ValueError(f"--capture: {name} cannot be captured as a CUDA graph, as {', '.join(CAPTURED)} can")
    made = [group | CAPTURED[name] | {"lr": torch.tensor(rate, device=captured)} for group in groups]
    optimizer = OPTIMIZERS[name](made, rate, momentum)

    def back(_: Optimizer) -> None:  # a loaded state has the rates on the CPU
        for group in optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], device=captured)

    optimizer.register_load_state_dict_post_hook(back)
    return optimizer


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate, times each group's own scale; in place where it is a tensor, as captured steps read."""
    for group in optimizer.param_groups:
        scaled = rate * group.get("scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def backward(optimizer: Optimizer, loss: Tensor) -> None:
    """Backpropagate a scalar loss as the optimizer needs it: Newton's method differentiates the gradients again."""
    if isinstance(optimizer, second_order.SecondOrder):
        optimizer.backward(loss)
    else:
        loss.backward()


@torch.no_grad()
def constrain_norms(model: nn.Module, largest: float) -> None:
    """Max-norm constraint: the weights into each unit, as a vector, are scaled down to a length of at most `largest`.

    Srivastava et al. 2014, JMLR 15, section 5.1, after every update; there 3 to 4. A unit is a row of a dense layer,
    or a filter of a convolution; biases and weights that do not learn are free.
    """
    for weight in model.parameters():
        if weight.dim() > 1 and weight.requires_grad:
            lengths = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))
            weight.mul_((largest / lengths.clamp(min=1e-12)).clamp(max=1.0))


@torch.no_grad()
def ema_update(averaged: nn.Module, model: nn.Module, kept: float, updates: int) -> None:
    """Exponential moving average: averaged <- kept * averaged + (1 - kept) * model, of weights and norms' statistics.

    updates: made before; after u of them at most (1 + u) / (10 + u) is kept, against a bias towards the initial
        weights.
    """
    kept = min(kept, (1 + updates) / (10 + updates))
    pairs = zip(averaged.state_dict().values(), model.state_dict().values(), strict=True)
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - kept)


def stages(backbone: Backbone) -> list[list[str]]:
    """Group the names of a backbone's weights by the first map that depends on them, fine to coarse.

    The dependence is measured from gradients on the meta device, for any architecture. A map without weights of its
    own, as behind a pool, makes no stage.
    """
    weights = {name: torch.empty_like(w, device="meta").requires_grad_() for name, w in backbone.named_parameters()}
    buffers = {name: torch.empty_like(b, device="meta") for name, b in backbone.named_buffers()}
    with torch.device("meta"), torch.enable_grad():
        image = torch.empty(2, *backbone.shape)  # two, because a batch norm in training needs them
        maps = torch.func.functional_call(backbone, weights | buffers, (image,))
    left, found = dict(weights), []
    for feature in maps:
        if not left:
            break
        reached = torch.autograd.grad(feature.sum(), list(left.values()), retain_graph=True, allow_unused=True)
        names = [name for name, gradient in zip(left, reached, strict=True) if gradient is not None]
        found += [names] if names else []
        left = {name: weight for name, weight in left.items() if name not in names}
    found[-1].extend(left)  # weights that no map depends on, as of an auxiliary head
    return found


def set_trainable(model: nn.Module, which: str = "all") -> None:
    """Freeze layers: which of the trainable weights stay so.

    which: all; last-N, the head and the backbone's last N stages; head; last, the head's last layer.
    A frozen backbone is in evaluation mode permanently, frozen stages by `train_mode`.
    Raises ValueError for another word, and for more stages than there are.
    """
    match = re.fullmatch(r"all|head|last(?:-(\d+))?", which)
    if not match:
        raise ValueError(
            f"unknown choice of trainable weights {which!r}: choose all, last-N (N stages), head or last"
        )
    if which == "all":
        return
    parts, count = stages(model.backbone), int(match[1] or 0)
    if count > len(parts):
        raise ValueError(f"{which!r} asks for {count} stages, and this backbone has {len(parts)}")
    if count == 0:
        model.backbone.freeze()
        if which == "last":
            naming = list(model.head.state_dict())[-1].rpartition(".")[0]
            model.head.requires_grad_(False)
            model.head.get_submodule(naming).requires_grad_(True)
        return
    named = dict(model.backbone.named_parameters())
    for name in (name for part in parts[: len(parts) - count] for name in part):
        named[name].requires_grad_(False)


def train_mode(model: nn.Module) -> None:
    """Training mode for modules with trainable weights, evaluation mode for frozen ones: no dropout, fixed norms."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def groups(
    model: nn.Module,
    weight_decay: float = 0.0,
    decay_biases: bool = True,
    layer_decay: float = 1.0,
    bias_scale: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameter groups of the trainable weights, for `build`.

    weight_decay: of the optimizer; decay_biases: of norms and biases too, not only of matrices and kernels.
    bias_scale: the rate of norms and biases, as a multiple of the others' (Page 2018, "How to train your ResNet",
        part 8: 64), their decay divided by it.
    layer_decay: the rate of each stage as a share of the next one's, from the head (1) down to the image (ULMFiT's
        discriminative rates, Howard & Ruder 2018, arXiv 1801.06146, section 3.2, are 1 / 2.6). It is the group's
        `scale`.
    Raises ValueError where no weight is trainable.
    """
    backbone = dict(model.backbone.named_parameters())
    parts = [[weight for name, weight in model.named_parameters() if not name.startswith("backbone.")]]
    if layer_decay == 1:
        parts[0] = [*backbone.values(), *parts[0]]
    else:
        parts += [[backbone[name] for name in names] for names in reversed(stages(model.backbone))]
    made = []
    for depth, part in enumerate(parts):
        learning = [weight for weight in part if weight.requires_grad]
        alike = decay_biases and bias_scale == 1
        matrices = [weight for weight in learning if alike or weight.dim() > 1]
        biases = [weight for weight in learning if not alike and weight.dim() <= 1]
        kinds = (matrices, weight_decay, 1.0), (biases, weight_decay / bias_scale * decay_biases, bias_scale)
        for members, decay, scale in kinds:
            if members:
                made.append({"params": members, "weight_decay": decay, "scale": scale * layer_decay**depth})
    if not made:
        raise ValueError("no weight learns: every part of this network is frozen")
    return made
