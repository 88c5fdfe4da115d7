"""QR codes for an invoice: the links of KOD I and KOD II, and the pictures of any link.

Keys stay outside: whoever holds one signs KOD II's text, and KOD II is checked before it leaves. Pure.
Source: FACTS §11; sizes: ISO/IEC 18004.
"""

from __future__ import annotations

import re
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from io import BytesIO
from xml.sax.saxutils import escape

import segno
from PIL import Image, ImageDraw, ImageFont

MODULE_PX = 5
BORDER_MODULES = 4  # ISO/IEC 18004: the quiet zone
LABEL_PX = 13
_LABEL_MARGIN_PX = 8

OFFLINE_LABEL = "OFFLINE"
CERTIFICATE_LABEL = "CERTYFIKAT"

# Signed by RSA-4096 KOD II has some 840 characters; denser codes are not read from paper by ordinary phones.
LONGEST_URL = 1000

# The kinds of context that a buffer logs in with.
_CONTEXTS: Mapping[str, re.Pattern[str]] = {
    "Nip": re.compile(r"[0-9]{10}"),
    "InternalId": re.compile(r"[0-9]{10}-[0-9]{5}"),
}
_SERIAL = re.compile(r"[0-9A-F]{16}")
_SIGNED_TEXT = re.compile(
    r"[^/]+(?:/[^/]+)*/certificate/(?:Nip/[0-9]{10}|InternalId/[0-9]{10}-[0-9]{5})/[0-9]{10}/[0-9A-F]{16}/[\w-]{43}",
    re.ASCII,
)
_SIGNATURE = re.compile(r"[A-Za-z0-9_-]+")

# A FreeType face keeps a drawing position inside: one per thread.
_faces = threading.local()


def verification_url(qr_url: str, seller_nip: str, issue_date: date, sha256_hex: str) -> str:
    """KOD I: the link to verify an invoice, the same online and offline.

    qr_url: "https://qr…" without a trailing slash; issue_date: P_1; sha256_hex: of the very bytes that are sent.
    Raises ValueError when the hash is not 64 hexadecimal digits or the NIP not ten.
    """
    return f"{qr_url.rstrip('/')}/invoice/{_nip(seller_nip)}/{issue_date:%d-%m-%Y}/{_digest(sha256_hex)}"


def invoice_label(ksef_number: str | None) -> str:
    """What stands under KOD I: the KSeF number, or OFFLINE while there is none. Source: FACTS §11."""
    return ksef_number or OFFLINE_LABEL


def signed_text(
    qr_url: str, context_type: str, context_value: str, seller_nip: str, serial: str, sha256_hex: str
) -> str:
    """What KOD II's signature is over, in UTF-8: its link without the scheme, the signature and the slash before it.

    context_type: "Nip" or "InternalId", the context that the buffer logs in with; serial: of the Offline certificate,
    16 upper-case hex digits. Raises ValueError for anything of another shape.
    """
    shape = _CONTEXTS.get(context_type)
    if shape is None or shape.fullmatch(context_value) is None:
        raise ValueError("an unknown kind of context, or not one of that kind")
    if _SERIAL.fullmatch(serial) is None:
        raise ValueError("a KSeF certificate's serial number has 16 upper-case hex digits")
    scheme, found, host = qr_url.rstrip("/").partition("://")
    if not found or scheme not in ("https", "http") or not host:
        raise ValueError("an address begins with https://")
    return f"{host}/certificate/{context_type}/{context_value}/{_nip(seller_nip)}/{serial}/{_digest(sha256_hex)}"


def certificate_url(
    qr_url: str,
    context_type: str,
    context_value: str,
    seller_nip: str,
    serial: str,
    sha256_hex: str,
    sign: Callable[[bytes], bytes],
) -> str:
    """KOD II: the link that proves who issued an invoice offline; see ``signed_text`` for its parts.

    sign: from the text's bytes (not from a digest of them: they are hashed once) to the raw signature, RSA-PSS with
    SHA-256 and a salt of 32, or ECDSA as R||S. Raises ValueError for parts of another shape and for a link too long
    to be printed; what ``sign`` raises passes through.
    """
    text = signed_text(qr_url, context_type, context_value, seller_nip, serial, sha256_hex)
    signature = sign(text.encode())
    if not signature:
        raise ValueError("an empty signature")
    url = f"{qr_url.partition('://')[0]}://{text}/{_base64url(signature)}"
    if len(url) > LONGEST_URL:
        raise ValueError(f"a link of {len(url)} characters is too long to be printed")
    return url


