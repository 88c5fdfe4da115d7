"""The store register from a CSV that a spreadsheet wrote: UTF-8 or Windows-1250, ``;`` ``,`` or tab, Polish or English
headings. Everything wrong is told at once, by row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import date

from ..errors import ConfigurationFault
from ..invoice.document import date_of
from ..invoice.folding import fold
from ..invoice.identifiers import collapse, is_nip
from ..invoice.places import gln_of, store_key
from .folders import folder_fault
from .stores import Store, StoreRegister

MAX_SHOWN = 50

_COLUMNS = {
    "number": ("numer", "nr", "numer sklepu", "nr sklepu", "sklep", "number", "store", "store number", "no"),
    "name": ("nazwa", "nazwa sklepu", "name", "store name"),
    "gln": ("gln", "iln", "glny", "glns", "gln sklepu"),
    "address": ("adres", "adresy", "adres sklepu", "address", "addresses"),
    "street": ("ulica", "street", "ulica i numer"),
    "postcode": ("kod", "kod pocztowy", "postcode", "postal code", "zip"),
    "city": ("miasto", "miejscowosc", "city", "town"),
    "idwew": ("idwew", "id wew", "identyfikator wewnetrzny", "internal id"),
    "open_from": ("otwarty od", "data otwarcia", "od", "open from", "opened"),
    "open_to": ("otwarty do", "data zamkniecia", "do", "open to", "closed"),
    "catalogue": ("katalog", "folder", "catalogue", "catalog"),
}
_FIELD_OF_HEADING = {heading: name for name, headings in _COLUMNS.items() for heading in headings}
_SEVERAL = re.compile(r"[|;,\s]+")
_POLISH_DATE = re.compile(r"(\d{1,2})[.-](\d{1,2})[.-](\d{4})")
_SPREADSHEET_NUMBER = re.compile(r"\d+[.,]\d+E\+?\d+", re.IGNORECASE)
_IDWEW = re.compile(r"(\d{10})-\d{5}")


class RegisterFault(ConfigurationFault):
    """The list of stores cannot be taken; ``faults`` names every one, in Polish."""

    def __init__(self, faults: list[str]) -> None:
        shown = faults[:MAX_SHOWN]
        more = f"\n… i jeszcze {len(faults) - MAX_SHOWN}." if len(faults) > MAX_SHOWN else ""
        super().__init__(
            "Nie można wczytać listy sklepów:\n" + "\n".join(shown) + more,
            action="Popraw wskazane wiersze i wczytaj plik jeszcze raz; nic nie zostało zmienione.",
        )
        self.faults = tuple(faults)


def read_stores_csv(content: str | bytes) -> StoreRegister:
    """The register in ``content``. Several GLNs, identifiers or addresses in a cell are separated by ``|``.
    Raises RegisterFault with all faults."""
    lines = _decoded(content).splitlines()
    separator = ""
    first = 1
    if lines and lines[0].lower().startswith("sep=") and len(lines[0]) == 5:
        separator, lines, first = lines[0][4], lines[1:], 2
    if not lines or not lines[0].strip():
        raise RegisterFault(["Plik jest pusty albo pierwszy wiersz nie zawiera nagłówków."])
    separator = separator or max(";\t,", key=lines[0].count)
    rows = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
    faults: list[str] = []
    stores: list[Store] = []
    places: list[int] = []
    try:
        columns = _columns(next(rows), faults)
        for cells in rows:
            number = rows.line_num + first - 1
            if any(cell.strip() for cell in cells):
                row_faults: list[str] = []
                store = _store(dict(zip(columns, map(collapse, cells), strict=False)), row_faults)
                faults.extend(f"Wiersz {number}: {fault}." for fault in row_faults)
                if store is not None:
                    stores.append(store)
                    places.append(number)
    except csv.Error as problem:
        faults.append(f"Wiersz {rows.line_num + first - 1}: to nie jest poprawny CSV ({problem}).")
    faults.extend(f"Wiersz {places[index]}: {fault}." for index, fault in clashes(stores))
    if not stores and not faults:
        faults.append("Plik nie zawiera żadnego sklepu.")
    if faults:
        raise RegisterFault(faults)
    return StoreRegister(tuple(stores))


def clashes(stores: list[Store]) -> list[tuple[int, str]]:
    """(index, fault) for each store that shares a number, or at the same time a GLN or identifier, with one before."""
    found: list[tuple[int, str]] = []
    kinds: tuple[tuple[str, Callable[[Store], tuple[str, ...]]], ...] = (
        ("GLN", lambda store: store.glns),
        ("IDWew", lambda store: store.idwews),
    )
    numbers: dict[str, Store] = {}
    owners: dict[tuple[str, str], list[Store]] = {}
    for index, store in enumerate(stores):
        other = numbers.setdefault(store_key(store.number), store)
        if other is not store:
            found.append((index, f"numer sklepu „{store.number}” powtarza się"))
        for kind, values in kinds:
            for value in values(store):
                before = owners.setdefault((kind, value), [])
                if any(_overlap(store, earlier) for earlier in before):
                    found.append((index, f"{kind} {value} ma już sklep „{before[0].number}” w tym samym czasie"))
                before.append(store)
    return found


def store_faults(store: Store) -> list[str]:
    """What is wrong with a single store, in Polish."""
    faults: list[str] = []
    if not store_key(store.number):
        faults.append("brak numeru sklepu")
    for gln in store.glns:
        if _SPREADSHEET_NUMBER.fullmatch(gln):
            faults.append(f"GLN „{gln}” arkusz zapisał jako liczbę – ustaw kolumnę jako tekst")
        elif gln_of(gln) is None:
            faults.append(f"GLN „{gln}” jest błędny (13 cyfr z cyfrą kontrolną)")
    for idwew in store.idwews:
        known = _IDWEW.fullmatch(idwew)
        if known is None or not is_nip(known[1]):
            faults.append(f"identyfikator wewnętrzny „{idwew}” jest błędny (NIP-NNNNN)")
    if store.open_from is not None and store.open_to is not None and store.open_to < store.open_from:
        faults.append("data zamknięcia jest wcześniejsza niż data otwarcia")
    if store.catalogue and (fault := folder_fault(store.catalogue)):
        faults.append(fault)
    return faults


def _overlap(one: Store, other: Store) -> bool:
    def before(first: Store, second: Store) -> bool:
        return first.open_to is not None and second.open_from is not None and first.open_to < second.open_from

    return not (before(one, other) or before(other, one))


def _decoded(content: str | bytes) -> str:
    if isinstance(content, str):
        return content.removeprefix("\ufeff")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1250", errors="replace")


def _columns(headings: list[str], faults: list[str]) -> list[str]:
    columns: list[str] = []
    for heading in headings:
        name = _FIELD_OF_HEADING.get(fold(heading), "")
        if not name and heading.strip():
            faults.append(
                f"Nieznana kolumna „{collapse(heading)}”; znane: {', '.join(h[0] for h in _COLUMNS.values())}."
            )
        if name and name in columns:
            faults.append(f"Kolumna „{collapse(heading)}” występuje dwa razy.")
        columns.append(name)
    if "number" not in columns and not faults:
        faults.append("Brak kolumny z numerem sklepu („numer”).")
    return columns


def _store(cells: dict[str, str], faults: list[str]) -> Store | None:
    street = " ".join(filter(None, (cells.get("postcode", ""), cells.get("city", ""))))
    address = ", ".join(filter(None, (cells.get("street", ""), street)))
    addresses = [collapse(text) for text in cells.get("address", "").split("|") if text.strip()]
    store = Store(
        cells.get("number", ""),
        cells.get("name", ""),
        tuple(_gln(text) for text in _glns(cells.get("gln", ""))),
        (*addresses, *([address] if address else ())),
        tuple(text for text in _SEVERAL.split(cells.get("idwew", "")) if text),
        _day(cells.get("open_from", ""), faults),
        _day(cells.get("open_to", ""), faults),
        cells.get("catalogue", "").strip("/"),
    )
    faults.extend(store_faults(store))
    return store if not faults else None


def _glns(text: str) -> list[str]:
    if _SPREADSHEET_NUMBER.fullmatch(text) or gln_of(text) is not None:
        return [text]
    return [part for part in _SEVERAL.split(text) if part]


def _gln(text: str) -> str:
    known = gln_of(text)
    return known[0] if known else text


def _day(text: str, faults: list[str]) -> date | None:
    polish = _POLISH_DATE.fullmatch(text)
    day = date_of(f"{polish[3]}-{polish[2]:0>2}-{polish[1]:0>2}" if polish else text[:10])
    if text and day is None:
        faults.append(f"„{text}” nie jest datą (RRRR-MM-DD)")
    return day
