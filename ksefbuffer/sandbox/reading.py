"""What KSeF reads in an invoice: XML rules, the official schema, the fields. Source: FACTS §4.3, §8, §13."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from importlib import resources
from typing import Any

from lxml import etree

from ksefbuffer.invoice.forms import FA3, Form

SUPPORTED = (FA3,)
"""The forms whose official schema is at hand (package data of ksef-client)."""

_BOM = b"\xef\xbb\xbf"
_NON_CHARACTERS = "".join(chr(plane * 0x10000 + last) for plane in range(1, 17) for last in (0xFFFE, 0xFFFF))
_FORBIDDEN = re.compile(f"[\x7f-\x84\x86-\x9f\ufdd0-\ufdef{_NON_CHARACTERS}]")
_DECLARED_ENCODING = re.compile(rb"""^<\?xml[^>]*\bencoding\s*=\s*["']([^"']+)["']""")

INVOICE_TYPES = {
    "VAT": "Vat",
    "KOR": "Kor",
    "ZAL": "Zal",
    "ROZ": "Roz",
    "UPR": "Upr",
    "KOR_ZAL": "KorZal",
    "KOR_ROZ": "KorRoz",
}
NET = ("P_13_1", "P_13_2", "P_13_3", "P_13_4", "P_13_5", "P_13_6_1", "P_13_6_2", "P_13_6_3", "P_13_7", "P_13_8",
        "P_13_9", "P_13_10", "P_13_11")  # fmt: skip
VAT = ("P_14_1", "P_14_2", "P_14_3", "P_14_4", "P_14_5")
_DIGITS = 30
"""An amount with more digits before the point is nonsense."""


class Unacceptable(Exception):
    """The file fails; ``code`` is KSeF's invoice status, ``details`` are its sentences."""

    def __init__(self, code: int, *details: str) -> None:
        super().__init__(code)
        self.code = code
        self.details = list(details)


@dataclass(frozen=True)
class Party:
    """``kind``: Nip, InternalId, VatUe, Other or None, as in InvoiceMetadata."""

    kind: str
    value: str
    name: str
    role: int = 0


