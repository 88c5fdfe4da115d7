"""Every check of the list: it speaks when it should, and keeps still where the law, or what we know, leaves it no case.

A situation is a sound invoice changed, and exactly the checks that it brings. The contents are valid FA(3) but where
``broken`` says so: KSeF keeps such invoices too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from lxml import etree

from ksefbuffer.invoice import schema
from ksefbuffer.invoice.received import read_received
from ksefbuffer.receiver.checks.catalogue import CATALOGUE
from ksefbuffer.receiver.shapes import Supplier
from ksefbuffer.receiver.verdict import Knowledge, likeness
from tests.samples import ISSUE_DATE, Line, correction_of

from .judging import (
    ACCEPTED,
    ACCOUNT,
    COSTLY,
    EXEMPT,
    FULL,
    NAME,
    OTHER_ACCOUNT,
    SELLER,
    SOUND,
    STRANGER,
    TWO_RATES,
    US,
    Shelf,
    bought,
    codes,
    described,
    edit,
    gln_at_buyer,
    in_fa,
    knowing,
    ksef_number,
    stored,
    third,
    told_of,
    verdict_on,
    with_wz,
    without,
)


@dataclass(frozen=True)
class Situation:
    """``content`` under ``knowledge``, ``archive`` and KSeF's metadata changed by ``told``."""

    what: str
    content: Callable[[], bytes]
    knowledge: Knowledge = FULL
    archive: Shelf = field(default_factory=Shelf)
    told: Mapping[str, Any] = field(default_factory=dict)
    now: datetime = datetime(2026, 11, 20, 10, 15, tzinfo=UTC)
    broken: bool = False

    def codes(self) -> list[str]:
        return codes(self.verdict())

    def verdict(self) -> Any:
        return verdict_on(self.content(), self.knowledge, self.archive, now=self.now, **self.told)


def case(what: str, content: Callable[[], bytes] | bytes, **more: Any) -> Situation:
    return Situation(what, (lambda: content) if isinstance(content, bytes) else content, **more)


ORIGINAL = ksef_number(500)
LINK = "<LinkDoPlatnosci>{}?IPKSeF=123abcdefghij</LinkDoPlatnosci><IPKSeF>{}</IPKSeF></Platnosc>"


def other_buyer(nip: str) -> bytes:
    return bought(buyer_nip=nip)


def buyer_ids(ids: str, content: bytes = SOUND) -> bytes:
    return edit(content, (f"<NIP>{US}</NIP>", ids))


def corrects(*changes: tuple[str, str], number: str | None = ORIGINAL) -> bytes:
    """A correction that takes one of ten pieces back: -12.50 net, -15.38 gross."""
    return edit(correction_of(SOUND, ksef_number=number), *changes)


def bare_correction(content: bytes) -> bytes:
    for name in ("PrzyczynaKorekty", "TypKorekty", "DaneFaKorygowanej"):
        content = without(content, name)
    return content


def paid_by_link(url: str, payment_id: str = "123abcdefghij") -> bytes:
    return edit(SOUND, ("</Platnosc>", LINK.format(url, payment_id)))


def settles(number: str, kind: str = "ROZ") -> bytes:
    content = bought(type=kind) if kind == "ROZ" else bought(type="ZAL")
    reference = f"<NrKSeFFaZaliczkowej>{number}</NrKSeFFaZaliczkowej>"
    if kind == "ROZ":
        outside = "<NrKSeFZN>1</NrKSeFZN><NrFaZaliczkowej>ZAL/1/2026</NrFaZaliczkowej>"
        return edit(content, (outside, reference))
    what = f"<FakturaZaliczkowa>{reference}</FakturaZaliczkowa>"
    return in_fa(content, before="<Platnosc>", what=what)


def costly_with_annex(*changes: tuple[str, str]) -> bytes:
    return edit(bought(lines=COSTLY), ("<P_12>23</P_12>", "<P_12>23</P_12><P_12_Zal_15>1</P_12_Zal_15>"), *changes)


def margin(content: bytes = SOUND) -> bytes:
    return edit(
        content,
        ("<P_13_1>125.00</P_13_1><P_14_1>28.75</P_14_1>", "<P_13_11>140.00</P_13_11>"),
        ("<P_PMarzyN>1</P_PMarzyN>", "<P_PMarzy>1</P_PMarzy><P_PMarzy_3_1>1</P_PMarzy_3_1>"),
    )


def a_factor(content: bytes = SOUND, nip: str = STRANGER) -> bytes:
    address = "<Adres><KodKraju>PL</KodKraju><AdresL1>ul. Bankowa 1, 00-950 Warszawa</AdresL1></Adres>"
    return third(content, f"<NIP>{nip}</NIP>", f"{address}<Rola>1</Rola>", name="Faktor S.A.")


def factor_account(number: str) -> bytes:
    account = f"<RachunekBankowyFaktora><NrRB>{number}</NrRB></RachunekBankowyFaktora></Platnosc>"
    return edit(SOUND, ("</Platnosc>", account))


def store_gln(gln: str) -> bytes:
    return gln_at_buyer(gln)


NEEDS_ORDER = knowing(order_required=True, order_pattern=r"45\d{8}")
NEEDS_DELIVERY = knowing(delivery_required=True)
LISTED = replace(NEEDS_ORDER, orders=frozenset(("4500000001",)))
DELIVERED = replace(NEEDS_DELIVERY, deliveries=frozenset(("8000000001",)))
RELATED = replace(FULL, suppliers={**FULL.suppliers, STRANGER: Supplier(STRANGER, related=True)})
CHEAP = [Line("Zapraszamy do wpisu – oferta dla firm www.katalog-firm.example", "szt.", Decimal(1), Decimal("0.10"))]

