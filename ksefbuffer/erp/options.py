"""What an ERP may say beside an invoice, from a sidecar file or from columns. Pure. Source: CONTRACT §4."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ksefbuffer.erp.submit import Options

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
# Without control characters and halves of surrogate pairs: neither database stores them all.
_REFERENCE = re.compile("[^\x00-\x1f\x7f\ud800-\udfff]{0,256}")
_ADDRESS = re.compile("https?://[^\\s/\x00-\x1f\x7f\ud800-\udfff][^\\s\x00-\x1f\x7f\ud800-\udfff]*")


def read_options(content: bytes) -> Options:
    """The sidecar's options; whatever is wrong with them is in ``complaint``, in Polish."""
    try:
        given = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return Options(complaint="plik opcji nie jest poprawnym JSON w UTF-8.")
    if not isinstance(given, dict):
        return Options(complaint="plik opcji musi być obiektem JSON {…}.")
    return options_from(given)


def options_from(given: Mapping[str, Any]) -> Options:
    """Options by name, as CONTRACT §4 has them; null counts as absent."""
    given = {key: value for key, value in given.items() if value is not None}
    wrong: list[str] = []
    unknown = sorted(given.keys() - {"priority", "offline", "corrects_sha256", "callback_url", "reference"})
    if unknown:
        wrong.append(f"nieznane opcje: {', '.join(map(repr, unknown))}")
    if given.get("priority", "normal") not in ("normal", "urgent"):
        wrong.append("priority może być „urgent” albo „normal”")
    if not isinstance(given.get("offline", False), bool):
        wrong.append("offline może być true albo false")
    corrects = given.get("corrects_sha256")
    if corrects is not None and not (isinstance(corrects, str) and _SHA256.fullmatch(corrects)):
        wrong.append("corrects_sha256 to 64 cyfry szesnastkowe")
    callback = given.get("callback_url")
    if callback is not None and not (isinstance(callback, str) and _ADDRESS.fullmatch(callback)):
        wrong.append("callback_url musi zaczynać się od http:// albo https://")
    reference = given.get("reference")
    if reference is not None and not (isinstance(reference, str) and _REFERENCE.fullmatch(reference)):
        wrong.append("reference to tekst do 256 znaków, bez znaków sterujących")
    if wrong:
        return Options(complaint="; ".join(wrong) + ".")
    return Options(
        urgent=given.get("priority") == "urgent",
        offline=given.get("offline"),
        corrects_sha256=corrects.lower() if corrects else None,
        callback_url=callback,
        reference=reference,
    )
