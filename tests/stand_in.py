"""A second device for machines that have none: tensors whose numbers lie in the CPU's memory and which say otherwise.

    python -m tests.stand_in agents.ppo --env Catch --steps 200 ...

As on Apple's MPS there is no float64, and as on any device a tensor of the CPU with a dimension does not mix with
its own. Everything else is calculated by the CPU. The program is run with --device standin.
"""

import contextlib
import runpy
import sys
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "standin"
plain_generator = torch.Generator


class Module(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """The CPU's generator is the only one."""

    def get_rng_state(self, *_: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, *_: Any) -> None:
        torch.set_rng_state(state)


class There(torch.Tensor):
    """A tensor on the stand-in."""

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "There":
        if here.dtype in (torch.float64, torch.complex128):
            raise TypeError("the stand-in has no float64: no tensor of it may lie there")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            layout=here.layout,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return call(function, arguments, options or {})

    def __repr__(self) -> str:
        return f"There({self.here!r})"

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.detach().here.__reduce_ex__(protocol)  # saved as a tensor of the CPU


def call(function: Any, arguments: tuple, options: dict) -> Any:
    """The operation on the numbers themselves; what comes of it lies where its inputs do."""
    known: dict[int, There] = {}
    strangers: list[torch.Tensor] = []

    def bare(value: Any) -> Any:
        if isinstance(value, There):
            known[id(value.here)] = value
            return value.here
        if isinstance(value, torch.Tensor) and value.dim():
            strangers.append(value)
        return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value

    asked = options.get("device")
    inner, more = tree_map(bare, arguments), tree_map(bare, options)
    if isinstance(asked, torch.device) and asked.type == NAME:
        there = True
    elif isinstance(asked, torch.device) or function is torch.ops.aten._local_scalar_dense.default:
        there = False
    else:
        there = bool(known)
    copying = function.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten._to_copy, torch.ops.aten._copy_from)
    if known and strangers and not copying:
        raise RuntimeError(
            f"{function}: tensors of the CPU {[tuple(t.shape) for t in strangers]} and of the stand-in"
        )
    result = function(*inner, **more)

    def back(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in known:
            return known[id(value)]
        return There(value) if there and not any(value is stranger for stranger in strangers) else value

    if copying and function.overloadpacket is torch.ops.aten.copy_:
        return arguments[0]
    return tree_map(back, result)


class Made(TorchDispatchMode):
    """Operations that make tensors there of nothing."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        return call(function, arguments, options or {})


class Shown(TorchFunctionMode):
    """What torch does not do for subclasses."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        if function is torch.Tensor.tolist and isinstance(arguments[0], There):
            return arguments[0].cpu().tolist()
        options = dict(options or {})
        if function is torch.Tensor.new_tensor and isinstance(arguments[0], There):
            return There(arguments[0].here.new_tensor(*arguments[1:], **options))
        device = options.get("device")
        if function in (torch.tensor, torch.as_tensor) and device is not None and torch.device(device).type == NAME:
            return function(*arguments, **options | {"device": "cpu"}).to(device)
        return function(*arguments, **options)


class Generator(plain_generator):
    """The stand-in's generator is one of the CPU."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        return plain_generator("cpu" if torch.device(device).type == NAME else device)


def main() -> None:
    _setup_privateuseone_for_python_backend(NAME, Module())
    torch.Generator = Generator
    # A view of a tensor of inference mode, taken outside of it, cannot be wrapped.
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
    program, *flags = sys.argv[1:]
    sys.argv = [program, *flags, "--device", NAME]
    with Made(), Shown():
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
