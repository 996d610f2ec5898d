"""Names: words of the field in identifiers, flags, metrics and texts, and a docstring for everything public."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "envs", "replay", "vision", "runs")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# Names that a reader would have to translate. In a sentence they stay where they are plain English.
IDENTIFIERS = {
    *("eyes", "lifted", "own_eyes", "look_around", "gaze", "arithmetic", "setting", "judge", "see", "look"),
    *("centre", "copy_every", "anneal", "apart", "beta", "trace", "units", "thaw", "follow", "deal", "dealt", "soon"),
    *("by_heart", "dress", "quickened", "lived", "utter", "aware", "outward", "opinion", "told", "came", "fresh"),
    *("Watch", "mirror", "hints", "ranges", "board", "console", "optimiser", "normalise", "colour", "grey"),
    *("behaviour", "neighbour", "neighbours", "nasty_worlds"),
}
OWN_WORDS = {  # where they are the words of a paper or a library
    "agents/pqn.py": {"beta"},  # Adam's beta_2
    "vision/training/muon.py": {"beta"},  # an argument of torch's products
    "envs/console_memory.py": {"console"},  # a game console
    "replay/prioritized.py": {"units"},  # whole units of a priority
    "replay/sum_tree.py": {"units"},
    "runs/onnx_file.py": {"trace"},  # torch.jit's
    "runs/profile.py": {"trace"},  # a profiler's
    "runs/progress.py": {"console"},  # an argument of rich's
    "runs/sweep/table.py": {"console"},  # an argument of rich's
    "runs/timeline.py": {"trace"},
    "runs/trace.py": {"trace"},
    "runs/compare/to_wandb.py": {"console"},  # of wandb.Settings
    "runs/wandb_process.py": {"console"},  # an argument of wandb.Settings
    "tests/benchmarks/gpu_jobs.py": {"trace"},  # a profiler's
    "tests/benchmarks/memories.py": {"beta"},  # an argument of cpprb
    "tests/benchmarks/rainbow_speed.py": {"beta"},  # of Tianshou
    "tests/test_console_memory.py": {"console"},
    "tests/test_profile.py": {"trace"},
    "tests/test_sum_tree.py": {"units"},
    "vision/backbones/alexnet.py": {"beta"},  # of local response normalization
    "vision/classification/classical.py": {"memory"},  # MiB
    "vision/classification/sift.py": {"trace"},  # of a matrix
    "vision/detection/regions.py": {"beta"},  # an argument of smooth_l1_loss
    "vision/data/files.py": {"console"},  # an argument of rich's
}
PARTS = {  # nor are they parts of longer names
    *("eyes", "lifted", "gaze", "judge", "thaw", "dealt", "soon", "dress", "quickened", "lived", "utter", "aware"),
    *("outward", "opinion", "told", "came", "looked", "centre", "apart"),
}
FIELDS = {"memory", "prioritized"}  # and as numbers of a config
IN_NAMES = {
    "aware",
    "beta",
    "console",
    "deal",
    "dress",
    "fresh",
    "gaze",
    "heart",
    "nasty",
    "outward",
    "quickened",
    "told",
}
PHRASES = re.compile(
    r"\beyes\b|\blifted\b|\bby heart\b|\bquickened\b|\bopinions?\b|\bgaze\b|\boutward\b|\bnasty\b|a verb\b|"
    r"\bfruit fly\b",
    re.IGNORECASE,
)
FLAGS = re.compile(
    r"--(no-)?(copy-every|anneal|units|apart|trace|max-norm|normalise|optimiser|beta|prioritized|eyes|centre|memory|"
    r"thaw|follow|told|fresh|gaze|judge)\b(?!-)"
)
METRIC = re.compile(r"[a-z]+/[a-z_]+")
BRITISH = re.compile(
    r"\b\w*(colour|behaviour|neighbour|normalis|optimis(?!t)|initialis|regularis|centred)\w*\b", re.IGNORECASE
)


def named(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("room", [*ROOMS, "tests"])
def test_identifiers(room):
    for path in (ROOT / room).rglob("*.py"):
        with open(path, encoding="utf-8") as file:
            tokens = list(tokenize.generate_tokens(file.readline))
        banned = IDENTIFIERS - OWN_WORDS.get(named(path), set())
        names = [token for token in tokens if token.type == tokenize.NAME and "rich.console" not in token.line]
        wrong = [(token.string, token.start[0]) for token in names if token.string in banned]
        wrong += [
            (token.string, token.start[0])
            for token in names
            if not token.string.startswith("test_")
            if PARTS & set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", token.string).lower().split("_"))
        ]
        wrong += [(word, 0) for word in path.relative_to(ROOT).with_suffix("").parts if word in banned]
        assert not wrong, f"{named(path)}: {wrong}"


def test_flags_and_metrics():
    """Fields of configs, and strings like "eval/return"."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Config", "Flags", "Options")):
                fields = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
                wrong = fields & (FIELDS | IDENTIFIERS) - OWN_WORDS.get(named(path), set())
                assert not wrong, f"{named(path)}: {wrong}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and METRIC.fullmatch(node.value):
                words = set(re.split(r"[/_]", node.value))
                assert not words & (IDENTIFIERS - {"trace"} | {"scale"}), f"{named(path)}: {node.value}"


