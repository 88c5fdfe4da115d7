"""Interactive sessions: open, send, close. Source: FACTS §3, §4.1."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ksefbuffer.invoice.forms import BY_SYSTEM_CODE, FORMS, Form

from .corrections import changed_content, check_original
from .examination import (
    MAX_INVOICE_BYTES,
    MAX_WITH_ATTACHMENT_BYTES,
    Envelope,
    Examination,
    encrypted_size,
    examine,
)
from .fields import Fields, read_json
from .keys import SYMMETRIC, unwrap
from .ledger import Verdict, enter, repetition
from .reading import SUPPORTED
from .settlement import close_session, end_session
from .store import restored, stored
from .wire import BadRequest, Problem, Response, as_json, nothing, timestamp
from .world import Call, World

SESSION_LIFE = timedelta(hours=12)
MAX_INVOICES = 10_000


@dataclass(frozen=True)
class Opening:
    """A session to be opened; ``key`` None means that what was sent did not open to 32 bytes."""

    form: Form
    key: bytes | None = field(repr=False)
    iv: bytes = field(repr=False)


@dataclass(frozen=True)
class Wrapping:
    """A symmetric key as sent; None where a mistake was noted."""

    wrapped: bytes | None = field(repr=False)
    iv: bytes | None = field(repr=False)
    key_id: str | None


@dataclass(frozen=True)
class Terms:
    """What every opening says, as read; None where a mistake was noted."""

    form: Form | None
    wrapping: Wrapping


def read_opening(world: World, call: Call) -> Opening:
    fields = read_json(call.request)
    terms = read_terms(fields, FORMS)
    call.note_unknown(fields.finish())
    return finish_opening(world, call, terms)


def read_terms(fields: Fields, forms: Sequence[Form]) -> Terms:
    """Form and encryption; ``forms`` are those that such a session takes."""
    code = fields.inside("formCode")
    form = None
    if code:
        system_code, version, value = code.text("systemCode"), code.text("schemaVersion"), code.text("value")
        form = BY_SYSTEM_CODE.get(system_code)
        if form is None or form not in forms or (form.schema_version, form.value) != (version, value):
            known = "; ".join(f"{form.system_code}, {form.schema_version}, {form.value}" for form in forms)
            fields.wrong("formCode", f"nie jest obsługiwanym schematem; obsługiwane: {known}")
    encryption = fields.inside("encryption")
    return Terms(form, read_encryption(encryption) if encryption else Wrapping(None, None, None))


def read_encryption(encryption: Fields) -> Wrapping:
    """EncryptionInfo, as sessions and exports have it."""
    return Wrapping(
        encryption.data("encryptedSymmetricKey"),
        encryption.data("initializationVector", size=16),
        encryption.text("publicKeyId", required=False, length=44) or None,
    )


def unwrapped(world: World, call: Call, wrapping: Wrapping) -> tuple[bytes | None, bytes]:
    """Key and IV, to be called when the body had no mistakes and without the lock; the key is None when what was sent
    does not open to 32 bytes. Raises 21470."""
    if wrapping.wrapped is None or wrapping.iv is None:
        raise LookupError("a mistake in the body was not noted")
    if wrapping.key_id is None:
        call.note("no-public-key-id", "publicKeyId is absent: during rotation the older key is assumed")
    with world.lock:
        pair = world.keys.unwrapping(SYMMETRIC, wrapping.key_id)
    key = unwrap(pair, wrapping.wrapped)
    return key if key is not None and len(key) == 32 else None, wrapping.iv


def finish_opening(world: World, call: Call, terms: Terms) -> Opening:
    """To be called when the body had no mistakes. Raises 21470; 501 for a form that the sandbox does not process."""
    form = terms.form
    if form is None:
        raise LookupError("a mistake in the body was not noted")
    if form not in SUPPORTED:
        call.note("unsupported-form", f"the sandbox does not process {form.system_code}")
        raise Problem(501, "Not Implemented", f"Piaskownica nie obsługuje formularza {form.system_code}.")
    key, iv = unwrapped(world, call, terms.wrapping)
    return Opening(form, key, iv)


def open_session(world: World, call: Call) -> Response:
    until = call.now + SESSION_LIFE
    reference = enter_session(world, call, call.prepared, "SO", until)
    return as_json(201, {"referenceNumber": reference, "validUntil": timestamp(until)})


def enter_session(world: World, call: Call, opening: Opening, kind: str, until: datetime) -> str:
    """A new session's reference. ``kind``: SO (interactive) or SB (batch)."""
    caller = call.caller
    reference = world.store.new_reference(kind, call.now)
    ordered = call.ordered("session_status")
    world.store.run(
        "INSERT INTO sessions (reference, context_type, context_value, login, system_code, aes_key, iv, created_at,"
        " updated_at, valid_until, settles_at, code, forced, details)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 100, ?, ?)",
        reference,
        caller.context_type,
        caller.context_value,
        caller.login,
        opening.form.system_code,
        opening.key,
        opening.iv,
        stored(call.now),
        stored(call.now),
        stored(until),
        stored(call.now + world.latency),
        ordered.code if ordered else None,
        json.dumps(ordered.details if ordered else [], ensure_ascii=False),
    )
    return reference


