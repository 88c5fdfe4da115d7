"""The rulebook as TOML: what is written is read back the same, and everything wrong is told at once."""

from __future__ import annotations

import tomllib
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksefbuffer.invoice.places import BUILT_IN, GROUPS
from ksefbuffer.receiver.rulebook import (
    OPERATORS,
    STRENGTHS,
    RulebookFault,
    default_rulebook,
    read_rulebook,
    write_rulebook,
)
from ksefbuffer.receiver.shapes import Catalogue, Company, Condition, Rule, Rulebook, Supplier
from ksefbuffer.receiver.stores import Store, StoreRegister
from tests.receiver.generator import rulebook_toml

WHOLE = """
[[catalogue]]
path = "sklepy/łódzkie"
group = "sklep-117"
mode = "0640"
description = "Sklepy \\"łódzkie\\""

[[rule]]
name = "Hurtownie"
when = [
    { field = "seller_nip", in = ["5265877635", "1111111111"] },
    { field = "gross", between = [0, 1500.50] },
    { field = "issue_date", between = [2026-01-01, ""] },
    { field = "delivery_id", present = true },
    { field = "extra[Numer partii]", matches = '^[A-Z]\\d{3}$' },
    { field = "xpath[//FaWiersz[GTIN]/P_7]", contains = "kawa" },
]
target = "sklepy/{store.number}/{issue_date:%Y-%m}"
tags = ["towar", "pilne"]
then = "continue"

[[rule]]
name = "Reszta"
target = "reszta"
enabled = false

[[store]]
number = "117"
name = "Sklep 117"
gln = ["5901234123457"]
address = ["ul. Kwiatowa 7, 00-950 Warszawa"]
idwew = ["5265877635-00017"]
open_from = 2026-01-01
open_to = "2026-12-31"
catalogue = "sklepy/łódzkie/117"

[company]
names = ["Market Pod Lipą S.A."]
nips = ["5265877635"]
headquarters = ["ul. Centralna 1, 02-222 Warszawa"]
late_days = 10

[[supplier]]
nip = "1111111111"
accounts = ["61109010140000071219812874"]
order_pattern = '^45\\d{8}$'
order_required = true
payment_days = 30
kind = "towar"

[checks]
Z16 = "off"
Z13 = "error"

[vocabulary]
store = ["Jednostka"]
"""


def faults_of(text: str) -> str:
    with pytest.raises(RulebookFault) as raised:
        read_rulebook(text)
    return "\n".join(raised.value.faults)


def test_everything_is_read() -> None:
    book = read_rulebook(WHOLE)
    assert book.catalogues == (Catalogue("sklepy/łódzkie", "sklep-117", "0640", 'Sklepy "łódzkie"'),)
    assert book.rules[0].conditions[1] == Condition("gross", "between", ("0", "1500.5"))
    assert book.rules[0].conditions[2] == Condition("issue_date", "between", ("2026-01-01", ""))
    assert book.rules[0].then == "continue"
    assert book.rules[1] == Rule("Reszta", (), "reszta", enabled=False)
    assert book.stores.stores[0].open_to == date(2026, 12, 31)
    assert book.stores.headquarters == ("ul. Centralna 1, 02-222 Warszawa",)
    assert book.company.late_days == 10
    supplier = book.supplier("1111111111")
    assert supplier is not None
    assert (supplier.payment_days, supplier.order_required, supplier.blocked) == (30, True, False)
    assert book.checks == {"Z16": "off", "Z13": "error"}
    assert "jednostka" in book.vocabulary.store


@pytest.mark.parametrize("text", [WHOLE, "", "rule = []", rulebook_toml(30)])
def test_what_is_written_is_read_back_the_same(text: str) -> None:
    book = read_rulebook(text)
    written = write_rulebook(book)
    assert read_rulebook(written) == book
    assert write_rulebook(read_rulebook(written)) == written


def test_an_empty_book_is_the_default() -> None:
    assert read_rulebook("") == default_rulebook()


_TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
_CONDITION = st.builds(
    lambda field, operator, values: Condition(
        field, operator, tuple(f"a{value}b" for value in (values if operator != "equals" else values[:1]))
    ),
    st.sampled_from(["seller_name", "order_number", "extra[x y]"]),
    st.sampled_from(["equals", "in", "contains"]),
    st.lists(_TEXT, min_size=1, max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(_TEXT, st.lists(_CONDITION, max_size=3), _TEXT), max_size=4, unique_by=lambda one: one[0]), _TEXT
)
def test_any_texts_survive_the_round_trip(rules: list[tuple[str, list[Condition], str]], name: str) -> None:
    book = Rulebook(
        rules=tuple(Rule(label, tuple(conditions), tags=(tag,)) for label, conditions, tag in rules),
        stores=StoreRegister((Store("1", name),)),
    )
    assert read_rulebook(write_rulebook(book)) == book


