"""Passwords: what is allowed, and their argon2id hashes. At most two are computed at once (32 MiB and 0.1 s each)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ksefbuffer.errors import BufferFault, NotAllowedNow

SHORTEST = 12
LONGEST = 256
_AT_ONCE = 2
_PATIENCE_S = 10.0

# Above OWASP's least (19 MiB, 2 passes), and small beside the process' own memory; one lane, as two cores are usual.
_hasher = PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)
_turns = threading.BoundedSemaphore(_AT_ONCE)


class Busy(BufferFault):
    """Too many sign in at this moment."""


def check_rules(password: str, login: str) -> None:
    """Raises NotAllowedNow for a password that is too short, too long, or holds nothing but the login."""
    if len(password) < SHORTEST:
        raise NotAllowedNow(f"Hasło musi mieć co najmniej {SHORTEST} znaków.", action="Najlepsze jest kilka słów.")
    if len(password) > LONGEST:
        raise NotAllowedNow(f"Hasło może mieć najwyżej {LONGEST} znaków.")
    rest = password.lower().replace(login.lower(), "") if login else password
    if len(set(password)) < 4 or len(rest) < 4:
        raise NotAllowedNow(
            "Hasło nie może być loginem ani kilkoma powtórzonymi znakami.", action="Najlepsze jest kilka słów."
        )


def hashed(password: str) -> str:
    """Raises Busy."""
    with _turn():
        return _hasher.hash(password)


def verified(password: str, kept: str | None) -> bool:
    """Whether ``password`` is the one of this hash. Without a hash it takes as long and says no. Raises Busy."""
    with _turn():
        try:
            return _hasher.verify(kept or _nobodys(), password[: LONGEST * 4]) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def outdated(kept: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(kept)


@cache
def _nobodys() -> str:
    return _hasher.hash("nobody has this password")


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=_PATIENCE_S):
        raise Busy("Zbyt wiele osób loguje się w tej chwili.", action="Spróbuj ponownie za kilka sekund.")
    try:
        yield
    finally:
        _turns.release()
