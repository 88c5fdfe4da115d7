from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import NameOID

from ksefbuffer.sandbox import Fault, Sandbox, SeededInvoice
from tests.samples import NIP, NOW, a_nip, invoice
from tests.sandbox.client import Client, FakeClock, Session, codes, digest, signer
from tests.sandbox.taking import (
    BUYER,
    Export,
    archive,
    ask,
    decrypted,
    fetch,
    finished,
    logged_in,
    opened,
    order,
    order_body,
    period,
    query,
    start,
    taken,
)


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def bought(count: int, buyer: str = NIP) -> list[bytes]:
    return [invoice(f"Z/{number}", a_nip(number % 3), buyer_nip=buyer, seed=number) for number in range(count)]


def deviations(sandbox: Sandbox) -> list[str]:
    return [item.name for item in sandbox.deviations]


@pytest.mark.parametrize("compression", ["Zip", "TarGz", None])
def test_a_package_holds_every_invoice_and_its_metadata(
    logged: Client, sandbox: Sandbox, compression: str | None
) -> None:
    contents = bought(12)
    given = sandbox.seed(contents)
    sandbox.seed([invoice("other", a_nip(9), buyer_nip=BUYER)])
    export = start(logged, **({"compressionType": compression} if compression else {}))
    assert ask(logged, export).code == 100
    assert "package" not in export.status
    logged.settle()
    package = ask(logged, export).package
    assert (export.code, package["invoiceCount"], package["isTruncated"]) == (200, 12, False)
    assert package["compressionType"] == (compression or "Zip")
    assert package["parts"][0]["partName"].startswith(f"{export.reference}-001.")
    files, metadata = taken(logged, export)
    assert list(files.items()) == list(zip(given, contents, strict=True))
    assert [item["ksefNumber"] for item in metadata] == given
    assert [item["invoiceHash"] for item in metadata] == [digest(content) for content in contents]
    assert metadata == query(logged, params={"pageSize": 250}).json()["invoices"]
    assert deviations(sandbox) == []


def test_metadata_lie_at_either_end_of_the_archive(logged: Client, sandbox: Sandbox) -> None:
    sandbox.seed(bought(3))
    places = set()
    for _ in range(12):
        export = finished(logged)
        names = [name for name, _ in opened(archive(logged, export), "Zip")]
        places.add(names.index("_metadata.json"))
    assert places == {0, 3}


def test_parts_are_split_first_and_encrypted_each_by_itself(logged: Client, sandbox: Sandbox) -> None:
    contents = bought(5)
    sandbox.export_at_most(part_bytes=1000)
    sandbox.seed(contents)
    export = finished(logged)
    parts = export.package["parts"]
    assert len(parts) > 3
    assert {part["partSize"] for part in parts[:-1]} == {1000}
    assert {part["encryptedPartSize"] for part in parts[:-1]} == {1008}
    assert list(taken(logged, export)[0].values()) == contents
    assert decrypted(fetch(logged, parts[0]).content, export).startswith(b"PK")
    sandbox.export_at_most()
    assert len(finished(logged).package["parts"]) == 1


@pytest.mark.parametrize("date_type", ["PermanentStorage", "Invoicing", "Issue"])
def test_a_truncated_package_tells_where_to_go_on(
    logged: Client, sandbox: Sandbox, clock: FakeClock, date_type: str
) -> None:
    last = f"last{date_type}Date"
    given = sandbox.seed(
        [
            SeededInvoice(
                content,
                {
                    "issueDate": f"2026-11-{number + 1:02}",
                    "invoicingDate": f"2026-11-19T13:00:{number:02}.1234567+00:00",
                },
            )
            for number, content in enumerate(bought(7))
        ]
    )
    sandbox.export_at_most(3)
    since, got, rounds = (NOW - timedelta(days=60)).isoformat(), list[str](), 0
    while True:
        rounds += 1
        export = finished(logged, dateRange=period(**{"dateType": date_type, "from": since}))
        files, _ = taken(logged, export)
        got += [number for number in files if number not in got]
        if not export.package["isTruncated"]:
            assert last not in export.package
            break
        assert len(files) == 3
        since = export.package[last]
        assert {name for name in export.package if name.startswith("last")} == {last}
    # Bounds are inclusive: the last of one package is the first of the next.
    assert (got, rounds) == (given, 3)


