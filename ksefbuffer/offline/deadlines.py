"""By when an invoice issued offline must be in KSeF, why, and how much time is left. Pure.

The term is the last second of a Polish working day:

============================  ====================================================================
offline24                     the next working day after the issue date (P_1)
unavailability                the next working day after its end
failure                       the 7th working day after its end
another failure is announced  the 7th working day after the end of the failure announced last
while the invoice waits
total failure, or one         nothing is sent
announced while it waits
============================  ====================================================================

In doubt the earlier term is taken: KSeF takes a late invoice, the tax office may punish it. Source: FACTS §10.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import IntEnum

from ksefbuffer.offline.calendar import WorkingDays, end_of_day, polish_day, told
from ksefbuffer.offline.modes import Event, Mode

DAYS_AFTER_FAILURE = 7

_MINUTE = timedelta(minutes=1)


class Urgency(IntEnum):
    """How loudly to speak of a deadline; each level is one more reason to tell a person, once."""

    NONE = 0
    WITHIN_24_H = 1
    WITHIN_4_H = 2
    OVERDUE = 3


@dataclass(frozen=True)
class Deadline:
    """``at`` is the last second in which the invoice may be handed to KSeF, UTC; None while ``open_ended`` (the
    failure or unavailability lasts, so the term has no end yet) and when there is no ``duty`` to send at all.
    ``why_pl`` is for people."""

    at: datetime | None
    why_pl: str
    open_ended: bool = False
    duty: bool = True

    def left(self, now: datetime) -> str:
        """The time left in Polish words: "zostały 2 dni 3 h", "po terminie o 5 min"."""
        if not self.duty:
            return "bez obowiązku wysłania"
        if self.at is None:
            return "termin jeszcze nie biegnie"
        rest = self.at - now
        if rest < timedelta(0):
            return f"po terminie o {_span(-rest, 'mniej niż minutę')}"
        return f"{_verb(rest)} {_span(rest)}"

    def urgency(self, now: datetime) -> Urgency:
        """How pressing it is at ``now``."""
        if self.at is None:
            return Urgency.NONE
        rest = self.at - now
        if rest < timedelta(0):
            return Urgency.OVERDUE
        if rest <= timedelta(hours=4):
            return Urgency.WITHIN_4_H
        return Urgency.WITHIN_24_H if rest <= timedelta(hours=24) else Urgency.NONE


def deadline(
    issue_date: date,
    mode: Mode,
    event: Event | None,
    later_events: Iterable[Event],
    calendar: WorkingDays,
    *,
    issued_at: datetime | None = None,
) -> Deadline:
    """The deadline of an invoice issued on ``issue_date`` (P_1) in ``mode``.

    event: what the mode comes from; None for offline24, or when a person declared the mode and has not ended it.
    later_events: every event that is heeded; a newer version of ``event`` among them replaces it, and those that
    cannot matter (over before the invoice was issued, announced after its term had passed, mere unavailability) are
    passed over. issued_at: when the invoice was issued, UTC; without it the end of the issue date is taken, so that a
    failure over by then does not prolong the term. An event over before the issue date gives no term of its own: the
    invoice counts as offline24.
    """
    known = sorted(later_events, key=lambda one: (one.announced, one.start))
    if event is not None and event.event_id is not None:
        # The newest version tells the end, or that the failure has grown into a total one.
        event = next((one for one in known if one.event_id == event.event_id), event)
    if mode is Mode.TOTAL or (event is not None and event.mode is Mode.TOTAL):
        return _no_duty("Awaria całkowita KSeF.")
    if event is not None and event.end is not None and polish_day(event.end) < issue_date:
        mode, event = Mode.OFFLINE24, None
    issued = issued_at if issued_at is not None else end_of_day(issue_date)
    failures = [event] if mode is Mode.FAILURE and event is not None else []
    term = _first_term(issue_date, mode, event, calendar)
    for later in known:
        over = later.end is not None and later.end <= issued
        if later == event or over or later.mode not in (Mode.FAILURE, Mode.TOTAL):
            continue
        if term.at is not None and later.announced > term.at:
            break
        if later.mode is Mode.TOTAL:
            return _no_duty(f"Zanim minął termin, ogłoszono awarię całkowitą KSeF ({told(later.announced)}).")
        failures.append(later)
        term = _later_of(term, _after_failures(failures, calendar, "Zanim minął termin, ogłoszono awarię KSeF"))
    return term


def _first_term(issue_date: date, mode: Mode, event: Event | None, calendar: WorkingDays) -> Deadline:
    if mode is Mode.OFFLINE24:
        last = calendar.next_working_day(issue_date)
        return _until(last, f"Offline24: następny dzień roboczy po dacie wystawienia {issue_date:%d.%m.%Y}.")
    if mode is Mode.FAILURE:
        return _after_failures([event] if event is not None else [], calendar, "Awaria KSeF")
    if event is None or event.end is None:
        return Deadline(None, "Niedostępność KSeF trwa: termin liczy się od jej zakończenia.", open_ended=True)
    ended = polish_day(event.end)
    return _until(
        calendar.next_working_day(ended), f"Niedostępność KSeF: następny dzień roboczy po jej końcu {ended:%d.%m.%Y}."
    )


def _after_failures(failures: list[Event], calendar: WorkingDays, what: str) -> Deadline:
    ends = [failure.end for failure in failures if failure.end is not None]
    if not ends or len(ends) < len(failures):
        return Deadline(None, f"{what}: trwa, a {DAYS_AFTER_FAILURE} dni roboczych liczy się od jej końca.", True)
    ended = polish_day(max(ends))
    last = calendar.nth_working_day(ended, DAYS_AFTER_FAILURE)
    return _until(last, f"{what}: {DAYS_AFTER_FAILURE}. dzień roboczy po jej końcu {ended:%d.%m.%Y}.")


def _until(day: date, why_pl: str) -> Deadline:
    return Deadline(end_of_day(day), why_pl)


def _no_duty(why_pl: str) -> Deadline:
    return Deadline(None, f"{why_pl} Faktury nie wysyła się do KSeF.", duty=False)


def _later_of(term: Deadline, shifted: Deadline) -> Deadline:
    """A failure never shortens a term, nor closes one that an unavailability still keeps open."""
    if term.open_ended and not shifted.open_ended:
        return term
    return term if term.at is not None and shifted.at is not None and shifted.at < term.at else shifted


def _verb(rest: timedelta) -> str:
    days, hours, minutes = _parts(rest)
    first = days or hours or minutes
    if first <= 1:
        return "został" if days else "została"
    few = first % 10 in (2, 3, 4) and first % 100 not in (12, 13, 14)
    return "zostały" if few else "zostało"


def _span(rest: timedelta, less_than_a_minute: str = "mniej niż minuta") -> str:
    days, hours, minutes = _parts(rest)
    if days:
        shown = [f"{days} {'dzień' if days == 1 else 'dni'}", f"{hours} h" if hours else ""]
    elif hours:
        shown = [f"{hours} h", f"{minutes} min" if minutes else ""]
    else:
        shown = [f"{minutes} min" if minutes else less_than_a_minute]
    return " ".join(filter(None, shown))


def _parts(rest: timedelta) -> tuple[int, int, int]:
    """Whole days, hours and minutes; rounded down, so that a person is never told of more time than there is."""
    hours, odd_minutes = divmod(rest // _MINUTE, 60)
    return hours // 24, hours % 24, odd_minutes