@dataclass(frozen=True)
class InvoiceFacts:
    """The fields that matter to KSeF. Dates and amounts as written in the file."""

    seller_nip: str = ""
    seller_name: str = ""
    buyer: Party = field(default_factory=lambda: Party("None", "", ""))
    third: tuple[Party, ...] = ()
    authorised: Party | None = None
    number: str = ""
    issued: str = ""
    kind: str = ""
    currency: str = "PLN"
    net: str = "0"
    vat: str = "0"
    gross: str = "0"
    self_invoicing: bool = False
    attachment: bool = False
    nips: tuple[tuple[str, str], ...] = ()
    internal_ids: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse(content: bytes) -> etree._Element:
    """The root element. Raises Unacceptable(430) for what is not the XML that KSeF takes."""
    if content.startswith(_BOM):
        raise Unacceptable(430, "Plik zawiera znacznik BOM.")
    declared = _DECLARED_ENCODING.match(content)
    if declared and declared[1].upper() != b"UTF-8":
        raise Unacceptable(430, "Niedozwolone kodowanie w prologu; dozwolone jest tylko UTF-8.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Unacceptable(430, "Plik nie jest zakodowany w UTF-8.") from None
    if "<!DOCTYPE" in text:
        raise Unacceptable(430, "Deklaracja DOCTYPE jest niedozwolona.")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as fault:
        raise Unacceptable(430, f"Niepoprawny dokument XML: wiersz {fault.lineno}.") from None
    if root.xpath("/processing-instruction()|//processing-instruction()"):
        raise Unacceptable(430, "Instrukcje przetwarzania XML są niedozwolone.")
    # Looked for in the text (comments too) and after parsing: a reference such as &#x84; brings the same character.
    pieces = [str(piece) for piece in root.itertext()]
    pieces += [str(value) for element in root.iter("*") for value in element.attrib.values()]
    if _FORBIDDEN.search(text) or _FORBIDDEN.search("".join(pieces)):
        raise Unacceptable(430, "Plik zawiera niedozwolone znaki.")
    return root


def check_form(root: etree._Element, form: Form) -> None:
    """Raises Unacceptable(450) unless the header is that of the session's form."""
    if root.tag != f"{{{form.namespace}}}{form.root}":
        raise Unacceptable(450, "Przestrzeń nazw dokumentu nie odpowiada formularzowi sesji.")
    code = root.find(f"{{{form.namespace}}}Naglowek/{{{form.namespace}}}KodFormularza")
    if code is None or (code.get("kodSystemowy"), code.get("wersjaSchemy"), (code.text or "").strip()) != (
        form.system_code,
        form.schema_version,
        form.value,
    ):
        raise Unacceptable(450, "KodFormularza nie odpowiada formularzowi sesji.")


def check_schema(root: etree._Element) -> None:
    """Raises Unacceptable(450) with KSeF-like sentences unless the document follows the official FA(3) schema."""
    with _borrowed_schema() as schema:
        if not schema.validate(root.getroottree()):
            entries: Any = schema.error_log
            raise Unacceptable(450, *[f"Wiersz {entry.line}: {entry.message}" for entry in list(entries)[:20]])


_idle_schemas: list[etree.XMLSchema] = []
_compiling = threading.Lock()


@contextmanager
def _borrowed_schema() -> Iterator[etree.XMLSchema]:
    """A compiled schema that nobody else is using: error logs of a shared one mix between threads, and
    compiling in two threads at once fails at random ("does not resolve to a simple type definition")."""
    with _compiling:
        schema = _idle_schemas.pop() if _idle_schemas else _compiled()
    try:
        yield schema
    finally:
        _idle_schemas.append(schema)


def _compiled() -> etree.XMLSchema:
    parser = etree.XMLParser(no_network=True, load_dtd=False)
    parser.resolvers.add(_PackagedSchemas())
    return etree.XMLSchema(etree.fromstring(_schema_bytes("schemat_FA(3)_v1-0E.xsd"), parser))


def _schema_bytes(name: str) -> bytes:
    return (resources.files("ksef_client") / "documents" / "fa3" / "schemas" / name).read_bytes()


class _PackagedSchemas(etree.Resolver):
    """Serves the included schemas from the package; anything else raises, so nothing is ever fetched."""

    def resolve(self, system_url: str, public_id: str, context: Any) -> Any:  # type: ignore[override]
        name = system_url.rsplit("/", 1)[-1]
        return self.resolve_string(_schema_bytes(name), context, base_url=name)


def facts_of(root: etree._Element) -> InvoiceFacts:
    """Reads the fields; whatever is absent stays empty, so that a broken file can be named too."""
    namespace = etree.QName(root).namespace or ""
    ns = {"f": namespace}

    def text(element: etree._Element | None, path: str) -> str:
        if element is None:
            return ""
        return " ".join((element.findtext("/".join(f"f:{step}" for step in path.split("/")), "", ns) or "").split())

    def party(element: etree._Element | None, *, role: int = 0) -> Party:
        data = None if element is None else element.find("f:DaneIdentyfikacyjne", ns)
        name = text(data, "Nazwa")[:512]
        for kind, path in (("Nip", "NIP"), ("InternalId", "IDWew"), ("VatUe", "NrVatUE"), ("Other", "NrID")):
            if value := text(data, path):
                prefix = text(data, "KodUE") if kind == "VatUe" else ""
                return Party(kind, (prefix + value)[:50], name, role)
        return Party("None", "", name, role)

    def role(element: etree._Element, path: str) -> int:
        value = text(element, path)
        return int(value) if value.isdecimal() else 0

    invoice = root.find("f:Fa", ns)
    authorised = root.find("f:PodmiotUpowazniony", ns)
    seller = party(root.find("f:Podmiot1", ns))
    thirds = root.findall("f:Podmiot3", ns)
    named = [("Podmiot1", root.find("f:Podmiot1", ns)), ("Podmiot2", root.find("f:Podmiot2", ns))]
    named += [("Podmiot3", third) for third in thirds]
    named += [("PodmiotUpowazniony", authorised)]
    return InvoiceFacts(
        seller_nip=text(root, "Podmiot1/DaneIdentyfikacyjne/NIP"),
        seller_name=seller.name,
        buyer=party(root.find("f:Podmiot2", ns)),
        third=tuple(party(third, role=role(third, "Rola")) for third in thirds),
        authorised=None if authorised is None else party(authorised, role=role(authorised, "RolaPU")),
        number=text(invoice, "P_2")[:256],
        issued=text(invoice, "P_1"),
        kind=INVOICE_TYPES.get(text(invoice, "RodzajFaktury"), ""),
        currency=text(invoice, "KodWaluty") or "PLN",
        net=total(text(invoice, name) for name in NET),
        vat=total(text(invoice, f"{name}W") or text(invoice, name) for name in VAT),
        gross=total([text(invoice, "P_15")]),
        self_invoicing=text(invoice, "Adnotacje/P_17") == "1",
        attachment=root.find("f:Zalacznik", ns) is not None,
        nips=tuple((where, value) for where, el in named if (value := text(el, "DaneIdentyfikacyjne/NIP"))),
        internal_ids=tuple((where, value) for where, el in named if (value := text(el, "DaneIdentyfikacyjne/IDWew"))),
    )


def total(texts: Iterable[str]) -> str:
    """The sum of amounts as written; what is no amount does not count."""
    whole = Decimal(0)
    for text in texts:
        try:
            amount = Decimal(text or "0")
        except InvalidOperation:
            continue
        if amount.is_finite() and amount.adjusted() < _DIGITS:
            whole += amount
    return str(whole)