SPEAKS: dict[str, list[tuple[Situation, list[str]]]] = {
    "Z01": [
        (case("somebody else's invoice", other_buyer(STRANGER)), ["Z01"]),
        (case("a foreign buyer", buyer_ids("<KodUE>DE</KodUE><NrVatUE>123456789</NrVatUE>")), ["Z01"]),
    ],
    "Z02": [
        (
            case("we only pay", lambda: third(other_buyer(STRANGER), f"<NIP>{US}</NIP>", "<Rola>6</Rola>")),
            ["Z02"],
        ),
        (case("we are the tax representative", lambda: _represented()), ["Z02"]),
    ],
    "Z03": [
        (case("a wrong digit", other_buyer(US[:4] + "9" + US[5:])), ["Z03", "Z11"]),
        (case("two digits swapped", other_buyer(US[:3] + US[4] + US[3] + US[5:])), ["Z03", "Z11"]),
    ],
    "Z04": [
        (
            case("anybody's NIP as a VAT-EU number", buyer_ids(f"<KodUE>PL</KodUE><NrVatUE>{STRANGER}</NrVatUE>")),
            ["Z04"],
        ),
        (case("our NIP as a German number", buyer_ids(f"<KodUE>DE</KodUE><NrVatUE>{US}</NrVatUE>")), ["Z04"]),
        (case("our NIP as a VAT-EU number", buyer_ids(f"<KodUE>PL</KodUE><NrVatUE>{US}</NrVatUE>")), ["Z04"]),
        (case("our NIP with PL as another number", buyer_ids(f"<NrID>PL{US}</NrID>")), ["Z04"]),
    ],
    "Z05": [
        (case("no number at all", buyer_ids("<BrakID>1</BrakID>")), ["Z05"]),
        (
            case(
                "no number, our unit beside it",
                lambda: third(buyer_ids("<BrakID>1</BrakID>"), f"<IDWew>{US}-00017</IDWew>", "<Rola>2</Rola>"),
            ),
            ["Z05"],
        ),
    ],
    "Z06": [
        (case("a name with a word of ours", bought(buyer_name="Hurtownia Pod Lipą sp. z o.o.")), ["Z06"]),
        (case("another firm's name", bought(buyer_name="Piekarnia Żytnia S.A.")), ["Z06"]),
    ],
    "Z07": [
        (case("no name", edit(SOUND, (f"<Nazwa>{NAME}</Nazwa>", ""))), ["Z07"]),
        (case("no address", lambda: _without_address()), ["Z07"]),
    ],
    "Z08": [(case("an unknown address", edit(SOUND, ("ul. Główna 1", "ul. Boczna 99"))), ["Z08"])],
    "Z09": [
        (
            case("we sell, asked as a third party", bought(nip=US, buyer_nip=STRANGER), told={"roles": {"third"}}),
            ["Z01", "Z09"],
        ),
    ],
    "Z10": [(case("it sells to itself", bought(nip=STRANGER, buyer_nip=STRANGER)), ["Z01", "Z10", "Z13"])],
    "Z11": [
        (case("a seller with a wrong NIP", bought(nip="5260250275")), ["Z11", "Z13"]),
        (
            case("a payer with a wrong NIP", third(SOUND, "<NIP>5260250275</NIP>", "<Rola>6</Rola>")),
            ["Z11", "Z53"],
        ),
    ],
    "Z12": [(case("a made-up seller", bought(nip="1111111111")), ["Z12", "Z13"])],
    "Z13": [(case("a seller nobody listed", bought(nip=STRANGER)), ["Z13"])],
    "Z14": [(case("a blocked seller", SOUND, knowledge=knowing(blocked=True)), ["Z14"])],
    "Z15": [(case("issued in the seller's name", bought(self_invoicing=True)), ["Z15"])],
    "Z16": [
        (
            case(
                "a seller in bankruptcy",
                edit(SOUND, ("</Podmiot1>", "<StatusInfoPodatnika>3</StatusInfoPodatnika></Podmiot1>")),
            ),
            ["Z16"],
        )
    ],
    "Z17": [
        (
            case(
                "a unit in another role",
                lambda: third(edit(SOUND, ("<JST>2", "<JST>1")), f"<IDWew>{US}-00017</IDWew>", "<Rola>2</Rola>"),
            ),
            ["Z17"],
        ),
        (case("a JST unit not named", edit(SOUND, ("<JST>2", "<JST>1"))), ["Z17"]),
    ],
    "Z18": [(case("a VAT group's member not named", edit(SOUND, ("<GV>2", "<GV>1"))), ["Z18"])],
    "Z19": [
        (
            case("a unit we do not know", third(SOUND, f"<IDWew>{US}-00020</IDWew>", "<Rola>2</Rola>")),
            ["Z19"],
        )
    ],
    "Z20": [
        (
            case("a wrong digit of a unit", third(SOUND, f"<IDWew>{US}-00018</IDWew>", "<Rola>2</Rola>")),
            ["Z19", "Z20"],
        )
    ],
    "Z21": [(case("somebody else's GLN", store_gln("5900000000008")), ["Z21"])],
    "Z22": [
        (case("a wrong check digit", store_gln("5901234123458")), ["Z22"]),
        (case("no GLN at all", store_gln("RYM2")), ["Z22"]),
        (case("twelve digits", described(SOUND, "GLN miejsca dostawy", "123456789012")), ["Z22"]),
    ],
    "Z23": [
        (
            case(
                "the GLN of one store, the number of another", described(store_gln("5901234123457"), "Nr sklepu", "8")
            ),
            ["Z23"],
        )
    ],
    "Z24": [(case("no store told", SOUND, knowledge=knowing(store_supplier=True)), ["Z24"])],
    "Z25": [(case("a store closed long ago", store_gln("5907690000004")), ["Z25"])],
    "Z26": [(case("no order number", SOUND, knowledge=NEEDS_ORDER), ["Z26"])],
    "Z27": [
        (case("an order of another shape", bought(order_number="ZK/12/2026"), knowledge=NEEDS_ORDER), ["Z27"]),
        (case("an order nobody made", bought(order_number="4500000002"), knowledge=LISTED), ["Z27"]),
    ],
    "Z28": [
        (case("no delivery number", SOUND, knowledge=NEEDS_DELIVERY), ["Z28"]),
        (case("an unknown delivery", with_wz(SOUND, "8000000002"), knowledge=DELIVERED), ["Z28"]),
        (
            case(
                "a delivery invoiced before",
                with_wz(SOUND, "WZ/12/2026/M1"),
                archive=Shelf(
                    (stored(1, gross=Decimal("99.00")),),
                    delivery_keys={ksef_number(1): ("12/2026/M1",)},
                ),
            ),
            ["Z28"],
        ),
    ],
    "Z29": [
        (
            case(
                "the number again, for the same delivery",
                with_wz(SOUND, "WZ/12/2026/M1"),
                archive=Shelf((stored(1, "FV/1/2026"),), delivery_keys={ksef_number(1): ("12/2026/M1",)}),
            ),
            ["Z29"],
        ),
        (
            case(
                "a correction's number again, the kind in KSeF's words",
                edit(corrects(), ("<RodzajFaktury>KOR<", "<RodzajFaktury>KOR_ROZ<")),
                archive=Shelf((stored(1, "FK/1/2026", invoice_type="KorRoz"),)),
            ),
            ["Z29"],
        ),
        (case("the number again, spelled otherwise", SOUND, archive=Shelf((stored(1, "fv / 1/2026"),))), ["Z29"]),
        (
            case(
                "an unreadable file with a number known",
                b"<html><body>Oops</body></html>",
                archive=Shelf((stored(1, "FV/1/2026", invoice_type="Vat"),)),
                told={"seller_nip": SELLER, "invoice_number": "FV/1/2026", "invoice_type": "Vat"},
                broken=True,
            ),
            ["Z29", "Z57"],
        ),
    ],
    "Z30": [
        (
            case("the number on another kind", SOUND, archive=Shelf((stored(1, "FV/1/2026", invoice_type="ROZ"),))),
            ["Z30"],
        )
    ],
    "Z31": [
        (
            case(
                "the same delivery and amount",
                with_wz(SOUND, "WZ/12/2026/M1"),
                knowledge=replace(FULL, suppliers={}),
                archive=Shelf((stored(1),), delivery_keys={ksef_number(1): ("12/2026/M1",)}),
            ),
            ["Z31"],
        ),
        (
            case(
                "word for word the same",
                SOUND,
                archive=Shelf((stored(1),), likenesses={ksef_number(1): likeness(read_received(bought("FV/9/2026")))}),
            ),
            ["Z31"],
        ),
    ],
    "Z32": [
        (case("a wrong total", edit(SOUND, ("<P_15>153.75", "<P_15>153.80"))), ["Z32"]),
        (case("a settlement over its sums", edit(bought(type="ROZ"), ("<P_15>143.75", "<P_15>163.75"))), ["Z32"]),
        (case("an advance unlike its sums", edit(bought(type="ZAL"), ("<P_15>153.75", "<P_15>150.00"))), ["Z32"]),
    ],
    "Z33": [
        (
            case("too much tax", edit(SOUND, ("<P_14_1>28.75", "<P_14_1>30.00"), ("<P_15>153.75", "<P_15>155.00"))),
            ["Z33"],
        )
    ],
    "Z34": [
        (
            case(
                "sums that are not those of the lines",
                edit(
                    SOUND,
                    ("<P_13_1>125.00", "<P_13_1>200.00"),
                    ("<P_14_1>28.75", "<P_14_1>46.00"),
                    ("<P_15>153.75", "<P_15>246.00"),
                ),
            ),
            ["Z34"],
        ),
        (
            case(
                "a correction unlike its lines",
                corrects(("<P_13_1>-12.50", "<P_13_1>-99.00"), ("<P_15>-15.38", "<P_15>-101.88")),
            ),
            ["Z34"],
        ),
    ],
    "Z35": [
        (case("no lines", without(SOUND, "FaWiersz")), ["Z35"]),
        (case("a correction of money without lines", without(corrects(), "FaWiersz")), ["Z35"]),
    ],
    "Z36": [(case("no tax in złoty", without(bought(currency="EUR"), "P_14_1W")), ["Z36"])],
    "Z37": [
        (
            case(
                "a ground without its paragraph",
                edit(bought(lines=EXEMPT), ("<P_19A>art. 43 ust. 1 pkt 29 ustawy o VAT</P_19A>", "")),
                broken=True,
            ),
            ["Z37"],
        ),
        (
            case(
                "an exemption without its ground",
                edit(
                    bought(lines=EXEMPT),
                    ("<P_19>1</P_19><P_19A>art. 43 ust. 1 pkt 29 ustawy o VAT</P_19A>", "<P_19N>1</P_19N>"),
                ),
            ),
            ["Z37"],
        ),
        (
            case(
                "a ground without an exemption",
                edit(SOUND, ("<P_19N>1</P_19N>", "<P_19>1</P_19><P_19A>art. 43</P_19A>")),
            ),
            ["Z37"],
        ),
    ],
    "Z38": [
        (case("split payment unsaid", costly_with_annex), ["Z38"]),
        (
            case(
                "split payment in cash",
                lambda: costly_with_annex(("<P_18A>2", "<P_18A>1"), ("<FormaPlatnosci>6", "<FormaPlatnosci>1")),
            ),
            ["Z38"],
        ),
    ],
    "Z39": [
        (case("a date to come", SOUND, told={"invoicing_at": ACCEPTED - timedelta(days=1)}), ["Z39"]),
        (case("a date long past", SOUND, told={"invoicing_at": ACCEPTED + timedelta(days=8)}), ["Z39"]),
    ],
    "Z40": [
        (case("delivered last year", edit(SOUND, ("<P_6>2026-11-20", "<P_6>2026-01-02"))), ["Z40"]),
        (case("delivered in spring", edit(SOUND, ("<P_6>2026-11-20", "<P_6>2027-03-01"))), ["Z40"]),
        (case("a period of last year", lambda: _of_period("2025-01-01", "2025-12-31")), ["Z40"]),
        (case("a line of last year", lambda: _line_dated("2025-10-01")), ["Z40"]),
    ],
    "Z41": [
        (case("a correction of nothing", bare_correction(corrects())), ["Z41"]),
        (
            case(
                "a correction without the number that we know",
                corrects(number=None),
                archive=Shelf((stored(1, "FV/1/2026"),)),
            ),
            ["Z41"],
        ),
    ],
    "Z42": [
        (
            case("a wrong KSeF number", corrects(number=ORIGINAL[:-2] + ("00" if ORIGINAL[-2:] != "00" else "01"))),
            ["Z42"],
        ),
        (case("a KSeF number of another seller", corrects(number=ksef_number(3, STRANGER))), ["Z42"]),
        (case("an original never received", corrects(), archive=Shelf(complete_since=date(2026, 2, 1))), ["Z42"]),
    ],
    "Z43": [
        (case("a correction of the buyer's NIP", lambda: _buyer_before(STRANGER)), ["Z43"]),
        (
            case(
                "a correction for another buyer than the original's",
                corrects(),
                archive=Shelf((stored(500, "FV/1/2026", buyer_nip=STRANGER),)),
            ),
            ["Z43"],
        ),
    ],
    "Z44": [
        (
            case(
                "more taken back than was sold",
                corrects(),
                archive=Shelf(
                    (
                        stored(500),
                        stored(501, "FK/0/2026", invoice_type="KOR", gross=Decimal("-140.00")),
                    ),
                    corrected={ksef_number(501): ORIGINAL},
                ),
            ),
            ["Z44"],
        )
    ],
    "Z45": [
        (case("an advance never received", settles(ORIGINAL), archive=Shelf(complete_since=date(2026, 2, 1))), ["Z45"]),
        (
            case(
                "an advance settled before",
                settles(ORIGINAL),
                archive=Shelf(
                    (stored(500, "ZAL/1", invoice_type="ZAL"), stored(501, "FR/1", invoice_type="ROZ")),
                    settled={ksef_number(501): (ORIGINAL,)},
                ),
            ),
            ["Z45"],
        ),
    ],
    "Z46": [
        (case("an account not listed", edit(SOUND, (ACCOUNT, OTHER_ACCOUNT))), ["Z46"]),
        (
            case(
                "an account never seen before",
                edit(SOUND, (ACCOUNT, OTHER_ACCOUNT)),
                knowledge=knowing(accounts=()),
                archive=Shelf(known_accounts=frozenset((ACCOUNT,))),
            ),
            ["Z46"],
        ),
    ],
    "Z47": [
        (
            case("wrong check digits", edit(SOUND, (ACCOUNT, "62" + ACCOUNT[2:])), knowledge=knowing(accounts=())),
            ["Z47"],
        )
    ],
    "Z48": [
        (case("a factor unheard of", a_factor()), ["Z48"]),
        (case("a factor's account", factor_account(OTHER_ACCOUNT)), ["Z48"]),
    ],
    "Z49": [
        (case("a payment link elsewhere", paid_by_link("https://oplac-fakture.example/p")), ["Z49"]),
        (case("a link without https", paid_by_link("http://secure.przelewy24.pl/p")), ["Z49"]),
        (
            case("an operator's name before @", paid_by_link("https://przelewy24.pl@zlodziej.example/p"), broken=True),
            ["Z49"],
        ),
        (case("another payment's id", paid_by_link("https://secure.przelewy24.pl/p", "999zzzzzzzzzz")), ["Z49"]),
        (case("a shortened link in the footer", bought(footer="Zapłać: https://bit.ly/3xYz")), ["Z49"]),
        (case("a link to pay in the footer", bought(footer="https://panel.example/zaplac?id=1")), ["Z49"]),
        (case("the government's look-alike", bought(footer="kontakt@podatki-gov.pl")), ["Z49"]),
        (case("letters that look alike", bought(footer="www.рrzelewy24.pl")), ["Z49"]),
        (case("text that turns around", bought(footer="rachunek \u202e4782 1892\u202c")), ["Z49"]),
    ],
    "Z50": [
        (case("due before it was issued", edit(SOUND, ("<Termin>2026-12-04", "<Termin>2026-11-19"))), ["Z50"]),
        (case("due before we agreed", SOUND, knowledge=knowing(payment_days=30)), ["Z50"]),
    ],
    "Z51": [
        (case("an advertisement for nothing", bought(lines=CHEAP)), ["Z51"]),
        (
            case(
                "a stranger's line with a link",
                bought(
                    nip=STRANGER,
                    lines=[Line("Opłata https://rejestr.example", "szt.", Decimal(1), Decimal(299))],
                ),
                knowledge=replace(FULL, suppliers={}),
            ),
            ["Z51"],
        ),
        (
            case("an old advertisement", bought(lines=CHEAP), now=datetime(2027, 3, 1, tzinfo=UTC)),
            ["Z51"],
        ),
    ],
    "Z52": [
        (case("related, it says, and is not", lambda: _related(), knowledge=RELATED), ["Z52"]),
        (case("a related seller does not say so", SOUND, knowledge=knowing(related=True)), ["Z52"]),
    ],
    "Z53": [
        (case("somebody else pays", third(SOUND, f"<NIP>{STRANGER}</NIP>", "<Rola>6</Rola>")), ["Z53"]),
        (case("an employee", third(SOUND, "<BrakID>1</BrakID>", "<Rola>11</Rola>", name="Jan Kowalski")), ["Z53"]),
    ],
    "Z54": [
        (case("an attachment KSeF does not tell", bought(attachment=True), told={"has_attachment": False}), ["Z54"]),
        (case("an attachment that is not there", SOUND, told={"has_attachment": True}), ["Z54"]),
    ],
    "Z55": [(case("other bytes", SOUND, told={"sha256_hex": "0" * 64}), ["Z55"])],
    "Z56": [
        (case("another seller", SOUND, told={"seller_nip": STRANGER}), ["Z56"]),
        (case("another buyer", SOUND, told={"buyer_id_value": STRANGER}), ["Z56"]),
        (case("no buyer's NIP", SOUND, told={"buyer_id_type": "None", "buyer_id_value": ""}), ["Z56"]),
        (case("another number", SOUND, told={"invoice_number": "FV/2/2026"}), ["Z56"]),
        (case("another day", SOUND, told={"issue_date": date(2026, 11, 19)}), ["Z56"]),
        (case("another total", SOUND, told={"gross": Decimal("153.76")}), ["Z56"]),
        (case("another currency", SOUND, told={"currency": "EUR"}), ["Z56"]),
    ],
    "Z57": [
        (case("no XML", b"not an invoice", told={"seller_nip": SELLER}, broken=True), ["Z57"]),
        (case("no known form", SOUND.replace(b"2025/06/25/13775", b"2031/01/01/99999"), broken=True), ["Z57"]),
        (case("FA(2) after its time", SOUND.replace(b"2025/06/25/13775", b"2023/06/29/12648"), broken=True), ["Z57"]),
        (case("a file cut off", SOUND[: SOUND.index(b"<Platnosc>")], broken=True), ["Z57"]),
    ],
}


