"""Amounts, quantities, dates and numbers of accounts the way they are written in Poland.

What is not what it should be (a date that is none) is shown as it stands: the page hides no mistake of the invoice.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from ksefbuffer.invoice.accounts import account_key, is_polish_account
from ksefbuffer.invoice.document import date_of, decimal_of

NBSP = "\u00a0"
MINUS = "\u2212"
POLAND = ZoneInfo("Europe/Warsaw")


def number(text: str, least_places: int = 0) -> str:
    """\"-1234.5\" as "−1 234,5", with at least so many places and never fewer than written but for trailing zeros."""
    value = decimal_of(text)
    return text if value is None else number_of(value, least_places)


def number_of(value: Decimal, least_places: int = 0) -> str:
    """The same for a number."""
    whole, _, places = f"{abs(value):f}".partition(".")
    places = places.rstrip("0").ljust(least_places, "0")
    grouped = f"{int(whole):,}".replace(",", NBSP)
    sign = MINUS if value < 0 else ""
    return f"{sign}{grouped},{places}" if places else f"{sign}{grouped}"


def amount(text: str, currency: str = "") -> str:
    """An amount with two places or more, and its currency when given: "1 234,50 PLN"; "" stays ""."""
    shown = number(text, 2)
    return f"{shown}{NBSP}{currency}" if shown and currency else shown


def amount_of(value: Decimal | None, currency: str = "") -> str:
    """The same for a number; "" for none."""
    if value is None:
        return ""
    return number_of(value, 2) + (NBSP + currency if currency else "")


def day(text: str) -> str:
    """\"2026-02-01\" as "01.02.2026"; anything else as it is."""
    found = date_of(text)
    return day_of(found) if found is not None else text


def day_of(value: date) -> str:
    """A date as "01.02.2026"."""
    return f"{value:%d.%m.%Y}"


def moment(text: str) -> str:
    """An xsd:dateTime in Polish time, "28.04.2026 08:00"; one without a zone as its own; anything else as it is."""
    try:
        found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        return text
    return moment_of(found) if "T" in text else text


def moment_of(value: datetime) -> str:
    """A moment as "28.04.2026 08:00", in Polish time when its zone is known."""
    local = value.astimezone(POLAND) if value.tzinfo is not None else value
    return f"{local:%d.%m.%Y %H:%M}"


def account(text: str) -> str:
    """A Polish account as "12 3456 7890 …", another IBAN in fours; what is neither as it is."""
    key = account_key(text)
    if is_polish_account(key):
        rest = key[2:]
        return " ".join([key[:2], *(rest[at : at + 4] for at in range(0, 24, 4))])
    if 15 <= len(key) <= 34 and key.isalnum() and key[:2].isalpha() and key[2:4].isdecimal():
        return " ".join(key[at : at + 4] for at in range(0, len(key), 4))
    return text


def percent(text: str) -> str:
    """\"23\" as "23%"; what is no number as it is."""
    return f"{number(text)}%" if decimal_of(text) is not None else text


def years_day(text: str) -> date | None:
    """The date in front of ``text`` (a date or a dateTime), for a document's own date."""
    return date_of(text[:10])
