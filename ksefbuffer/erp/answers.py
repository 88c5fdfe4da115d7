"""What an ERP is told about its document: one object, in three spellings. Source: CONTRACT §1, §4. Pure.

``document_object`` makes the JSON object of CONTRACT §4, key for key and in its order; ``as_json``, ``as_xml`` and
``as_txt`` write it (or anything of its shape) as bytes, all UTF-8. Equal objects give equal bytes, so that an answer
written twice is the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ksefbuffer.queue.incoming import Incoming

STATUS_PL: Mapping[str, str] = {
    "queued": "oczekuje",
    "processing": "w trakcie przetwarzania",
    "sent": "wysłano",
    "error": "błąd",
    "failed": "niepowodzenie",
    "cancelled": "anulowano",
}

# XML 1.0 §2.2: what is left out here may stand in no document, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Everything that some reader of lines takes for the end of one.
_LINE_ENDS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]+")
# A bare carriage return would be read back as a line feed.
_XML_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_SURROGATES = re.compile("[\ud800-\udfff]")


class DocumentView(Protocol):
    """What a document shows of itself to be answered. Times are aware; ``state`` is the English name ("sent")."""

    @property
    def document_id(self) -> str: ...
    @property
    def reference(self) -> str | None: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def invoice_number(self) -> str | None: ...
    @property
    def issue_date(self) -> date | None: ...
    @property
    def form(self) -> str | None: ...
    @property
    def invoice_type(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def ksef_number(self) -> str | None: ...
    @property
    def accepted_at(self) -> datetime | None: ...
    @property
    def invoicing_mode(self) -> str | None: ...
    @property
    def session_reference(self) -> str | None: ...
    @property
    def offline_mode(self) -> str | None: ...
    @property
    def offline_deadline(self) -> datetime | None: ...
    @property
    def jpk_marker(self) -> str | None: ...
    @property
    def waits_for(self) -> str | None: ...
    @property
    def warnings(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def errors(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def attempts(self) -> int: ...
    @property
    def next_attempt_at(self) -> datetime | None: ...
    @property
    def received_at(self) -> datetime: ...
    @property
    def updated_at(self) -> datetime: ...


def document_object(
    document: DocumentView,
    source: str,
    upo_file: str | None,
    verification_url: str | None,
    certificate_url: str | None,
) -> dict[str, Any]:
    """The object of CONTRACT §4, JSON-ready, keys in its order.

    source: the file's or row's own name; upo_file: the UPO's file name, None until it is there. ``errors`` is empty
    unless the state is "error" or "failed".
    """
    state = str(document.state)
    return {
        "document_id": document.document_id,
        "source": source,
        "reference": document.reference,
        "sha256": document.sha256,
        "size": document.size,
        "invoice_number": document.invoice_number,
        "issue_date": document.issue_date.isoformat() if document.issue_date else None,
        "form": document.form,
        "invoice_type": document.invoice_type,
        "status": state,
        "status_pl": STATUS_PL[state],
        "ksef_number": document.ksef_number,
        "accepted_at": moment(document.accepted_at),
        # KSeF itself says "Online" and "Offline".
        "invoicing_mode": document.invoicing_mode.lower() if document.invoicing_mode else None,
        "session": document.session_reference,
        "upo_file": upo_file,
        "offline": {"mode": document.offline_mode, "deadline": moment(document.offline_deadline)},
        "verification_url": verification_url,
        "certificate_url": certificate_url,
        "jpk_marker": document.jpk_marker,
        "waits_for": document.waits_for,
        "warnings": [dict(warning) for warning in document.warnings],
        "errors": [dict(error) for error in document.errors] if state in ("error", "failed") else [],
        "attempts": document.attempts,
        "next_attempt_at": moment(document.next_attempt_at),
        "received_at": moment(document.received_at),
        "updated_at": moment(document.updated_at),
    }


def row_values(answer: Mapping[str, Any], upo_xml: bytes | None) -> dict[str, str | bytes | None]:
    """What CONTRACT §5 writes back into the ERP's table row, from a document object; times stay ISO 8601 text.

    Several errors are told one a line in ``error_message``, the first one's code in ``error_code``.
    """
    errors = answer["errors"]
    told = [f"{error['message']} {error.get('hint') or ''}".strip() for error in errors]
    return {
        "status": answer["status_pl"],
        "status_code": answer["status"],
        "document_id": answer["document_id"],
        "ksef_number": answer["ksef_number"],
        "accepted_at": answer["accepted_at"],
        "upo_xml": upo_xml,
        "verification_url": answer["verification_url"],
        "error_code": errors[0]["code"] if errors else None,
        "error_message": "\n".join(told) or None,
        "updated_at": answer["updated_at"],
    }


def moment(value: datetime | None) -> str | None:
    """An aware time as ISO 8601 UTC with milliseconds, "2026-11-20T10:15:03.120Z"; ValueError on a naive one."""
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a time without a zone cannot be told to anybody")
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(answer: Mapping[str, Any]) -> bytes:
    """Indented by two, diacritics as they are, a newline at the end. Lone surrogates become U+FFFD."""
    text = json.dumps(answer, ensure_ascii=False, indent=2)
    return (_SURROGATES.sub("\ufffd", text) + "\n").encode()


def as_xml(answer: Mapping[str, Any]) -> bytes:
    """``<ksefbuffer>`` with an element per key, in order; null and an empty list give an empty element.

    A list holds repeated elements of its singular name (``<errors><error>…</error><error>…</error></errors>``);
    characters that XML does not know become U+FFFD.
    """
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<ksefbuffer>", *_elements(answer, "  "), "</ksefbuffer>", ""]
    return "\n".join(lines).encode()


def as_txt(answer: Mapping[str, Any]) -> bytes:
    """``KEY=value`` lines for old tills: UTF-8 without a byte order mark, each line ended by LF alone.

    Keys are upper-case and flat: STATUS, OFFLINE_MODE, ERRORS, ERROR_1_CODE, ERROR_1_DETAIL_1 …; null is an empty
    value; ERRORS and WARNINGS hold the counts. Line ends and control characters inside a value become one space.
    """
    return "".join(f"{key}={value}\n" for key, value in _pairs(answer, "")).encode()


WRITERS: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {"json": as_json, "xml": as_xml, "txt": as_txt}


def answer_file(name: str, response: str) -> str:
    """The file's name in the outbox: ``NAME.ksef.json``. name: the source's, without ``.xml``."""
    return f"{name}.ksef.{response}"


def _singular(key: str) -> str:
    return key.removesuffix("s")


def _spelled(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _elements(answer: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in answer.items():
        if value and isinstance(value, Mapping):
            lines += [f"{indent}<{key}>", *_elements(value, indent + "  "), f"{indent}</{key}>"]
        elif value and isinstance(value, list | tuple):
            items = [line for item in value for line in _elements({_singular(key): item}, indent + "  ")]
            lines += [f"{indent}<{key}>", *items, f"{indent}</{key}>"]
        elif isinstance(value, Mapping | list | tuple):
            lines.append(f"{indent}<{key}/>")
        else:
            text = _NOT_XML.sub("\ufffd", _spelled(value)).translate(_XML_ESCAPES)
            lines.append(f"{indent}<{key}>{text}</{key}>" if text else f"{indent}<{key}/>")
    return lines


def _pairs(answer: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in answer.items():
        name = prefix + key.upper()
        if isinstance(value, Mapping):
            pairs += _pairs(value, f"{name}_")
        elif isinstance(value, list | tuple):
            if not prefix:
                pairs.append((name, str(len(value))))
            for number, item in enumerate(value, start=1):
                pairs += _pairs({f"{_singular(key)}_{number}": item}, prefix)
        else:
            pairs.append((name, _LINE_ENDS.sub(" ", _SURROGATES.sub("\ufffd", _spelled(value))).strip()))
    return pairs


def incoming_object(one: Incoming) -> dict[str, Any]:
    """A received invoice for programs and pages; times as in ``document_object``, the amount exact, as text."""
    return {
        "ksef_number": one.ksef_number,
        "invoice_number": one.invoice_number,
        "invoice_type": one.invoice_type,
        "form": one.form,
        "issue_date": one.issue_date.isoformat() if one.issue_date else None,
        "seller_nip": one.seller_nip,
        "seller_name": one.seller_name,
        "buyer_nip": one.buyer_nip,
        "gross": None if one.gross is None else f"{one.gross:.2f}",
        "currency": one.currency,
        "roles": sorted(one.roles),
        "folder": one.folder,
        "tags": one.tags,
        "store": one.store or None,
        "reasons": one.reasons,
        "verdict": one.verdict,
        "findings": one.fired,
        "damage": one.damage,
        "decision": one.decision,
        "comment": one.comment,
        "decided_by": one.decided_by,
        "decided_at": moment(one.decided_at),
        "file": one.path,
        "file_error": one.file_error,
        "sha256": one.sha256,
        "size": one.size,
        "accepted_at": moment(one.acquired_at),
        "received_at": moment(one.received_at),
        "updated_at": moment(one.updated_at),
    }
