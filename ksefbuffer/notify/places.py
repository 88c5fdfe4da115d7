"""What may be shown of an address. Pure.

An Apprise address is a secret: passwords and tokens stand in it, in some kinds even where a host's name would. A place
is what is left of it: "mailto://poczta.example.pl", "tgram://…".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

# Kinds of address in which the host is one; elsewhere a token may stand there.
_NAMES_A_HOST = frozenset(
    {"json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "workflows", "smseagle", "smseagles"}
)
_HOST = re.compile(r"(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{1,63}|localhost")


def place_of(url: str) -> str:
    """An address without its secrets; of one that could be read in two ways, only the kind."""
    kind, _, rest = url.partition("://")
    kind = kind.lower() if re.fullmatch(r"[A-Za-z0-9+.-]{1,20}", kind) else "?"
    nothing = f"{kind}://…"
    if kind not in _NAMES_A_HOST or rest.count("@") > 1:
        return nothing
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        return nothing
    # An "@" behind the host tells that a sign of the password has cut the address in the wrong place.
    behind = rest.partition(host)[2] if host else rest
    if len(host) > 80 or "@" in behind or _HOST.fullmatch(host) is None:
        return nothing
    return f"{kind}://{host}"


def places_of(urls: Sequence[str]) -> dict[str, str]:
    """Addresses by place; of those that look alike the second and the further ones are numbered."""
    found: dict[str, str] = {}
    for url in urls:
        place, number = place_of(url), 1
        while (name := place if number == 1 else f"{place} ({number})") in found:
            number += 1
        found[name] = url
    return found
