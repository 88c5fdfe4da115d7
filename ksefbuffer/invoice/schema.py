"""FA(3) against the official XSD, in words that people understand (checks C03 and the attributes of C02).

The four XSD files come with the package ``ksef_client`` (only its files are used; it is never imported) and must be the
very ones this was written against; or, unchecked, from a folder that the operator names. Nothing is fetched.
"""

from __future__ import annotations

import difflib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

from lxml import etree

from ..errors import ConfigurationFault
from .findings import Finding
from .reading import line_of, local_name, path_of
from .wording import expected_names, facet_of, printable, value_message

MAX_FINDINGS = 50

_MAIN = "schemat_FA(3)_v1-0E.xsd"
# ksef-client 0.20.0; equal to the Ministry's files but for whitespace and schemaLocation.
_SHA256 = {
    _MAIN: "50c655de247d8efc706c1791468624e6768e12772b901b1d344240e8e3987e41",
    "StrukturyDanych_v10-0E.xsd": "d26095dc6c68b40be67bb855be2ea59b1215f812ebb63176af294f43e9915a65",
    "ElementarneTypyDanych_v10-0E.xsd": "20f79cb00c12800a3b48c3fced4c05fd0455d9ec6da2a699d964fb23c84edbad",
    "KodyKrajow_v10-0E.xsd": "48be2a9f181d7ff80f185c62491ba12604c5cacbbe21af8e2aaaf2c585bbd214",
}
_XSD = "{http://www.w3.org/2001/XMLSchema}"
_COMPILING = threading.Lock()
_ATTEMPTS = 10

# libxml2 makes its built-in types at the first schema, without a lock: two first schemas at once crash the process.
# Modules are imported one at a time, so this is the place to make a first one.
etree.XMLSchema(etree.XML('<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema"/>'))
# Of several messages about one value, the one that helps most comes first.
_TELLING = ("enumeration", "maxLength", "minLength", "maxInclusive", "minInclusive", "fractionDigits", "totalDigits")


class _Folder(etree.Resolver):
    """Any URL becomes the file of its base name in one folder; what is not there stops the loading."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__()
        self._files = files

    def resolve(self, system_url: str, public_id: str, context: Any = None) -> Any:
        name = system_url.rpartition("/")[2]
        if name not in self._files:
            raise ConfigurationFault(
                f"Schemat FA(3) odwołuje się do pliku {printable(name)}, którego nie ma w folderze schematów.",
                action="Uzupełnij folder schematów albo przeinstaluj ksefbuffer.",
            )
        return self.resolve_string(self._files[name], context, base_url=name)


@dataclass(frozen=True)
class _Schema:
    """The compiled schema, every element name in it, and for parents of one known shape their children in order:
    (name, required)."""

    compiled: etree.XMLSchema
    names: frozenset[str]
    children: dict[str, tuple[tuple[str, bool], ...]]


class _Schemas(threading.local):
    """One compiled schema per thread: a shared one mixes up the error logs of its users (DEPS §2g)."""

    def __init__(self) -> None:
        self.compiled: dict[Path | None, _Schema] = {}


_schemas = _Schemas()


def is_valid(root: etree._Element, folder: Path | None = None) -> bool:
    """Whether the tree is a valid FA(3). Raises ConfigurationFault when the schema cannot be had."""
    return bool(_schema(folder).compiled.validate(root))


def findings_of(root: etree._Element, folder: Path | None = None) -> list[Finding]:
    """C03 for a tree that ``is_valid`` refused: one finding per place, at most MAX_FINDINGS and one that counts the
    rest. Validates anew, so that the log is surely this tree's."""
    schema = _schema(folder)
    schema.compiled.validate(root)
    places: dict[tuple[str, bool], list[etree._LogEntry]] = {}
    log: Any = schema.compiled.error_log
    for entry in log:
        about_children = entry.type_name in ("SCHEMAV_ELEMENT_CONTENT", "SCHEMAV_CVC_COMPLEX_TYPE_2_3")
        places.setdefault((str(entry.path), about_children), []).append(entry)
    findings = [
        _finding(root, path, _most_telling(entries), schema)
        for (path, _), entries in list(places.items())[:MAX_FINDINGS]
    ]
    if len(places) > MAX_FINDINGS:
        rest = len(places) - MAX_FINDINGS
        findings.append(Finding("C03", f"Niezgodność ze schematem: jest jeszcze {rest} podobnych błędów.", _GENERAL))
    return findings


