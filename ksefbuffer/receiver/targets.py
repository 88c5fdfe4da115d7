"""A rule's target: a catalogue's path in which ``{…}`` stands for something of the invoice. Pure.

Every placeholder becomes one folder name, whatever the seller wrote into it (``store.catalogue`` comes from our own
register and may be several). A target that asks for what the invoice does not have is no target: its rule does not
match.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from .folders import MAX_DEPTH, folder_fault, safe_component
from .seen import Seen

_PLACEHOLDER = re.compile(r"\{([a-z_.]+)(?::([^{}]*))?\}")
_DATE_FORMAT = re.compile(r"(?:%[Ymdy]|[-_. ])+")
_USUAL_DATE = "%Y-%m-%d"


def _of_store(attribute: str) -> Callable[[Seen], str]:
    def value(seen: Seen) -> str:
        store = seen.store.sure
        return str(getattr(store, attribute)) if store is not None else ""

    return value


TEXTS: dict[str, Callable[[Seen], str]] = {
    "store.number": _of_store("number"),
    "store.name": _of_store("name"),
    "store.catalogue": _of_store("catalogue"),
    "seller.nip": lambda seen: seen.received.seller.nip,
    "seller.name": lambda seen: seen.received.seller.name,
    "buyer.nip": lambda seen: seen.received.buyer.nip,
    "invoice_type": lambda seen: seen.received.invoice_type,
    "currency": lambda seen: seen.received.currency,
    "kind": lambda seen: seen.kind,
    "order": lambda seen: seen.orders[0].exact if seen.orders else "",
    "delivery": lambda seen: seen.deliveries[0].exact if seen.deliveries else "",
}
DATES: dict[str, Callable[[Seen], date | None]] = {
    "issue_date": lambda seen: seen.received.issue_date,
    "delivery_date": lambda seen: seen.received.sale_date,
    "invoicing_date": lambda seen: seen.facts.invoicing_date,
}


def target_fault(target: str) -> str:
    """Why ``target`` cannot be used, in Polish; "" when it can."""
    for name, form in _PLACEHOLDER.findall(target):
        if name in DATES:
            if form and _DATE_FORMAT.fullmatch(form) is None:
                return f"format daty „{form}” może mieć tylko %Y, %m, %d, %y oraz znaki - _ . i odstęp"
        elif name not in TEXTS or form:
            known = ", ".join(f"{{{name}}}" for name in (*TEXTS, *DATES))
            return f"nieznany znacznik „{{{name}{':' + form if form else ''}}}”; znane: {known}"
    plain = _PLACEHOLDER.sub("x", target)
    if "{" in plain or "}" in plain:
        return f"niedomknięty znacznik w „{target}”"
    return folder_fault(plain)


def missing_in(target: str, seen: Seen) -> str:
    """The first placeholder for which the invoice has nothing; "" when there is none."""
    return next((match[0] for match in _PLACEHOLDER.finditer(target) if not _value(match, seen)), "")


def folder_of(target: str, seen: Seen) -> str:
    """The folder that ``target`` means for the invoice, nothing missing."""
    if "{" not in target:
        return target
    folders = (_PLACEHOLDER.sub(lambda match: _value(match, seen), part) for part in target.split("/"))
    # Once more as a whole: two harmless halves may make a harmful name.
    whole = "/".join(folder if "/" in folder else safe_component(folder) for folder in folders)
    return "/".join(whole.split("/")[:MAX_DEPTH])


def _value(match: re.Match[str], seen: Seen) -> str:
    name, form = match[1], match[2]
    if name in DATES:
        day = DATES[name](seen)
        return safe_component(day.strftime(form or _USUAL_DATE)) if day is not None else ""
    text = TEXTS[name](seen)
    return text if name == "store.catalogue" else safe_component(text)
