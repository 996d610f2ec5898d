"""What a run runs on: the device, its settings, and how to describe it afterwards."""

from __future__ import annotations

import ctypes
import os
import platform
import random
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import torch


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
        threads: of torch on the CPU; 0 leaves its choice, one a core.

    Raises:
        ValueError: the device is unknown or not present.
    """
    chosen = choose(device)
    # Sparse rewards drive Adam's squared gradients into denormals, which a CPU multiplies many times slower.
    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    if chosen.type == "cpu":
        _keep_freed_memory()
    if chosen.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return chosen


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: activations are else unmapped and faulted in again at every update.

    Elsewhere than on glibc there is nothing to set.
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
    """The machine in words and numbers: device, processor, cores, threads, memory."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    described = {
        "device": str(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
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
    """What a result depends on: the command that is running, the hardware, versions, the commit.

    program: the module to be named in the command, e.g. "agents.dqn".
    """
    return {
        "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
        "hardware": hardware(device),
        "versions": versions(),
        "commit": commit(),
    }


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
