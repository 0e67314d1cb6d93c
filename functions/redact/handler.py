"""Takes e-mail addresses, card and phone numbers out of a text."""

import re
from collections import Counter

from pydantic import BaseModel

from headrace.sdk import Context

PATTERNS = {
    "email": re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"),
    "card": re.compile(r"\b\d(?:[ -]?\d){12,18}\b"),
    "phone": re.compile(r"(?<!\w)\+?\d(?:[ ./-]?\d){6,14}\b"),
}


class Input(BaseModel):
    """What a caller sends."""

    text: str
    keep: tuple[str, ...] = ()


def predict(given: Input, _: Context) -> dict[str, object]:
    """The text without them, and how many there were."""
    text, found = given.text, Counter[str]()
    for name, pattern in PATTERNS.items():
        if name not in given.keep:
            text, count = pattern.subn(f"[{name}]", text)
            found[name] = count
    return {"text": text, "found": dict(+found)}
