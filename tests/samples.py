"""Invoices for everybody's tests: generated FA(3) (valid, without a single warning) and the real samples.

The pre-check of ``invoice(...)`` is silent when its ``now`` falls on ``issue_date`` (Polish day); ``NOW`` is
such a moment for the default date. On a later day only D09 (issued before today) speaks.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from xml.sax.saxutils import escape

from lxml import etree

NIP = "5265877635"
ISSUE_DATE = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 10, 15, tzinfo=UTC)
NAMESPACE = "http://crd.gov.pl/wzor/2025/06/25/13775/"

_SAMPLES = Path(__file__).parents[1] / ".." / "shared" / "ksef" / "invoices"
_CENT = Decimal("0.01")
_TOTALS = {
    "23": ("P_13_1", "P_14_1"),
    "8": ("P_13_2", "P_14_2"),
    "5": ("P_13_3", "P_14_3"),
    "0 KR": ("P_13_6_1", None),
    "zw": ("P_13_7", None),
}
_GOODS = (
    ("Kawa ziarnista arabica 1 kg", "szt.", "54.90", "23"),
    ("Śruby ocynkowane M8×40", "opak.", "12.35", "23"),
    ("Usługa transportowa Łódź–Gdańsk", "usł.", "840.00", "23"),
    ("Książka kucharska „Żurek i inne zupy”", "szt.", "31.00", "5"),
    ("Montaż stolarki okiennej", "m2", "119.50", "8"),
    ("Chleb żytni na zakwasie", "szt.", "6.20", "5"),
    ("Licencja roczna programu", "szt.", "1299.00", "23"),
)
_BUYERS = ("Sklep Wielobranżowy Żaneta Dąbrowska", "Piekarnia Pod Świerkiem sp. z o.o.", "Hurtownia Łączność S.A.")
_STREETS = ("ul. Kwiatowa 7", "al. Niepodległości 118/4", "os. Źródlane 3", "ul. Żwirki i Wigury 21")
_TOWNS = ("00-950 Warszawa", "90-001 Łódź", "80-887 Gdańsk", "30-552 Kraków")


@dataclass(frozen=True)
class Line:
    """One row of an invoice; ``rate`` is a P_12 value ("23", "8", "5", "0 KR", "zw")."""

    name: str
    unit: str
    quantity: Decimal
    net_price: Decimal
    rate: str = "23"

    @property
    def net(self) -> Decimal:
        return _round(self.quantity * self.net_price)


def a_nip(seed: int) -> str:
    """A NIP with a right checksum, never one with a single repeated digit."""
    numbers = random.Random(seed)
    while True:
        digits = [numbers.randint(1, 9) for _ in range(9)]
        check = sum(w * d for w, d in zip((6, 5, 7, 2, 3, 4, 5, 6, 7), digits, strict=True)) % 11
        if check < 10 and len(set(digits)) > 1:
            return "".join(map(str, [*digits, check]))


def invoice(
    number: str = "FV/1/2026",
    nip: str = NIP,
    issue_date: date = ISSUE_DATE,
    lines: Sequence[Line] | int | None = None,
    type: str = "VAT",
    *,
    seed: int = 0,
    buyer_nip: str | None = None,
    buyer_name: str | None = None,
    seller_name: str = "Hurtownia Pod Dębem sp. z o.o.",
    currency: str = "PLN",
    self_invoicing: bool = False,
    attachment: bool = False,
    order_number: str = "",
    footer: str = "",
) -> bytes:
    """A valid FA(3) of ``type`` VAT, UPR, ZAL or ROZ. ``lines`` may be a number of rows; ``seed`` varies everything
    that is not given. ROZ settles a wholly paid advance of 10 zł; a foreign ``currency`` is counted at 4.25."""
    if type not in ("VAT", "UPR", "ZAL", "ROZ"):
        raise ValueError(f"no generator for {type}")
    chance = random.Random(seed)
    if lines is None:
        lines = 1 if type == "UPR" else chance.randint(1, 4)
    if isinstance(lines, int):
        lines = [_line(chance, cheap=type == "UPR") for _ in range(lines)]
    net = _net_by_rate(lines)
    vat = {rate: _vat(amount, rate) for rate, amount in net.items()}
    gross = sum(net.values(), Decimal()) + sum(vat.values(), Decimal())
    due = gross - Decimal("10.00") if type == "ROZ" else gross
    exempt = "zw" in net
    buyer_nip = buyer_nip or a_nip(seed + 1000)
    parts = [
        _head(issue_date),
        _party("Podmiot1", nip, seller_name, "ul. Fabryczna 12", "02-777 Warszawa"),
        _party(
            "Podmiot2",
            buyer_nip,
            buyer_name or chance.choice(_BUYERS),
            chance.choice(_STREETS),
            chance.choice(_TOWNS),
            tail="<JST>2</JST><GV>2</GV>",
        ),
        "<Fa>",
        f"<KodWaluty>{currency}</KodWaluty><P_1>{issue_date}</P_1><P_1M>Warszawa</P_1M><P_2>{escape(number)}</P_2>",
        f"<P_6>{issue_date}</P_6>",
        _totals(net, vat, currency),
        f"<P_15>{due}</P_15>",
    ]
    if currency != "PLN" and type == "ZAL":
        parts.append("<KursWalutyZ>4.25</KursWalutyZ>")
    parts.append(_annotations(self_invoicing=self_invoicing, exempt=exempt))
    parts.append(f"<RodzajFaktury>{type}</RodzajFaktury>")
    if type == "ROZ":
        parts.append(
            "<FakturaZaliczkowa><NrKSeFZN>1</NrKSeFZN><NrFaZaliczkowej>ZAL/1/2026</NrFaZaliczkowej></FakturaZaliczkowa>"
        )
    if type != "ZAL":
        parts.extend(_row(index, line, currency) for index, line in enumerate(lines, 1))
    parts.append(
        "<Platnosc><TerminPlatnosci><Termin>"
        f"{issue_date + timedelta(days=14)}</Termin></TerminPlatnosci><FormaPlatnosci>6</FormaPlatnosci>"
        "<RachunekBankowy><NrRB>61109010140000071219812874</NrRB></RachunekBankowy></Platnosc>"
    )
    if order_number:
        parts.append(
            "<WarunkiTransakcji><Zamowienia><NrZamowienia>"
            f"{escape(order_number)}</NrZamowienia></Zamowienia></WarunkiTransakcji>"
        )
    if type == "ZAL":
        parts.append(_order(lines, gross))
    parts.append("</Fa>")
    if footer:
        parts.append(f"<Stopka><Informacje><StopkaFaktury>{escape(footer)}</StopkaFaktury></Informacje></Stopka>")
    if attachment:
        parts.append(_ATTACHMENT)
    parts.append("</Faktura>\n")
    return "\n".join(parts).encode()


def correction_of(
    original: bytes,
    number: str = "FK/1/2026",
    *,
    ksef_number: str | None = None,
    issue_date: date | None = None,
    reason: str = "Zwrot towaru",
) -> bytes:
    """A KOR that takes back one piece of the first row of ``original`` (a VAT or UPR made by ``invoice``). Without
    ``ksef_number`` it says that the original has none (NrKSeFN)."""
    root = etree.fromstring(original)

    def text(path: str) -> str:
        return str(root.findtext("/".join(f"{{{NAMESPACE}}}{step}" for step in path.split("/"))))

    original_date = date.fromisoformat(text("Fa/P_1"))
    issue_date = issue_date or original_date
    before = Line(
        text("Fa/FaWiersz/P_7"),
        text("Fa/FaWiersz/P_8A"),
        Decimal(text("Fa/FaWiersz/P_8B")),
        Decimal(text("Fa/FaWiersz/P_9A")),
        text("Fa/FaWiersz/P_12"),
    )
    after = replace(before, quantity=before.quantity - 1)
    currency = text("Fa/KodWaluty")
    net = {before.rate: after.net - before.net}
    vat = {before.rate: _vat(net[before.rate], before.rate)}
    reference = (
        f"<NrKSeF>1</NrKSeF><NrKSeFFaKorygowanej>{ksef_number}</NrKSeFFaKorygowanej>"
        if ksef_number
        else "<NrKSeFN>1</NrKSeFN>"
    )
    seller, buyer = ("Podmiot1", "Podmiot2")
    parts = [
        _head(issue_date),
        *(
            _party(
                party,
                text(f"{party}/DaneIdentyfikacyjne/NIP"),
                text(f"{party}/DaneIdentyfikacyjne/Nazwa"),
                text(f"{party}/Adres/AdresL1"),
                text(f"{party}/Adres/AdresL2"),
                tail="<JST>2</JST><GV>2</GV>" if party == buyer else "",
            )
            for party in (seller, buyer)
        ),
        "<Fa>",
        f"<KodWaluty>{currency}</KodWaluty><P_1>{issue_date}</P_1><P_2>{escape(number)}</P_2>",
        _totals(net, vat, currency),
        f"<P_15>{net[before.rate] + vat[before.rate]}</P_15>",
        _annotations(self_invoicing=False, exempt=before.rate == "zw"),
        f"<RodzajFaktury>KOR</RodzajFaktury><PrzyczynaKorekty>{escape(reason)}</PrzyczynaKorekty>",
        f"<TypKorekty>2</TypKorekty><DaneFaKorygowanej><DataWystFaKorygowanej>{original_date}</DataWystFaKorygowanej>",
        f"<NrFaKorygowanej>{escape(text('Fa/P_2'))}</NrFaKorygowanej>{reference}</DaneFaKorygowanej>",
        _row(1, before, currency, before=True),
        _row(2, after, currency),
        "</Fa></Faktura>\n",
    ]
    return "\n".join(parts).encode()


def sample_files(form: str = "FA(3)", valid: bool | None = True) -> list[Path]:
    """The real samples of one form ("FA(3)", "FA(2)", "FA_RR(1)", "PEF(3)"), by ORIGINS.tsv; ``valid`` None means all.
    An empty list when the samples are not there: callers skip and say so."""
    origins = _SAMPLES / "ORIGINS.tsv"
    if not origins.is_file():
        return []
    with origins.open(encoding="utf-8", newline="") as rows:
        return [
            (_SAMPLES / row["file"]).resolve()
            for row in csv.DictReader(rows, delimiter="\t")
            if row["form"].replace(" ", "") == form.replace(" ", "")
            and (valid is None or (row["xsd"] == "ok") == valid)
        ]


def as_ours(content: bytes, nip: str = NIP, issue_date: date | None = None) -> bytes:
    """The same bytes with Podmiot1's NIP replaced; P_1 becomes ``issue_date`` (default ISSUE_DATE) if it is later."""
    latest = issue_date or ISSUE_DATE
    ours = re.sub(
        rb"(<(?:\w+:)?Podmiot1\b.*?<(?:\w+:)?NIP>)[^<]*", rb"\g<1>" + nip.encode(), content, count=1, flags=re.DOTALL
    )

    def not_in_the_future(match: re.Match[bytes]) -> bytes:
        try:
            future = date.fromisoformat(match[2].decode().strip()) > latest
        except ValueError:
            return match[0]
        return match[1] + latest.isoformat().encode() if future else match[0]

    return re.sub(rb"(<(?:\w+:)?P_1>)([^<]*)", not_in_the_future, ours, count=1)


