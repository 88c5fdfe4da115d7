"""Exports against a KSeF that makes its packages with other code than ours."""

from __future__ import annotations

import hashlib
import json
import logging
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ksefbuffer.errors import Blocked, CallFault, OutcomeUnknown, Refused, Unavailable, Unreachable
from ksefbuffer.ksef.archives import Wrong, WrongBytes, open_package
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import ExportKey, ExportPart, Period, Subject
from ksefbuffer.ksef.statuses import ExportVerdict, export_verdict
from tests.ksef.fake import Clock, problem
from tests.ksef.fake_export import (
    HWM,
    SIGNED,
    STORAGE,
    FakeExports,
    content_of,
    declared,
    number,
    seal,
)

START = "2026-11-01T00:00:00.1234567+00:00"
PERIOD = Period("PermanentStorage", START, restrict_to_hwm=True)
EXPORTS = "POST /invoices/exports"
STATUS = "GET /invoices/exports/20261120-EH-0"
HTML = "<!DOCTYPE html><html><body>Request unsuccessful. Incapsula incident</body></html>"
AZURE = "<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code><Message>Not valid: sig=x%2By</Message></Error>"


@pytest.fixture
def fake(clock: Clock) -> FakeExports:
    fake = FakeExports(clock)
    fake.hold(*range(40))
    fake.part_bytes = 500
    return fake


@pytest.fixture
def ksef(fake: FakeExports) -> Iterator[Ksef]:
    ksef = fake.client()
    yield ksef
    ksef.close()


@pytest.fixture
def key(ksef: Ksef) -> ExportKey:
    return ksef.new_export_key()


@pytest.fixture
def parts(ksef: Ksef, key: ExportKey) -> tuple[ExportPart, ...]:
    package = ksef.export(ksef.start_export(Subject.BUYER, PERIOD, key=key)).package
    assert package is not None
    return package.parts


# --- the whole way


@pytest.mark.parametrize("compression", ["TarGz", "Zip"])
def test_what_ksef_packed_comes_out(fake: FakeExports, ksef: Ksef, tmp_path: Path, compression: str) -> None:
    fake.running = 2
    key = ksef.new_export_key()
    reference = ksef.start_export(Subject.THIRD, PERIOD, key=key, compression=compression)  # type: ignore[arg-type]
    codes = [ksef.export(reference).code for _ in range(3)]
    assert codes == [100, 100, 200]
    assert fake.exports[reference].body["filters"] == {
        "subjectType": "Subject3",
        "dateRange": {
            "dateType": "PermanentStorage",
            "from": START,
            "restrictToPermanentStorageHwmDate": True,
        },
    }
    assert fake.exports[reference].body["onlyMetadata"] is False
    status = ksef.export(reference)
    assert status.expires_at is not None
    package = status.package
    assert package is not None
    assert (package.count, package.truncated, package.hwm_raw, package.compression) == (40, False, HWM, compression)
    assert [part.ordinal for part in package.parts] == list(range(1, len(package.parts) + 1))
    assert len(package.parts) > 3
    # In any order, and once more for good measure.
    for part in (*reversed(package.parts), package.parts[0]):
        ksef.fetch_part(part, key, tmp_path / "package")
    paths = [tmp_path / "package" / f"part-{part.ordinal:03d}" for part in package.parts]
    assert sorted((tmp_path / "package").iterdir()) == paths
    assert sum(path.stat().st_size for path in paths) == package.size
    opened = open_package(paths, package.compression)
    assert dict(opened.invoices()) == {number(n): content_of(n) for n in range(40)}
    assert {metadata.sha256_hex for metadata in opened.metadata.values()} == {
        hashlib.sha256(content_of(n)).hexdigest() for n in range(40)
    }
    assert opened.strange == []


def test_a_running_export_goes_on_after_a_restart(fake: FakeExports, tmp_path: Path) -> None:
    before = fake.client()
    key = before.new_export_key()
    reference = before.start_export(Subject.BUYER, PERIOD, key=key)
    secret = key.secret
    assert len(secret) == 48
    after = fake.client()
    package = after.export(reference).package
    assert package is not None
    restored = ExportKey.restored(secret)
    paths = [after.fetch_part(part, restored, tmp_path) for part in package.parts]
    assert len(dict(open_package(paths, package.compression).invoices())) == 40


