"""From KSeF's JSON to ``shapes``. Pure.

Unknown fields, unknown codes and numbers in strings are tolerated. What we cannot do without is not (Unreadable, which
is a ValueError): a list read short would look like proof that an invoice is missing.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ksefbuffer.ksef.crypto import hex_of_b64_hash
from ksefbuffer.ksef.limits import NO_LIMIT, Limit
from ksefbuffer.ksef.shapes import (
    CertificateLimits,
    CertificateListed,
    EnrolmentStatus,
    ExportPackage,
    ExportPart,
    ExportStatus,
    InvoiceMetadata,
    InvoiceStatus,
    IssuedCertificate,
    MetadataPage,
    MetadataParty,
    NewToken,
    SessionLimits,
    SessionListed,
    SessionStatus,
    TokenListed,
    Unreadable,
    Upload,
    UpoPage,
)
from ksefbuffer.ksef.statuses import EXPORT_READY


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise Unreadable("a JSON object was due")
    return value


def items(value: object) -> list[Any]:
    """A JSON array. Raises ValueError."""
    if not isinstance(value, list):
        raise Unreadable("a JSON array was due")
    return value


def text(value: object) -> str:
    """A non-empty string. Raises ValueError."""
    if not isinstance(value, str) or not value:
        raise Unreadable("a text was due")
    return value


def header_text(value: object) -> str:
    """A non-empty string that may go back in a header: printable ASCII. Raises ValueError."""
    read = text(value)
    if not (read.isascii() and read.isprintable()):
        raise Unreadable("unfit for a header")
    return read


def optional_text(value: object) -> str:
    """A string, or "" for null and absence."""
    return value if isinstance(value, str) else ""


def integer(value: object) -> int:
    """An integer, also when written in a string. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal | float):
        raise Unreadable("a number was due")
    return int(value)


def moment(value: object) -> datetime:
    """An instant in UTC; six fractional digits are kept of KSeF's seven. Raises ValueError."""
    read = datetime.fromisoformat(text(value))
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).astimezone(UTC)


def optional_moment(value: object) -> datetime | None:
    """An instant in UTC, or None for null, absence and what is no instant."""
    try:
        return moment(value)
    except (ValueError, OverflowError):
        return None


def _optional_integer(value: object) -> int | None:
    return None if value is None else integer(value)


def _status(value: object) -> tuple[int, str, tuple[str, ...], Mapping[str, Any]]:
    status = mapping(value)
    details = status.get("details")
    extensions = status.get("extensions")
    return (
        integer(status.get("code")),
        optional_text(status.get("description")),
        tuple(str(detail) for detail in details) if isinstance(details, list) else (),
        extensions if isinstance(extensions, Mapping) else {},
    )


def session_status(reference: str, value: object) -> SessionStatus:
    """``GET /sessions/{reference}``. Raises ValueError without a status code."""
    whole = mapping(value)
    code, description, details, _ = _status(whole.get("status"))
    upo = whole.get("upo")
    pages = upo.get("pages") if isinstance(upo, Mapping) else None
    return SessionStatus(
        reference=reference,
        code=code,
        description=description,
        details=details,
        invoice_count=_optional_integer(whole.get("invoiceCount")),
        successful_count=_optional_integer(whole.get("successfulInvoiceCount")),
        failed_count=_optional_integer(whole.get("failedInvoiceCount")),
        created_at=optional_moment(whole.get("dateCreated")),
        valid_until=optional_moment(whole.get("validUntil")),
        upo_pages=tuple(
            UpoPage(text(page.get("referenceNumber")), optional_text(page.get("downloadUrl")))
            for page in map(mapping, pages if isinstance(pages, list) else ())
        ),
    )


def session_listed(value: object) -> SessionListed:
    """One entry of the list of sessions. Raises ValueError without reference, status code or time."""
    whole = mapping(value)
    code, _, _, _ = _status(whole.get("status"))
    return SessionListed(
        reference=text(whole.get("referenceNumber")),
        code=code,
        created_at=moment(whole.get("dateCreated")),
        total=_optional_integer(whole.get("totalInvoiceCount")),
        successful=_optional_integer(whole.get("successfulInvoiceCount")),
        failed=_optional_integer(whole.get("failedInvoiceCount")),
        valid_until=optional_moment(whole.get("validUntil")),
    )


