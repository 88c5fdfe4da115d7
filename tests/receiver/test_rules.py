"""Rules: what matches, where it goes, and why."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.invoice.received import Received, read_received
from ksefbuffer.receiver.conditions import condition_fault
from ksefbuffer.receiver.folders import MAX_COMPONENT_BYTES, folder_fault, safe_component
from ksefbuffer.receiver.patterns import PatternFault, compiled, found
from ksefbuffer.receiver.rulebook import default_rulebook
from ksefbuffer.receiver.rules import Facts, explain, file
from ksefbuffer.receiver.shapes import Catalogue, Condition, Rule, Rulebook, Supplier
from ksefbuffer.receiver.stores import Store, StoreRegister
from ksefbuffer.receiver.targets import target_fault
from tests.samples import correction_of, invoice

INVOICE = invoice("FV/7/2026", seed=3, order_number="ZAM 4500012345", seller_name="Hurtownia „Świt” sp. z o.o.")
RECEIVED = read_received(INVOICE)
ADDRESS = RECEIVED.buyer.addresses[0].line1
STORE = Store(
    "117", "Sklep: Łódź/Centrum", addresses=("ul. Kwiatowa 7, 00-950 Warszawa",), catalogue="sklepy/łódzkie/117"
)


def with_inside(fa: str = "", parties: str = "") -> Received:
    text = INVOICE.decode()
    text = text.replace("<Fa>", parties + "<Fa>", 1).replace("<FaWiersz>", fa + "<FaWiersz>", 1)
    return read_received(text.encode())


AT_STORE = with_inside("<DodatkowyOpis><Klucz>Nr sklepu</Klucz><Wartosc>117</Wartosc></DodatkowyOpis>")


def book(*rules: Rule, **others: object) -> Rulebook:
    return Rulebook(rules=rules, stores=StoreRegister((STORE,)), **others)  # type: ignore[arg-type]


def meets(condition: Condition, received: Received = RECEIVED, facts: Facts | None = None) -> bool:
    assert condition_fault(condition) == ""
    return file(received, facts or Facts(), book(Rule("r", (condition,), "x"))).folder == "x"


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        (Condition("seller_nip", "equals", ("5265877635",)), True),
        (Condition("seller_nip", "equals", ("PL 526-587-76-35",)), True),
        (Condition("seller_nip", "in", ("1111111111", "5265877635")), True),
        (Condition("seller_nip", "in", ("1111111111",)), False),
        (Condition("seller_name", "equals", ("HURTOWNIA SWIT SP Z O O",)), True),
        (Condition("seller_name", "contains", ("świt",)), True),
        (Condition("seller_name", "contains", ("zmierzch", "swit")), True),
        (Condition("seller_name", "contains", ("zmierzch",)), False),
        (Condition("seller_name", "matches", ("^hurt.*świt",)), True),
        (Condition("seller_name", "matches", ("^świt",)), False),
        (Condition("order_number", "equals", ("4500012345",)), True),
        (Condition("order_number", "equals", ("nr zamówienia 004500012345",)), True),
        (Condition("order_number", "matches", (r"45\d{8}$",)), True),
        (Condition("order_number", "present", ("true",)), True),
        (Condition("delivery_id", "present", ("true",)), False),
        (Condition("delivery_id", "present", ("false",)), True),
        (Condition("invoice_type", "in", ("KOR", "VAT")), True),
        (Condition("currency", "equals", ("pln",)), True),
        (Condition("gross", "between", ("0.01", "")), True),
        (Condition("gross", "between", ("", "0.01")), False),
        (Condition("gross", "equals", (f"{RECEIVED.gross}0",)), True),
        (Condition("issue_date", "between", ("2026-11-20", "2026-11-20")), True),
        (Condition("issue_date", "between", ("2026-11-21", "")), False),
        (Condition("xpath[Fa/Platnosc/FormaPlatnosci]", "equals", ("6",)), True),
        (Condition("xpath[//NrRB]", "contains", ("7121 9812",)), False),
        (Condition("buyer_nip", "present", ("true",)), True),
        (Condition("third_party_role", "present", ("true",)), False),
        (Condition("buyer_internal_id", "present", ("false",)), True),
        (Condition("store", "present", ("true",)), False),
        (Condition("gln", "present", ("true",)), False),
        (Condition("store_address", "contains", ("ul. Fabryczna 12",)), False),
        (Condition("store_address", "contains", (ADDRESS.upper(),)), True),
        (Condition("line_text", "contains", ("nie ma takiego towaru",)), False),
        (Condition("kind", "in", ("towar", "koszt", "niejasne")), True),
        (Condition("form", "equals", ("FA (3)",)), True),
    ],
)
def test_a_condition(condition: Condition, met: bool) -> None:
    assert meets(condition) is met


@pytest.mark.parametrize(
    ("field", "value"),
    [("role", "third"), ("subject", "third"), ("verdict", "niezasadna")],
)
def test_a_condition_on_what_is_known_besides(field: str, value: str) -> None:
    facts = Facts(roles=frozenset({"buyer", "third"}), verdict="niezasadna")
    assert meets(Condition(field, "equals", (value,)), facts=facts)
    assert not meets(Condition(field, "equals", (value,)))


def test_extra_descriptions_and_stores_are_asked_by_any_spelling() -> None:
    assert meets(Condition("extra[NUMER SKLEPU]", "equals", ("117",)), AT_STORE)
    assert meets(Condition("store", "in", ("0117",)), AT_STORE)
    assert not meets(Condition("extra[Partia]", "present", ("true",)), AT_STORE)


def test_all_conditions_must_hold_and_each_gives_its_reason() -> None:
    conditions = (Condition("currency", "equals", ("PLN",)), Condition("seller_nip", "equals", ("5265877635",)))
    filing = file(RECEIVED, Facts(), book(Rule("obie", conditions, "tu", ("a", "b"))))
    assert (filing.folder, filing.tags) == ("tu", ("a", "b"))
    assert [(one.rule, one.field, one.value, one.where) for one in filing.reasons] == [
        ("obie", "currency", "PLN", "KodWaluty"),
        ("obie", "seller_nip", "5265877635", "Podmiot1/NIP"),
    ]
    one_fails = Rule("jedna", (*conditions, Condition("currency", "equals", ("EUR",))), "tam")
    assert file(RECEIVED, Facts(), book(one_fails)).folder == "nieprzypisane"


def test_the_first_target_counts_and_stop_stops() -> None:
    rules = (
        Rule("znacznik", tags=("a",), then="continue"),
        Rule("pierwsza", target="pierwszy", tags=("b",), then="continue"),
        Rule("druga", target="drugi", tags=("c",), then="stop"),
        Rule("za późno", target="trzeci", tags=("d",)),
    )
    filing = file(RECEIVED, Facts(), book(*rules))
    assert (filing.folder, filing.tags) == ("pierwszy", ("a", "b", "c"))
    assert file(RECEIVED, Facts(), book(replace(rules[1], enabled=False), rules[2])).folder == "drugi"


def test_without_a_rule_it_is_unassigned() -> None:
    assert file(RECEIVED, Facts(), book()).folder == "nieprzypisane"
    filing = file(RECEIVED, Facts(), default_rulebook())
    assert filing.folder == "nieprzypisane"
    assert filing.reasons[0].rule == "pozostałe"


def test_one_rule_serves_every_store() -> None:
    rule = Rule("sklepy", target="sklepy/{store.number}/{issue_date:%Y-%m}/{seller.nip}")
    assert file(AT_STORE, Facts(), book(rule)).folder == "sklepy/117/2026-11/5265877635"
    assert file(RECEIVED, Facts(), book(rule)).folder == "nieprzypisane"
    assert file(AT_STORE, Facts(), book(Rule("r", target="{store.catalogue}/nowe"))).folder == "sklepy/łódzkie/117/nowe"
    assert file(AT_STORE, Facts(), book(Rule("r", target="{store.name}"))).folder == "Sklep_ Łódź_Centrum"


def test_what_a_seller_wrote_never_leads_out_of_the_folder() -> None:
    for name in ("../../etc", "..", ".", "a/b", "C:\\x", "nul", "\u202e", " . "):
        received = read_received(invoice(seller_name=f"{name}"))
        folder = file(received, Facts(), book(Rule("r", target="x/{seller.name}"))).folder
        assert folder == "nieprzypisane" or (folder.count("/") == 1 and folder_fault(folder) == "")


@pytest.mark.parametrize(
    ("reserved", "name"),
    [("NUL", "NUL_"), ("con", "con_"), ("Com1", "Com1_"), ("lpt9.xml", "lpt9_.xml"), ("NUL.0", "NUL_.0")],
)
def test_names_that_windows_keeps_for_itself_are_changed(reserved: str, name: str) -> None:
    assert safe_component(reserved) == name


@given(st.text())
def test_any_text_becomes_one_safe_name(text: str) -> None:
    name = safe_component(text)
    assert "/" not in name
    assert name not in (".", "..")
    assert safe_component(name) == name
    assert len(name.encode("utf-8", errors="replace")) <= MAX_COMPONENT_BYTES + 1
    assert name == "" or folder_fault(name) == ""


def test_a_correction_follows_its_original_and_still_gets_tags() -> None:
    correction = read_received(correction_of(INVOICE, ksef_number="5265877635-20261120-0100001AF629-AF"))
    rules = book(Rule("wszystko", target="inny", tags=("t",)))
    filing = file(correction, Facts(corrected_folder="sklepy/117"), rules)
    assert (filing.folder, filing.tags) == ("sklepy/117", ("t",))
    assert filing.reasons[0].rule == "korekta"
    assert filing.reasons[0].value == "5265877635-20261120-0100001AF629-AF"
    assert file(correction, Facts(corrected_folder="nieprzypisane"), rules).folder == "inny"
    assert file(correction, Facts(), rules).folder == "inny"
    assert file(RECEIVED, Facts(corrected_folder="sklepy/117"), rules).folder == "inny"


def test_tags_that_the_buffer_gives_itself() -> None:
    assert file(RECEIVED, Facts(verdict="niezasadna"), book()).tags == ("niezasadna",)
    assert file(RECEIVED, Facts(verdict="zasadna"), book()).tags == ()
    assert "uszkodzona" in file(read_received(INVOICE[:-400]), Facts(), book()).tags
    assert file(read_received(b"nic"), Facts(), book()).tags == ("uszkodzona", "nieznana struktura")
    assert file(read_received(INVOICE.replace(b"P_2>", b"P_x>")), Facts(), book()).tags == ("niekompletna",)
    disputed = with_inside(
        "<DodatkowyOpis><Klucz>Sklep</Klucz><Wartosc>117</Wartosc></DodatkowyOpis>"
        "<DodatkowyOpis><Klucz>Sklep</Klucz><Wartosc>118</Wartosc></DodatkowyOpis>"
    )
    two = Rulebook(rules=(), stores=StoreRegister((STORE, Store("118"))))
    assert file(disputed, Facts(), two).tags == ("sklep sprzeczny",)


def test_the_supplier_decides_what_is_a_cost() -> None:
    rule = Rule("koszty", (Condition("kind", "equals", ("koszt",)),), "koszty")
    for kind, folder in (("koszt", "koszty"), ("towar", "nieprzypisane")):
        suppliers = (Supplier("5265877635", kind=kind),)  # type: ignore[arg-type]
        assert file(RECEIVED, Facts(), book(rule, suppliers=suppliers)).folder == folder


def test_the_same_invoice_always_goes_the_same_way() -> None:
    rules = book(Rule("r", target="{store.number}/{seller.name}"))
    first = file(AT_STORE, Facts(), rules)
    again = file(read_received(AT_STORE_BYTES), Facts(), book(Rule("r", target="{store.number}/{seller.name}")))
    assert first.as_json() == again.as_json()


AT_STORE_BYTES = INVOICE.replace(
    b"<FaWiersz>", b"<DodatkowyOpis><Klucz>Nr sklepu</Klucz><Wartosc>117</Wartosc></DodatkowyOpis><FaWiersz>", 1
)


def test_every_rule_is_explained() -> None:
    rules = book(
        Rule("wyłączona", target="a", enabled=False),
        Rule("waluta", (Condition("currency", "equals", ("EUR",)),), "b"),
        Rule("sklep", target="{store.number}"),
        Rule("znacznik", tags=("x",), then="continue"),
        Rule("reszta", target="c"),
        Rule("za późno", target="d"),
    )
    traces = explain(RECEIVED, Facts(), rules)
    assert [(trace.outcome, trace.decides) for trace in traces] == [
        ("disabled", False),
        ("failed", False),
        ("unfilled", False),
        ("matched", False),
        ("matched", True),
        ("not reached", False),
    ]
    assert traces[1].condition == "waluta równe: EUR"
    assert traces[1].seen == ("PLN",)
    assert traces[2].condition == "{store.number}"


def test_reasons_and_filings_show_nothing() -> None:
    filing = file(AT_STORE, Facts(), book(Rule("r", (Condition("seller_nip", "present", ("true",)),), "x")))
    assert "5265877635" not in repr(filing)
    assert "5265877635" not in repr(filing.reasons[0])


def test_the_nearest_catalogue_rules_a_folder() -> None:
    rules = Rulebook(catalogues=(Catalogue("sklepy", "wszyscy"), Catalogue("sklepy/117", "sklep117", "0640")))
    for folder, group in (("sklepy/117/2026-11", "sklep117"), ("sklepy/118", "wszyscy"), ("koszty", None)):
        catalogue = rules.catalogue_of(folder)
        assert (catalogue.group if catalogue else None) == group


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition("kolor", "equals", ("x",)), "nieznane pole"),
        (Condition("extra[]", "present", ("true",)), "nieznane pole"),
        (Condition("xpath[count(//Fa)]", "present", ("true",)), "nie rozumiem"),
        (Condition("gross", "between", ("10", "1")), "większy"),
        (Condition("gross", "between", ("dużo", "")), "nie jest liczbą"),
        (Condition("gross", "between", ("", "")), "od i do"),
        (Condition("seller_name", "between", ("a", "b")), "nie pasuje"),
        (Condition("seller_nip", "in", ("123",)), "nie jest numerem NIP"),
        (Condition("gln", "equals", ("1234567890123",)), "nie jest numerem GLN"),
        (Condition("seller_name", "matches", ("(a+)+",)), "powtarzana grupa"),
        (Condition("seller_name", "matches", ("(",)), "błędne"),
        (Condition("seller_name", "equals", ("…",)), "ani liter"),
        (Condition("seller_name", "equals", ("a", "b")), "jedną wartość"),
        (Condition("seller_name", "equals", ()), "brak wartości"),
        (Condition("role", "equals", ("nabywca",)), "nie jest żadnym z"),
        (Condition("order_number", "present", ("tak",)), "true albo false"),
    ],
)
def test_a_condition_that_cannot_work_is_refused(condition: Condition, expected: str) -> None:
    assert expected in condition_fault(condition)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/a",
        "a//b",
        "a/../b",
        "{kolor}",
        "{store.number",
        "{issue_date:%H}",
        "{seller.nip:x}",
        "a\\b",
        "a/" * 9 + "a",
    ],
)
def test_a_target_that_cannot_work_is_refused(target: str) -> None:
    assert target_fault(target)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+", "(a*)*b", "(?:a|aa)+$", "((a{2,})b)*", "(.*a){20}", ".*.*.*x", "^.*.*.*.*x", r"(a)\1", "(?=a)",
        "(?P<x>a)", "(a|b)*", "a" * 300, "[", "", "(a{1,30}){1,30}", "x{0,999}y{0,999}z{0,999}",
    ],
)  # fmt: skip
def test_patterns_that_could_take_forever_are_refused(pattern: str) -> None:
    with pytest.raises(PatternFault):
        compiled(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^45\d{8}$", "4500012345"),
        (r"^(ZAM|PO)[-/ ]?\d+/\d{4}$", "zam/12/2026"),
        (r"sklep( nr)? \d{1,4}", "Sklep nr 117"),
        (r"[()+*]", "a+b"),
        (r"\(a+\)", "(aa)"),
        (r"^.*a.*b.*$", "xxaxxb"),
        (r"[]a]+", "]"),
        (r"a{,3}b", "aab"),
    ],
)
def test_ordinary_patterns_are_taken(pattern: str, text: str) -> None:
    assert found(compiled(pattern), text)


def test_the_worst_pattern_that_is_taken_ends_soon() -> None:
    started = time.process_time()
    found(compiled("^.*a.*b.*c"), "ab" * 2000)
    found(compiled(".*a.*b"), "a" * 4000)
    assert time.process_time() - started < 3
