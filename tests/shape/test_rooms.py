"""Rooms: each says what it is for, and the overview knows it."""

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PACKAGE = _ROOT / "platform" / "headrace"
_ROOMS = sorted(path.parent for path in _PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("room", _ROOMS, ids=lambda room: room.name)
def test_a_room_says_what_it_is_for(room: Path) -> None:
    tree = ast.parse((room / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    overview = (_ROOT / "docs" / "architecture" / "00-overview.md").read_text()
    assert f"`{room.name}`" in overview


def test_the_overview_names_no_room_that_is_gone() -> None:
    overview = (_ROOT / "docs" / "architecture" / "00-overview.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", overview, re.MULTILINE))
    assert named == {room.name for room in _ROOMS} | {"settings", "sdk"}


@pytest.mark.parametrize("room", _ROOMS, ids=lambda room: room.name)
def test_every_module_says_what_it_is_for(room: Path) -> None:
    silent = [
        path
        for path in room.rglob("*.py")
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
