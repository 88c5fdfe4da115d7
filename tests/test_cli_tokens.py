"""``token``: made with the least rights, shown once, listed, revoked; and what is said where KSeF says no."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from ksefbuffer.identity.material import load_files
from ksefbuffer.ksef.xades import sign
from ksefbuffer.sandbox import Fault, Sandbox
from tests.commanding import Run
from tests.samples import NIP


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(limits="none", latency_s=0.01, seed=3)
    with made.serve():
        yield made
    made.close()


@pytest.fixture
def office(run: Run, tmp_path: Path, sandbox: Sandbox) -> Path:
    """A buffer's folder; it logs in to the sandbox with the company's seal."""
    configure(tmp_path, sandbox)
    assert run("init").code == 0
    return tmp_path


def configure(folder: Path, sandbox: Sandbox, more: str = "") -> None:
    (folder / "config.toml").write_text(
        f'nip = "{NIP}"\nenvironment = "sandbox"\n[ksef]\nbase_url = "{sandbox.base_url}"\n{more}\n'
    )


def log_in_with(folder: Path, sandbox: Sandbox, token: str) -> None:
    (folder / "ksef.token").write_text(token)
    configure(folder, sandbox, '[auth]\nmethod = "token"\ntoken_file = "ksef.token"\n')


def test_a_token_has_the_least_rights_is_shown_once_and_serves(run: Run, office: Path, sandbox: Sandbox) -> None:
    made = run("token", "make")
    assert made.code == 0, made.err
    token = made.out.strip()
    assert "\n" not in token, "nothing but the token, for pipes"
    assert "31 grudnia 2026" in made.err
    assert token not in made.err
    listed = json.loads(run("token", "list", "--json").out)
    (one,) = listed
    assert (one["status"], one["permissions"]) == ("Active", ["InvoiceRead", "InvoiceWrite"])
    assert one["reference"] in made.err
    assert one["description"].startswith(f"ksefbuffer {NIP} ")
    assert token not in json.dumps(listed)
    log_in_with(office, sandbox, token)
    assert json.loads(run("token", "list", "--json").out)[0]["last_used_at"] is not None
    assert sandbox.deviations == []


def test_a_list_is_for_people_too_and_counts_down(run: Run, office: Path) -> None:
    assert run("token", "list").out.startswith("Nie ma żadnego tokenu.")
    run("token", "make", "--description", "Kasa w Łodzi", "--permission", "InvoiceRead")
    said = run("token", "list").out
    assert "aktywny" in said
    assert "użyty: nigdy" in said
    assert "Kasa w Łodzi" in said
    assert "InvoiceWrite" not in said
    assert "ich koniec za" in said
    assert "cert auth-request" in said, "the way out"


def test_a_token_in_a_file_is_its_owner_s_alone(run: Run, office: Path) -> None:
    old = os.umask(0)
    try:
        made = run("token", "make", "--out", "kasa.token")
    finally:
        os.umask(old)
    assert (made.code, made.out) == (0, "")
    path = office / "kasa.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert NIP in path.read_text()
    assert path.read_text() not in made.err


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_what_lies_there_is_never_overwritten(run: Run, office: Path, sandbox: Sandbox, there: str) -> None:
    path = office / "kasa.token"
    if there == "file":
        path.write_text("cenne")
    elif there == "link":
        path.symlink_to("gdzie indziej")
    else:
        path.mkdir()
    made = run("token", "make", "--out", path)
    assert made.code == 2
    assert sandbox.calls["createToken"] == 0, "no token without a place for it"
    assert there != "file" or path.read_text() == "cenne"
    assert not (office / "gdzie indziej").exists()


def test_a_token_that_cannot_be_written_is_revoked(run: Run, office: Path, sandbox: Sandbox, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    real = os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "kasa.token":
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    made = run("token", "make", "--out", "kasa.token")
    assert made.code == 2
    assert "unieważniono" in made.err
    assert not (office / "kasa.token").exists()
    monkeypatch.undo()
    monkeypatch.chdir(office)
    assert json.loads(run("token", "list", "--json").out)[0]["status"].startswith("Revok")


def test_a_token_is_revoked_by_its_reference(run: Run, office: Path, sandbox: Sandbox) -> None:
    token = run("token", "make").out.strip()
    reference = json.loads(run("token", "list", "--json").out)[0]["reference"]
    assert run("token", "revoke", reference).code == 0
    assert json.loads(run("token", "list", "--json").out)[0]["status"].startswith("Revok")
    log_in_with(office, sandbox, token)
    refused = run("token", "list")
    assert refused.code == 4
    assert "auth.token_file" in refused.err


def test_an_unknown_reference_is_1(run: Run, office: Path) -> None:
    said = run("token", "revoke", "20261120-EC-0000000000-AAAAAAAAAA-BB")
    assert said.code == 1
    assert "token list" in said.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--description", "1234"), "od 5 do 256"),
        (("--description", "x" * 257), "od 5 do 256"),
        (("--permission", "Everything"), "Everything"),
        (("--signed", "nie ma.xml"), "auth-request"),
    ],
)
def test_wrong_wishes_are_told_before_any_call(
    run: Run, office: Path, sandbox: Sandbox, arguments: tuple[str, ...], told: str
) -> None:
    said = run("token", "make", *arguments)
    assert said.code in (1, 2)
    assert told in said.err
    assert sandbox.calls["createToken"] == 0


def test_a_token_makes_no_token_and_the_way_is_told(run: Run, office: Path, sandbox: Sandbox) -> None:
    log_in_with(office, sandbox, sandbox.issue_token(NIP))
    said = run("token", "make")
    assert said.code == 4
    assert "cert auth-request" in said.err
    assert sandbox.calls["createToken"] == 0


def test_rights_that_we_lack_cannot_be_given(run: Run, office: Path, sandbox: Sandbox) -> None:
    """A person with invoices' rights alone may give those on, and no others."""
    issued = sandbox.issue_certificate("Authentication", "44051401359", subject_type="Pesel")
    (office / "osoba.crt").write_bytes(issued.certificate)
    (office / "osoba.key").write_bytes(issued.private_key)
    sandbox.grant(NIP, "Pesel", "44051401359", ["InvoiceRead", "InvoiceWrite"])
    configure(office, sandbox, '[auth]\ncertificate = "osoba.crt"\nprivate_key = "osoba.key"\n')
    refused = run("token", "make", "--permission", "CredentialsManage")
    assert refused.code == 1
    assert "mniej uprawnień" in refused.err
    assert run("token", "make").code == 0


