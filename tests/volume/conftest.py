from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ksefbuffer.identity.material import load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.ksef.auth import CertificateLogin
from tests.crash.harness import START, template_database
from tests.samples import NIP


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def login(tmp_path_factory: pytest.TempPathFactory) -> CertificateLogin:
    folder = tmp_path_factory.mktemp("login")
    certificate, key = make_selfsigned(NIP, now=START - timedelta(days=1))
    (folder / "a.crt").write_bytes(certificate)
    (folder / "a.key").write_bytes(key)
    return CertificateLogin(
        load_credential(certificate=folder / "a.crt", private_key=folder / "a.key", pkcs12=None, password=None)
    )
