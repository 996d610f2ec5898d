"""Names: words of the field in identifiers, docstrings and READMEs, and a docstring for everything public."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "envs", "replay", "vision", "runs")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

# Names that a reader would have to translate. As plain English words in a sentence some of them may stay.
IDENTIFIERS = {
    *("eyes", "lifted", "own_eyes", "look_around", "gaze", "arithmetic", "setting"),
    *("copy_every", "anneal", "apart", "thaw", "follow", "deal", "soon", "by_heart", "dress"),
    *("quickened", "lived", "utter", "aware", "outward", "opinion", "told", "came", "fresh", "Watch"),
    *("hints", "ranges", "board", "optimiser", "normalise", "colour", "grey", "behaviour", "neighbour"),
}
ALLOWED = {"vision/classification/search.py": {"ranges"}}  # the intervals that a random search draws from
PHRASES = re.compile(r"\beyes\b|\blifted\b|\bby heart\b|\bquickened\b|\bopinions?\b|\bgaze\b", re.IGNORECASE)
FLAGS = re.compile(
    r"--(no-)?(copy-every|anneal|units|apart|trace|max-norm|normalise|optimiser|beta|prioritized|eyes)\b"
)
BRITISH = re.compile(
    r"\b\w*(colour|behaviour|neighbour|normalis|optimis(?!t)|initialis|regularis|centred)\w*\b", re.IGNORECASE
)


@pytest.mark.parametrize("room", ROOMS)
def test_identifiers(room):
    for path in (ROOT / room).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        with open(path, encoding="utf-8") as file:
            tokens = tokenize.generate_tokens(file.readline)
            found = {(token.string, token.start[0]) for token in tokens if token.type == tokenize.NAME}
        wrong = [(word, line) for word, line in found if word in IDENTIFIERS - ALLOWED.get(name, set())]
        assert not wrong, f"{name}: {wrong}"


@pytest.mark.parametrize("pattern", [PHRASES, FLAGS, BRITISH], ids=["phrases", "flags", "spelling"])
def test_texts(pattern):
    """Docstrings, comments, messages and the READMEs of the rooms."""
    for path in [*FILES, *(ROOT / room / "README.md" for room in ROOMS), ROOT / "README.md"]:
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
            assert not pattern.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings(path):
    """A program's Config, train and main are documented by the module's own docstring."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node) or node.name in ("Config", "train", "main"), (
                f"{node.name} has no docstring"
            )