def _represented() -> bytes:
    party = (
        f"<PodmiotUpowazniony><DaneIdentyfikacyjne><NIP>{US}</NIP><Nazwa>My</Nazwa></DaneIdentyfikacyjne>"
        "<Adres><KodKraju>PL</KodKraju><AdresL1>Główna 1, 00-950 Warszawa</AdresL1></Adres><RolaPU>3</RolaPU>"
        "</PodmiotUpowazniony>"
    )
    return edit(other_buyer(STRANGER), ("</Podmiot2>", "</Podmiot2>" + party))


def _without_address() -> bytes:
    head, buyer, rest = SOUND.partition(b"<Podmiot2>")
    return head + buyer + rest[: rest.index(b"<Adres>")] + rest[rest.index(b"</Adres>") + len(b"</Adres>") :]


def _of_period(begins: str, ends: str) -> bytes:
    return edit(
        SOUND, ("<P_6>2026-11-20</P_6>", f"<OkresFa><P_6_Od>{begins}</P_6_Od><P_6_Do>{ends}</P_6_Do></OkresFa>")
    )


def _line_dated(day: str) -> bytes:
    return edit(
        without(SOUND, "P_6"), ("<NrWierszaFa>1</NrWierszaFa>", f"<NrWierszaFa>1</NrWierszaFa><P_6A>{day}</P_6A>")
    )


