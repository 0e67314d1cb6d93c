"""Functions that fit a screen, files that hold one noun."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_MAX_FILE_LINES = 500
_MAX_BODY_LINES = 70
_FILES = sorted(
    path for folder in ("platform", "loadtests", "functions") for path in (_ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= _MAX_FILE_LINES
    long = {name: lines for name, lines in _bodies(ast.parse(text)) if lines > _MAX_BODY_LINES}
    assert not long


def _bodies(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each function's lines without signature and docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1
