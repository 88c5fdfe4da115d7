"""The real samples: what the check says of each has been judged by reading the sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksefbuffer.invoice.findings import Severity
from ksefbuffer.invoice.precheck import CheckContext, check
from tests.samples import ISSUE_DATE, NIP, NOW, as_ours, invoice, sample_files

CONTEXT = CheckContext(NIP, "test", NOW)

# Codes besides D09 (issued before today). E09 comes also from as_ours: the corrected invoice keeps its seller's NIP.
EXPECTED = {
    "fa3__csharp__Templates_invoice-template-fa-3-with-custom-Subject2.xml": "B08 E16",
    "fa3__csharp__Templates_invoice-template-fa-3-with-custom-Subject2_1.xml": "E07",
    "fa3__csharp__assets_invoice.xml": "E26",
    "fa3__fop__NumericFormatTest_row.xml": "E03 E10 E18 E22 F12",
    "fa3__fop__NumericFormatTest_row_max_precision.xml": "E03 E10 E18 E22 F12",
    "fa3__fop__NumericFormatTest_tax_summary.xml": "E03 E15 E23 E27",
    "fa3__fop__OrderSectionTemplateTest_advance.xml": "E03",
    "fa3__fop__OrderSectionTemplateTest_basic.xml": "E03 E22",
    "fa3__fop__OrderSectionTemplateTest_correction.xml": "E09 E11",
    "fa3__fop__OrderSectionTemplateTest_correction_stan_przed.xml": "E09 E11",
    "fa3__fop__OrderSectionTemplateTest_no_order.xml": "E03 E16 E22",
    "fa3__fop__OrderSectionTemplateTest_order_before_only.xml": "E03 E09 E11",
    "fa3__fop__OrderSectionTemplateTest_order_correction.xml": "E03 E09 E11",
    "fa3__fop__OrderSectionTemplateTest_settlement.xml": "E03 E15",
    "fa3__fop__PodmiotTemplateTest_minimal_3_parties.xml": "E03 E22",
    "fa3__fop__PodmiotTemplateTest_multiple_roles.xml": "D02 E03 E05 E06 E22",
    "fa3__fop__RozliczenieTemplateTest_do_rozliczenia.xml": "E03 E15",
    "fa3__fop__obciazeniowa_FA_3_obciazeniowa.xml": "E19 F05 F06",
    "fa3__fop__obciazeniowa_FA_3_obciazeniowa_rozliczona.xml": "E19 F05 F06",
    "fa3__fop__podstawowa_FA_3_Przyklad_3_netto_brutto.xml": "E17 E26 F11 F13",
    "fa3__fop__podstawowa_FA_3_Przyklad_4_EUR.xml": "E26 F05 F11 F13",
    "fa3__fop__podstawowa_FA_3_complex.xml": "E18 E23 E26 E27 F05",
    "fa3__fop__rozliczeniowa_FA_3_Przyklad_1.xml": "E26 E27 F11",
    "fa3__fop__zalacznik_FA_3_Zalacznik_Przyklad_2.xml": "B07 B08 D06 E16 E26 F05 F08",
    "fa3__fop__zaliczkowa_FA_3_Przyklad_1.xml": "E26 F11",
    "fa3__fop__zaliczkowa_FA_3_Przyklad_2.xml": "E12",
    "fa3__fop__zaliczkowa_FA_3_Przyklad_3.xml": "E12 F05",
    "fa3__java__sample_invoice-template-fa-3-with-custom-subject_2.xml": "E05",
    "fa3__ksef2__FA_3_Przyklad_11.xml": "E09",
    "fa3__ksef2__FA_3_Przyklad_2.xml": "E09",
    "fa3__ksef2__FA_3_Przyklad_21.xml": "F08",
    "fa3__ksef2__FA_3_Przyklad_3.xml": "E09",
    "fa3__ksef2__FA_3_Przyklad_5.xml": "E09",
    "fa3__ksef2__FA_3_Przyklad_6.xml": "E09",
    "fa3__ksef2__FA_3_Przyklad_7.xml": "E09",
    "fa3__ksef2__Fa_3_Przyklad_18.xml": "E09",
    "fa3__ksef2__Fa_3_Przyklad_20.xml": "F08",
    "fa3__ksef2__KSEF_03_ZAL.xml": "E06",
    "fa3__ksef2__KSEF_05_WDT.xml": "E22",
    "fa3__ksef2__KSEF_06_EXP.xml": "E22",
    "fa3__ksef2__KSEF_08_KOR_ZAL_B.xml": "E06 E09",
    "fa3__ksef2__KSEF_09_ROZ_A.xml": "E06",
    "fa3__ksef2__KSEF_10_ROZ_B.xml": "E06",
    "fa3__ksef2__KSEF_11_KOR_ROZ_A.xml": "E06 E09",
    "fa3__ksef2__KSEF_12_KOR_ROZ_B.xml": "E06 E09",
    "fa3__ksefuj__05-jst1-without-podmiot3.xml": "E05",
    "fa3__ksefuj__17-gv1-without-podmiot3.xml": "E05",
    "fa3__ksefuj__21-wrong-tax-calculation.xml": "E20",
    "fa3__ksefuj__24-duplicate-line-numbers.xml": "E17",
    "fa3__ksefuj__25-negative-quantities.xml": "E18",
    "fa3__ksefuj__SKILL_0.xml": "F05",
    "fa3__ksefuj__korekty_0.xml": "E09",
}
REFUSED = {
    "fa3__fop__PodmiotTemplateTest_multiple_roles.xml": {"D02"},
    "fa3__fop__zalacznik_FA_3_Zalacznik_Przyklad_2.xml": {"B07", "D06"},
}


@pytest.fixture(params=sample_files("FA(3)") or [None], ids=lambda file: file.stem if file else "absent")
def sample(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip("../shared/ksef/invoices is not here")
    file: Path = request.param
    return file


def test_a_valid_sample_is_refused_only_for_what_is_really_wrong(sample: Path) -> None:
    report = check(as_ours(sample.read_bytes()), CONTEXT)
    assert {finding.code for finding in report.errors} == REFUSED.get(sample.name, set())


def test_every_doubt_about_a_valid_sample_has_been_judged(sample: Path) -> None:
    report = check(as_ours(sample.read_bytes()), CONTEXT)
    found = {finding.code for finding in report.findings} - {"D09"}
    assert found == set(EXPECTED.get(sample.name, "").split())


def test_samples_that_are_not_ours_are_refused(sample: Path) -> None:
    content = sample.read_bytes()
    report = check(content, CheckContext("5260250274", "test", NOW))
    assert "D01" in {finding.code for finding in report.errors}


@pytest.mark.parametrize(
    "file", sample_files("FA(3)", valid=False) or [None], ids=lambda file: file.stem if file else ""
)
def test_a_broken_sample_is_refused_with_a_line_and_a_hint(file: Path | None) -> None:
    if file is None:
        pytest.skip("../shared/ksef/invoices is not here")
    report = check(as_ours(file.read_bytes()), CONTEXT)
    structural = [finding for finding in report.errors if finding.code in ("B04", "C01", "C03")]
    assert structural
    for finding in structural:
        assert finding.severity is Severity.BLOCK
        assert finding.line
        assert finding.hint


def test_making_a_sample_ours_changes_the_seller_and_a_future_date_only() -> None:
    foreign = invoice(nip="1111111111", issue_date=ISSUE_DATE.replace(year=2027), buyer_nip="2222222222")
    ours = as_ours(foreign)
    assert ours == foreign.replace(b"1111111111", NIP.encode()).replace(b"<P_1>2027-11-20", b"<P_1>2026-11-20")
    assert as_ours(ours) == ours
