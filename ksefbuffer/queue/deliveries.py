"""Arrivals (how a document came to us) and the outbox of answers to them.

An answer is made from the document as it stands when it is delivered, so one row an arrival is enough: ``wanted``
counts the facts to tell, ``told`` those already told. At least once, to idempotent places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, insert, literal, select, update

from ksefbuffer.queue import webhooks
from ksefbuffer.queue.models import UtcTime, arrivals, deliveries, documents
from ksefbuffer.queue.states import State


@dataclass(frozen=True)
class Arrival:
    """``place``: file name or row key as it came; ``answer_name``: the stem of the answer's files, or the row key."""

    id: int
    document: int
    connector: str
    place: str
    answer_name: str
    reference: str | None
    callback_url: str | None
    arrived_at: datetime


@dataclass(frozen=True)
class Due:
    """A delivery to make now; ``wanted`` is what ``told`` becomes when it succeeds."""

    id: int
    arrival: Arrival
    wanted: int
    attempts: int


_arrival = select(
    arrivals.c.id,
    arrivals.c.document,
    arrivals.c.connector,
    arrivals.c.place,
    arrivals.c.answer_name,
    arrivals.c.reference,
    arrivals.c.callback_url,
    arrivals.c.arrived_at,
)
# A document that rests has told everything it will ever tell by itself.
_AT_REST = (State.SENT, State.ERROR, State.CANCELLED)


def arrive(
    tx: Connection,
    document: int,
    *,
    connector: str,
    place: str,
    answer_name: str,
    reference: str | None,
    callback_url: str | None,
    at: datetime,
    urgent: bool = False,
) -> Arrival:
    """Records an arrival and makes its answer due.

    The same document under the same name again is the same arrival. A name held by another document goes to the
    newcomer once that document rests (the old one is told again, as ``NAME.N``); until then the newcomer is answered
    as ``NAME.N``, so that no answer is overwritten by another document's. A table's row holds one answer only: that of
    its newest document, at once; the connector writes no other.
    """
    mine = tx.execute(
        _arrival.where(arrivals.c.connector == connector, arrivals.c.place == place, arrivals.c.document == document)
        .order_by(arrivals.c.id.desc())
        .limit(1)
    ).first()
    if mine is not None:
        arrival = Arrival(**mine._mapping)
        name = arrival.answer_name
        if name != answer_name:
            name = _claim_name(tx, connector, answer_name, at=at, fallback=name)
        tx.execute(
            update(arrivals)
            .where(arrivals.c.id == arrival.id)
            .values(reference=reference, callback_url=callback_url, answer_name=name)
        )
        _want(tx, arrival.id, at)
        webhooks.arrived(tx, document, arrival.id, callback_url, at=at)
        return replace(arrival, reference=reference, callback_url=callback_url, answer_name=name)
    values: dict[str, Any] = {
        "document": document,
        "connector": connector,
        "place": place,
        "answer_name": _claim_name(tx, connector, answer_name, at=at),
        "reference": reference,
        "callback_url": callback_url,
        "arrived_at": at,
    }
    row_id = tx.execute(insert(arrivals).values(**values).returning(arrivals.c.id)).scalar_one()
    tx.execute(insert(deliveries).values(arrival=row_id, wanted=1, told=0, due_at=at, urgent=urgent))
    webhooks.arrived(tx, document, row_id, callback_url, at=at)
    return Arrival(id=row_id, **values)


@dataclass(frozen=True)
class NewArrival:
    """A first arrival under a free name."""

    document: int
    connector: str
    place: str
    answer_name: str
    reference: str | None
    callback_url: str | None
    urgent: bool = False


def names_taken(tx: Connection, connector: str, answer_names: Sequence[str]) -> set[str]:
    """Which of these names some arrival holds."""
    query = select(arrivals.c.answer_name).where(
        arrivals.c.connector == connector, arrivals.c.answer_name.in_(answer_names)
    )
    return {str(name) for name in tx.execute(query).scalars()}


def arrive_all(tx: Connection, new: Sequence[NewArrival], *, at: datetime) -> None:
    """Records first arrivals of new documents under names nobody holds, and makes their answers due."""
    urgent = {one.document: one.urgent for one in new}
    rows = [{key: value for key, value in asdict(one).items() if key != "urgent"} | {"arrived_at": at} for one in new]
    tx.execute(insert(arrivals), rows)
    came = select(arrivals.c.id, arrivals.c.document, arrivals.c.callback_url)
    found = tx.execute(came.where(arrivals.c.document.in_(list(urgent)))).all()
    tx.execute(
        insert(deliveries),
        [{"arrival": row.id, "wanted": 1, "told": 0, "due_at": at, "urgent": urgent[row.document]} for row in found],
    )
    webhooks.arrived_all(tx, [(row.document, row.id, row.callback_url) for row in found], at=at)


def _claim_name(tx: Connection, connector: str, answer_name: str, *, at: datetime, fallback: str | None = None) -> str:
    """``answer_name`` itself when it is free or its holder rests; else ``fallback`` or the next free ``NAME.N``."""
    holder = tx.execute(
        select(arrivals.c.id, documents.c.state, documents.c.upo_due_at)
        .join(documents, arrivals.c.document == documents.c.id)
        .where(arrivals.c.connector == connector, arrivals.c.answer_name == answer_name)
    ).first()
    if holder is None:
        return answer_name
    spare = _free_name(tx, connector, answer_name)
    rests = State(holder.state) in _AT_REST and holder.upo_due_at is None and not _untold(tx, holder.id)
    if rests or connector == "table":
        tx.execute(update(arrivals).where(arrivals.c.id == holder.id).values(answer_name=spare))
        _want(tx, holder.id, at)
        return answer_name
    return fallback or spare


