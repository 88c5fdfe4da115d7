"""The single door: an invoice from any side is checked, compared with what is known, and stored in one commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ksefbuffer.erp import correcting
from ksefbuffer.erp.correcting import Compared
from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.invoice.findings import Finding
from ksefbuffer.invoice.identifiers import business_key, sha256_hex
from ksefbuffer.invoice.precheck import CheckContext, Report, check
from ksefbuffer.queue import corrections, deliveries, documents, terms
from ksefbuffer.queue.corrections import Line
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.deliveries import NewArrival
from ksefbuffer.queue.documents import Clash, Document, NewDocument
from ksefbuffer.queue.states import Event, State

_TRIES = 5
_NUMBER_TAKEN = "D05"


@dataclass(frozen=True)
class Options:
    """What an ERP may say beside an invoice (CONTRACT §4). ``offline``: True, it was issued so; False, it never is to
    be; None, nothing was said. ``complaint`` says what is wrong with the options given."""

    urgent: bool = False
    offline: bool | None = None
    corrects_sha256: str | None = None
    callback_url: str | None = None
    reference: str | None = None
    complaint: str = ""


@dataclass(frozen=True)
class Source:
    """Where an invoice came from: ``connector`` is "folder", "table" or "http"; ``place`` its name there."""

    connector: str
    place: str
    answer_name: str


@dataclass(frozen=True)
class Submission:
    """``known``: these bytes were here before, and this is the first document's result."""

    document: Document
    known: bool


@dataclass(frozen=True)
class Offer:
    """One invoice at the door: its bytes, where it came from, what its ERP said beside it."""

    content: bytes
    source: Source
    options: Options


def submit(database: Database, offer: Offer, context: CheckContext, *, actor: str) -> Submission:
    """Takes one invoice; as ``submit_all``."""
    return submit_all(database, [offer], context, actor=actor)[0]


def submit_all(database: Database, offers: Sequence[Offer], context: CheckContext, *, actor: str) -> list[Submission]:
    """Takes invoices in one commit. On return they are durable, refused ones too, with their findings.

    The same bytes again are answered with the first document's result. If they were refused only by our own check and
    pass it now (the date has come, the options were mended), that counts as a person's retry.
    Raises StorageFault when nothing could be stored.
    """
    checked = _check(database, offers, context)
    try:
        return _store_checked(database, checked, at=context.now, actor=actor)
    except Clash:
        # Somebody took the same bytes or number a moment ago; what is known now decides, one by one.
        return [_store_one(database, offer, context, actor=actor) for offer in offers]


@dataclass(frozen=True)
class _Checked:
    """An offer with its hash, and the report where one was needed; of a technical correction also what it changes."""

    offer: Offer
    sha256: str
    report: Report | None
    compared: Compared | None = None

    @property
    def key(self) -> str | None:
        return business_key_of(self.report) if self.report else None


def _check(database: Database, offers: Sequence[Offer], context: CheckContext) -> list[_Checked]:
    """The slow part, outside any transaction."""
    hashes = [sha256_hex(offer.content) for offer in offers]
    with database.reading() as tx:
        known = documents.by_sha256s(tx, hashes)
    checked: list[_Checked] = []
    for offer, sha256 in zip(offers, hashes, strict=True):
        found = known.get(sha256)
        report, change = None, None
        if found is None or _only_we_refused(found):
            options = offer.options
            correction = options.corrects_sha256 is not None
            report = check(
                offer.content,
                replace(context, offline=options.offline is True, correction=correction),
            )
            change = correcting.compared(database, offer.content, options.corrects_sha256)
        checked.append(_Checked(offer, sha256, report, change))
    return checked


def _store_checked(database: Database, checked: Sequence[_Checked], *, at: datetime, actor: str) -> list[Submission]:
    with database.transaction() as tx:
        stored = _store_plain(tx, checked, at=at, actor=actor)
        return [stored.get(one.sha256) or _store_other(tx, one, at=at, actor=actor) for one in checked]


