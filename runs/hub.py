"""Trained runs on the Hugging Face Hub: pushed with a model card that states protocol and scores, and pulled.

    python -m runs.hub push results/Pong/pqn-1 someone/pong-pqn
    python -m runs.hub pull someone/pong-pqn --folder results/hub/pong-pqn
    python -m agents.watch results/hub/pong-pqn

What goes there is what an agent, a classifier or a backbone is loaded by: config.json, the best weights, the
backbone's, the logs, and the newest film. The card has the figures of the run's evaluations and of `agents.watch`.
Pulled weights are read as data, no code of a repository is executed. By huggingface_hub (pip install saccade[hub]),
which keeps the token (`hf auth login`).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from runs import flags, saved
from runs.files import RunError
from runs.printing import one_line, portable, printable
from runs.progress import duration
from runs.reader import RunRecord, read_run

FILES = ("config.json", "finished.json", "metrics.jsonl", "clock.jsonl", "watch.jsonl", "backbone.safetensors")
BEST = "checkpoint/best.pt"
FILMS = ("*.gif", "*.mp4")


@dataclasses.dataclass(frozen=True)
class Config:
    action: Annotated[Literal["push", "pull"], tyro.conf.Positional]
    source: Annotated[str, tyro.conf.Positional]  # push: a run's folder; pull: a repository, "name/repository"
    repository: Annotated[str | None, tyro.conf.Positional] = None  # push: where to, "name/repository"
    folder: Path | None = None  # pull: where to; None: results/hub/<repository>
    private: bool = False  # push: a new repository is visible to its owner alone
    revision: str = "main"  # pull: a branch, a tag or a commit


def card(run: RunRecord, repository: str, film: str = "") -> str:
    """The model card of a run: front matter with its scores as the Hub's leaderboards read them, then the text."""
    played = _last_line(run.folder / "watch.jsonl")
    world = " ".join(filter(None, (run.world, run.protocol)))
    task = "reinforcement-learning" if "env" in run.config else "computer-vision"
    results = _results(run, played)
    front = {
        "library_name": "saccade",
        "license": "mit",
        "tags": [task, run.program, run.world],
        "model-index": [
            {
                "name": repository,
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {"name": world, "type": run.world},
                        "metrics": [{"type": name, "value": value, "name": words} for name, value, words in results],
                    }
                ],
            }
        ],
    }
    about, hardware = run.about, run.about.get("hardware", {})
    machine = one_line(hardware.get("gpu") or hardware.get("processor") or "an unknown machine")
    command = one_line(portable(about.get("command") or "unknown", run.config.get("folder")))
    took = f", {duration(run.seconds)}" if run.seconds else ""
    text = [
        "---",
        json.dumps(front, indent=1),  # JSON is YAML
        "---",
        f"# {run.program} on {world}",
        "",
        f"Trained by Saccade for {run.step:,} {run.unit}{took} on {machine}.",
        "",
        "| score | value |",
        "| --- | ---: |",
        *(f"| {words} | {run.score.format(value)} |" for _, value, words in results),
        "",
    ]
    if run.unfinished:
        text += [f"The run is not finished: {run.unfinished}.", ""]
    if film:
        text += [f"![A film of it]({film})" if film.endswith(".gif") else f"Film: [{film}]({film})", ""]
    text += [
        "```",
        f"python -m runs.hub pull {repository} --folder results/hub/{repository.rpartition('/')[2]}",
        f"{_follow_up(run.about)} results/hub/{repository.rpartition('/')[2]}",
        "```",
        "",
        f"Command: `{command}`, commit {one_line(about.get('commit') or 'unknown')}.",
    ]
    return printable("\n".join(text)) + "\n"


def _results(run: RunRecord, played: dict[str, Any] | None) -> list[tuple[str, float, str]]:
    """(type, value, name) of every score that is known."""
    found = []
    for which, line in (("best", run.best), ("last", run.final)):
        if line:
            found.append(
                (f"{run.score.name}_{which}", line[run.score.metric], f"{which} evaluation, step {line['step']:,}")
            )
    for name, value in run.tested.items():
        found.append((f"test_{name}", value, f"test {name.replace('_', ' of views: ')}"))
    if played:
        where = f"{played['games']} games played afterwards by the {played.get('checkpoint', 'best')} weights"
        found.append(("mean_reward", played["mean"], where))
    return found


def push(folder: Path, repository: str, private: bool = False) -> str:
    """Upload a run, and return the address of its page. Raises RunError, and ValueError where the Hub refuses."""
    hub = _hub()
    saved.about(folder)
    if not (folder / BEST).is_file():
        raise RunError(f"{folder} has no {BEST}: it is written at an evaluation")
    run = read_run(folder)
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place)
        (copy / "checkpoint").mkdir()
        for name in (*FILES, BEST):
            if (folder / name).is_file():
                shutil.copy(folder / name, copy / name)
        films = sorted((path for kind in FILMS for path in (folder / "videos").glob(kind)), key=_age)
        if films:
            shutil.copy(films[-1], copy / f"film{films[-1].suffix}")
        (copy / "README.md").write_text(
            card(run, repository, f"film{films[-1].suffix}" if films else ""), encoding="utf-8"
        )
        try:
            api = hub.HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=copy,
                commit_message=f"{run.program} on {run.world}, step {run.step:,}",
            )
        except Exception as error:  # of the client, or of the network below it
            raise ValueError(f"the Hub has not taken {folder}: {one_line(str(error))[:300]}") from None
    return str(getattr(done, "commit_url", "") or f"{api.endpoint}/{repository}")


def pull(repository: str, folder: Path, revision: str = "main") -> Path:
    """Download a run to a folder that does not exist yet, and check that it is one. Returns the folder.

    Raises RunError where the folder exists or what came is no run, ValueError where the Hub does not give it.
    """
    hub = _hub()
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty: choose another --folder")
    try:
        wanted = [*FILES, BEST, "README.md", "film.*"]
        hub.snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=wanted)
    except Exception as error:
        raise ValueError(f"the Hub has not given {repository}: {one_line(str(error))[:300]}") from None
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's
    saved.about(folder)
    return folder


def _follow_up(about: dict[str, Any]) -> str:
    """The command that shows what a run has learned, as its program says."""
    return one_line(about.get("follow_up") or "python -m runs.compare")


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _last_line(path: Path) -> dict[str, Any] | None:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return json.loads(lines[-1]) if lines else None


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError("the Hub needs its client: pip install saccade[hub]") from error
    return huggingface_hub


def main() -> None:
    config = flags.parse(Config, "runs.hub", __doc__)
    try:
        if config.action == "push":
            if not config.repository:
                raise ValueError("push needs a run's folder and a repository, name/repository")
            print(printable(push(Path(config.source), config.repository, config.private)))
        else:
            name = config.source.rpartition("/")[2]
            folder = pull(config.source, config.folder or Path("results/hub") / name, config.revision)
            print(printable(f"{folder}\nNext: {_follow_up(saved.about(folder))} {folder}"))
    except (OSError, ValueError, RunError) as error:
        sys.exit(printable(f"error: {error}"))


if __name__ == "__main__":
    main()
