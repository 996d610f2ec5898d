"""Who may import whom. The rooms stay separable because this test reads every import."""

import ast
import contextlib
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "envs", "replay", "vision", "runs")
ALLOWED = {"runs": set(), "envs": set(), "replay": set(), "vision": {"runs"}, "agents": set(ROOMS)}


@pytest.mark.parametrize("room", ROOMS)
def test_imports(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: import by full name"
                names = [node.module]
            else:
                continue
            for name in names:
                target = name.split(".")[0]
                if target in ROOMS and target != room:
                    assert target in ALLOWED[room], f"{path}:{node.lineno}: {room} must not import {target}"
                assert target != "torchvision", f"{path}: torchvision cannot be installed beside CPU torch"


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_circles(room):
    """No module imports itself by way of others, imports for type checking and inside of functions included."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / room).rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    imports: dict[str, set[str]] = {}
    for name, path in modules.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        named = {(node.module, alias.name) for node in nodes for alias in node.names}
        targets = {f"{module}.{alias}" if f"{module}.{alias}" in modules else module for module, alias in named}
        imports[name] = targets & modules.keys() - {name}
    while leaves := [name for name, targets in imports.items() if not targets & imports.keys()]:
        for name in leaves:  # what imports nothing that is left is in no circle
            del imports[name]
    assert not imports, f"a circle among {sorted(imports)}"


LOOPS = {  # of a family, and the programs that train networks of their own by it
    "agents.ppo": {"agents.soft_attention", "agents.hard_attention"},
}


def test_no_program_imports_another():
    """What two programs share lives in a module that is not a program; a family's members import their own loop.

    Members are in one folder, or named in LOOPS. A study of programs names those it is about, and a room's
    __main__ is its list of programs.
    """
    files = {path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    sources = {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in files}
    programs = {name for name, text in sources.items() if '__name__ == "__main__"' in text}
    folders = {name.rpartition(".")[0] for name in programs if name.count(".") > 1}
    for name in programs:
        if name.startswith("agents.studies.") or name.endswith(".__main__"):
            continue
        for node in ast.walk(ast.parse(sources[name])):
            if isinstance(node, ast.ImportFrom):
                for target in {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & programs:
                    folder = target.rpartition(".")[0]
                    family = folder in folders and name.startswith(f"{folder}.")
                    assert family or name in LOOPS.get(target, ()), f"{name} imports the program {target}"


def test_no_package_imports_its_programs():
    """`python -m package.program` imports the package first: a program that it has imported would run twice."""
    files = [path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    programs = [
        path for path in files if '__name__ == "__main__"' in (ROOT / path).read_text() and path.stem != "__main__"
    ]
    names = [".".join(path.with_suffix("").parts) for path in programs]
    packages = sorted({name.rpartition(".")[0] for name in names})
    code = f"import sys, {', '.join(packages)}; print([name for name in {names!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_is_long(room):
    for path in (ROOT / room).rglob("*.py"):
        most = SHORTER.get(path.relative_to(ROOT).as_posix(), 400)
        assert len(path.read_text().splitlines()) <= most, f"{path} has more than {most} lines: split it by noun"


SHORTER = {"agents/dqn.py": 260}  # to be read first, from the command to the gradient


def test_top_level_holds_nothing_else():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= set(ROOMS) | {"tests"}


def test_what_is_used_of_a_module_is_there():
    """Programs that no test runs whole, the benchmarks above all, still name only what exists."""
    missing = []
    for path in [path for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        modules = {}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ROOMS:
                for alias in node.names:
                    modules[alias.asname or alias.name] = found = resolve(node.module, alias.name)
                    if found is None:
                        missing.append(f"{path}:{node.lineno}: {node.module} has no {alias.name}")
        plain = {node.name for node in nodes if isinstance(node, ast.FunctionDef) and not node.decorator_list}
        local = {node.arg for node in nodes if isinstance(node, ast.arg)}
        local |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in local:
                module = modules.get(node.value.id)
                if node.value.id in plain and not hasattr(resolve, node.attr):  # resolve: any function
                    missing.append(f"{path}:{node.lineno}: the function {node.value.id} has no {node.attr}")
                if inspect.ismodule(module) and resolve(module.__name__, node.attr) is None:
                    missing.append(f"{path}:{node.lineno}: {module.__name__} has no {node.attr}")
    assert not missing, "\n".join(missing)


def resolve(module, name):
    """What a module has under a name, a module below it included; None if there is no such thing."""
    package = importlib.import_module(module)
    if not hasattr(package, name) and hasattr(package, "__path__"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"{module}.{name}")
    return getattr(package, name, None)