def _store_plain(tx: Any, checked: Sequence[_Checked], *, at: datetime, actor: str) -> dict[str, Submission]:
    """The ordinary case in bulk: bytes, number and name that nobody has, here or in the database. By hash."""
    if not checked:
        return {}
    connector = checked[0].offer.source.connector
    hashes = Counter(one.sha256 for one in checked)
    keys = Counter(one.key for one in checked if one.key)
    names = Counter(one.offer.source.answer_name for one in checked)
    known = documents.by_sha256s(tx, list(hashes))
    held = documents.numbers_held(tx, list(keys))
    taken = deliveries.names_taken(tx, connector, list(names))
    plain = [
        one
        for one in checked
        if one.report is not None
        and one.compared is None
        and hashes[one.sha256] == 1
        and one.sha256 not in known
        and (one.key is None or (keys[one.key] == 1 and one.key not in held))
        and names[one.offer.source.answer_name] == 1
        and one.offer.source.answer_name not in taken
    ]
    if not plain:
        return {}
    found = documents.insert_all(tx, [_new_document(one, _own_errors(one)) for one in plain], at=at, actor=actor)
    deliveries.arrive_all(
        tx,
        [
            NewArrival(
                document=document.id,
                connector=connector,
                place=one.offer.source.place,
                answer_name=one.offer.source.answer_name,
                reference=one.offer.options.reference,
                callback_url=one.offer.options.callback_url,
                urgent=one.offer.options.urgent,
            )
            for one, document in zip(plain, found, strict=True)
        ],
        at=at,
    )
    return {document.sha256: Submission(document, known=False) for document in found}


def _store_other(tx: Any, one: _Checked, *, at: datetime, actor: str) -> Submission:
    """One offer that meets something already there: the same bytes, the same number, the same name."""
    known = documents.by_sha256(tx, one.sha256)
    if known is None:
        if one.report is None:
            raise Clash("Dokument zniknął z bazy w trakcie przyjmowania.")
        line = _line(tx, one)
        errors = [*_own_errors(one), *_objections(tx, one, line, except_id=None)]
        document = documents.insert_document(tx, _new_document(one, errors), at=at, actor=actor)
        if line is not None and not errors:
            how = correcting.columns(line, one.compared, document.warnings)
            documents.change(tx, document.id, **how)
            document = documents.get(tx, document.id)
            correcting.tell_original(tx, line, document, at=at)
    elif one.report is not None and _only_we_refused(known):
        document = _reconsider(tx, known, one, at=at, actor=actor)
    else:
        document = known
    _arrive(tx, document, one.offer.source, one.offer.options, at=at)
    return Submission(document, known is not None)


def _store_one(database: Database, offer: Offer, context: CheckContext, *, actor: str) -> Submission:
    for attempt in range(_TRIES):
        try:
            return _store_checked(database, _check(database, [offer], context), at=context.now, actor=actor)[0]
        except Clash:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("the loop above returns or raises")


def submit_too_large(
    database: Database,
    sha256: str,
    size: int,
    finding: Finding,
    source: Source,
    options: Options,
    *,
    now: datetime,
    actor: str,
) -> Submission:
    """Records a file too large to be an invoice: its facts, not its bytes, which stay in the rejected folder."""
    with database.transaction() as tx:
        known = documents.by_sha256(tx, sha256)
        if known is None:
            new = NewDocument(sha256, size, None, errors=[finding.as_dict()])
            document = documents.insert_document(tx, new, at=now, actor=actor)
        else:
            document = known
        _arrive(tx, document, source, options, at=now)
        return Submission(document, known is not None)


