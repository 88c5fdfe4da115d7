from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ksefbuffer.sandbox import Fault, Sandbox, SeededInvoice
from tests.samples import NIP, a_nip, invoice, sample_files
from tests.sandbox import contract
from tests.sandbox.client import Client, FakeClock, codes, digest
from tests.sandbox.taking import BUYER, finished, logged_in, numbers, period, query, start, taken
from tests.sandbox.test_control import order

SELLER = a_nip(1)


@pytest.fixture
def logged(client: Client) -> Client:
    return client.login()


def bought(number: str = "Z/1", **more: Any) -> bytes:
    return invoice(number, SELLER, **{"buyer_nip": NIP, **more})


def one(client: Client, subject: str = "Subject2", **more: Any) -> dict[str, Any]:
    (item,) = query(client, subject, **more).json()["invoices"]
    return dict(item)


def test_a_seeded_invoice_is_found_and_downloaded(logged: Client, sandbox: Sandbox) -> None:
    content = bought()
    (number,) = sandbox.seed([content])
    assert number.startswith(f"{SELLER}-20261120-")
    told = one(logged)
    assert (told["ksefNumber"], told["invoiceNumber"], told["invoiceHash"]) == (number, "Z/1", digest(content))
    assert (told["seller"]["nip"], told["buyer"]["identifier"]["value"]) == (SELLER, NIP)
    assert told["grossAmount"] == pytest.approx(told["netAmount"] + told["vatAmount"])
    answer = logged.xml(f"/invoices/ksef/{number}")
    assert (answer.content, answer.headers["x-ms-meta-hash"]) == (content, digest(content))
    # It was never handed in here.
    assert sandbox.invoices() == []


