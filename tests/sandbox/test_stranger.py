"""Third parties judge: ksef-client drives the sandbox over a socket, xmlsec verifies the confirmations."""

from __future__ import annotations

import socket
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ksef_client import KsefClient, KsefClientOptions
from ksef_client.models import FormCode
from ksef_client.services.workflows import AuthCoordinator, BatchSessionWorkflow, OnlineSessionWorkflow
from ksef_client.services.xades import XadesKeyPair
from lxml import etree

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP, invoice
from tests.sandbox.client import DS, Client, signer
from tests.sandbox.packing import hand_in, pack

pytestmark = [pytest.mark.stranger, pytest.mark.process]

SCHEMAS = Path(__file__).parents[2] / ".." / "shared" / "ksef" / "schemas"


def key_pair(kind: str) -> XadesKeyPair:
    made = signer(key=rsa.generate_private_key(65537, 2048) if kind == "rsa" else None, now=datetime.now(UTC))
    return XadesKeyPair(
        certificate_pem=made.certificate.public_bytes(Encoding.PEM).decode(),
        private_key_pem=made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )


def login(client: KsefClient, sandbox: Sandbox, how: str) -> str:
    coordinator = AuthCoordinator(client.auth)
    common: dict[str, Any] = {
        "context_identifier_type": "nip",
        "context_identifier_value": NIP,
        "poll_interval_seconds": 0.01,
        "max_attempts": 500,
    }
    if how == "token":
        key = client.security.get_public_key_certificate("KsefTokenEncryption")
        result = coordinator.authenticate_with_ksef_token(
            token=sandbox.issue_token(NIP),
            public_certificate=key.certificate,
            public_key_id=key.public_key_id,
            **common,
        )
    else:
        result = coordinator.authenticate_with_xades_key_pair(
            key_pair=key_pair(how), subject_identifier_type="certificateSubject", **common
        )
    return result.access_token


@pytest.mark.parametrize("how", ["rsa", "ec", "token"])
def test_ksef_client_logs_in_sends_and_fetches_confirmations(how: str) -> None:
    sandbox = Sandbox(latency_s=0.02, limits="none")
    today = datetime.now(UTC).date()
    content = invoice("FV/1", issue_date=today)
    with sandbox.serve() as server:
        options = KsefClientOptions(
            base_url=server.base_url,
            strict_presigned_url_validation=False,
            allow_private_network_presigned_urls=True,
        )
        with KsefClient(options) as client:
            token = login(client, sandbox, how)
            key = client.security.get_public_key_certificate("SymmetricKeyEncryption")
            workflow = OnlineSessionWorkflow(client.sessions)
            handle = workflow.open_session(
                form_code=FormCode(system_code="FA (3)", schema_version="1-0E", value="FA"),
                public_certificate=key.certificate,
                public_key_id=key.public_key_id,
                access_token=token,
            )
            reference = handle.send_invoice(content).reference_number
            status = poll(
                lambda: client.sessions.get_session_invoice_status(
                    handle.reference_number, reference, access_token=token
                )
            )
            handle.close()
            closed = poll(lambda: client.sessions.get_session_status(handle.reference_number, token))
            upo = client.sessions.get_session_invoice_upo_by_ref(handle.reference_number, reference, access_token=token)
            page = client.sessions.get_session_upo(
                handle.reference_number, closed.upo.pages[0].reference_number, access_token=token
            )

    assert status.status.code == 200
    assert closed.status.code == 200
    assert [item.ksef_number for item in sandbox.accepted()] == [status.ksef_number]
    for document in (upo, page):
        assert status.ksef_number in (document if isinstance(document, str) else document.decode())
    assert sandbox.deviations == []
    sandbox.close()


@pytest.mark.parametrize("compression", ["Zip", "TarGz"])
def test_ksef_client_hands_in_a_package(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It uploads to no loopback address, so the sandbox gets a name.
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more: resolve("127.0.0.1" if host == "ksef.test" else host, *more)
    )
    sandbox = Sandbox(latency_s=0.02, limits="none")
    today = datetime.now(UTC).date()
    files = {f"{number}.xml": invoice(f"FV/{number}", issue_date=today) for number in range(25)}
    with sandbox.serve() as server:
        options = KsefClientOptions(
            base_url=server.base_url.replace("127.0.0.1", "ksef.test"),
            strict_presigned_url_validation=False,
            allow_private_network_presigned_urls=True,
        )
        with KsefClient(options) as client:
            token = login(client, sandbox, "ec")
            key = client.security.get_public_key_certificate("SymmetricKeyEncryption")
            reference = BatchSessionWorkflow(client.sessions, client.http_client).open_upload_and_close(
                form_code=FormCode(system_code="FA (3)", schema_version="1-0E", value="FA"),
                archive_bytes=pack(files, compression),
                compression_type=compression,
                public_certificate=key.certificate,
                public_key_id=key.public_key_id,
                access_token=token,
            )
            status = poll(lambda: client.sessions.get_session_status(reference, token))
            found = client.sessions.get_session_invoices(reference, page_size=1000, access_token=token)
            page = client.sessions.get_session_upo(
                reference, status.upo.pages[0].reference_number, access_token=token
            )  # fmt: skip

    assert (status.status.code, status.successful_invoice_count) == (200, 25)
    assert {item.invoice_file_name for item in found.invoices} == set(files)
    assert {item.ksef_number for item in found.invoices} == {item.ksef_number for item in sandbox.accepted()}
    document = page if isinstance(page, str) else page.decode()
    assert all(item.ksef_number in document for item in found.invoices)
    assert sandbox.deviations == []
    sandbox.close()


