"""Invoices of 300 sellers for 200 stores, with the truth about each: its store, its delivery, its folder.

Nothing here is taken from the code under test: check digits, folder names and numbers are made by the few lines below.
Every invoice is valid against the XSD. ``many(count, seed)`` is quick (string templates) and repeatable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape

OUR_NIP = "5265877635"
OUR_NAME = "Market Pod Lipą S.A."
HEADQUARTERS = ("ul. Centralna 100", "02-222 Warszawa")
FIRST_DAY = date(2026, 10, 1)

_STREETS = (
    "Kwiatowa", "Jana Pawła II", "gen. Józefa Hallera", "3 Maja", "11 Listopada", "Żwirki i Wigury", "Świętego Jana",
    "Długa", "Piłsudskiego", "Mikołaja Kopernika", "Łąkowa", "Źródlana", "Księdza Popiełuszki", "Śląska", "Wolności",
)  # fmt: skip
_TYPES = {"Wolności": "pl.", "Jana Pawła II": "al.", "Źródlana": "os."}
_TOWNS = (
    ("Warszawa", "00"), ("Łódź", "90"), ("Gdańsk", "80"), ("Kraków", "30"), ("Wrocław", "50"), ("Poznań", "60"),
    ("Białystok", "15"), ("Częstochowa", "42"), ("Gorzów Wielkopolski", "66"), ("Kędzierzyn-Koźle", "47"),
)  # fmt: skip
_GOODS = ("Kawa ziarnista 1 kg", "Chleb żytni", "Mąka pszenna typ 500", "Śmietana 18%", "Woda 1,5 l", "Kiełbasa śląska")
_COSTS = ("Energia elektryczna", "Usługa transportowa", "Najem powierzchni", "Sprzątanie", "Obsługa prawna")
_CATEGORIES = ("media", "transport", "najem", "usługi")
_ASCII = str.maketrans("ąćęłńóśźżĄĆĘŁŃÓŚŹŻ", "acelnoszzACELNOSZZ")


@dataclass(frozen=True)
class Shop:
    number: str
    name: str
    gln: str
    idwew: str
    street: str
    house: str
    postcode: str
    town: str

    @property
    def street_line(self) -> str:
        return f"{_TYPES.get(self.street, 'ul.')} {self.street} {self.house}"

    @property
    def town_line(self) -> str:
        return f"{self.postcode} {self.town}"


@dataclass(frozen=True)
class Seller:
    nip: str
    name: str
    category: str  # "" for goods


@dataclass(frozen=True)
class Made:
    """An invoice and the truth about it. ``store`` is a number or "", ``delivery`` its id as our documents have it, or
    ""; ``folder`` where ``rulebook_toml`` should put it; ``corrects`` the KSeF number of an earlier one, or ""."""

    content: bytes
    ksef_number: str
    number: str
    seller_nip: str
    issue_date: date
    gross: Decimal
    invoice_type: str
    store: str
    delivery: str
    folder: str
    placement: str
    delivery_placement: str
    corrects: str = ""


def with_check_digit(twelve: str) -> str:
    """GS1: from the left, even places count thrice."""
    total = sum(map(int, twelve[0::2])) + 3 * sum(map(int, twelve[1::2]))
    return f"{twelve}{(10 - total % 10) % 10}"


def _nip(chance: random.Random) -> str:
    while True:
        nine = [chance.randint(1, 9) for _ in range(9)]
        check = sum(a * b for a, b in zip(nine, (6, 5, 7, 2, 3, 4, 5, 6, 7), strict=True)) % 11
        if check < 10:
            return "".join(map(str, nine)) + str(check)


def _idwew(number: int) -> str:
    fourteen = f"{OUR_NIP}{number:04d}"
    return f"{OUR_NIP}-{number:04d}{sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(fourteen)) % 10}"


_CRC = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte << 1) ^ (0x107 if _byte & 0x80 else 0)
    _CRC.append(_byte)


def _ksef_number(nip: str, day: date, serial: int) -> str:
    text = f"{nip}-{day:%Y%m%d}-{serial >> 24 & 0xFFFFFF:06X}{serial & 0xFFFFFF:06X}"
    crc = 0
    for sign in text.encode():
        crc = _CRC[crc ^ sign]
    return f"{text}-{crc:02X}"


def shops(count: int = 200) -> list[Shop]:
    """The stores; every fifth stands in the same street as the one before it, at another number."""
    chance = random.Random(7)
    made: list[Shop] = []
    for index in range(count):
        number = 100 + index
        if index % 5 == 4:
            last = made[-1]
            street, postcode, town = last.street, last.postcode, last.town
            house = str(int(last.house.rstrip("aA/23")) + 2)
        else:
            street = chance.choice(_STREETS)
            town, start = chance.choice(_TOWNS)
            postcode = f"{start}-{200 + index:03d}"
            house = f"{chance.randint(4, 150) * 2}{chance.choice(('', '', 'a'))}"
        made.append(
            Shop(
                str(number),
                f"Sklep {number} {town}",
                with_check_digit(f"590{chance.randint(10**8, 10**9 - 1)}"),
                _idwew(1000 + index),
                street,
                house,
                postcode,
                town,
            )
        )
    return made


def sellers(count: int = 300) -> list[Seller]:
    """The sellers; every tenth one sells no goods."""
    chance = random.Random(11)
    return [
        Seller(
            _nip(chance),
            f"{'Usługi' if index % 10 == 0 else 'Hurtownia'} „Dąb {index}” sp. z o.o.",
            _CATEGORIES[index // 10 % 4] if index % 10 == 0 else "",
        )
        for index in range(count)
    ]


SHOPS = shops()
SELLERS = sellers()
HQ_GLN = with_check_digit("590000000001")


def stores_csv() -> str:
    """The register of the stores, as a spreadsheet would write it."""
    lines = ["Numer;Nazwa;GLN;Ulica;Kod pocztowy;Miejscowość;IDWew"]
    lines += [f"{s.number};{s.name};{s.gln};{s.street_line};{s.postcode};{s.town};{s.idwew}" for s in SHOPS]
    return "\n".join(lines) + "\n"


def rulebook_toml(more_rules: int = 0) -> str:
    """The rules by which ``Made.folder`` is true; ``more_rules`` are asked first and never match."""
    parts = [
        f'[company]\nnames = ["{OUR_NAME}"]\nheadquarters = ["{", ".join(HEADQUARTERS)}"]\nglns = ["{HQ_GLN}"]\n',
    ]
    fields = (
        '{{ field = "seller_nip", equals = "99999{0:05d}" }}',
        '{{ field = "seller_name", contains = "nie ma takiej nazwy {0}" }}',
        '{{ field = "seller_name", matches = "^Zupełnie inna {0}" }}, {{ field = "gross", between = [0, 100] }}',
        '{{ field = "currency", equals = "EUR" }}, {{ field = "delivery_id", contains = "NIEMA{0}" }}',
        '{{ field = "extra[Batch {0}]", present = true }}',
        '{{ field = "order_number", matches = "^XX{0}.*" }}, {{ field = "kind", equals = "koszt" }}',
        '{{ field = "xpath[Fa/Platnosc/FormaPlatnosci]", equals = "8{0}" }}',
        '{{ field = "store", equals = "9{0:05d}" }}',
    )
    for index in range(more_rules):
        condition = fields[index % len(fields)].format(index)
        parts.append(f'[[rule]]\nname = "nigdy {index}"\nwhen = [{condition}]\ntarget = "nigdy/{index}"\n')
    for category in _CATEGORIES:
        nips = ", ".join(f'"{seller.nip}"' for seller in SELLERS if seller.category == category)
        parts.append(
            f'[[rule]]\nname = "koszty {category}"\nwhen = [{{ field = "seller_nip", in = [{nips}] }}]\n'
            f'target = "koszty/{category}"\ntags = ["koszt"]\n'
        )
    parts.append(
        '[[rule]]\nname = "sklepy"\nwhen = [{ field = "store", present = true }]\n'
        'target = "sklepy/{store.number}/{issue_date:%Y-%m}"\n'
    )
    parts.extend(
        f'[[store]]\nnumber = "{shop.number}"\nname = "{shop.name}"\ngln = ["{shop.gln}"]\n'
        f'address = ["{shop.street_line}, {shop.town_line}"]\nidwew = ["{shop.idwew}"]\n'
        for shop in SHOPS
    )
    return "\n".join(parts)


class _Slots:
    """The places of one invoice that a placement or noise may fill."""

    def __init__(self) -> None:
        self.wz: list[str] = []
        self.extra: list[tuple[str, str]] = []
        self.thirds: list[str] = []
        self.orders: list[str] = []
        self.transport = ""
        self.transport_order = ""
        self.buyer_address = ""
        self.buyer_correspondence = ""
        self.buyer_number = ""
        self.buyer_gln = HQ_GLN
        self.footer = ""
        self.line_text = ""


def _address(tag: str, line1: str, line2: str = "", gln: str = "") -> str:
    second = f"<AdresL2>{escape(line2)}</AdresL2>" if line2 else ""
    number = f"<GLN>{gln}</GLN>" if gln else ""
    return f"<{tag}><KodKraju>PL</KodKraju><AdresL1>{escape(line1)}</AdresL1>{second}{number}</{tag}>"


def _third(identity: str, name: str, address: str, role: str) -> str:
    named = f"<Nazwa>{escape(name)}</Nazwa>" if name else ""
    return f"<Podmiot3><DaneIdentyfikacyjne>{identity}{named}</DaneIdentyfikacyjne>{address}{role}</Podmiot3>"


_SELLER_ADDRESS = _address("Adres", "ul. Fabryczna 12", "02-777 Warszawa")
_ANNOTATIONS = (
    "<Adnotacje><P_16>2</P_16><P_17>2</P_17><P_18>2</P_18><P_18A>2</P_18A><Zwolnienie><P_19N>1</P_19N></Zwolnienie>"
    "<NoweSrodkiTransportu><P_22N>1</P_22N></NoweSrodkiTransportu><P_23>2</P_23><PMarzy><P_PMarzyN>1</P_PMarzyN></PMarzy>"
    "</Adnotacje>"
)
_PLACE = "<RolaInna>1</RolaInna><OpisRoli>Miejsce dostawy</OpisRoli>"
_UNIT = "<Rola>2</Rola>"
_NO_ID = "<BrakID>1</BrakID>"
_OURS = f"<NIP>{OUR_NIP}</NIP>"
_Placement = Callable[[_Slots, Shop, random.Random], Any]


def _elsewhere(chance: random.Random) -> str:
    """An address that is neither a store's nor ours."""
    return f"ul. Nieznana {chance.randint(200, 400)}"


