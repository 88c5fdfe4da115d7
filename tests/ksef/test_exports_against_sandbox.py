"""Exports and metadata of the project's strict KSeF, which shares no code with us."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ksefbuffer.errors import OutcomeUnknown, RateLimited, Refused, Unavailable
from ksefbuffer.ksef.archives import Package, Wrong, WrongBytes, open_package
from ksefbuffer.ksef.auth import TokenLogin
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.packages import Compression
from ksefbuffer.ksef.shapes import ExportKey, ExportPackage, Period, Subject
from ksefbuffer.ksef.statuses import ExportVerdict, export_verdict
from ksefbuffer.sandbox import Fault, Sandbox, SeededInvoice
from tests import samples
from tests.ksef.fake import Clock

NIP = samples.NIP
START = "2026-11-19T00:00:00.0000000+00:00"


@pytest.fixture
def clock() -> Clock:
    return Clock(samples.NOW)


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    sandbox = Sandbox(clock=clock, latency_s=0.2, limits="production", seed=1)
    yield sandbox
    sandbox.close()


@pytest.fixture
def ksef(sandbox: Sandbox, clock: Clock) -> Iterator[Ksef]:
    ksef = Ksef(
        base_url=sandbox.base_url,
        context_nip=NIP,
        login=TokenLogin(sandbox.issue_token(NIP)),
        limiter=Limiter(),
        clock=clock,
        sleep=clock.sleep,
        transport=sandbox.transport(),
    )
    yield ksef
    ksef.close()


@pytest.fixture
def key(ksef: Ksef) -> ExportKey:
    return ksef.new_export_key()


def bought(count: int, first: int = 0) -> list[bytes]:
    return [
        samples.invoice(f"Z/{number}", samples.a_nip(number % 7), buyer_nip=NIP, seed=number)
        for number in range(first, first + count)
    ]


def period(start: str = START) -> Period:
    return Period("PermanentStorage", start, restrict_to_hwm=True)


def packed(
    ksef: Ksef, clock: Clock, key: ExportKey, start: str = START, compression: Compression = "TarGz"
) -> tuple[str, ExportPackage]:
    reference = ksef.start_export(Subject.BUYER, period(start), key=key, compression=compression)
    assert export_verdict(ksef.export(reference).code) is ExportVerdict.RUNNING
    clock.sleep(1)
    status = ksef.export(reference)
    assert export_verdict(status.code) is ExportVerdict.READY
    assert status.package is not None
    return reference, status.package


def opened(ksef: Ksef, package: ExportPackage, key: ExportKey, folder: Path) -> Package:
    paths = [ksef.fetch_part(part, key, folder) for part in package.parts]
    return open_package(paths, package.compression)


def checked(package: Package) -> dict[str, bytes]:
    """The invoices, each as its metadata say."""
    found = {}
    for number, content in package.invoices():
        assert package.metadata[number].sha256_hex == hashlib.sha256(content).hexdigest()
        found[number] = content
    assert set(found) == set(package.metadata)
    return found


@pytest.mark.parametrize("compression", ["TarGz", "Zip"])
def test_the_whole_way_of_a_package(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, tmp_path: Path, compression: Compression
) -> None:
    contents = [*bought(60), b"", b"\xef\xbb\xbf<Faktura>\xc5", b"<?xml version='1.0'?>\n<a/>"]
    ours = {"buyer": {"identifier": {"type": "Nip", "value": NIP}}}
    given = sandbox.seed([*contents[:60], *(SeededInvoice(content, ours) for content in contents[60:])])
    sandbox.seed([samples.invoice("O/1", buyer_nip=samples.a_nip(3), nip=samples.a_nip(4))])
    sandbox.export_at_most(part_bytes=1500)
    _, package = packed(ksef, clock, key, compression=compression)
    assert (package.count, package.truncated, package.compression) == (63, False, compression)
    assert len(package.parts) > 3
    assert package.hwm_raw
    unpacked = opened(ksef, package, key, tmp_path)
    assert checked(unpacked) == dict(zip(given, contents, strict=True))
    assert unpacked.strange == []
    assert sandbox.deviations == []


def test_packages_follow_one_another_by_raw_cursors_until_nothing_is_new(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, tmp_path: Path
) -> None:
    contents = bought(25)
    given = sandbox.seed(contents)
    sandbox.export_at_most(7)
    cursor, found, rounds = START, dict[str, bytes](), 0
    while True:
        key = ksef.new_export_key()
        _, package = packed(ksef, clock, key, cursor)
        found.update(checked(opened(ksef, package, key, tmp_path / str(rounds))))
        rounds += 1
        if not package.truncated:
            break
        assert package.last_permanent_raw == list(sandbox_dates(ksef).values())[len(found) - 1]
        cursor = package.last_permanent_raw
    assert rounds == 4
    assert found == dict(zip(given, contents, strict=True))
    assert {len(date) for date in sandbox_dates(ksef).values()} >= {33}, "seven digits are to be met with"

    clock.sleep(60)
    sandbox.hold_hwm()
    _, package = packed(ksef, clock, key, package.hwm_raw)
    assert (package.count, package.parts) == (0, ())
    clock.sleep(60)
    beyond = clock.now.isoformat()
    reference = ksef.start_export(Subject.BUYER, period(beyond), key=key)
    clock.sleep(1)
    assert export_verdict(ksef.export(reference).code) is ExportVerdict.NO_NEW_DATA
    assert ksef.query_metadata(Subject.BUYER, period(beyond)).invoices == ()
    assert sandbox.deviations == []


def sandbox_dates(ksef: Ksef) -> dict[str, str]:
    return {
        entry.ksef_number: entry.permanent_at_raw
        for entry in ksef.query_metadata(Subject.BUYER, Period("PermanentStorage", START)).invoices
    }


@pytest.mark.parametrize("subject", list(Subject))
def test_invoices_come_under_every_role(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, tmp_path: Path, subject: Subject
) -> None:
    other = {"buyer": {"identifier": {"type": "None"}}}
    roles = {
        Subject.SELLER: {**other, "seller": {"nip": NIP, "name": "My"}},
        Subject.BUYER: {"buyer": {"identifier": {"type": "Nip", "value": NIP}}},
        Subject.THIRD: {
            **other,
            "thirdSubjects": [{"identifier": {"type": "Nip", "value": NIP}, "name": "Sklep", "role": 2}],
        },
        Subject.AUTHORIZED: {**other, "authorizedSubject": {"nip": NIP, "name": "My", "role": 3}},
    }
    contents = [samples.invoice(f"R/{n}", samples.a_nip(n), buyer_nip=samples.a_nip(n + 50)) for n in range(4)]
    given = sandbox.seed(
        SeededInvoice(content, metadata) for content, metadata in zip(contents, roles.values(), strict=True)
    )
    [number] = [number for number, role in zip(given, roles, strict=True) if role is subject]
    [entry] = ksef.metadata(subject, Period("PermanentStorage", START))
    assert entry.ksef_number == number
    if subject is Subject.THIRD:
        assert [(third.identifier, third.name, third.role) for third in entry.thirds] == [(NIP, "Sklep", 2)]
    if subject is Subject.AUTHORIZED:
        assert entry.authorized is not None
        assert (entry.authorized.identifier, entry.authorized.role) == (NIP, 3)
    reference = ksef.start_export(subject, period(), key=key)
    clock.sleep(1)
    package = ksef.export(reference).package
    assert package is not None
    assert list(checked(opened(ksef, package, key, tmp_path))) == [number]


def test_metadata_are_listed_to_the_end_over_truncation_and_overlapping_pages(
    sandbox: Sandbox, ksef: Ksef, clock: Clock
) -> None:
    given = sandbox.seed(bought(1200))
    sandbox.metadata_at_most(600)
    sandbox.faults.add(Fault("queryMetadata", "overlap", times=None, ordinal=3))
    found = []
    for entry in ksef.metadata(Subject.BUYER, Period("PermanentStorage", START)):
        if len(found) % 100 == 0:
            clock.sleep(10)
        found.append(entry.ksef_number)
    assert found == given
    assert sandbox.deviations == []


def test_an_invoice_told_by_its_metadata_is_downloaded_whole(sandbox: Sandbox, ksef: Ksef) -> None:
    contents = bought(3)
    sandbox.seed(contents)
    entries = list(ksef.metadata(Subject.BUYER, period()))
    downloads = [ksef.download(entry.ksef_number) for entry in entries]
    assert downloads == contents
    assert [entry.sha256_hex for entry in entries] == [hashlib.sha256(content).hexdigest() for content in contents]


# --- trouble


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("html", Wrong.PAGE),
        ("short_body", Wrong.ENCRYPTED_SIZE),
        ("wrong_bytes", Wrong.ENCRYPTED_HASH),
        ("empty", Wrong.ENCRYPTED_SIZE),
        ("cut_body", None),
        ("cut_after", None),
        ("status", None),
    ],
)
def test_trouble_with_a_part_passes_or_is_named(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, tmp_path: Path, kind: str, wrong: Wrong | None
) -> None:
    sandbox.seed(bought(5))
    _, package = packed(ksef, clock, key)
    sandbox.faults.add(Fault("downloadPart", kind, times=3))
    assert len(checked(opened(ksef, package, key, tmp_path / "first"))) == 5
    sandbox.faults.add(Fault("downloadPart", kind, times=None))
    with pytest.raises(OutcomeUnknown) as caught:
        opened(ksef, package, key, tmp_path / "second")
    assert (caught.value.wrong if isinstance(caught.value, WrongBytes) else None) is wrong
    assert list((tmp_path / "second").iterdir()) == []


@pytest.mark.parametrize(
    ("figure", "wrong"),
    [
        ("partSize", Wrong.SIZE),
        ("partHash", Wrong.HASH),
        ("encryptedPartSize", Wrong.ENCRYPTED_SIZE),
        ("encryptedPartHash", Wrong.ENCRYPTED_HASH),
    ],
)
def test_a_wrong_figure_is_named_and_mended_by_another_export(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, tmp_path: Path, figure: str, wrong: Wrong
) -> None:
    sandbox.seed(bought(5))
    sandbox.faults.add(Fault("startExport", "wrong_figure", details=(figure,)))
    reference, package = packed(ksef, clock, key)
    for told in (package, ksef.export(reference).package):
        assert told is not None
        with pytest.raises(WrongBytes) as caught:
            opened(ksef, told, key, tmp_path)
        assert caught.value.wrong is wrong
    assert len(checked(opened(ksef, packed(ksef, clock, key)[1], key, tmp_path))) == 5


def test_an_invoice_that_is_not_what_its_hash_says_is_seen(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, tmp_path: Path
) -> None:
    given = sandbox.seed(bought(5))
    sandbox.faults.add(Fault("startExport", "wrong_invoice", ordinal=2))
    package = opened(ksef, packed(ksef, clock, key)[1], key, tmp_path)
    differing = [
        number
        for number, content in package.invoices()
        if package.metadata[number].sha256_hex != hashlib.sha256(content).hexdigest()
    ]
    assert differing == [given[1]]


def test_an_expired_link_is_refused_and_a_fresh_one_works(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, tmp_path: Path
) -> None:
    sandbox.seed(bought(2))
    reference, package = packed(ksef, clock, key)
    clock.sleep(3700)
    with pytest.raises(Refused):
        opened(ksef, package, key, tmp_path)
    fresh = ksef.export(reference).package
    assert fresh is not None
    sandbox.faults.add(Fault("downloadPart", "link_expired"))
    with pytest.raises(Refused):
        opened(ksef, fresh, key, tmp_path)
    assert len(checked(opened(ksef, fresh, key, tmp_path))) == 2
    assert sandbox.deviations == []


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (210, ExportVerdict.EXPIRED),
        (415, ExportVerdict.BAD_KEY),
        (500, ExportVerdict.FAILED),
        (550, ExportVerdict.FAILED),
    ],
)
def test_an_export_that_came_to_nothing_says_so(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, code: int, verdict: ExportVerdict
) -> None:
    sandbox.faults.add(Fault("startExport", "export_status", code=code))
    reference = ksef.start_export(Subject.BUYER, period(), key=key)
    clock.sleep(1)
    status = ksef.export(reference)
    assert (export_verdict(status.code), status.package) == (verdict, None)


def test_an_export_grows_old(sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey) -> None:
    sandbox.seed(bought(1))
    reference, _ = packed(ksef, clock, key)
    clock.sleep(timedelta(days=7, seconds=1).total_seconds())
    assert export_verdict(ksef.export(reference).code) is ExportVerdict.EXPIRED
    clock.sleep(timedelta(days=8).total_seconds())
    assert export_verdict(ksef.export(reference).code) is ExportVerdict.EXPIRED
    with pytest.raises(Refused) as caught:
        ksef.export("20261120-EH-1B6C9EB000-4B15D3AEB9-89")
    assert caught.value.code == "21175"


def test_stuck_exports_fill_the_places_that_there_are(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey
) -> None:
    sandbox.faults.add(Fault("startExport", "stuck", times=10))
    references = []
    for _ in range(10):
        references.append(ksef.start_export(Subject.BUYER, period(), key=key))
        clock.sleep(60)
    with pytest.raises(Unavailable) as caught:
        ksef.start_export(Subject.BUYER, period(), key=key)
    assert caught.value.code == "21182"
    assert export_verdict(ksef.export(references[0]).code) is ExportVerdict.RUNNING


def test_a_key_of_ksef_that_was_changed_meanwhile_is_fetched_anew(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey, tmp_path: Path
) -> None:
    sandbox.seed(bought(1))
    packed(ksef, clock, key)
    sandbox.rotate_keys()
    assert len(checked(opened(ksef, packed(ksef, clock, key)[1], key, tmp_path))) == 1


def test_an_answer_lost_on_the_way_is_asked_for_again_only_where_that_is_harmless(
    sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey
) -> None:
    sandbox.seed(bought(1))
    sandbox.faults.add(Fault("startExport", "cut_after"))
    with pytest.raises(OutcomeUnknown):
        ksef.start_export(Subject.BUYER, period(), key=key)
    reference, _ = packed(ksef, clock, key)
    assert sandbox.calls["startExport"] == 2
    sandbox.faults.add(Fault("exportStatus", "cut_after", times=2))
    assert ksef.export(reference).package is not None
    sandbox.faults.add(Fault("queryMetadata", "status", times=2))
    assert len(ksef.query_metadata(Subject.BUYER, period()).invoices) == 1


def test_no_call_ever_exceeds_what_ksef_allows(sandbox: Sandbox, ksef: Ksef, clock: Clock, key: ExportKey) -> None:
    def start_many() -> None:
        for _ in range(30):
            ksef.start_export(Subject.BUYER, period(), key=key)
            clock.sleep(5)

    with pytest.raises(RateLimited) as caught:
        start_many()
    assert caught.value.retry_after_s is not None
    assert sandbox.calls["startExport"] == 20
    assert not sandbox.throttled
