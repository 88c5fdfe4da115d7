"""The pages behind the QR codes. Links are made here by hand: no code of ksefbuffer.offline."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ksefbuffer.sandbox import IssuedCertificate, Sandbox
from tests.samples import ISSUE_DATE, NIP, invoice
from tests.sandbox.client import Client, FakeClock, digest
from tests.sandbox.test_corrections import BROKEN, GOOD

HOST = "ksef.sandbox"
OTHER = "5260250274"


def b64url(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def mark(content: bytes) -> str:
    return b64url(hashlib.sha256(content).digest())


def code_1(content: bytes, nip: str = NIP, day: date = ISSUE_DATE) -> str:
    return f"http://{HOST}/qr/invoice/{nip}/{day:%d-%m-%Y}/{mark(content)}"


def raw(signature: bytes) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(signature))


def sign(key: Any, text: bytes, *, der: bool = False) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    signature = key.sign(text, ec.ECDSA(hashes.SHA256()))
    return signature if der else raw(signature)


@dataclass
class Code2:
    """How to make a KOD II; the defaults are good."""

    content: bytes = GOOD
    context: str = f"Nip/{NIP}"
    nip: str = NIP
    host: str = HOST

    def unsigned(self, serial: str) -> str:
        return f"{self.host}/qr/certificate/{self.context}/{self.nip}/{serial}/{mark(self.content)}"

    def link(self, issued: IssuedCertificate, **how: Any) -> str:
        unsigned = self.unsigned(issued.serial)
        key = load_pem_private_key(issued.private_key, None)
        return f"http://{unsigned}/{b64url(sign(key, unsigned.encode(), **how))}"


def told(client: Client, link: str) -> dict[str, Any]:
    answer = client.http.get(link, headers={"Accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def failing(client: Client, link: str) -> list[str]:
    body = told(client, link)
    found = [check["name"] for check in body["checks"] if check["holds"] is False]
    assert body["valid"] == (not found)
    return found


def text(client: Client, link: str) -> str:
    answer = client.http.get(link)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


# --- KOD I


def test_an_accepted_invoice_is_found(client: Client) -> None:
    session = client.login().open()
    assert told(client, code_1(GOOD))["state"] == "unknown"
    assert "nie znajduje się w KSeF" in text(client, code_1(GOOD))
    status = client.verdict(session, GOOD)
    body = told(client, code_1(GOOD))
    assert (body["state"], body["ksefNumber"], body["invoiceNumber"]) == ("found", status["ksefNumber"], "FV/1")
    assert status["ksefNumber"] in text(client, code_1(GOOD))
    assert client.sandbox.follow_link(code_1(GOOD)) == body
    # The same code on whatever host.
    official = code_1(GOOD).replace(f"http://{HOST}/qr", "https://qr-test.ksef.mf.gov.pl")
    assert client.sandbox.follow_link(official) == body


def test_a_seeded_invoice_is_found_too(client: Client) -> None:
    (number,) = client.sandbox.seed([invoice("FV/8", nip=OTHER)])
    assert told(client, code_1(invoice("FV/8", nip=OTHER), nip=OTHER))["ksefNumber"] == number


def test_every_part_of_the_link_counts(client: Client) -> None:
    client.verdict(client.login().open(), GOOD)
    for wrong in (
        code_1(GOOD, nip=OTHER),
        code_1(GOOD, day=ISSUE_DATE - timedelta(days=1)),
        code_1(GOOD + b"\n"),
    ):
        assert told(client, wrong)["state"] == "unknown"


def test_a_rejected_file_is_not_in_ksef(client: Client) -> None:
    client.verdict(client.login().open(), BROKEN, offlineMode=True)
    assert told(client, code_1(BROKEN))["state"] == "unknown"


def test_the_old_code_leads_to_the_corrected_file(client: Client) -> None:
    session = client.login().open()
    client.verdict(session, BROKEN, offlineMode=True)
    still = BROKEN.replace(b"<Uwagi/>", b"<Uwaga/>")
    client.verdict(session, still, offlineMode=True, hashOfCorrectedInvoice=digest(BROKEN))
    status = client.verdict(session, GOOD, offlineMode=True, hashOfCorrectedInvoice=digest(still))
    for content in (BROKEN, still):
        body = told(client, code_1(content))
        assert (body["state"], body["ksefNumber"]) == ("corrected", status["ksefNumber"])
        assert body["currentHash"] == mark(GOOD)
    assert "technicznie poprawiona" in text(client, code_1(BROKEN))
    assert told(client, code_1(GOOD))["state"] == "found"


@pytest.mark.parametrize(
    "path",
    [
        f"invoice/123/20-11-2026/{mark(GOOD)}",
        f"invoice/{NIP}/2026-11-20/{mark(GOOD)}",
        f"invoice/{NIP}/31-11-2026/{mark(GOOD)}",
        f"invoice/{NIP}/20-11-2026/{mark(GOOD)}=",
        f"invoice/{NIP}/20-11-2026/{mark(GOOD)[:-1]}",
        f"invoice/{NIP}/20-11-2026/{mark(GOOD)[:5]}.{mark(GOOD)[5:]}",
        f"invoice/{NIP}/20-11-2026/ą",
        f"invoice/{NIP}/20-11-2026/{digest(b'2').replace('/', '%2F')}",
        f"invoice/{NIP}/20-11-2026/{hashlib.sha256(GOOD).hexdigest()}",
    ],
)
def test_a_damaged_code_is_called_so(client: Client, path: str) -> None:
    answer = client.http.get(f"http://{HOST}/qr/{path}")
    assert answer.status_code == 400
    assert "nieprawidłowy lub uszkodzony" in answer.text
    assert client.http.get(f"http://{HOST}/qr/{path}", headers={"Accept": "application/json"}).json()["error"]
    with pytest.raises(ValueError):
        client.sandbox.follow_link(f"http://{HOST}/qr/{path}")


def test_pages_escape_what_invoices_say(client: Client) -> None:
    content = invoice("<b>FV</b>&", seller_name="<script>alert(1)</script>")
    assert client.verdict(client.login().open(), content)["status"]["code"] == 200
    page = text(client, code_1(content))
    assert "<script>" not in page
    assert "&lt;b&gt;FV&lt;/b&gt;&amp;" in page


# --- KOD II


@pytest.mark.parametrize(("key", "how"), [("ec", {}), ("ec", {"der": True}), ("rsa", {})], ids=["R||S", "DER", "PSS"])
def test_a_good_code_confirms_its_issuer(client: Client, sandbox: Sandbox, key: str, how: dict[str, Any]) -> None:
    issued = sandbox.issue_certificate("Offline", NIP, key=key)
    link = Code2().link(issued, **how)
    body = told(client, link)
    assert body["valid"] is True
    assert body["certificate"]["serial"] == issued.serial
    assert body["invoice"] is None
    page = text(client, link)
    assert "Wystawca potwierdzony" in page
    assert "jeszcze nie nadany" in page
    client.verdict(client.login().open(), GOOD, offlineMode=True)
    assert told(client, link)["invoice"]["ksefNumber"] in text(client, link)


def test_a_code_for_another_host_is_followed_as_it_is(sandbox: Sandbox) -> None:
    issued = sandbox.issue_certificate("Offline", NIP)
    unsigned = Code2().unsigned(issued.serial).replace(f"{HOST}/qr", "qr-test.ksef.mf.gov.pl")
    key = load_pem_private_key(issued.private_key, None)
    link = f"https://{unsigned}/{b64url(sign(key, unsigned.encode()))}"
    assert sandbox.follow_link(link)["valid"] is True
    moved = link.replace("qr-test.ksef.mf.gov.pl", f"{HOST}/qr")
    assert sandbox.follow_link(moved)["valid"] is False


def test_a_signature_made_wrongly_does_not_hold(client: Client, sandbox: Sandbox) -> None:
    small = sandbox.issue_certificate("Offline", NIP)
    large = sandbox.issue_certificate("Offline", NIP, key="rsa")
    ec_key, rsa_key = (load_pem_private_key(issued.private_key, None) for issued in (small, large))
    text_ec, text_rsa = (Code2().unsigned(issued.serial).encode() for issued in (small, large))
    twice = hashlib.sha256(hashlib.sha256(text_ec).digest()).digest()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 20)
    wrong = [
        (text_ec, raw(ec_key.sign(twice, ec.ECDSA(Prehashed(hashes.SHA256()))))),
        (text_ec, sign(ec_key, b"https://" + text_ec)),
        (text_ec, sign(ec_key, text_ec + b"/")),
        (text_ec, sign(ec_key, text_ec)[:-1]),
        (text_rsa, rsa_key.sign(text_rsa, padding.PKCS1v15(), hashes.SHA256())),
        (text_rsa, rsa_key.sign(text_rsa, pss, hashes.SHA256())),
    ]
    for unsigned, signature in wrong:
        assert failing(client, f"http://{unsigned.decode()}/{b64url(signature)}") == ["signature"]


def test_a_signed_link_may_not_be_changed(client: Client, sandbox: Sandbox) -> None:
    link = Code2().link(sandbox.issue_certificate("Offline", NIP))
    assert failing(client, link.replace(mark(GOOD), mark(BROKEN))) == ["signature"]
    assert failing(client, link.replace(f"/{NIP}/{NIP}/", f"/{NIP}/{OTHER}/")) == ["signature", "seller"]


def test_the_certificate_must_be_for_offline_known_in_time_and_in_force(
    client: Client, sandbox: Sandbox, clock: FakeClock
) -> None:
    login = sandbox.issue_certificate("Authentication", NIP)
    assert failing(client, Code2().link(login)) == ["offline"]
    revoked, expired, later, good = (
        sandbox.issue_certificate("Offline", NIP, valid_from=clock.now + timedelta(days=days)) for days in (0, 0, 1, 0)
    )
    sandbox.revoke(revoked.serial)
    assert failing(client, Code2().link(revoked)) == ["in_force"]
    sandbox.expire(expired.serial)
    assert failing(client, Code2().link(expired)) == ["period"]
    assert failing(client, Code2().link(later)) == ["period"]
    assert failing(client, Code2().link(good)) == []
    unknown = Code2().link(good).replace(good.serial, "01F20A5D352AE590")
    assert failing(client, unknown) == ["known"]
    assert "nie sprawdzono" in text(client, unknown)
    clock.forward(days=731)
    assert failing(client, Code2().link(good)) == ["period"]


def test_the_owner_must_have_rights_in_the_context(client: Client, sandbox: Sandbox) -> None:
    person = sandbox.issue_certificate("Offline", "90010112345", subject_type="Pesel")
    assert failing(client, Code2().link(person)) == ["issuer"]
    sandbox.grant(NIP, "Pesel", "90010112345", ["InvoiceRead"])
    assert failing(client, Code2().link(person)) == ["issuer"]
    sandbox.grant(NIP, "Pesel", "90010112345", ["InvoiceWrite"])
    assert failing(client, Code2().link(person)) == []
    assert "Nie potwierdzono wystawcy" in text(client, Code2(context=f"Nip/{OTHER}", nip=OTHER).link(person))


def test_a_branch_confirms_its_companys_invoices(client: Client, sandbox: Sandbox) -> None:
    issued = sandbox.issue_certificate("Offline", NIP)
    assert failing(client, Code2(context=f"InternalId/{NIP}-12343").link(issued)) == []
    assert failing(client, Code2(context=f"InternalId/{OTHER}-12343").link(issued)) == ["issuer", "seller"]


@pytest.mark.parametrize(
    "change",
    [
        lambda link: link.replace("/Nip/", "/nip/"),
        lambda link: link.replace(f"/Nip/{NIP}", "/Nip/123"),
        lambda link: link.replace("/Nip/", "/InternalId/"),
        lambda link: link + "=",
        lambda link: link.replace("/01", "/0x"),
    ],
)
def test_a_damaged_certificate_code_is_called_so(client: Client, sandbox: Sandbox, change: Any) -> None:
    link = Code2().link(sandbox.issue_certificate("Offline", NIP))
    changed = change(link)
    assert changed != link
    assert client.http.get(changed).status_code == 400


def test_the_pages_are_served_over_a_socket(sandbox: Sandbox) -> None:
    issued = sandbox.issue_certificate("Offline", NIP)
    with sandbox.serve() as server:
        assert (sandbox.qr_url, sandbox.latarnia_url) == (f"{server.root}/qr", f"{server.root}/latarnia")
        host = server.root.removeprefix("http://")
        link = Code2(host=host).link(issued)
        answer = httpx.get(link, headers={"Accept": "application/json"})
    assert answer.json()["valid"] is True


def test_codes_are_asked_for_without_limit_or_login(sandbox: Sandbox, clock: FakeClock) -> None:
    limited = Sandbox(clock=clock, limits="production")
    with httpx.Client(transport=limited.transport()) as http:
        assert {http.get(code_1(GOOD)).status_code for _ in range(100)} == {200}
    limited.close()
