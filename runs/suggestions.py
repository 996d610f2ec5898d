"""Suggestions for unknown names in error messages: near matches, or all known names."""

import difflib
from collections.abc import Iterable


def near_matches(word: str, known: Iterable[str], count: int = 2) -> list[str]:
    """The known names, at most `count`, that are like the word in any case, the likest first."""
    lower = {name.lower(): name for name in known}
    return [lower[name] for name in difflib.get_close_matches(word.lower(), lower, n=count, cutoff=0.5)]


def did_you_mean(word: str, known: Iterable[str], count: int = 2) -> str:
    """ "did you mean 'a' or 'b'?", or "" where no known name is like the word."""
    found = near_matches(word, known, count)
    return f"did you mean {' or '.join(map(repr, found))}?" if found else ""


def one_of(word: str, known: Iterable[str], otherwise: str = "there are") -> str:
    """ "did you mean 'a' or 'b'?", or "there are a, b, c" where no known name is like the word."""
    known = list(known)
    return did_you_mean(word, known) or f"{otherwise} {', '.join(known)}"