def poll(ask: Any) -> Any:
    for _ in range(2000):
        answer = ask()
        if answer.status.code >= 200:
            return answer
    raise AssertionError("no verdict")


def confirmations(client: Client) -> list[bytes]:
    """An invoice's, a session's and a batch session's."""
    session = client.login().open()
    status = client.verdict(session, invoice("FV/1"))
    client.sent(session, invoice("FV/2"))
    client.close(session)
    client.settle()
    page = client.session(session)["upo"]["pages"][0]["downloadUrl"]
    batch = hand_in(client, {"1.xml": invoice("FV/1/3"), "2.xml": invoice("FV/4")})
    client.settle()
    pages = client.session(batch)["upo"]["pages"]
    return [client.http.get(url).content for url in (status["upoDownloadUrl"], page, pages[0]["downloadUrl"])]


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_xmlsec_finds_the_confirmations_signatures_valid_and_notices_tampering(client: Client) -> None:
    xmlsec = pytest.importorskip("xmlsec")

    def verify(document: bytes) -> None:
        root = etree.fromstring(document)
        signature = root.find(f"{{{DS}}}Signature")
        xmlsec.tree.add_ids(root, ["Id"])
        der = b64decode(signature.findtext(f".//{{{DS}}}X509Certificate"))
        context = xmlsec.SignatureContext()
        context.key = xmlsec.Key.from_memory(der, xmlsec.constants.KeyDataFormatCertDer)
        context.verify(signature)

    for document in confirmations(client):
        verify(document)
        with pytest.raises(xmlsec.Error):
            verify(document.replace(b"FV/1", b"FV/9"))


def test_confirmations_follow_the_official_schema(client: Client) -> None:
    path = SCHEMAS / "upo-v4-3.xsd"
    if not path.exists():
        pytest.skip("the official schemas (shared/ksef/schemas) are not beside this checkout")
    schema = etree.XMLSchema(etree.parse(path))
    for document in confirmations(client):
        root = etree.fromstring(document)
        # The schema describes the content alone: KSeF appends the signature to it.
        root.remove(root.find(f"{{{DS}}}Signature"))
        schema.assertValid(root)


def test_signxml_finds_the_confirmations_xades_valid(client: Client) -> None:
    from signxml.xades import XAdESSignatureConfiguration, XAdESVerifier

    for document in confirmations(client):
        der = b64decode(etree.fromstring(document).findtext(f".//{{{DS}}}X509Certificate"))
        pem = f"-----BEGIN CERTIFICATE-----\n{b64encode(der).decode()}\n-----END CERTIFICATE-----\n"
        config = XAdESSignatureConfiguration(expect_references=2)
        XAdESVerifier().verify(document, x509_cert=pem, expect_config=config)


def test_signxml_signs_a_login_that_is_taken(client: Client) -> None:
    from signxml import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
    from signxml.xades import XAdESDataObjectFormat, XAdESSigner

    from tests.sandbox.client import auth_request

    class Signer(XAdESSigner):
        def add_signing_time(self, signed_signature_properties: Any, sig_root: Any, signing_settings: Any) -> None:
            super().add_signing_time(signed_signature_properties, sig_root, signing_settings)
            signed_signature_properties[-1].text = client.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    by = signer(now=client.now)
    root = etree.fromstring(auth_request(client.challenge()["challenge"]).encode())
    made = Signer(
        signature_algorithm=SignatureMethod.ECDSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_0,
        data_object_format=XAdESDataObjectFormat("AuthTokenRequest", "text/xml"),
    ).sign(root, key=by.key, cert=[by.certificate], always_add_key_value=False)
    answer = client.hand_in(etree.tostring(made, xml_declaration=True, encoding="utf-8"))
    assert answer.status_code == 202, answer.text
    client.redeem(answer.json())
