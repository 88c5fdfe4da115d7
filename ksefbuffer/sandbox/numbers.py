"""Numbers that KSeF gives and checks: references, KSeF numbers, NIPs. Source: FACTS §12."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

WARSAW = ZoneInfo("Europe/Warsaw")

NIP = re.compile(r"[1-9](?:\d[1-9]|[1-9]\d)\d{7}", re.ASCII)
INTERNAL_ID = re.compile(NIP.pattern + r"-\d{5}", re.ASCII)
CHALLENGE = re.compile(r"\d{8}-CR-[A-F0-9]{10}-[A-F0-9]{10}-[A-F0-9]{2}", re.ASCII)
KSEF_NUMBER = re.compile(
    NIP.pattern + r"-20[2-9]\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])-[0-9A-F]{6}-?[0-9A-F]{6}-[0-9A-F]{2}", re.ASCII
)

_NIP_WEIGHTS = (6, 5, 7, 2, 3, 4, 5, 6, 7)


def crc8(text: str) -> str:
    """CRC-8 (polynomial 0x07, start 0, no reflection) of ASCII text, as two upper-case hex digits."""
    crc = 0
    for byte in text.encode("ascii"):
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x07) & 0xFF if crc & 0x80 else (crc << 1) & 0xFF
    return f"{crc:02X}"


def ksef_number(nip: str, at: datetime, entropy: str) -> str:
    """A KSeF number of 35 characters. ``entropy``: 12 upper-case hex digits; the date is Poland's on ``at``."""
    head = f"{nip}-{at.astimezone(WARSAW):%Y%m%d}-{entropy}"
    return f"{head}-{crc8(head)}"


def reference(kind: str, at: datetime, entropy: str) -> str:
    """A reference number of 36 characters. ``kind``: CR, AU, SO, EE, EC, EU; ``entropy``: 20 upper-case hex digits."""
    head = f"{at:%Y%m%d}-{kind}-{entropy[:10]}-{entropy[10:20]}"
    return f"{head}-{crc8(head)}"


def nip_holds(nip: str) -> bool:
    """Ten digits with the right check digit."""
    if not NIP.fullmatch(nip):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_NIP_WEIGHTS, nip, strict=False))
    return total % 11 == int(nip[9])


def internal_id_holds(value: str) -> bool:
    """``NIP-NNNNN`` whose last digit is the sum of the first 14 with weights 1,3,1,3…, modulo 10."""
    if not INTERNAL_ID.fullmatch(value):
        return False
    digits = [int(digit) for digit in value if digit.isdigit()]
    return sum(digit * (3 if index % 2 else 1) for index, digit in enumerate(digits[:14])) % 10 == digits[14]