_GENERAL = "Popraw szablon faktury w ERP według struktury FA(3)."


def _schema(folder: Path | None) -> _Schema:
    known = _schemas.compiled.get(folder)
    if known is None:
        with _COMPILING:
            known = _schemas.compiled[folder] = _compile(_files(folder))
    return known


def _files(folder: Path | None) -> dict[str, bytes]:
    trusted = folder is not None
    if folder is None:
        package = find_spec("ksef_client")
        if package is None or not package.submodule_search_locations:
            raise ConfigurationFault(
                "Brak schematów FA(3): nie znaleziono pakietu ksef-client.", action="Przeinstaluj ksefbuffer."
            )
        folder = Path(next(iter(package.submodule_search_locations))) / "documents" / "fa3" / "schemas"
    files = {}
    for name, expected in _SHA256.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as problem:
            raise ConfigurationFault(
                f"Nie można odczytać schematu {name} w folderze {folder}.",
                action="Przeinstaluj ksefbuffer albo popraw folder schematów.",
            ) from problem
        if not trusted and hashlib.sha256(content).hexdigest() != expected:
            raise ConfigurationFault(
                f"Schemat {name} z pakietu ksef-client ma inną zawartość niż oczekiwana.",
                action="Zainstaluj ksefbuffer razem z jego wersją pakietu ksef-client.",
            )
        files[name] = content
    return files


def _compile(files: dict[str, bytes]) -> _Schema:
    """Loading asks our resolver for the included files, but lxml takes it away, for the whole process, whenever some
    thread ends parsing anything; then the loading fails, plainly, and another attempt helps."""
    parser = etree.XMLParser(no_network=True, resolve_entities=False, load_dtd=False)
    parser.resolvers.add(_Folder(files))
    problem: etree.LxmlError | None = None
    for _ in range(_ATTEMPTS):
        try:
            tree = etree.fromstring(files[_MAIN], parser, base_url=_MAIN)
            names = frozenset(str(element.get("name")) for element in tree.iter(f"{_XSD}element"))
            return _Schema(etree.XMLSchema(tree), names, _children(tree))
        except etree.LxmlError as failed:
            problem = failed
    raise ConfigurationFault(
        "Schematu FA(3) nie da się wczytać.", action="Sprawdź pliki XSD w folderze schematów."
    ) from problem


def _children(schema: etree._Element) -> dict[str, tuple[tuple[str, bool], ...]]:
    """For each element name that has one shape in the whole schema: its children in order, and whether they must be."""
    types = {str(found.get("name")): found for found in schema.iterchildren(f"{_XSD}complexType")}
    shapes: dict[str, set[tuple[tuple[str, bool], ...]]] = {}
    for element in schema.iter(f"{_XSD}element"):
        inline = element.find(f"{_XSD}complexType")
        kind = inline if inline is not None else types.get(str(element.get("type")).rpartition(":")[2])
        sequence = kind.find(f"{_XSD}sequence") if kind is not None else None
        if sequence is not None:
            shapes.setdefault(str(element.get("name")), set()).add(tuple(_in_order(sequence, required=True)))
    return {name: next(iter(found)) for name, found in shapes.items() if len(found) == 1}


def _in_order(group: etree._Element, *, required: bool) -> Iterator[tuple[str, bool]]:
    for part in group:
        must = required and part.get("minOccurs") != "0"
        if part.tag == f"{_XSD}element":
            yield str(part.get("name")), must
        elif part.tag in (f"{_XSD}sequence", f"{_XSD}choice"):
            yield from _in_order(part, required=must and part.tag == f"{_XSD}sequence")


def _missing_before(element: etree._Element, schema: _Schema) -> list[str]:
    """The required siblings that should have come before ``element`` and are not there at all."""
    parent = element.getparent()
    children = schema.children.get(local_name(parent), ()) if parent is not None else ()
    here = local_name(element)
    if parent is None or all(name != here for name, _ in children):
        return []
    present = {local_name(sibling) for sibling in parent}
    before = takewhile(lambda child: child[0] != here, children)
    return [name for name, required in before if required and name not in present]