def own_session(world: World, call: Call, reference: str, *, kind: str = "") -> sqlite3.Row:
    """The session, when it is the caller's context's, and of that ``kind`` (SO, SB) if one is given. Raises 21173."""
    row = world.store.one(
        "SELECT * FROM sessions WHERE reference = ? AND context_type = ? AND context_value = ?",
        reference,
        call.caller.context_type,
        call.caller.context_value,
    )
    if row is None or kind not in reference or call.ordered("session_unknown"):
        detail = f"Sesja o numerze referencyjnym {reference} nie została znaleziona."
        raise BadRequest(21173, "Brak sesji o wskazanym numerze referencyjnym.", [detail])
    return row


@dataclass(frozen=True)
class Sending:
    """An invoice handed in, already examined; ``examination`` None when the session has no key to open it with."""

    envelope: Envelope
    examination: Examination | None


def read_sending(world: World, call: Call) -> Sending:
    """Reads, decrypts and examines before the lock is taken: the dear part of a send."""
    fields = read_json(call.request)
    plain_hash = fields.digest("invoiceHash")
    plain_size = fields.count("invoiceSize")
    encrypted_hash = fields.digest("encryptedInvoiceHash")
    declared_size = fields.count("encryptedInvoiceSize")
    content = fields.data("encryptedInvoiceContent")
    offline = fields.flag("offlineMode") or False
    corrects = fields.digest("hashOfCorrectedInvoice", required=False) or None
    most = MAX_WITH_ATTACHMENT_BYTES if corrects else MAX_INVOICE_BYTES
    if plain_size > most:
        fields.wrong("invoiceSize", f"może wynosić najwyżej {most}")
    if corrects and not offline:
        fields.wrong("offlineMode", "musi mieć wartość true przy korekcie technicznej")
    with world.lock:
        session = own_session(world, call, call.arguments["reference"], kind="-SO-")
    call.note_unknown(fields.finish())
    ciphertext = content or b""
    if len(ciphertext) != declared_size:
        detail = "Długość treści nie zgadza się z rozmiarem pliku."
        raise BadRequest(21402, "Nieprawidłowy rozmiar pliku.", [detail])
    if b64encode(hashlib.sha256(ciphertext).digest()).decode() != encrypted_hash:
        raise BadRequest(21403, "Nieprawidłowy skrót pliku.", ["Skrót treści nie zgadza się ze skrótem pliku."])
    if declared_size == encrypted_size(plain_size) + 16 and ciphertext.startswith(session["iv"]):
        call.note("iv-prefixed", "the ciphertext begins with the IV; it belongs in initializationVector only")
    envelope = Envelope(ciphertext, plain_hash, plain_size, offline, corrects)
    examination = None
    if session["aes_key"] is not None:
        examination = examine(
            envelope,
            key=session["aes_key"],
            iv=session["iv"],
            form=BY_SYSTEM_CODE[session["system_code"]],
            nip=call.caller.nip,
            received_at=call.now,
        )
    return Sending(envelope, examination)


