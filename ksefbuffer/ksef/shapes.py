"""What KSeF's answers look like to the rest of the project: small frozen values, tolerant of what KSeF adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from ksefbuffer.invoice.forms import Form


class Unreadable(ValueError):
    """An answer lacks what we cannot do without, so nothing is known from it."""


@dataclass(frozen=True)
class SessionKey:
    """One session's AES-256 key (32 bytes) and IV (16 bytes); never shown, never stored. Source: FACTS §3.2."""

    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)


@dataclass(frozen=True)
class ExportKey(SessionKey):
    """The key that one export is encrypted under. The caller stores ``secret``, as a running export outlives us."""

    @property
    def secret(self) -> bytes:
        """Key and IV, 48 bytes, to be kept as safe as a password until the export is fetched."""
        return self.key + self.iv

    @classmethod
    def restored(cls, secret: bytes) -> ExportKey:
        """The key that ``secret`` was taken from. Raises ValueError for anything but 48 bytes."""
        if len(secret) != 48:
            raise ValueError("not an export's secret")
        return cls(key=secret[:32], iv=secret[32:])


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
class CertificateLimits:
    """How many certificates may still be asked for and held. Source: FACTS §9."""

    may_request: bool
    requests_left: int
    certificates_left: int


@dataclass(frozen=True)
class EnrolmentStatus:
    """How a request for a certificate stands: 100 under way, 200 done (``serial`` set), 400 rejected, 500 and 550 ended
    by KSeF's own fault."""

    code: int
    description: str
    serial: str


@dataclass(frozen=True)
class IssuedCertificate:
    """A certificate that KSeF issued: ``der`` are its bytes, ``kind`` is Authentication or Offline."""

    serial: str
    name: str
    kind: str
    der: bytes = field(repr=False)


@dataclass(frozen=True)
class CertificateListed:
    """An entry of the list of certificates; ``status``: Active, Blocked, Revoked, Expired or one yet unknown."""

    serial: str
    name: str
    kind: str
    status: str
    valid_from: datetime | None
    valid_to: datetime | None


@dataclass(frozen=True)
class NewToken:
    """A token just made: KSeF shows it this once."""

    reference: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class TokenListed:
    """A token of our context without its secret; ``status``: Pending, Active, Revoking, Revoked, Failed or one yet
    unknown."""

    reference: str
    description: str
    permissions: tuple[str, ...]
    status: str
    details: tuple[str, ...]
    created_at: datetime | None
    last_used_at: datetime | None


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


class Subject(StrEnum):
    """In which role our context stands on the invoices asked for. Source: FACTS §7.1."""

    SELLER = "Subject1"
    BUYER = "Subject2"
    THIRD = "Subject3"
    AUTHORIZED = "SubjectAuthorized"


DateType = Literal["PermanentStorage", "Invoicing", "Issue"]


@dataclass(frozen=True)
class Period:
    """Which invoices are asked for: by which of their dates, from when to when, both ends included.

    ``start`` and ``end`` are texts that go to KSeF untouched, as its dates have 6 or 7 fractional digits (FACTS
    §15.23); a Z or an offset belongs to them. An empty ``end`` is now; at most 90 days are safe.
    ``restrict_to_hwm`` leaves out what KSeF does not guarantee to be complete yet; only with PermanentStorage.
    """

    date_type: DateType
    start: str
    end: str = ""
    restrict_to_hwm: bool = False


@dataclass(frozen=True)
class MetadataParty:
    """A third or an authorised party of an invoice. ``identifier_type`` is "Nip", "InternalId", "VatUe", "Other" or
    "None"; ``role`` is KSeF's number, −1 when it gave none."""

    identifier_type: str
    identifier: str
    name: str
    role: int


@dataclass(frozen=True)
class InvoiceMetadata:
    """One invoice of KSeF's repository. Amounts are exact decimals as KSeF wrote them. Source: FACTS §8.

    ``vat`` is in PLN whatever the currency. ``permanent_at_raw`` is KSeF's text, all of its digits kept, as a cursor
    must be. ``raw`` is the JSON object as given, fractions as Decimal: ``json.dumps(raw, default=str)`` loses nothing.
    """

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
    seller_name: str = ""
    buyer_id_type: str = ""
    buyer_name: str = ""
    net: Decimal | None = None
    vat: Decimal | None = None
    invoicing_at: datetime | None = None
    permanent_at_raw: str = ""
    thirds: tuple[MetadataParty, ...] = ()
    authorized: MetadataParty | None = None
    self_invoicing: bool = False
    has_attachment: bool = False
    corrected_sha256_hex: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class MetadataPage:
    """One page of a metadata query. ``more``: another page follows. ``truncated``: KSeF lists no further under this
    query; the rest is asked for anew, from the last entry's date. ``hwm`` is the raw instant up to which KSeF
    guarantees completeness, "" when not given."""

    invoices: tuple[InvoiceMetadata, ...]
    more: bool
    truncated: bool
    hwm: str


@dataclass(frozen=True)
class ExportPart:
    """One part of an export. ``url`` is pre-signed, secret and lives for about an hour.

    ``size`` (bytes) and ``sha256_hex`` are those of the decrypted part, ``encrypted_size`` and
    ``encrypted_sha256_hex`` those of what lies behind the link.
    """

    ordinal: int
    name: str
    method: str
    url: str = field(repr=False)
    size: int
    sha256_hex: str
    encrypted_size: int
    encrypted_sha256_hex: str


@dataclass(frozen=True)
class ExportPackage:
    """What a finished export holds; ``size`` is in bytes, ``parts`` are in order, none for no invoices.

    With ``truncated`` there are more invoices than these, from the ``last_…`` of the period's date type on; the others
    are "". ``hwm_raw`` is the instant up to which a package that is not truncated is complete. All of them are KSeF's
    texts, "" when not given. ``compression`` is "TarGz", "Zip", or "" from a KSeF older than 2.7.1.
    """

    count: int
    size: int
    truncated: bool
    last_permanent_raw: str
    last_issue: str
    last_invoicing: str
    hwm_raw: str
    compression: str
    parts: tuple[ExportPart, ...]


@dataclass(frozen=True)
class ExportStatus:
    """An export as KSeF reports it; the meaning of ``code`` is in ``statuses``. There is a package once it is READY;
    ``expires_at`` is when KSeF removes it."""

    code: int
    description: str
    package: ExportPackage | None = None
    expires_at: datetime | None = None
