"""Bank account numbers (NRB), as they stand on invoices. Source: FA3-FIELDS §7."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[\s\-.]")


def account_key(text: str) -> str:
    """One spelling for one account: upper-case, without separators, and without the PL of a Polish IBAN."""
    key = _SEPARATORS.sub("", text).upper()
    return key[2:] if len(key) == 28 and key.startswith("PL") and key[2:].isdecimal() else key


def is_polish_account(key: str) -> bool:
    """Whether an ``account_key`` has the shape of a Polish account: 26 digits."""
    return len(key) == 26 and key.isascii() and key.isdecimal()


def nrb_ok(key: str) -> bool:
    """Whether an ``account_key`` of 26 digits has right check digits (ISO 13616, modulo 97)."""
    return is_polish_account(key) and int(key[2:] + "2521" + key[:2]) % 97 == 1
