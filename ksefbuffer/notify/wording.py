"""Polish numbers and names for notices. Pure.

Names of sellers, numbers and file names come from strangers: they are cut, and nothing in them may become a link, a
mention or a second line.
"""

from __future__ import annotations

import unicodedata

_LONGEST = 60


def counted(count: int, one: str, few: str, many: str) -> str:
    """A number with its noun: "1 faktura", "2 faktury", "5 faktur"."""
    return f"{count} {form(count, one, few, many)}"


def form(count: int, one: str, few: str, many: str) -> str:
    """The form of a noun that goes with a number."""
    if count == 1:
        return one
    return few if count % 10 in (2, 3, 4) and count % 100 not in (12, 13, 14) else many


def quoted(text: str, longest: int = _LONGEST) -> str:
    """A stranger's text, made harmless: one line, no control or invisible signs, no links or mentions, not long."""
    plain = "".join(sign if unicodedata.category(sign)[0] != "C" else " " for sign in text)
    plain = " ".join(plain.replace("://", ": ").replace("@", " (at) ").split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1].rstrip()}…"


def size(count: int) -> str:
    """Bytes for people: "0,8 GB", "150 MB"."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} GB".replace(".", ",")
    return f"{count // 10**6} MB"


def listed(lines: list[str], more: int, *forms: str) -> str:
    """Lines with dashes, and how many there are besides."""
    shown = [f"- {line}" for line in lines]
    if more > 0:
        one, few, many = forms
        shown.append(f"- i jeszcze {counted(more, one, few, many)}")
    return "\n".join(shown)