@pytest.mark.parametrize("secret", [b"", b"x" * 47, b"x" * 49])
def test_half_a_secret_is_no_key(secret: bytes) -> None:
    with pytest.raises(ValueError, match="secret"):
        ExportKey.restored(secret)


def test_every_export_has_a_key_of_its_own(ksef: Ksef) -> None:
    assert ksef.new_export_key().key != ksef.new_export_key().key


def test_nothing_to_export_is_a_package_without_parts(fake: FakeExports, ksef: Ksef, key: ExportKey) -> None:
    fake.records.clear()
    package = ksef.export(ksef.start_export(Subject.SELLER, PERIOD, key=key)).package
    assert package is not None
    assert (package.count, package.parts, package.hwm_raw) == (0, (), HWM)


# --- starting


def test_a_public_key_withdrawn_is_fetched_anew_and_the_start_tried_once_more(
    fake: FakeExports, ksef: Ksef, key: ExportKey
) -> None:
    ksef.start_export(Subject.BUYER, PERIOD, key=key)
    fake.key_names = ("key-2",)
    fake.plan(EXPORTS, problem(400, 21470))
    reference = ksef.start_export(Subject.BUYER, PERIOD, key=key)
    assert (fake.exports[reference].key, fake.exports[reference].iv) == (key.key, key.iv)
    fake.plan(EXPORTS, problem(400, 21470), problem(400, 21470))
    with pytest.raises(Refused) as caught:
        ksef.start_export(Subject.BUYER, PERIOD, key=key)
    assert caught.value.code == "21470"
    assert fake.count(EXPORTS) == 5


def test_too_many_exports_running_is_a_matter_of_waiting(fake: FakeExports, ksef: Ksef, key: ExportKey) -> None:
    fake.plan(EXPORTS, problem(400, 21182))
    with pytest.raises(Unavailable) as caught:
        ksef.start_export(Subject.BUYER, PERIOD, key=key)
    assert caught.value.code == "21182"


@pytest.mark.parametrize("trouble", [httpx.ReadTimeout("x"), httpx.Response(502), httpx.Response(201, text=HTML)])
def test_a_start_without_a_clear_answer_is_not_repeated(
    fake: FakeExports, ksef: Ksef, key: ExportKey, trouble: httpx.Response | Exception
) -> None:
    fake.plan(EXPORTS, trouble)
    with pytest.raises(OutcomeUnknown):
        ksef.start_export(Subject.BUYER, PERIOD, key=key)
    assert fake.count(EXPORTS) == 1


# --- asking


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (100, ExportVerdict.RUNNING),
        (150, ExportVerdict.RUNNING),
        (200, ExportVerdict.READY),
        (210, ExportVerdict.EXPIRED),
        (415, ExportVerdict.BAD_KEY),
        (420, ExportVerdict.NO_NEW_DATA),
        (500, ExportVerdict.FAILED),
        (550, ExportVerdict.FAILED),
        (201, ExportVerdict.FAILED),
        (0, ExportVerdict.FAILED),
    ],
)
def test_every_status_code_has_a_verdict(code: int, verdict: ExportVerdict) -> None:
    assert export_verdict(code) is verdict


def status(code: int, **more: object) -> httpx.Response:
    return httpx.Response(200, json={"status": {"code": code, "description": "Opis", "details": ["Bo tak"]}, **more})


@pytest.mark.parametrize("code", [100, 210, 415, 420, 500, 550])
def test_an_export_without_a_package_is_told_by_its_code(fake: FakeExports, ksef: Ksef, code: int) -> None:
    fake.plan(STATUS, status(code, package=None))
    told = ksef.export("20261120-EH-0")
    assert (told.code, told.description, told.package) == (code, "Opis Bo tak", None)


