from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksefbuffer.ksef import crypto
from ksefbuffer.ksef.shapes import SessionKey, Unreadable
from tests.ksef.fake import START, Clock, FakeKsef, _key_material, oaep, open_aes


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_a_ciphertext_has_the_size_of_the_formula_and_no_iv_before_it(plain: bytes, key: bytes, iv: bytes) -> None:
    sealed = crypto.encrypt(SessionKey(key, iv), plain)
    assert len(sealed) == (len(plain) // 16 + 1) * 16
    assert open_aes(key, iv, sealed) == plain


@pytest.mark.parametrize(("plain", "sealed"), [(6480, 6496), (0, 16), (16, 32), (16037, 16048), (1_000_000, 1_000_016)])
def test_the_sizes_in_the_documents_of_ksef_come_out(plain: int, sealed: int) -> None:
    assert len(crypto.encrypt(crypto.new_session_key(), b"x" * plain)) == sealed


def test_a_session_key_is_fresh_and_never_shown() -> None:
    first, second = crypto.new_session_key(), crypto.new_session_key()
    assert (len(first.key), len(first.iv)) == (32, 16)
    assert first.key != second.key
    assert first.iv != second.iv
    assert repr(first) == "SessionKey()"


def test_a_wrapped_secret_opens_with_oaep_sha256_only(fake: FakeKsef) -> None:
    [key] = crypto.read_public_keys([fake.public_key("key-1")])
    assert oaep(_key_material("key-1")[0], crypto.wrap(key, b"secret")) == b"secret"


def test_hashes_are_padded_standard_base64() -> None:
    assert crypto.sha256_b64(b"") == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert crypto.hex_of_b64_hash("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").startswith("e3b0c442")
    for bad in ("", "47DEQpj8HBSa", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=", "ł"):
        with pytest.raises(ValueError):
            crypto.hex_of_b64_hash(bad)


def test_the_key_that_came_last_and_is_valid_now_is_chosen(fake: FakeKsef) -> None:
    listing = [
        fake.public_key("key-1", publicKeyId="old", validFrom="2026-01-01T00:00:00Z"),
        fake.public_key("key-1", publicKeyId="newest", validFrom="2026-11-19T00:00:00.1234567Z"),
        fake.public_key("key-1", publicKeyId="future", validFrom="2026-11-21T00:00:00Z"),
        fake.public_key("key-1", publicKeyId="past", validFrom="2026-11-19T00:00:00Z", validTo="2026-11-19T12:00:00Z"),
        fake.public_key("key-1", publicKeyId="tokens", validFrom="2026-11-20T00:00:00Z", usage=["KsefTokenEncryption"]),
    ]
    keys = crypto.read_public_keys(listing)
    chosen = crypto.choose(keys, crypto.FOR_SESSIONS, START)
    assert chosen is not None
    assert chosen.identifier == "newest"
    assert crypto.choose(keys, "Other", START) is None
    assert crypto.choose(keys, crypto.FOR_SESSIONS, START - timedelta(days=4000)) is None


def test_an_unknown_kind_of_key_is_left_out_and_a_missing_id_is_computed(fake: FakeKsef) -> None:
    entry = fake.public_key("key-1")
    identifier = entry.pop("publicKeyId")
    odd = [None, 5, {}, {"certificate": "%%%"}, {"certificate": base64.b64encode(b"junk").decode()}]
    [key] = crypto.read_public_keys([*odd, {**entry, "nowe": 1}])
    assert key.identifier == identifier
    for useless in ([], {}, "text", None, odd):
        with pytest.raises(Unreadable):
            crypto.read_public_keys(useless)


def test_keys_are_kept_for_a_day_and_fetched_anew_when_told(fake: FakeKsef, clock: Clock) -> None:
    fetched = []

    def fetch() -> tuple[crypto.PublicKey, ...]:
        fetched.append(clock.now)
        return crypto.read_public_keys([fake.public_key("key-1")])

    keys = crypto.PublicKeys(fetch, clock)
    for _ in range(3):
        assert keys.of(crypto.FOR_SESSIONS) is not None
    assert len(fetched) == 1
    clock.now += timedelta(hours=23, minutes=59)
    keys.of(crypto.FOR_TOKENS)
    assert len(fetched) == 1
    clock.now += timedelta(minutes=1)
    keys.of(crypto.FOR_TOKENS)
    assert len(fetched) == 2
    keys.forget()
    keys.of(crypto.FOR_TOKENS)
    assert len(fetched) == 3
    assert keys.of("Unheard") is None
