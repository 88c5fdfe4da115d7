"""Numbers that identify firms, invoices and bytes. Source: FACTS §12 (identifiers), §4.4 (duplicate key)."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

_NIP = re.compile(r"[1-9](?:[0-9][1-9]|[1-9][0-9])[0-9]{7}", re.ASCII)
_NIP_WEIGHTS = (6, 5, 7, 2, 3, 4, 5, 6, 7)
_KSEF_NUMBER = re.compile(
    r"(?:[1-9](?:[0-9][1-9]|[1-9][0-9])[0-9]{7}|M[0-9]{9}|[A-Z]{3}[0-9]{7})"
    r"-(?:20[2-9][0-9]|2[1-9][0-9]{2}|[3-9][0-9]{3})(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    r"-[0-9A-F]{6}-?[0-9A-F]{6}-[0-9A-F]{2}"
)
_INTERNAL_ID = re.compile(r"([0-9]{10})-([0-9]{5})")
_XML_SPACE = re.compile(r"[ \t\r\n]+")


def is_nip_shape(text: str) -> bool:
    """Whether ``text`` has the shape that FA(3) demands of a NIP: ten raw digits, no separators, no prefix."""
    return _NIP.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def is_nip(text: str) -> bool:
    """Whether ``text`` is a NIP as FA(3) writes it (ten raw digits) with a right check digit.

    Repeated digits ("1111111111") pass, as they do at KSeF; see ``is_made_up_nip``.
    """
    if not is_nip_shape(text):
        return False
    return sum(weight * int(digit) for weight, digit in zip(_NIP_WEIGHTS, text, strict=False)) % 11 == int(text[9])


def is_made_up_nip(text: str) -> bool:
    """Whether a NIP has a right check digit, but is one that people make up: a single digit repeated, or 1234563218."""
    return is_nip(text) and (len(set(text)) == 1 or text == "1234563218")


def crc8(text: str) -> str:
    """CRC-8 (polynomial 0x07, start 0x00) of ASCII ``text`` as two upper-case hex digits."""
    register = 0
    for byte in text.encode("ascii"):
        register ^= byte
        for _ in range(8):
            register = ((register << 1) ^ 0x07) & 0xFF if register & 0x80 else register << 1
    return f"{register:02X}"


def is_ksef_number_shape(text: str) -> bool:
    """Whether ``text`` looks like a KSeF number: 35 characters, or the 36 of KSeF 1.0 (with an inner hyphen)."""
    return _KSEF_NUMBER.fullmatch(text) is not None


def ksef_number_ok(text: str) -> bool:
    """Whether ``text`` is a KSeF number of 35 characters whose last two agree with the rest.

    The 36-character numbers of KSeF 1.0 follow no checksum, so they are never "ok": ask ``is_ksef_number_shape``.
    """
    return len(text) == 35 and is_ksef_number_shape(text) and crc8(text[:32]) == text[33:]


def internal_id_ok(text: str) -> bool:
    """Whether ``text`` is an internal identifier ``NIP-NNNNN`` with a right NIP and a right last digit."""
    parts = _INTERNAL_ID.fullmatch(text)
    if parts is None or not is_nip(parts[1]):
        return False
    digits = parts[1] + parts[2]
    return sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(digits[:14])) % 10 == int(digits[14])


def collapse(text: str) -> str:
    """XSD's whitespace collapse: runs of space, tab and line ends become one space, none at the edges."""
    if "  " in text or "\n" in text or "\t" in text or "\r" in text:
        text = _XML_SPACE.sub(" ", text)
    return text.strip(" ")


def business_key(nip: str, invoice_type: str, invoice_number: str) -> str:
    """KSeF's key of duplicates, for ten calendar years: seller's NIP, RodzajFaktury and P_2 (whitespace-collapsed)."""
    return "|".join((nip.strip(), invoice_type.strip(), collapse(invoice_number)))


def sha256_hex(content: bytes) -> str:
    """SHA-256 as 64 lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_b64(content: bytes) -> str:
    """SHA-256 as KSeF writes it: Base64 of the 32 bytes, 44 characters."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")


def b64_of_hex(text: str) -> str:
    """A hash from hex to Base64. Raises ValueError when ``text`` is not hex."""
    return base64.b64encode(bytes.fromhex(text)).decode("ascii")


def hex_of_b64(text: str) -> str:
    """A hash from Base64 to lower-case hex. Raises ValueError when ``text`` is not Base64."""
    return base64.b64decode(text, validate=True).hex()