def test_an_export_that_ksef_forgot_has_expired(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(STATUS, problem(410, title="Gone", detail="Operacja wygasła i nie jest już dostępna."))
    told = ksef.export("20261120-EH-0")
    assert export_verdict(told.code) is ExportVerdict.EXPIRED
    assert "wygasła" in told.description
    # A firewall does not know what KSeF has forgotten.
    fake.plan(STATUS, httpx.Response(410, text=HTML))
    with pytest.raises(Blocked):
        ksef.export("20261120-EH-0")


def test_an_unknown_export_is_refused(fake: FakeExports, ksef: Ksef) -> None:
    fake.plan(STATUS, problem(400, 21175))
    with pytest.raises(Refused) as caught:
        ksef.export("20261120-EH-0")
    assert caught.value.code == "21175"


def test_after_a_key_that_ksef_could_not_use_its_public_keys_are_fetched_anew(
    fake: FakeExports, ksef: Ksef, key: ExportKey
) -> None:
    ksef.start_export(Subject.BUYER, PERIOD, key=key)
    before = fake.count("GET /security/public-key-certificates")
    fake.plan(STATUS, status(415))
    ksef.export("20261120-EH-0")
    ksef.start_export(Subject.BUYER, PERIOD, key=key)
    assert fake.count("GET /security/public-key-certificates") == before + 1


def test_a_truncated_package_says_where_to_go_on(fake: FakeExports, ksef: Ksef, key: ExportKey) -> None:
    last = "2026-11-11T11:40:40.2665780+00:00"
    fake.package_changes = {"isTruncated": True, "lastPermanentStorageDate": last, "compressionType": None}
    package = ksef.export(ksef.start_export(Subject.BUYER, PERIOD, key=key)).package
    assert package is not None
    assert (package.truncated, package.last_permanent_raw, package.compression) == (True, last, "")
    assert (package.last_issue, package.last_invoicing) == ("", "")


def without(package: dict[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in package.items() if name not in names}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda package: None,
        lambda package: without(package, "parts"),
        lambda package: without(package, "isTruncated"),
        lambda package: {**package, "isTruncated": "false"},
        lambda package: {**package, "parts": []},
        lambda package: {**package, "parts": package["parts"][1:]},
        lambda package: {**package, "parts": [*package["parts"], package["parts"][0]]},
        lambda package: {**package, "parts": [without(package["parts"][0], "encryptedPartHash")]},
        lambda package: {**package, "parts": [{**package["parts"][0], "url": "file:///etc/passwd"}]},
        lambda package: {**package, "parts": [{**package["parts"][0], "method": "DELETE"}]},
        lambda package: {**package, "parts": [{**package["parts"][0], "partHash": "00ff"}]},
    ],
)
def test_a_ready_package_that_is_not_told_whole_proves_nothing(
    fake: FakeExports, ksef: Ksef, spoil: Callable[[dict[str, object]], object]
) -> None:
    part = declared(1, b"x", b"y", f"{STORAGE}/x/1?{SIGNED}")
    package: dict[str, object] = {"invoiceCount": 1, "size": 1, "parts": [part], "isTruncated": False}
    fake.plan(STATUS, status(200, package=package))
    assert ksef.export("20261120-EH-0").package is not None
    fake.plan(STATUS, *[status(200, package=spoil(package))] * 4)
    with pytest.raises(OutcomeUnknown):
        ksef.export("20261120-EH-0")


# --- fetching


def test_a_part_is_fetched_without_our_access_into_a_file_of_our_own(
    fake: FakeExports, ksef: Ksef, key: ExportKey, parts: tuple[ExportPart, ...], tmp_path: Path
) -> None:
    path = ksef.fetch_part(parts[0], key, tmp_path / "new")
    assert str(fake.served[-1].url) == parts[0].url
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert hashlib.sha256(path.read_bytes()).hexdigest() == parts[0].sha256_hex


def first_bad(bad: httpx.Response | Exception, times: int = 1) -> Callable[[bytes], httpx.Response]:
    left = [bad] * times

    def serve(sealed: bytes) -> httpx.Response:
        if not left:
            return httpx.Response(200, content=sealed)
        answer = left.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return serve


