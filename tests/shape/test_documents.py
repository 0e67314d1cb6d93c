"""Documents that must keep up with the code: the table of settings, and links."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from headrace.settings import Settings

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")])
_ROW = re.compile(r"^\| `(HEADRACE_\w+)` \| (?:`(.*?)`)? ?\| ", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_the_settings_table_is_what_the_code_says() -> None:
    page = (_ROOT / "docs" / "operations" / "running-in-production.md").read_text()
    assert dict(_ROW.findall(page)) == dict(_settings())


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def _settings() -> Iterator[tuple[str, str]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            for inner, inner_field in type(field.default).model_fields.items():
                yield f"HEADRACE_{name}_{inner}".upper(), _shown(inner_field.default)
        else:
            yield f"HEADRACE_{name}".upper(), _shown(field.default)


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return json.dumps(default)
    return "" if default is None else str(default)
