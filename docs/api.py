"""Builds the API reference from docstrings and comments, with pdoc, as HTML pages in docs/api:

    pip install -e ".[docs]" && python docs/api.py

Docstrings here are plain text: what is indented by four spaces, or stands in columns, is shown as it is. The comment
at the end of a field's line is the field's documentation.
"""

import argparse
import ast
import importlib
import inspect
import io
import pkgutil
import re
import sys
import textwrap
import tokenize
import typing
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

import pdoc
from pdoc import doc_ast

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agents", "envs", "replay", "runs", "vision")
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
ITEM = re.compile(r"(\*{0,2}[\w.]+(?:, [\w.]+)*): (.*)")  # of a section: "name: text" or "one, two: text"
LISTED = re.compile(r"(\d+\.|-) +\S")
MARKER = re.compile(r"#\s*(fmt|noqa|type)\b")


def markdown(text: str) -> str:
    """A plain docstring as Markdown: commands and tables as code, sections and numbered lists as lists."""
    lines, done = text.expandtabs().splitlines(), []
    while lines:
        first = lines[0]
        if not first.strip():
            done.append(lines.pop(0))
        elif found := SECTION.fullmatch(first):
            lines.pop(0)
            done += ["", f"**{found[1]}**", "", *section(textwrap.dedent("\n".join(taken(lines, r" {2,}|$")))), ""]
        elif first.startswith("    "):
            block = textwrap.dedent("\n".join(taken(lines, r" {4}|$"))).strip("\n")
            done += ["", "```text", *block.splitlines(), "```", ""]
        elif re.match(r"\S+.* {3,}\S", first):  # two columns
            done += ["", "```text", *taken(lines, r"\S+.* {2,}\S| {4}"), "```", ""]
        elif LISTED.match(first):
            done += ["", *map(escaped, taken(lines, r"(\d+\.|-) +\S| {2,3}\S")), ""]
        else:
            done.append(escaped(lines.pop(0)))
    return "\n".join(done)


def taken(lines: list[str], pattern: str) -> list[str]:
    """Take the lines off the front that begin with a pattern."""
    count = next((number for number, line in enumerate(lines) if not re.match(pattern, line)), len(lines))
    block, lines[:count] = lines[:count], []
    return block


def section(text: str) -> list[str]:
    """What stands below "Args:" and the like: a list of names, or text."""
    if not ITEM.match(text):
        return markdown(text).splitlines()
    done = []
    for line in text.splitlines():
        found = ITEM.fullmatch(line)
        done.append(f"- `{found[1]}`: {escaped(found[2])}" if found else f"  {escaped(line.strip())}")
    return done


def escaped(line: str) -> str:
    """A line whose characters mean themselves, but for `code`."""
    parts = re.split(r"(`[^`]*`)", line)
    plain = [re.sub(r"([*\[\]|~])", r"\\\1", part.replace("&", "&amp;").replace("<", "&lt;")) for part in parts[::2]]
    parts[::2] = plain
    return "".join(parts)


def comments(source: str) -> dict[str, str]:
    """The fields of a class, or the constants of a module, and the comments at the ends of their lines."""
    tokens = tokenize.generate_tokens(io.StringIO(textwrap.dedent(source)).readline)
    said = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    tree = ast.parse(textwrap.dedent(source))
    body = tree.body[0].body if len(tree.body) == 1 and isinstance(tree.body[0], ast.ClassDef) else tree.body
    found = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        comment = said.get(node.lineno) or said.get(node.end_lineno)
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and comment and not MARKER.match(comment):
            found[targets[0].id] = comment.lstrip("# ")
    return found


def with_comments(obj: object) -> doc_ast.AstInfo:
    """What pdoc reads off the source of a module or class, comments at the ends of lines included."""
    info = walk_tree(obj)
    info.var_docstrings |= {name: text for name, text in comments(doc_ast.get_source(obj)).items()}
    return info


walk_tree, doc_ast.walk_tree = doc_ast.walk_tree, with_comments


def resolve_annotations(module: ModuleType) -> None:
    """Import what a module imports for type checkers alone, and evaluate the fields of its classes where they stand.

    pdoc would look up those that a class inherits from another module in the wrong one.
    """
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), vars(module))
    for each in vars(module).values():
        if inspect.isclass(each) and each.__module__ == module.__name__:
            made = each.__new__ if hasattr(each, "_fields") else each.__init__ if is_dataclass(each) else None
            if made:
                made.__annotations__.update(typing.get_type_hints(each, include_extras=True))


def build(out: Path) -> None:
    """Write the pages of all rooms. Raises whatever importing one of their modules raises."""
    for room in map(importlib.import_module, ROOMS):
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ROOMS and hasattr(module, "__path__"):  # every module has a page of its own, so a
            vars(module).pop("__all__", None)  # package's has what it defines
        if name.split(".")[0] in ROOMS:
            resolve_annotations(module)
    pdoc.render.configure(footer_text="Saccade", template_directory=ROOT / "docs")
    pdoc.render.env.filters["to_markdown"] = markdown
    pdoc.pdoc(*ROOMS, r"!.*\.__main__", r"!runs\.wandb_process", output_directory=out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "api", help="folder of the pages")
    sys.path.insert(0, str(ROOT))
    arguments = parser.parse_args()
    build(arguments.out)
    print(f"wrote {arguments.out / 'index.html'}")