@pytest.mark.parametrize(
    ("bad", "wrong"),
    [
        (httpx.Response(200, text=HTML), Wrong.PAGE),
        (httpx.Response(200, text="\n" + HTML * 30, headers={"content-type": "text/html"}), Wrong.PAGE),
        (httpx.Response(200, content=b""), Wrong.ENCRYPTED_SIZE),
        (httpx.Response(200, content=b"x" * 511), Wrong.ENCRYPTED_SIZE),
        (httpx.Response(200, content=b"x" * 513), Wrong.ENCRYPTED_SIZE),
        (httpx.Response(200, content=b"x" * 512), Wrong.ENCRYPTED_HASH),
        (httpx.Response(200, content=(HTML.encode() * 9)[:512]), Wrong.PAGE),
    ],
)
def test_bytes_that_ksef_does_not_store_are_fetched_again_and_then_named(
    fake: FakeExports,
    ksef: Ksef,
    key: ExportKey,
    parts: tuple[ExportPart, ...],
    tmp_path: Path,
    bad: httpx.Response,
    wrong: Wrong,
) -> None:
    assert parts[0].encrypted_size == 512
    fake.serve = first_bad(bad)
    ksef.fetch_part(parts[0], key, tmp_path)
    assert len(fake.served) == 2
    fake.serve = first_bad(bad, 99)
    with pytest.raises(WrongBytes) as caught:
        ksef.fetch_part(parts[1], key, tmp_path)
    assert caught.value.wrong is wrong
    assert [path.name for path in tmp_path.iterdir()] == ["part-001"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"partSize": 499}, Wrong.SIZE),
        ({"partSize": 501}, Wrong.SIZE),
        ({"partHash": declared(1, b"x", b"", "")["partHash"]}, Wrong.HASH),
        ({"encryptedPartSize": 528}, Wrong.ENCRYPTED_SIZE),
        ({"encryptedPartHash": declared(1, b"", b"x", "")["encryptedPartHash"]}, Wrong.ENCRYPTED_HASH),
    ],
)
def test_each_of_the_four_figures_is_verified(
    fake: FakeExports, ksef: Ksef, key: ExportKey, tmp_path: Path, changes: dict[str, object], wrong: Wrong
) -> None:
    fake.part_changes = changes
    package = ksef.export(ksef.start_export(Subject.BUYER, PERIOD, key=key)).package
    assert package is not None
    with pytest.raises(WrongBytes) as caught:
        ksef.fetch_part(package.parts[0], key, tmp_path)
    assert caught.value.wrong is wrong
    assert "część 1" in caught.value.details
    # The right bytes under a wrong promise stay wrong, however often they are fetched.
    assert len(fake.served) == (1 if wrong in (Wrong.SIZE, Wrong.HASH) else 4)
    assert list(tmp_path.iterdir()) == []