def _round(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)


def _vat(net: Decimal, rate: str) -> Decimal:
    return _round(net * Decimal(rate) / 100) if rate.isdigit() else Decimal("0.00")


def _line(chance: random.Random, *, cheap: bool) -> Line:
    name, unit, price, rate = chance.choice([goods for goods in _GOODS if not cheap or Decimal(goods[2]) < 60])
    return Line(name, unit, Decimal(1 if cheap else chance.randint(1, 40)), Decimal(price), rate)


def _net_by_rate(lines: Sequence[Line]) -> dict[str, Decimal]:
    sums = {rate: sum((line.net for line in lines if line.rate == rate), Decimal()) for rate in _TOTALS}
    return {rate: amount for rate, amount in sums.items() if any(line.rate == rate for line in lines)}


def _head(issue_date: date) -> str:
    # Midnight in Warsaw of the issue date at the latest, so that no hour of that day makes it the future.
    created = max(issue_date - timedelta(days=1), date(2025, 9, 1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Faktura xmlns="{NAMESPACE}">\n'
        '<Naglowek><KodFormularza kodSystemowy="FA (3)" wersjaSchemy="1-0E">FA</KodFormularza>'
        f"<WariantFormularza>3</WariantFormularza><DataWytworzeniaFa>{created}T22:00:00Z</DataWytworzeniaFa>"
        "<SystemInfo>ksefbuffer</SystemInfo></Naglowek>"
    )


def _party(role: str, number: str, name: str, street: str, town: str, *, tail: str = "") -> str:
    return (
        f"<{role}><DaneIdentyfikacyjne><NIP>{number}</NIP><Nazwa>{escape(name)}</Nazwa></DaneIdentyfikacyjne>"
        f"<Adres><KodKraju>PL</KodKraju><AdresL1>{escape(street)}</AdresL1><AdresL2>{escape(town)}</AdresL2></Adres>"
        f"{tail}</{role}>"
    )


def _totals(net: dict[str, Decimal], vat: dict[str, Decimal], currency: str) -> str:
    parts = []
    for rate, (net_field, vat_field) in _TOTALS.items():
        if rate not in net:
            continue
        parts.append(f"<{net_field}>{net[rate]}</{net_field}>")
        if vat_field:
            parts.append(f"<{vat_field}>{vat[rate]}</{vat_field}>")
            if currency != "PLN":
                parts.append(f"<{vat_field}W>{_round(vat[rate] * Decimal('4.25'))}</{vat_field}W>")
    return "".join(parts)


def _annotations(*, self_invoicing: bool, exempt: bool) -> str:
    exemption = "<P_19>1</P_19><P_19A>art. 43 ust. 1 pkt 29 ustawy o VAT</P_19A>" if exempt else "<P_19N>1</P_19N>"
    return (
        f"<Adnotacje><P_16>2</P_16><P_17>{1 if self_invoicing else 2}</P_17><P_18>2</P_18><P_18A>2</P_18A>"
        f"<Zwolnienie>{exemption}</Zwolnienie><NoweSrodkiTransportu><P_22N>1</P_22N></NoweSrodkiTransportu>"
        "<P_23>2</P_23><PMarzy><P_PMarzyN>1</P_PMarzyN></PMarzy></Adnotacje>"
    )


def _row(index: int, line: Line, currency: str, *, before: bool = False) -> str:
    rate_of_exchange = "" if currency == "PLN" else "<KursWaluty>4.25</KursWaluty>"
    return (
        f"<FaWiersz><NrWierszaFa>{index}</NrWierszaFa><P_7>{escape(line.name)}</P_7><P_8A>{escape(line.unit)}</P_8A>"
        f"<P_8B>{line.quantity}</P_8B><P_9A>{line.net_price}</P_9A><P_11>{line.net}</P_11><P_12>{line.rate}</P_12>"
        f"{rate_of_exchange}{'<StanPrzed>1</StanPrzed>' if before else ''}</FaWiersz>"
    )


def _order(lines: Sequence[Line], gross: Decimal) -> str:
    """An order of exactly the value that was paid; VAT is rounded per row, so the total is that of the rows."""
    rows = []
    value = Decimal()
    for index, line in enumerate(lines, 1):
        vat = _vat(line.net, line.rate)
        value += line.net + vat
        rows.append(
            f"<ZamowienieWiersz><NrWierszaZam>{index}</NrWierszaZam><P_7Z>{escape(line.name)}</P_7Z>"
            f"<P_8AZ>{escape(line.unit)}</P_8AZ><P_8BZ>{line.quantity}</P_8BZ><P_9AZ>{line.net_price}</P_9AZ>"
            f"<P_11NettoZ>{line.net}</P_11NettoZ><P_11VatZ>{vat}</P_11VatZ><P_12Z>{line.rate}</P_12Z></ZamowienieWiersz>"
        )
    return f"<Zamowienie><WartoscZamowienia>{value}</WartoscZamowienia>{''.join(rows)}</Zamowienie>"


_ATTACHMENT = (
    "<Zalacznik><BlokDanych><ZNaglowek>Odczyt licznika</ZNaglowek>"
    "<MetaDane><ZKlucz>Numer PPE</ZKlucz><ZWartosc>590310600000000001</ZWartosc></MetaDane>"
    "</BlokDanych></Zalacznik>"
)
