"""Certificates with their keys, and requests for certificates. Keys are sealed before they come here.

::

    pending ──activate──► active ──(another one activated)──► replaced ──revoke──► revoked
       └──reject──► rejected          └──────────────revoke─────────────────────────┘

At most one is active and one pending for each purpose: "auth" logs in, "offline" signs KOD II. Functions that change a
row return whether it was still in the state that they expect, so that two processes cannot both take a step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from ksefbuffer.queue.db import log_after_commit
from ksefbuffer.queue.models import credentials

log = logging.getLogger(__name__)

Purpose = Literal["auth", "offline"]
Source = Literal["import", "enrolment", "sandbox"]


class Issued(Protocol):
    """A certificate as it is kept: PEM; ``serial`` and ``fingerprint`` (SHA-256) in upper-case hex."""

    @property
    def certificate(self) -> str: ...
    @property
    def serial(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def valid_from(self) -> datetime: ...
    @property
    def valid_to(self) -> datetime: ...


_OF_THE_CERTIFICATE = ("certificate", "serial", "subject", "issuer", "fingerprint", "valid_from", "valid_to")


@dataclass(frozen=True)
class Kept:
    """One row. ``name`` is unique, and for a request the name that KSeF knows it by; ``request`` is PKCS#10 in DER;
    ``asked_at``: from then on KSeF may have the request; ``quota``: how many requests it still allowed just before;
    ``proven_at``: it logged in, or KSeF said that it is good;
    ``next_step_at`` is set while pending; ``note`` says in Polish how it stands or why it ended."""

    id: int
    name: str
    purpose: str
    source: str
    state: str
    sealed_key: bytes | None = field(repr=False)
    request: bytes | None = field(repr=False)
    asked_at: datetime | None
    quota: int | None
    reference: str | None
    certificate: str | None = field(repr=False)
    serial: str | None
    subject: str | None
    issuer: str | None
    fingerprint: str | None
    valid_from: datetime | None
    valid_to: datetime | None
    made_at: datetime
    proven_at: datetime | None
    ended_at: datetime | None
    next_step_at: datetime | None
    tries: int
    note: str | None


def _kept(row: Any) -> Kept:
    return Kept(**row._mapping)


def all_kept(tx: Connection) -> list[Kept]:
    """Every row, the newest first."""
    return [_kept(row) for row in tx.execute(select(credentials).order_by(credentials.c.id.desc()))]


def kept(tx: Connection, credential: int) -> Kept | None:
    row = tx.execute(select(credentials).where(credentials.c.id == credential)).first()
    return _kept(row) if row else None


def pending(tx: Connection, purpose: str) -> Kept | None:
    return _only(tx, purpose, "pending")


def active(tx: Connection, purpose: str) -> Kept | None:
    return _only(tx, purpose, "active")


def _only(tx: Connection, purpose: str, state: str) -> Kept | None:
    query = select(credentials).where(credentials.c.purpose == purpose, credentials.c.state == state)
    row = tx.execute(query).first()
    return _kept(row) if row else None


def last_rejected_at(tx: Connection, purpose: str) -> datetime | None:
    """When the last request for this purpose came to nothing."""
    query = select(func.max(credentials.c.ended_at)).where(
        credentials.c.purpose == purpose, credentials.c.state == "rejected", credentials.c.source == "enrolment"
    )
    found: datetime | None = tx.execute(query).scalar_one()
    return found


def any_sealed(tx: Connection) -> bool:
    """Whether any key is kept here, so that the machine key must not be made anew."""
    query = select(credentials.c.id).where(credentials.c.sealed_key.is_not(None)).limit(1)
    return tx.execute(query).first() is not None


def begin_request(
    tx: Connection, purpose: str, name: str, *, request: bytes, sealed_key: bytes, at: datetime
) -> Kept | None:
    """A request that KSeF was not sent yet, with its key; None when one for this purpose is pending already."""
    return _begin(tx, purpose, name, "enrolment", at, {"request": request, "sealed_key": sealed_key})


def begin_import(
    tx: Connection, purpose: str, name: str, source: Source, issued: Issued, *, sealed_key: bytes, at: datetime
) -> Kept | None:
    """A certificate that came with its key, not yet in use; None when one for this purpose is pending already."""
    return _begin(tx, purpose, name, source, at, {**_values(issued), "sealed_key": sealed_key})


def _begin(tx: Connection, purpose: str, name: str, source: str, at: datetime, values: dict[str, Any]) -> Kept | None:
    if _only(tx, purpose, "pending") is not None:
        return None
    row = {"purpose": purpose, "name": name, "source": source, "state": "pending", "made_at": at, "next_step_at": at}
    made = tx.execute(insert(credentials).values(**row, **values).returning(credentials.c.id)).scalar_one()
    log_after_commit(tx, log, "credential=%s purpose=%s source=%s begun", made, purpose, source)
    return kept(tx, int(made))


def ask(tx: Connection, credential: int, *, quota: int, at: datetime) -> bool:
    """The request is about to be sent, with so many still allowed: to be committed before the call."""
    unasked = (credentials.c.state == "pending", credentials.c.asked_at.is_(None))
    return _change(tx, credential, unasked, asked_at=at, quota=quota)


def not_asked(tx: Connection, credential: int, *, next_step_at: datetime, note: str) -> bool:
    """KSeF provably did not take the request, so it may be sent again."""
    unanswered = (credentials.c.state == "pending", credentials.c.reference.is_(None))
    values = {
        "asked_at": None,
        "quota": None,
        "next_step_at": next_step_at,
        "note": note,
        "tries": credentials.c.tries + 1,
    }
    return _change(tx, credential, unanswered, **values)


def asked(tx: Connection, credential: int, reference: str, *, next_step_at: datetime) -> bool:
    """KSeF has taken the request."""
    unanswered = (credentials.c.state == "pending", credentials.c.reference.is_(None))
    values = {"reference": reference, "next_step_at": next_step_at, "note": None, "tries": 0}
    return _change(tx, credential, unanswered, **values)


def postpone(tx: Connection, credential: int, *, next_step_at: datetime, note: str | None) -> bool:
    """The step came to nothing; the next one is due then."""
    still = (credentials.c.state == "pending",)
    return _change(tx, credential, still, next_step_at=next_step_at, note=note, tries=credentials.c.tries + 1)


def issue(tx: Connection, credential: int, issued: Issued, *, at: datetime) -> bool:
    """The certificate came; it is not in use yet."""
    unissued = (credentials.c.state == "pending", credentials.c.certificate.is_(None))
    return _change(tx, credential, unissued, **_values(issued), next_step_at=at, note=None, tries=0)


def activate(tx: Connection, credential: int, *, at: datetime) -> bool:
    """It is proven and in use from now on; the one that was in use until now is replaced, its key kept."""
    found = kept(tx, credential)
    if found is None or found.state != "pending" or found.certificate is None:
        return False
    before = _only(tx, found.purpose, "active")
    if before is not None:
        _change(tx, before.id, (credentials.c.state == "active",), state="replaced", ended_at=at)
        log_after_commit(tx, log, "credential=%s purpose=%s active→replaced", before.id, before.purpose)
    done = _change(
        tx,
        credential,
        (credentials.c.state == "pending",),
        state="active",
        proven_at=at,
        next_step_at=None,
        note=None,
        tries=0,
    )
    log_after_commit(tx, log, "credential=%s purpose=%s pending→active", credential, found.purpose)
    return done


def reject(tx: Connection, credential: int, note: str, *, at: datetime) -> bool:
    """It came to nothing; its key is forgotten."""
    log_after_commit(tx, log, "credential=%s pending→rejected", credential)
    still = (credentials.c.state == "pending",)
    return _change(tx, credential, still, state="rejected", sealed_key=None, ended_at=at, next_step_at=None, note=note)


def revoke(tx: Connection, credential: int, note: str, *, at: datetime) -> bool:
    """KSeF takes it no more; its key is forgotten."""
    log_after_commit(tx, log, "credential=%s →revoked", credential)
    usable = (credentials.c.state.in_(["active", "replaced"]),)
    return _change(tx, credential, usable, state="revoked", sealed_key=None, ended_at=at, note=note)


def reseal(tx: Connection, sealed: Iterable[tuple[int, bytes]]) -> None:
    """The same keys under another machine key, all in one commit."""
    for credential, sealed_key in sealed:
        _change(tx, credential, (credentials.c.sealed_key.is_not(None),), sealed_key=sealed_key)


def _values(issued: Issued) -> dict[str, Any]:
    return {name: getattr(issued, name) for name in _OF_THE_CERTIFICATE}


def _change(tx: Connection, credential: int, when: tuple[ColumnElement[bool], ...], **values: Any) -> bool:
    return tx.execute(update(credentials).where(credentials.c.id == credential, *when).values(**values)).rowcount == 1
