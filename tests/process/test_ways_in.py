"""A daemon whose certificate nears its end renews it by itself while invoices flow, and shows nobody a key."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from ksefbuffer.identity.chosen import unsealed
from ksefbuffer.identity.vault import open_vault
from ksefbuffer.queue import credentials
from ksefbuffer.queue.db import Database
from tests.process.running import Town, command, town, until
from tests.process.test_processes import today_s_invoices
from tests.samples import NIP

pytestmark = pytest.mark.process

LIFE_DAYS = 730
# The beginning of any EC P-256 or RSA key in PKCS#8; a public key has no version before its algorithm.
KEY_BEGINNINGS = (
    bytes.fromhex("020100301306072a8648ce3d020106082a8648ce3d030107"),
    bytes.fromhex("020100300d06092a864886f70d0101010500"),
    b"PRIVATE KEY-----",
)


def control(place: Town, method: str, what: str, **body: Any) -> Any:
    answer = httpx.request(method, f"http://127.0.0.1:{place.port}/sandbox/{what}", json=body, timeout=30)
    return answer.raise_for_status().json() if answer.content else None


def bring(place: Town, kind: str, key: str, days_left: int) -> bytes:
    """A certificate from KSeF that ends in so many days, imported; its files are gone, its key is given back."""
    since = datetime.now(UTC) - timedelta(days=LIFE_DAYS - days_left)
    issued = control(place, "POST", "certificates", type=kind, subjectValue=NIP, key=key, validFrom=since.isoformat())
    paths = place.root / f"{kind}.crt", place.root / f"{kind}.key"
    for path, name in zip(paths, ("certificate", "privateKey"), strict=True):
        path.write_text(issued[name])
    done = command("cert", "import", *paths, cwd=place.root)
    assert done.returncode == 0, done.stderr
    for path in paths:
        path.unlink()
    private: str = issued["privateKey"]
    return private.encode()


def kept(place: Town) -> list[dict[str, Any]]:
    """Certificates for logging in, the oldest first."""
    done = command("cert", "status", "--json", cwd=place.root)
    assert done.returncode == 0, done.stderr
    return [one for one in reversed(json.loads(done.stdout)) if one["purpose"] == "auth"]


def traces(key: Any) -> set[bytes]:
    """What would give a key away, however it was written."""
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    numbers = key.private_numbers()
    secret = numbers.private_value if isinstance(key, ec.EllipticCurvePrivateKey) else numbers.d
    raw = secret.to_bytes((secret.bit_length() + 7) // 8)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    lines = [line for line in pem.splitlines() if len(line) == 64 and not line.startswith(b"-")]
    return {der, raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw)[:40], lines[-1]}


def seen_in(place: Town, needles: set[bytes]) -> list[str]:
    """Where any of these can be read: files (logs, database, folders), and what everybody may ask of the process."""
    assert place.buffer is not None
    process = Path("/proc") / str(place.buffer.popen.pid)
    # The sandbox keeps keys of its own.
    readable = [p for p in place.root.rglob("*") if p.is_file() and not p.name.startswith("ksef.db")]
    found = []
    for path in (*readable, process / "cmdline", process / "environ"):
        content = path.read_bytes()
        found += [path.name for needle in needles if needle in content]
    return found


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_a_certificate_near_its_end_is_renewed_while_invoices_flow(tmp_path: Path, key: str) -> None:
    with town(tmp_path) as place:
        place.start_ksef()
        assert command("init", cwd=tmp_path).returncode == 0
        for name in ("crt", "key"):
            (tmp_path / "data" / f"sandbox-auth.{name}").unlink()
        old_key = bring(place, "Authentication", key, days_left=20)
        bring(place, "Offline", "ec", days_left=500)
        (old,) = kept(place)
        # KSeF takes its time: what the daemon does meanwhile is to be seen.
        control(place, "POST", "faults", operation="enrollCertificate", kind="stuck")
        place.start_buffer()
        invoices = iter(today_s_invoices(3).items())

        def one_more_is_sent() -> None:
            name, content = next(invoices)
            place.drop(name, content)
            until(lambda: place.answer(name).get("status") == "sent", "an invoice is sent")

        one_more_is_sent()
        until(lambda: place.ask_ksef("calls").get("enrollCertificate"), "a new certificate is asked for")
        first, second = until(lambda: found if len(found := kept(place)) == 2 else None, "the request is told of")
        assert (first["serial"], first["status"]) == (old["serial"], "wygasa za 20 dni"), "in use until the new serves"
        assert second["status"] == "w trakcie konfiguracji"
        one_more_is_sent()

        control(place, "POST", "release")
        until(lambda: [one["status"] for one in kept(place)] == ["zastąpiony", "połączenie aktywne"], "it is renewed")
        one_more_is_sent()
        assert place.ask_ksef("calls")["enrollCertificate"] == 1, "one request, one certificate"
        # Not revoked: who knows what else was given out under it.
        assert {one["status"] for one in place.ask_ksef("certificates") if one["type"] == "Authentication"} == {
            "Active"
        }
        assert place.ask_ksef("deviations") == []

        keys = [load_pem_private_key(old_key, None), *renewed_keys(tmp_path)]
        assert len(keys) >= 2
        needles = {needle for one in keys for needle in traces(one)} | set(KEY_BEGINNINGS)
        assert seen_in(place, needles) == []
        # The search itself finds a key that lies about.
        (tmp_path / "zapomniany.key").write_bytes(old_key)
        assert "zapomniany.key" in seen_in(place, traces(keys[0]))
        assert "zapomniany.key" in seen_in(place, set(KEY_BEGINNINGS))


def renewed_keys(folder: Path) -> list[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]:
    """Every key that the buffer keeps, as only it can open them."""
    database = Database.in_file(folder / "data" / "ksefbuffer.db")
    try:
        vault = open_vault(folder / "data", None, may_make=False)
        with database.reading() as tx:
            rows = [row for row in credentials.all_kept(tx) if row.sealed_key is not None]
        keys = [load_der_private_key(unsealed(row, vault).secret(), None) for row in rows]
    finally:
        database.close()
    assert all(isinstance(one, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) for one in keys)
    return keys  # type: ignore[return-value]
