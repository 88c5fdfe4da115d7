"""A third party judges identity and offline: ksef-client enrols, makes tokens, reads Latarnia and makes the links;
openssl verifies the certificates."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from ksef_client import KsefClient, KsefClientOptions
from ksef_client import models as strangers
from ksef_client.services.csr import generate_csr_ec, generate_csr_rsa
from ksef_client.services.verification_link import VerificationLinkService
from ksef_client.services.workflows import AuthCoordinator, OnlineSessionWorkflow
from ksef_client.services.xades import XadesKeyPair

from ksefbuffer.sandbox import Sandbox
from tests.samples import NIP, invoice
from tests.sandbox.client import digest
from tests.sandbox.test_stranger import key_pair

pytestmark = [pytest.mark.stranger, pytest.mark.process]


@contextmanager
def running() -> Iterator[tuple[Sandbox, KsefClient, KsefClientOptions]]:
    sandbox = Sandbox(latency_s=0.02, limits="none")
    with sandbox.serve() as server:
        options = KsefClientOptions(
            base_url=server.base_url,
            base_qr_url=f"{server.root}/qr",
            base_lighthouse_url=f"{server.root}/latarnia",
        )
        with KsefClient(options) as client:
            yield sandbox, client, options
    sandbox.close()


def login(client: KsefClient, pair: XadesKeyPair) -> str:
    return (
        AuthCoordinator(client.auth)
        .authenticate_with_xades_key_pair(
            key_pair=pair,
            subject_identifier_type="certificateSubject",
            context_identifier_type="nip",
            context_identifier_value=NIP,
            poll_interval_seconds=0.01,
            max_attempts=500,
        )
        .access_token
    )


def enrol(client: KsefClient, token: str, kind: str, make_csr: Any) -> tuple[str, XadesKeyPair]:
    """Serial number and key pair, by its own way from data to certificate."""
    data = client.certificates.get_enrollment_data(token)
    csr = make_csr(asdict(data))
    started = client.certificates.send_enrollment(
        strangers.EnrollCertificateRequest(
            certificate_name="Kasa nr 1", certificate_type=strangers.KsefCertificateType(kind), csr=csr.csr_base64
        ),
        access_token=token,
    )
    for _ in range(2000):
        status = client.certificates.get_enrollment_status(started.reference_number, access_token=token)
        if status.status.code >= 200:
            break
    assert status.status.code == 200, status
    serial = status.certificate_serial_number
    found = client.certificates.retrieve_certificate(
        strangers.RetrieveCertificatesRequest(certificate_serial_numbers=[serial]), access_token=token
    )
    certificate = x509.load_der_x509_certificate(b64decode(found.certificates[0].certificate))
    key = load_der_private_key(b64decode(csr.private_key_base64), None)
    pair = XadesKeyPair(
        certificate_pem=certificate.public_bytes(Encoding.PEM).decode(),
        private_key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )
    return str(serial), pair


@pytest.mark.parametrize("make_csr", [generate_csr_ec, generate_csr_rsa], ids=["ec", "rsa"])
def test_ksef_client_enrols_logs_in_and_makes_links(make_csr: Any, tmp_path: Path) -> None:
    content = invoice("FV/1", issue_date=datetime.now(UTC).date())
    with running() as (sandbox, client, options):
        token = login(client, key_pair("ec"))
        assert client.certificates.get_limits(token).can_request is True
        _, own = enrol(client, token, "Authentication", make_csr)
        renewed = login(client, own)
        serial, offline = enrol(client, renewed, "Offline", make_csr)
        listed = client.certificates.query_certificates(
            strangers.QueryCertificatesRequest(type=strangers.KsefCertificateType.OFFLINE), access_token=renewed
        )
        assert [item.certificate_serial_number for item in listed.certificates] == [serial]
        links = VerificationLinkService(options)
        how = ["p1363", "der"] if make_csr is generate_csr_ec else ["p1363"]
        for signature_format in how:
            code_2 = links.build_certificate_verification_url(
                seller_nip=NIP,
                context_identifier_type="nip",
                context_identifier_value=NIP,
                certificate_serial=serial,
                invoice_hash=digest(content),
                private_key_pem=offline.private_key_pem,
                signature_format=signature_format,
            )
            assert sandbox.follow_link(code_2)["valid"] is True
        code_1 = links.build_invoice_verification_url(NIP, datetime.now(UTC).date(), digest(content))
        assert sandbox.follow_link(code_1)["state"] == "unknown"
        revocation = strangers.RevokeCertificateRequest()
        client.certificates.revoke_certificate(serial, revocation, access_token=renewed)
        assert sandbox.follow_link(code_2)["valid"] is False
        assert sandbox.deviations == []
        authority = sandbox.authority

    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not there to verify the certificates too")
    (tmp_path / "ca.pem").write_bytes(authority)
    for name, pair, used_for in (("own", own, "Digital Signature"), ("offline", offline, "Non Repudiation")):
        path = tmp_path / f"{name}.pem"
        path.write_text(pair.certificate_pem)
        verified = subprocess.run(
            [openssl, "verify", "-x509_strict", "-CAfile", tmp_path / "ca.pem", path], capture_output=True, text=True
        )
        assert verified.returncode == 0, verified.stderr
        shown = subprocess.run([openssl, "x509", "-in", path, "-noout", "-text"], capture_output=True, text=True)
        usage = shown.stdout.split("X509v3 Key Usage: critical\n")[1].split("\n")[0].strip()
        assert usage == used_for


def test_ksef_client_makes_lists_and_revokes_a_token() -> None:
    with running() as (sandbox, client, _):
        access = login(client, key_pair("ec"))
        made = client.tokens.generate_token(
            strangers.GenerateTokenRequest(
                description="Kasa nr 1", permissions=[strangers.TokenPermissionType.INVOICEWRITE]
            ),
            access_token=access,
        )
        for _ in range(2000):
            status = client.tokens.get_token_status(made.reference_number, access_token=access).status
            if status != strangers.AuthenticationTokenStatus.PENDING:
                break
        assert status == strangers.AuthenticationTokenStatus.ACTIVE
        key = client.security.get_public_key_certificate("KsefTokenEncryption")
        result = AuthCoordinator(client.auth).authenticate_with_ksef_token(
            token=made.token,
            public_certificate=key.certificate,
            public_key_id=key.public_key_id,
            context_identifier_type="nip",
            context_identifier_value=NIP,
            poll_interval_seconds=0.01,
            max_attempts=500,
        )
        (item,) = client.tokens.list_tokens(access_token=result.access_token, statuses=["Active"]).tokens
        assert item.reference_number == made.reference_number
        client.tokens.revoke_token(made.reference_number, access_token=access)
        assert client.tokens.list_tokens(access_token=access, statuses=["Active"]).tokens == []
        assert sandbox.deviations == []


def test_ksef_client_reads_latarnia() -> None:
    with running() as (sandbox, client, _):
        assert client.lighthouse.get_status().status == strangers.LighthouseKsefStatus.AVAILABLE
        event = sandbox.latarnia("failure")
        status = client.lighthouse.get_status()
        assert status.status == strangers.LighthouseKsefStatus.FAILURE
        sandbox.latarnia("end")
        ended, begun = client.lighthouse.get_messages()
        assert (ended.event_id, ended.version, ended.type) == (event, 2, strangers.LighthouseMessageType.FAILURE_END)
        assert begun.end is None
        assert begun.title == status.messages[0].title


def test_ksef_client_sends_a_technical_correction() -> None:
    content = invoice("FV/1", issue_date=datetime.now(UTC).date())
    broken = content.replace(b"<P_15>", b"<Uwagi/><P_15>")
    with running() as (sandbox, stranger, _):
        token = login(stranger, key_pair("ec"))
        key = stranger.security.get_public_key_certificate("SymmetricKeyEncryption")
        handle = OnlineSessionWorkflow(stranger.sessions).open_session(
            form_code=strangers.FormCode(system_code="FA (3)", schema_version="1-0E", value="FA"),
            public_certificate=key.certificate,
            public_key_id=key.public_key_id,
            access_token=token,
        )
        codes = []
        for file, more in ((broken, {}), (content, {"hash_of_corrected_invoice": digest(broken)})):
            reference = handle.send_invoice(file, offline_mode=True, **more).reference_number
            for _ in range(2000):
                status = stranger.sessions.get_session_invoice_status(
                    handle.reference_number, reference, access_token=token
                )
                if status.status.code >= 200:
                    break
            codes.append(status.status.code)
        assert codes == [450, 200]
        assert sandbox.deviations == []