def test_names_of_tests():
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert not set(node.name.split("_")) & IN_NAMES, f"{named(path)}: {node.name}"


@pytest.mark.parametrize("pattern", [PHRASES, FLAGS, BRITISH], ids=["phrases", "flags", "spelling"])
def test_texts(pattern):
    """Docstrings, comments, messages and the READMEs of the rooms."""
    for path in [*FILES, *(ROOT / room / "README.md" for room in (*ROOMS, "tests")), ROOT / "README.md"]:
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
            assert not pattern.search(line), f"{named(path)}:{number}: {line.strip()}"


def classes():
    """Every class of the rooms by its name, which may be that of several."""
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


CLASSES = classes()


def inherited(node, name):
    """Whether a base class among ours documents a method."""
    for base in (ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases):
        for each in CLASSES.get(base, ()) if base != node.name else ():
            methods = [method for method in each.body if isinstance(method, ast.FunctionDef) and method.name == name]
            if any(map(ast.get_docstring, methods)) or inherited(each, name):
                return True
    return False


TORCHS = ("forward", "extra_repr", "state_dict", "load_state_dict")  # methods whose meaning is nn.Module's


@pytest.mark.parametrize("path", FILES, ids=named)
def test_docstrings(path):
    """The module's docstring documents a program's Config, train and main, a class's those of nn.Module's methods.

    Methods that override a documented one of our base classes need none.
    """
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        assert ast.get_docstring(node) or node.name in ("Config", "train", "main"), f"{node.name} has no docstring"
        for method in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and method.name not in TORCHS:
                known = ast.get_docstring(method) or inherited(node, method.name)
                assert known or node.name == "Config", f"{node.name}.{method.name} has no docstring"


SHAPE = re.compile(r"\((?:[\w.' *+]{1,12}|\.\.\.),(?: ?(?:\.\.\.|[\w *+/.^\[\]'>-]+),?)*\)|\(\.\.\.\)|scalar|shape")


@pytest.mark.parametrize("path", FILES, ids=named)
def test_docstrings_give_shapes(path):
    """Of every public function that takes or returns tensors or arrays; of forward in the class's docstring."""
    tree = ast.parse(path.read_text())
    functions = [(None, node) for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            functions += [(node, method) for method in node.body if isinstance(method, ast.FunctionDef)]
    for owner, function in functions:
        arguments = [*function.args.args, *function.args.kwonlyargs]
        types = [each.annotation for each in arguments] + [function.returns]
        types = [ast.unparse(each) for each in types if each]
        takes = any(re.search(r"\bTensor\b|ndarray", hint) and "Callable" not in hint for hint in types)
        text = ast.get_docstring(function) or ""
        if owner and function.name == "forward":
            text += ast.get_docstring(owner) or ""
        skipped = function.name.startswith("_") or (owner and not text and inherited(owner, function.name))
        if takes and not skipped and not function.name.endswith("state_dict"):
            assert SHAPE.search(" ".join(text.split())), f"{function.name}, line {function.lineno}: no shapes"
