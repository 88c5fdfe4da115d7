"""Sellers, buyers and everybody else named on an invoice. Source: FA3-FIELDS §1, §2."""

from __future__ import annotations

from collections.abc import Iterator

from . import words
from .blocks import Block, card, cards, heading
from .figures import percent
from .source import Node

Line = tuple[str, str]


def parties(root: Node, *, farmers: bool) -> list[Block]:
    """Podmiot1, 2, 3 and PodmiotUpowazniony, each as a card."""
    seller = "Dostawca (rolnik ryczałtowy)" if farmers else "Sprzedawca"
    buyer = "Nabywca (wystawca faktury)" if farmers else "Nabywca"
    found = [_party(one, seller) for one in root.each("Podmiot1")]
    found += [_party(one, buyer) for one in root.each("Podmiot2")]
    found += [_party(one, _role(one)) for one in root.each("Podmiot3")]
    found += [_party(one, _authorised_role(one)) for one in root.each("PodmiotUpowazniony")]
    return cards(found)


def before_correction(fa: Node) -> list[Block]:
    """Podmiot1K and Podmiot2K: the parties as the corrected invoice had them."""
    found = [_party(one, "Sprzedawca przed korektą") for one in fa.each("Podmiot1K")]
    found += [_party(one, "Nabywca przed korektą") for one in fa.each("Podmiot2K")]
    return heading("Dane stron przed korektą", cards(found), 3)


def identity(node: Node) -> Iterator[Line]:
    """The lines of a DaneIdentyfikacyjne but its name."""
    yield "NIP", node.take("NIP")
    yield "VAT UE", node.take("KodUE") + node.take("NrVatUE")
    yield "Identyfikator", " ".join(filter(None, (node.take("KodKraju"), node.take("NrID"))))
    yield "Identyfikator wewnętrzny", node.take("IDWew")
    yield "", "bez identyfikatora podatkowego" if node.flag("BrakID") else ""


def address(node: Node) -> Iterator[Line]:
    """The lines of a TAdres."""
    lines = [node.take("AdresL1"), node.take("AdresL2")]
    country = node.take("KodKraju")
    if country:
        last = 1 if lines[1] else 0
        lines[last] = f"{lines[last]} ({country})".strip()
    yield from (("", line) for line in lines)
    yield "GLN", node.take("GLN")


def one_line_address(node: Node) -> str:
    """A TAdres in a single line."""
    return ", ".join(f"{label} {text}".strip() for label, text in address(node) if text)


def _party(node: Node, title: str) -> Block:
    known = node.one("DaneIdentyfikacyjne")
    return card(title, known.take("Nazwa"), _lines(node, known))


def _lines(node: Node, known: Node) -> Iterator[Line]:
    yield "Prefiks VAT UE", node.take("PrefiksPodatnika")
    yield from identity(known)
    yield "EORI", node.take("NrEORI")
    yield from address(node.one("Adres"))
    yield "Do korespondencji", one_line_address(node.one("AdresKoresp"))
    for contact in node.each("DaneKontaktowe"):
        yield "E-mail", contact.take("Email") or contact.take("EmailPU")
        yield "Telefon", contact.take("Telefon") or contact.take("TelefonPU")
    yield "Numer klienta", node.take("NrKlienta")
    yield "Numer kontrahenta", node.take("NrKontrahenta")
    yield "Klucz nabywcy", node.take("IDNabywcy")
    yield "Udział", percent(node.take("Udzial"))
    state = node.take("StatusInfoPodatnika")
    yield "Status", words.STATES_OF_TAXPAYER.get(state, state)
    yield "", "faktura dotyczy jednostki podrzędnej JST" if node.flag("JST") else ""
    yield "", "faktura dotyczy członka grupy VAT" if node.flag("GV") else ""


def _role(node: Node) -> str:
    role = node.take("Rola")
    described = node.take("OpisRoli")
    node.flag("RolaInna")
    known = words.ROLES.get(role, f"Podmiot trzeci, rola {role}" if role else "")
    return f"{known or 'Inny podmiot'} – {described}" if described else known or "Podmiot trzeci"


def _authorised_role(node: Node) -> str:
    role = node.take("RolaPU")
    known = words.ROLES_OF_AUTHORISED.get(role, f"rola {role}" if role else "")
    return f"Podmiot upoważniony – {known}" if known else "Podmiot upoważniony"
