"""libxml2's English into plain Polish, and foreign text made fit to be shown."""

from __future__ import annotations

import re

UNKNOWN_SYNTAX = "błąd składni"

_LIMIT = 60
_BRACED = re.compile(r"\{[^{}]*\}")
_QUOTED = re.compile(r"'([^']*)'")
_EXPECTED = re.compile(r"Expected is (?:one of )?\( (.*?) \)", re.DOTALL)
_FACET = re.compile(r"\[facet '(\w+)'\] ")
_VALUE = re.compile(r"The value '(.*)' (?:is not|has more|is greater|is less|does not)", re.DOTALL)
_LENGTH = re.compile(r"length of '(\d+)'; this \w+ the allowed (?:maximum|minimum)? ?length of '(\d+)'")
_LIMIT_VALUE = re.compile(r"\('([^']*)'\)\.?$")
_MISMATCH = re.compile(r"Opening and ending tag mismatch: (\S+?)(?: line (\d+))? and (\S+)")
_NOT_DEFINED = re.compile(r"Entity '([^']*)' not defined")
_CHARACTER = re.compile(r"(?:Char|value) (?:0x)?([0-9A-Fa-f]+)")
_AMOUNT_PATTERN = re.compile(r"\\d\{1,(\d)\}\)\?")


def printable(text: str, limit: int = _LIMIT) -> str:
    """``text`` without characters that could disturb a screen or a log, cut to ``limit`` characters."""
    shown = "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in text[: limit + 1]
    )
    return shown if len(text) <= limit and len(shown) <= 2 * limit else shown[:limit] + "…"


def syntax_message(kind: str, english: str) -> tuple[str, str]:
    """What is wrong with XML that is not well-formed, and what to do; by libxml2's error type name."""
    if (mismatch := _MISMATCH.search(english)) is not None:
        opened, line, closed = mismatch.groups()
        where = f" z wiersza {line}" if line and line != "0" else ""
        return (
            f"element <{printable(opened)}>{where} zamknięto znacznikiem </{printable(closed)}>",
            "Każdy znacznik musi być zamknięty w tej kolejności, w jakiej był otwarty; plik może też być ucięty.",
        )
    if (entity := _NOT_DEFINED.search(english)) is not None:
        return (
            f"nieznana encja &{printable(entity[1])};",
            "W XML wolno używać tylko &amp; &lt; &gt; &quot; &apos; i odwołań liczbowych; wpisz znak wprost.",
        )
    if "invalid xmlChar" in english or "nvalid Char" in english or kind == "ERR_INVALID_CHAR":
        code = _CHARACTER.search(english)
        number = (
            int(code[1], 16 if "0x" in english else 10) if code and (code[1].isdigit() or "0x" in english) else None
        )
        shown = f"znak U+{number:04X}" if number is not None and number <= 0x10FFFF else "znak"
        return (f"niedozwolony {shown}", "Usuń ten niewidoczny znak z danych w ERP (nazwy, opisy, adresy).")
    if ("no name" in english and "EntityRef" in english) or kind == "ERR_ENTITYREF_SEMICOL_MISSING":
        return ("znak & wpisany bez zamiany na &amp;", "Zamień & na &amp; (szablon w ERP powinien robić to sam).")
    return _SYNTAX.get(kind, (UNKNOWN_SYNTAX, "Wygeneruj plik w ERP jeszcze raz; mógł zostać ucięty lub uszkodzony."))


