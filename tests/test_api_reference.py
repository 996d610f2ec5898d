"""The API reference: docstrings as Markdown, comments as documentation of fields, pages without warnings."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("pdoc")


@pytest.fixture(scope="module")
def api():
    spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "api.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pdoc.doc_ast.walk_tree", None)
        spec.loader.exec_module(module)
    return module


TEXT = """Scales x * y to [0, 1], e.g. `x * 2`.

    python -m agents.dqn --env <world>

Deviations from the paper:
1. Adam, with
   two lines.
2. No <b>.

dqn.py          deep Q-learning
rainbow/        its improvements

Args:
    x, y: (B,) float32,
        on one device.

Raises:
    ValueError: never.

Returns:
    (B,), of x * y.
"""


def test_plain_text_becomes_markdown(api):
    lines = [line for line in api.markdown(TEXT).splitlines() if line]
    assert lines == [
        r"Scales x \* y to \[0, 1\], e.g. `x * 2`.",
        *("```text", "python -m agents.dqn --env <world>", "```"),
        "Deviations from the paper:",
        *("1. Adam, with", "   two lines.", "2. No &lt;b>."),
        *("```text", "dqn.py          deep Q-learning", "rainbow/        its improvements", "```"),
        *("**Args**", "- `x, y`: (B,) float32,", "  on one device."),
        *("**Raises**", "- `ValueError`: never."),
        *("**Returns**", r"(B,), of x \* y."),
    ]


def test_comments_document_fields_and_constants(api):
    source = """
    class Config:
        steps: int = 3  # of the agent
        rate: float = (  # per second
            0.5
        )
        plain: int = 1
        table = dict()  # fmt: skip
    """
    assert api.comments(source) == {"steps": "of the agent", "rate": "per second"}
    assert api.comments("CELL = 4  # pixels\nx, y = 1, 2  # no name\n") == {"CELL": "pixels"}


@pytest.mark.slow
def test_it_builds_without_warnings(tmp_path):
    command = [sys.executable, "-W", "error::UserWarning", str(ROOT / "docs" / "api.py"), "--out", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert built.returncode == 0 and not built.stderr, built.stderr
    assert {path.stem for path in tmp_path.glob("*.html")} == {"index", "agents", "envs", "replay", "runs", "vision"}
    page = (tmp_path / "agents" / "dqn.html").read_text()
    assert "agent steps; in Atari each is four frames" in page  # a comment
    assert re.search(r"<ol>\s*<li>Adam instead of RMSProp", page)  # a numbered deviation
    assert "td_target" in (tmp_path / "search.js").read_text()