def upload(value: object) -> Upload:
    """How one part is to be sent. Raises ValueError when any of it cannot be followed to the letter."""
    whole = mapping(value)
    headers = mapping(whole.get("headers"))
    return Upload(
        ordinal=integer(whole.get("ordinalNumber")),
        method=header_text(whole.get("method")),
        url=_address(whole.get("url")),
        headers={header_text(name): _header_value(held) for name, held in headers.items() if held is not None},
    )


def _address(value: object) -> str:
    url = text(value)
    if not url.lower().startswith(("https://", "http://")):
        raise Unreadable("no address")
    return url


def _header_value(value: object) -> str:
    return header_text(value) if value else ""


def invoice_status(value: object) -> InvoiceStatus:
    """One entry of a session's invoices. Raises ValueError without reference, hash or status code."""
    whole = mapping(value)
    code, description, details, extensions = _status(whole.get("status"))
    return InvoiceStatus(
        reference=text(whole.get("referenceNumber")),
        ordinal=_optional_integer(whole.get("ordinalNumber")) or 0,
        sha256_hex=hex_of_b64_hash(text(whole.get("invoiceHash"))),
        invoice_number=optional_text(whole.get("invoiceNumber")),
        ksef_number=optional_text(whole.get("ksefNumber")),
        code=code,
        description=description,
        details=details,
        original_ksef_number=optional_text(extensions.get("originalKsefNumber")),
        original_session=optional_text(extensions.get("originalSessionReferenceNumber")),
        accepted_at=optional_moment(whole.get("acquisitionDate")),
        invoicing_date=optional_moment(whole.get("invoicingDate")),
        invoicing_mode=optional_text(whole.get("invoicingMode")),
        upo_link=optional_text(whole.get("upoDownloadUrl")),
        file_name=optional_text(whole.get("invoiceFileName")),
    )


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(optional_text(value)[:10])
    except ValueError:
        return None


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = whole.get(name)
    return value if isinstance(value, Mapping) else {}


def invoice_metadata(value: object) -> InvoiceMetadata:
    """One entry of a metadata query or of a package's list. Raises ValueError without number or hash; anything else
    may be missing or odd."""
    whole = mapping(value)
    seller, buyer, authorized = (_part(whole, name) for name in ("seller", "buyer", "authorizedSubject"))
    buyer_identifier = _part(buyer, "identifier")
    thirds = whole.get("thirdSubjects")
    return InvoiceMetadata(
        ksef_number=text(whole.get("ksefNumber")),
        invoice_number=optional_text(whole.get("invoiceNumber")),
        issue_date=_day(whole.get("issueDate")),
        sha256_hex=hex_of_b64_hash(text(whole.get("invoiceHash"))),
        seller_nip=optional_text(seller.get("nip")),
        buyer_id=optional_text(buyer_identifier.get("value")),
        invoice_type=optional_text(whole.get("invoiceType")),
        form_code=optional_text(_part(whole, "formCode").get("systemCode")),
        currency=optional_text(whole.get("currency")),
        gross=_amount(whole.get("grossAmount")),
        invoicing_mode=optional_text(whole.get("invoicingMode")),
        accepted_at=optional_moment(whole.get("acquisitionDate")),
        seller_name=optional_text(seller.get("name")),
        buyer_id_type=optional_text(buyer_identifier.get("type")),
        buyer_name=optional_text(buyer.get("name")),
        net=_amount(whole.get("netAmount")),
        vat=_amount(whole.get("vatAmount")),
        invoicing_at=optional_moment(whole.get("invoicingDate")),
        permanent_at_raw=optional_text(whole.get("permanentStorageDate")),
        thirds=tuple(
            _party(_part(third, "identifier"), third)
            for third in (thirds if isinstance(thirds, list) else ())
            if isinstance(third, Mapping)
        ),
        authorized=_party({"type": "Nip", "value": authorized.get("nip")}, authorized) if authorized else None,
        self_invoicing=whole.get("isSelfInvoicing") is True,
        has_attachment=whole.get("hasAttachment") is True,
        corrected_sha256_hex=_optional_hash(whole.get("hashOfCorrectedInvoice")),
        raw=whole,
    )


