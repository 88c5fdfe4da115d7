"""One look at the buffer: what people may have to be told of, read from the database in one view."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.notify import batched, ending
from ksefbuffer.notify.outages import MODE
from ksefbuffer.notify.shapes import (
    CERTIFICATE_EXPIRY,
    DEADLINE,
    DOCUMENT_ERROR,
    INCOMING,
    OUTAGE,
    TOLD_AFTER,
    Ending,
    Memory,
    Seen,
    Trouble,
)
from ksefbuffer.offline.modes import Mode
from ksefbuffer.queue import facts, notices, overview, pauses, pulls, terms
from ksefbuffer.queue.pauses import Pause

# After a pause the next attempt may take as long as several timeouts; a pause past that is nobody's any more.
_ATTEMPTED_WITHIN = timedelta(seconds=90)
_PULLED_WITHIN = timedelta(minutes=10)
_SENDING = "ksef"
_NOTHING = timedelta(0)
_PURPOSES = {"auth": "certyfikat do logowania w KSeF", "offline": "certyfikat offline (kody QR faktur)"}


def see(
    tx: Any,
    memory: Memory,
    events: Collection[str],
    now: datetime,
    *,
    endings: tuple[Ending, ...],
    free_bytes: int | None,
    table: bool,
    pulling: bool,
) -> Seen:
    """What there is to know of the events that are told of. ``tx``: a reading transaction."""
    since = now - batched.NEWS_FOR
    watched = memory.watched & set(events)
    # The crowd is counted only by a look that may tell: it may be many thousands.
    refusals, arrived = None, None
    if DOCUMENT_ERROR in watched:
        first = notices.refused_since(tx, memory.error_mark, since)
        if first is None or batched.ripe(first, memory.error_told_at, now):
            refusals = notices.refusals(tx, memory.error_mark, now, since=since)
    if INCOMING in watched:
        first = notices.arrived_since(tx, memory.incoming_mark)
        if first is not None and batched.ripe(first, memory.incoming_told_at, now):
            arrived = notices.arrived(tx, memory.incoming_mark, since=since)
    return Seen(
        event_mark=notices.event_mark(tx),
        incoming_mark=notices.incoming_mark(tx),
        refusals=refusals,
        arrived=arrived,
        terms=tuple(notices.terms_before(tx, now + ending.LOOKED_AHEAD)) if DEADLINE in events else (),
        endings=(*endings, *_kept_certificates(tx)) if CERTIFICATE_EXPIRY in events else (),
        troubles=tuple(_troubles(tx, now, table=table, pulling=pulling)) if OUTAGE in events else (),
        free_bytes=free_bytes,
    )


def _kept_certificates(tx: Any) -> Iterator[Ending]:
    for one in notices.certificates(tx):
        option = " --purpose offline" if one.purpose == "offline" else ""
        by_hand = f"ksefbuffer cert enroll{option}, a gotowy wgraj: ksefbuffer cert import."
        yield Ending(
            key=f"{one.purpose}:{one.fingerprint}",
            name=_PURPOSES[one.purpose],
            ends_at=one.ends_at,
            renews=one.source == "enrolment" and one.revoked_at is None,
            revoked_at=one.revoked_at,
            action=f"sprawdź ksefbuffer cert status; nowy certyfikat: {by_hand}",
        )


def _troubles(tx: Any, now: datetime, *, table: bool, pulling: bool) -> Iterator[Trouble]:
    yield from _ksef(tx, now)
    yield from _mode(tx)
    late = notices.unjudged(tx, now - overview.STUCK_AFTER)
    if late:
        yield Trouble(
            "verdict",
            "KSeF zwleka z wyrokiem o dokumentach",
            f"Dokumentów, o których KSeF nie wydał wyroku od ponad pół godziny: {late}. Bufor pyta dalej i nie wysyła "
            "ich ponownie.",
            after=_NOTHING,
            over="KSeF wydał wyrok o wszystkich dokumentach.",
        )
    failing = notices.answers_failing(tx)
    if failing.count:
        yield Trouble(
            "answers",
            "odpowiedzi nie docierają do ERP",
            f"Odpowiedzi, których nie udało się doręczyć: {failing.count} ({failing.last_error}). Bufor próbuje dalej.",
            "sprawdź folder outbox (miejsce, prawa, udział sieciowy) albo bazę ERP.",
            over="Odpowiedzi zostały doręczone.",
        )
    if table:
        state = _fact(tx, "table")
        if state and not state["ok"]:
            yield Trouble(
                "table", "baza ERP jest niedostępna", state["message"], over="Bufor znów czyta i pisze w bazie ERP."
            )
    if pulling:
        yield from _receiving(tx, now, table=table)


def _ksef(tx: Any, now: datetime) -> Iterator[Trouble]:
    held = [one for scope in (_SENDING, pauses.INCOMING) if (one := pauses.known(tx, scope)) is not None]
    if not held:
        return
    lasting = [one for one in held if now < one.until + _ATTEMPTED_WITHIN]
    first: Pause = (lasting or held)[0]
    yield Trouble(
        "ksef",
        "bufor nie może pracować z KSeF",
        f"{_sentence(first.message)} Przyjęte faktury czekają bezpiecznie i zostaną wysłane same.",
        first.action or "sprawdź łącze i komunikaty Ministerstwa Finansów (ksefbuffer status).",
        live=bool(lasting),
        over="Bufor znów pracuje z KSeF.",
    )


def _mode(tx: Any) -> Iterator[Trouble]:
    told = _fact(tx, terms.MODE)
    if not told or not told.get("mode"):
        return
    mode = Mode(told["mode"])
    if mode is Mode.TOTAL:
        action = "wystawiaj faktury poza KSeF, bez kodów QR; nie wysyła się ich do KSeF także później."
    else:
        action = "wydawaj faktury klientom z kodami QR z odpowiedzi bufora; bufor dośle je do KSeF w terminie."
    yield Trouble(
        f"{MODE}{mode}",
        f"tryb „{mode}”",
        str(told.get("why", "")),
        action,
        # It begins with the first failed call, and most such trouble is over in a moment.
        after=TOLD_AFTER if mode is Mode.OFFLINE24 else _NOTHING,
        over="Faktury są znów wysyłane do KSeF na bieżąco.",
    )


def _receiving(tx: Any, now: datetime, *, table: bool) -> Iterator[Trouble]:
    failing = [c for c in pulls.all_cursors(tx) if c.failures and c.problem and c.due_at > now - _PULLED_WITHIN]
    if failing and pauses.known(tx, pauses.INCOMING) is None:
        yield Trouble(
            "pull",
            "pobieranie faktur się nie udaje",
            _sentence(str(failing[0].problem)) + " Bufor próbuje dalej.",
            "sprawdź ksefbuffer status.",
            over="Faktury są znów pobierane.",
        )
    filing = _fact(tx, "filing_trouble")
    if filing and filing.get("message"):
        yield Trouble(
            "files", "folder faktur otrzymanych jest niedostępny", filing["message"], over="Pliki są znów zapisywane."
        )
    handing = _fact(tx, "hand_over") if table else None
    if handing and handing.get("message"):
        yield Trouble(
            "rows",
            "faktury otrzymane nie docierają do bazy ERP",
            handing["message"],
            over="Faktury otrzymane są znów przekazywane.",
        )


def _fact(tx: Any, name: str) -> dict[str, Any] | None:
    known = facts.get(tx, name)
    return known[0] if known else None


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
