"""KSeF's verdict on one invoice, as far as it depends on nothing but the file and its session: pure, no lock needed."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import date, datetime

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ksefbuffer.invoice.forms import Form

from .numbers import WARSAW, internal_id_holds, nip_holds
from .reading import InvoiceFacts, Unacceptable, check_form, check_schema, facts_of, parse

MAX_INVOICE_BYTES = 1_000_000
MAX_WITH_ATTACHMENT_BYTES = 3_000_000


@dataclass(frozen=True)
class Envelope:
    """What a send carries: the ciphertext and what was declared of the plain file (hash in Base64, size in bytes)."""

    ciphertext: bytes = field(repr=False)
    plain_hash: str
    plain_size: int
    offline: bool
    corrects: str | None


@dataclass(frozen=True)
class Examination:
    """``code`` 200 when nothing is wrong with the file itself; ``mode`` Online or Offline as KSeF decides."""

    code: int
    details: list[str]
    facts: InvoiceFacts
    content: bytes | None = field(repr=False)
    mode: str = "Online"

    @property
    def business_key(self) -> str | None:
        """Seller, kind and number with white space collapsed: what may exist only once (FACTS §4.4)."""
        if self.code != 200:
            return None
        return f"{self.facts.seller_nip}|{self.facts.kind}|{self.facts.number}"


def examine(
    envelope: Envelope, *, key: bytes, iv: bytes, form: Form, nip: str, received_at: datetime
) -> Examination:  # fmt: skip
    """Decrypts and checks in KSeF's order: 435, 430, 450, 410, 415. ``nip`` is the session's context."""
    content: bytes | None = None
    try:
        content = decrypt(envelope.ciphertext, key, iv)
        _check_declared(envelope, content)
    except Unacceptable as fault:
        return Examination(fault.code, fault.details, InvoiceFacts(), content)
    return examine_file(
        content,
        form=form,
        nip=nip,
        received_at=received_at,
        offline=envelope.offline,
        attachments=envelope.corrects is not None,
    )


def examine_file(
    content: bytes, *, form: Form, nip: str, received_at: datetime, offline: bool, attachments: bool
) -> Examination:  # fmt: skip
    """Checks a plain file: 430, 450, 410, 415. ``attachments``: whether they may come by this way (FACTS §13)."""
    facts = InvoiceFacts()
    try:
        root = parse(content)
        facts = facts_of(root)
        if len(content) > (MAX_WITH_ATTACHMENT_BYTES if facts.attachment else MAX_INVOICE_BYTES):
            raise Unacceptable(430, "Przekroczony maksymalny rozmiar faktury.")
        check_form(root, form)
        check_schema(root)
        _check_facts(facts, nip, received_at, attachments=attachments)
    except Unacceptable as fault:
        return Examination(fault.code, fault.details, facts, content)
    issued = date.fromisoformat(facts.issued[:10])
    late = issued < received_at.astimezone(WARSAW).date()
    return Examination(200, [], facts, content, "Offline" if late or offline else "Online")


def decrypt(ciphertext: bytes, key: bytes, iv: bytes) -> bytes:
    """AES-256-CBC with PKCS#7. Raises Unacceptable(435)."""
    if not ciphertext or len(ciphertext) % 16:
        raise Unacceptable(435, "Długość szyfrogramu nie jest wielokrotnością bloku.")
    decryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    pad = padded[-1]
    if not 1 <= pad <= 16 or padded[-pad:] != bytes([pad]) * pad:
        raise Unacceptable(435, "Nieprawidłowe dopełnienie PKCS#7.")
    return padded[:-pad]


def encrypted_size(plain_size: int) -> int:
    """The only right size of a ciphertext (FACTS §3.1)."""
    return (plain_size // 16 + 1) * 16


def _check_declared(envelope: Envelope, content: bytes) -> None:
    if len(content) != envelope.plain_size or len(envelope.ciphertext) != encrypted_size(envelope.plain_size):
        raise Unacceptable(430, "Rozmiar pliku nie zgadza się z zadeklarowanym.")
    if b64encode(hashlib.sha256(content).digest()).decode() != envelope.plain_hash:
        raise Unacceptable(430, "Skrót pliku nie zgadza się z zadeklarowanym.")


def _check_facts(facts: InvoiceFacts, nip: str, received_at: datetime, *, attachments: bool) -> None:
    if date.fromisoformat(facts.issued[:10]) > received_at.astimezone(WARSAW).date():
        raise Unacceptable(450, "Data wystawienia (P_1) nie może być późniejsza niż data przyjęcia faktury.")
    wrong = [f"{where}: nieprawidłowy NIP." for where, value in facts.nips if not nip_holds(value)]
    wrong += [f"{where}: nieprawidłowy IDWew." for where, value in facts.internal_ids if not internal_id_holds(value)]
    if wrong:
        raise Unacceptable(450, *wrong)
    if facts.seller_nip != nip:
        raise Unacceptable(410, "Podmiot uwierzytelniony nie może wystawiać faktur w imieniu sprzedawcy.")
    if facts.attachment and not attachments:
        raise Unacceptable(415, "Faktura z załącznikiem nie może być wysłana w sesji interaktywnej.")
