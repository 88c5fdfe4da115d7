"""What each setting means, in Polish: the comments of the commented example are the one place where that is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from ksefbuffer.config import example_text

SECTION_TITLES: Mapping[str, str] = {
    "": "Bufor",
    "ksef": "KSeF",
    "auth": "Logowanie do KSeF",
    "offline": "Tryb offline",
    "database": "Baza danych",
    "inbox": "Folder wymiany",
    "table": "Wymiana przez bazę ERP",
    "sending": "Wysyłka",
    "incoming": "Faktury otrzymane",
    "web": "Strona i API",
    "notify": "Powiadomienia",
}

# A value of TOML behind it tells a key that is switched off from prose.
_KEY = re.compile(r"""(?:# )?([a-z][a-z0-9_]*) = (?:["'\[\d]|true|false)""")
_SECTION = re.compile(r"\[([a-z]+)\]")


@cache
def explanations() -> Mapping[str, str]:
    """By "section.key" ("key" before the first section). A key without a comment of its own shares the one above."""
    found: dict[str, str] = {}
    section, fresh = "", False
    comment: list[str] = []
    for line in example_text().splitlines():
        heading, key = _SECTION.fullmatch(line), _KEY.match(line)
        if heading:
            section, comment, fresh = heading[1], [], False
        elif key:
            found[f"{section}.{key[1]}" if section else key[1]] = _polish(comment)
            fresh = True
        elif line.startswith("#"):
            comment, fresh = ([] if fresh else comment), False
            comment.append(line.removeprefix("#").strip())
        elif not line.strip():
            comment = []
    return found


def _polish(comment: list[str]) -> str:
    """The Polish half: the English one comes after a slash between spaces, or at the beginning of a line."""
    text = " ".join(comment).split(" / ", 1)[0].removeprefix("…").strip()
    return text[:1].upper() + text[1:] if not text.startswith(("auto ", "sandbox ")) else text