_CUT = "Plik jest prawdopodobnie ucięty; wygeneruj go w ERP jeszcze raz."
_SYNTAX = {
    "ERR_DOCUMENT_EMPTY": ("nie zaczyna się od znacznika XML", "Zapisz do folderu plik XML faktury."),
    "ERR_DOCUMENT_START": ("nie zaczyna się od znacznika XML", "Zapisz do folderu plik XML faktury."),
    "ERR_DOCUMENT_END": (
        "za końcem faktury jest jeszcze treść albo brakuje elementu głównego",
        "W jednym pliku może być jedna faktura; usuń wszystko za znacznikiem zamykającym.",
    ),
    "ERR_TAG_NOT_FINISHED": ("plik kończy się przed zamknięciem wszystkich elementów", _CUT),
    "ERR_GT_REQUIRED": ("znacznik nie jest zamknięty znakiem >", _CUT),
    "ERR_LTSLASH_REQUIRED": ("brakuje znacznika zamykającego", _CUT),
    "ERR_NAME_REQUIRED": (
        "znak < lub znacznik z niedozwoloną nazwą",
        "Znak < w treści zapisz jako &lt; (szablon w ERP powinien robić to sam).",
    ),
    "ERR_LT_IN_ATTRIBUTE": ("znak < w wartości atrybutu", "Zapisz go jako &lt;."),
    "ERR_ATTRIBUTE_REDEFINED": ("atrybut podano dwa razy", "Usuń powtórzony atrybut z szablonu."),
    "ERR_ATTRIBUTE_NOT_STARTED": ("wartość atrybutu bez cudzysłowu", "Ujmij wartość atrybutu w cudzysłów."),
    "ERR_ATTRIBUTE_NOT_FINISHED": ("wartość atrybutu nie jest zakończona cudzysłowem", _CUT),
    "ERR_ATTRIBUTE_WITHOUT_VALUE": ("atrybut bez wartości", "Podaj wartość atrybutu w cudzysłowie."),
    "ERR_SPACE_REQUIRED": ("brakuje odstępu między atrybutami", "Popraw szablon faktury w ERP."),
    "ERR_RESERVED_XML_NAME": (
        "przed prologiem <?xml …?> są jakieś znaki",
        "Prolog musi być pierwszy w pliku: usuń puste wiersze i odstępy przed nim.",
    ),
    "ERR_COMMENT_NOT_FINISHED": ("komentarz nie jest zakończony", _CUT),
    "ERR_CDATA_NOT_FINISHED": ("sekcja CDATA nie jest zakończona", _CUT),
    "ERR_PI_NOT_FINISHED": ("instrukcja <? nie jest zakończona", _CUT),
    "ERR_XMLDECL_NOT_FINISHED": ("prolog <?xml nie jest zakończony", "Popraw pierwszy wiersz pliku."),
    "ERR_MISPLACED_CDATA_END": ("ciąg ]]> w treści", "Zapisz go jako ]]&gt;."),
    "NS_ERR_UNDEFINED_NAMESPACE": (
        "przedrostek nazwy (przed dwukropkiem) nie ma deklaracji xmlns",
        "Zadeklaruj przestrzeń nazw w elemencie Faktura.",
    ),
    "ERR_NO_MEMORY": ("plik jest zbyt złożony", "To nie wygląda na fakturę; sprawdź, co go zapisało."),
    "ERR_NAME_TOO_LONG": ("nazwa jest zbyt długa", "To nie wygląda na fakturę; sprawdź, co go zapisało."),
    "ERR_RESOURCE_LIMIT": ("plik jest zbyt złożony", "To nie wygląda na fakturę; sprawdź, co go zapisało."),
    "ERR_INTERNAL_ERROR": ("plik jest zbyt złożony", "To nie wygląda na fakturę; sprawdź, co go zapisało."),
}


def facet_of(english: str) -> str:
    """The facet that a message of the schema is about ("pattern", "maxLength", …), or ""."""
    facet = _FACET.search(english)
    return facet[1] if facet else ""


def expected_names(english: str) -> list[str]:
    """The element names that the schema would have taken here, without namespaces."""
    listed = _EXPECTED.search(english)
    if listed is None:
        return []
    names = [_BRACED.sub("", name).strip() for name in listed[1].split(",")]
    return [name for name in names if name]


