"""Reading a certificate with its private key, with one clear Polish message for each mistake that people make.

Formats: certificates PEM or DER; keys PKCS#8 (encrypted or not), SEC1, PKCS#1, PEM or DER; PKCS#12. Source: FACTS §9
(kinds of KSeF certificates by key usage), §2.4 (algorithms).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12 as pkcs12_format

from ksefbuffer.errors import CredentialFault
from ksefbuffer.identity.codes import sign_code
from ksefbuffer.identity.recognition import is_qualified

LARGEST_FILE = 1_000_000
SMALLEST_RSA_BITS = 2048
SMALLEST_EC_BITS = 256

_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class File(Protocol):
    """A path; or what somebody uploaded, by the name that messages call it."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...


class CredentialKind(StrEnum):
    """What a certificate may do by its key usage: log in (digitalSignature), or sign offline invoices' QR codes
    (nonRepudiation alone). UNRESTRICTED has no key usage extension and may do both. A qualified certificate, whose
    usage is often nonRepudiation alone, is for logging in."""

    AUTHENTICATION = "authentication"
    OFFLINE = "offline"
    UNRESTRICTED = "unrestricted"
    UNFIT = "unfit"


@dataclass(frozen=True)
class Credential:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)
    kind: CredentialKind

    @property
    def subject(self) -> str:
        """The subject for people and logs, RFC 4514."""
        return self.certificate.subject.rfc4514_string()

    @property
    def serial_hex(self) -> str:
        """The serial number in 16 or more upper-case hex digits, as KSeF writes it."""
        return f"{self.certificate.serial_number:016X}"

    @property
    def sha256_hex(self) -> str:
        """The certificate's fingerprint, upper-case hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex().upper()

    @property
    def expires_at(self) -> datetime:
        """The last moment of validity, UTC."""
        return self.certificate.not_valid_after_utc

    def sign_code(self, text: bytes) -> bytes:
        """The signature that goes into KOD II: see ``codes.sign_code``. Raises CredentialFault."""
        return sign_code(self.private_key, text)

    def secret(self) -> bytes:
        """The private key, PKCS#8 in DER, to be sealed at once."""
        return secret_of(self.private_key)

    def check_valid(self, now: datetime) -> None:
        """Raises CredentialFault when the certificate is not valid at ``now``."""
        if now < self.certificate.not_valid_before_utc:
            raise CredentialFault(
                f"Certyfikat będzie ważny dopiero od {_day(self.certificate.not_valid_before_utc)}.",
                action="Sprawdź zegar komputera albo użyj certyfikatu, który jest już ważny.",
            )
        if now > self.expires_at:
            raise CredentialFault(
                f"Certyfikat stracił ważność {_day(self.expires_at)}.",
                action="Pobierz z KSeF nowy certyfikat i podaj go w konfiguracji.",
            )

    def check_login(self, now: datetime) -> None:
        """Raises CredentialFault when KSeF would not let this certificate log in at ``now``."""
        if self.kind is CredentialKind.OFFLINE:
            raise CredentialFault(
                "To jest certyfikat typu Offline (do kodów QR), a do logowania potrzebny jest certyfikat typu "
                "Uwierzytelnianie.",
                action="W auth.certificate podaj certyfikat uwierzytelniający, a ten przenieś do offline.certificate.",
            )
        self._check_fit()
        self.check_valid(now)

    def check_offline(self, now: datetime) -> None:
        """Raises CredentialFault when this certificate cannot sign offline invoices' QR codes at ``now``."""
        if self.kind is CredentialKind.AUTHENTICATION:
            raise CredentialFault(
                "To jest certyfikat typu Uwierzytelnianie, a do kodów QR faktur offline potrzebny jest certyfikat typu "
                "Offline.",
                action="W offline.certificate podaj certyfikat typu Offline, a ten przenieś do auth.certificate.",
            )
        self._check_fit()
        self.check_valid(now)

    def _check_fit(self) -> None:
        if self.kind is CredentialKind.UNFIT:
            raise CredentialFault(
                "Ten certyfikat nie służy do podpisywania (brak digitalSignature i nonRepudiation).",
                action="Podaj certyfikat pobrany z KSeF albo kwalifikowany certyfikat podpisu lub pieczęci.",
            )