def _party(identifier: Mapping[str, Any], party: Mapping[str, Any]) -> MetadataParty:
    try:
        role = integer(party.get("role"))
    except (ValueError, ArithmeticError):
        role = -1
    return MetadataParty(
        identifier_type=optional_text(identifier.get("type")),
        identifier=optional_text(identifier.get("value")),
        name=optional_text(party.get("name")),
        role=role,
    )


def _optional_hash(value: object) -> str:
    try:
        return hex_of_b64_hash(optional_text(value))
    except ValueError:
        return ""


def metadata_page(value: object) -> MetadataPage:
    """``POST /invoices/query/metadata``. Raises ValueError for an entry without number or hash, or without being told
    whether that was all."""
    whole = mapping(value)
    return MetadataPage(
        invoices=tuple(invoice_metadata(entry) for entry in items(whole.get("invoices"))),
        more=_flag(whole.get("hasMore")),
        truncated=_flag(whole.get("isTruncated")),
        hwm=optional_text(whole.get("permanentStorageHwmDate")),
    )


def _flag(value: object) -> bool:
    # Taken as "no", an absent flag would end a listing early, and nobody would know what is missing.
    if not isinstance(value, bool):
        raise Unreadable("yes or no was due")
    return value


def export_status(value: object) -> ExportStatus:
    """``GET /invoices/exports/{reference}``. Raises ValueError without a code, or for a ready package that is not told
    whole."""
    whole = mapping(value)
    code, description, details, _ = _status(whole.get("status"))
    return ExportStatus(
        code=code,
        description=" ".join(filter(None, (description, *details))),
        package=_export_package(whole.get("package")) if code == EXPORT_READY else None,
        expires_at=optional_moment(whole.get("packageExpirationDate")),
    )


def _export_package(value: object) -> ExportPackage:
    whole = mapping(value)
    parts = tuple(sorted(map(_export_part, items(whole.get("parts"))), key=lambda part: part.ordinal))
    if [part.ordinal for part in parts] != list(range(1, len(parts) + 1)):
        raise Unreadable("parts that do not follow one another")
    count = integer(whole.get("invoiceCount"))
    if count < 0 or (count > 0 and not parts):
        raise Unreadable("invoices without parts")
    return ExportPackage(
        count=count,
        size=integer(whole.get("size")),
        truncated=_flag(whole.get("isTruncated")),
        last_permanent_raw=optional_text(whole.get("lastPermanentStorageDate")),
        last_issue=optional_text(whole.get("lastIssueDate")),
        last_invoicing=optional_text(whole.get("lastInvoicingDate")),
        hwm_raw=optional_text(whole.get("permanentStorageHwmDate")),
        compression=optional_text(whole.get("compressionType")),
        parts=parts,
    )


def _export_part(value: object) -> ExportPart:
    whole = mapping(value)
    method = text(whole.get("method"))
    if method.upper() != "GET":
        raise Unreadable("a part that is not to be got")
    return ExportPart(
        ordinal=integer(whole.get("ordinalNumber")),
        name=optional_text(whole.get("partName")),
        method="GET",
        url=_address(whole.get("url")),
        size=integer(whole.get("partSize")),
        sha256_hex=hex_of_b64_hash(text(whole.get("partHash"))),
        encrypted_size=integer(whole.get("encryptedPartSize")),
        encrypted_sha256_hex=hex_of_b64_hash(text(whole.get("encryptedPartHash"))),
    )


def rate_limits(value: object) -> dict[str, Limit]:
    """``GET /rate-limits``: the groups that can be read; a missing figure is no limit. ValueError if there are none."""
    limits: dict[str, Limit] = {}
    for group, figures in mapping(value).items():
        try:
            limits[group] = Limit(*(_allowed(mapping(figures), name) for name in ("perSecond", "perMinute", "perHour")))
        except ValueError:
            # KSeF may add groups of a shape that we do not know; the published figures go on holding there.
            continue
    if not limits:
        raise Unreadable("no limits")
    return limits


def _allowed(figures: Mapping[str, Any], name: str) -> int:
    allowed = figures.get(name)
    return NO_LIMIT if allowed is None else max(integer(allowed), NO_LIMIT)


