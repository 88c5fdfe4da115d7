"""The verdict as a whole: which word, what may be switched, what is told, and what may never happen."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.invoice.accounts import account_key, is_polish_account, nrb_ok
from ksefbuffer.invoice.names import company_words, name_similarity, number_key
from ksefbuffer.invoice.received import read_received
from ksefbuffer.receiver.checks.catalogue import CATALOGUE
from ksefbuffer.receiver.checks.identity import is_slip_of
from ksefbuffer.receiver.checks.payments import host_of, is_disguised
from ksefbuffer.receiver.checks.sellers import internal_id_digit_ok
from ksefbuffer.receiver.shapes import Company, Rulebook, Supplier
from ksefbuffer.receiver.verdict import (
    Knowledge,
    NoArchive,
    delivery_keys,
    judge,
    knowledge_of,
    likeness,
    reference_forms,
)
from tests.samples import correction_of, sample_files

from .judging import (
    ACCEPTED,
    ACCOUNT,
    FULL,
    NOW,
    OTHER_ACCOUNT,
    SELLER,
    SOUND,
    STORES,
    STRANGER,
    US,
    Shelf,
    bought,
    codes,
    described,
    edit,
    knowing,
    ksef_number,
    stored,
    third,
    told_of,
    verdict_on,
    with_wz,
)
from .test_verdict import SPEAKS

NEEDS_KNOWLEDGE = (
    *("Z01", "Z02", "Z03", "Z06", "Z08", "Z13", "Z14", "Z15", "Z19", "Z21", "Z23", "Z24", "Z25", "Z26", "Z27", "Z28"),
    *("Z46", "Z48", "Z52"),
)
SPOKEN = [
    pytest.param(row[0], id=f"{code}-{number}") for code, rows in SPEAKS.items() for number, row in enumerate(rows)
]


def with_checks(knowledge: Knowledge = FULL, **checks: Any) -> Knowledge:
    return replace(knowledge, checks=checks)


# The word


def test_a_sound_invoice_is_in_order() -> None:
    verdict = verdict_on(SOUND)
    assert (verdict.verdict, verdict.fired) == ("zasadna", ())


def test_the_severest_check_decides() -> None:
    note = edit(SOUND, ("<Termin>2026-12-04", "<Termin>2026-11-19"))
    warning = edit(note, ("<P_15>153.75", "<P_15>160.00"))
    refusal = edit(warning, (f"<NIP>{US}</NIP>", "<BrakID>1</BrakID>"))
    words = [(verdict.verdict, codes(verdict)) for verdict in map(verdict_on, (note, warning, refusal))]
    assert words == [
        ("zasadna", ["Z50"]),
        ("do wyjaśnienia", ["Z32", "Z50"]),
        ("niezasadna", ["Z05", "Z32", "Z50"]),
    ]


@pytest.mark.parametrize(
    ("setting", "word", "severities"),
    [
        ("off", "zasadna", []),
        ("note", "zasadna", ["I"]),
        ("warning", "do wyjaśnienia", ["W"]),
        ("error", "niezasadna", ["N"]),
    ],
)
def test_a_check_can_be_switched_off_lowered_and_raised(setting: Any, word: str, severities: list[str]) -> None:
    wrong = edit(SOUND, ("<P_15>153.75", "<P_15>160.00"))
    verdict = verdict_on(wrong, with_checks(Z32=setting))
    assert (verdict.verdict, [one.severity for one in verdict.fired]) == (word, severities)


@pytest.mark.parametrize("checks", [{"Z58": "off"}, {"Z32": "fatal"}, {"z32": "off"}])
def test_an_unknown_check_or_setting_is_refused_by_name(checks: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationFault, match=next(iter(checks))):
        with_checks(**checks)


def test_a_pattern_that_cannot_be_used_is_refused_by_supplier() -> None:
    for pattern in ("45[", "(a+)+$"):
        with pytest.raises(ConfigurationFault, match=SELLER):
            knowing(order_pattern=pattern)


def test_a_slip_explains_better_than_not_ours_unless_it_was_lowered() -> None:
    slip = bought(buyer_nip=US[:4] + "9" + US[5:])
    assert "Z01" not in codes(verdict_on(slip))
    assert codes(verdict_on(slip, with_checks(Z03="warning")))[:2] == ["Z01", "Z03"]
    assert codes(verdict_on(slip, with_checks(Z03="off")))[0] == "Z01"


@pytest.mark.parametrize("situation", SPOKEN)
def test_a_switched_off_check_says_nothing_and_the_others_the_same(situation: Any) -> None:
    before = situation.codes()
    code = before[0]
    quiet = replace(situation, knowledge=with_checks(situation.knowledge, **{code: "off"}))
    assert [one for one in quiet.codes() if one != "Z01"] == [one for one in before if one not in (code, "Z01")]


# What is told


@pytest.mark.parametrize("situation", SPOKEN)
def test_messages_are_whole_sentences_about_a_field(situation: Any) -> None:
    for one in situation.verdict().fired:
        assert one.message.endswith((".", ")."))
        assert not re.search(r"[{}\n]|  |None|\bset\(", one.message), one.message
        assert one.field or one.code in ("Z55", "Z56", "Z57")
        assert all(isinstance(value, str) for value in one.values.values())


def test_the_message_holds_the_values() -> None:
    verdict = verdict_on(edit(SOUND, ("<P_15>153.75", "<P_15>1160.00")))
    assert verdict.fired[0].message == "Kwota należności 1\u00a0160,00 nie zgadza się z sumą netto i VAT (153,75)."
    assert verdict.fired[0].values == {"p15": "1\u00a0160,00", "suma": "153,75"}
    late = verdict_on(SOUND, invoicing_at=ACCEPTED - timedelta(days=1)).fired[0]
    assert late.message == "Data wystawienia 2026-11-20 jest o 1 dzień późniejsza niż data przyjęcia w KSeF."
    assert late.severity == "W"
    old = verdict_on(SOUND, invoicing_at=ACCEPTED + timedelta(days=30)).fired[0]
    assert old.message == "Data wystawienia 2026-11-20 jest o 30 dni wcześniejsza niż data przyjęcia w KSeF."
    assert old.severity == "I"


def test_foreign_text_cannot_spoil_a_message() -> None:
    name = "A{nip}\u202e" + "x" * 300
    verdict = verdict_on(bought(buyer_nip=STRANGER, buyer_name=name))
    message = verdict.fired[0].message
    assert verdict.fired[0].code == "Z01"
    assert "A{nip}\\u202e" in message
    assert len(message) < 250


def test_it_goes_into_json_and_nothing_into_its_repr() -> None:
    verdict = verdict_on(bought(nip=STRANGER, seller_name="Jan Kowalski"))
    told = json.loads(json.dumps(verdict.as_json(), ensure_ascii=False))
    assert told == {
        "verdict": "do wyjaśnienia",
        "fired": [
            {
                "code": "Z13",
                "severity": "W",
                "message": f"Nieznany sprzedawca Jan Kowalski (NIP {STRANGER}) – brak na liście dostawców.",
                "field": "Podmiot1/DaneIdentyfikacyjne/NIP",
                "values": {"nazwa": "Jan Kowalski", "nip": STRANGER},
            }
        ],
    }
    shown = repr(verdict) + repr(told_of(SOUND)) + repr(FULL) + repr(stored(1))
    assert "Kowalski" not in shown
    assert SELLER not in shown
    assert ACCOUNT not in shown


def test_an_account_is_shown_by_its_last_four_digits_only() -> None:
    wrong = "62" + OTHER_ACCOUNT[2:]
    verdict = verdict_on(edit(SOUND, (ACCOUNT, wrong)))
    assert codes(verdict) == ["Z46", "Z47"]
    assert "…5387" in verdict.fired[0].message
    assert OTHER_ACCOUNT[-6:] not in json.dumps(verdict.as_json())


def test_a_check_fires_a_few_times_at_most() -> None:
    content = SOUND
    for number in range(30):
        content = third(content, f"<NIP>526025{number:04}</NIP>", "<Rola>6</Rola>")
    assert codes(verdict_on(content)).count("Z53") == 10


# What is not known


@pytest.mark.parametrize("situation", SPOKEN)
def test_knowing_nothing_what_needs_knowledge_is_silent(situation: Any) -> None:
    blank = replace(situation, knowledge=Knowledge(), archive=Shelf())
    assert not set(blank.codes()) & set(NEEDS_KNOWLEDGE)


def test_without_metadata_nothing_is_compared_with_them() -> None:
    found = judge(read_received(edit(SOUND, ("<P_15>153.75", "<P_15>160.00"))), None, FULL, NoArchive(), now=NOW)
    assert codes(found) == ["Z32"]
    assert codes(judge(read_received(b""), None, FULL, NoArchive(), now=NOW)) == ["Z57"]


def test_the_archive_is_asked_nothing_of_a_sound_invoice_that_names_no_other() -> None:
    assert codes(judge(read_received(SOUND), told_of(SOUND), FULL, NoArchive(), now=NOW)) == []


def test_our_own_sale_is_noted_and_only_its_file_is_examined() -> None:
    sale = bought(nip=US, buyer_nip=STRANGER, buyer_name="Klient")
    verdict = verdict_on(edit(sale, ("<P_15>153.75", "<P_15>160.00")), roles={"seller"})
    assert (verdict.verdict, codes(verdict)) == ("zasadna", ["Z09"])
    assert codes(verdict_on(sale, roles={"seller"}, sha256_hex="0" * 64)) == ["Z09", "Z55"]
    # Sold to ourselves it is a purchase as well.
    assert "Z10" in codes(verdict_on(bought(nip=US), roles={"seller", "buyer"}))


def test_of_two_taken_at_once_with_one_number_the_second_by_ksef_number_is_blamed() -> None:
    def is_blamed(other: int) -> bool:
        return "Z29" in codes(verdict_on(SOUND, archive=Shelf((stored(other, "FV/1/2026", accepted_at=ACCEPTED),))))

    assert told_of(SOUND).ksef_number == ksef_number(77)
    assert (is_blamed(76), is_blamed(78)) == (True, False)


def test_the_same_goes_in_and_the_same_comes_out() -> None:
    content = edit(with_wz(SOUND, "WZ/1/2026"), ("<P_15>153.75", "<P_15>160.00"))
    assert verdict_on(content) == verdict_on(content)


# Other forms


@pytest.mark.parametrize("form", ["FA(2)", "FA_RR(1)", "PEF(3)"])
def test_other_forms_are_judged_only_by_what_applies_to_them(form: str) -> None:
    files = sample_files(form)
    if not files:
        pytest.skip("the third-party samples are not there")
    fictitious = {"Z11", "Z12", "Z53", "Z04", "Z45"}
    for path in files:
        content = path.read_bytes()
        received = read_received(content)
        knowledge = Knowledge(nips=frozenset(filter(None, (received.buyer.nip,))), names=(received.buyer.name,))
        told = told_of(content, invoicing_at=None)
        found = codes(judge(received, told, knowledge, NoArchive(), now=NOW))
        assert set(found) <= fictitious, path.name


PEF = f"""<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
 xmlns:a="urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
 xmlns:b="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">
 <b:ID>FV/1/2026</b:ID><b:IssueDate>2026-11-20</b:IssueDate><b:InvoiceTypeCode>380</b:InvoiceTypeCode>
 <b:DocumentCurrencyCode>PLN</b:DocumentCurrencyCode>
 <a:AccountingSupplierParty><a:Party><a:PartyTaxScheme><b:CompanyID>PL{SELLER}</b:CompanyID></a:PartyTaxScheme>
 </a:Party></a:AccountingSupplierParty>
 <a:AccountingCustomerParty><a:Party><a:PartyTaxScheme><b:CompanyID>PL{US}</b:CompanyID></a:PartyTaxScheme>
 </a:Party></a:AccountingCustomerParty>
 <a:LegalMonetaryTotal><b:PayableAmount currencyID="PLN">123.00</b:PayableAmount></a:LegalMonetaryTotal>
