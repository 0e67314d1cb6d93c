"""A text as the places of its words and pairs of words in a table: what the model is trained and run on."""

import itertools
import re
import zlib

PLACES = 4096  # of the table; 0 is nothing
MOST = 128  # of one text; what is longer is cut
_WORD = re.compile(r"[^\W_]+(?:'\w+)?")


def places(text: str) -> list[int]:
    """`MOST` places, the last ones 0 when the text is short."""
    words = _WORD.findall(text.lower())
    pairs = [f"{first} {second}" for first, second in itertools.pairwise(words)]
    found = [1 + zlib.crc32(each.encode()) % (PLACES - 1) for each in [*words, *pairs]]
    return (found + [0] * MOST)[:MOST]
