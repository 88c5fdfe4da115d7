"""KOD II's signature, judged by OpenSSL's command line, which shares nothing with our code but the curve."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.codes import sign_code, verify_code
from tests.identity.authority import certify
from tests.ksef.fake import START

# FACTS §11's own example.
TEXT = (
    b"qr-test.ksef.mf.gov.pl/certificate/Nip/1111111111/1111111111/01F20A5D352AE590/"
    b"UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE"
)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Firma (offline)")])
KEYS = {
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


def certificate(key) -> x509.Certificate:  # type: ignore[no-untyped-def]
    return certify(key.public_key(), NAME, usage="content_commitment", serial=1, since=START)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_signature_holds_for_its_text_alone(kind: str) -> None:
    key = KEYS[kind]
    signature = sign_code(key, TEXT)
    assert len(signature) == {"ec": 64, "rsa": 256}[kind]
    assert verify_code(certificate(key), TEXT, signature)
    assert not verify_code(certificate(key), TEXT + b"/", signature)
    assert not verify_code(certificate(key), TEXT, signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not verify_code(certificate(key), TEXT, b"")
    stranger = ec.generate_private_key(ec.SECP256R1())
    assert not verify_code(certificate(stranger), TEXT, signature)


def test_small_numbers_are_padded_to_32_bytes() -> None:
    # One of 256 signatures has an R or an S that begins with a zero byte.
    lengths = {len(sign_code(KEYS["ec"], TEXT + bytes([n % 256, n // 256]))) for n in range(4000)}
    assert lengths == {64}


@pytest.mark.stranger
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_openssl_takes_the_signature(tmp_path: Path, kind: str) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key = KEYS[kind]
    signature = sign_code(key, TEXT)
    if kind == "ec":
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        signature = encode_dss_signature(r, s)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for name, content in (("key.pem", public), ("text", TEXT), ("signature", signature)):
        (tmp_path / name).write_bytes(content)
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-sigopt", "rsa_mgf1_md:sha256"]
    command = [openssl, "dgst", "-sha256", *(pss if kind == "rsa" else []), "-verify", "key.pem"]
    done = subprocess.run([*command, "-signature", "signature", "text"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_salt_has_32_bytes_and_the_text_is_hashed_once() -> None:
    key = KEYS["rsa"]
    for salt in (0, 20, 222):
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=salt)
        assert not verify_code(certificate(key), TEXT, key.sign(TEXT, pss, hashes.SHA256()))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(TEXT)
    once = digest.finalize()
    curve = KEYS["ec"]
    assert not verify_code(certificate(curve), TEXT, sign_code(curve, once))


def test_another_curve_is_refused_with_words() -> None:
    with pytest.raises(CredentialFault, match="P-256"):
        sign_code(ec.generate_private_key(ec.SECP384R1()), TEXT)
