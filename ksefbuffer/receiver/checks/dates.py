"""Dates that do not go together (Z39, Z40, Z50). Source: FA3-FIELDS §9, art. 106i of the VAT act."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from ...invoice.document import date_of
from .case import Case, CheckFunction, Hit, days_from
from .catalogue import Severity

_ISSUED_BEFORE_DELIVERY = 60  # days
_DAYS_OF_A_MONTH = 30.44


def far_from_acceptance(case: Case) -> Iterator[Hit]:
    """Z39: a later date is a fault, an old one is a note."""
    issued, accepted = case.received.issue_date, case.accepted_on
    if issued is None or accepted is None:
        return
    days = (accepted - issued).days
    values = {"p1": str(issued), "n": str(abs(days)), "dni": "dzień" if abs(days) == 1 else "dni"}
    if days < 0:
        yield Hit("Fa/P_1", values)
    elif days > case.knowledge.late_days:
        yield Hit("Fa/P_1", values, variant="earlier", severity=Severity.I)


def far_from_delivery(case: Case) -> Iterator[Hit]:
    """Z40; of a period (rent, media, instalments) only one that begins too late or ended too long ago. Corrections
    show the original's dates."""
    issued = case.received.issue_date
    if issued is None or case.corrects:
        return
    oldest = days_from(issued, -int(_DAYS_OF_A_MONTH * case.knowledge.old_delivery_months))
    latest = days_from(issued, _ISSUED_BEFORE_DELIVERY)
    begins, ends = date_of(case.body.first("OkresFa/P_6_Od")), date_of(case.body.first("OkresFa/P_6_Do"))
    if begins is not None and begins > latest:
        yield _hit(issued, begins, "Fa/OkresFa/P_6_Od")
    elif ends is not None and ends < oldest:
        yield _hit(issued, ends, "Fa/OkresFa/P_6_Do")
    single = [(date_of(case.body.first("P_6")), "Fa/P_6")]
    single += [(date_of(text), "Fa/FaWiersz/P_6A") for text in sorted(set(case.body.values("FaWiersz/P_6A")))]
    for day, path in single:
        if day is not None and not oldest <= day <= latest:
            yield _hit(issued, day, path)
            return


def _hit(issued: date, delivered: date, path: str) -> Hit:
    return Hit(path, {"p1": str(issued), "p6": str(delivered)})


def payment_term(case: Case) -> Iterator[Hit]:
    """Z50."""
    issued = case.received.issue_date
    terms = sorted(day for text in case.body.values("Platnosc/TerminPlatnosci/Termin") if (day := date_of(text)))
    if issued is None or case.corrects or not terms or case.flag("Platnosc/Zaplacono"):
        return
    path = "Fa/Platnosc/TerminPlatnosci/Termin"
    agreed = case.supplier.payment_days if case.supplier else None
    if terms[0] < issued:
        yield Hit(path, {"termin": str(terms[0]), "opis": f"wcześniejszy niż data wystawienia ({issued})"})
    elif agreed is not None and len(terms) == 1 and (terms[0] - issued).days < agreed:
        days = f"{agreed} {'dzień' if agreed == 1 else 'dni'}"
        yield Hit(path, {"termin": str(terms[0]), "opis": f"krótszy niż uzgodniony ({days})"})


CHECKS: dict[str, CheckFunction] = {
    "Z39": far_from_acceptance,
    "Z40": far_from_delivery,
    "Z50": payment_term,
}
