"""QR codes for an invoice: KOD I's link and the pictures of any link. Source: FACTS §11; sizes: ISO/IEC 18004. Pure."""

from __future__ import annotations

import threading
from base64 import urlsafe_b64encode
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

# A FreeType face keeps a drawing position inside: one per thread.
_faces = threading.local()


def verification_url(qr_url: str, seller_nip: str, issue_date: date, sha256_hex: str) -> str:
    """KOD I: the link to verify an invoice, the same online and offline.

    qr_url: "https://qr…" without a trailing slash; issue_date: P_1; sha256_hex: of the very bytes that are sent.
    Raises ValueError when the hash is not 64 hexadecimal digits or the NIP not ten.
    """
    digest = bytes.fromhex(sha256_hex)
    if len(digest) != 32:
        raise ValueError("a SHA-256 has 32 bytes")
    if len(seller_nip) != 10 or not (seller_nip.isascii() and seller_nip.isdigit()):
        raise ValueError("a NIP has ten digits")
    encoded = urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{qr_url.rstrip('/')}/invoice/{seller_nip}/{issue_date:%d-%m-%Y}/{encoded}"


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