def value_message(name: str, value: str, facet: str, english: str) -> tuple[str, str]:
    """Why the schema refuses ``value`` of the field ``name``, and what to do."""
    if value.strip() == "":
        return (
            f"pole „{name}” jest puste",
            "Wpisz wartość albo – jeśli pole jest nieobowiązkowe – pomiń cały element.",
        )
    shown = printable(value)
    if facet in ("maxLength", "minLength") and (length := _LENGTH.search(english)) is not None:
        what = "dozwolone najwyżej" if facet == "maxLength" else "wymagane co najmniej"
        return f"pole „{name}” ma {length[1]} znaków, {what} {length[2]}", "Popraw długość tego tekstu w ERP."
    if facet == "enumeration":
        return f"wartość „{shown}” pola „{name}” jest spoza listy dozwolonych", _enumeration_hint(english)
    limit = _LIMIT_VALUE.search(english)
    if facet in ("minInclusive", "maxInclusive", "minExclusive") and limit is not None:
        what = "większa od dozwolonej" if facet == "maxInclusive" else "mniejsza od dozwolonej"
        return f"wartość „{shown}” pola „{name}” jest {what} ({limit[1]})", "Popraw tę wartość w ERP."
    if facet == "fractionDigits" and limit is not None:
        return (
            f"wartość „{shown}” pola „{name}” ma za dużo miejsc po kropce, dozwolone {limit[1]}",
            "Zaokrąglij tę wartość w ERP.",
        )
    if facet == "totalDigits" and limit is not None:
        return f"wartość „{shown}” pola „{name}” ma za dużo cyfr, dozwolone {limit[1]}", "Popraw tę wartość w ERP."
    return f"wartość „{shown}” pola „{name}” ma niewłaściwą postać", _shape_hint(name, value, english)


def _enumeration_hint(english: str) -> str:
    listed = english.rpartition("set {")[2]
    values = _QUOTED.findall(listed)
    if not values or len(values) > 30:
        return "Wybierz wartość ze słownika FA(3)."
    return "Dozwolone: " + ", ".join(values) + "."


def _shape_hint(name: str, value: str, english: str) -> str:
    named = _TYPE.search(english)
    kind = named[1] if named else ""
    if kind in _DATES or _DATE_PATTERN in english:
        return "Data musi mieć postać RRRR-MM-DD i istnieć w kalendarzu."
    if kind in ("dateTime", "TDataCzas"):
        return "Data z godziną musi mieć postać RRRR-MM-DDTGG:MM:SSZ."
    if name == "NIP":
        return "NIP to dokładnie 10 cyfr, bez kresek, odstępów i przedrostka PL."
    written = _AMOUNT_PATTERN.search(english)
    places = _PLACES.get(kind) or (written[1] if written else "")
    if places or kind == "decimal":
        limit = f"po kropce najwyżej {_digits(int(places))}" if places else "cyfry i kropka"
        comma = " Zamiast przecinka użyj kropki." if "," in value else ""
        return f"Liczba: {limit}, bez odstępów, bez zer na początku i bez znaku +.{comma}"
    if kind in _INTEGERS:
        return "Wpisz samą liczbę całkowitą."
    if name.startswith("NrKSeF"):
        return "Numer KSeF ma 35 znaków: NIP-RRRRMMDD-XXXXXXXXXXXX-XX, wielkie litery."
    return _SHAPES.get(name, "Popraw tę wartość w ERP zgodnie z opisem pola w strukturze FA(3).")


def _digits(count: int) -> str:
    return f"{count} {'cyfra' if count == 1 else 'cyfry' if count < 5 else 'cyfr'}"


_TYPE = re.compile(r"type '(?:\{[^}]*\}|xs:)?(\w+)'")
_DATE_PATTERN = r"((\d{4})-(\d{2})-(\d{2}))"
_DATES = ("date", "TData", "TDataT", "TDataU")
_INTEGERS = ("byte", "integer", "nonNegativeInteger", "TNaturalny", "TWybor1", "TWybor1_2", "TFormaPlatnosci")
_PLACES = {"TKwotowy": "2", "TKwotowy2": "8", "TIlosci": "6", "TProcentowy": "6"}
_SHAPES = {
    "IDWew": "Identyfikator wewnętrzny ma postać NIP-NNNNN (10 cyfr, kreska, 5 cyfr).",
    "Email": "Podaj adres w postaci nazwa@domena.",
    "NrVatUE": "Numer bez kodu kraju, odstępów i kresek: najwyżej 12 wielkich liter i cyfr.",
}
