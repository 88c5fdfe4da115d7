from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.invoice import identifiers as ids


@pytest.mark.parametrize("nip", ["5265877635", "5260250274", "1111111111", "9999999999"])
def test_a_nip_with_a_right_check_digit_is_taken(nip: str) -> None:
    assert ids.is_nip(nip)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5265877636", "526587763", "52658776355", "PL5265877635", "526-587-76-35", "0000000000", "1234567890"),
        *("5265877635 ", "٥٢٦٥٨٧٧٦٣٥", "526587763a", "5265877635\n"),
    ],
)
def test_anything_else_is_no_nip(text: str) -> None:
    assert not ids.is_nip(text)


@given(st.integers(0, 9), st.integers(1, 9))
def test_one_wrong_digit_of_a_nip_is_always_noticed(place: int, shift: int) -> None:
    digits = list("5265877635")
    digits[place] = str((int(digits[place]) + shift) % 10)
    assert not ids.is_nip("".join(digits))


def test_nips_that_people_make_up_are_told_apart() -> None:
    assert ids.is_made_up_nip("1111111111")
    assert ids.is_made_up_nip("1234563218")
    assert not ids.is_made_up_nip("5265877635")
    assert not ids.is_made_up_nip("2222222223")


@pytest.mark.parametrize(
    "number",
    [
        "5265877635-20250826-0100001AF629-AF",
        "5265877635-20250916-0200A0D6723E-C2",
        "5265877635-20250916-020000583241-84",
        "7335255579-20251210-010060EFFF52-72",
        "5251469286-20251002-0100E0A0B174-4B",
    ],
)
def test_ksef_numbers_seen_in_the_wild_are_right(number: str) -> None:
    assert ids.ksef_number_ok(number)
    assert ids.is_ksef_number_shape(number)
    assert ids.crc8(number[:32]) == number[33:]
    swapped = number[:20] + number[21] + number[20] + number[22:]
    assert swapped == number or not ids.ksef_number_ok(swapped)


def test_a_number_of_ksef_1_has_the_shape_but_no_checksum() -> None:
    number = "7781464139-20230721-80B510-9675F7-B5"
    assert ids.is_ksef_number_shape(number)
    assert not ids.ksef_number_ok(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5265877635-20250826-0100001af629-AF",
        "5265877635-20251326-0100001AF629-AF",
        "5265877635-20250826-0100001AF629",
        "5265877635-20250826-0100001AF629-AF\n",
    ],
)
def test_what_does_not_look_like_a_ksef_number_is_refused(text: str) -> None:
    assert not ids.is_ksef_number_shape(text)
    assert not ids.ksef_number_ok(text)


def test_an_internal_id_needs_a_right_nip_and_a_right_last_digit() -> None:
    assert ids.internal_id_ok("6824515772-12343")
    assert not ids.internal_id_ok("5265877635-12345")
    assert not ids.internal_id_ok("6824515773-12343")
    assert not ids.internal_id_ok("6824515772-1234")


def test_whitespace_collapses_as_xsd_says() -> None:
    assert ids.collapse(" a  b\t\r\nc ") == "a b c"
    assert ids.collapse("a\u00a0 b") == "a\u00a0 b"
    assert ids.collapse("\ta") == "a"
    assert ids.collapse("a b") == "a b"


@given(st.text(alphabet=" \t\r\nab"))
def test_collapsing_twice_changes_nothing(text: str) -> None:
    once = ids.collapse(text)
    assert ids.collapse(once) == once
    assert once.split() == text.split()
    assert "  " not in once


def test_spaces_do_not_make_another_invoice_number() -> None:
    assert ids.business_key("5265877635", "VAT", " FV  1/2026") == ids.business_key("5265877635", "VAT", "FV 1/2026")
    assert ids.business_key("5265877635", "VAT", "FV 1") != ids.business_key("5265877635", "KOR", "FV 1")


@given(st.binary())
def test_hashes_convert_both_ways(content: bytes) -> None:
    assert ids.sha256_hex(content) == hashlib.sha256(content).hexdigest()
    assert ids.b64_of_hex(ids.sha256_hex(content)) == ids.sha256_b64(content)
    assert ids.hex_of_b64(ids.sha256_b64(content)) == ids.sha256_hex(content)


def test_text_that_is_no_base64_is_refused() -> None:
    with pytest.raises(ValueError):
        ids.hex_of_b64("nie!")
