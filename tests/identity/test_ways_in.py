"""Every supported way into KSeF as a table, from the files that people have to an invoice that KSeF took; and the
mistakes that they make on the way, each with a message of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from lxml import etree

from ksefbuffer import config as configuration
from ksefbuffer.identity.examining import examine
from ksefbuffer.identity.importing import bring_in
from ksefbuffer.identity.material import load_files
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.invoice.forms import FA3
from ksefbuffer.ksef.auth import Login, NoLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import LIMITS, NO_LIMIT, Limit, Limiter
from ksefbuffer.ksef.xades import sign
from ksefbuffer.queue import credentials
from ksefbuffer.queue.db import Database
from ksefbuffer.sandbox import Sandbox
from ksefbuffer.worker import login_of, vault_of
from tests.commanding import Run
from tests.identity.authority import OIDS, USAGES
from tests.ksef.fake import Clock
from tests.samples import NIP, NOW, invoice

PASSWORD = "Zażółć gęślą jaźń"
PESEL = "44051401359"
BRANCH = f"{NIP}-00019"
PEM, DER = Encoding.PEM, Encoding.DER
PKCS8, TRADITIONAL = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
PLAIN, SEALED = NoEncryption(), BestAvailableEncryption(PASSWORD.encode())


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM, as somebody got them."""

    certificate: bytes
    key: bytes


def as_files(encoding: Encoding, key_encoding: Encoding, form: PrivateFormat, sealing: object) -> Callable[..., str]:
    """Writes a pair so; gives the settings for it."""

    def write(folder: Path, pair: Pair) -> str:
        certificate, key = x509.load_pem_x509_certificate(pair.certificate), load_pem_private_key(pair.key, None)
        (folder / "login.crt").write_bytes(certificate.public_bytes(encoding))
        (folder / "login.key").write_bytes(key.private_bytes(key_encoding, form, sealing))  # type: ignore[arg-type]
        return 'certificate = "login.crt"\nprivate_key = "login.key"\n' + password(folder, sealing)

    return write


def as_pkcs12(sealing: object) -> Callable[..., str]:
    def write(folder: Path, pair: Pair) -> str:
        certificate, key = x509.load_pem_x509_certificate(pair.certificate), load_pem_private_key(pair.key, None)
        content = pkcs12.serialize_key_and_certificates(b"ja", key, certificate, None, sealing)  # type: ignore[arg-type]
        (folder / "login.p12").write_bytes(content)
        return 'pkcs12 = "login.p12"\n' + password(folder, sealing)

    return write


def password(folder: Path, sealing: object) -> str:
    if sealing is PLAIN:
        return ""
    (folder / "login.pass").write_text(PASSWORD + "\n")
    return 'private_key_password_file = "login.pass"\n'


FORMS = {
    "PEM with PKCS#8": as_files(PEM, PEM, PKCS8, PLAIN),
    "DER with PKCS#8": as_files(DER, DER, PKCS8, PLAIN),
    "PEM with encrypted PKCS#8": as_files(PEM, PEM, PKCS8, SEALED),
    "DER with encrypted PKCS#8": as_files(DER, DER, PKCS8, SEALED),
    "PEM with SEC1 or PKCS#1": as_files(PEM, PEM, TRADITIONAL, PLAIN),
    "PEM with encrypted SEC1 or PKCS#1": as_files(PEM, PEM, TRADITIONAL, SEALED),
    "DER with SEC1 or PKCS#1": as_files(DER, DER, TRADITIONAL, PLAIN),
    "PKCS#12": as_pkcs12(SEALED),
    "PKCS#12 without a password": as_pkcs12(PLAIN),
}


