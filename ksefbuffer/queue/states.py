"""The states of a document and every allowed move between them. Pure. Source: CONTRACT §1.

Who moves a document on:

- ``queued``      the sender (bind), the pre-check on a retry (refuse), a person (withdraw)
- ``processing``  reconciliation: KSeF's word decides (number, refuse, not at KSeF), or a proven failure of the send
- ``failed``      the sender, by itself, at ``next_attempt_at``
- ``error``       a person (retry, withdraw)
- ``sent``, ``cancelled``  nobody: final
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    SENT = "sent"
    ERROR = "error"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What happened to a document; one row each in the event log."""

    ACCEPTED = "accepted"  # at the door, into queued
    TURNED_AWAY = "turned_away"  # at the door, into error: the pre-check refused it
    BIND = "bind"  # handed to a KSeF session, in a commit before the request
    NUMBER = "number"  # KSeF number assigned, or found on reconciliation
    REFUSE = "refuse"  # refused for good; a person must fix it
    FAIL = "fail"  # delivery failed; tried again by itself
    NOT_AT_KSEF = "not_at_ksef"  # proven: KSeF does not have it
    RETRY = "retry"  # a person asks to try again
    WITHDRAW = "withdraw"  # a person withdraws it before KSeF had it


TRANSITIONS: dict[tuple[State | None, Event], State] = {
    (None, Event.ACCEPTED): State.QUEUED,
    (None, Event.TURNED_AWAY): State.ERROR,
    (State.QUEUED, Event.BIND): State.PROCESSING,
    (State.QUEUED, Event.REFUSE): State.ERROR,
    (State.QUEUED, Event.FAIL): State.FAILED,
    (State.QUEUED, Event.WITHDRAW): State.CANCELLED,
    (State.PROCESSING, Event.NUMBER): State.SENT,
    (State.PROCESSING, Event.REFUSE): State.ERROR,
    (State.PROCESSING, Event.FAIL): State.FAILED,
    (State.PROCESSING, Event.NOT_AT_KSEF): State.QUEUED,
    (State.FAILED, Event.BIND): State.PROCESSING,
    (State.FAILED, Event.NUMBER): State.SENT,
    (State.FAILED, Event.REFUSE): State.ERROR,
    (State.FAILED, Event.RETRY): State.QUEUED,
    (State.FAILED, Event.WITHDRAW): State.CANCELLED,
    (State.ERROR, Event.RETRY): State.QUEUED,
    (State.ERROR, Event.WITHDRAW): State.CANCELLED,
}

FINAL = frozenset({State.SENT, State.CANCELLED})
WAITING = frozenset({State.QUEUED, State.FAILED})
# A second invoice with the same seller, kind and number may not wait or go beside one in these states (FACTS §4.4).
HOLDS_NUMBER = frozenset({State.QUEUED, State.PROCESSING, State.SENT, State.FAILED})


def after(state: State | None, event: Event) -> State | None:
    """The state that ``event`` leads to, or None where CONTRACT §1 does not allow the move."""
    return TRANSITIONS.get((state, event))
