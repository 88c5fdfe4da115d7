"""What comes to an end: terms of invoices issued offline, certificates, tokens. Each step nearer is told once. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from ksefbuffer.notify.shapes import CERTIFICATE_EXPIRY, DEADLINE, Ending, Notice, Term, Weight
from ksefbuffer.notify.wording import counted, form
from ksefbuffer.offline.calendar import polish_day, told
from ksefbuffer.offline.deadlines import Deadline, Urgency

# Before these many Polish days; a level each, then two more.
CERTIFICATE_DAYS = (30, 14, 7, 3, 1)
EXPIRED, REVOKED = len(CERTIFICATE_DAYS) + 1, len(CERTIFICATE_DAYS) + 2
LOOKED_AHEAD = timedelta(hours=24)

_HISTORY = timedelta(days=1)


def terms(found: Sequence[Term], now: datetime, *, first_look: bool) -> list[Notice]:
    """Terms that press: one notice for each level of urgency and each day on which terms end."""
    days: dict[date, list[Term]] = defaultdict(list)
    for term in found:
        days[polish_day(term.ends)].append(term)
    notices = []
    for day, of_day in sorted(days.items()):
        earliest = min(term.ends for term in of_day)
        end = Deadline(earliest, "")
        urgency = end.urgency(now)
        if urgency is Urgency.NONE:
            continue
        count, refused = sum(term.count for term in of_day), sum(term.refused for term in of_day)
        notices.append(
            Notice(
                key=f"{DEADLINE}:{day.isoformat()}",
                level=int(urgency),
                event=DEADLINE,
                weight="failure" if urgency is Urgency.OVERDUE else "warning",
                subject=_term_subject(urgency, count),
                body=_term_body(urgency, earliest, end.left(now), count, refused),
                silent=first_look and earliest < now - _HISTORY,
            )
        )
    return notices


def _term_subject(urgency: Urgency, count: int) -> str:
    invoices = counted(count, "faktura offline", "faktury offline", "faktur offline")
    if urgency is Urgency.OVERDUE:
        return f"po terminie: {invoices} bez numeru KSeF"
    hours = 4 if urgency is Urgency.WITHIN_4_H else 24
    return f"termin za mniej niż {hours} h: {invoices} bez numeru KSeF"


def _term_body(urgency: Urgency, earliest: datetime, left: str, count: int, refused: int) -> str:
    has = form(count, "nie ma", "nie mają", "nie ma")
    lines = [
        f"{counted(count, 'faktura wystawiona', 'faktury wystawione', 'faktur wystawionych')} offline {has} jeszcze "
        f"numeru KSeF. Najbliższy termin: {told(earliest)} ({left})."
    ]
    if refused:
        lines.append(
            f"Z tego KSeF odrzucił: {refused}. Bufor nie wyśle ich sam: popraw je i podaj ponownie jako korektę "
            "techniczną (corrects_sha256)."
        )
    if refused < count:
        lines.append(
            "Pozostałe bufor wysyła sam, od najbliższego terminu."
            if refused
            else "Bufor wysyła je sam, od najbliższego terminu."
        )
    if urgency is Urgency.OVERDUE:
        lines.append("KSeF przyjmuje także faktury po terminie: nie wstrzymuj wysyłki.")
    lines.append("Co zrobić: sprawdź, co zatrzymuje wysyłkę (ksefbuffer status).")
    return "\n".join(lines)


def certificates(found: Sequence[Ending], now: datetime, *, first_look: bool) -> list[Notice]:
    """Certificates and tokens near their end, past it, or revoked."""
    notices = []
    for one in found:
        level = _level(one, now)
        if level == 0:
            continue
        notices.append(
            Notice(
                key=f"{CERTIFICATE_EXPIRY}:{one.key}",
                level=level,
                event=CERTIFICATE_EXPIRY,
                weight=_weight(level),
                subject=_ending_subject(one, level, now),
                body=_ending_body(one, level),
                silent=first_look and one.revoked_at is not None and one.revoked_at < now - _HISTORY,
            )
        )
    return notices


def _level(one: Ending, now: datetime) -> int:
    if one.revoked_at is not None:
        return REVOKED
    if now > one.ends_at:
        return EXPIRED
    left = days_left(one.ends_at, now)
    return sum(left <= days for days in CERTIFICATE_DAYS)


def days_left(ends_at: datetime, now: datetime) -> int:
    """Polish calendar days until the end."""
    return (polish_day(ends_at) - polish_day(now)).days


def _weight(level: int) -> Weight:
    if level >= EXPIRED:
        return "failure"
    return "warning" if CERTIFICATE_DAYS[level - 1] <= 7 else "info"


def _ending_subject(one: Ending, level: int, now: datetime) -> str:
    if level == REVOKED:
        return f"{one.name}: odwołany"
    if level == EXPIRED:
        return f"{one.name}: wygasł"
    left = days_left(one.ends_at, now)
    when = {0: "dziś", 1: "jutro"}.get(left, f"za {left} dni")
    return f"{one.name}: wygasa {when}"


def _ending_body(one: Ending, level: int) -> str:
    if level == REVOKED:
        assert one.revoked_at is not None
        happened = f"KSeF nie przyjmuje go od {told(one.revoked_at)}, a innego bufor nie ma."
    elif level == EXPIRED:
        happened = f"Był ważny do {told(one.ends_at)}."
    else:
        happened = f"Jest ważny do {told(one.ends_at)}."
        if one.renews:
            happened += " Bufor odnawia go sam; jeśli ten komunikat się powtórzy, odnowienie się nie udaje."
    return f"{happened}\nCo zrobić: {one.action}"
