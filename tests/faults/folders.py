"""Tries of faults of files: a run's folder is damaged, and the same command given, or the folder read.

Each gets a case, a new folder, the fault's name, the number of the try and what draws where it strikes, and returns
the outcome, where it struck and what was said; raises Failed, Skipped.
"""

import dataclasses
import random
import shutil
from pathlib import Path

from tests.faults import damage
from tests.faults.case import LONG, Case, Failed, Skipped, last, locating, room, warned
from tests.faults.outcome import ugly, unsaid
from tests.faults.process import Ended


def files(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A file or folder of a killed run, or of a finished one, is damaged, and the same command is given."""
    before = case.reference if kind == "damaged, then the same command" else case.killed
    kind = draw.choice((*damage.BYTES, *damage.TEXTS)) if before == case.reference else kind
    shutil.copytree(before.parent, folder / before.parent.name)
    run, elsewhere, kept = case.of(folder), folder / "elsewhere", None
    if kind == damage.STRAY:
        target = damage.stray(run, case.other)
        role, names = damage.STRAY, {target.stem, target.parent.name}
    elif kind.startswith("folder "):
        role = ("checkpoint", "checkpoint/memory")[number % 2]
        target = run / role
        if not target.is_dir() or not any(target.iterdir()):
            role, target = "checkpoint", run / "checkpoint"
        damage.hurt_folder(kind.removeprefix("folder "), target, case.other / role, elsewhere)
        names = {target.name, run.name}
    else:
        known = damage.roles(run)
        others = damage.roles(case.other)
        fitting = [role for role in known if damage.suits(kind, known[role])]
        fitting = [role for role in fitting if kind != "other's" or role in others]
        role = fitting[(number + draw.randrange(len(fitting))) % len(fitting)]
        target = known[role]
        kept = damage.hurt(kind, target, others.get(role), elsewhere, draw)
        names = {target.name, target.stem}
    ended = case.run(folder)
    if kept is not None and (elsewhere / target.name).read_bytes() != kept:
        raise Failed(f"{role}: wrote through a symbolic link")
    if kind == "folder symlink" and not (elsewhere / "precious").is_file():
        raise Failed(f"{role}: a stranger's file was deleted through a symbolic link")
    if before == case.reference:
        role += f", finished, {kind}"
        names |= {"is finished"}  # what is not read again may be as it is
    if ended.code == 0:
        with locating(role):
            case.identical(folder, ended)
            if "steps from the start" in ended.said and not warned(ended):
                raise Failed("began again from the start without a word")
        return "identical", role, warned(ended)
    if lacks := unsaid(ended, names):
        raise Failed(f"{role}: {lacks}: {last(ended)}")
    put_back(before / target.relative_to(run), target)
    with locating(f"{role}, refused and put back"):
        again = case.run(folder) if before == case.killed else dataclasses.replace(ended, code=0, said="")
        case.identical(folder, again)
    return "named", role, last(ended)


def put_back(source: Path, target: Path) -> None:
    """Have a file or folder be what it was; a checkpoint's manifest with its file."""
    if not source.exists():
        for path in (target, target.with_suffix(".pt")):
            path.unlink(missing_ok=True)
        return
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


def occupied(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A directory where a file is to be written."""
    above = case.reference.parent.parent if case.program.runs else case.reference
    known = [path.relative_to(above) for path in case.reference.rglob("*") if path.is_file()]
    known = [path for path in known if path.name not in (".lock", "config.json") and "checkpoint" not in path.parts]
    target = draw.choice(sorted(known))
    (folder / target).mkdir(parents=True)
    (folder / target / "of a stranger").write_text("kept")
    ended = case.run(folder)
    if not (folder / target / "of a stranger").is_file():
        raise Failed(f"{target}: a stranger's folder was deleted")
    if lacks := unsaid(ended, {target.name, "config.json"}):  # which is not there beside it
        raise Failed(f"{target}: {lacks}: {last(ended)}")
    shutil.rmtree(folder / target)
    with locating(str(target)):
        case.identical(folder, case.run(folder))
    return "named", str(target), last(ended)


def read(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A finished run is damaged, and watched, compared, published or averaged."""
    readers = {"damaged, then averaged": "vision.classification", "damaged, then watched": "agents."}
    if not case.program.module.startswith(readers.get(kind, "")):
        raise Skipped("made for other runs")
    if kind not in case.heard:
        with room(case, 0, f"{kind}, whole") as whole:
            case.heard[kind] = reader(case, whole, kind)
        if case.heard[kind].code != 0:
            raise Failed(f"an undisturbed run: {last(case.heard[kind])}")
    shutil.copytree(case.reference.parent, folder / case.reference.parent.name)
    run, others = case.of(folder), damage.roles(case.other)
    known = damage.roles(run)
    what = draw.choice([each for each in (*damage.BYTES, *damage.TEXTS) if each != "symlink"])
    fitting = [role for role in known if damage.suits(what, known[role]) and (what != "other's" or role in others)]
    role = draw.choice(fitting)
    damage.hurt(what, known[role], others.get(role), folder / "elsewhere", draw)
    ended, where = reader(case, folder, kind), f"{role}: {what}"
    if ended.code == 0:
        if found := ugly(ended):
            raise Failed(f"{where}: {found}")
        if ended.heard == case.heard[kind].heard:
            return "identical", where, ""
        if known[role].name in ended.said + ended.heard:
            return "named", where, last(ended)
        raise Failed(f"{where}: says other than of the whole run, without a word: {ended.heard[-300:]}")
    if lacks := unsaid(ended, {known[role].name, known[role].stem}, way_out=False):  # it only looks
        raise Failed(f"{where}: {lacks}: {last(ended)}")
    return "named", where, last(ended)


def reader(case: Case, folder: Path, kind: str) -> Ended:
    """Have a program read the run in a folder, or an undisturbed one where there is none."""
    if not any(folder.glob("*/run")):
        shutil.copytree(case.reference.parent, folder / case.reference.parent.name)
    run, heard = case.of(folder), folder / "heard"
    module, arguments = {
        "damaged, then watched": ("agents.watch", [run, "--games=2", "--no-film", "--device=cpu"]),
        "damaged, then compared": ("runs.compare", [run, f"--out={folder}/compare.png"]),
        "damaged, then published": ("runs.publish", [run, f"--into={folder}/records", "--topic=faults"]),
        "damaged, then averaged": ("vision.classification.ensembles", [run, "--device=cpu", "--threads=1"]),
    }[kind]
    ended = case.server.run(module, list(map(str, arguments)), folder, LONG, stdout=heard)
    return dataclasses.replace(ended, heard=heard.read_text().replace(str(folder), "FOLDER"))
