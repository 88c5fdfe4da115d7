from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from lxml import etree

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP, invoice
from tests.sandbox.client import Client, FakeClock, Session, codes, digest

NS = {"u": "http://upo.schematy.mf.gov.pl/KSeF/v4-3"}


@pytest.fixture
def session(client: Client) -> Session:
    return client.login().open()


def test_the_confirmation_of_an_invoice_is_there_before_the_session_closes(client: Client, session: Session) -> None:
    content = invoice("FV/1")
    status = client.verdict(session, content)
    root = etree.fromstring(client.http.get(status["upoDownloadUrl"]).content)

    def text(path: str) -> str | None:
        return root.findtext("/".join(f"u:{step}" for step in path.split("/")), None, NS)

    assert text("NazwaPodmiotuPrzyjmujacego") == "Ministerstwo Finansów"
    assert text("NumerReferencyjnySesji") == session.reference
    assert text("Uwierzytelnienie/IdKontekstu/Nip") == NIP
    assert text("OpisPotwierdzenia/Strona") is None
    assert text("NazwaStrukturyLogicznej") == "Schemat_FA(3)_v1-0E.xsd"
    assert text("KodFormularza") == "FA (3)"
    assert text("Dokument/NipSprzedawcy") == NIP
    assert text("Dokument/NumerKSeFDokumentu") == status["ksefNumber"]
    assert text("Dokument/NumerFaktury") == "FV/1"
    assert text("Dokument/DataWystawieniaFaktury") == "2026-11-20"
    assert text("Dokument/DataPrzeslaniaDokumentu") == "2026-11-20T11:15:02.000+01:00"
    assert text("Dokument/DataNadaniaNumeruKSeF") == "2026-11-20T11:15:04.000+01:00"
    assert text("Dokument/SkrotDokumentu") == digest(content)
    assert text("Dokument/TrybWysylki") == "Online"


def test_the_confirmation_names_how_the_sender_logged_in(client: Client, sandbox: Sandbox, session: Session) -> None:
    def proof(of: Session) -> etree._Element:
        number = client.now.strftime("%H%M%S") + of.reference
        root = etree.fromstring(client.http.get(client.verdict(of, invoice(number))["upoDownloadUrl"]).content)
        return root.find("u:Uwierzytelnienie", NS)[1]

    signed = next(r for r in client.seen if r.request.url.path.endswith("xades-signature")).request.content
    by_document = proof(session)
    assert by_document.tag.endswith("SkrotDokumentuUwierzytelniajacego")
    assert by_document.text == digest(signed)
    token = sandbox.issue_token(NIP)
    by_token = proof(client.login_by_token(token).open())
    assert by_token.tag.endswith("NumerReferencyjnyTokenaKSeF")
    assert by_token.text == token.split("|")[0]


def test_a_confirmation_is_always_the_same_bytes_by_every_way(
    client: Client, session: Session, clock: FakeClock
) -> None:
    status = client.verdict(session, invoice("FV/1"))
    base = f"/sessions/{session.reference}/invoices"
    by_reference = client.xml(f"{base}/{status['referenceNumber']}/upo")
    clock.forward(minutes=5)
    by_number = client.xml(f"{base}/ksef/{status['ksefNumber']}/upo")
    by_link = client.http.get(status["upoDownloadUrl"])
    assert by_reference.content == by_number.content == by_link.content
    assert by_reference.headers["x-ms-meta-hash"] == digest(by_reference.content)
    assert by_reference.headers["content-type"] == "application/xml"


def test_the_session_confirmation_lists_what_was_accepted(client: Client, session: Session) -> None:
    contents = (invoice("FV/1"), b"<a/>", invoice("FV/2"), invoice("FV/1", seed=4))
    numbers = [client.verdict(session, content).get("ksefNumber") for content in contents]
    client.close(session)
    client.settle()
    page = client.session(session)["upo"]["pages"][0]
    by_link = client.http.get(page["downloadUrl"]).content
    by_api = client.xml(f"/sessions/{session.reference}/upo/{page['referenceNumber']}").content
    assert by_link == by_api
    root = etree.fromstring(by_link)
    listed = [node.text for node in root.findall("u:Dokument/u:NumerKSeFDokumentu", NS)]
    assert listed == [numbers[0], numbers[2]]
    assert [node.text for node in root.find("u:OpisPotwierdzenia", NS)] == ["1", "1", "1", "2", "2"]


def test_no_confirmation_for_what_is_not_accepted(client: Client, session: Session) -> None:
    reference = client.sent(session, invoice("FV/1"))
    base = f"/sessions/{session.reference}"
    assert codes(client.xml(f"{base}/invoices/{reference}/upo")) == [21178]
    assert codes(client.xml(f"{base}/invoices/ksef/5265877635-20250826-0100001AF629-AF/upo")) == [21178]
    assert codes(client.xml(f"{base}/upo/20261120-EU-0123456789-0123456789-AB")) == [21178]


def test_confirmations_are_xml_only(client: Client, session: Session) -> None:
    status = client.verdict(session, invoice("FV/1"))
    path = f"/sessions/{session.reference}/invoices/{status['referenceNumber']}/upo"
    for accept, expected in {
        "application/json": 406, "text/html, application/json;q=0.9": 406, "application/xml": 200, "*/*": 200,
        "application/json, text/xml;q=0.5": 200,
    }.items():  # fmt: skip
        assert client.call("GET", path, headers={"Accept": accept}).status_code == expected


def test_a_link_takes_no_bearer(client: Client, session: Session, sandbox: Sandbox) -> None:
    url = client.verdict(session, invoice("FV/1"))["upoDownloadUrl"]
    assert client.call("GET", url).status_code == 403
    assert [item.name for item in sandbox.deviations] == ["bearer-on-storage"]
    assert client.http.get(url).status_code == 200


def test_a_link_is_signed_and_expires(client: Client, session: Session, clock: FakeClock) -> None:
    status = client.verdict(session, invoice("FV/1"))
    other = client.verdict(session, invoice("FV/2"))
    url = status["upoDownloadUrl"]
    swapped = url.replace(status["referenceNumber"], other["referenceNumber"])
    longer = url.replace("se=2026-11-23", "se=2027-11-23")
    assert longer != url
    for bad in (swapped, longer, url.partition("?")[0], url.replace("sig=", "sig=A")):
        refused = client.http.get(bad)
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/xml"
    clock.forward(days=3, seconds=-2)
    assert client.http.get(url).status_code == 200
    clock.forward(seconds=1)
    assert client.http.get(url).status_code == 403


def test_links_lead_to_the_address_the_client_used(client: Client, session: Session) -> None:
    reference = client.verdict(session, invoice("FV/1"))["referenceNumber"]
    path = f"/sessions/{session.reference}/invoices/{reference}"
    status = client.call("GET", path, headers={"Host": "ksef:8090"}).json()
    assert urlsplit(status["upoDownloadUrl"]).netloc == "ksef:8090"


def test_an_expired_link_is_renewed_by_asking_again(client: Client, session: Session, clock: FakeClock) -> None:
    status = client.verdict(session, invoice("FV/1"))
    clock.forward(days=4)
    client.login()
    fresh = client.invoice(session, status["referenceNumber"])["upoDownloadUrl"]
    assert fresh != status["upoDownloadUrl"]
    assert client.http.get(fresh).status_code == 200