def _most_telling(entries: list[etree._LogEntry]) -> etree._LogEntry:
    def rank(entry: etree._LogEntry) -> int:
        facet = facet_of(entry.message)
        if facet in _TELLING:
            return _TELLING.index(facet)
        return len(_TELLING) + (0 if facet else 1)

    return min(entries, key=rank)


def _finding(root: etree._Element, path: str, entry: etree._LogEntry, schema: _Schema) -> Finding:
    element = _at(root, path)
    name = local_name(element) if element is not None else ""
    field = path_of(element) if element is not None else None
    line = (line_of(element) if element is not None else None) or entry.line or None
    what, hint = _explain(element, name, entry, schema)
    where = ", ".join(part for part in (f"wiersz {line}" if line else "", f"pole {field}" if field else "") if part)
    return Finding(
        "C03", f"Niezgodność ze schematem: {what}" + (f" ({where})." if where else "."), hint, line=line, field=field
    )


def _explain(element: etree._Element | None, name: str, entry: etree._LogEntry, schema: _Schema) -> tuple[str, str]:
    kind, english = entry.type_name, entry.message
    if kind == "SCHEMAV_ELEMENT_CONTENT":
        return _unexpected(element, name, english, schema)
    if kind == "SCHEMAV_CVC_COMPLEX_TYPE_2_3":
        return f"pole „{name}” ma mieć w środku elementy, a jest w nim zwykły tekst", _GENERAL
    if kind == "SCHEMAV_CVC_TYPE_3_1_2":
        return f"pole „{name}” ma zawierać sam tekst, a są w nim elementy", _GENERAL
    if kind.startswith("SCHEMAV_CVC_COMPLEX_TYPE_3") or kind == "SCHEMAV_CVC_TYPE_3_1_1":
        attribute = _attribute_of(english)
        if "required but missing" in english or "is missing" in english:
            return f"brak atrybutu „{attribute}” w polu „{name}”", _GENERAL
        return f"niedozwolony atrybut „{attribute}” w polu „{name}”", "Usuń ten atrybut z szablonu faktury."
    if "attribute '" in english:
        return f"niewłaściwa wartość atrybutu „{_attribute_of(english)}” w polu „{name}”", _GENERAL
    value = "".join(str(part) for part in element.itertext()) if element is not None else ""
    return value_message(name, value, facet_of(english), english)


def _attribute_of(english: str) -> str:
    return printable(english.partition("attribute '")[2].partition("'")[0].rpartition("}")[2])


def _unexpected(element: etree._Element | None, name: str, english: str, schema: _Schema) -> tuple[str, str]:
    expected = expected_names(english)
    wanted = ", ".join(expected[:12]) + (" …" if len(expected) > 12 else "")
    if "Missing child element" in english:
        return f"w polu „{name}” brakuje dalszego ciągu; oczekiwano: {wanted}", "Uzupełnij brakujące pole."
    here = f"; w tym miejscu oczekiwano: {wanted}" if wanted else "; w tym miejscu nic więcej nie może stać"
    missing = _missing_before(element, schema) if element is not None else []
    if missing:
        return f"przed polem „{name}” brakuje wymaganego pola: {', '.join(missing)}", "Uzupełnij brakujące pole."
    if name in schema.names:
        hint = (
            "Kolejność pól w FA(3) jest ustalona: albo przed tym polem brakuje innego, albo stoi ono nie tam, "
            "gdzie powinno, albo wyklucza się z którymś wcześniejszym."
        )
        return f"pole „{name}” nie może tu stać{here}", hint
    shown = printable(name)
    near = difflib.get_close_matches(name[:100], [*expected, *sorted(schema.names)], n=1, cutoff=0.7)
    hint = f"Czy chodziło o „{near[0]}”?" if near else "Usuń to pole: struktura FA(3) go nie zna."
    return f"nieznane pole „{shown}”{here}", hint


def _at(root: etree._Element, path: str) -> etree._Element | None:
    """The element at libxml2's path ("/*/*[4]/*[2]"); None when there is none."""
    try:
        found = root.getroottree().xpath(path)
    except etree.LxmlError:
        return None
    return found[0] if isinstance(found, list) and found and isinstance(found[0], etree._Element) else None
