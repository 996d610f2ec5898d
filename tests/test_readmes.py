"""READMEs: Python blocks run, commands parse, links lead somewhere, figures are those of published records."""

import argparse
import dataclasses
import functools
import importlib
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("", "agents", "envs", "replay", "vision", "runs", "tests")
PAGES = [*(ROOT / room / "README.md" for room in ROOMS), *sorted((ROOT / "vision").glob("*/README.md"))]
TOPICS = sorted((ROOT / "runs" / "published").glob("*/README.md"))  # mostly generated
FRONT = 12_000  # bytes of the front page at most
FEW = {"vision.data.shapes": (256, 64, 64), "vision.data.scenes": (16, 4, 4)}  # drawn for training, validation, test
SHORT = dict(steps=8, batch=4, evaluate_every=8)
CAPTIONS = SHORT | dict(scenes=40, hidden=16, width=0.125, bf16=False)
RUNS: dict[str, tuple[str, dict, dict]] = {  # folder below results/: program, flags of the command, fewer numbers
    "Catch/dqn-1": (
        "agents.dqn",
        dict(env="Catch"),
        dict(steps=320, learn_start=160, evaluate_every=160, evaluate_games=2, film_seconds=0.0),
    ),
    "shapes/classification-1": ("vision.classification.train", {}, dict(steps=256, evaluate_every=256)),
    "shapes/detection-1": ("vision.detection.train", {}, SHORT | dict(width=0.25, channels=32, proposals=100)),
    "shapes/segmentation-1": ("vision.segmentation.train", {}, SHORT | dict(width=0.25, decoder_width=4)),
    "shapes/captioning-1": ("vision.captioning.train", {}, CAPTIONS | dict(features=16)),
    "shapes/dense-1": ("vision.captioning.dense", {}, CAPTIONS | dict(width=0.25, channels=32, head_width=64)),
    "shapes/vqa-1": ("vision.captioning.vqa", {}, CAPTIONS | dict(channels=8)),
    "shapes/vae-1": ("vision.generation.train", {}, SHORT | dict(evaluate_images=16)),
    "shapes/super_resolution-1": ("vision.image_to_image.train", {}, SHORT | dict(width=0.125, evaluate_images=4)),
    "sums/sequences-1": ("vision.sequences.train", dict(task="sums"), SHORT | dict(hidden=16)),
}
GENERATED = re.compile(r"<!-- results:begin\b.*?-->(.*?)<!-- results:end -->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")

pages, pages_and_topics = (
    pytest.mark.parametrize("page", each, ids=lambda page: page.parent.relative_to(ROOT).as_posix())
    for each in (PAGES, PAGES + TOPICS)
)


def written(page: Path) -> str:
    """The text of a page that is written by hand."""
    return GENERATED.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[str]:
    """The ```python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", written(page), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page that run Python, in words: in indented blocks, and in backticks."""
    text = re.sub(r"^```.*?^```$", "", written(page), flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^ {4}(.+)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    found = []
    for line in lines:
        for part in re.split(r"&&|;", line):
            words = shlex.split(part, comments=True) if re.match(r"\s*python ", part) else []
            if len(words) > 1 and "<" not in part:
                found.append(words)
    return found


class Parsed(BaseException):
    """Raised in place of a program, once its flags have been understood."""


def test_the_front_page_is_short():
    size = (ROOT / "README.md").stat().st_size
    assert size <= FRONT, f"README.md has {size:,} bytes: move what is about one room into that room's README.md"


@pages
def test_python_blocks_run(page, tmp_path, monkeypatch, short_run):
    if not blocks(page):
        pytest.skip("no Python here")
    for module, sizes in FEW.items():
        monkeypatch.setattr(importlib.import_module(module), "SIZES", sizes)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for run in re.findall(r"results/([\w-]+/[\w-]+)", "".join(blocks(page))):
        if run in RUNS:
            shutil.copytree(short_run(run), tmp_path / "results" / run, dirs_exist_ok=True)
    Image.new("RGB", (64, 48), "teal").save("photo.jpg")
    names: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks(page), start=1):
        source = f"{page.relative_to(ROOT)}, Python block {number}"
        exec(compile(block, source, "exec"), names)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory) -> Callable[[str], Path]:
    """A folder below results/ as the commands of the READMEs leave it, but for a few steps."""
    folder = tmp_path_factory.mktemp("results")

    @functools.cache
    def made(run: str) -> Path:
        program, flags, fewer = RUNS[run]
        module = importlib.import_module(program)
        config = getattr(module, "recipe", lambda asked: asked)(module.Config(**flags))
        module.train(dataclasses.replace(config, **fewer, folder=folder, wandb="disabled", device="cpu"))
        return folder / run

    return made


@pages_and_topics
def test_commands_name_programs_and_flags_that_exist(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in commands(page):
        if words[1] == "-m" and words[2] in ("pytest", "pip"):
            continue
        if words[1] != "-m":
            script = ROOT / words[1]
            assert script.is_file(), f"{shlex.join(words)}: there is no {words[1]}"
            known = script.read_text(encoding="utf-8")
            missing = [word for word in words[2:] if word.startswith("--") and not takes(known, word)]
            assert not missing, f"{shlex.join(words)}: {words[1]} has no {', '.join(missing)}"
            continue
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", words[2:])
            patch.setattr(tyro, "cli", stop_after(tyro.cli))
            patch.setattr(argparse.ArgumentParser, "parse_args", stop_after(argparse.ArgumentParser.parse_args))
            try:
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
            except Parsed:
                pass
            except (ImportError, SystemExit) as error:
                said = capsys.readouterr()
                pytest.fail(f"{shlex.join(words)}: {error}\n{said.out}{said.err}")
        capsys.readouterr()


def takes(script: str, flag: str) -> bool:
    """Whether a script's text names a flag to argparse, or has a field of that name for tyro."""
    return f'"{flag}"' in script or f"\n    {flag.removeprefix('--').replace('-', '_')}: " in script


def stop_after(parse: Callable[..., object]) -> Callable[..., object]:
    """A parser of flags that raises Parsed instead of giving what it has parsed."""

    @functools.wraps(parse)
    def parsed(*arguments: object, **options: object) -> object:
        parse(*arguments, **options)
        raise Parsed

    return parsed


@pages_and_topics
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.relative_to(ROOT)} links {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.relative_to(ROOT)} links {target}"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_room_has_a_page_and_the_front_page_links_it():
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"tests"}
    for room in rooms:
        assert (ROOT / room / "README.md").is_file() and f"]({room}/README.md" in front, room


@pages
def test_bold_figures_of_tables_are_published(page):
    """A figure in bold in a table of programs stands in generated results, with as many digits or more."""
    sources = [each.read_text(encoding="utf-8") for each in PAGES + TOPICS]
    generated = [part for text in sources for part in GENERATED.findall(text)]
    studies = ROOT / "runs" / "published" / "classification_studies"  # pages that the studies write
    generated += [each.read_text(encoding="utf-8") for each in studies.glob("*.md")]
    known = {value(number) for part in generated for number in NUMBER.findall(part)}
    for line in written(page).splitlines():
        for figure in re.findall(r"\*\*(-?[\d.,]+)\*\*", line) if line.startswith("|") else ():
            digits = len(figure.partition(".")[2])
            assert any(round(each, digits) == value(figure) for each in known), f"{figure} of {line}"


def value(number: str) -> float:
    return float(number.replace(",", ""))