class Office:
    """A buffer's folder and the KSeF that it is to get into."""

    def __init__(self, folder: Path, database: Database, sandbox: Sandbox, clock: Clock) -> None:
        self.folder, self.database, self.sandbox, self.clock = folder, database, sandbox, clock
        self.opened: list[Ksef] = []

    def settings(self, auth: str, environment: str = "sandbox") -> configuration.Config:
        (self.folder / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "{environment}"\n[auth]\n{auth}\n')
        return configuration.load(self.folder / "config.toml", {})

    def client(self, login: Login, internal_id: str = "") -> Ksef:
        ksef = Ksef(
            base_url=self.sandbox.base_url,
            context_nip=NIP,
            internal_id=internal_id,
            login=login,
            limiter=Limiter(dict.fromkeys(LIMITS, Limit(NO_LIMIT, NO_LIMIT, NO_LIMIT))),
            clock=self.clock,
            sleep=self.clock.sleep,
            transport=self.sandbox.transport(),
        )
        self.opened.append(ksef)
        return ksef

    def enter(self, auth: str) -> Ksef:
        """As the daemon does: by the settings, and what the database keeps."""
        config = self.settings(auth)
        login = login_of(config, now=self.clock(), database=self.database, environ={})
        return self.client(login, config.auth.internal_id)

    def works(self, ksef: Ksef, number: str = "FV/1/2026") -> None:
        """An invoice gets its KSeF number by this way in, and nothing was done against the protocol."""
        session = ksef.open_session(FA3)
        reference = ksef.send(session, invoice(number))
        self.clock.sleep(5)
        assert ksef.invoice(session.reference, reference).ksef_number
        assert self.sandbox.deviations == []

    def issued(self, key: str, kind: str = "Authentication", value: str = NIP, of: str = "Nip", since: datetime | None = None) -> Pair:  # fmt: skip  # noqa: E501
        made = self.sandbox.issue_certificate(kind, value, subject_type=of, key=key, valid_from=since)
        return Pair(made.certificate, made.private_key)


@pytest.fixture
def office(sqlite_database: Database, tmp_path: Path) -> Iterator[Office]:
    clock = Clock(NOW)
    office = Office(tmp_path, sqlite_database, Sandbox(clock=clock, latency_s=0.2, limits="none", seed=1), clock)
    yield office
    for ksef in office.opened:
        ksef.close()
    office.sandbox.close()


def person(key: str, now: datetime, **subject: str) -> Pair:
    """A natural person's certificate, self-signed as on TEST."""
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
        ec.generate_private_key(ec.SECP256R1()) if key == "ec" else rsa.generate_private_key(65537, 2048)
    )
    told = {"commonName": "Jan Łoś", "countryName": "PL", "givenName": "Jan", "surname": "Łoś", **subject}
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(OIDS[part]), value) for part, value in told.items()])
    usage = x509.KeyUsage(**{one: one == "digital_signature" for one in USAGES})
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=300))
        .add_extension(usage, critical=True)
        .sign(private, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(PEM), private.private_bytes(PEM, PKCS8, PLAIN))


# --- what the key lies in


@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize("form", FORMS)
def test_a_certificate_in_every_usual_form_gets_in(office: Office, form: str, key: str) -> None:
    pair = office.issued(key)
    auth = FORMS[form](office.folder, pair)
    office.works(office.enter(auth))

    # The same kept in the database, the files gone.
    config = office.settings(auth)
    keys = config.auth
    first, second = (keys.pkcs12, None) if keys.pkcs12 else (keys.certificate, keys.private_key)
    assert first is not None
    credential = load_files(first, second, keys.read_private_key_password())
    examine(credential, "auth", environment="sandbox", nip=NIP, now=office.clock())
    vault = vault_of(config, office.database, {})
    bring_in(office.database, credentials, vault, credential, "auth", now=office.clock())
    for path in office.folder.glob("login.*"):
        path.unlink()
    office.works(office.enter(""), "FV/2/2026")


# --- whose it is, and where it leads


def granted(office: Office, kind: str, value: str) -> None:
    for context in (NIP, BRANCH):
        office.sandbox.grant(context, kind, value, ["InvoiceRead", "InvoiceWrite"])


def seal(office: Office, key: str) -> tuple[Pair, str]:
    return Pair(*make_selfsigned(NIP, now=office.clock(), key=key)), ""  # type: ignore[arg-type]


def person_of_the_company(office: Office, key: str) -> tuple[Pair, str]:
    return person(key, office.clock(), serialNumber=f"TINPL-{NIP}"), ""


def person_by_pesel(office: Office, key: str) -> tuple[Pair, str]:
    granted(office, "Pesel", PESEL)
    return person(key, office.clock(), serialNumber=f"PNOPL-{PESEL}"), ""


def person_by_fingerprint(office: Office, key: str) -> tuple[Pair, str]:
    pair = person(key, office.clock())
    fingerprint = x509.load_pem_x509_certificate(pair.certificate).fingerprint(hashes.SHA256()).hex().upper()
    granted(office, "Fingerprint", fingerprint)
    return pair, 'identifier = "certificate_fingerprint"\n'


def ksef_s_for_the_company(office: Office, key: str) -> tuple[Pair, str]:
    return office.issued(key), ""