def test_a_package_of_so_many_bytes_is_truncated(logged: Client, sandbox: Sandbox) -> None:
    given = sandbox.seed(bought(20))
    for compression in ("Zip", "TarGz"):
        sandbox.export_at_most(package_bytes=8_000 if compression == "Zip" else 4_000)
        export = finished(logged, compressionType=compression)
        files, metadata = taken(logged, export)
        assert export.package["isTruncated"]
        assert 1 <= len(files) < 20
        assert list(files) == [item["ksefNumber"] for item in metadata] == given[: len(files)]
        assert export.package["lastPermanentStorageDate"] == metadata[-1]["permanentStorageDate"]
    sandbox.export_at_most(package_bytes=1)
    assert finished(logged).package["invoiceCount"] == 1


def test_metadata_alone(logged: Client, sandbox: Sandbox) -> None:
    given = sandbox.seed(bought(5))
    sandbox.export_at_most(3)
    for compression in ("Zip", "TarGz"):
        export = finished(logged, onlyMetadata=True, compressionType=compression)
        files, metadata = taken(logged, export)
        assert (export.package["invoiceCount"], export.package["isTruncated"]) == (3, True)
        assert (files, [item["ksefNumber"] for item in metadata]) == ({}, given[:3])


def test_nothing_found_is_a_package_without_parts(logged: Client, clock: FakeClock) -> None:
    export = finished(logged)
    assert export.code == 200
    assert (export.package["invoiceCount"], export.package["parts"], export.package["size"]) == (0, [], 0)
    assert export.package["permanentStorageHwmDate"]


def test_a_package_is_complete_up_to_the_mark(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    early = sandbox.seed(bought(2))
    clock.forward(seconds=60)
    sandbox.hold_hwm()
    held = sandbox.hwm
    clock.forward(seconds=60)
    late = sandbox.seed(bought(1))
    export = finished(logged, dateRange=period(restrictToPermanentStorageHwmDate=True))
    assert export.package["permanentStorageHwmDate"] == held
    assert list(taken(logged, export)[0]) == early
    assert list(taken(logged, finished(logged))[0]) == [*early, *late]

    beyond = period(**{"from": clock.now.isoformat(), "restrictToPermanentStorageHwmDate": True})
    export = finished(logged, dateRange=beyond)
    assert export.code == 420
    assert export.status["status"]["details"]
    assert codes(query(logged, dateRange=beyond)) == [21183]
    sandbox.release_hwm()
    again = period(**{"from": held, "restrictToPermanentStorageHwmDate": True})
    assert list(taken(logged, finished(logged, dateRange=again))[0]) == late


def test_exports_by_issue_or_invoicing_bear_no_mark(logged: Client, sandbox: Sandbox) -> None:
    for date_type in ("Issue", "Invoicing"):
        export = finished(logged, dateRange=period(dateType=date_type))
        assert "permanentStorageHwmDate" not in export.package


def test_an_older_period_is_complete_to_its_end(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    end = "2026-11-20T09:00:00.1234567+00:00"
    assert finished(logged, dateRange=period(to=end)).package["permanentStorageHwmDate"] == end


def test_keys_that_do_not_open_end_with_415(logged: Client) -> None:
    wrong = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
    for bad in (finished(logged, pad=wrong), finished(logged, pad=padding.PKCS1v15())):
        assert bad.code == 415
        assert "package" not in bad.status
    body = order_body(logged, Export("", bytes(16), bytes(16)))
    answer = logged.call("POST", "/invoices/exports", json=body)
    export = Export(answer.json()["referenceNumber"], b"", b"")
    logged.settle()
    assert ask(logged, export).code == 415


def test_withdrawn_keys_and_missing_ids(logged: Client, sandbox: Sandbox) -> None:
    body = order_body(logged, Export("", bytes(32), bytes(16)))
    sandbox.rotate_keys()
    assert codes(logged.call("POST", "/invoices/exports", json=body)) == [21470]
    del body["encryption"]["publicKeyId"]
    assert logged.call("POST", "/invoices/exports", json=body).status_code == 201
    assert deviations(sandbox) == ["no-public-key-id"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda body: body.pop("encryption"), "encryption"),
        (lambda body: body.pop("filters"), "filters"),
        (lambda body: body["encryption"].update(initializationVector="AAAA"), "encryption.initializationVector"),
        (lambda body: body["filters"].update(subjectType="Buyer"), "filters.subjectType"),
        (lambda body: body.update(compressionType="Rar"), "compressionType"),
        (lambda body: body.update(onlyMetadata="yes"), "onlyMetadata"),
        (lambda body: body["filters"]["dateRange"].pop("from"), "filters.dateRange.from"),
    ],
)
def test_orders_are_validated(logged: Client, change: Any, field: str) -> None:
    body = order_body(logged, Export("", bytes(32), bytes(16)))
    change(body)
    answer = logged.call("POST", "/invoices/exports", json=body)
    assert codes(answer) == [21405]
    assert f"'{field}'" in answer.text


