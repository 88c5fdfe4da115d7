"""Whether a file handed over with ``corrects_sha256`` may be sent as a technical correction: findings K01 to K11.

A technical correction mends the file of an invoice that was issued offline and that KSeF refused, so that the QR codes
which the customer holds lead to an accepted invoice; what the invoice says stays as it was. Everything else is an
ordinary invoice or an ordinary correction (KOR), and the findings say which.
Source: FACTS §10 (technical correction), §1.5 (21166, 21167).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.invoice.findings import Finding, Severity
from ksefbuffer.offline.corrections import Difference, Differences, compare
from ksefbuffer.queue import corrections, documents
from ksefbuffer.queue.corrections import Line
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document
from ksefbuffer.queue.states import State

# KSeF's statuses that are a matter of rights and consents, not of the file (FACTS §4.3, §10).
_MATTERS_OF_RIGHTS = frozenset({"410", "415"})
_DUPLICATE = "440"
# Where the invoice's number stands, by form: the one thing that a refused duplicate cannot keep.
_NUMBERS = frozenset({"Fa/P_2", "FakturaRR/P_4C"})


@dataclass(frozen=True)
class Compared:
    """A corrected file beside the one it corrects. ``original`` is that one's hash, None while nobody knows it;
    ``differences`` is None when its bytes are not here."""

    original: str | None
    differences: Differences | None


def compared(database: Database, content: bytes, corrects_sha256: str | None) -> Compared | None:
    """What a file changes in the one it is to correct; None for a file that corrects nothing. Slow: it reads both."""
    if corrects_sha256 is None:
        return None
    with database.reading() as tx:
        line = corrections.line_of(tx, corrects_sha256)
        before = documents.content(tx, line.original.id) if line is not None else None
    if line is None:
        return Compared(None, None)
    return Compared(line.original.sha256, None if before is None else compare(before, content))


def objections(line: Line | None, found: Compared, corrects_sha256: str) -> list[Finding]:
    """What forbids the correction, most telling first; empty when it may be sent. One reason at a time for the state
    of things, since each has its own way out."""
    if line is None:
        return [_unknown(corrects_sha256)]
    state = _about_original(line, found) or _about_others(line)
    if state is not None:
        return [state]
    assert found.differences is not None
    content, _ = _business(line, found.differences)
    if content or found.differences.obstacle:
        return [_content_differs(line.original, found.differences, content)]
    return []


def columns(line: Line, found: Compared | None, warnings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that make a document a technical correction; ``warnings`` are those it has already."""
    others = [dict(warning) for warning in warnings if warning.get("code") != "K10"]
    return {**corrections.inherited(line), "warnings": [*others, _warning(line, found).as_dict()]}


def tell_original(tx: Any, line: Line, correction: Document, *, at: datetime) -> None:
    """The refused invoice's answer says from now on which document corrects it. How that one fares, its own answer
    tells."""
    finding = Finding(
        code="K11",
        message=f"Przyjęto korektę techniczną tej faktury: {_named(correction)}.",
        hint="Nie wysyłaj tej faktury ponownie. Numer KSeF albo przyczynę odmowy podaje odpowiedź na korektę.",
        source="buffer",
        details=(f"korekta: {correction.document_id}", f"SHA-256 korekty: {correction.sha256}"),
    )
    corrections.tell_refused(tx, line, finding.as_dict(), by=correction.id, at=at)


def check_retry(line: Line, document: Document) -> None:
    """A refused invoice, or an earlier correction of it, is not sent again beside a correction that waits or was
    accepted. Raises NotAllowedNow."""
    live = line.live
    if live is None or live.id == document.id:
        return
    if live.ksef_number is not None:
        raise NotAllowedNow(
            f"Dokumentu {document.document_id} nie można ponowić: zastąpiła go korekta techniczna {live.document_id}, "
            f"która ma numer KSeF {live.ksef_number}.",
            action="Nic nie trzeba robić.",
        )
    raise NotAllowedNow(
        f"Dokumentu {document.document_id} nie można ponowić: czeka jego korekta techniczna {live.document_id}.",
        action="Poczekaj na jej wynik albo wycofaj ją, jeśli nie ma jej w KSeF (ksefbuffer queue cancel).",
    )


def _warning(line: Line, found: Compared | None) -> Finding:
    original, before = line.original, line.newest_refused
    differences = found.differences if found is not None else None
    again = "" if before.id == original.id else f" Poprzednia próba: {before.document_id}."
    renumbered = ""
    if differences is not None and _business(line, differences)[1]:
        renumbered = " Zmienia się numer faktury, bo poprzedni był zajęty: przekaż nabywcy nowy."
    return Finding(
        code="K10",
        message=f"Korekta techniczna faktury wystawionej offline i odrzuconej przez KSeF: {_named(original)}.{again}"
        f"{renumbered}",
        hint="Kody QR wydane nabywcy zostają ważne: po przyjęciu korekty prowadzą do niej.",
        severity=Severity.WARN,
        source="buffer",
        details=(
            f"poprawiany dokument: {original.document_id}",
            f"SHA-256 odrzuconego pliku: {original.sha256}",
            *(differences.told() if differences is not None else ()),
        ),
    )


