"""Received invoices are stored once, judged and filed in one commit, and refiled when the rules change."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.invoice.received import read_received
from ksefbuffer.ksef.shapes import InvoiceMetadata
from ksefbuffer.queue import incoming, pulls
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Incoming, Wanted
from ksefbuffer.receiver.stock import Arrived, Folders, Rules, Stock, bring_in, roles_in
from tests.receiver import generator
from tests.receiver.generator import Made
from tests.samples import NIP, NOW, invoice, sample_files

BUYER = frozenset({"buyer"})


def metadata_of(content: bytes, ksef_number: str, **changes: Any) -> InvoiceMetadata:
    received = read_received(content)
    values: dict[str, Any] = {
        "ksef_number": ksef_number,
        "invoice_number": received.invoice_number,
        "issue_date": received.issue_date,
        "sha256_hex": sha256_hex(content),
        "seller_nip": received.seller.nip,
        "seller_name": received.seller.name,
        "buyer_id": received.buyer.nip,
        "buyer_id_type": "Nip",
        "buyer_name": received.buyer.name,
        "invoice_type": "Vat",
        "form_code": received.form,
        "currency": received.currency,
        "gross": received.gross,
        "invoicing_mode": "Online",
        "accepted_at": NOW,
        "invoicing_at": NOW,
        "permanent_at_raw": "2026-11-20T09:00:00.1234567+00:00",
        "has_attachment": received.has_attachment,
        "self_invoicing": received.self_invoicing,
        **changes,
    }
    raw = {"ksefNumber": ksef_number, "invoiceNumber": values["invoice_number"], "invoiceHash": _b64(content)}
    raw |= {
        "seller": {"nip": values["seller_nip"], "name": values["seller_name"]},
        "buyer": {"identifier": {"type": "Nip", "value": values["buyer_id"]}, "name": values["buyer_name"]},
        "issueDate": values["issue_date"].isoformat() if values["issue_date"] else None,
        "grossAmount": values["gross"],
        "currency": values["currency"],
        "invoicingDate": NOW.isoformat(),
        "invoiceType": values["invoice_type"],
        "formCode": {"systemCode": values["form_code"]},
    }
    return InvoiceMetadata(**values, raw=raw)


def _b64(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def arrived(content: bytes, ksef_number: str, roles: frozenset[str] = BUYER, **changes: Any) -> Arrived:
    return Arrived(content, metadata_of(content, ksef_number, **changes), roles)


def of(made: Made) -> Arrived:
    return arrived(made.content, made.ksef_number)


@pytest.fixture
def stock(database: Database) -> Stock:
    return Stock(database, Rules(NIP, "sandbox"), date(2026, 2, 1))


def stored(stock: Stock, wanted: Wanted | None = None) -> list[Incoming]:
    with stock.database.reading() as tx:
        return incoming.listing(tx, wanted or Wanted(), limit=10_000)


def take(stock: Stock, some: Sequence[Arrived]) -> None:
    stock.take(some, at=NOW, actor="pull")


def bring(stock: Stock, text: str) -> int:
    return bring_in(stock.database, text, nip=NIP, environment="sandbox", at=NOW, actor="test", note="")


def test_an_invoice_is_stored_once_and_filed_with_its_reason(stock: Stock) -> None:
    bring(stock, generator.rulebook_toml())
    some = list(generator.many(60, seed=3))
    assert stock.take([of(made) for made in some], at=NOW, actor="pull").stored == 60
    again = stock.take([of(made) for made in some], at=NOW, actor="pull")
    assert (again.stored, again.known) == (0, 60)
    by_number = {one.ksef_number: one for one in stored(stock)}
    assert len(by_number) == 60
    for made in some:
        one = by_number[made.ksef_number]
        assert one.folder == made.folder, made.placement
        assert one.reasons, "every filing keeps its reason"
        assert one.store == made.store
        assert (one.sha256, one.gross, one.issue_date) == (sha256_hex(made.content), made.gross, made.issue_date)
        assert one.rulebook == 1
        with stock.database.reading() as tx:
            assert incoming.content(tx, one.id) == made.content


def test_without_rules_purchases_wait_for_a_person_and_sales_are_apart(stock: Stock) -> None:
    bought, sold = (invoice(number=number, seed=7) for number in ("A", "B"))
    take(
        stock,
        [
            arrived(bought, "1111111111-20261120-000000000001-00"),
            arrived(sold, "1111111111-20261120-000000000002-00", frozenset({"seller"})),
        ],
    )
    assert [one.folder for one in stored(stock)] == ["sprzedaż", "nieprzypisane"]


def test_roles_are_a_set(stock: Stock) -> None:
    one = next(generator.many(1, seed=1))
    take(stock, [of(one)])
    take(stock, [arrived(one.content, one.ksef_number, frozenset({"third"}))])
    stock.grow([(one.ksef_number, frozenset({"authorized"}))], at=NOW, actor="rescan")
    (found,) = stored(stock)
    assert found.roles == {"buyer", "third", "authorized"}


def test_the_cursor_moves_in_the_commit_of_the_invoices(stock: Stock) -> None:
    with stock.database.transaction() as tx:
        pulls.begin(tx, "buyer", "2026-02-01T00:00:00Z", at=NOW)

    def move(tx: Any) -> None:
        pulls.move(tx, "buyer", "2027", at=NOW, due_at=NOW, brought=1, caught_up=True)
        raise RuntimeError("power loss")

    with pytest.raises(RuntimeError):
        stock.take([of(next(generator.many(1)))], at=NOW, actor="pull", then=move)
    assert stored(stock) == []
    with stock.database.reading() as tx:
        cursor = pulls.cursor(tx, "buyer")
        assert cursor is not None
        assert cursor.position == "2026-02-01T00:00:00Z"


def test_the_same_number_twice_is_found_out(stock: Stock) -> None:
    first, second = (invoice(number="FV/1/2026", seed=seed) for seed in (1, 2))
    take(stock, [arrived(first, "1111111111-20261120-000000000001-00")])
    later = NOW + timedelta(hours=1)
    take(stock, [arrived(second, "1111111111-20261120-000000000002-00", invoicing_at=later)])
    newest, oldest = stored(stock)
    assert "Z29" in {fired["code"] for fired in newest.fired}
    assert "Z29" not in {fired["code"] for fired in oldest.fired}
    assert newest.verdict == "niezasadna"
    assert "niezasadna" in newest.tags


def test_a_correction_that_came_first_follows_its_original_when_that_comes(stock: Stock) -> None:
    bring(stock, generator.rulebook_toml())
    some = list(generator.many(200, seed=3))
    originals = {made.ksef_number: made for made in some}
    first = [made for made in some if made.corrects and made.folder.startswith("sklepy")]
    assert len(first) > 3
    take(stock, [of(made) for made in first])
    take(stock, [of(originals[made.corrects]) for made in first])
    folders = {one.ksef_number: one.folder for one in stored(stock)}
    assert {made.ksef_number: folders[made.ksef_number] for made in first} == {m.ksef_number: m.folder for m in first}


def test_changed_rules_refile_what_is_there(stock: Stock) -> None:
    some = list(generator.many(80, seed=5))
    take(stock, [of(made) for made in some])
    assert {one.folder for one in stored(stock)} == {"nieprzypisane"}
    bring(stock, generator.rulebook_toml())
    with stock.database.reading() as tx:
        keys = incoming.keys_of(tx, limit=1000)
    plan: Folders = {}
    dry = stock.refile(keys, at=NOW, actor="cli", plan=plan)
    assert {one.folder for one in stored(stock)} == {"nieprzypisane"}, "a dry run changes nothing"
    done = stock.refile(keys, at=NOW, actor="cli")
    assert {(change.ksef_number, change.after[0]) for change in dry} == {(c.ksef_number, c.after[0]) for c in done}
    truth = {made.ksef_number: made.folder for made in some}
    assert {one.ksef_number: one.folder for one in stored(stock)} == truth
    assert stock.refile(keys, at=NOW, actor="cli") == []
    with stock.database.reading() as tx:
        assert len(incoming.files_due(tx, NOW, limit=1000)) == 80


def test_a_rulebook_with_faults_is_not_taken(stock: Stock) -> None:
    with pytest.raises(ConfigurationFault):
        bring(stock, "[[rule]]\nnmae = 'x'\n")
    with stock.database.reading() as tx:
        assert pulls.rulebook(tx) is None


@pytest.mark.parametrize(
    "words", ["{number}", "{seller}", "{gross}", "{nip}", "{date}", "{ksef}"], ids=lambda words: str(words).strip("{}")
)
def test_people_find_it(stock: Stock, words: str) -> None:
    some = list(generator.many(40, seed=9))
    take(stock, [of(made) for made in some])
    made = some[17]
    received = read_received(made.content)
    asked = words.format(
        number=made.number,
        seller=received.seller.name,
        gross=f"{made.gross:,.2f}".replace(",", " ").replace(".", ","),
        nip=made.seller_nip,
        date=made.issue_date.isoformat(),
        ksef=made.ksef_number,
    )
    assert made.ksef_number in {one.ksef_number for one in stored(stock, Wanted(words=asked))}


def test_real_world_samples_are_stored_whatever_they_are(stock: Stock) -> None:
    files = [path for form in ("FA(3)", "FA(2)", "FA_RR(1)", "PEF(3)") for path in sample_files(form, valid=None)]
    if not files:
        pytest.skip("the real-world samples (../shared) are not here")
    some = [arrived(path.read_bytes(), f"1111111111-20261120-{number:012X}-00") for number, path in enumerate(files, 1)]
    take(stock, some)
    assert len(stored(stock)) == len(files)
    for one, given in zip(reversed(stored(stock)), some, strict=True):
        with stock.database.reading() as tx:
            assert incoming.content(tx, one.id) == given.content
            assert json.loads(incoming.metadata_of(tx, [one.id])[one.id])["ksefNumber"] == one.ksef_number


def test_our_roles_in_a_file_of_our_own(tmp_path: Path) -> None:
    assert roles_in(read_received(invoice(number="A", seed=1)), NIP) == {"seller"}
    assert roles_in(read_received(b"<x/>"), NIP) == frozenset()