def session_limits(value: object) -> dict[str, SessionLimits]:
    """``GET /limits/context``: "onlineSession" and "batchSession". A megabyte is 1 000 000 bytes. Raises ValueError."""
    whole = mapping(value)
    return {
        name: SessionLimits(
            invoice_bytes=integer(limits.get("maxInvoiceSizeInMB")) * 1_000_000,
            invoice_with_attachment_bytes=integer(limits.get("maxInvoiceWithAttachmentSizeInMB")) * 1_000_000,
            invoices=integer(limits.get("maxInvoices")),
        )
        for name, limits in ((name, mapping(whole.get(name))) for name in ("onlineSession", "batchSession"))
    }


def certificate_limits(value: object) -> CertificateLimits:
    """``GET /certificates/limits``. Raises ValueError."""
    whole = mapping(value)
    return CertificateLimits(
        may_request=_flag(whole.get("canRequest")),
        requests_left=integer(mapping(whole.get("enrollment")).get("remaining")),
        certificates_left=integer(mapping(whole.get("certificate")).get("remaining")),
    )


def enrolment_data(value: object) -> dict[str, tuple[str, ...]]:
    """``GET /certificates/enrollments/data``: the fields of the subject that are given, each with its values (a person
    may have several given names). Raises ValueError without a name and a country."""
    read: dict[str, tuple[str, ...]] = {}
    for name, given in mapping(value).items():
        values = tuple(one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str) and one)
        if values:
            read[name] = values
    if not {"commonName", "countryName"} <= read.keys():
        raise Unreadable("a subject without a name or a country")
    return read


def enrolment_status(value: object) -> EnrolmentStatus:
    """``GET /certificates/enrollments/{reference}``. Raises ValueError without a code, or when it is done and names no
    certificate."""
    whole = mapping(value)
    code, description, details, _ = _status(whole.get("status"))
    serial = optional_text(whole.get("certificateSerialNumber"))
    if code == 200 and not serial:
        raise Unreadable("a certificate without a number")
    return EnrolmentStatus(code, ": ".join(filter(None, (description, "; ".join(details)))), serial)


def issued_certificates(value: object) -> tuple[IssuedCertificate, ...]:
    """``POST /certificates/retrieve``. Raises ValueError."""
    return tuple(
        IssuedCertificate(
            serial=text(entry.get("certificateSerialNumber")),
            name=optional_text(entry.get("certificateName")),
            kind=optional_text(entry.get("certificateType")),
            der=b64decode(text(entry.get("certificate")), validate=True),
        )
        for entry in map(mapping, items(mapping(value).get("certificates")))
    )


def certificates_page(value: object) -> tuple[tuple[CertificateListed, ...], bool]:
    """One page of ``POST /certificates/query`` and whether there are more. Raises ValueError."""
    whole = mapping(value)
    listed = tuple(
        CertificateListed(
            serial=text(entry.get("certificateSerialNumber")),
            name=optional_text(entry.get("name")),
            kind=optional_text(entry.get("type")),
            status=optional_text(entry.get("status")),
            valid_from=optional_moment(entry.get("validFrom")),
            valid_to=optional_moment(entry.get("validTo")),
        )
        for entry in map(mapping, items(whole.get("certificates")))
    )
    return listed, _flag(whole.get("hasMore"))


def new_token(value: object) -> NewToken:
    """``POST /tokens``. Raises ValueError."""
    whole = mapping(value)
    return NewToken(text(whole.get("referenceNumber")), text(whole.get("token")))


def token_listed(value: object) -> TokenListed:
    """One entry of ``GET /tokens``, or ``GET /tokens/{reference}``. Raises ValueError without reference or status."""
    whole = mapping(value)
    permissions, details = whole.get("requestedPermissions"), whole.get("statusDetails")
    return TokenListed(
        reference=text(whole.get("referenceNumber")),
        description=optional_text(whole.get("description")),
        permissions=tuple(map(str, permissions)) if isinstance(permissions, list) else (),
        status=text(whole.get("status")),
        details=tuple(map(str, details)) if isinstance(details, list) else (),
        created_at=optional_moment(whole.get("dateCreated")),
        last_used_at=optional_moment(whole.get("lastUseDate")),
    )