PLACEMENTS: dict[str, _Placement] = {
    "Podmiot3 RolaInna, GLN": lambda s, shop, c: s.thirds.append(
        _third(_NO_ID, OUR_NAME, _address("Adres", _elsewhere(c), "99-999 Nigdzie", shop.gln), _PLACE)
    ),
    "Podmiot3 rola 2, GLN": lambda s, shop, c: s.thirds.append(
        _third(_OURS, OUR_NAME, _address("Adres", _elsewhere(c), "", shop.gln), _UNIT)
    ),
    "Podmiot3 rola 2, GLN w AdresKoresp": lambda s, shop, c: s.thirds.append(
        _third(_OURS, "", _address("Adres", *HEADQUARTERS) + _address("AdresKoresp", "Magazyn", "", shop.gln), _UNIT)
    ),
    "WysylkaDo, GLN": lambda s, shop, c: setattr(s, "transport", _address("WysylkaDo", _elsewhere(c), "", shop.gln)),
    "Podmiot2 AdresKoresp, GLN": lambda s, shop, c: setattr(
        s, "buyer_correspondence", _address("AdresKoresp", OUR_NAME, _elsewhere(c), shop.gln)
    ),
    "Podmiot2 Adres, GLN": lambda s, shop, c: setattr(s, "buyer_gln", shop.gln),
    "DodatkowyOpis GLN": lambda s, shop, c: s.extra.append(
        (c.choice(("GLN", "ILN odbiorcy", "GLN miejsca dostawy")), shop.gln)
    ),
    "Stopka GLN": lambda s, shop, c: setattr(s, "footer", f"Dostarczono. GLN miejsca dostawy: {shop.gln}. Dziękujemy."),
    "IDWew": lambda s, shop, c: s.thirds.append(_third(f"<IDWew>{shop.idwew}</IDWew>", OUR_NAME, "", _UNIT)),
    "NrKlienta": lambda s, shop, c: setattr(
        s, "buyer_number", c.choice((shop.number, f"0{shop.number}", f"SKLEP-{shop.number}"))
    ),
    "DodatkowyOpis sklep": lambda s, shop, c: s.extra.append(
        (
            c.choice(("Nr sklepu", "Numer sklepu", "Placówka", "MPK", "FILIA")),
            c.choice((shop.number, f"nr {shop.number}")),
        )
    ),
    "Podmiot3 nazwa": lambda s, shop, c: s.thirds.append(
        _third(_NO_ID, f"{OUR_NAME} Sklep nr {shop.number}", _address("Adres", _elsewhere(c)), _UNIT)
    ),
    "adres L1 i L2": lambda s, shop, c: s.thirds.append(
        _third(_NO_ID, OUR_NAME, _address("Adres", shop.street_line, shop.town_line), _UNIT)
    ),
    "adres w L1": lambda s, shop, c: setattr(
        s, "buyer_correspondence", _address("AdresKoresp", f"{OUR_NAME}, {shop.street} {shop.house}, {shop.town_line}")
    ),
    "adres bez znaków": lambda s, shop, c: setattr(
        s,
        "transport",
        _address(
            "WysylkaDo",
            f"{shop.street} {shop.house}".translate(_ASCII).upper(),
            shop.town_line.translate(_ASCII).upper(),
        ),
    ),
    "adres odwrócony": lambda s, shop, c: s.thirds.append(
        _third(
            _OURS,
            OUR_NAME,
            _address("Adres", shop.town_line, shop.street_line.replace("ul.", "ulica").replace("al.", "Aleja")),
            _PLACE,
        )
    ),
    "adres ze skrótami": lambda s, shop, c: s.thirds.append(
        _third(
            _NO_ID,
            "",
            _address(
                "Adres",
                f"{_abbreviated(shop.street)} {shop.house.replace('a', ' A')}",
                f"{shop.postcode.replace('-', ' ')} {shop.town}",
            ),
            _PLACE,
        )
    ),
    "DodatkowyOpis adres": lambda s, shop, c: s.extra.append(
        ("Adres dostawy", f"{shop.street_line}, {shop.town_line}")
    ),
}