def retry(database: Database, document_id: str, context: CheckContext, *, actor: str) -> Document:
    """A person asks to try again: from ``error`` the check is run anew, from ``failed`` it just goes sooner.

    Raises NoSuchThing, NotAllowedNow (sent, cancelled, being processed).
    """
    with database.reading() as tx:
        document = documents.find(tx, document_id)
        content = documents.content(tx, document.id)
        corrects = document.corrects_sha256
    context = replace(context, offline=document.offline, correction=corrects is not None)
    report, compared = None, None
    if content is not None and document.state is State.ERROR:
        report = check(content, context)
        compared = correcting.compared(database, content, corrects)
    with database.transaction() as tx:
        document = documents.get(tx, document.id)
        if content is None:
            raise NotAllowedNow(
                f"Dokumentu {document.document_id} nie można ponowić: plik był za duży, więc bufor nie ma jego treści.",
                action="Wystaw poprawny plik w ERP i wrzuć go do inboxu.",
            )
        if document.offline_mode == documents.NEVER_SENT and document.state is State.QUEUED:
            # Issued in a total failure, kept back since, and wanted at KSeF after all.
            terms.unstamp(tx, document.id, at=context.now)
            return documents.get(tx, document.id)
        line = corrections.line_of(tx, corrects or document.sha256, hold=True) if report is not None else None
        new = _only_we_refused(document)
        if line is not None and not new:
            correcting.check_retry(line, document)
        correction = line if corrects is not None else None
        errors: list[Finding] = []
        if report is not None:
            against = _against(tx, report, compared, corrects, correction, except_id=document.id)
            if any(finding.code == _NUMBER_TAKEN for finding in against):
                # It cannot even wait: one number, one document.
                raise NotAllowedNow(
                    f"Dokumentu {document.document_id} nie można ponowić: {against[0].message}", action=against[0].hint
                )
            errors = [*report.errors, *against]
        accepted = correction if not errors else None
        how = correcting.columns(accepted, compared, document.warnings) if accepted is not None and new else {}
        document = documents.apply(
            tx, document, Event.RETRY, at=context.now, actor=actor, note="ponowienie na życzenie", **how
        )
        if errors:
            document = documents.apply(
                tx, document, Event.REFUSE, at=context.now, actor=actor, note=_codes(errors), errors=_dicts(errors)
            )
        if accepted is not None:
            correcting.tell_original(tx, accepted, document, at=context.now)
        return document


def cancel(database: Database, document_id: str, *, now: datetime, actor: str) -> Document:
    """A person withdraws a document that KSeF does not have. Raises NoSuchThing, NotAllowedNow."""
    with database.transaction() as tx:
        document = documents.find(tx, document_id)
        return documents.apply(tx, document, Event.WITHDRAW, at=now, actor=actor, note="wycofano na życzenie")


def business_key_of(report: Report) -> str | None:
    header = report.header
    if not (header.seller_nip and header.invoice_type and header.invoice_number):
        return None
    return business_key(header.seller_nip, header.invoice_type, header.invoice_number)


def _new_document(one: _Checked, errors: Sequence[Finding]) -> NewDocument:
    assert one.report is not None
    header, options = one.report.header, one.offer.options
    return NewDocument(
        sha256=one.sha256,
        size=len(one.offer.content),
        content=one.offer.content,
        form=header.form.system_code if header.form else None,
        invoice_number=_shortened(header.invoice_number, 256),
        invoice_type=_shortened(header.invoice_type, 32),
        issue_date=header.issue_date,
        seller_nip=_shortened(header.seller_nip, 16),
        business_key=one.key,
        corrects=[{"number": c.number, "ksef_number": c.ksef_number} for c in header.corrected],
        urgent=options.urgent,
        offline=options.offline is True,
        online_only=options.offline is False,
        corrects_sha256=options.corrects_sha256,
        attachment=header.has_attachment,
        errors=_dicts(errors),
        warnings=_dicts(one.report.warnings),
    )


def _shortened(text: str | None, length: int) -> str | None:
    """What a refused document says of itself may be longer than any real value, and than its column."""
    return text if text is None or len(text) <= length else f"{text[: length - 1]}…"


def _reconsider(tx: Any, known: Document, one: _Checked, *, at: datetime, actor: str) -> Document:
    """The same bytes again, refused before by us alone: they get a second hearing."""
    assert one.report is not None
    options = one.offer.options
    line = _line(tx, one)
    errors = [*_own_errors(one), *_objections(tx, one, line, except_id=known.id)]
    if errors:
        if _dicts(errors) != known.errors:
            documents.change(tx, known.id, errors=_dicts(errors), updated_at=at)
        return documents.get(tx, known.id)
    how: dict[str, Any] = {
        "offline": options.offline is True,
        "online_only": options.offline is False,
        "corrects_sha256": None,
        "warnings": _dicts(one.report.warnings),
    }
    note = "ten sam plik ponownie, teraz poprawny"
    if line is not None:
        how |= correcting.columns(line, one.compared, how["warnings"])
        note = f"{note}; korekta techniczna dokumentu {line.original.document_id}"
    document = documents.apply(tx, known, Event.RETRY, at=at, actor=actor, note=note, urgent=options.urgent, **how)
    if line is not None:
        correcting.tell_original(tx, line, document, at=at)
    return document


