"""Words of free-text headers: do they call a series chest, or name only a part without lungs? The words are the site's settings."""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

SUBSTRING_LENGTH_MIN: Final = (
    5  # a chest word this long counts anywhere ("HRCHEST"); a shorter one only where a word starts
)
WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")


def tokens(text: str) -> tuple[str, ...]:
    """Words in lower case without accents, also of CamelCase ("AThoraxRoutine": a, thorax, routine); digits part words."""
    return tuple(word.lower() for word in WORD.findall(plain(text)))


def plain(text: str) -> str:
    """Without accents and other marks."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def calls_chest(text: str, words: Sequence[str]) -> bool:
    """Does any word call this chest? Short words must begin a word, for "lung" ends many German ones (Darstellung)."""
    found = tokens(text)
    joined = " ".join(found)
    for word in (plain(w).lower() for w in words):
        if len(word) >= SUBSTRING_LENGTH_MIN and word in joined:
            return True
        if any(token.startswith(word) for token in found):
            return True
    return False


def names_other_part(text: str, words: Sequence[str]) -> str:
    """The first word that names a part without lungs ("knee", and "lspine" also written L-Spine), or ""."""
    found = tokens(text)
    whole = {*found, *(one + two for one, two in itertools.pairwise(found))}
    return next((word for word in words if plain(word).lower() in whole), "")
