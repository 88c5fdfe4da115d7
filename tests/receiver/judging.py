"""What the tests of the verdict share: a sound invoice for us, what KSeF says of it, and an archive in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from ksefbuffer.invoice.identifiers import crc8, sha256_hex
from ksefbuffer.invoice.names import number_key
from ksefbuffer.invoice.received import read_received
from ksefbuffer.receiver.shapes import Supplier
from ksefbuffer.receiver.stores import Store, StoreRegister
from ksefbuffer.receiver.verdict import Archive, Knowledge, Known, Metadata, Verdict, judge
from tests.samples import ISSUE_DATE, NIP, Line, a_nip, invoice

US = NIP
SELLER = a_nip(7)
STRANGER = a_nip(8)
NAME = "Sklepy Pod Dębem sp. z o.o."
ACCOUNT = "61109010140000071219812874"
OTHER_ACCOUNT = "27114020040000300201355387"
ACCEPTED = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 10, 15, tzinfo=UTC)

PLAIN = [Line("Kawa", "szt.", Decimal(10), Decimal("12.50"))]
TWO_RATES = [*PLAIN, Line("Chleb", "szt.", Decimal(4), Decimal("6.20"), "5")]
EXEMPT = [Line("Porada lekarska", "usł.", Decimal(1), Decimal("200.00"), "zw")]
COSTLY = [Line("Stal zbrojeniowa", "t", Decimal(10), Decimal("2000.00"))]


def ksef_number(seed: int, nip: str = SELLER, day: str = "20261120") -> str:
    head = f"{nip}-{day}-{seed:012X}"
    return f"{head}-{crc8(head)}"


OWN_NUMBER = ksef_number(77)


def bought(number: str = "FV/1/2026", lines: Sequence[Line] = PLAIN, **more: Any) -> bytes:
    """A sound invoice of SELLER for us, at our head office."""
    content = invoice(number, **{"nip": SELLER, "lines": lines, "buyer_nip": US, "buyer_name": NAME, **more})
    head, buyer, rest = content.partition(b"<Podmiot2>")
    lines_of_address = "<AdresL1>ul. Główna 1</AdresL1><AdresL2>00-950 Warszawa</AdresL2>".encode()
    return head + buyer + re.sub(rb"<AdresL1>.*?</AdresL2>", lines_of_address, rest, count=1)


SOUND = bought()


def edit(content: bytes, *changes: tuple[str, str]) -> bytes:
    for old, new in changes:
        assert old.encode() in content, old
        content = content.replace(old.encode(), new.encode(), 1)
    return content


def without(content: bytes, name: str) -> bytes:
    """The same without every element of that name."""
    opening, closing = f"<{name}>".encode(), f"</{name}>".encode()
    assert opening in content, name
    while opening in content:
        start = content.index(opening)
        content = content[:start] + content[content.index(closing, start) + len(closing) :]
    return content


def third(content: bytes, ids: str, rest: str, name: str = "Sklep nr 7") -> bytes:
    named = f"<Nazwa>{name}</Nazwa>" if name else ""
    party = f"<Podmiot3><DaneIdentyfikacyjne>{ids}{named}</DaneIdentyfikacyjne>{rest}</Podmiot3>"
    return edit(content, ("</Podmiot2>", "</Podmiot2>" + party))


def gln_at_buyer(gln: str, content: bytes = SOUND) -> bytes:
    """The GLN in the buyer's correspondence address."""
    address = f"<AdresKoresp><KodKraju>PL</KodKraju><AdresL1>Rampa</AdresL1><GLN>{gln}</GLN></AdresKoresp>"
    return edit(content, ("</Adres><JST>", f"</Adres>{address}<JST>"))


def in_fa(content: bytes, *, before: str, what: str) -> bytes:
    return edit(content, (before, what + before))


def described(content: bytes, key: str, value: str) -> bytes:
    what = f"<DodatkowyOpis><Klucz>{key}</Klucz><Wartosc>{value}</Wartosc></DodatkowyOpis>"
    return in_fa(content, before="<FaWiersz>", what=what)


def with_wz(content: bytes, *numbers: str) -> bytes:
    return in_fa(content, before="<P_6>", what="".join(f"<WZ>{number}</WZ>" for number in numbers))


