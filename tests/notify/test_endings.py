"""What the settings name that comes to an end: certificates in files, tokens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ksefbuffer import config as configuration
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.notify.endings import named_in
from tests.samples import NIP, NOW


def config(root: Path, text: str) -> configuration.Config:
    (root / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "test"\n{text}')
    return configuration.load(root / "config.toml", {})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    certificate, key = make_selfsigned(NIP, now=NOW)
    (tmp_path / "a.crt").write_bytes(certificate)
    (tmp_path / "a.key").write_bytes(key)
    return tmp_path


def test_a_certificate_in_files_ends(files: Path) -> None:
    (found,) = named_in(config(files, '[auth]\ncertificate = "a.crt"\nprivate_key = "a.key"\n'), NOW)
    assert found.key.startswith("auth:")
    assert found.ends_at > NOW + timedelta(days=30)
    assert not found.renews


def test_files_that_cannot_be_read_are_left_to_status(files: Path) -> None:
    (files / "a.key").unlink()
    assert named_in(config(files, '[auth]\ncertificate = "a.crt"\nprivate_key = "a.key"\n'), NOW) == ()


def test_tokens_end_with_the_year(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("x")
    (found,) = named_in(config(tmp_path, '[auth]\nmethod = "token"\ntoken_file = "t"\n'), NOW)
    assert found.key == "token:2026-12-31"
    assert found.ends_at.isoformat() == "2026-12-31T22:59:59+00:00"
    assert "cert enroll" in found.action


def test_a_certificate_of_the_database_is_not_named_here(tmp_path: Path) -> None:
    assert named_in(config(tmp_path, ""), NOW) == ()
