"""The process that uploads a run's folder to W&B: `runs.wandb_mirror` starts it, nothing waits for it.

It reads metrics.jsonl, clock.jsonl, videos/ and the pictures of samples/, reconstructions/ and predictions/ as they
grow, and at the end films without a step in their names, and the best weights, which become versions of the artifacts
`backbone` and `checkpoint`, with the run's name as an alias. It ends when its standard input is closed: the run has
ended then, or was killed. Where W&B does not answer, or its service hangs, it starts again offline and copies the
whole folder into one offline run. A resumed run is copied from its first line, and earlier offline runs are deleted:
there is one offline run, and one curve after `wandb sync`. Online,
wandb/handed.txt says what was handed to W&B in which order: what has arrived of it, by W&B's own count, is not sent
again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runs.artifacts import CIRCUMSTANCES

try:
    import fcntl
except ImportError:  # Windows: two of these processes are then not kept apart
    fcntl = None

LOGS = ("metrics.jsonl", "clock.jsonl")
FILM = re.compile(r"(?:step-)?(\d+)\.(mp4|gif)")
PICTURES = ("samples", "reconstructions", "predictions")  # folders of <step>.png, copied as eval/<folder>
WEIGHTS = {"backbone": "backbone.safetensors", "checkpoint": "checkpoint/best.pt"}  # artifact -> file
EVERY = 1.0  # seconds between two looks at the folder


class Tail:
    """The whole lines of a .jsonl file, as it grows."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0

    def read(self) -> list[dict[str, Any]]:
        """The lines that were added since the last call; lines that are not JSON objects are skipped."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.place)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self.place += len(whole)
        lines = []
        for row in whole.splitlines():
            try:
                line = json.loads(row)
            except ValueError:
                continue
            if isinstance(line, dict) and "step" in line:
                lines.append({key: value for key, value in line.items() if value is not None})
        return lines


class Copy:
    """Copies a folder to a W&B run.

    after: lines and films up to this step are there already. handed: tells of each thing whether it is; None: `after`
    alone does.
    """

    def __init__(self, folder: Path, run: Any, after: float = -1, handed: Handed | None = None) -> None:
        self.run, self.after, self.handed, self.folder = run, after, handed, folder
        self.videos = folder / "videos"
        self.tails = [Tail(folder / name) for name in LOGS]
        self.filmed: set[str] = set()
        self.drawn: set[str] = set()
        self.step = 0

    def _new(self, what: str, step: int) -> bool:
        """Whether a thing of a step has to be sent; notes that it is."""
        return step > self.after if self.handed is None else self.handed.new(what)

    def update(self, last: bool = False) -> None:
        """Copy what is new; with `last` also the films that are written at a run's end."""
        for tail in self.tails:
            for line in tail.read():
                self.step = max(self.step, line["step"])
                kind = "evaluation" if any(key.startswith(("eval/", "test/")) for key in line) else "means"
                if self._new(f"{tail.path.name} {line['step']} {kind}", line["step"]):
                    self.run.log(line)
        for path in sorted(self.videos.glob("*")):
            step = int(found[1]) if (found := FILM.fullmatch(path.name)) else None
            if step is None and last and path.suffix in (".mp4", ".gif"):
                step = self.step
            if step is None or path.name in self.filmed:
                continue
            self.filmed.add(path.name)
            if self._new(f"videos/{path.name}", step):
                self._film(path, step)
        for kind in PICTURES:
            for path in sorted((self.folder / kind).glob("*.png")):
                name = f"{kind}/{path.name}"
                if name not in self.drawn and path.stem.isdecimal():
                    self.drawn.add(name)
                    if self._new(name, int(path.stem)):
                        self._picture(kind, path, int(path.stem))

    def _picture(self, kind: str, path: Path, step: int) -> None:
        import wandb

        try:
            self.run.log({f"eval/{kind}": wandb.Image(str(path)), "step": step})
        except Exception as error:
            print(f"{path}: {error!r}", file=sys.stderr, flush=True)

    def _film(self, path: Path, step: int) -> None:
        import wandb

        try:
            self.run.log({"eval/film": wandb.Video(str(path), format=path.suffix[1:]), "step": step})
        except Exception as error:  # a film is no reason to copy nothing else
            print(f"{path}: {error!r}", file=sys.stderr, flush=True)


class Handed:
    """What was handed to an online W&B run, in order: its first lines are what W&B has, by its own count.

    path: of the file that keeps it. arrived: how many things W&B has. Raises ValueError where W&B has more than was
    noted, of which an offline copy was uploaded, say.
    """

    def __init__(self, path: Path, arrived: int) -> None:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) < arrived:
            raise ValueError(f"{path} has {len(found)} of {arrived} things")
        self.there = set(found[:arrived])
        self.file = open(path, "w")
        self.file.writelines(f"{each}\n" for each in found[:arrived])
        self.file.flush()

    def new(self, what: str) -> bool:
        """Whether a thing was never handed over; notes it."""
        if what in self.there:
            return False
        self.there.add(what)
        self.file.write(f"{what}\n")
        self.file.flush()
        return True