</Invoice>""".encode()


def test_a_pef_is_known_again_by_its_kind_in_either_wording() -> None:
    for kind, expected in (("VatPef", ["Z29"]), ("380", ["Z29"]), ("KorPef", ["Z30"])):
        archive = Shelf((stored(1, "FV/1/2026", invoice_type=kind),))
        assert codes(verdict_on(PEF, archive=archive, invoice_type="VatPef")) == expected


def test_of_a_pef_without_the_buyers_number_ksef_says_who_bought() -> None:
    nameless = PEF.replace(f"<b:CompanyID>PL{US}</b:CompanyID>".encode(), b"")
    assert codes(verdict_on(nameless, buyer_id_type="Nip", buyer_id_value=US)) == []
    assert codes(verdict_on(nameless, buyer_id_type="Nip", buyer_id_value=STRANGER)) == ["Z01"]


# The real samples of FA(3) that their authors meant as sound, and what is nevertheless true of them.
TRUE_OF_SAMPLES = {
    "fa3__fop__obciazeniowa_FA_3_obciazeniowa.xml": {"Z34", "Z47"},  # one line of 738.21, a sum of 12,948.01
    "fa3__fop__obciazeniowa_FA_3_obciazeniowa_rozliczona.xml": {"Z34", "Z47"},
    "fa3__fop__podstawowa_FA_3_complex.xml": {"Z37", "Z47"},  # P_13_7 and P_19N=1
    "fa3__fop__podstawowa_FA_3_Przyklad_4_EUR.xml": {"Z40"},  # delivered a year before
    "fa3__fop__zalacznik_FA_3_Zalacznik_Przyklad_2.xml": {"Z47", "Z57"},  # letters encoded twice
    "fa3__fop__zaliczkowa_FA_3_Przyklad_1.xml": {"Z38"},  # split payment in cash
    "fa3__ksef2__FA_3_Przyklad_21.xml": {"Z22"},  # the buyer's GLN is "a"
    "fa3__ksef2__Fa_3_Przyklad_20.xml": {"Z22"},
    "fa3__ksefuj__05-jst1-without-podmiot3.xml": {"Z17"},
    "fa3__ksefuj__17-gv1-without-podmiot3.xml": {"Z18"},
    "fa3__ksefuj__21-wrong-tax-calculation.xml": {"Z33"},
    "fa3__ksefuj__korekty_0.xml": {"Z42"},  # the original's number is another seller's
    "fa3__java__sample_invoice-template-fa-3-with-custom-subject_2.xml": {"Z17"},
}


def test_nothing_untrue_is_said_of_the_valid_samples() -> None:
    files = [path for path in sample_files() if "TemplateTest" not in path.name and "NumericFormat" not in path.name]
    if not files:
        pytest.skip("the third-party samples are not there")
    for path in files:
        content = path.read_bytes()
        received = read_received(content)
        knowledge = Knowledge(nips=frozenset(filter(None, (received.buyer.nip,))), names=(received.buyer.name,))
        found = set(codes(judge(received, told_of(content, invoicing_at=None), knowledge, NoArchive(), now=NOW)))
        # Their NIPs are made up; the templates of the official clients deliver in January what they issue in autumn.
        found -= {"Z11", "Z12", "Z53"} | ({"Z40"} if "Templates_" in path.name or "__java__" in path.name else set())
        assert found == TRUE_OF_SAMPLES.get(path.name, set()), path.name


def test_every_sample_is_judged_under_every_knowledge() -> None:
    files = [path for form in ("FA(3)", "FA(2)", "FA_RR(1)", "PEF(3)") for path in sample_files(form, valid=None)]
    if not files:
        pytest.skip("the third-party samples are not there")
    for path in files:
        content = path.read_bytes()
        for knowledge in (Knowledge(), FULL, knowing(order_required=True, delivery_required=True)):
            assert json.dumps(verdict_on(content, knowledge, EVERYTHING).as_json())


# Whatever comes


class _Everything(Shelf):
    """An archive that has something, half empty, for every question."""

    def numbered(self, seller_nip: str, number_keys: Any) -> Any:
        return [stored(1, issue_date=None, gross=None, accepted_at=None), stored(2, "", buyer_nip="")]

    def filed(self, ksef_numbers: Any) -> Any:
        return [stored(number, gross=gross) for number, gross in ((500, None), (501, Decimal("-1E+17")))]

    def delivered(self, seller_nip: str, delivery_keys: Any, since: date) -> Any:
        return [stored(3, issue_date=None, gross=Decimal("153.75"))]

    def alike(self, seller_nip: str, likeness: str, since: date) -> Any:
        return [stored(4, issue_date=None)]

    def corrections(self, ksef_number: str) -> Any:
        return [stored(5, gross=None), stored(6, gross=Decimal("9E+17"))]

    def settlements(self, ksef_numbers: Any) -> Any:
        return [stored(7, keys=frozenset(ksef_numbers))]

    def accounts(self, seller_nip: str, before: datetime | None) -> frozenset[str]:
        return frozenset(("",))


EVERYTHING = _Everything(complete_since=date(1, 1, 1))
_RICH = described(
    with_wz(
        third(
            correction_of(SOUND, ksef_number=ksef_number(500)),
            f"<IDWew>{US}-00017</IDWew>",
            "<AdresKoresp><KodKraju>PL</KodKraju><AdresL1>x</AdresL1><GLN>5901234123457</GLN></AdresKoresp><Rola>2</Rola>",
        ).replace(b"<P_13_1>", b"<P_6>2026-11-20</P_6><P_13_1>"),
        "WZ/1/2026",
    ),
    "Nr sklepu",
    "7",
)
_LEAF = re.compile(rb">([^<>]+)</(\w+)>")
_NASTY = st.one_of(
    st.sampled_from(
        [
            *("", " ", "0", "-0", "1E30", "99999999999999999999999999999999.99", "NaN", "1e-30", "0001-01-01"),
            *("9999-12-31", "VAT", "KOR", "ROZ", "1", "2", "8", "https://[", "www.", "a@b", "http://" + "x" * 400),
            *("\u202e", "-" * 40, "5" * 26, "PL" * 20, "{0}", "%s", "(00)123456789012345678"),
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="<>&"), max_size=40),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), _NASTY), min_size=1, max_size=8), st.sampled_from((SOUND, _RICH)))
def test_no_value_of_any_field_makes_it_fail(changes: list[tuple[int, str]], content: bytes) -> None:
    for place, value in changes:
        leaves = list(_LEAF.finditer(content))
        leaf = leaves[place % len(leaves)]
        content = content[: leaf.start(1)] + value.encode() + content[leaf.end(1) :]
    for knowledge in (FULL, replace(knowing(order_required=True, store_supplier=True), environment="test")):
        json.dumps(verdict_on(content, knowledge, EVERYTHING).as_json())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 3000))
def test_no_damage_to_the_file_makes_it_fail(dirt: bytes, at: int) -> None:
    verdict_on(_RICH[:at] + dirt + _RICH[at + len(dirt) :], FULL, EVERYTHING)
    verdict_on(_RICH[:at], FULL, EVERYTHING)


# The rulebook


def test_the_rulebook_becomes_knowledge() -> None:
    rulebook = Rulebook(
        stores=STORES,
        company=Company(
            nips=(STRANGER,),
            names=("Pod Dębem",),
            headquarters=("ul. Główna 1, 00-950 Warszawa",),
            glns=("5900000000008",),
            payment_hosts=("Pay.Example",),
            late_days=3,
        ),
        suppliers=(Supplier(SELLER, accounts=(ACCOUNT,)),),
        checks={"Z39": "error"},
    )
    known = knowledge_of(rulebook, US, environment="test", deliveries=reference_forms("WZ 8000000001"))
    assert known.nips == {US, STRANGER}
    assert known.all_glns == {"5900000000008", "5901234123457", "5907690000004"}
    assert known.all_idwews == {f"{US}-00017"}
    assert known.payment_hosts == {"pay.example"}
    assert known.deliveries == {"8000000001"}
    assert codes(verdict_on(SOUND, known, invoicing_at=ACCEPTED + timedelta(days=4))) == ["Z39"]
    assert verdict_on(SOUND, known, invoicing_at=ACCEPTED + timedelta(days=4)).verdict == "niezasadna"
    assert verdict_on(SOUND, knowledge_of(Rulebook(), US)).fired == ()


# Numbers, names, links


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Pod Dębem sp. z o.o.", "POD DEBEM SPÓŁKA Z OGRANICZONĄ ODPOWIEDZIALNOŚCIĄ", True),
        ("Pod Dębem S.A.", "„Pod Dębem” Spółka Akcyjna w likwidacji", True),
        ("Pod Dębem sp. z o.o. sp.k.", "Dębem Pod", True),
        ("Pod Dębem", "Pod Debme", True),
        ("Pod Dębem", "Pod Dębem sp. z o.o. Oddział w Gdańsku, Magazyn Centralny Artykułów Spożywczych", True),
        ("Pod Dębem sp. z o.o.", "Pod Lipą sp. z o.o.", False),
        ("Sklepy ABC sp. z o.o.", "Hurtownia Nabiału XYZ sp. z o.o.", False),
    ],
)
def test_names_are_alike_whatever_the_legal_form(one: str, other: str, alike: bool) -> None:
    assert (name_similarity(one, other) >= 60) is alike
    assert name_similarity(one, other) == name_similarity(other, one)


def test_a_name_of_nothing_but_a_legal_form_keeps_it() -> None:
    assert company_words("Spółka Akcyjna") == ("spolka", "akcyjna")
    assert name_similarity("", "Pod Dębem") == 0


def test_numbers_spelled_otherwise_have_one_key() -> None:
    assert number_key("FV 1/2026") == number_key("fv1 / 2026") == number_key("FV\u00a01/2026\u200b")
    assert number_key("FV\u20131/2026") == number_key("FV-1/2026")
    assert len({number_key(number) for number in ("1/11", "11/1", "111", "01/11", "1.11")}) == 5


def test_a_slip_is_one_digit_or_two_that_changed_places() -> None:
    assert is_slip_of("5265877645", "5265877635")
    assert is_slip_of("5265877653", "5265877635")
    assert not is_slip_of("5265877635", "5265877635")
    assert not is_slip_of("5265877646", "5265877635")
    assert not is_slip_of("526587763", "5265877635")


def test_accounts_are_known_by_any_spelling_and_checked_when_polish() -> None:
    assert account_key("PL61 1090-1014 0000 0712 1981 2874") == ACCOUNT
    assert account_key("de89 3704 0044 0532 0130 00") == "DE89370400440532013000"
    assert nrb_ok(ACCOUNT)
    assert not nrb_ok("62" + ACCOUNT[2:])
    assert not is_polish_account("DE89370400440532013000")


def test_the_last_digit_of_an_internal_identifier() -> None:
    assert internal_id_digit_ok("6824515772-12343")  # The ministry's own answer (FA3-FIELDS §1).
    assert not internal_id_digit_ok("5265877635-12345")  # The documentation's example, which is wrong.
    assert not internal_id_digit_ok("6824515772-1234")


@pytest.mark.parametrize(
    ("url", "disguised"),
    [
        ("https://secure.przelewy24.pl/x", False),
        ("www.hurtownia.pl", False),
        ("https://żółw.pl/", False),
        ("https://bit.ly/abc", True),
        ("https://192.168.0.1/p", True),
        ("https://[::1]/p", True),
        ("https://przelewy24.pl@evil.example/", True),
        ("https://xn--przelewy24-abc.pl/", True),
        ("https://ksef.gov.pl.evil.example/", True),
        ("https://podatki-gov.pl/", True),
        ("https://ksef.podatki.gov.pl/", False),
        ("https://[", True),
    ],
)
def test_links_that_hide_where_they_lead(url: str, disguised: bool) -> None:
    assert is_disguised(url) is disguised
    assert host_of(url) == host_of(url).lower()


def test_deliveries_have_keys_where_a_field_says_so() -> None:
    content = described(with_wz(SOUND, "WZ nr 12/2026/M1", "7"), "Numer awiza", "awizo 80012345")
    assert delivery_keys(read_received(content)) == ("12/2026/M1", "80012345")
    assert reference_forms("WZ 0080012345") == {"0080012345", "80012345"}


def test_likeness_is_of_the_sale_not_of_its_paper() -> None:
    def of(content: bytes) -> str:
        return likeness(read_received(content))

    assert of(SOUND) == of(bought("FV/2/2026"))
    assert of(SOUND) != of(bought(seed=5, buyer_name="Inna"))
    assert of(SOUND) != of(described(SOUND, "Nr sklepu", "8"))
    assert of(b"") == ""
    assert len(of(SOUND)) == 64


def test_the_list_is_whole() -> None:
    assert len(CATALOGUE) == 57
    assert [code for code, check in CATALOGUE.items() if check.severity == "N"] == [
        *("Z01", "Z03", "Z04", "Z05", "Z09", "Z10", "Z14", "Z29", "Z43", "Z55", "Z56")
    ]
    assert [code for code, check in CATALOGUE.items() if check.severity == "I"] == [
        *("Z08", "Z16", "Z20", "Z30", "Z50", "Z52", "Z53")
    ]


def test_of_many_originals_some_are_asked_for_and_ten_named() -> None:
    asked: list[int] = []

    class Counting(Shelf):
        def filed(self, ksef_numbers: Any) -> Any:
            asked.append(len(ksef_numbers))
            return ()

    one = b"<DaneFaKorygowanej>" + correction_of(SOUND, ksef_number=ksef_number(500)).split(b"<DaneFaKorygowanej>")[1]
    one = one[: one.index(b"</DaneFaKorygowanej>") + len(b"</DaneFaKorygowanej>")]
    many = correction_of(SOUND, ksef_number=ksef_number(500)).replace(one, one * 3000)
    found = codes(verdict_on(many, archive=Counting(complete_since=date(2026, 2, 1))))
    assert found == ["Z42"] * 10
    assert max(asked) == 100