_ANY = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
_SLY = _ANY | st.sampled_from(
    ["true", "false", "", "1", "-", "]", '"', "\\", "\n[company]", "true } ]\n[company]\nnips = [", "1 }", "{a}", "#"]
)
_OPERAND = _SLY.map(str.strip)
_MANY = st.lists(_SLY, max_size=3).map(tuple)
_SOME_DAY = st.none() | st.dates(date(1900, 1, 1), date(2999, 12, 31))
_ANYTHING = st.builds(
    Rulebook,
    st.lists(st.builds(Catalogue, _SLY, _SLY, _SLY, _SLY), max_size=2).map(tuple),
    st.lists(
        st.builds(
            Rule,
            _SLY,
            st.lists(
                st.builds(
                    Condition,
                    st.sampled_from(["seller_name", "gross", "store", "extra[a]"]) | _SLY,
                    st.sampled_from(OPERATORS) | _SLY,
                    st.sampled_from([("true",), ("false",), ("1", "2")]) | st.lists(_OPERAND, max_size=3).map(tuple),
                ),
                max_size=2,
            ).map(tuple),
            _SLY,
            _MANY,
            st.sampled_from(["stop", "continue"]) | _SLY,
            st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    st.builds(
        StoreRegister,
        st.lists(st.builds(Store, _SLY, _SLY, st.just(()), _MANY, _MANY, _SOME_DAY, _SOME_DAY, _SLY), max_size=2).map(
            tuple
        ),
    ),
    st.builds(Company, names=_MANY, addresses=_MANY, late_days=st.integers(-1, 4000)),
    st.lists(
        st.builds(
            Supplier,
            _SLY,
            _SLY,
            _MANY,
            _SLY,
            order_required=st.booleans(),
            payment_days=st.none() | st.integers(-1, 4000),
            kind=st.sampled_from(["", "towar", "koszt"]) | _SLY,
        ),
        max_size=2,
    ).map(tuple),
    st.dictionaries(st.sampled_from(["Z01", "Z13"]) | _SLY, st.sampled_from(STRENGTHS) | _SLY, max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(_ANYTHING)
def test_whatever_is_written_is_read_back_equal_or_refused_with_words(book: Rulebook) -> None:
    written = write_rulebook(book)
    tomllib.loads(written)
    try:
        read = read_rulebook(written)
    except RulebookFault:
        return
    assert read == book


def _good(low: int = 1, high: int = 3, of: st.SearchStrategy[str] = _TEXT) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(of, min_size=low, max_size=high).map(tuple)


_FOLDER = st.lists(st.sampled_from(["sklepy", "łódź", "a b", "2026-11", "x"]), min_size=1, max_size=4).map("/".join)
_WORD = st.text(st.sampled_from("aąbZż0 9\"'#\\]}"), min_size=1, max_size=9).map(lambda text: f"a{text}b")
_NIP = st.sampled_from(["5265877635", "1111111111"])
_RIGHT_CONDITION = (
    st.builds(
        Condition,
        st.sampled_from(["gross", "store", "seller_nip"]),
        st.just("present"),
        st.sampled_from([("true",), ("false",)]),
    )
    | st.builds(lambda value: Condition("seller_name", "equals", (value,)), _WORD)
    | st.builds(Condition, st.just("seller_name"), st.sampled_from(["in", "contains"]), _good(of=_WORD))
    | st.builds(lambda low, more: Condition("gross", "between", (str(low), str(low + more))), *[st.integers(0, 99)] * 2)
    | st.builds(lambda day: Condition("issue_date", "between", ("", day.isoformat())), st.dates(date(2000, 1, 1)))
    | st.just(Condition("extra[Numer partii]", "matches", (r'^[A-Z"]\d{3}$',)))
)
_RIGHT = st.builds(
    Rulebook,
    st.lists(
        st.builds(Catalogue, _FOLDER, st.sampled_from(["", "sklep-1"]), st.sampled_from(["", "0640"]), _ANY),
        max_size=3,
        unique_by=lambda one: one.path,
    ).map(tuple),
    st.lists(
        st.builds(
            Rule,
            _TEXT,
            st.lists(_RIGHT_CONDITION, max_size=3).map(tuple),
            _FOLDER,
            _good(0),
            st.sampled_from(["stop", "continue"]),
            st.booleans(),
        ),
        max_size=3,
        unique_by=lambda one: one.name,
    ).map(tuple),
    st.lists(
        st.builds(
            Store,
            st.sampled_from(["1", "2", "117"]),
            _ANY,
            addresses=st.lists(_WORD, max_size=2).map(tuple),
            open_from=_SOME_DAY,
            catalogue=st.just("") | _FOLDER,
        ),
        max_size=3,
        unique_by=lambda one: one.number,
    ).map(lambda stores: StoreRegister(tuple(stores))),
    st.builds(Company, _good(0, 2, _NIP), _good(0), addresses=_good(0), late_days=st.integers(0, 3650)),
    st.lists(
        st.builds(
            Supplier,
            _NIP,
            _ANY,
            _good(0),
            order_required=st.booleans(),
            blocked=st.booleans(),
            factors=_good(0, 2, _NIP),
            payment_days=st.none() | st.integers(0, 3650),
            kind=st.sampled_from(["", "towar", "koszt"]),
        ),
        max_size=2,
        unique_by=lambda one: one.nip,
    ).map(tuple),
    st.dictionaries(st.sampled_from(["Z01", "Z13", "Z57"]), st.sampled_from(STRENGTHS), max_size=2),
    st.dictionaries(st.sampled_from(GROUPS), _good(of=st.sampled_from(["jednostka", "Nr obiektu"])), max_size=2).map(
        BUILT_IN.extended
    ),
)


@settings(max_examples=150, deadline=None)
@given(_RIGHT)
def test_every_rulebook_without_faults_is_read_back_equal(book: Rulebook) -> None:
    assert read_rulebook(write_rulebook(book)) == book


@pytest.mark.parametrize("said", ["", "tak", "True", "true } ]\n[company]\nnips = [ ", "[[rule]]", '"', "1"])
def test_a_truth_that_is_none_is_refused_and_read_as_nothing_else(said: str) -> None:
    rule = Rule("x", (Condition("store", "present", (said,)),), "x")
    told = faults_of(write_rulebook(Rulebook(rules=(rule,))))
    assert "„present” przyjmuje true albo false" in told
    assert len(told.splitlines()) == 1


def test_unknown_keys_name_the_nearest() -> None:
    faults = faults_of('[[rul]]\nname = "a"\n[[rule]]\nname = "b"\ntraget = "x"\ntags = ["t"]\n[company]\nnpis = []\n')
    assert "Nieznana sekcja „rul”; najbliższy znany: „rule”" in faults
    assert "Reguła „b” (wiersz 3): nieznany klucz „traget”; najbliższy znany: „target”" in faults
    assert "Sekcja [company]: nieznany klucz „npis”; najbliższy znany: „nips”" in faults


def test_all_faults_are_told_at_once_and_named() -> None:
    faults = faults_of(
        """
[[catalogue]]
path = "../etc"
mode = "0777"
[[rule]]
name = "A"
when = [{ field = "seler_nip", equals = "1" }, { field = "gross" }, { field = "gross", equals = "1", in = ["2"] }]
target = "x/{kolor}"
then = "maybe"
[[rule]]
name = "A"
when = [{ field = "seller_name", matches = "(a+)+" }]
tags = "t"
enabled = "tak"
[[rule]]
target = "y"
[[rule]]
name = "pusta"
[[store]]
number = "1"
gln = "123"
[[store]]
number = "01"
open_from = "jutro"
[[supplier]]
nip = "5265877636"
order_pattern = "("
payment_days = -1
[checks]
Z99 = "off"
Z01 = "maybe"
[vocabulary]
sklep = ["x"]
"""
    )
    for expected in (
        "Katalog „../etc” (wiersz 2): „..” nie nadaje się na nazwę katalogu",
        "„mode” „0777”",
        "Reguła „A” (wiersz 5), warunek 1: nieznane pole „seler_nip”; najbliższy znany: „seller_nip”",
        "warunek 2: potrzebny jest dokładnie jeden operator",
        "warunek 3: potrzebny jest dokładnie jeden operator",
        "„target”: nieznany znacznik „{kolor}”",
        "„then” może być tylko jednym z: „stop”, „continue”",
        "Reguła „A” (wiersz 10): ta nazwa już wystąpiła",
        "powtarzana grupa",
        "„enabled” może być tylko true albo false",
        "brak „name”",
        "Reguła „pusta” (wiersz 17): reguła nie ma ani „target”, ani „tags”",
        "Sklep „1” (wiersz 19): GLN „123” jest błędny",
        "Sklep „01” (wiersz 22): numer sklepu „01” powtarza się",
        "„open_from” musi być datą",
        "„5265877636” nie jest numerem NIP",
        "„order_pattern”: wyrażenie jest błędne",
        "„payment_days” musi być liczbą od 0",
        "nieznana kontrola „Z99”",
        "kontrola Z01 może mieć tylko",
        "nieznany klucz „sklep”",
    ):
        assert expected in faults, expected


@pytest.mark.parametrize(
    "text", ["a = ", "rule = 5", "[rule]", 'checks = "x"', '[[rule]]\nname = "a"\nwhen = [1]\ntags=["x"]']
)
def test_what_is_no_rulebook_is_refused_with_words(text: str) -> None:
    assert faults_of(text)