def test_each_role_finds_what_concerns_it(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    given = sandbox.seed(
        [
            invoice("own", NIP),
            bought("bought"),
            SeededInvoice(
                bought("third", buyer_nip=BUYER),
                {"thirdSubjects": [{"identifier": {"type": "InternalId", "value": f"{NIP}-12345"}, "role": 2}]},
            ),
            SeededInvoice(
                bought("authorised", buyer_nip=BUYER), {"authorizedSubject": {"nip": NIP, "role": 3, "name": None}}
            ),
            SeededInvoice(bought("foreign"), {"buyer": {"identifier": {"type": "VatUe", "value": f"PL{NIP}"}}}),
            SeededInvoice(
                bought("both"), {"thirdSubjects": [{"identifier": {"type": "Nip", "value": NIP}, "role": 4}] * 2}
            ),
        ]
    )
    by_name = dict(zip(("own", "bought", "third", "authorised", "foreign", "both"), given, strict=True))
    found = {subject: numbers(query(logged, subject)) for subject in ("Subject1", "Subject2", "Subject3")}
    assert found == {
        "Subject1": [by_name["own"]],
        "Subject2": [by_name["bought"], by_name["both"]],
        "Subject3": [by_name["third"], by_name["both"]],
    }
    assert numbers(query(logged, "SubjectAuthorized")) == [by_name["authorised"]]
    assert codes(logged.xml(f"/invoices/ksef/{by_name['foreign']}")) == [21164]
    seller = logged_in(sandbox, clock, SELLER)
    assert numbers(query(seller, "Subject1")) == given[1:]


def test_times_have_seven_digits_sometimes_six(logged: Client, sandbox: Sandbox) -> None:
    sandbox.seed([bought(f"Z/{number}") for number in range(30)])
    told = [item["permanentStorageDate"] for item in query(logged, params={"pageSize": 250}).json()["invoices"]]
    assert {len(text) for text in told} == {32, 33}
    assert len(set(told)) == 30
    assert all(text.endswith("+00:00") for text in told)


def test_bounds_are_exact_to_the_seventh_digit_and_inclusive(logged: Client, sandbox: Sandbox) -> None:
    moments = [f"2026-11-20T10:00:00.123456{digit}+00:00" for digit in range(1, 6)]
    given = sandbox.seed([SeededInvoice(bought(), permanent_at=moment) for moment in moments])

    def between(first: str, last: str) -> list[str]:
        return numbers(query(logged, dateRange=period(**{"from": first, "to": last})))

    assert between(moments[1], moments[3]) == given[1:4]
    assert between(moments[2], moments[2]) == [given[2]]
    assert between("2026-11-20T11:00:00.1234562", "2026-11-20T11:00:00.1234563") == given[1:3]
    assert between("2026-11-20T10:00:00.1234560Z", "2026-11-20T10:00:00.12345619Z") == given[:1]


def test_any_bytes_may_be_in_the_repository(logged: Client, sandbox: Sandbox) -> None:
    good = bought("ŚĆ/1").decode()
    files = [
        good.replace("FV", "FV").replace("ŚĆ/1", "SAMOOBSĹ\x81UGA").encode(),
        b"\xef\xbb\xbf" + good.encode(),
        good.replace('encoding="UTF-8"', 'encoding="utf-16"').replace("utf-8", "utf-16").encode(),
        good.encode("iso-8859-2", "replace"),
        good[: len(good) // 2].encode(),
        b"<?xml version='1.0'?>\n<!-- ? --><x:a/>",
        b"",
        b"\x00\xff\xfe",
    ]
    given = sandbox.seed(files)
    found = query(logged).json()["invoices"]
    assert [item["ksefNumber"] for item in found][:4] == given[:4]
    assert found[0]["invoiceNumber"] == "SAMOOBSĹ\x81UGA"
    for number, content in zip(given[:5], files, strict=False):
        assert logged.xml(f"/invoices/ksef/{number}").content == content
    assert {number[:10] for number in given[5:]} == {"9999999999"}


def test_real_samples_of_every_form(logged: Client, sandbox: Sandbox) -> None:
    folder = Path(__file__).parents[2] / ".." / "shared" / "ksef" / "invoices"
    paths = sorted(folder.glob("*.xml"))
    if not paths:
        pytest.skip("the samples (shared/ksef/invoices) are not beside this checkout")
    assert sample_files()
    buyer = {"buyer": {"identifier": {"type": "Nip", "value": NIP}}}
    given = sandbox.seed([SeededInvoice(path.read_bytes(), buyer) for path in paths])
    found = {item["ksefNumber"]: item for item in query(logged, params={"pageSize": 250}).json()["invoices"]}
    assert list(found) == given
    forms: dict[str, set[str]] = {}
    for path, number in zip(paths, given, strict=True):
        forms.setdefault(path.name.split("__")[0], set()).add(found[number]["formCode"]["systemCode"])
    assert forms == {"fa2": {"FA (2)"}, "fa3": {"FA (3)"}, "fa_rr1": {"FA_RR (1)"}, "pef3": {"PEF (3)"}}
    (rr,) = query(logged, formType="FA_RR").json()["invoices"]
    assert (rr["invoiceType"], rr["netAmount"], rr["grossAmount"]) == ("VatRr", 0.0, 24600.0)
    (pef,) = query(logged, formType="PEF").json()["invoices"]
    assert (pef["invoiceType"], pef["invoiceNumber"], pef["seller"]["nip"]) == ("VatPef", "80639", "3874600515")
    files, metadata = taken(logged, finished(logged))
    assert list(files.values()) == [path.read_bytes() for path in paths]
    assert len(metadata) == len(paths)


def test_metadata_may_be_overruled(logged: Client, sandbox: Sandbox) -> None:
    old = "7781464139-20230721-80B510-9675F7-B5"
    wrong = digest(b"something else")
    sandbox.seed(
        [
            SeededInvoice(
                bought(),
                {
                    "ksefNumber": old, "invoiceNumber": "X", "issueDate": "2026-10-01", "invoiceType": "KorRoz",
                    "formCode": "FA (2)", "invoiceHash": wrong, "currency": "EUR", "invoicingMode": "Offline",
                    "grossAmount": 5.5, "hashOfCorrectedInvoice": digest(b""),
                    "acquisitionDate": "2026-11-20T09:59:59.1234567+00:00",
                },
                permanent_at=datetime.fromisoformat("2026-11-20T11:00:00+01:00"),
            )
        ]
    )  # fmt: skip
    told = one(logged, currencyCodes=["EUR"], invoicingMode="Offline", invoiceTypes=["KorRoz"], ksefNumber=old)
    assert told["permanentStorageDate"] == "2026-11-20T10:00:00.000000+00:00"
    assert (told["formCode"]["systemCode"], told["invoiceHash"], told["grossAmount"]) == ("FA (2)", wrong, 5.5)
    assert logged.xml(f"/invoices/ksef/{old}").content == bought()
    assert one(logged, amount={"type": "Brutto", "from": 5, "to": 6})["ksefNumber"] == old
    assert query(logged, amount={"type": "Brutto", "from": 6}).json()["invoices"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        SeededInvoice(b"", {"number": "x"}), SeededInvoice(b"", {"ksefNumber": "x"}),
        SeededInvoice(b"", {"issueDate": "yesterday"}), SeededInvoice(b"", {"formCode": "FA (9)"}),
        SeededInvoice(b"", permanent_at="soon"), SeededInvoice(b"", {"invoicingDate": "soon"}),
    ],
)  # fmt: skip
def test_what_ksef_could_never_tell_is_refused(sandbox: Sandbox, wrong: SeededInvoice) -> None:
    with pytest.raises(ValueError):
        sandbox.seed([bought(), wrong])
    assert sandbox._world.store.all("SELECT 1 FROM repository") == []


def test_a_ksef_number_is_given_once(sandbox: Sandbox) -> None:
    (number,) = sandbox.seed([bought()])
    with pytest.raises(ValueError, match="already"):
        sandbox.seed([SeededInvoice(bought(), {"ksefNumber": number})])


def test_an_invoice_the_package_does_not_list(logged: Client, sandbox: Sandbox) -> None:
    given = sandbox.seed([bought("1"), SeededInvoice(bought("2"), listed=False)])
    files, metadata = taken(logged, finished(logged))
    assert (list(files), [item["ksefNumber"] for item in metadata]) == (given, given[:1])


def test_late_rows_appear_below_a_mark_already_told(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    (first,) = sandbox.seed([bought("1")])
    soon = clock.now + timedelta(minutes=5)
    (second,) = sandbox.seed([SeededInvoice(bought("2"), permanent_at=clock.now, visible_at=soon)])
    clock.forward(minutes=1)
    mark = query(logged).json()["permanentStorageHwmDate"]
    assert numbers(query(logged)) == [first]
    assert codes(logged.xml(f"/invoices/ksef/{second}")) == [21165]
    (third,) = sandbox.seed([bought("3")], at=clock.now - timedelta(hours=1))
    assert numbers(query(logged)) == [third, first]
    clock.forward(minutes=4)
    found = query(logged).json()["invoices"]
    assert [item["ksefNumber"] for item in found] == [third, first, second]
    assert all(item["permanentStorageDate"] < mark for item in found)


def test_rows_to_come_arrive_with_time(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    moments = [clock.now + timedelta(minutes=minute) for minute in range(1, 4)]
    given = sandbox.seed([SeededInvoice(bought(), permanent_at=moment) for moment in moments])
    for count in range(4):
        assert numbers(query(logged)) == given[:count]
        clock.forward(minutes=1)


def test_what_is_new_lies_above_every_mark_told(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    for _ in range(3):
        told = query(logged).json()["permanentStorageHwmDate"]
        sandbox.seed([bought(), bought()])
        session = logged.open()
        number = logged.verdict(session, invoice(f"FV/{told}", buyer_nip=NIP))["ksefNumber"]
        logged.settle()
        new = query(logged, dateRange=period(**{"from": told})).json()["invoices"]
        # Bounds are inclusive: what lies at the mark itself was seen already.
        above = [item["ksefNumber"] for item in new if item["permanentStorageDate"] > told]
        assert len(above) == 3
        assert number in above


def test_without_latency_what_is_sent_lies_above_the_mark_too(clock: FakeClock) -> None:
    sandbox = Sandbox(clock=clock, latency_s=0, limits="none")
    client = Client(sandbox, clock).login()
    session = client.open()
    client.sent(session, invoice("FV/1"))
    clock.forward(seconds=1)
    told = query(client, "Subject1").json()["permanentStorageHwmDate"]
    # A call that was under way before the mark was told.
    clock.forward(seconds=-0.5)
    client.sent(session, invoice("FV/2"))
    clock.forward(seconds=1)
    new = query(client, "Subject1", dateRange=period(**{"from": told})).json()["invoices"]
    assert [item["invoiceNumber"] for item in new] == ["FV/2"]
    sandbox.close()


def test_the_mark_may_lag_be_held_and_released(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    def told() -> str:
        return str(query(logged).json()["permanentStorageHwmDate"])

    def at(**step: float) -> str:
        return (clock.now + timedelta(**step)).isoformat(timespec="microseconds")

    assert told() == at()
    sandbox.hwm_lag_s = 30
    assert told() == sandbox.hwm == at(seconds=-30)
    sandbox.hold_hwm("2026-11-20T10:00:00.1234567+00:00")
    clock.forward(minutes=5)
    assert told() == "2026-11-20T10:00:00.1234567+00:00"
    sandbox.release_hwm()
    assert told() == at(seconds=-30)
    with pytest.raises(ValueError):
        sandbox.hwm_lag_s = -1


def test_queries_are_truncated_at_so_many_records(logged: Client, sandbox: Sandbox) -> None:
    given = sandbox.seed([bought(f"Z/{number}") for number in range(45)])
    sandbox.metadata_at_most(20)
    got: list[str] = []
    since, page = period()["from"], 0
    while True:
        asked = period(**{"from": since})
        answer = query(logged, dateRange=asked, params={"pageOffset": page, "pageSize": 10}).json()
        got += [item["ksefNumber"] for item in answer["invoices"] if item["ksefNumber"] not in got]
        if not answer["hasMore"]:
            break
        if answer["isTruncated"]:
            since, page = answer["invoices"][-1]["permanentStorageDate"], 0
        else:
            page += 1
    assert got == given
    beyond = query(logged, params={"pageOffset": 5}).json()
    assert (beyond["invoices"], beyond["hasMore"], beyond["isTruncated"]) == ([], True, True)
    exactly = query(logged, dateRange=period(to=query_date(logged, 19)), params={"pageOffset": 1}).json()
    assert (len(exactly["invoices"]), exactly["hasMore"], exactly["isTruncated"]) == (10, False, False)


def query_date(client: Client, place: int) -> str:
    """The time of the row at this place."""
    rows = query(client, params={"pageOffset": place // 10}).json()["invoices"]
    return str(rows[place % 10]["permanentStorageDate"])


def test_pages_may_overlap(logged: Client, sandbox: Sandbox) -> None:
    logged.troubled = True
    given = sandbox.seed([bought(f"Z/{number}") for number in range(25)])
    sandbox.faults.add(Fault("queryMetadata", "overlap", ordinal=3, times=None))
    pages = [query(logged, params={"pageOffset": page}).json() for page in range(3)]
    assert [len(page["invoices"]) for page in pages] == [10, 10, 8]
    assert [page["hasMore"] for page in pages] == [True, True, False]
    got = [item["ksefNumber"] for page in pages for item in page["invoices"]]
    assert got[:13] == [*given[:10], *given[7:10]]
    assert list(dict.fromkeys(got)) == given


def test_a_row_seeded_between_two_pages_shifts_them(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    given = sandbox.seed([bought(f"Z/{number}") for number in range(15)])
    first = numbers(query(logged))
    (late,) = sandbox.seed([bought("late")], at=clock.now - timedelta(hours=2))
    second = numbers(query(logged, params={"pageOffset": 1}))
    assert (first, second) == (given[:10], given[9:])
    assert numbers(query(logged))[0] == late


def test_seeding_by_control(logged: Client, sandbox: Sandbox) -> None:
    with httpx.Client(transport=sandbox.transport(), base_url="http://ksef.sandbox/sandbox") as http:
        answer = http.post("/seed", content=bought("raw"), params={"at": "2026-11-20T10:00:00Z"})
    assert answer.status_code == 201
    (raw,) = answer.json()["ksefNumbers"]
    coded = b64encode(bought("coded")).decode()
    item = {
        "content": coded, "metadata": {"invoiceNumber": "told"}, "permanentAt": "2026-11-20T10:00:01.7654321Z",
        "visibleAt": "2026-11-20T10:00:02Z", "listed": True,
    }  # fmt: skip
    listed = order(logged, "POST", "/seed", [coded, item]).json()["ksefNumbers"]
    found = {entry["ksefNumber"]: entry for entry in query(logged).json()["invoices"]}
    assert set(found) == {raw, *listed}
    assert found[raw]["permanentStorageDate"] == "2026-11-20T10:00:00.000000+00:00"
    assert found[listed[1]]["invoiceNumber"] == "told"
    wrong: Any
    for wrong in (
        ["?"], [{"content": 5}], [{}], [5], [{"content": coded, "number": "x"}], [{"content": coded, "metadata": []}],
        [{"content": coded, "permanentAt": "soon"}], [{"content": coded, "visibleAt": 5}],
        [{"content": coded, "listed": 1}], [{"content": coded, "metadata": {"seller": "x"}}],
        [{"content": coded, "metadata": {"netAmount": "much"}}], [{"content": coded, "metadata": {"seller": {}}}],
        [{"content": coded, "metadata": {"buyer": {}}}], [{"content": coded, "metadata": {"invoiceNumber": None}}],
        [{"content": coded, "metadata": {"thirdSubjects": [1]}}],
    ):  # fmt: skip
        answer = order(logged, "POST", "/seed", wrong)
        assert answer.status_code == 400, (wrong, answer.text)
        assert answer.json()["error"]
    assert order(logged, "POST", "/seed").status_code == 400


def test_mark_and_sizes_by_control(logged: Client, sandbox: Sandbox, clock: FakeClock) -> None:
    held = order(logged, "POST", "/hwm", {"at": "2026-11-20T10:00:00.1234567Z"}).json()
    assert held == {"hwm": "2026-11-20T10:00:00.1234567+00:00", "held": True, "lagSeconds": 0.0}
    assert order(logged, "DELETE", "/hwm").json()["held"] is False
    assert order(logged, "POST", "/hwm", {"lagSeconds": 60}).json()["held"] is False
    assert order(logged, "GET", "/hwm").json()["lagSeconds"] == 60
    assert order(logged, "POST", "/hwm", {}).json()["held"] is True
    told = order(logged, "GET", "/exports").json()
    assert told == {
        "invoices": 10_000, "packageBytes": 1_000_000_000, "partBytes": 50_000_000, "records": 10_000, "seconds": None,
    }  # fmt: skip
    wanted = {"invoices": 5, "packageBytes": 100, "partBytes": 10, "records": 20, "seconds": 1.5}
    assert order(logged, "POST", "/exports", wanted).json() == wanted
    assert order(logged, "POST", "/exports", {"seconds": None}).json() == {**wanted, "seconds": None}
    for path, wrong in (
        ("/hwm", {"at": "soon"}), ("/hwm", {"at": 5}), ("/hwm", {"lagSeconds": -1}), ("/hwm", {"lagSeconds": "x"}),
        ("/exports", {"invoices": 0}), ("/exports", {"invoices": 10_001}), ("/exports", {"size": 1}),
        ("/exports", {"records": "x"}), ("/exports", {"seconds": -1}),
    ):  # fmt: skip
        assert order(logged, "POST", path, wrong).status_code == 400, wrong


def test_a_state_file_from_before_the_repository_is_taken_over(tmp_path: Path, clock: FakeClock) -> None:
    state = tmp_path / "state.db"
    sandbox = Sandbox(state, clock=clock, latency_s=2, limits="none")
    client = Client(sandbox, clock).login()
    session = client.open()
    number = client.verdict(session, invoice("FV/1"))["ksefNumber"]
    client.settle()
    before = query(client, "Subject1").content
    sandbox.close()
    with closing(sqlite3.connect(state)) as old:
        old.execute("DROP TABLE repository")
        old.execute("DROP TABLE invoice_parties")
        old.commit()
    sandbox = Sandbox(state, clock=clock, latency_s=2, limits="none")
    client.http = Client(sandbox, clock).http
    assert query(client, "Subject1").content == before
    assert client.xml(f"/invoices/ksef/{number}").content == invoice("FV/1")
    sandbox.close()


def test_twenty_five_thousand_invoices(clock: FakeClock, tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "state.db", clock=clock, latency_s=0, limits="none")
    client = Client(sandbox, clock).login()
    sellers = [a_nip(number) for number in range(300)]
    template = bought("@@@", seed=1).decode()

    def contents(count: int) -> Any:
        for number in range(count):
            yield template.replace("@@@", f"Z/{number}").replace(SELLER, sellers[number % 300]).encode()

    given = sandbox.seed(contents(25_000))
    assert len(set(given)) == 25_000
    clock.forward(seconds=1)

    # By packages, two of them truncated.
    got: dict[str, bytes] = {}
    since, counts = period()["from"], []
    while True:
        asked = period(**{"from": since, "restrictToPermanentStorageHwmDate": True})
        export = finished(client, dateRange=asked, compressionType="TarGz")
        files, metadata = taken(client, export)
        assert [item["ksefNumber"] for item in metadata] == list(files)
        counts.append(len(files))
        got |= files
        if not export.package["isTruncated"]:
            break
        since = export.package["lastPermanentStorageDate"]
    assert counts == [10_000, 10_000, 5_002]
    assert list(got) == given
    assert all(content == got[number] for number, content in zip(given, contents(25_000), strict=True))

    # By queries: nobody sorts or scans what does not concern them.
    answer = query(client, params={"pageSize": 250, "pageOffset": 39})
    assert (answer.json()["isTruncated"], answer.json()["hasMore"]) == (True, True)
    other = logged_in(sandbox, clock, sellers[7])
    mine = numbers(query(other, "Subject1", params={"pageSize": 250}))
    assert mine == given[7::300]
    plan = " ".join(
        row["detail"]
        for row in sandbox._world.store.all(
            "EXPLAIN QUERY PLAN SELECT r.metadata FROM invoice_parties p CROSS JOIN repository r ON r.seq = p.seq"
            " WHERE p.subject = ? AND p.nip = ? AND p.permanent_at BETWEEN ? AND ? AND r.visible_at <= ?"
            " ORDER BY p.permanent_at ASC, p.seq ASC LIMIT ? OFFSET ?",
            "Subject2", NIP, 0, 1, 2, 3, 4,
        )
    )  # fmt: skip
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan
    assert sandbox.deviations == []
    sandbox.close()


def test_answers_about_odd_files_are_as_the_official_document_says(logged: Client, sandbox: Sandbox) -> None:
    if not contract.DOCUMENT.exists():
        pytest.skip("the official open-api.json (shared/ksef) is not beside this checkout")
    buyer = {"buyer": {"identifier": {"type": "Nip", "value": NIP}}}
    odd = bought("x").decode().replace("<KodWaluty>PLN", "<KodWaluty>złoty").replace("<P_15>", "<P_15>1e999 ")
    sandbox.seed([SeededInvoice(content, buyer) for content in (b"", b"<a/>", odd.encode(), b"\xff" * 100)])
    assert len(query(logged).json()["invoices"]) == 4
    start(logged)
    assert contract.complaints(logged.seen) == []
    assert json.loads(logged.seen[-2].content)