def test_ten_exports_run_at_once(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    other = logged_in(sandbox, clock)
    running = [start(logged) for _ in range(10)]
    assert codes(order(logged)) == [21182]
    assert order(other).status_code == 201
    logged.settle()
    assert {ask(logged, export).code for export in running} == {200}
    assert order(logged).status_code == 201


def test_somebody_elses_export_does_not_exist(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    export = finished(logged)
    other = logged_in(sandbox, clock)
    assert codes(other.call("GET", f"/invoices/exports/{export.reference}")) == [21175]
    assert codes(logged.call("GET", "/invoices/exports/short")) == [21405]


def test_links_are_fresh_each_time_and_last_an_hour(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    sandbox.seed(bought(1))
    export = finished(logged)
    (part,) = export.package["parts"]
    clock.forward(minutes=59)
    assert fetch(logged, part).status_code == 200
    clock.forward(minutes=2)
    expired = fetch(logged, part)
    assert (expired.status_code, expired.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    (fresh,) = (
        ask(logged, export).package["parts"] if not logged.problem else ask(relogged(logged), export).package["parts"]
    )
    assert fresh["url"] != part["url"]
    assert fresh["expirationDate"] > part["expirationDate"]
    assert fetch(logged, fresh).status_code == 200
    assert deviations(sandbox) == []


def relogged(client: Client) -> Client:
    """Access tokens last fifteen minutes."""
    tokens = client.call("POST", "/auth/token/refresh", token=client.refresh_token).json()
    client.access = tokens["accessToken"]["token"]
    return client


def test_a_part_is_fetched_without_a_bearer(logged: Client, sandbox: Sandbox) -> None:
    sandbox.seed(bought(1))
    (part,) = finished(logged).package["parts"]
    assert fetch(logged, part, headers={"Authorization": f"Bearer {logged.access}"}).status_code == 403
    assert deviations(sandbox) == ["bearer-on-storage"]
    assert fetch(logged, {**part, "url": part["url"][:-8] + "AAAA%3D"}).status_code == 403
    assert fetch(logged, {**part, "url": part["url"].replace("-001.", "-002.")}).status_code == 403


def test_packages_expire_after_seven_days(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    sandbox.seed(bought(1))
    export = finished(logged)
    assert export.status["packageExpirationDate"].startswith("2026-11-27")
    clock.forward(days=6, hours=23, minutes=59)
    logged.login()
    (part,) = ask(logged, export).package["parts"]
    clock.forward(minutes=1)
    assert ask(logged, export).code == 210
    assert "package" not in export.status
    assert fetch(logged, part).status_code == 404
    assert list(sandbox._world.shelf.folder.iterdir()) == []
    clock.forward(days=7)
    logged.login()
    assert logged.call("GET", f"/invoices/exports/{export.reference}").status_code == 410


def test_hasty_polling_is_a_deviation(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    export = start(logged)
    ask(logged, export)
    clock.forward(seconds=1)
    ask(logged, export)
    assert deviations(sandbox) == []
    clock.forward(seconds=0.9)
    ask(logged, export)
    assert deviations(sandbox) == ["hasty-polling"]
    logged.settle()
    assert [ask(logged, export).code for _ in range(3)] == [200] * 3
    assert deviations(sandbox) == ["hasty-polling"]


def test_asking_for_the_future_is_refused_and_noted(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    future = period(to=(clock.now + timedelta(seconds=1)).isoformat())
    assert codes(order(logged, dateRange=future)) == [21405]
    assert codes(query(logged, dateRange=future)) == [21405]
    assert deviations(sandbox) == ["future-to"] * 2


def test_an_export_takes_its_own_time(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    sandbox.export_s = 90
    export = start(logged)
    clock.forward(seconds=89)
    assert ask(logged, export).code == 100
    clock.forward(seconds=1)
    assert ask(logged, export).code == 200
    assert export.status["completedDate"].startswith((NOW + timedelta(seconds=92)).isoformat()[:19])


def test_what_came_after_the_order_is_not_in_the_package(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    given = sandbox.seed(bought(1))
    export = start(logged)
    clock.forward(seconds=1)
    sandbox.seed(bought(1))
    logged.settle()
    assert list(taken(logged, ask(logged, export))[0]) == given


def test_a_context_without_a_nip_exports_nothing(client: Client) -> None:
    certificate = signer({NameOID.COMMON_NAME: "Dostawca"})
    print_of_it = hashlib.sha256(certificate.der).hexdigest()
    grant = ("PPL123456", "Fingerprint", print_of_it.upper())
    client.sandbox._world.store.run("INSERT INTO grants (nip, subject_type, subject_value) VALUES (?, ?, ?)", *grant)
    client.login(certificate, context="<PeppolId>PPL123456</PeppolId>", subject="certificateFingerprint")
    assert codes(order(client)) == [21181]


def test_what_was_sent_reaches_its_buyer_by_export(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    content = invoice("FV/1", buyer_nip=BUYER)
    session: Session = logged.open()
    number = logged.verdict(session, content)["ksefNumber"]
    logged.settle()
    assert taken(logged, finished(logged, "Subject1"))[0] == {number: content}
    other = logged_in(sandbox, clock)
    files, metadata = taken(other, finished(other, "Subject2"))
    assert files == {number: content}
    status = logged.call("GET", f"/sessions/{session.reference}/invoices").json()["invoices"][0]
    told = metadata[0]["permanentStorageDate"]
    assert told.removesuffix("+00:00") == status["permanentStorageDate"].removesuffix("0+00:00")


def test_everything_about_an_export_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    state = tmp_path / "state.db"

    sandbox = Sandbox(state, clock=clock, latency_s=2, limits="none")
    client = Client(sandbox, clock).login()

    def restart() -> None:
        nonlocal sandbox
        sandbox.close()
        sandbox = Sandbox(state, clock=clock, latency_s=2, limits="none")
        client.http = Client(sandbox, clock).http

    contents = bought(4)
    given = sandbox.seed(contents)
    sandbox.hold_hwm()
    mark = sandbox.hwm
    export = start(client)
    restart()
    assert sandbox.hwm_held
    assert ask(client, export).code == 100
    clock.forward(seconds=2)
    restart()
    # A sandbox that was killed while it packed begins again.
    sandbox._world.shelf.path(f"{export.reference}.7").write_bytes(b"half")
    assert ask(client, export).code == 200
    assert [file.name for file in (tmp_path / "state.db.parts").iterdir()] == [f"{export.reference}.1"]
    assert export.package["permanentStorageHwmDate"] == mark
    restart()
    files, _ = taken(client, export)
    assert list(files.items()) == list(zip(given, contents, strict=True))
    again = sandbox.seed(contents)
    assert not set(given) & set(again)
    sandbox.close()


# --- trouble to order


@pytest.fixture
def troubled(logged: Client, sandbox: Sandbox) -> Client:
    logged.troubled = True
    sandbox.seed(bought(3))
    return logged


def test_a_stuck_export_runs_until_released(troubled: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    sandbox.faults.add(Fault("startExport", "stuck"))
    export = start(troubled)
    clock.forward(minutes=10)
    assert ask(troubled, export).code == 100
    assert finished(troubled).code == 200
    assert sandbox.release() == 1
    assert ask(troubled, export).code == 200
    assert export.package["invoiceCount"] == 3


@pytest.mark.parametrize("code", [500, 550, 210, 415, 420])
def test_an_export_may_end_otherwise(troubled: Client, sandbox: Sandbox, code: int) -> None:
    sandbox.faults.add(Fault("startExport", "export_status", code=code, details=("Tak bywa.",)))
    export = finished(troubled)
    assert (export.code, export.status["status"]["details"]) == (code, ["Tak bywa."])
    assert finished(troubled).code == 200


@pytest.mark.parametrize("figure", ["partSize", "partHash", "encryptedPartSize", "encryptedPartHash"])
def test_a_wrong_figure_stays_or_comes_once(troubled: Client, sandbox: Sandbox, figure: str) -> None:
    right = finished(troubled)
    sandbox.faults.add(Fault("exportStatus", "wrong_figure", details=(figure,)))
    (before,), (once,), (after,) = (
        right.package["parts"],
        ask(troubled, right).package["parts"],
        ask(troubled, right).package["parts"],
    )
    assert {name for name in before if name not in {"url", "expirationDate"} and before[name] != once[name]} == {figure}
    assert before[figure] == after[figure]

    sandbox.faults.add(Fault("startExport", "wrong_figure", details=(figure,)))
    wrong = finished(troubled)
    for _ in range(2):
        (part,) = ask(troubled, wrong).package["parts"]
        content = fetch(troubled, part).content
        plain = decrypted(content, wrong)
        true = {
            "partSize": len(plain), "partHash": digest(plain), "encryptedPartSize": len(content),
            "encryptedPartHash": digest(content),
        }  # fmt: skip
        assert [name for name in true if true[name] != part[name]] == [figure]


def test_an_invoice_in_the_package_is_not_what_its_hash_says(troubled: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("startExport", "wrong_invoice", ordinal=2))
    for right in ([True, False, True], [True, True, True]):
        files, metadata = taken(troubled, finished(troubled))
        assert [digest(files[item["ksefNumber"]]) == item["invoiceHash"] for item in metadata] == right


def test_a_late_row_is_missing_once(troubled: Client, sandbox: Sandbox) -> None:
    whole = [item["ksefNumber"] for item in query(troubled).json()["invoices"]]
    sandbox.faults.add(Fault("startExport", "late_row", ordinal=2))
    sandbox.faults.add(Fault("queryMetadata", "late_row", ordinal=1))
    assert list(taken(troubled, finished(troubled))[0]) == [whole[0], whole[2]]
    assert [item["ksefNumber"] for item in query(troubled).json()["invoices"]] == whole[1:]
    assert list(taken(troubled, finished(troubled))[0]) == whole
    assert [item["ksefNumber"] for item in query(troubled).json()["invoices"]] == whole


def test_parts_arrive_as_html_short_torn_or_spoilt(troubled: Client, sandbox: Sandbox) -> None:
    (part,) = finished(troubled).package["parts"]
    size = part["encryptedPartSize"]
    sandbox.faults.add(Fault("downloadPart", "html"))
    sandbox.faults.add(Fault("downloadPart", "short_body"))
    sandbox.faults.add(Fault("downloadPart", "cut_body"))
    sandbox.faults.add(Fault("downloadPart", "wrong_bytes"))
    sandbox.faults.add(Fault("downloadPart", "empty"))
    page = fetch(troubled, part)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
    short = fetch(troubled, part)
    assert (short.status_code, len(short.content)) == (200, size // 2)
    with pytest.raises(httpx.RemoteProtocolError):
        fetch(troubled, part)
    spoilt = fetch(troubled, part)
    assert len(spoilt.content) == size
    assert digest(spoilt.content) != part["encryptedPartHash"] == spoilt.headers["x-ms-meta-hash"]
    assert fetch(troubled, part).content == b""
    sandbox.faults.add(Fault("downloadPart", "link_expired"))
    assert fetch(troubled, part).status_code == 403
    assert digest(fetch(troubled, part).content) == part["encryptedPartHash"]


def test_status_answers_are_lost_or_refused(troubled: Client, sandbox: Sandbox) -> None:
    export = finished(troubled)
    sandbox.faults.add(Fault("exportStatus", "status", status=503))
    sandbox.faults.add(Fault("exportStatus", "cut_after"))
    path = f"/invoices/exports/{export.reference}"
    assert troubled.call("GET", path).status_code == 503
    with pytest.raises(httpx.RemoteProtocolError):
        troubled.call("GET", path)
    assert ask(troubled, export).code == 200


def test_an_order_whose_answer_was_lost_runs_all_the_same(troubled: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault("startExport", "cut_after", times=10))
    for _ in range(10):
        with pytest.raises(httpx.RemoteProtocolError):
            order(troubled)
    assert codes(order(troubled)) == [21182]


def test_a_fault_of_the_sandbox_itself_ends_an_export_with_500(
    troubled: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksefbuffer.sandbox.parcels._split", None)
    assert finished(troubled).code == 500


def test_limits_are_those_of_their_groups(clock: FakeClock) -> None:
    sandbox = Sandbox(clock=clock, latency_s=0, limits="production")
    client = Client(sandbox, clock).login()
    (number,) = sandbox.seed(bought(1))
    body = order_body(client, Export("", bytes(32), bytes(16)))
    reference = client.call("POST", "/invoices/exports", json=body).json()["referenceNumber"]
    asked = {"startExport": 1}

    def admitted(operation: str, pause_s: float, method: str, path: str, **more: Any) -> int:
        before = sandbox.calls[operation]
        while client.call(method, path, **more).status_code != 429:
            clock.forward(seconds=pause_s)
        return sandbox.calls[operation] - before - 1

    # 20 an hour, 60 a minute, 64 an hour; each group for itself.
    assert admitted("exportStatus", 0.5, "GET", f"/invoices/exports/{reference}") == 60
    (part,) = taken_parts(client, reference, clock)
    assert admitted("startExport", 4, "POST", "/invoices/exports", json=body) + asked["startExport"] == 20
    assert admitted("queryMetadata", 4, "POST", "/invoices/query/metadata", json=body["filters"]) == 20
    assert admitted("downloadInvoice", 4, "GET", f"/invoices/ksef/{number}") == 64
    assert {fetch(client, part).status_code for _ in range(200)} == {200}
    assert set(sandbox.throttled.values()) == {1}
    sandbox.close()


def taken_parts(client: Client, reference: str, clock: FakeClock) -> list[dict[str, Any]]:
    clock.forward(minutes=1)
    return list(ask(client, Export(reference, b"", b"")).package["parts"])