def test_a_stranger_is_refused_with_4(run: Run, office: Path, sandbox: Sandbox) -> None:
    issued = sandbox.issue_certificate("Authentication", "44051401359", subject_type="Pesel")
    (office / "osoba.crt").write_bytes(issued.certificate)
    (office / "osoba.key").write_bytes(issued.private_key)
    configure(office, sandbox, '[auth]\ncertificate = "osoba.crt"\nprivate_key = "osoba.key"\n')
    for command in (("make",), ("list",), ("revoke", "20261120-EC-0000000000-AAAAAAAAAA-BB")):
        said = run("token", *command)
        assert said.code == 4, command
        assert "uprawnienia" in said.err


def test_no_right_to_list_others_tokens_shows_one_s_own(run: Run, office: Path, sandbox: Sandbox) -> None:
    token = run("token", "make").out.strip()
    run("token", "make", "--description", "Inny program")
    log_in_with(office, sandbox, token)
    assert len(json.loads(run("token", "list", "--json").out)) == 1


def test_ksef_away_is_3(run: Run, office: Path, sandbox: Sandbox) -> None:
    sandbox.outage()
    assert run("token", "list").code == 3
    assert run("token", "make", "--out", "kasa.token").code == 3
    assert not (office / "kasa.token").exists(), "no empty file is left"


def test_a_lost_answer_is_no_reason_to_make_another_in_silence(run: Run, office: Path, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("createToken", "cut_after"))
    said = run("token", "make", "--description", "Kasa w Łodzi")
    assert said.code == 3
    assert "Kasa w Łodzi" in said.err
    assert "token revoke" in said.err
    assert sandbox.calls["createToken"] == 1
    assert len(json.loads(run("token", "list", "--json").out)) == 1


def test_a_token_that_fails_to_come_alive_is_1(run: Run, office: Path, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("createToken", "token_fails"))
    said = run("token", "make")
    assert said.code == 1
    assert "nie aktywował" in said.err


def test_a_first_login_signed_elsewhere_makes_a_token(run: Run, office: Path) -> None:
    assert run("cert", "auth-request", "login.xml").code == 0
    data = office / "data"
    signer = load_files(data / "sandbox-auth.crt", data / "sandbox-auth.key", None)
    document = sign(etree.fromstring((office / "login.xml").read_bytes()), signer, datetime.now(UTC))
    (office / "podpisany.xml").write_bytes(document)
    for name in ("crt", "key"):
        (data / f"sandbox-auth.{name}").unlink()
    made = run("token", "make", "--signed", "podpisany.xml")
    assert made.code == 0, made.err
    assert NIP in made.out
    assert not (data / "sandbox-auth.key").exists(), "nothing else was needed"
    again = run("token", "make", "--signed", "podpisany.xml")
    assert (again.code, "auth-request" in again.err) == (1, True), "a signed document serves once"


def test_no_token_is_kept_by_the_buffer(run: Run, office: Path) -> None:
    token = run("token", "make").out.strip()
    secret = token.rpartition("|")[2].encode()
    assert len(secret) >= 32
    with sqlite3.connect(office / "data" / "ksefbuffer.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    files = [path for path in office.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if secret in path.read_bytes()]