def _line(tx: Any, one: _Checked) -> Line | None:
    """What a technical correction belongs to, held against others that would correct the same."""
    corrects = one.offer.options.corrects_sha256
    return None if corrects is None else corrections.line_of(tx, corrects, hold=True)


def _objections(tx: Any, one: _Checked, line: Line | None, *, except_id: int | None) -> list[Finding]:
    """What only the database knows against the offer: its number is taken, or it corrects what it may not."""
    assert one.report is not None
    return _against(tx, one.report, one.compared, one.offer.options.corrects_sha256, line, except_id=except_id)


def _against(
    tx: Any,
    report: Report,
    compared: Compared | None,
    corrects_sha256: str | None,
    line: Line | None,
    *,
    except_id: int | None,
) -> list[Finding]:
    found: list[Finding] = []
    if corrects_sha256 is not None:
        if compared is None or compared.original != (line.original.sha256 if line else None):
            raise Clash("Poprawiany dokument właśnie przyjęto.")
        found = correcting.objections(line, compared, corrects_sha256)
    if line is not None and line.live is not None:
        # It is the one with the number, and told of already.
        return found
    return [*found, *_number_conflict(tx, report, business_key_of(report), except_id=except_id)]


def _only_we_refused(document: Document) -> bool:
    return document.state is State.ERROR and not document.judged_by_ksef


def _own_errors(one: _Checked) -> list[Finding]:
    """What is wrong with the offer itself: the report's errors, and options nobody could follow."""
    assert one.report is not None
    complaint = one.offer.options.complaint
    return [*one.report.errors, *([_bad_options(complaint)] if complaint else [])]


def _number_conflict(tx: Any, report: Report, key: str | None, *, except_id: int | None) -> list[Finding]:
    """What only the database knows: the number is taken (D05)."""
    holder = documents.holder_of_number(tx, key) if key else None
    if holder is None or holder.id == except_id:
        return []
    return [number_taken(report.header.invoice_number, report.header.invoice_type, holder)]


def number_taken(invoice_number: str | None, invoice_type: str | None, holder: Document) -> Finding:
    """D05: another document of ours has this number; names both."""
    where = (
        f"KSeF {holder.ksef_number}"
        if holder.ksef_number
        else f"dokument {holder.document_id} czeka w buforze na numer KSeF"
    )
    return Finding(
        code=_NUMBER_TAKEN,
        message=f"Numer {invoice_number} ({invoice_type}) był już wysłany lub czeka na wysłanie: {where}.",
        hint="Nadaj tej fakturze nowy, niepowtarzalny numer w systemie ERP. Jeśli to ta sama faktura, nic nie rób: "
        "obowiązuje wynik tamtego dokumentu.",
        field="Fa/P_2",
        details=(f"dokument: {holder.document_id}", f"SHA-256: {holder.sha256}"),
    )


def _bad_options(complaint: str) -> Finding:
    return Finding(
        code="OPCJE",
        message=f"Opcje wysyłki są nieprawidłowe: {complaint}",
        hint="Popraw plik opcji (NAZWA.json) i wrzuć fakturę jeszcze raz. Dozwolone klucze: priority, offline, "
        "corrects_sha256, callback_url, reference.",
    )


def _dicts(findings: Any) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in findings]


def _codes(errors: list[Finding]) -> str:
    return ", ".join(dict.fromkeys(error.code for error in errors))


def _arrive(tx: Any, document: Document, source: Source, options: Options, *, at: datetime) -> None:
    deliveries.arrive(
        tx,
        document.id,
        connector=source.connector,
        place=source.place,
        answer_name=source.answer_name,
        reference=options.reference,
        callback_url=options.callback_url,
        at=at,
        urgent=document.urgent,
    )