def log_weights(folder: Path, run: Any, alias: str) -> None:
    """Log the weights of the best evaluation as versions of artifacts; those that W&B has already stay one version.

    alias: of these versions, beside latest and v0, v1, ...
    """
    import wandb

    about = json.loads((folder / "config.json").read_text())
    metadata = {key: about[key] for key in ("program", "world", "score") if key in about}
    for name, file in WEIGHTS.items():
        if (folder / file).is_file():
            kept = Path(run.dir).parent / "weights" / Path(file).name
            kept.parent.mkdir(exist_ok=True)
            kept.unlink(missing_ok=True)
            try:
                os.link(folder / file, kept)  # a later save replaces the file, and this stays as it was
            except OSError:
                shutil.copyfile(folder / file, kept)
            artifact = wandb.Artifact(name, type=name, metadata=metadata)
            artifact.add_file(str(kept), name=kept.name, policy="immutable")
            run.log_artifact(artifact, aliases=["latest", alias])


def tell(**words: Any) -> None:
    """Report to the run, if it still exists, as a line of JSON."""
    try:
        os.write(1, json.dumps(words).encode() + b"\n")
    except OSError:
        pass


def page(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Arguments for wandb.init, from a run's config.json and from `asked`, the arguments of this process."""
    about = json.loads((folder / "config.json").read_text())
    circumstances = {key: about[key] for key in CIRCUMSTANCES if key in about}
    kept = ("id", "name", "group", "tags", "project", "entity")
    return {key: asked[key] for key in kept} | {"dir": str(folder), "config": about["config"] | circumstances}


def about_score(folder: Path) -> dict[str, str] | None:
    """The score in config.json, None without any."""
    return json.loads((folder / "config.json").read_text()).get("score")


def begin(folder: Path, asked: dict[str, Any]) -> Any:
    """Open the W&B run."""
    import wandb

    settings = wandb.Settings(
        init_timeout=asked["answer"],
        silent=True,
        console="off",
        x_stats_pid=asked["pid"],  # of the run, and not of this process
        x_disable_stats=asked["again"],
    )
    online = asked["mode"] == "online"
    about = page(folder, asked)
    run = wandb.init(**about, mode=asked["mode"], resume="allow" if online else None, settings=settings)
    run.config.update(about["config"], allow_val_change=True)  # a flag that changed on resume
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    if score := about_score(folder):  # the page's summary shows the best, not the last
        run.define_metric(score["metric"], step_metric="step", summary=score["better"])
    for old in (folder / "wandb").glob(f"*run-*-{asked['id']}"):
        if old.is_dir() and not old.is_symlink() and old.resolve() != Path(run.dir).resolve().parent:
            shutil.rmtree(old, ignore_errors=True)
    return run


def services() -> list[int]:
    """The process ids of this process's children: W&B's service."""
    try:
        tasks = Path("/proc/self/task").glob("*/children")
        found = [int(pid) for task in tasks for pid in task.read_text().split()]
        if found:
            return found
        listed = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, timeout=10)
        return [int(pid) for pid in listed.stdout.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def again(asked: dict[str, Any], reason: str) -> None:
    """Start again offline, replacing this process. Does not return."""
    print(reason, file=sys.stderr, flush=True)
    for pid in services():
        try:
            os.kill(pid, signal.SIGKILL)  # a stopped one hears nothing else
            os.waitpid(pid, 0)
        except OSError:
            continue
    if asked["again"]:
        tell(failed=reason)
        os._exit(1)
    asked = asked | {"mode": "offline", "again": True}
    others = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_SERVICE")}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "runs.wandb_process", json.dumps(asked)], others)


class Watchdog:
    """Reads standard input to its end, and limits the time that W&B has from there on."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked, self.ended, self.code = asked, threading.Event(), 1
        self.done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        word = b""
        while piece := os.read(0, 64):
            word += piece
        self.code = 0 if word.strip() == b"finished" else 1
        self.ended.set()
        if not self.done.wait(self.asked["linger"]):
            again(self.asked, f"W&B did not take in the rest within {self.asked['linger']:.0f} s of the run's end")


def hold(folder: Path, patience: float) -> Any:
    """Lock a folder's W&B for one of these processes at a time. Returns the lock, None where another holds it."""
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "copying.lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    file, until = os.fdopen(descriptor), time.monotonic() + patience
    while fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > until:
                return None
            time.sleep(0.2)
    return file


def main(asked: dict[str, Any]) -> None:
    folder = Path(asked["folder"])
    watchdog = Watchdog(asked)
    lock = hold(folder / "wandb", 0.0 if asked["again"] else 2 * (asked["answer"] + asked["linger"]))
    if lock is None:
        tell(failed="another process copies this folder")
        os._exit(1)
    try:
        run = begin(folder, asked)
    except ImportError as error:
        tell(failed=f"wandb cannot be imported: {error}")
        os._exit(1)
    except Exception as error:  # whatever W&B raises
        again(asked, repr(error))
    try:
        tell(mode=asked["mode"])
        after = run.summary.get("step", -1) if getattr(run, "resumed", False) else -1
        try:
            handed = Handed(folder / "wandb" / "handed.txt", run.starting_step) if asked["mode"] == "online" else None
        except ValueError as error:
            print(error, file=sys.stderr, flush=True)
            handed = None
        copy = Copy(folder, run, after if isinstance(after, int | float) else -1, handed)
        while not watchdog.ended.wait(EVERY):
            copy.update()
        copy.update(last=True)
        log_weights(folder, run, re.sub(r"[^\w.-]", "-", asked["name"]))
        run.finish(exit_code=watchdog.code)
    except Exception as error:
        again(asked, repr(error))
    watchdog.done.set()
    tell(done=True)
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