def _buyer_before(nip: str, *, third_nip: str = "") -> bytes:
    party = f"<Podmiot2K><DaneIdentyfikacyjne><NIP>{nip}</NIP><Nazwa>Inna</Nazwa></DaneIdentyfikacyjne></Podmiot2K>"
    content = corrects(("</DaneFaKorygowanej>", "</DaneFaKorygowanej>" + party))
    return third(content, f"<NIP>{third_nip}</NIP>", "<Rola>4</Rola>") if third_nip else content


def _related() -> bytes:
    return in_fa(SOUND, before="<FaWiersz>", what="<TP>1</TP>")


# What must not be taken for a fault; each brings nothing at all but the codes named.
SILENT: dict[str, list[tuple[Situation, list[str]]]] = {
    "Z01": [
        (case("we are the recipient", lambda: third(other_buyer(STRANGER), f"<NIP>{US}</NIP>", "<Rola>2</Rola>")), []),
        (case("our unit is", lambda: third(other_buyer(STRANGER), f"<IDWew>{US}-00017</IDWew>", "<Rola>8</Rola>")), []),
        (case("we do not know who we are", other_buyer(STRANGER), knowledge=Knowledge()), []),
    ],
    "Z02": [
        (case("we buy too", lambda: third(other_buyer(STRANGER), f"<NIP>{US}</NIP>", "<Rola>4</Rola>")), []),
        (case("we buy and pay", third(SOUND, f"<NIP>{US}</NIP>", "<Rola>6</Rola>")), []),
    ],
    "Z03": [
        (case("quite another NIP", other_buyer(STRANGER)), ["Z01"]),
        (
            case("a like NIP of its own", lambda: third(other_buyer(_twin()), f"<NIP>{US}</NIP>", "<Rola>2</Rola>")),
            [],
        ),
    ],
    "Z04": [
        (
            case("ten digits of Belgium", buyer_ids(f"<KodUE>BE</KodUE><NrVatUE>{STRANGER}</NrVatUE>")),
            ["Z01"],
        ),
        (case("an American number", buyer_ids("<KodKraju>US</KodKraju><NrID>12-3456789</NrID>")), ["Z01"]),
    ],
    "Z05": [
        (
            case("we pay for a consumer", third(buyer_ids("<BrakID>1</BrakID>"), f"<NIP>{US}</NIP>", "<Rola>6</Rola>")),
            ["Z02"],
        )
    ],
    "Z06": [
        (case("capitals, quotes and the long form", bought(buyer_name='"POD DĘBEM" SPÓŁKA Z O.O.')), []),
        (case("without diacritics, with a typo", bought(buyer_name="Sklepy Pod Debam Sp. z o.o.")), []),
        (case("with the store's name", bought(buyer_name="Sklepy Pod Dębem sp. z o.o. – Sklep w Łodzi")), []),
        (case("names unknown", bought(buyer_name="Żytnia S.A."), knowledge=replace(FULL, names=())), []),
    ],
    "Z07": [
        (case("a simplified invoice", lambda: _simplified()), []),
        (case("a correction of one", edit(corrects(), (f"<Nazwa>{NAME}</Nazwa>", ""))), []),
    ],
    "Z08": [
        (
            case(
                "a store's address", edit(SOUND, ("ul. Główna 1", "Kwiatowa 7/2"), ("00-950 Warszawa", "90-001 Łódź"))
            ),
            [],
        ),
        (
            case(
                "addresses unknown",
                edit(SOUND, ("ul. Główna 1", "ul. Boczna 99")),
                knowledge=Knowledge(nips=FULL.nips),
            ),
            [],
        ),
    ],
    "Z09": [
        (
            case("our sale in the buyer's hands", bought(nip=US, self_invoicing=True, buyer_nip=STRANGER)),
            ["Z01", "Z15"],
        ),
    ],
    "Z10": [(case("seller unlike buyer", SOUND), [])],
    "Z11": [(case("a foreign number is no NIP", buyer_ids("<KodUE>DE</KodUE><NrVatUE>123</NrVatUE>")), ["Z01"])],
    "Z12": [
        (
            case("on the test environment", bought(nip="1111111111"), knowledge=replace(FULL, environment="test")),
            ["Z13"],
        )
    ],
    "Z13": [
        (case("no list of suppliers", bought(nip=STRANGER), knowledge=replace(FULL, suppliers={})), []),
        (
            case(
                "only blocked ones are listed",
                SOUND,
                knowledge=replace(FULL, suppliers={STRANGER: Supplier(STRANGER, blocked=True)}),
            ),
            [],
        ),
    ],
    "Z14": [(case("a supplier not blocked", SOUND), [])],
    "Z15": [
        (case("as agreed", bought(self_invoicing=True), knowledge=knowing(self_invoicing=True)), []),
        (case("no list", bought(self_invoicing=True), knowledge=replace(FULL, suppliers={})), []),
    ],
    "Z16": [(case("no status", SOUND), [])],
    "Z17": [
        (
            case(
                "the unit is named",
                lambda: third(edit(SOUND, ("<JST>2", "<JST>1")), f"<IDWew>{US}-00017</IDWew>", "<Rola>8</Rola>"),
            ),
            [],
        )
    ],
    "Z18": [
        (
            case(
                "the member is named",
                lambda: third(edit(SOUND, ("<GV>2", "<GV>1")), f"<NIP>{STRANGER}</NIP>", "<Rola>10</Rola>"),
            ),
            [],
        )
    ],
    "Z19": [
        (case("our unit", third(SOUND, f"<IDWew>{US}-00017</IDWew>", "<Rola>2</Rola>")), []),
        (case("another firm's unit", third(SOUND, "<IDWew>6824515772-12343</IDWew>", "<Rola>4</Rola>")), []),
        (
            case(
                "units unknown",
                third(SOUND, f"<IDWew>{US}-00020</IDWew>", "<Rola>2</Rola>"),
                knowledge=Knowledge(nips=FULL.nips),
            ),
            [],
        ),
    ],
    "Z20": [(case("the ministry's example", third(SOUND, "<IDWew>6824515772-12343</IDWew>", "<Rola>4</Rola>")), [])],
    "Z21": [
        (case("our store", store_gln("5901234123457")), []),
        (case("the seller's, in the footer", bought(footer="GLN 5900000000008")), []),
        (case("GLNs unknown", store_gln("5900000000008"), knowledge=Knowledge(nips=FULL.nips)), []),
    ],
    "Z22": [
        (case("spaces and an application identifier", store_gln("5901234123457")), []),
        (case("no number at all", described(SOUND, "GLN", "nie dotyczy")), []),
    ],
    "Z23": [
        (
            case(
                "a customer number that is another store's",
                edit(store_gln("5901234123457"), ("</AdresKoresp>", "</AdresKoresp><NrKlienta>8</NrKlienta>")),
            ),
            [],
        ),
        (case("both of one store", described(store_gln("5901234123457"), "Nr sklepu", "007")), []),
    ],
    "Z24": [
        (case("the store is told", store_gln("5901234123457"), knowledge=knowing(store_supplier=True)), []),
        (case("a supplier of the office", SOUND), []),
        (case("a correction", corrects(), knowledge=knowing(store_supplier=True)), []),
    ],
    "Z25": [
        (case("an open store", store_gln("5901234123457")), []),
        (case("a correction after closing", gln_at_buyer("5907690000004", corrects())), []),
    ],
    "Z26": [
        (case("an order number", bought(order_number="4500000001"), knowledge=NEEDS_ORDER), []),
        (case("one in a description", described(SOUND, "Numer zamówienia", "4500000001"), knowledge=NEEDS_ORDER), []),
        (case("a correction", corrects(), knowledge=NEEDS_ORDER), []),
        (case("nobody asks", SOUND), []),
    ],
    "Z27": [
        (case("a known order", bought(order_number="4500000001"), knowledge=LISTED), []),
        (
            case(
                "the seller's number beside ours",
                described(bought(order_number="4500000001"), "zamówienie", "ZK/12/2026"),
                knowledge=LISTED,
            ),
            [],
        ),
    ],
    "Z28": [
        (
            case(
                "a delivery invoiced again later",
                with_wz(SOUND, "WZ/12/2026/M1"),
                archive=Shelf(
                    (stored(1, accepted_at=ACCEPTED + timedelta(hours=1)),),
                    delivery_keys={ksef_number(1): ("12/2026/M1",)},
                ),
            ),
            [],
        ),
        (case("a known delivery", with_wz(SOUND, "WZ 0008000000001"), knowledge=DELIVERED), []),
        (case("a correction", corrects(), knowledge=NEEDS_DELIVERY), []),
        (
            case(
                "a number too short to tell",
                with_wz(SOUND, "12"),
                archive=Shelf((stored(1),), delivery_keys={ksef_number(1): ("12",)}),
            ),
            [],
        ),
        (
            case(
                "the same number a year ago",
                with_wz(SOUND, "WZ/12/M1"),
                archive=Shelf(
                    (stored(1, issue_date=ISSUE_DATE - timedelta(days=365), gross=Decimal(1)),),
                    delivery_keys={ksef_number(1): ("12/M1",)},
                ),
            ),
            [],
        ),
    ],
    "Z29": [
        (case("the invoice itself", SOUND, archive=Shelf((stored(77, "FV/1/2026"),))), []),
        (
            case(
                "the second one came later",
                SOUND,
                archive=Shelf((stored(1, "FV/1/2026", accepted_at=ACCEPTED + timedelta(days=1)),)),
            ),
            [],
        ),
        (
            case("another seller's number", SOUND, archive=Shelf((stored(1, "FV/1/2026", seller_nip=STRANGER),))),
            [],
        ),
    ],
    "Z30": [(case("another number", SOUND, archive=Shelf((stored(1, "FV/11/2026", invoice_type="ROZ"),))), [])],
    "Z31": [
        (
            case(
                "an advance of the same amount for the same delivery",
                with_wz(SOUND, "WZ/12/2026/M1"),
                knowledge=replace(FULL, suppliers={}),
                archive=Shelf((stored(1, invoice_type="ROZ"),), delivery_keys={ksef_number(1): ("12/2026/M1",)}),
            ),
            [],
        ),
        (
            case(
                "the same delivery, another amount",
                with_wz(SOUND, "WZ/12/2026/M1"),
                knowledge=replace(FULL, suppliers={}),
                archive=Shelf((stored(1, gross=Decimal(10)),), delivery_keys={ksef_number(1): ("12/2026/M1",)}),
            ),
            [],
        ),
        (case("the same amount, nothing else", SOUND, archive=Shelf((stored(1),))), []),
        (
            case(
                "the same subscription for another store",
                described(SOUND, "Nr sklepu", "7"),
                archive=Shelf(
                    (stored(1),),
                    likenesses={ksef_number(1): likeness(read_received(described(SOUND, "Nr sklepu", "8")))},
                ),
            ),
            [],
        ),
    ],
    "Z32": [
        (case("two rates", bought(lines=TWO_RATES)), []),
        (case("margin", margin()), []),
        (case("a settlement of the rest", bought(type="ROZ")), []),
        (case("an advance", bought(type="ZAL")), []),
        (case("a rounded grosz", edit(SOUND, ("<P_15>153.75", "<P_15>153.77"))), []),
        (case("a correction", corrects()), []),
    ],
    "Z33": [
        (
            case(
                "a grosz of rounding", edit(SOUND, ("<P_14_1>28.75", "<P_14_1>28.76"), ("<P_15>153.75", "<P_15>153.76"))
            ),
            [],
        ),
        (case("a correction of the tax alone", lambda: _tax_alone()), []),
        (case("abroad", bought(currency="EUR")), []),
    ],
    "Z34": [
        (case("one line of two without a rate", edit(bought(lines=TWO_RATES), ("<P_12>23</P_12>", ""))), []),
        (case("a correction by the state before and after", corrects()), []),
        (case("a correction without the state before", without(corrects(), "StanPrzed")), []),
        (case("lines counted from gross", lambda: _from_gross()), []),
        (case("a line without a rate", without(SOUND, "P_12")), []),
    ],
    "Z35": [
        (case("a correction of nothing in money", lambda: _formal()), []),
        (case("an advance", bought(type="ZAL")), []),
        (case("a rebate on a period", lambda: _rebate()), []),
        (case("a correction of the buyer's name", lambda: _name_corrected()), []),
    ],
    "Z36": [
        (case("a correction down", lambda: _down_in_euro()), []),
        (case("tax in złoty", bought(currency="EUR")), []),
        (case("no tax", without(bought(currency="EUR", lines=EXEMPT), "P_1M")), []),
    ],
    "Z37": [(case("an exemption with its ground", bought(lines=EXEMPT)), [])],
    "Z38": [
        (case("marked", lambda: costly_with_annex(("<P_18A>2", "<P_18A>1"))), []),
        (case("not of the annex", bought(lines=COSTLY)), []),
        (case("below the limit", edit(SOUND, ("<P_12>23</P_12>", "<P_12>23</P_12><P_12_Zal_15>1</P_12_Zal_15>"))), []),
        (case("cash without the mark", edit(SOUND, ("<FormaPlatnosci>6", "<FormaPlatnosci>1"))), []),
    ],
    "Z39": [
        (case("a week offline", SOUND, told={"invoicing_at": ACCEPTED + timedelta(days=7)}), []),
        (
            case("after midnight in Poland", SOUND, told={"invoicing_at": datetime(2026, 11, 19, 23, 5, tzinfo=UTC)}),
            [],
        ),
    ],
    "Z40": [
        (case("a year's licence", lambda: _of_period("2026-11-01", "2027-10-31")), []),
        (case("sixty days ahead", edit(SOUND, ("<P_6>2026-11-20", "<P_6>2027-01-19"))), []),
        (case("a correction", corrects(("<P_2>FK/1/2026</P_2>", "<P_2>FK/1/2026</P_2><P_6>2024-01-01</P_6>"))), []),
    ],
    "Z41": [
        (case("by KSeF number", corrects()), []),
        (case("of an invoice from before KSeF", corrects(number=None)), []),
        (
            case(
                "of an old invoice with a number used again",
                corrects(number=None),
                archive=Shelf((stored(1, "FV/1/2026", issue_date=date(2026, 3, 1)),)),
            ),
            [],
        ),
    ],
    "Z42": [
        (case("an original stored", corrects(), archive=Shelf((stored(500),), date(2026, 2, 1))), []),
        (case("an original older than the archive", corrects(), archive=Shelf(complete_since=date(2026, 12, 1))), []),
        (
            case(
                "a number of KSeF 1.0",
                corrects(number=f"{SELLER}-20230721-80B510-9675F7-B5"),
                archive=Shelf(complete_since=date(2026, 12, 1)),
            ),
            [],
        ),
    ],
    "Z43": [
        (case("the same buyer", corrects(), archive=Shelf((stored(500),))), []),
        (case("an additional buyer's data", lambda: _buyer_before(STRANGER, third_nip=STRANGER)), []),
    ],
    "Z44": [
        (case("less than was sold", corrects(), archive=Shelf((stored(500),))), []),
        (
            case(
                "the other correction came later",
                corrects(),
                archive=Shelf(
                    (
                        stored(500),
                        stored(
                            501,
                            "FK/0/2026",
                            invoice_type="KOR",
                            gross=Decimal("-140.00"),
                            accepted_at=ACCEPTED + timedelta(hours=1),
                        ),
                    ),
                    corrected={ksef_number(501): ORIGINAL},
                ),
            ),
            [],
        ),
        (
            case(
                "a correction of a correction",
                corrects(),
                archive=Shelf((stored(500, invoice_type="KOR", gross=Decimal("1.00")),)),
            ),
            [],
        ),
    ],
    "Z45": [
        (
            case(
                "an advance stored",
                settles(ORIGINAL),
                archive=Shelf((stored(500, "ZAL/1", invoice_type="ZAL"),), date(2026, 2, 1)),
            ),
            [],
        ),
        (case("an advance outside KSeF", bought(type="ROZ"), archive=Shelf(complete_since=date(2026, 2, 1))), []),
        (
            case(
                "a second advance names the first",
                settles(ORIGINAL, "ZAL"),
                archive=Shelf(
                    (stored(500, "ZAL/1", invoice_type="ZAL"), stored(501, "FR/1", invoice_type="ROZ")),
                    settled={ksef_number(501): (ORIGINAL,)},
                ),
            ),
            [],
        ),
    ],
    "Z46": [
        (case("the listed one with spaces", edit(SOUND, (ACCOUNT, "PL61 1090 1014 0000 0712 1981 2874"))), []),
        (case("the seller's first invoice", edit(SOUND, (ACCOUNT, OTHER_ACCOUNT)), knowledge=knowing(accounts=())), []),
    ],
    "Z47": [
        (
            case(
                "a foreign account",
                edit(SOUND, (ACCOUNT, "DE89370400440532013000")),
                knowledge=knowing(accounts=()),
            ),
            [],
        )
    ],
    "Z48": [
        (case("a factor we were told of", a_factor(), knowledge=knowing(factors=(STRANGER,))), []),
        (case("an account on the list", factor_account(ACCOUNT)), []),
        (case("no list", a_factor(), knowledge=replace(FULL, suppliers={})), []),
    ],
    "Z49": [
        (case("a known operator", paid_by_link("https://secure.przelewy24.pl/p")), []),
        (
            case(
                "a host of our list",
                paid_by_link("https://pay.hurtownia.example/p"),
                knowledge=replace(FULL, payment_hosts=frozenset(("hurtownia.example",))),
            ),
            [],
        ),
        (case("a seller's page and e-mail", bought(footer="www.hurtownia.pl, biuro@hurtownia.pl")), []),
        (case("the government's page", bought(footer="https://ksef.podatki.gov.pl/")), []),
        (case("a soft hyphen", bought(footer="Sprze­daż hurtowa")), []),
    ],
    "Z50": [
        (case("paid already", lambda: _paid()), []),
        (case("as agreed", SOUND, knowledge=knowing(payment_days=14)), []),
        (case("a correction", lambda: _correction_due()), []),
    ],
    "Z51": [
        (case("a sample for nothing", bought(lines=[Line("Próbka farby", "szt.", Decimal(1), Decimal("0.01"))])), []),
        (
            case(
                "a domain of a supplier",
                bought(lines=[Line("Domena www.sklepy.example", "szt.", Decimal(1), Decimal(99))]),
            ),
            [],
        ),
    ],
    "Z52": [
        (case("related on both sides", lambda: _related(), knowledge=knowing(related=True)), []),
        (case("no list of related", lambda: _related()), []),
    ],
    "Z53": [(case("we pay", third(SOUND, f"<NIP>{US}</NIP>", "<Rola>6</Rola>")), [])],
    "Z54": [
        (
            case(
                "lost where the file was cut",
                SOUND[: SOUND.index(b"<Platnosc>")],
                told={"has_attachment": True},
                broken=True,
            ),
            ["Z57"],
        ),
        (case("an attachment told", bought(attachment=True)), []),
    ],
    "Z55": [(case("the hash in capitals", SOUND, told={"sha256_hex": told_of(SOUND).sha256_hex.upper()}), [])],
    "Z56": [
        (case("the total without noughts", SOUND, told={"gross": Decimal("153.750")}), []),
        (case("the number with its spaces", bought("FV  1"), told={"invoice_number": "FV 1"}), []),
    ],
    "Z57": [(case("FA(2) in its time", lambda: _in_2025(), told={"invoicing_at": None}, broken=True), [])],
}


