"""Interactive sessions: open, send, close. Source: FACTS §3, §4.1."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import timedelta

from ksefbuffer.invoice.forms import BY_SYSTEM_CODE, FORMS, Form

from .examination import (
    MAX_INVOICE_BYTES,
    MAX_WITH_ATTACHMENT_BYTES,
    Envelope,
    Examination,
    encrypted_size,
    examine,
)
from .fields import read_json
from .keys import SYMMETRIC, unwrap
from .reading import SUPPORTED, InvoiceFacts
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


def read_opening(world: World, call: Call) -> Opening:
    fields = read_json(call.request)
    code = fields.inside("formCode")
    form = None
    if code:
        system_code, version, value = code.text("systemCode"), code.text("schemaVersion"), code.text("value")
        form = BY_SYSTEM_CODE.get(system_code)
        if form is None or (form.schema_version, form.value) != (version, value):
            known = "; ".join(f"{form.system_code}, {form.schema_version}, {form.value}" for form in FORMS)
            fields.wrong("formCode", f"nie jest obsługiwanym schematem; obsługiwane: {known}")
    encryption = fields.inside("encryption")
    wrapped = encryption.data("encryptedSymmetricKey") if encryption else None
    iv = encryption.data("initializationVector", size=16) if encryption else None
    key_id = (encryption.text("publicKeyId", required=False, length=44) if encryption else "") or None
    call.note_unknown(fields.finish())
    if form is None or wrapped is None or iv is None:
        raise LookupError("a mistake in the body was not noted")
    if key_id is None:
        call.note("no-public-key-id", "publicKeyId is absent: during rotation the older key is assumed")
    if form not in SUPPORTED:
        call.note("unsupported-form", f"the sandbox does not process {form.system_code}")
        raise Problem(501, "Not Implemented", f"Piaskownica nie obsługuje formularza {form.system_code}.")
    with world.lock:
        pair = world.keys.unwrapping(SYMMETRIC, key_id)
    key = unwrap(pair, wrapped)
    return Opening(form, key if key is not None and len(key) == 32 else None, iv)


def open_session(world: World, call: Call) -> Response:
    opening: Opening = call.prepared
    caller = call.caller
    reference = world.store.new_reference("SO", call.now)
    until = call.now + SESSION_LIFE
    ordered = call.ordered("session_status")
    world.store.run(
        "INSERT INTO sessions (reference, context_type, context_value, login, system_code, aes_key, iv, created_at,"
        " updated_at, valid_until, settles_at, code, forced) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 100, ?)",
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
    )
    return as_json(201, {"referenceNumber": reference, "validUntil": timestamp(until)})


def own_session(world: World, call: Call, reference: str) -> sqlite3.Row:
    """The session, when it is the caller's context's. Raises 21173."""
    row = world.store.one(
        "SELECT * FROM sessions WHERE reference = ? AND context_type = ? AND context_value = ?",
        reference,
        call.caller.context_type,
        call.caller.context_value,
    )
    if row is None:
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
        session = own_session(world, call, call.arguments["reference"])
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
        raise _status_forbids(session, "wysyłkę faktur")
    row = world.store.one("SELECT count(*) AS count FROM invoices WHERE session = ?", session["reference"])
    count = int(row["count"]) if row else 0
    if count >= MAX_INVOICES:
        detail = f"Sesja o numerze referencyjnym {session['reference']} osiągnęła dozwolony limit liczby faktur {MAX_INVOICES}."  # noqa: E501
        raise BadRequest(21155, "Przekroczono dozwoloną liczbę faktur w sesji.", [detail])
    _note_repetition(world, call, sending.envelope.plain_hash)
    reference = world.store.new_reference("EE", call.now)
    _keep(world, call, session["reference"], count + 1, reference)
    world.store.run("UPDATE sessions SET updated_at = ? WHERE reference = ?", stored(call.now), session["reference"])
    order_end(world, call, session["reference"])
    return as_json(202, {"referenceNumber": reference})


def _note_repetition(world: World, call: Call, plain_hash: str) -> None:
    for row in world.store.all("SELECT code FROM invoices WHERE sha256 = ? AND code IN (100, 200)", plain_hash):
        if row["code"] == 200:
            call.note("resend-accepted", "a file with this hash already has a KSeF number")
        else:
            call.note("double-send", "a file with this hash is still being processed")
        return


def _keep(world: World, call: Call, session: str, ordinal: int, reference: str) -> None:
    sending: Sending = call.prepared
    examination = sending.examination
    facts = examination.facts if examination else InvoiceFacts()
    forced = call.ordered("invoice_status")
    world.store.run(
        "INSERT INTO invoices (reference, session, ordinal, sha256, offline, corrects, invoicing_at, due_at, code,"
        " details, content, facts, seller, number, business_key, finding, finding_details, stuck, forced, mode)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 100, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        reference,
        session,
        ordinal,
        sending.envelope.plain_hash,
        sending.envelope.offline,
        sending.envelope.corrects,
        stored(call.now),
        stored(call.now + world.latency),
        json.dumps(forced.details if forced else [], ensure_ascii=False),
        examination.content if examination else None,
        json.dumps(facts.as_dict(), ensure_ascii=False),
        facts.seller_nip,
        facts.number,
        examination.business_key if examination else None,
        examination.code if examination else 405,
        json.dumps(examination.details if examination else [], ensure_ascii=False),
        call.ordered("stuck") is not None,
        forced.code if forced else None,
        examination.mode if examination and examination.code == 200 else None,
    )


def order_end(world: World, call: Call, reference: str) -> None:
    """A fault may have ordered that this session ends with some status, when its processing time is over."""
    if ordered := call.ordered("session_status"):
        world.store.run(
            "UPDATE sessions SET forced = ?, settles_at = ? WHERE reference = ?",
            ordered.code,
            stored(call.now + world.latency),
            reference,
        )


def close(world: World, call: Call) -> Response:
    session = own_session(world, call, call.arguments["reference"])
    if session["code"] != 100:
        raise _status_forbids(session, "jej zamknięcie")
    close_session(world, session["reference"], call.now)
    order_end(world, call, session["reference"])
    return nothing()


def _status_forbids(session: sqlite3.Row, what: str) -> BadRequest:
    detail = f"Status sesji ({session['code']}) uniemożliwia {what}."
    return BadRequest(21180, "Status sesji nie pozwala na wykonanie operacji.", [detail])


def kill(world: World, reference: str, code: int) -> None:
    """Ends a session at once, as if KSeF had lost it. Raises LookupError for a session that is not there."""
    session = world.store.one("SELECT * FROM sessions WHERE reference = ?", reference)
    if session is None:
        raise LookupError(reference)
    end_session(world, reference, code, restored(session["updated_at"]))