def _abbreviated(street: str) -> str:
    return (
        street.replace("gen. Józefa", "Gen. J.").replace("II", "2").replace("Świętego", "Św.").replace("Księdza", "Ks.")
        .replace("3 Maja", "3-go Maja").replace("11 L", "11-go L")
    )  # fmt: skip


_Delivery = Callable[[_Slots, str, random.Random], Any]
DELIVERIES: dict[str, _Delivery] = {
    "WZ": lambda s, d, c: s.wz.append(d),
    "WZ z etykietą": lambda s, d, c: s.wz.append(f"WZ {d}"),
    "WZ kilka": lambda s, d, c: s.wz.extend((f"WZ/{c.randint(1, 999)}/2026", d)),
    "DodatkowyOpis": lambda s, d, c: s.extra.append(
        (c.choice(("Numer dostawy", "Nr dostawy", "Numer awiza", "DESADV")), d)
    ),
    "DodatkowyOpis kilka": lambda s, d, c: s.extra.append(("Dostawa", f"DN-{c.randint(10**6, 10**7)}, {d}")),
    "NrZamowienia": lambda s, d, c: s.orders.append(d),
    "NrZleceniaTransportu": lambda s, d, c: setattr(s, "transport_order", d),
    "Stopka": lambda s, d, c: setattr(s, "footer", f"{s.footer} Dotyczy dostawy nr {d} z dnia 2026-10-02."),
    "P_7": lambda s, d, c: setattr(s, "line_text", f" (dostawa {d})"),
}


