"""Many invoices whose truth is known to their maker: each must be found to be for its store, and go to its folder."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from lxml import etree

from ksefbuffer.invoice.deliveries import deliveries
from ksefbuffer.invoice.identifiers import internal_id_ok, is_nip, ksef_number_ok
from ksefbuffer.invoice.received import read_received
from ksefbuffer.invoice.schema import findings_of
from ksefbuffer.receiver.rulebook import read_rulebook
from ksefbuffer.receiver.rules import Facts, explain, file
from ksefbuffer.receiver.storelist import read_stores_csv
from tests.receiver.generator import DELIVERIES, OUR_NIP, PLACEMENTS, SELLERS, SHOPS, many, rulebook_toml, stores_csv

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "ksef" / "invoices"
RULES = rulebook_toml(more_rules=20)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_invoice_goes_to_its_folder(seed: int) -> None:
    rulebook = read_rulebook(RULES)
    folders: dict[str, str] = {}
    wrong: list[tuple[str, str, str]] = []
    seen: Counter[str] = Counter()
    for made in many(3000, seed):
        received = read_received(made.content)
        facts = Facts(OUR_NIP, frozenset({"buyer"}), made.ksef_number, corrected_folder=folders.get(made.corrects))
        filing = file(received, facts, rulebook)
        folders[made.ksef_number] = filing.folder
        store = filing.store.store
        if filing.folder != made.folder or (store.number if store else "") != made.store:
            wrong.append((made.placement, made.folder, filing.folder))
        if made.delivery and made.delivery not in [one.exact for one in deliveries(received)]:
            wrong.append((made.delivery_placement, made.delivery, ""))
        seen.update((made.placement, made.delivery_placement, made.folder.split("/")[0], filing.store.by))
    assert wrong == []
    # The truth was put to the test: every placement, every kind of folder, every kind of evidence occurred.
    assert {*PLACEMENTS, *DELIVERIES, "korekta", "sklepy", "koszty", "nieprzypisane"} <= set(seen)
    assert {"gln", "idwew", "number", "address"} <= set(seen)
    assert len(PLACEMENTS) >= 12


def test_what_the_generator_makes_is_valid_and_always_the_same() -> None:
    for made in many(400, seed=3):
        assert findings_of(etree.fromstring(made.content)) == [], made.placement
        assert ksef_number_ok(made.ksef_number)
    assert [made.content for made in many(50)] == [made.content for made in islice(many(400), 50)]
    assert len({made.ksef_number for made in many(2000)}) == 2000
    assert len({seller.nip for seller in SELLERS}) == 300
    assert all(is_nip(seller.nip) for seller in SELLERS)
    assert len({shop.gln for shop in SHOPS}) == len({shop.number for shop in SHOPS}) == 200
    assert all(internal_id_ok(shop.idwew) for shop in SHOPS)


def test_the_register_is_the_same_from_csv_and_from_the_rulebook() -> None:
    assert read_stores_csv(stores_csv()).stores == read_rulebook(RULES).stores.stores


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the third-party samples (../shared/ksef/invoices) are not there")
def test_every_sample_is_filed_and_the_broken_ones_are_marked() -> None:
    rulebook = read_rulebook(RULES)
    marked = set()
    for path in sorted(SAMPLES.glob("*.xml")):
        received = read_received(path.read_bytes())
        filing = file(received, Facts(), rulebook)
        assert filing.folder
        assert len(explain(received, Facts(), rulebook)) == len(rulebook.rules)
        if {"uszkodzona", "niekompletna", "nieznana struktura"} & set(filing.tags):
            marked.add(path.name)
    assert marked == {
        "fa3__fop__zalacznik_FA_3_Zalacznik_Przyklad_2.xml",  # letters encoded twice
        "fa3__ksefuj__01-missing-p15.xml",
        "fa3__ksefuj__16-invalid-xml-characters.xml",
        "fa3__ksefuj__18-missing-namespace.xml",
        "fa3__ksefuj__19-empty-required-fields.xml",
    }
