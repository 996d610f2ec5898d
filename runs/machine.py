"""Device, global settings and random states of a run, and the description of its machine."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import random
import shlex
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from runs import parallel
from runs.threads import choose as count_threads


def choose(device: str = "auto") -> torch.device:
    """The device a name stands for: "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ValueError: the device is unknown or not present.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {device!r} cannot be used here ({reason}): try --device auto or --device cpu"
        ) from error
    return chosen


def prepare(device: str = "auto", seed: int = 1, threads: int = 0) -> torch.device:
    """Choose the device, set it up for training and seed every global generator.

    Args:
        device: as choose() takes it.
        seed: for Python's, NumPy's and torch's global generators.
        threads: of torch on the CPU; 0: as many as cores are free (threads.choose).

    Raises:
        ValueError: the device is unknown or not present.
    """
    chosen = choose(parallel.place(device))
    parallel.join(chosen)
    seed += parallel.SEEDS * parallel.rank()
    # Sparse rewards drive Adam's squared gradients into denormals, which a CPU multiplies many times slower.
    torch.set_flush_denormal(True)
    count_threads(threads)
    if chosen.type == "cpu":
        _keep_freed_memory()
    if chosen.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return chosen


@functools.cache
def fast_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware, and so faster than float32 ones.

    CPUs with AVX512-BF16 or AMX (x86) or the BF16 extension (64-bit ARM under Linux) do; without them every product
    is emulated, and an update takes several times as long as in float32. CUDA devices do from compute capability 8.0
    (Ampere). Apple's MPS uses float32.
    """
    if device.type == "cuda":
        if torch.version.hip:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return True
    return platform.machine() in ("aarch64", "arm64") and "bf16" in _arm_features()


def low_precision(options: Any, device: torch.device) -> torch.dtype | None:
    """The type in which networks compute: float16 with options.fp16, bfloat16 with options.bf16 where the device is
    fast at it (fast_bf16), None for float32.

    options: with a flag bf16, and fp16 where the program scales its loss (loss_scaling.LossScaler).
    """
    if getattr(options, "fp16", False):
        return torch.float16
    return torch.bfloat16 if options.bf16 and fast_bf16(device) else None


def precision(options: Any, device: torch.device) -> torch.autocast:
    """Mixed precision: the context in which networks are called, autocast to low_precision."""
    kind = low_precision(options, device)
    return torch.autocast(device.type, kind or torch.bfloat16, enabled=kind is not None)


def _arm_features() -> set[str]:
    """The feature flags of an ARM processor under Linux; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.startswith("Features") for word in line.split()}


def _keep_freed_memory() -> None:
    """Have glibc keep freed blocks: otherwise activations are unmapped and page-faulted again at every update.

    Does nothing with other C libraries.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: blocks up to 1 GiB come from the heap
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and the heap is not given back


def random_state() -> dict:
    """The state of every global generator, as tensors and plain values (loadable with weights_only=True)."""
    numpy_state = np.random.get_state(legacy=False)
    version, internal, gauss = random.getstate()
    state = {
        "python": [version, list(internal), gauss],
        "numpy": {
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Put every global generator back to what random_state() returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    saved = state["numpy"]
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": saved["key"].numpy().astype(np.uint32), "pos": saved["pos"]},
            "has_gauss": saved["has_gauss"],
            "gauss": saved["gauss"],
        }
    )
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def hardware(device: torch.device) -> dict:
    """Description of the machine: device, processor, cores, threads, memory in GiB."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    described = {
        "device": str(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "fast_bf16": fast_bf16(device),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    family, model = names.get("cpu family"), names.get("model")
    return names.get("model name", platform.machine()) + (f" (family {family}, model {model})" if family else "")


def versions() -> dict:
    """Versions of Python and of the packages that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for package in ("torch", "gymnasium", "ale-py", "numpy", "wandb"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def circumstances(program: str, device: torch.device) -> dict:
    """What a result depends on: command, hardware, versions of packages, commit.

    program: the module named in the command, e.g. "agents.dqn".
    """
    return {
        "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
        "hardware": hardware(device),
        "versions": versions(),
        **({"ranks": parallel.ranks()} if parallel.ranks() > 1 else {}),
        "commit": commit(),
    }


def package_folder(world: str) -> str | None:
    """The folder from which the package of a world "package:Id" was imported, for programs in other directories.

    None for installed packages and for worlds without one.
    """
    package, colon, _ = world.partition(":")
    file = getattr(sys.modules.get(package), "__file__", None)
    if not (colon and file):
        return None
    file = Path(file).resolve()
    folder = file.parents[package.count(".") + (file.name == "__init__.py")]
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib")}
    return None if folder in installed else str(folder)


def commit() -> str | None:
    """The source's git commit, with "+changes" where the tree differs from it; None outside a checkout."""
    here = Path(__file__).resolve().parent.parent

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changed else "")