def _twin() -> str:
    """A right NIP that differs from ours by two digits swapped that weigh the same."""
    places = [(0, 7), (1, 6), (2, 8)]
    for one, other in places:
        digits = list(US)
        digits[one], digits[other] = digits[other], digits[one]
        if digits[one] != digits[other]:
            return "".join(digits)
    raise AssertionError("no twin of our NIP")


def _simplified() -> bytes:
    content = bought(type="UPR", lines=[Line("Olej", "l", Decimal(1), Decimal("8.00"))])
    return edit(content, (f"<Nazwa>{NAME}</Nazwa>", ""))


def _tax_alone() -> bytes:
    return without(
        corrects(
            ("<P_13_1>-12.50", "<P_13_1>0.00"), ("<P_14_1>-2.88", "<P_14_1>-5.00"), ("<P_15>-15.38", "<P_15>-5.00")
        ),
        "StanPrzed",
    )


def _from_gross() -> bytes:
    """Three lines of 1.00 gross: 0.80 net each, 2.44 net together."""
    lines = [Line(f"Drobiazg {number}", "szt.", Decimal(1), Decimal("0.80")) for number in (1, 2, 3)]
    content = bought(lines=lines).replace(b"<P_11>0.80</P_11>", b"<P_11>0.80</P_11><P_11A>1.00</P_11A>")
    return edit(
        content,
        ("<P_13_1>2.40", "<P_13_1>2.44"),
        ("<P_14_1>0.55", "<P_14_1>0.56"),
        ("<P_15>2.95", "<P_15>3.00"),
    )


