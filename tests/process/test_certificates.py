"""Certificates at the command line, and a daemon that logs in with one kept in its database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from lxml import etree

from ksefbuffer.identity.material import load_files
from ksefbuffer.ksef.xades import sign
from ksefbuffer.queue.db import Database
from tests.process.running import Town, command, town, until
from tests.process.test_processes import today_s_invoices

pytestmark = pytest.mark.process


def standings(place: Town) -> dict[str, dict[str, Any]]:
    done = command("cert", "status", "--json", cwd=place.root)
    assert done.returncode == 0, done.stderr
    return {one["purpose"]: one for one in json.loads(done.stdout)}


def issued(place: Town, kind: str) -> tuple[Path, Path]:
    """A certificate and its key, as somebody got them from KSeF elsewhere."""
    order = {"type": kind, "subjectValue": "5265877635"}
    answer = httpx.post(f"http://127.0.0.1:{place.port}/sandbox/certificates", json=order, timeout=30)
    told = answer.raise_for_status().json()
    paths = place.root / f"{kind}.crt", place.root / f"{kind}.key"
    for path, key in zip(paths, ("certificate", "privateKey"), strict=True):
        path.write_text(told[key])
    return paths


def test_certificates_from_ksef_are_enrolled_and_the_daemon_logs_in_with_them(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        assert command("init", cwd=tmp_path).returncode == 0
        done = command("cert", "enroll", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        found = standings(place)
        assert {one["status"] for one in found.values()} == {"połączenie aktywne"}
        assert set(found) == {"auth", "offline"}
        (tmp_path / "data" / "sandbox-auth.crt").unlink()
        (tmp_path / "data" / "sandbox-auth.key").unlink()
        place.start_buffer()
        contents = today_s_invoices(1)
        place.drop("000", contents["000"])
        until(lambda: place.answer("000").get("status") == "sent", "it is sent by the kept certificate")
        certificate = place.status()["certificate"]
        assert (certificate["problem"], certificate["days_left"] > 300) == (None, True)
        key = b"PRIVATE KEY"
        kept = [path for path in (tmp_path / "data").iterdir() if path.is_file()]
        assert not [path for path in kept if key in path.read_bytes()], "a key lies readable in the data folder"


def test_a_certificate_is_imported_for_what_it_is_and_mistakes_are_told(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        assert command("init", cwd=tmp_path).returncode == 0
        certificate, key = issued(place, "Authentication")
        other, other_key = issued(place, "Offline")
        for arguments, told in (
            ((key, certificate), "zamienione"),
            ((certificate, other_key), "nie pasuje"),
            ((other, other_key, "--purpose", "auth"), "Offline"),
            ((certificate, key, "--purpose", "offline"), "Uwierzytelnianie"),
            ((certificate,), ""),
            (("nie ma.crt", key), "nie"),
        ):
            refused = command("cert", "import", *arguments, cwd=tmp_path)
            assert refused.returncode in (2, 4), arguments
            assert told in refused.stderr, refused.stderr
            assert "Traceback" not in refused.stderr
        assert standings(place) == {}
        assert command("cert", "import", certificate, key, cwd=tmp_path).returncode == 0
        assert command("cert", "import", other, other_key, cwd=tmp_path).returncode == 0
        assert command("cert", "import", other, other_key, cwd=tmp_path).returncode == 1
        assert set(standings(place)) == {"auth", "offline"}


def test_a_login_signed_elsewhere_brings_both_certificates(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        assert command("init", cwd=tmp_path).returncode == 0
        nothing = command("cert", "auth-submit", "podpisany.xml", cwd=tmp_path)
        assert (nothing.returncode, "auth-request" in nothing.stderr) == (1, True)
        asked = command("cert", "auth-request", "login.xml", cwd=tmp_path)
        assert asked.returncode == 0, asked.stderr
        data = tmp_path / "data"
        # Who signs elsewhere: here the seal that the sandbox takes.
        signer = load_files(data / "sandbox-auth.crt", data / "sandbox-auth.key", None)
        unsigned = command("cert", "auth-submit", "login.xml", cwd=tmp_path)
        assert unsigned.returncode == 4
        signed = sign(etree.fromstring((tmp_path / "login.xml").read_bytes()), signer, datetime.now(UTC))
        (tmp_path / "podpisany.xml").write_bytes(signed)
        done = command("cert", "auth-submit", "podpisany.xml", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert {one["status"] for one in standings(place).values()} == {"połączenie aktywne"}


def test_no_certificate_outside_the_sandbox_stops_the_daemon_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('nip = "5265877635"\nenvironment = "test"\n')
    Database.in_file(tmp_path / "data" / "ksefbuffer.db").close()
    done = command("run", "--no-web", cwd=tmp_path)
    assert done.returncode == 2
    assert "cert import" in done.stderr