def verify(url: str, public_key_verify: Callable[[bytes, bytes], bool]) -> bool:
    """Whether ``url`` is a KOD II whose signature holds.

    public_key_verify: from the text's bytes and the raw signature to whether the certificate's key made it.
    """
    scheme, found, rest = url.partition("://")
    text, _, signature = rest.rpartition("/")
    if not found or scheme not in ("https", "http") or len(url) > LONGEST_URL:
        return False
    if _SIGNED_TEXT.fullmatch(text) is None or _SIGNATURE.fullmatch(signature) is None:
        return False
    try:
        raw = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except ValueError:
        return False
    return public_key_verify(text.encode(), raw)


def _nip(number: str) -> str:
    if len(number) != 10 or not (number.isascii() and number.isdigit()):
        raise ValueError("a NIP has ten digits")
    return number


def _digest(sha256_hex: str) -> str:
    digest = bytes.fromhex(sha256_hex)
    if len(digest) != 32:
        raise ValueError("a SHA-256 has 32 bytes")
    return _base64url(digest)


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def png(url: str, label: str) -> bytes:
    """A black-and-white PNG: 5 px a module, error correction M, the label centred below. Equal input, equal bytes.

    label: the KSeF number, "OFFLINE" or "CERTYFIKAT"; a label wider than the code widens the picture, never shrinks.
    """
    matrix = _matrix(url)
    side = len(matrix)
    modules = bytes(0 if dark else 255 for row in matrix for dark in row)
    code = Image.frombytes("L", (side, side), modules).resize((side * MODULE_PX,) * 2, Image.Resampling.NEAREST)
    face = _face()
    left, top, right, bottom = face.getbbox(label)
    text_width, text_height = int(right - left), int(bottom - top)
    width = max(code.width, text_width + 2 * _LABEL_MARGIN_PX)
    # The quiet zone stays white: the label stands below it.
    picture = Image.new("L", (width, code.height + text_height + _LABEL_MARGIN_PX), 255)
    picture.paste(code, ((width - code.width) // 2, 0))
    place = ((width - text_width) // 2 - left, code.height - top)
    ImageDraw.Draw(picture).text(place, label, fill=0, font=face)
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def svg(url: str, label: str) -> bytes:
    """The same as an SVG document, one unit a module, sized like the PNG; the label is text (any sans-serif face)."""
    matrix = _matrix(url)
    side = len(matrix)
    letter = min(2.6, side / (0.62 * max(len(label), 1)))
    height = side + 4
    path = "".join(_runs(y, row) for y, row in enumerate(matrix))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side * MODULE_PX}" height="{height * MODULE_PX}" '
        f'viewBox="0 0 {side} {height}">'
        f'<rect width="{side}" height="{height}" fill="#fff"/>'
        f'<path d="{path}" fill="#000" shape-rendering="crispEdges"/>'
        f'<text x="{side / 2:g}" y="{side + 2:g}" font-family="sans-serif" font-size="{letter:.2f}" '
        f'text-anchor="middle">{escape(label)}</text></svg>\n'
    ).encode()


def prepare(url: str) -> None:
    """Does the slow part of a link's pictures beforehand, while KSeF still works on the invoice."""
    _matrix(url)


@lru_cache(maxsize=512)
def _matrix(url: str) -> list[list[bool]]:
    """The modules with their quiet zone; True is dark. Choosing the mask is what costs."""
    # No boost: the version, and with it the printed size, then depends on the link's length alone.
    code = segno.make_qr(url, error="m", boost_error=False)
    return [[bool(module) for module in row] for row in code.matrix_iter(border=BORDER_MODULES)]


def _runs(y: int, row: list[bool]) -> str:
    drawn: list[str] = []
    x = 0
    while x < len(row):
        if not row[x]:
            x += 1
            continue
        end = x
        while end < len(row) and row[end]:
            end += 1
        drawn.append(f"M{x} {y}h{end - x}v1h{x - end}z")
        x = end
    return "".join(drawn)


def _face() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    face: ImageFont.FreeTypeFont | ImageFont.ImageFont | None = getattr(_faces, "face", None)
    if face is None:
        # Pillow's own face, inside its wheel: no font need be installed on a server.
        face = _faces.face = ImageFont.load_default(LABEL_PX)
    return face