def _rebate() -> bytes:
    period = "</DaneFaKorygowanej><OkresFaKorygowanej>styczeń 2026</OkresFaKorygowanej>"
    return without(corrects(("</DaneFaKorygowanej>", period)), "FaWiersz")


def _name_corrected() -> bytes:
    return without(_buyer_before(US), "FaWiersz")


def _formal() -> bytes:
    nothing = (("<P_13_1>-12.50", "<P_13_1>0.00"), ("<P_14_1>-2.88", "<P_14_1>0.00"), ("<P_15>-15.38", "<P_15>0.00"))
    return without(corrects(*nothing), "FaWiersz")


def _down_in_euro() -> bytes:
    return without(correction_of(bought(currency="EUR"), ksef_number=ORIGINAL), "P_14_1W")


def _paid() -> bytes:
    return edit(
        SOUND,
        ("<Platnosc>", "<Platnosc><Zaplacono>1</Zaplacono><DataZaplaty>2026-11-19</DataZaplaty>"),
        ("<Termin>2026-12-04", "<Termin>2026-11-19"),
    )


def _correction_due() -> bytes:
    due = "<Platnosc><TerminPlatnosci><Termin>2026-11-01</Termin></TerminPlatnosci></Platnosc></Fa>"
    return corrects(("</Fa>", due))