def secret_of(key: PrivateKey) -> bytes:
    """The key, PKCS#8 in DER, to be sealed at once."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def credential_of(certificate_pem: str, secret: bytes) -> Credential:
    """The credential of a kept certificate and what ``Credential.secret`` gave. Raises CredentialFault when they do not
    belong together or cannot be read."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
        key = _usable(serialization.load_der_private_key(secret, None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialFault(
            "Zapisanego certyfikatu lub jego klucza nie da się odczytać.",
            action="Odtwórz bazę z kopii zapasowej albo zaimportuj certyfikat ponownie (ksefbuffer cert import).",
        ) from None
    if not _same_key(certificate, key):
        raise _other_key()
    return Credential(certificate, key, _kind(certificate))


def load_files(first: File, second: File | None, password: str | None) -> Credential:
    """The credential from what a person has: a certificate and its key, or one file with both (PEM or PKCS#12).
    Raises CredentialFault."""
    if second is not None:
        return _from_pair(first, second, password)
    content = _content(first, "certyfikatu")
    if _is_pem(content) and _looks_like_key(content) and _certificates(content):
        return _from_pair(first, first, password)
    if _certificates(content):
        raise CredentialFault(
            f"Plik {first} zawiera sam certyfikat, bez klucza prywatnego.",
            action="Podaj też plik z kluczem prywatnym (.key), zapisany przy składaniu wniosku o certyfikat.",
        )
    if _looks_like_key(content):
        raise CredentialFault(
            f"Plik {first} zawiera sam klucz prywatny, bez certyfikatu.",
            action="Podaj plik z certyfikatem (.crt, .cer, .pem), a po nim plik z kluczem.",
        )
    return _from_pkcs12(first, password)


def load_credential(
    *, certificate: Path | None, private_key: Path | None, pkcs12: Path | None, password: str | None
) -> Credential:
    """The credential from a certificate file and a key file, or from one PKCS#12 file.

    Validity and purpose are not judged here: see ``Credential.check_login`` and the others. Raises CredentialFault.
    """
    if pkcs12 is not None:
        if certificate is not None or private_key is not None:
            raise CredentialFault(
                "Podano jednocześnie plik PKCS#12 oraz osobny certyfikat lub klucz.",
                action="Zostaw w konfiguracji albo pkcs12, albo parę certificate i private_key.",
            )
        return _from_pkcs12(pkcs12, password)
    if certificate is None or private_key is None:
        missing = "certificate" if certificate is None else "private_key"
        raise CredentialFault(
            f"W konfiguracji brakuje ustawienia {missing}.",
            action="Podaj parę certificate i private_key albo jeden plik pkcs12.",
        )
    return _from_pair(certificate, private_key, password)


def _from_pair(certificate: File, private_key: File, password: str | None) -> Credential:
    certificate_bytes, key_bytes = _content(certificate, "certyfikatu"), _content(private_key, "klucza prywatnego")
    certificates = _certificates(certificate_bytes)
    if not certificates:
        if _looks_like_key(certificate_bytes):
            swapped = bool(_certificates(key_bytes))
            raise CredentialFault(
                "Pliki certyfikatu i klucza są zamienione miejscami."
                if swapped
                else f"Plik {certificate} zawiera klucz prywatny zamiast certyfikatu.",
                action="Zamień wartości certificate i private_key." if swapped else "Podaj w certificate certyfikat.",
            )
        raise CredentialFault(
            f"Plik {certificate} nie zawiera certyfikatu.",
            action="Podaj certyfikat w formacie PEM albo DER (.crt, .cer, .pem).",
        )
    if not _looks_like_key(key_bytes) and _certificates(key_bytes):
        raise CredentialFault(
            f"Plik {private_key} zawiera certyfikat zamiast klucza prywatnego.",
            action="Podaj w private_key plik z kluczem prywatnym.",
        )
    key = _usable(_key(key_bytes, private_key, password))
    # A file with the whole chain may have the issuer first.
    mine = next((one for one in certificates if _same_key(one, key)), None)
    if mine is None:
        raise _other_key()
    return Credential(mine, key, _kind(mine))


def _from_pkcs12(path: File, password: str | None) -> Credential:
    content = _content(path, "PKCS#12")
    try:
        key, certificate, _ = pkcs12_format.load_key_and_certificates(content, (password or "").encode("utf-8"))
    except (ValueError, TypeError) as fault:
        raise _pkcs12_fault(path, content, password, fault) from None
    except UnsupportedAlgorithm:
        raise CredentialFault(
            f"Plik {path} jest zaszyfrowany nieobsługiwanym algorytmem.",
            action="Zapisz plik PKCS#12 ponownie, z szyfrowaniem AES-256.",
        ) from None
    if key is None or certificate is None:
        raise CredentialFault(
            f"Plik {path} nie zawiera {'klucza prywatnego' if key is None else 'certyfikatu'}.",
            action="Wyeksportuj plik PKCS#12 ponownie, razem z kluczem prywatnym i certyfikatem.",
        )
    usable = _usable(key)
    return Credential(certificate, usable, _kind(certificate))


def _other_key() -> CredentialFault:
    return CredentialFault(
        "Klucz prywatny nie pasuje do certyfikatu.",
        action="Podaj klucz, dla którego wydano ten certyfikat, albo certyfikat wydany dla tego klucza.",
    )


def _pkcs12_fault(path: File, content: bytes, password: str | None, fault: Exception) -> CredentialFault:
    if _certificates(content) or _looks_like_key(content):
        return CredentialFault(
            f"Plik {path} nie jest plikiem PKCS#12.",
            action="Użyj ustawień certificate i private_key albo podaj plik .p12 lub .pfx.",
        )
    if "password" not in str(fault).lower():
        return CredentialFault(
            f"Pliku {path} nie da się odczytać jako PKCS#12.", action="Sprawdź, czy plik nie jest uszkodzony."
        )
    return _password_missing(path) if password is None else _password_wrong(path)


def _content(path: File, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise CredentialFault(
            f"Nie ma pliku {what}: {path}.",
            action="Sprawdź ścieżkę w konfiguracji (względną wobec pliku konfiguracji).",
        ) from None
    except IsADirectoryError:
        raise CredentialFault(
            f"To jest katalog, a nie plik {what}: {path}.", action="Podaj w konfiguracji ścieżkę do pliku."
        ) from None
    except PermissionError:
        raise CredentialFault(
            f"Brak uprawnień do odczytu pliku {what}: {path}.",
            action="Nadaj użytkownikowi, pod którym działa bufor, prawo odczytu tego pliku.",
        ) from None
    except (OSError, ValueError):
        raise CredentialFault(
            f"Nie udało się odczytać pliku {what}: {path}.", action="Sprawdź dysk i ścieżkę w konfiguracji."
        ) from None
    if not content.strip():
        raise CredentialFault(f"Plik {what} jest pusty: {path}.", action="Skopiuj plik ponownie.")
    if len(content) > LARGEST_FILE:
        raise CredentialFault(f"Plik {what} jest za duży: {path}.", action="Sprawdź, czy to właściwy plik.")
    return content


def _is_pem(content: bytes) -> bool:
    return b"-----BEGIN" in content


def _certificates(content: bytes) -> list[x509.Certificate]:
    try:
        if _is_pem(content):
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError:
        return []


def _looks_like_key(content: bytes) -> bool:
    if _is_pem(content):
        return b"PRIVATE KEY-----" in content
    try:
        serialization.load_der_private_key(content, None)
    except TypeError:
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _key(content: bytes, path: File, password: str | None) -> PrivateKeyTypes:
    load = serialization.load_pem_private_key if _is_pem(content) else serialization.load_der_private_key
    # Before the key there may be the curve's parameters, or the certificate.
    block = _KEY_BLOCK.search(content)
    content = block[0] if block else content
    try:
        try:
            return load(content, None)
        except TypeError:
            # Encrypted: with no password at all that is the mistake, else the password decides.
            if password is None:
                raise _password_missing(path) from None
        try:
            return load(content, password.encode("utf-8"))
        except ValueError:
            raise _password_wrong(path) from None
    except ValueError:
        raise CredentialFault(
            f"Plik {path} nie zawiera czytelnego klucza prywatnego.",
            action="Podaj klucz w formacie PKCS#8, SEC1 albo PKCS#1 (PEM lub DER) i sprawdź, czy plik jest cały.",
        ) from None
    except UnsupportedAlgorithm:
        raise CredentialFault(
            f"Klucz w pliku {path} używa nieobsługiwanego algorytmu lub szyfrowania.",
            action="Zapisz klucz ponownie jako PKCS#8 (RSA albo EC P-256), z szyfrowaniem AES-256 albo bez.",
        ) from None


def _password_missing(path: File) -> CredentialFault:
    return CredentialFault(
        f"Plik {path} jest zaszyfrowany, a nie podano hasła.",
        action="Podaj hasło: przy imporcie albo w pliku wskazanym przez private_key_password_file.",
    )


def _password_wrong(path: File) -> CredentialFault:
    return CredentialFault(
        f"Hasło do pliku {path} jest niewłaściwe.",
        action="Podaj właściwe hasło (w pliku private_key_password_file bez spacji i pustych wierszy na końcu).",
    )


def _usable(key: PrivateKeyTypes) -> PrivateKey:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= SMALLEST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size >= SMALLEST_EC_BITS:
        return key
    raise CredentialFault(
        "Tego rodzaju klucza KSeF nie przyjmuje.",
        action=f"Użyj klucza RSA (co najmniej {SMALLEST_RSA_BITS} bitów) albo EC (co najmniej P-256).",
    )


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _same_key(certificate: x509.Certificate, key: PrivateKey) -> bool:
    try:
        return _spki(certificate.public_key()) == _spki(key.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False


def _kind(certificate: x509.Certificate) -> CredentialKind:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return CredentialKind.UNRESTRICTED
    if usage.digital_signature:
        return CredentialKind.AUTHENTICATION
    if not usage.content_commitment:
        return CredentialKind.UNFIT
    return CredentialKind.AUTHENTICATION if is_qualified(certificate) else CredentialKind.OFFLINE


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