def test_another_exports_key_does_not_open_a_part(
    fake: FakeExports, ksef: Ksef, parts: tuple[ExportPart, ...], tmp_path: Path
) -> None:
    with pytest.raises(WrongBytes) as caught:
        ksef.fetch_part(parts[0], ExportKey(bytes(32), bytes(16)), tmp_path)
    # By chance the padding may look right.
    assert caught.value.wrong in (Wrong.KEY, Wrong.SIZE, Wrong.HASH)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_no_whole_ciphertext_is_a_matter_of_the_key(
    fake: FakeExports, ksef: Ksef, key: ExportKey, tmp_path: Path
) -> None:
    plain, sealed = b"x" * 100, seal(key.key, key.iv, b"x" * 100)[:-1]
    fake.serve = lambda stored: httpx.Response(200, content=sealed)
    ksef.start_export(Subject.BUYER, PERIOD, key=key)
    url = f"{STORAGE}/20261120-EH-0/1?{SIGNED}"
    fake.exports["20261120-EH-0"].stored[url] = sealed
    package = {"invoiceCount": 1, "size": 100, "parts": [declared(1, plain, sealed, url)], "isTruncated": False}
    fake.plan(STATUS, status(200, package=package))
    told = ksef.export("20261120-EH-0").package
    assert told is not None
    with pytest.raises(WrongBytes) as caught:
        ksef.fetch_part(told.parts[0], key, tmp_path)
    assert caught.value.wrong is Wrong.KEY


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_an_expired_link_is_refused_so_that_a_fresh_one_is_asked_for(
    fake: FakeExports, ksef: Ksef, key: ExportKey, parts: tuple[ExportPart, ...], tmp_path: Path, code: int
) -> None:
    fake.serve = first_bad(httpx.Response(code, text=AZURE, headers={"content-type": "application/xml"}))
    with pytest.raises(Refused) as caught:
        ksef.fetch_part(parts[0], key, tmp_path)
    assert caught.value.http_status == code
    assert list(tmp_path.iterdir()) == []
    fresh = ksef.export("20261120-EH-0").package
    assert fresh is not None
    assert fresh.parts[0].url != parts[0].url
    ksef.fetch_part(fresh.parts[0], key, tmp_path)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (httpx.ConnectError("refused"), Unreachable),
        (httpx.ReadTimeout("slow"), OutcomeUnknown),
        (httpx.Response(500), OutcomeUnknown),
        (httpx.Response(503, headers={"retry-after": "3"}), OutcomeUnknown),
        (httpx.Response(206, content=b"x" * 512), OutcomeUnknown),
        (httpx.Response(302, headers={"location": "https://elsewhere.example/"}), OutcomeUnknown),
    ],
)
def test_a_trouble_on_the_way_passes_or_is_told(
    fake: FakeExports,
    ksef: Ksef,
    key: ExportKey,
    parts: tuple[ExportPart, ...],
    tmp_path: Path,
    bad: httpx.Response | Exception,
    kind: type[CallFault],
) -> None:
    fake.serve = first_bad(bad, 3)
    ksef.fetch_part(parts[0], key, tmp_path)
    fake.serve = first_bad(bad, 99)
    with pytest.raises(kind):
        ksef.fetch_part(parts[1], key, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part-001"]


def test_a_firewalls_refusal_is_no_expired_link(
    fake: FakeExports, ksef: Ksef, key: ExportKey, parts: tuple[ExportPart, ...], tmp_path: Path
) -> None:
    for bad in (httpx.Response(403, text=HTML), problem(403, title="Request blocked", security={"incidentId": "7"})):
        fake.serve = first_bad(bad)
        with pytest.raises(Blocked):
            ksef.fetch_part(parts[0], key, tmp_path)


class _Cut(httpx.SyncByteStream):
    """Half of a part, then nothing."""

    def __init__(self, sealed: bytes) -> None:
        self._sealed = sealed

    def __iter__(self) -> Iterator[bytes]:
        yield self._sealed[: len(self._sealed) // 2]
        raise httpx.ReadError("cut")


def test_a_part_cut_on_the_way_is_begun_again(
    fake: FakeExports, ksef: Ksef, key: ExportKey, parts: tuple[ExportPart, ...], tmp_path: Path
) -> None:
    answers = iter([True, False])

    def serve(sealed: bytes) -> httpx.Response:
        return httpx.Response(200, stream=_Cut(sealed)) if next(answers) else httpx.Response(200, content=sealed)

    fake.serve = serve
    path = ksef.fetch_part(parts[0], key, tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == parts[0].sha256_hex


class _Pieces(httpx.SyncByteStream):
    """A part in pieces of an odd size, so that no piece ends where a block of the cipher does."""

    def __init__(self, sealed: bytes, size: int) -> None:
        self._sealed, self._size = sealed, size

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self._sealed), self._size):
            yield self._sealed[at : at + self._size]


@pytest.mark.parametrize("size", [1, 7, 16, 17, 511])
def test_a_part_may_come_in_pieces_of_any_size(
    fake: FakeExports, ksef: Ksef, key: ExportKey, parts: tuple[ExportPart, ...], tmp_path: Path, size: int
) -> None:
    fake.serve = lambda sealed: httpx.Response(200, stream=_Pieces(sealed, size))
    path = ksef.fetch_part(parts[0], key, tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == parts[0].sha256_hex


def test_an_answer_without_end_is_left_as_soon_as_it_is_too_long(
    fake: FakeExports, ksef: Ksef, key: ExportKey, parts: tuple[ExportPart, ...], tmp_path: Path
) -> None:
    given: list[int] = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for n in range(10_000):
                given.append(n)
                yield bytes(100)

    fake.serve = lambda sealed: httpx.Response(200, stream=Endless())
    with pytest.raises(WrongBytes) as caught:
        ksef.fetch_part(parts[0], key, tmp_path)
    assert caught.value.wrong is Wrong.ENCRYPTED_SIZE
    assert max(given) < 10


def test_memory_does_not_grow_with_the_part(ksef: Ksef, fake: FakeExports, key: ExportKey, tmp_path: Path) -> None:
    plain = bytes(20_000_000)
    sealed = seal(key.key, key.iv, plain)
    url = f"{STORAGE}/20261120-EH-0/1?{SIGNED}"
    ksef.start_export(Subject.BUYER, PERIOD, key=key)
    fake.exports["20261120-EH-0"].stored[url] = sealed
    fake.serve = lambda stored: httpx.Response(200, stream=_Pieces(stored, 65_536))
    package = {
        "invoiceCount": 1,
        "size": len(plain),
        "parts": [declared(1, plain, sealed, url)],
        "isTruncated": False,
    }
    fake.plan(STATUS, status(200, package=package))
    told = ksef.export("20261120-EH-0").package
    assert told is not None
    del plain
    tracemalloc.start()
    try:
        ksef.fetch_part(told.parts[0], key, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_a_leftover_of_a_crash_is_no_obstacle(
    ksef: Ksef, key: ExportKey, parts: tuple[ExportPart, ...], tmp_path: Path
) -> None:
    (tmp_path / "part-001.partial").write_bytes(b"half")
    (tmp_path / "part-001").write_bytes(b"not synced")
    path = ksef.fetch_part(parts[0], key, tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == parts[0].sha256_hex
    assert [path.name for path in tmp_path.iterdir()] == ["part-001"]


def test_secrets_appear_nowhere(
    fake: FakeExports,
    ksef: Ksef,
    key: ExportKey,
    parts: tuple[ExportPart, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    said = [repr(key), repr(parts), repr(ksef.export("20261120-EH-0"))]
    troubles = (
        httpx.ConnectError("refused"),
        httpx.Response(403, text=AZURE),
        httpx.Response(500, text=parts[0].url),
        httpx.Response(200, text=parts[0].url),
    )
    for bad in troubles:
        fake.serve = first_bad(bad, 4)
        with pytest.raises(CallFault) as caught:
            ksef.fetch_part(parts[0], key, tmp_path)
        said += [str(caught.value), repr(caught.value), repr(caught.value.__dict__)]
        assert caught.value.__cause__ is None
    text = "\n".join([*said, caplog.text])
    for secret in ("sig=", "x%2By", STORAGE, repr(key.key)[2:-1], key.key.hex()):
        assert secret not in text


def test_calls_are_counted_under_their_own_limits(fake: FakeExports, key: ExportKey, tmp_path: Path) -> None:
    limiter = Limiter()
    ksef = fake.client(limiter=limiter)
    package = ksef.export(ksef.start_export(Subject.BUYER, PERIOD, key=key)).package
    assert package is not None
    for part in package.parts:
        ksef.fetch_part(part, key, tmp_path)
    used = {group: usage.per_hour for group, usage in limiter.snapshot(fake.clock.now).items()}
    of_others = {group for group in used if group not in ("anonymous", "global") and used[group]}
    assert of_others == {"invoiceExport", "invoiceExportStatus"}
    assert (used["invoiceExport"], used["invoiceExportStatus"]) == (1, 1)


def test_the_request_is_json_as_ksef_documents_it(fake: FakeExports, ksef: Ksef, key: ExportKey) -> None:
    ksef.start_export(
        Subject.AUTHORIZED, Period("Invoicing", "2026-10-01T00:00:00Z", "2026-11-01T00:00:00+01:00"), key=key
    )
    body = json.loads(fake.last(EXPORTS).content)
    assert body["filters"] == {
        "subjectType": "SubjectAuthorized",
        "dateRange": {"dateType": "Invoicing", "from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00+01:00"},
    }
    assert set(body["encryption"]) == {"encryptedSymmetricKey", "initializationVector", "publicKeyId"}