def ksef_s_for_a_person(office: Office, key: str) -> tuple[Pair, str]:
    granted(office, "Pesel", PESEL)
    return office.issued(key, value=PESEL, of="Pesel"), ""


@pytest.mark.parametrize("context", ["", BRANCH], ids=["the company", "a branch"])
@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize(
    "whose",
    [
        seal,
        person_of_the_company,
        person_by_pesel,
        person_by_fingerprint,
        ksef_s_for_the_company,
        ksef_s_for_a_person,
    ],
)
def test_whoever_has_rights_gets_in_everywhere(
    office: Office, whose: Callable[[Office, str], tuple[Pair, str]], key: str, context: str
) -> None:
    pair, more = whose(office, key)
    more += f'internal_id = "{context}"\n' if context else ""
    office.works(office.enter(FORMS["PEM with PKCS#8"](office.folder, pair) + more))


@pytest.mark.parametrize("context", [NIP, BRANCH], ids=["the company", "a branch"])
def test_a_token_gets_in(office: Office, context: str) -> None:
    (office.folder / "ksef.token").write_text(office.sandbox.issue_token(context) + "\n")
    more = f'internal_id = "{BRANCH}"\n' if context == BRANCH else ""
    office.works(office.enter(f'method = "token"\ntoken_file = "ksef.token"\n{more}'))


@pytest.mark.parametrize("context", ["", BRANCH], ids=["the company", "a branch"])
@pytest.mark.parametrize("key", ["ec", "rsa"])
@pytest.mark.parametrize("whose", [seal, person_by_pesel, person_by_fingerprint])
def test_a_document_signed_elsewhere_gets_in(
    office: Office, whose: Callable[[Office, str], tuple[Pair, str]], key: str, context: str
) -> None:
    pair, more = whose(office, key)
    FORMS["PEM with PKCS#8"](office.folder, pair)
    signer = load_files(office.folder / "login.crt", office.folder / "login.key", None)
    ksef = office.client(NoLogin(), context)
    request = ksef.auth_request("certificate_fingerprint" if more else "certificate_subject")
    ksef.auth_submit(request, sign(etree.fromstring(request.document()), signer, office.clock()))
    office.works(ksef)


# --- mistakes


class Desk:
    """The command line beside a served KSeF, on the real clock."""

    def __init__(self, folder: Path, run: Run, sandbox: Sandbox) -> None:
        self.folder, self.run, self.sandbox = folder, run, sandbox

    def configure(self, auth: str = "", environment: str = "sandbox") -> None:
        (self.folder / "config.toml").write_text(
            f'nip = "{NIP}"\nenvironment = "{environment}"\n[ksef]\nbase_url = "{self.sandbox.base_url}"\n'
            f"[auth]\n{auth}\n"
        )

    def put(self, name: str, kind: str = "Authentication", since: timedelta | None = None) -> tuple[str, str]:
        when = None if since is None else self.sandbox.clock() + since
        made = self.sandbox.issue_certificate(kind, NIP, valid_from=when)
        return self.write(name, Pair(made.certificate, made.private_key))

    def write(self, name: str, pair: Pair) -> tuple[str, str]:
        (self.folder / f"{name}.crt").write_bytes(pair.certificate)
        (self.folder / f"{name}.key").write_bytes(pair.key)
        return f"{name}.crt", f"{name}.key"

    def refusal(self, *arguments: str) -> str:
        said = self.run(*arguments)
        assert said.code in (2, 4), (arguments, said)
        assert said.out == ""
        assert PASSWORD not in said.err
        message, _, action = said.err.partition("\n")
        assert message, arguments
        assert action.strip(), f"no way out: {message}"
        return message


@pytest.fixture
def desk(run: Run, tmp_path: Path) -> Iterator[Desk]:
    sandbox = Sandbox(limits="none", latency_s=0.01, seed=3)
    with sandbox.serve():
        desk = Desk(tmp_path, run, sandbox)
        desk.configure()
        assert run("init").code == 0
        yield desk
    sandbox.close()