@dataclass
class Shelf:
    """An archive in memory that keeps the promises of ``Archive`` in the simplest way."""

    invoices: tuple[Known, ...] = ()
    complete_since: date | None = None
    delivery_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    likenesses: Mapping[str, str] = field(default_factory=dict)
    corrected: Mapping[str, str] = field(default_factory=dict)
    settled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known_accounts: frozenset[str] = frozenset()

    def numbered(self, seller_nip: str, number_keys: Sequence[str]) -> Sequence[Known]:
        return [
            replace(one, keys=frozenset((number_key(one.invoice_number),)))
            for one in self.invoices
            if one.seller_nip == seller_nip and number_key(one.invoice_number) in number_keys
        ]

    def filed(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        return [one for one in self.invoices if one.ksef_number in ksef_numbers]

    def delivered(self, seller_nip: str, delivery_keys: Sequence[str], since: date) -> Sequence[Known]:
        return [
            replace(one, keys=keys)
            for one in self._since(seller_nip, since)
            if (keys := frozenset(self.delivery_keys.get(one.ksef_number, ())) & frozenset(delivery_keys))
        ]

    def alike(self, seller_nip: str, likeness: str, since: date) -> Sequence[Known]:
        found = self._since(seller_nip, since)
        return [one for one in found if self.likenesses.get(one.ksef_number) == likeness]

    def corrections(self, ksef_number: str) -> Sequence[Known]:
        return [one for one in self.invoices if self.corrected.get(one.ksef_number) == ksef_number]

    def settlements(self, ksef_numbers: Sequence[str]) -> Sequence[Known]:
        return [
            replace(one, keys=keys)
            for one in self.invoices
            if (keys := frozenset(self.settled.get(one.ksef_number, ())) & frozenset(ksef_numbers))
        ]

    def accounts(self, seller_nip: str, before: datetime | None) -> frozenset[str]:
        return self.known_accounts if seller_nip == SELLER else frozenset()

    def _since(self, seller_nip: str, since: date) -> list[Known]:
        return [
            one
            for one in self.invoices
            if one.seller_nip == seller_nip and one.issue_date is not None and one.issue_date >= since
        ]


_IS_ARCHIVE: Archive = Shelf()


def stored(seed: int, number: str = "FV/9/2026", **more: Any) -> Known:
    """An invoice stored an hour before the one that is judged."""
    return replace(
        Known(
            ksef_number(seed),
            SELLER,
            US,
            "VAT",
            number,
            ISSUE_DATE,
            Decimal("153.75"),
            "PLN",
            ACCEPTED - timedelta(hours=1),
        ),
        **more,
    )


STORES = StoreRegister(
    stores=(
        Store(
            "7",
            "Sklep Łódź",
            glns=("5901234123457",),
            addresses=("ul. Kwiatowa 7, 90-001 Łódź",),
            idwews=(f"{US}-00017",),
            open_from=date(2020, 1, 1),
        ),
        Store("8", "Sklep Gdańsk", glns=("5907690000004",), open_to=date(2025, 6, 30)),
    ),
    headquarters=("ul. Główna 1, 00-950 Warszawa",),
)

# What a buffer of a chain knows when everything is filled in.
FULL = Knowledge(
    nips=frozenset((US,)),
    names=("Sklepy Pod Dębem sp. z o.o.", "Pod Dębem"),
    addresses=("ul. Główna 1, 00-950 Warszawa",),
    stores=STORES,
    suppliers={SELLER: Supplier(SELLER, "Hurtownia Pod Dębem", accounts=(ACCOUNT,))},
)


def knowing(**supplier: Any) -> Knowledge:
    """FULL with other settings of the supplier."""
    ours = FULL.suppliers[SELLER]
    return replace(FULL, suppliers={SELLER: replace(ours, **supplier)})


def told_of(content: bytes, **more: Any) -> Metadata:
    """What KSeF would say of ``content``."""
    received = read_received(content)
    buyer = received.buyer
    metadata = Metadata(
        ksef_number=OWN_NUMBER,
        sha256_hex=sha256_hex(content),
        stored_sha256_hex=sha256_hex(content),
        seller_nip=received.seller.nip,
        buyer_id_type="Nip" if buyer.nip else "None",
        buyer_id_value=buyer.nip,
        invoice_number=received.invoice_number,
        issue_date=received.issue_date,
        gross=received.gross,
        currency=received.currency,
        invoice_type={"KOR_ZAL": "KorZal", "KOR_ROZ": "KorRoz"}.get(
            received.invoice_type, received.invoice_type.capitalize()
        ),
        form_code=received.form,
        has_attachment=received.has_attachment,
        self_invoicing=received.self_invoicing,
        invoicing_at=ACCEPTED,
        roles=frozenset(("buyer",)),
    )
    return replace(metadata, **more)


def verdict_on(
    content: bytes,
    knowledge: Knowledge = FULL,
    archive: Archive | None = None,
    metadata: Metadata | None = None,
    now: datetime = NOW,
    **told: Any,
) -> Verdict:
    return judge(read_received(content), metadata or told_of(content, **told), knowledge, archive or Shelf(), now=now)


def codes(verdict: Verdict) -> list[str]:
    return [one.code for one in verdict.fired]