def _about_original(line: Line, found: Compared) -> Finding | None:
    """What the original's own fate says against a correction."""
    original, named = line.original, line.named
    if found.differences is None:
        return _finding(
            "K08",
            f"Bufor nie ma treści poprawianego pliku ({_named(original)}), bo był za duży; KSeF też go nie ma.",
            "Wyślij poprawiony plik jako nową fakturę, bez corrects_sha256.",
        )
    match original.state:
        case State.QUEUED | State.FAILED | State.PROCESSING:
            return _finding(
                "K02",
                f"Faktura {_named(original)} nie ma jeszcze wyniku z KSeF, więc nie ma czego poprawiać.",
                "Poczekaj na wynik. Jeśli KSeF ją odrzuci, wrzuć ten plik jeszcze raz; jeśli przyjmie, a treść jest "
                "błędna, wystaw fakturę korygującą.",
            )
        case State.SENT:
            return _finding(
                "K02",
                f"KSeF przyjął fakturę {_named(original)} i nadał jej numer {original.ksef_number}; korekta techniczna "
                "jej nie dotyczy.",
                "Nic nie trzeba robić. Jeśli treść jest błędna, wystaw fakturę korygującą.",
            )
        case State.CANCELLED:
            return _finding(
                "K02",
                f"Faktura {_named(original)} została wycofana, zanim przyjął ją KSeF.",
                "Wyślij poprawiony plik jako nową fakturę, bez corrects_sha256.",
            )
        case State.ERROR if not original.judged_by_ksef:
            first = (
                f" Poprawiany jest zawsze plik odrzucony przez KSeF: podaj jego skrót, {named.corrects_sha256}."
                if named.corrects_sha256
                else ""
            )
            return _finding(
                "K02",
                f"Fakturę {_named(original)} odrzuciła kontrola bufora; do KSeF nie trafiła, więc nie ma czego "
                "poprawiać.",
                first.strip() or "Wyślij poprawiony plik jako nową fakturę, bez corrects_sha256.",
            )
    if not (original.offline or original.offline_mode is not None):
        return _finding(
            "K04",
            f"Faktura {_named(original)} nie była wystawiona offline; korekta techniczna dotyczy tylko takich.",
            "Wyślij poprawiony plik zwyczajnie, bez corrects_sha256; może mieć ten sam numer faktury.",
        )
    if line.refusals - _MATTERS_OF_RIGHTS:
        return None
    if line.refusals:
        return _finding(
            "K03",
            f"KSeF odrzucił fakturę {_named(original)} z powodu braku uprawnień lub zgody "
            f"({', '.join(sorted(line.refusals))}), a nie wady pliku; korekta techniczna tego nie naprawi.",
            f"Uzupełnij uprawnienia lub zgodę w KSeF, po czym ponów tamtą fakturę: ksefbuffer queue retry "
            f"{original.document_id}.",
        )
    return _finding(
        "K09",
        f"KSeF nie przyjął faktury {_named(original)} do sprawdzenia (odrzucił samo wywołanie), więc nie zna pliku, "
        "który miałby poprawić.",
        f"Ponów tamtą fakturę: ksefbuffer queue retry {original.document_id}.",
    )


def _about_others(line: Line) -> Finding | None:
    live = line.live
    if live is None:
        return None
    if live.ksef_number is not None:
        return _finding(
            "K06",
            f"Fakturę {_named(line.original)} już poprawiono: KSeF przyjął korektę techniczną {_named(live)} i nadał "
            f"jej numer {live.ksef_number}.",
            "Nic nie trzeba robić. Jeśli treść jest błędna, wystaw fakturę korygującą.",
        )
    return _finding(
        "K07",
        f"Korekta techniczna faktury {_named(line.original)} już czeka: {_named(live)}.",
        "Poczekaj na jej wynik. Jeśli KSeF ją odrzuci, wrzuć ten plik jeszcze raz.",
    )


def _business(line: Line, differences: Differences) -> tuple[list[Difference], list[Difference]]:
    """Differences of the content: forbidden ones, and those that the refusal itself makes necessary."""
    if _DUPLICATE not in line.refusals:
        return list(differences.content), []
    forced = [one for one in differences.content if one.path in _NUMBERS]
    return [one for one in differences.content if one not in forced], forced


def _unknown(corrects_sha256: str) -> Finding:
    return _finding(
        "K01",
        f"Bufor nie zna faktury o skrócie {corrects_sha256}, którą ten plik ma poprawiać.",
        "W corrects_sha256 podaj skrót SHA-256 odrzuconego pliku: pole sha256 w odpowiedzi na tamtą fakturę.",
    )


def _content_differs(original: Document, differences: Differences, content: list[Difference]) -> Finding:
    if differences.obstacle:
        return Finding(
            code="K05",
            message=f"Tego pliku nie można uznać za korektę techniczną faktury {_named(original)}.",
            hint="Wyślij poprawny plik XML z tą samą treścią, którą dostał nabywca.",
            source="buffer",
            details=tuple(differences.told()),
        )
    return Finding(
        code="K05",
        message=f"Poprawiony plik zmienia treść faktury {_named(original)}, a korekta techniczna może zmienić tylko "
        "zapis pliku.",
        hint="Przywróć dane takie, jakie dostał nabywca, i wyślij plik ponownie. Treść zmienia się dopiero fakturą "
        "korygującą, gdy ta ma numer KSeF.",
        source="buffer",
        field=content[0].path,
        details=tuple(differences.told()),
    )


def _finding(code: str, message: str, hint: str) -> Finding:
    return Finding(code=code, message=message, hint=hint, source="buffer")


def _named(document: Document) -> str:
    return f"{document.invoice_number or 'bez numeru'} (dokument {document.document_id})"
