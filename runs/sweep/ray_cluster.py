"""RayCluster: the executor of a sweep on the nodes of a Ray cluster (Moritz et al. 2018, arXiv 1712.05889).

Beside local.py, with the same methods. A run is the ordinary program in a process of its own on some node, which Ray
chooses by the CPUs, GPUs and memory that runs need. The folder of all runs lies on a file system that the nodes
share, so that a run whose node dies goes on elsewhere, from its last checkpoint. What a sweep relies on is tried on
every node before its first run: that files written here are seen there and the other way round, that a lock held here
is refused there (else a run could be done twice), and that the code is the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runs import ray_connection
from runs.files import RunError
from runs.sweep import node
from runs.sweep.local import UNKNOWN, Ended, cores
from runs.sweep.preview import ROOT

POLL_EVERY = 1.0  # seconds between two readings of the list of nodes
SEEN_WITHIN = 5.0  # seconds within which a file that a node wrote has to be there
ANSWER = 120.0  # seconds in which a node has to start a worker and to answer
FORWARDED = ("WANDB_", "PYTHONPATH")  # variables of the environment that runs take along


@dataclasses.dataclass
class _Remote:
    actor: Any
    node: Any  # reference to the node's names, there as soon as the run has a place
    end: Any  # reference to what NodeProcess.run returns
    began: float
    placed: tuple[str, str] | None = None  # the node's names
    unplaced: bool = False  # was stopped before it had a place
    died: float = 0.0  # time.monotonic() of the end of its actor
    probe: Any = None  # reference to an answer of the node on which its actor has died


class RayCluster:
    """Runs as processes on the nodes of a Ray cluster.

    Args:
        ray: the package, connected to a cluster.
        folder: of all runs, on a file system that the nodes share.
        shared: a folder below it for the tokens by which nodes are tried.
        jobs: at once at most; 0: as many as the nodes have room for.
        cpus: of a run. gpus: of a run, may be a share; None: 1 where the cluster has any, else 0.
        memory: GB that a run needs; 0: as much as the largest one like it has had, and UNKNOWN before the first.
        say: prints a line.

    Raises RunError where a node does not share files, locks or code with this machine.
    """

    def __init__(
        self,
        ray: Any,
        folder: Path,
        shared: Path,
        jobs: int = 0,
        cpus: int = 1,
        gpus: float | None = None,
        memory: float = 0.0,
        say: Callable[[str], None] = print,
    ) -> None:
        self._ray, self._asked, self.cpus, self.memory = ray, jobs, cpus, memory
        self._folder, self._shared = folder.resolve(), shared.resolve()
        self._unfit: set[str] = set()  # nodes
        self._nodes, self._polled = [], 0.0
        self.running: dict[str, _Remote] = {}
        ray.cloudpickle.register_pickle_by_value(node)
        has = sum(each["Resources"].get("GPU", 0.0) for each in self._alive())
        self.gpus = gpus if gpus is not None else min(has, 1)
        self._actor = ray.remote(node.NodeProcess)
        self._lock = self._write_token()
        try:
            self._try_nodes()
        except BaseException:
            self.close()
            raise
        if not self._room_on_nodes(0.0):
            say(f"no node has {cpus} CPUs and {self.gpus:g} GPUs for a run: they wait for one that has")

    # ---- the nodes --------------------------------------------------------------------------------------

    def _alive(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        if now - self._polled > POLL_EVERY:
            self._nodes, self._polled = self._ray.nodes(), now
        return [each for each in self._nodes if each["Alive"] and each["NodeID"] not in self._unfit]

    def _write_token(self) -> Any:
        """Write the token file and lock it, until `close`."""
        self._shared.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(8)
        path = self._shared / node.TOKEN
        path.write_text(token)
        file = open(path, "r+")  # noqa: SIM115 (held until close)
        if node.fcntl:
            node.fcntl.flock(file, node.fcntl.LOCK_EX | node.fcntl.LOCK_NB)
        self._token = token
        return file

    def _checked(self) -> dict[str, str]:
        """Arguments of node.problem. The code is that of this moment: it may be edited while a sweep goes on."""
        root = str(ROOT)
        return {
            "folder": str(self._shared), "token": self._token, "root": root, "digest": node.code_digest(root)
        }  # fmt: skip

    def _try_nodes(self) -> None:
        """Raise RunError where a node cannot have runs of this sweep."""
        found, wrong, checked = {}, [], self._checked()
        for each in self._alive():
            answer = self._shared / each["NodeID"]
            answer.exists()  # so that a file system which remembers for long what is not there is found out
            found[answer] = each, self._ask(each["NodeID"], node.problem, **checked, answer=answer.name)
        for answer, (each, reference) in found.items():
            host = f"node {each['NodeManagerHostname']} ({each['NodeManagerAddress']})"
            try:
                said = self._ray.get(reference, timeout=ANSWER)
            except self._ray.exceptions.RayError as error:
                said = f"does not answer: {(str(error).strip().splitlines() or [repr(error)])[0]}"
            if not said and not _appears(answer):
                late = f"writes files that are not seen here within {SEEN_WITHIN:g} s"
                said = f"{late}: mount NFS with lookupcache=positive"
            wrong += [f"{host} {said}"] if said else []
        if wrong:
            raise RunError("\n".join(wrong))

    def _ask(self, name: str, function: Callable[..., str], **arguments: str) -> Any:
        """A reference to what a function returns on a node, which is an error once the node is known to be dead."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(name, soft=False)
        remote = self._ray.remote(function).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
        return remote.remote(**arguments)

    def _room_on_nodes(self, expected: float) -> int:
        """Runs that the nodes could have at once."""
        need = {"CPU": self.cpus, "GPU": self.gpus, "memory": self._bytes(expected)}
        need = {name: value for name, value in need.items() if value}
        return sum(
            int(min(each["Resources"].get(name, 0.0) // value for name, value in need.items()))
            for each in self._alive()
        )

    def _bytes(self, expected: float) -> float:
        """Memory that a run is to have, no more than the largest node has."""
        largest = max((each["Resources"].get("memory", 0.0) for each in self._alive()), default=0.0)
        return min((self.memory or expected or UNKNOWN) * 1e9, largest)

    # ---- the methods of an executor ---------------------------------------------------------------------

    @property
    def jobs(self) -> int:
        """Runs at once: as many as asked for, or as the nodes that are there have room for."""
        return self._asked or max(self._room_on_nodes(0.0), 1)

    @property
    def threads(self) -> int:
        """Threads of a run."""
        return self.cpus

    def room(self, expected: float = 0.0) -> bool:
        """Whether another run may start: none waits for a place, and there are fewer than the nodes have room for.

        expected: GB that it will need. One run may always start, and waits for a place where there is none.
        """
        if not self.running:
            return True
        if any(self._place(each) is None for each in self.running.values()):
            return False
        return len(self.running) < (self._asked or self._room_on_nodes(expected))

    def start(
        self, key: str, command: Sequence[str], log: Path, environment: Mapping[str, str], expected: float = 0.0
    ) -> None:
        """Start a command of Python on a node that Ray chooses; its output is added to a log. key: of the run."""
        words = [f"--folder={self._folder}" if each.startswith("--folder=") else each for each in command[1:]]
        log = log.resolve()
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = {key: value for key, value in environment.items() if key.startswith(FORWARDED)}
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self._bytes(expected)}
        if self._unfit:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._unfit))})"}
        actor = self._actor.options(max_restarts=0, max_concurrency=2, **options).remote()
        place = actor.node.remote()  # these two at once: the second one lasts as long as the run
        end = actor.run.remote(words, str(log), os.getcwd(), variables, self.gpus, self._checked())
        self.running[key] = _Remote(actor, place, end, time.monotonic())

    def ended(self) -> list[Ended]:
        """The runs that have ended since the last call."""
        found = []
        for key in [key for key, each in self.running.items() if self._there(each.end)]:
            if (end := self._end(key, self.running[key])) is not None:
                self._ray.kill(self.running.pop(key).actor)  # gives its place back at once
                found.append(end)
        return found

    def _end(self, key: str, each: _Remote) -> Ended | None:
        """What has become of a run; None while it is not known yet whether its node or the run alone was killed."""
        place = self._place(each)
        try:
            why, code, seconds, peak = self._ray.get(each.end)
        except self._ray.exceptions.RayActorError:
            return self._dead(key, each, place)
        except self._ray.exceptions.RayError as error:
            raise RunError(f"the Ray cluster does not answer ({error}): the same command goes on") from error
        if why and place:
            self._unfit.add(place[0])
            return Ended(key, node.stopped(signal.SIGKILL), seconds, 0.0, f"node {place[1]} {why}")
        return Ended(key, code, seconds, peak)

    def _dead(self, key: str, each: _Remote, place: tuple[str, str] | None) -> Ended | None:
        if each.unplaced:
            return Ended(key, node.stopped(signal.SIGTERM), 0.0, 0.0)
        each.died = each.died or time.monotonic()
        end = Ended(key, node.stopped(signal.SIGKILL), each.died - each.began, 0.0)
        if place is None:
            return dataclasses.replace(end, lost="the node that it was to be on was lost")
        each.probe = each.probe or self._ask(place[0], node.where)
        late = time.monotonic() - each.died > ANSWER
        if not late and not self._there(each.probe):
            return None
        try:
            self._ray.get(each.probe, timeout=0)
        except self._ray.exceptions.RayError:
            self._polled = 0.0
            return dataclasses.replace(end, lost=f"its node {place[1]} was lost")
        return end

    def _there(self, reference: Any) -> bool:
        return bool(self._ray.wait([reference], timeout=0)[0])

    def stop(self, key: str) -> None:
        """Have a run save its checkpoint and end."""
        self._send(key, signal.SIGTERM)

    def kill(self, key: str) -> None:
        """End a run at once; it goes on from its last checkpoint when it is started again."""
        self._send(key, signal.SIGKILL)

    def _send(self, key: str, number: int) -> None:
        if (each := self.running.get(key)) is None:
            return
        if self._place(each) is None:
            each.unplaced = True
            self._ray.kill(each.actor)
        else:
            each.actor.send.remote(int(number))

    def _place(self, each: _Remote) -> tuple[str, str] | None:
        """The names of a run's node; None before it has one."""
        if each.placed is None and self._there(each.node):
            with contextlib.suppress(self._ray.exceptions.RayError):  # it died there at once
                each.placed = self._ray.get(each.node)
        return each.placed

    def close(self) -> None:
        """Remove the tokens. Runs that are still there end when Ray is left."""
        self._lock.close()
        shutil.rmtree(self._shared, ignore_errors=True)


@contextlib.contextmanager
def opened(address: str, *arguments: Any, **options: Any) -> Iterator[RayCluster]:
    """A RayCluster at an address that runs.ray_connection takes, which is left again. Arguments: its own, after ray.

    Raises ValueError and RunError as RayCluster and ray_connection do.
    """
    with ray_connection.connected(address, cores()) as ray:
        cluster = RayCluster(ray, *arguments, **options)
        try:
            yield cluster
        finally:
            cluster.close()


def _appears(path: Path) -> bool:
    end = time.monotonic() + SEEN_WITHIN
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