def _noise(slots: _Slots, shop: Shop | None, chance: random.Random) -> None:
    """What must not mislead: wrong and foreign GLNs, the head office, other stores' names, customer numbers."""
    other = chance.choice(SHOPS)
    roll = chance.random()
    if roll < 0.15:
        wrong = other.gln[:12] + str((int(other.gln[12]) + 3) % 10)
        slots.thirds.append(_third(_NO_ID, OUR_NAME, _address("Adres", "Dział zakupów", "", wrong), _UNIT))
    elif roll < 0.3:
        slots.extra.append(("GLN dostawcy", other.gln))
    elif roll < 0.45:
        slots.thirds.append(_third(_OURS, OUR_NAME, _address("Adres", *HEADQUARTERS, HQ_GLN), "<Rola>6</Rola>"))
    elif roll < 0.6:
        slots.footer = f"{slots.footer} Promocja w sklepie nr {other.number} przy {other.street_line}!"
    elif roll < 0.7:
        slots.extra.append(("Uwagi", f"Zamiast do: {other.street_line}, {other.town_line}"))
    elif roll < 0.8:
        factor = _third(
            f"<NIP>{SELLERS[1].nip}</NIP>",
            "Faktor S.A.",
            _address("Adres", other.street_line, other.town_line, other.gln),
            "<Rola>1</Rola>",
        )
        slots.thirds.insert(0, factor)
    if not slots.buyer_number and chance.random() < 0.3:
        slots.buyer_number = f"K/{chance.randint(900000, 999999)}"
    if chance.random() < 0.3:
        slots.orders.append(f"45{chance.randint(0, 99999999):08d}")


