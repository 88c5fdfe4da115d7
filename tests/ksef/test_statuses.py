"""The tables of FACTS §4.2 and §4.3."""

from __future__ import annotations

import pytest

from ksefbuffer.ksef.statuses import (
    Verdict,
    hint_for,
    invoice_verdict,
    session_closed,
    session_final,
    session_has_upo,
    session_hint_for,
)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (100, Verdict.PENDING),
        (150, Verdict.PENDING),
        (170, Verdict.PENDING),
        (199, Verdict.PENDING),
        (200, Verdict.ACCEPTED),
        (405, Verdict.RESEND),
        (410, Verdict.REFUSED),
        (415, Verdict.REFUSED),
        (430, Verdict.REFUSED),
        (435, Verdict.RESEND_ONCE),
        (440, Verdict.DUPLICATE),
        (450, Verdict.REFUSED),
        (499, Verdict.REFUSED),
        (500, Verdict.UNCERTAIN),
        (550, Verdict.UNCERTAIN),
        (201, Verdict.UNCERTAIN),
        (300, Verdict.UNCERTAIN),
        (0, Verdict.UNCERTAIN),
        (-1, Verdict.UNCERTAIN),
        (599, Verdict.UNCERTAIN),
    ],
)
def test_what_an_invoice_code_obliges_us_to(code: int, verdict: Verdict) -> None:
    assert invoice_verdict(code) is verdict
    assert hint_for(code).endswith(".")


@pytest.mark.parametrize(
    ("code", "closed", "final", "upo"),
    [
        (100, False, False, False),
        (150, True, False, False),
        (170, True, False, False),
        (199, False, False, False),
        (200, True, True, True),
        (210, False, False, False),
        (405, True, True, False),
        (415, True, True, False),
        (440, True, True, False),
        (445, True, True, False),
        (500, True, True, False),
    ],
)
def test_what_a_session_code_lets_us_conclude(code: int, closed: bool, final: bool, upo: bool) -> None:
    assert (session_closed(code), session_final(code), session_has_upo(code)) == (closed, final, upo)
    assert session_hint_for(code).endswith(".")