def send_invoice(world: World, call: Call) -> Response:
    sending: Sending = call.prepared
    session = own_session(world, call, call.arguments["reference"])
    if session["code"] != 100:
        raise status_forbids(session, "wysyłkę faktur")
    row = world.store.one("SELECT count(*) AS count FROM invoices WHERE session = ?", session["reference"])
    count = int(row["count"]) if row else 0
    if count >= MAX_INVOICES:
        detail = f"Sesja o numerze referencyjnym {session['reference']} osiągnęła dozwolony limit liczby faktur {MAX_INVOICES}."  # noqa: E501
        raise BadRequest(21155, "Przekroczono dozwoloną liczbę faktur w sesji.", [detail])
    if sending.envelope.corrects:
        check_original(world, sending.envelope.corrects, call.caller.nip)
    if repeated := repetition(world, sending.envelope.plain_hash):
        call.note(*repeated)
    ordered = call.ordered("invoice_status")
    reference = enter(
        world,
        _judged_as_correction(world, call, sending),
        at=call.now,
        session=session["reference"],
        ordinal=count + 1,
        sha256=sending.envelope.plain_hash,
        offline=sending.envelope.offline,
        corrects=sending.envelope.corrects,
        invoicing_at=stored(call.now),
        due_at=stored(call.now + world.latency),
        stuck=call.ordered("stuck") is not None,
        forced=Verdict(ordered.code, list(ordered.details)) if ordered else None,
    )
    world.store.run("UPDATE sessions SET updated_at = ? WHERE reference = ?", stored(call.now), session["reference"])
    order_end(world, call, session["reference"])
    return as_json(202, {"referenceNumber": reference})


def _judged_as_correction(world: World, call: Call, sending: Sending) -> Examination | None:
    """A technical correction may not change what the invoice says (FACTS §10)."""
    found, corrects = sending.examination, sending.envelope.corrects
    if found is None or found.code != 200 or corrects is None:
        return found
    changed = changed_content(world, corrects, found.facts)
    if not changed:
        return found
    call.note("correction-changes-content", f"a technical correction changes the invoice: {', '.join(changed)}")
    detail = f"Korekta techniczna zmienia treść faktury: {', '.join(changed)}."
    return replace(found, code=450, details=[detail])


def order_end(world: World, call: Call, reference: str) -> None:
    """A fault may have ordered that this session ends with some status, when its processing time is over."""
    if ordered := call.ordered("session_status"):
        world.store.run(
            "UPDATE sessions SET forced = ?, details = ?, settles_at = ? WHERE reference = ?",
            ordered.code,
            json.dumps(ordered.details, ensure_ascii=False),
            stored(call.now + world.latency),
            reference,
        )


def close(world: World, call: Call) -> Response:
    session = own_session(world, call, call.arguments["reference"], kind="-SO-")
    if session["code"] != 100:
        raise status_forbids(session, "jej zamknięcie")
    close_session(world, session["reference"], call.now)
    order_end(world, call, session["reference"])
    return nothing()


def status_forbids(session: sqlite3.Row, what: str) -> BadRequest:
    """21180; ``what`` is Polish, in the accusative."""
    detail = f"Status sesji ({session['code']}) uniemożliwia {what}."
    return BadRequest(21180, "Status sesji nie pozwala na wykonanie operacji.", [detail])


def kill(world: World, reference: str, code: int) -> None:
    """Ends a session at once, as if KSeF had lost it. Raises LookupError for a session that is not there."""
    session = world.store.one("SELECT * FROM sessions WHERE reference = ?", reference)
    if session is None:
        raise LookupError(reference)
    end_session(world, reference, code, restored(session["updated_at"]))
