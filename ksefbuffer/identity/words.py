"""How a certificate stands, in the words of the staff. Pure; the page uses these too, so nothing here knows of keys."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

CONFIGURING = "w trakcie konfiguracji"
WORKING = "połączenie aktywne"
EXPIRED = "wygasł"
REVOKED = "odwołany"
REPLACED = "zastąpiony"
REJECTED = "wniosek odrzucony"

# Regulation Dz.U. 2025 poz. 1815 par. 13(1)(1).
TOKENS_END = date(2026, 12, 31)
_POLAND = ZoneInfo("Europe/Warsaw")
WARNED_BEFORE = timedelta(days=30)


def status_words(state: str, valid_from: datetime | None, valid_to: datetime | None, now: datetime) -> str:
    """A certificate's status as the staff know it. ``state`` is a row's; the end of an active one counts."""
    fixed = {"pending": CONFIGURING, "revoked": REVOKED, "replaced": REPLACED, "rejected": REJECTED}.get(state)
    if fixed is not None:
        return fixed
    if valid_to is not None and now > valid_to:
        return EXPIRED
    if valid_from is not None and now < valid_from:
        return CONFIGURING
    if valid_to is not None and valid_to - now <= WARNED_BEFORE:
        return f"wygasa {_in_days(days_between(now, valid_to))}"
    return WORKING


def days_between(now: datetime, then: datetime) -> int:
    """Calendar days in Poland from ``now`` until ``then``."""
    return (then.astimezone(_POLAND).date() - now.astimezone(_POLAND).date()).days


def tokens_end(now: datetime) -> str:
    """How long KSeF tokens still work and what to do instead, in Polish."""
    left = (TOKENS_END - now.astimezone(_POLAND).date()).days
    way_out = (
        "Przejdź na certyfikat: zaloguj się podpisem (ksefbuffer cert auth-request), uzyskaj certyfikaty "
        '(ksefbuffer cert enroll) i ustaw auth.method = "certificate".'
    )
    if left < 0:
        return f"Tokeny KSeF działały do 31 grudnia 2026 r. {way_out}"
    return f"Tokeny KSeF działają do 31 grudnia 2026 r.; ich koniec {_in_days(left)}. {way_out}"


def _in_days(days: int) -> str:
    return {0: "dziś", 1: "za 1 dzień"}.get(days, f"za {days} dni")
