"""What KSeF's answers look like to the rest of the project: small frozen values, tolerant of what KSeF adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from ksefbuffer.invoice.forms import Form


class Unreadable(ValueError):
    """An answer lacks what we cannot do without, so nothing is known from it."""


@dataclass(frozen=True)
class SessionKey:
    """One session's AES-256 key (32 bytes) and IV (16 bytes); never shown, never stored. Source: FACTS §3.2."""

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)


@dataclass(frozen=True)
class OpenSession:
    """An interactive session that takes invoices until ``valid_until`` (about 12 hours). Its key lives only here."""

    reference: str
    valid_until: datetime
    form: Form
    key: SessionKey = field(repr=False)


@dataclass(frozen=True)
class Upload:
    """How one part of a package is to be sent; ``url`` is pre-signed and secret. Source: FACTS §5.3, §5.4."""

    ordinal: int
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class BatchSession:
    """A batch session that awaits its parts and its close. Every part has an upload of its own.

    ``upload_until`` is when the links expire: 20 minutes a part, from the opening; ``valid_until`` is what KSeF said
    of the session, if anything.
    """

    reference: str
    uploads: tuple[Upload, ...]
    upload_until: datetime
    valid_until: datetime | None = None


@dataclass(frozen=True)
class SessionListed:
    """A session in the list of ours; the meaning of ``code`` is in ``statuses``. ``total`` counts the invoices still
    in work too."""

    reference: str
    code: int
    created_at: datetime
    total: int | None = None
    successful: int | None = None
    failed: int | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True)
class SessionLimits:
    """What one session may hold in our context: bytes of an invoice, of one with an attachment, and invoices."""

    invoice_bytes: int
    invoice_with_attachment_bytes: int
    invoices: int


@dataclass(frozen=True)
class UpoPage:
    """One page of a session's UPO; ``link`` is pre-signed, short-lived and secret."""

    reference: str
    link: str = field(repr=False, default="")


@dataclass(frozen=True)
class SessionStatus:
    """A session as KSeF reports it; the meaning of ``code`` is in ``statuses``. Counts are None while not given."""

    reference: str
    code: int
    description: str
    details: tuple[str, ...] = ()
    invoice_count: int | None = None
    successful_count: int | None = None
    failed_count: int | None = None
    created_at: datetime | None = None
    valid_until: datetime | None = None
    upo_pages: tuple[UpoPage, ...] = ()


@dataclass(frozen=True)
class InvoiceStatus:
    """One invoice in a session; the meaning of ``code`` is in ``statuses``.

    ``sha256_hex`` is the plain XML's hash in lower-case hex; ``ksef_number`` is "" until there is one;
    ``original_ksef_number`` and ``original_session`` are set with a duplicate (440), and in a batch the session can be
    wrong; ``accepted_at`` is when the number was assigned; ``invoicing_mode`` is "Online", "Offline" or "";
    ``file_name`` is the entry's name in a batch, else "".
    """

    reference: str
    ordinal: int
    sha256_hex: str
    invoice_number: str
    ksef_number: str
    code: int
    description: str
    details: tuple[str, ...] = ()
    original_ksef_number: str = ""
    original_session: str = ""
    accepted_at: datetime | None = None
    invoicing_date: datetime | None = None
    invoicing_mode: str = ""
    upo_link: str = field(repr=False, default="")
    file_name: str = ""


@dataclass(frozen=True)
class InvoiceMetadata:
    """One invoice of KSeF's repository. Amounts are exact decimals as KSeF wrote them. Source: FACTS §8."""

    ksef_number: str
    invoice_number: str
    issue_date: date | None
    sha256_hex: str
    seller_nip: str
    buyer_id: str
    invoice_type: str
    form_code: str
    currency: str
    gross: Decimal | None
    invoicing_mode: str
    accepted_at: datetime | None
