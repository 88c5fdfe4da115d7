from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ksefbuffer.sandbox.numbers import KSEF_NUMBER, crc8, internal_id_holds, ksef_number, nip_holds, reference


@pytest.mark.parametrize(
    "number",
    [
        "5265877635-20250826-0100001AF629-AF",
        "5265877635-20250916-0200A0D6723E-C2",
        "7335255579-20251210-010060EFFF52-72",
        "5251469286-20251002-0100E0A0B174-4B",
    ],
)
def test_the_check_digits_of_published_ksef_numbers(number: str) -> None:
    assert crc8(number[:32]) == number[-2:]


def test_a_ksef_number_bears_the_polish_date() -> None:
    number = ksef_number("5265877635", datetime(2026, 11, 20, 23, 30, tzinfo=UTC), "0123456789AB")
    assert number.startswith("5265877635-20261121-0123456789AB-")
    assert KSEF_NUMBER.fullmatch(number)
    assert len(number) == 35


def test_a_reference_has_36_characters() -> None:
    assert len(reference("SO", datetime(2026, 1, 2, tzinfo=UTC), "0" * 20)) == 36


def test_nips_and_internal_ids_are_checked_by_their_digits() -> None:
    assert nip_holds("5265877635")
    assert nip_holds("5260250274")
    assert not nip_holds("5265877636")
    assert not nip_holds("0000000000")
    assert not nip_holds("PL5265877635")
    assert internal_id_holds("6824515772-12343")
    assert not internal_id_holds("6824515772-12345")