def _untold(tx: Connection, arrival: int) -> bool:
    return bool(
        tx.execute(
            select(func.count()).where(deliveries.c.arrival == arrival, deliveries.c.told < deliveries.c.wanted)
        ).scalar_one()
    )


def _free_name(tx: Connection, connector: str, answer_name: str) -> str:
    number = 2
    while tx.execute(
        select(arrivals.c.id).where(
            arrivals.c.connector == connector, arrivals.c.answer_name == f"{answer_name}.{number}"
        )
    ).first():
        number += 1
    return f"{answer_name}.{number}"


def _no_later(at: datetime) -> ColumnElement[datetime]:
    # What is due already keeps its place: one more fact to tell must not send it to the end of the queue.
    already = (deliveries.c.told < deliveries.c.wanted) & (deliveries.c.due_at < at)
    return case((already, deliveries.c.due_at), else_=literal(at, UtcTime))


def want(tx: Connection, document: int, at: datetime) -> None:
    """Makes the answers of all of a document's arrivals due."""
    tx.execute(
        update(deliveries)
        .where(deliveries.c.arrival.in_(select(arrivals.c.id).where(arrivals.c.document == document)))
        .values(wanted=deliveries.c.wanted + 1, due_at=_no_later(at))
    )
    webhooks.want(tx, document, at)


def want_all(tx: Connection, chosen: Select[int], at: datetime) -> None:
    """Makes the answers of many documents due; ``chosen`` selects their keys."""
    tx.execute(
        update(deliveries)
        .where(deliveries.c.arrival.in_(select(arrivals.c.id).where(arrivals.c.document.in_(chosen))))
        .values(wanted=deliveries.c.wanted + 1, due_at=_no_later(at))
    )
    webhooks.want_all(tx, chosen, at)


def want_for_queued(tx: Connection, at: datetime) -> None:
    """Makes the answers of all queued documents due: something now holds all of them back."""
    queued = (
        select(arrivals.c.id)
        .join(documents, arrivals.c.document == documents.c.id)
        .where(documents.c.state == str(State.QUEUED))
    )
    tx.execute(
        update(deliveries)
        .where(deliveries.c.arrival.in_(queued))
        .values(wanted=deliveries.c.wanted + 1, due_at=_no_later(at))
    )
    webhooks.want_for_queued(tx, at)


def _want(tx: Connection, arrival: int, at: datetime) -> None:
    tx.execute(
        update(deliveries)
        .where(deliveries.c.arrival == arrival)
        .values(wanted=deliveries.c.wanted + 1, due_at=_no_later(at))
    )


def arrival(tx: Connection, row_id: int) -> Arrival:
    """One way a document came, by its key."""
    return Arrival(**tx.execute(_arrival.where(arrivals.c.id == row_id)).one()._mapping)


def arrived_as(tx: Connection, document: int, connector: str, place: str) -> Arrival | None:
    """The way a document came from this place, the last one if there were several."""
    query = _arrival.where(
        arrivals.c.document == document, arrivals.c.connector == connector, arrivals.c.place == place
    )
    row = tx.execute(query.order_by(arrivals.c.id.desc()).limit(1)).first()
    return Arrival(**row._mapping) if row else None


def first_arrival(tx: Connection, document: int) -> Arrival | None:
    """How a document first came."""
    row = tx.execute(_arrival.where(arrivals.c.document == document).order_by(arrivals.c.id).limit(1)).first()
    return Arrival(**row._mapping) if row else None


def first_arrivals(tx: Connection, chosen: Sequence[int]) -> dict[int, Arrival]:
    """How each of these documents first came, by its key."""
    first = select(func.min(arrivals.c.id)).where(arrivals.c.document.in_(chosen)).group_by(arrivals.c.document)
    found = [Arrival(**row._mapping) for row in tx.execute(_arrival.where(arrivals.c.id.in_(first)))]
    return {arrival.document: arrival for arrival in found}


def due(tx: Connection, now: datetime, connector: str | None = None) -> Due | None:
    """The delivery that has waited longest, of all that may be made now; urgent ones first."""
    query = (
        select(
            deliveries.c.id.label("delivery"), deliveries.c.wanted, deliveries.c.attempts, *_arrival.selected_columns
        )
        .join(arrivals, deliveries.c.arrival == arrivals.c.id)
        .where(deliveries.c.told < deliveries.c.wanted, deliveries.c.due_at <= now)
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(1)
    )
    if connector is not None:
        query = query.where(arrivals.c.connector == connector)
    # Two questions in the order of the index; one for both would sort all that is due, again for each delivery.
    for urgent in (True, False):
        row = tx.execute(query.where(deliveries.c.urgent.is_(urgent))).first()
        if row is not None:
            return _due(row)
    return None


def _due(row: Any) -> Due:
    values = dict(row._mapping)
    delivery, wanted, attempts = values.pop("delivery"), values.pop("wanted"), values.pop("attempts")
    return Due(id=delivery, arrival=Arrival(**values), wanted=wanted, attempts=attempts)


def told(tx: Connection, delivery: Due) -> None:
    """The facts up to ``wanted`` were told; a fact that came meanwhile stays due."""
    tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery.id)
        .values(told=delivery.wanted, attempts=0, last_error=None)
    )


def not_told(tx: Connection, delivery: Due, *, error: str, again_at: datetime) -> None:
    tx.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery.id)
        .values(attempts=delivery.attempts + 1, last_error=error, due_at=again_at)
    )


def next_due(tx: Connection) -> datetime | None:
    """When the next answer is to be delivered."""
    first: datetime | None = tx.execute(
        select(func.min(deliveries.c.due_at)).where(deliveries.c.told < deliveries.c.wanted)
    ).scalar_one()
    return first
