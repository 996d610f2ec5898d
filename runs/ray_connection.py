"""Connections to a Ray cluster (Moritz et al. 2018, arXiv 1712.05889), which is an extra: imported on first use."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from runs.files import RunError

STORE = 200_000_000  # bytes of shared memory for objects on a cluster of this machine alone
REACH = 10.0  # seconds to connect in
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning about CUDA_VISIBLE_DEVICES
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # no pages of Ray's own log where a node dies: programs say it themselves
}


def package() -> Any:
    """The package ray, which then sends no statistics and prints nothing. Raises ValueError where it is missing."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ValueError('--ray needs Ray: pip install "saccade[ray]"') from error
    return ray


@contextlib.contextmanager
def connected(address: str, cpus: int) -> Iterator[Any]:
    """The package ray, connected to a cluster until the context ends.

    address: "auto" on a machine of the cluster, "host:port", or "local" for one of this machine alone, which ends
    with the context. cpus: the number of CPUs that a local cluster offers.

    Raises ValueError where Ray is not installed, RunError where there is no such cluster.
    """
    ray = package()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # else what it starts comes after all else on this machine
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE}
    try:
        _reach(address)
        ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        why = (str(error).strip().splitlines() or [repr(error)])[0]
        raise RunError(
            f"no Ray cluster at {address}: {why}. Start one with `ray start --head`, or use --ray local"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
