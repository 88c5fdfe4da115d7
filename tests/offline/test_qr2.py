"""KOD II: its text, its signature, its picture. Keys are made here, and signatures checked by the library itself."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import pytest
import zxingcpp
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from PIL import Image

from ksefbuffer.offline import qr

HOST = "https://qr-test.ksef.mf.gov.pl"
NIP = "1111111111"
SERIAL = "01F20A5D352AE590"
HASH = urlsafe_b64decode("UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE=").hex()
GOLDEN_TEXT = (
    "qr-test.ksef.mf.gov.pl/certificate/Nip/1111111111/1111111111/01F20A5D352AE590/"
    "UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE"
)
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)

Sign = Callable[[bytes], bytes]
Check = Callable[[bytes, bytes], bool]


@cache
def _keys(kind: str) -> tuple[Sign, Check]:
    """A key as its two uses: signing a text, and checking a text with its signature."""
    if kind == "ec":
        curve = ec.generate_private_key(ec.SECP256R1())

        def sign(text: bytes) -> bytes:
            r, s = utils.decode_dss_signature(curve.sign(text, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")

        def check(text: bytes, signature: bytes) -> bool:
            halves = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            return _holds(
                curve.public_key().verify, utils.encode_dss_signature(*halves), text, ec.ECDSA(hashes.SHA256())
            )

        return sign, check
    key = rsa.generate_private_key(65537, int(kind))
    return (
        lambda text: key.sign(text, PSS, hashes.SHA256()),
        lambda text, signature: _holds(key.public_key().verify, signature, text, PSS, hashes.SHA256()),
    )


def _holds(verify: Callable[..., None], *parts: Any) -> bool:
    try:
        verify(*parts)
    except InvalidSignature:
        return False
    return True


def _url(sign: Sign, *, context: tuple[str, str] = ("Nip", NIP), qr_url: str = HOST) -> str:
    return qr.certificate_url(qr_url, *context, NIP, SERIAL, HASH, sign)


def test_the_signed_text_is_the_golden_one() -> None:
    assert qr.signed_text(HOST, "Nip", NIP, NIP, SERIAL, HASH) == GOLDEN_TEXT
    assert qr.signed_text(HOST + "/", "Nip", NIP, NIP, SERIAL, HASH) == GOLDEN_TEXT


def test_the_signer_gets_the_text_itself_and_its_answer_ends_the_link_without_padding() -> None:
    given: list[bytes] = []

    def sign(text: bytes) -> bytes:
        given.append(text)
        return bytes(range(248, 256)) * 32

    url = _url(sign)
    assert given == [GOLDEN_TEXT.encode()]
    signature = url.removeprefix(f"https://{GOLDEN_TEXT}/")
    assert len(signature) == 342
    assert urlsafe_b64decode(signature + "==") == bytes(range(248, 256)) * 32
    assert not set(url) & set("+= ")


@pytest.mark.parametrize("kind", ["ec", "2048"])
@pytest.mark.parametrize("context", [("Nip", NIP), ("InternalId", "1111111111-12345")])
def test_a_link_verifies_with_its_key_and_with_no_other(kind: str, context: tuple[str, str]) -> None:
    sign, check = _keys(kind)
    url = _url(sign, context=context)
    assert f"/certificate/{context[0]}/{context[1]}/{NIP}/{SERIAL}/" in url
    assert qr.verify(url, check)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert not qr.verify(url, lambda text, signature: _holds(other.verify, signature, text, ec.ECDSA(hashes.SHA256())))


@pytest.mark.parametrize("kind", ["ec", "2048"])
def test_any_changed_letter_breaks_the_link(kind: str) -> None:
    sign, check = _keys(kind)
    url = _url(sign)
    for place in range(len("https://"), len(url) - 1, 7):  # the last letter holds unused bits
        changed = "A" if url[place] != "A" else "B"
        assert not qr.verify(url[:place] + changed + url[place + 1 :], check), place


def test_a_digest_signed_instead_of_the_text_is_found_out() -> None:
    sign, check = _keys("ec")

    def twice(text: bytes) -> bytes:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(text)
        return sign(digest.finalize())

    assert not qr.verify(_url(twice), check)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        GOLDEN_TEXT,
        f"https://{GOLDEN_TEXT}",
        f"https://{GOLDEN_TEXT}/",
        f"https://{GOLDEN_TEXT}/AAAA=",
        f"https://{GOLDEN_TEXT}/AAAAA",
        f"https://{GOLDEN_TEXT}/AA AA",
        f"ftp://{GOLDEN_TEXT}/AAAA",
        f"https://{GOLDEN_TEXT.replace('01F2', '01f2')}/AAAA",
        f"https://{GOLDEN_TEXT.replace('/Nip/', '/nip/')}/AAAA",
        f"https://{GOLDEN_TEXT.replace('certificate', 'invoice')}/AAAA",
        f"https://{GOLDEN_TEXT}/{'A' * 1000}",
    ],
)
def test_what_is_no_kod_2_is_not_even_shown_to_the_key(url: str) -> None:
    def key(text: bytes, signature: bytes) -> bool:
        raise AssertionError("must not be asked")

    assert not qr.verify(url, key)


def test_the_guard_lets_a_right_shape_through_to_the_key() -> None:
    asked: list[tuple[bytes, bytes]] = []
    assert qr.verify(f"https://{GOLDEN_TEXT}/AAAA", lambda *parts: not asked.append(parts))
    assert asked == [(GOLDEN_TEXT.encode(), b"\0\0\0")]


@pytest.mark.parametrize(
    "changed",
    [
        {"context_type": "nip"},
        {"context_type": "NipVatUe"},
        {"context_value": "111111111"},
        {"context_value": "1111111111/"},
        {"context_type": "InternalId"},
        {"seller_nip": "PL1111111111"},
        {"serial": "01f20a5d352ae590"},
        {"serial": "1F20A5D352AE590"},
        {"serial": "0001F20A5D352AE590"},
        {"sha256_hex": "ab"},
        {"sha256_hex": "zz" * 32},
        {"qr_url": "qr-test.ksef.mf.gov.pl"},
        {"qr_url": "https://"},
    ],
)
def test_parts_of_another_shape_make_no_link(changed: dict[str, str]) -> None:
    parts = {
        "qr_url": HOST,
        "context_type": "Nip",
        "context_value": NIP,
        "seller_nip": NIP,
        "serial": SERIAL,
        "sha256_hex": HASH,
    }
    assert qr.signed_text(**parts) == GOLDEN_TEXT
    with pytest.raises(ValueError):
        qr.signed_text(**{**parts, **changed})


def test_a_signature_that_makes_the_link_too_long_or_is_none_makes_no_link() -> None:
    assert len(_url(lambda text: bytes(512))) <= qr.LONGEST_URL, "RSA-4096 fits"
    for wrong in (b"", bytes(800)):
        with pytest.raises(ValueError):
            _url(lambda text, wrong=wrong: wrong)


def test_a_sandboxs_address_with_port_and_path_is_signed_as_it_stands() -> None:
    sign, check = _keys("ec")
    url = _url(sign, qr_url="http://127.0.0.1:8090/qr")
    assert url.startswith("http://127.0.0.1:8090/qr/certificate/Nip/")
    assert qr.verify(url, check)


@pytest.mark.parametrize("kind", ["ec", "2048", "4096"])
def test_a_strangers_reader_reads_the_picture_and_the_link_still_verifies(kind: str) -> None:
    sign, check = _keys(kind)
    url = _url(sign, context=("InternalId", "1111111111-12345"))
    picture = Image.open(BytesIO(qr.png(url, qr.CERTIFICATE_LABEL)))
    [read] = zxingcpp.read_barcodes(picture)
    assert read.text == url
    assert qr.verify(read.text, check)
    assert b">CERTYFIKAT</text>" in qr.svg(url, qr.CERTIFICATE_LABEL)


def test_the_label_of_kod_1_is_the_number_once_there_is_one() -> None:
    assert qr.invoice_label(None) == qr.invoice_label("") == qr.OFFLINE_LABEL == "OFFLINE"
    assert qr.invoice_label("5265877635-20261120-0100001AF629-AF") == "5265877635-20261120-0100001AF629-AF"
