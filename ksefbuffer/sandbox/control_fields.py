"""Reading the bodies of control requests: mistakes become ValueError or TypeError with a sentence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .instants import as_datetime, read_ticks

Body = dict[str, Any]


def text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text")
    return value


def flag(body: Body, name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false")
    return value


def number(body: Body, name: str) -> float:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number")
    return value


def count(body: Body, name: str) -> int | None:
    """A whole number, None when absent or null."""
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name} must be a whole number or null")
    return value


def moment(body: Body, name: str) -> datetime | None:
    """An ISO date-time (Polish time without an offset), None when absent or null."""
    return as_datetime(read_ticks(text(body, name))) if body.get(name) is not None else None


def texts(body: Body, name: str) -> list[str] | None:
    """A list of texts, None when absent or null."""
    value = body.get(name)
    if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise TypeError(f"{name} must be a list of texts or null")
    return value


def known(body: Body, *names: str) -> None:
    """Raises ValueError for names that mean nothing here."""
    if unknown := sorted(set(body) - set(names)):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are: {', '.join(names)}")
