"""Names of folders that are safe on every file system, and never lead out of the incoming folder."""

from __future__ import annotations

import re
import unicodedata

MAX_COMPONENT_BYTES = 120
MAX_DEPTH = 8

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f/\\:*?\"<>|\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


def safe_component(text: str) -> str:
    """``text`` as one folder name: nothing that a POSIX or Windows share refuses; "" when nothing is left."""
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text))
    name = " ".join(name.split())
    while len(name.encode("utf-8", errors="replace")) > MAX_COMPONENT_BYTES:
        name = name[:-1]
    name = name.strip(" .")
    if not _RESERVED.fullmatch(name):
        return name
    # Windows takes the name before the first dot for a device, whatever follows.
    stem, dot, rest = name.partition(".")
    return f"{stem}_{dot}{rest}"


def folder_fault(path: str) -> str:
    """Why ``path`` (components joined by ``/``) is no folder name, in Polish; "" when it is one."""
    components = path.split("/")
    if not path or len(components) > MAX_DEPTH:
        return f"ścieżka katalogu jest pusta albo ma ponad {MAX_DEPTH} poziomów"
    for component in components:
        if not component or component != safe_component(component):
            return f"„{component}” nie nadaje się na nazwę katalogu"
    return ""
