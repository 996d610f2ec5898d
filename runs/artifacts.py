"""Files of W&B artifacts, fetched once and kept: "wandb:entity/project/backbone:v3".

    python -m agents.dqn --env Pong --backbone wandb:team/saccade/backbone:v3
    python -m vision.classification --data cifar10 --backbone wandb:team/saccade/backbone:Pong-dqn-1

A run logs the weights of its best evaluation as versions of the artifacts `backbone` and `checkpoint`
(wandb_process.py). A version, v3, is fetched once and then read without a network; an alias is asked for each time.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from runs.printing import one_line

PREFIX = "wandb:"
NAME = re.compile(r"wandb:([\w.-]+)/([\w.-]+)/([\w.-]+):([\w.-]+)")
ANSWER = 30  # seconds that W&B has for an answer
# Of config.json, beside the flags, in the config of a run in W&B: by them runs.compare reads it from there.
CIRCUMSTANCES = ("program", "command", "commit", "hardware", "versions", "world", "score", "unit")


def is_artifact(name: Path | str) -> bool:
    """Whether a name is that of an artifact: it begins with "wandb:"."""
    return str(name).startswith(PREFIX)


def check(name: Path | str) -> None:
    """Raise ValueError for a name that is not wandb:entity/project/artifact:version, without asking W&B."""
    found = NAME.fullmatch(str(name))
    if not found or {".", ".."} & {*found.groups()}:
        raise ValueError(
            f"{one_line(str(name))} names no artifact of W&B: write wandb:entity/project/backbone:v3, or :latest"
        )


def kept() -> Path:
    """The folder where fetched artifacts are kept: saccade/wandb in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saccade" / "wandb"


def fetch(name: Path | str, suffix: str) -> Path:
    """The artifact's only file with a suffix, on this machine.

    name: "wandb:entity/project/backbone:v3". Raises ValueError for another name, without W&B's client or a key, where
    W&B does not give the artifact, and where it has no such file, or several.
    """
    check(name)
    entity, project, artifact, version = NAME.fullmatch(str(name)).groups()
    folder = kept() / entity / project
    place = folder / f"{artifact}-{version}"
    if re.fullmatch(r"v\d+", version) and (there := _files(place, suffix)):
        return _only(there, name, suffix)
    try:
        import wandb
    except ImportError as error:
        raise ValueError(f"{name} needs W&B's client: pip install wandb") from error
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        found = wandb.Api(timeout=ANSWER).artifact(str(name).removeprefix(PREFIX))
        place = folder / f"{artifact}-{found.version}"
        if not _files(place, suffix):
            partial = folder / f"{artifact}-{found.version}.{os.getpid()}"
            found.download(root=str(partial))
            place.parent.mkdir(parents=True, exist_ok=True)
            partial.rename(place)
    except Exception as error:  # the client has a dozen kinds
        raise ValueError(
            f"W&B has not given {name}: {one_line(str(error))[:300]}. Without a network a version that was fetched "
            f"before can be named (v3, not an alias), or a folder"
        ) from None
    return _only(_files(place, suffix), name, suffix)


def _files(place: Path, suffix: str) -> list[Path]:
    return sorted(place.rglob(f"*{suffix}"))


def _only(found: list[Path], name: Path | str, suffix: str) -> Path:
    if len(found) != 1:
        raise ValueError(f"{name} has {len(found)} files that end in {suffix}, and one is looked for")
    return found[0]