def test_each_mistake_on_import_has_its_own_message(desk: Desk) -> None:
    good, good_key = desk.put("dobry")
    _, other_key = desk.put("drugi")
    offline = desk.put("offline", "Offline")
    expired = desk.put("stary", since=timedelta(days=-800))
    early = desk.put("przyszły", since=timedelta(days=9))
    key = load_pem_private_key((desk.folder / good_key).read_bytes(), None)
    (desk.folder / "zaszyfrowany.key").write_bytes(key.private_bytes(PEM, PKCS8, SEALED))
    (desk.folder / "inne.hasło").write_text("nie to")
    (desk.folder / "nieczytelny.crt").write_bytes(b"%PDF-1.7 certyfikat")
    x509_good = x509.load_pem_x509_certificate((desk.folder / good).read_bytes())
    sealed = pkcs12.serialize_key_and_certificates(b"", key, x509_good, None, SEALED)  # type: ignore[arg-type]
    (desk.folder / "dobry.p12").write_bytes(sealed)
    mistakes = [
        ((good, "zaszyfrowany.key", "--password-file", "inne.hasło"), "Hasło do pliku zaszyfrowany.key jest niewł"),
        ((good, "zaszyfrowany.key"), "nie podano hasła"),
        (("dobry.p12", "--password-file", "inne.hasło"), "Hasło do pliku dobry.p12 jest niewłaściwe"),
        ((good_key, good), "zamienione miejscami"),
        ((good, other_key), "nie pasuje"),
        ((good, good), "zamiast klucza"),
        ((good,), "bez klucza prywatnego"),
        ((good_key,), "bez certyfikatu"),
        (("nieczytelny.crt", good_key), "nie zawiera certyfikatu"),
        ((*offline, "--purpose", "auth"), "To jest certyfikat typu Offline"),
        ((good, good_key, "--purpose", "offline"), "To jest certyfikat typu Uwierzytelnianie"),
        (expired, "stracił ważność"),
        (early, "będzie ważny dopiero od"),
        (("nie ma.crt", good_key), "nie ma.crt"),
    ]
    told = []
    for arguments, said in mistakes:
        message = desk.refusal("cert", "import", *arguments)
        assert said in message, (arguments, message)
        told.append(message)
    assert len(set(told)) == len(mistakes)
    assert desk.run("cert", "status", "--json").out.strip() == "[]", "nothing of it was kept"


def test_a_self_signed_certificate_is_not_for_production(run: Run, tmp_path: Path) -> None:
    assert run("init", "--environment", "production", "--nip", NIP).code == 0
    certificate, key = make_selfsigned(NIP, now=datetime.now().astimezone())
    (tmp_path / "a.crt").write_bytes(certificate)
    (tmp_path / "a.key").write_bytes(key)
    said = run("cert", "import", "a.crt", "a.key")
    assert said.code == 4
    assert "samopodpisany" in said.err
    assert "environment = production" in said.err


def test_each_mistake_at_the_login_has_its_own_message(desk: Desk) -> None:
    """Found by us where we can know it, else told by KSeF and explained."""
    revoked = desk.put("odwołany")
    serial = x509.load_pem_x509_certificate((desk.folder / revoked[0]).read_bytes()).serial_number
    desk.sandbox.revoke(f"{serial:016X}")
    stranger = desk.sandbox.issue_certificate("Authentication", PESEL, subject_type="Pesel")
    (desk.folder / "dawny.token").write_text(token := desk.sandbox.issue_token(NIP))
    desk.sandbox.revoke_token(token)
    (desk.folder / "cudzy.token").write_text(desk.sandbox.issue_token("5260250274"))
    by_files = 'certificate = "{}"\nprivate_key = "{}"'
    by_token = 'method = "token"\ntoken_file = "{}"'
    good = desk.put("dobry")
    mistakes = [
        (by_files.format(*desk.put("offline", "Offline")), "To jest certyfikat typu Offline"),
        (by_files.format(*reversed(good)), "zamienione miejscami"),
        (by_files.format(good[0], revoked[1]), "nie pasuje"),
        (by_files.format(*revoked), "nieunieważniony"),
        (by_files.format(*desk.put("stary", since=timedelta(days=-800))), "datę ważności"),
        (by_files.format(*desk.put("przyszły", since=timedelta(days=9))), "zegar komputera"),
        (by_files.format(*desk.write("obcy", Pair(stranger.certificate, stranger.private_key))), "uprawnienia w KSeF"),
        (by_token.format("dawny.token"), "token musi być czynny"),
        (by_token.format("cudzy.token"), "dla tego samego NIP"),
    ]
    for auth, said in mistakes:
        desk.configure(auth)
        refused = desk.run("token", "list")
        assert refused.code == 4, auth
        assert said in refused.err, auth
        assert "\n" in refused.err.strip(), "a way out"