def many(count: int, seed: int = 1) -> Iterator[Made]:
    """``count`` invoices; the same ones for the same seed, whatever ``count`` is."""
    chance = random.Random(seed)
    placements, delivery_ways = list(PLACEMENTS), list(DELIVERIES)
    recent: list[Made] = []
    for index in range(count):
        seller = chance.choice(SELLERS)
        day = FIRST_DAY + timedelta(days=index % 50)
        number = f"F/{seed}/{index + 1}/{day:%Y}"
        ksef_number = _ksef_number(seller.nip, day, seed << 32 | index)
        if recent and chance.random() < 0.03:
            original = chance.choice(recent)
            yield _correction(original, index, seed, chance)
            continue
        slots = _Slots()
        shop: Shop | None = None
        placement = way = delivery = ""
        if not seller.category and chance.random() < 0.97:
            shop = chance.choice(SHOPS)
            placement = placements[index % len(placements)]
            PLACEMENTS[placement](slots, shop, chance)
        if not seller.category and chance.random() < 0.8:
            way = delivery_ways[index // 3 % len(delivery_ways)]
            delivery = f"80{chance.randint(0, 99999999):08d}"
            DELIVERIES[way](slots, delivery, chance)
        _noise(slots, shop, chance)
        net = Decimal(chance.randint(100, 500000)) / 100
        vat = (net * 23 / 100).quantize(Decimal("0.01"))
        content = _document(seller, slots, number, day, net, vat, chance)
        folder = (
            f"koszty/{seller.category}"
            if seller.category
            else f"sklepy/{shop.number}/{day:%Y-%m}"
            if shop
            else "nieprzypisane"
        )
        made = Made(
            content, ksef_number, number, seller.nip, day, net + vat, "VAT", shop.number if shop else "", delivery,
            folder, placement, way,
        )  # fmt: skip
        if shop:
            recent = [*recent[-49:], made]
        yield made


def _correction(original: Made, index: int, seed: int, chance: random.Random) -> Made:
    """Takes the whole back; says nothing of the store, so only the original tells the folder."""
    day = max(original.issue_date, FIRST_DAY + timedelta(days=index % 50))
    seller = next(seller for seller in SELLERS if seller.nip == original.seller_nip)
    net = (original.gross / Decimal("1.23")).quantize(Decimal("0.01"))
    number = f"K/{seed}/{index + 1}/{day:%Y}"
    reference = (
        "<PrzyczynaKorekty>Zwrot</PrzyczynaKorekty><TypKorekty>2</TypKorekty><DaneFaKorygowanej>"
        f"<DataWystFaKorygowanej>{original.issue_date}</DataWystFaKorygowanej>"
        f"<NrFaKorygowanej>{original.number}</NrFaKorygowanej><NrKSeF>1</NrKSeF>"
        f"<NrKSeFFaKorygowanej>{original.ksef_number}</NrKSeFFaKorygowanej></DaneFaKorygowanej>"
    )
    content = _document(seller, _Slots(), number, day, -net, net - original.gross, chance, "KOR", reference)
    return Made(
        content, _ksef_number(seller.nip, day, seed << 32 | index), number, seller.nip, day, -original.gross, "KOR",
        "", "", original.folder, "korekta", "", original.ksef_number,
    )  # fmt: skip


def _rows(net: Decimal, goods: str, unit: str, text: str, chance: random.Random) -> str:
    """One to twelve rows that add up to ``net``."""
    cents, count = int(net * 100), chance.randint(1, 12)
    part = cents // count
    parts = [part] * (count - 1) + [cents - part * (count - 1)]
    return "".join(
        f"<FaWiersz><NrWierszaFa>{index}</NrWierszaFa><P_7>{goods}{text if index == 1 else f' {index}'}</P_7>"
        f"<P_8A>{unit}</P_8A><P_8B>1</P_8B><P_9A>{Decimal(amount) / 100}</P_9A><P_11>{Decimal(amount) / 100}</P_11>"
        "<P_12>23</P_12></FaWiersz>"
        for index, amount in enumerate(parts, 1)
    )


def _document(
    seller: Seller,
    slots: _Slots,
    number: str,
    day: date,
    net: Decimal,
    vat: Decimal,
    chance: random.Random,
    kind: str = "VAT",
    reference: str = "",
) -> bytes:
    goods = chance.choice(_COSTS if seller.category else _GOODS)
    unit = "usł." if seller.category else "szt."
    buyer_address = slots.buyer_address or _address("Adres", *HEADQUARTERS, slots.buyer_gln)
    buyer_number = f"<NrKlienta>{slots.buyer_number}</NrKlienta>" if slots.buyer_number else ""
    wz = "".join(f"<WZ>{text}</WZ>" for text in slots.wz)
    extra = "".join(
        f"<DodatkowyOpis><Klucz>{key}</Klucz><Wartosc>{escape(value)}</Wartosc></DodatkowyOpis>"
        for key, value in slots.extra
    )
    orders = "".join(f"<Zamowienia><NrZamowienia>{text}</NrZamowienia></Zamowienia>" for text in slots.orders)
    transport = ""
    if slots.transport or slots.transport_order:
        order = f"<NrZleceniaTransportu>{slots.transport_order}</NrZleceniaTransportu>" if slots.transport_order else ""
        origin = _address("WysylkaZ", "ul. Magazynowa 1", "05-800 Pruszków", SHOPS[0].gln)
        transport = (
            f"<Transport><RodzajTransportu>3</RodzajTransportu>{order}<OpisLadunku>13</OpisLadunku>{origin}"
            f"{slots.transport}</Transport>"
        )
    terms = f"<WarunkiTransakcji>{orders}{transport}</WarunkiTransakcji>" if orders or transport else ""
    footer = (
        f"<Stopka><Informacje><StopkaFaktury>{escape(slots.footer.strip())}</StopkaFaktury></Informacje></Stopka>"
        if slots.footer
        else ""
    )
    delivered = f"<P_6>{day}</P_6>"
    rows = _rows(net, goods, unit, slots.line_text, chance)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/">
<Naglowek><KodFormularza kodSystemowy="FA (3)" wersjaSchemy="1-0E">FA</KodFormularza>
<WariantFormularza>3</WariantFormularza><DataWytworzeniaFa>{day}T08:00:00Z</DataWytworzeniaFa>
<SystemInfo>generator</SystemInfo></Naglowek>
<Podmiot1><DaneIdentyfikacyjne><NIP>{seller.nip}</NIP><Nazwa>{escape(seller.name)}</Nazwa></DaneIdentyfikacyjne>
{_SELLER_ADDRESS}</Podmiot1>
<Podmiot2><DaneIdentyfikacyjne><NIP>{OUR_NIP}</NIP><Nazwa>{OUR_NAME}</Nazwa></DaneIdentyfikacyjne>
{buyer_address}{slots.buyer_correspondence}{buyer_number}<JST>2</JST><GV>2</GV></Podmiot2>
{"".join(slots.thirds)}
<Fa><KodWaluty>PLN</KodWaluty><P_1>{day}</P_1><P_1M>Warszawa</P_1M><P_2>{number}</P_2>{wz}{delivered}
<P_13_1>{net}</P_13_1><P_14_1>{vat}</P_14_1><P_15>{net + vat}</P_15>{_ANNOTATIONS}
<RodzajFaktury>{kind}</RodzajFaktury>{reference}{extra}
{rows}
<Platnosc><TerminPlatnosci><Termin>{day + timedelta(days=14)}</Termin></TerminPlatnosci>
<FormaPlatnosci>6</FormaPlatnosci><RachunekBankowy><NrRB>61109010140000071219812874</NrRB></RachunekBankowy></Platnosc>
{terms}</Fa>
{footer}</Faktura>
""".encode()