def _in_2025() -> bytes:
    old = SOUND.replace(b"2026-11-20", b"2025-11-20").replace(b"2025/06/25/13775", b"2023/06/29/12648")
    return old.replace(b"2026-12-04", b"2025-12-04")


def _rows(table: dict[str, list[tuple[Situation, list[str]]]]) -> list[Any]:
    return [
        pytest.param(code, situation, expected, id=f"{code}-{situation.what}".replace(" ", "-"))
        for code, rows in table.items()
        for situation, expected in rows
    ]


@pytest.mark.parametrize(("code", "situation", "expected"), _rows(SPEAKS))
def test_a_check_speaks_when_it_should(code: str, situation: Situation, expected: list[str]) -> None:
    assert code in expected
    assert situation.codes() == expected


@pytest.mark.parametrize(("code", "situation", "expected"), _rows(SILENT))
def test_a_check_keeps_still_when_there_is_no_case(code: str, situation: Situation, expected: list[str]) -> None:
    assert code not in expected
    assert situation.codes() == expected


def test_every_check_has_both() -> None:
    assert list(CATALOGUE) == [f"Z{number:02}" for number in range(1, 58)]
    assert set(SPEAKS) == set(SILENT) == set(CATALOGUE)


@pytest.mark.parametrize("situation", [row[0] for table in (SPEAKS, SILENT) for rows in table.values() for row in rows])
def test_the_situations_are_invoices_that_ksef_takes(situation: Situation) -> None:
    valid = not situation.broken and schema.is_valid(etree.fromstring(situation.content()))
    assert valid is not situation.broken, situation.what
