"""What may be shown of an address: never a password, a token or a user."""

from __future__ import annotations

import pytest

from ksefbuffer.notify.places import place_of, places_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mailto://jan:tajne@poczta.example.pl:587?to=a&from=b", "mailto://poczta.example.pl"),
        ("mailtos://jan:tajne@gmail.com", "mailtos://gmail.com"),
        ("json://jan:tajne@127.0.0.1:8080/tajne?tajne=1", "json://127.0.0.1"),
        ("JSONS://ERP.Example.pl/tajne", "jsons://erp.example.pl"),
        ("jsons://localhost/tajne", "jsons://localhost"),
        ("workflows://prod.logic.azure.com:443/tajne/tajne", "workflows://prod.logic.azure.com"),
        # Where the host would stand there is a token.
        ("tgram://123456789:tajne/12315544", "tgram://…"),
        ("slack://tajneA/tajneB/tajneC/kanal", "slack://…"),
        ("discord://tajne.tajne/tajne", "discord://…"),
        ("ntfy://tajny.temat", "ntfy://…"),
        # A sign of the password that should have been written as %xx cuts the address in another place.
        ("mailto://jan.tajny:ha/slo@example.pl", "mailto://…"),
        ("mailto://jan.tajny:ha?slo@example.pl", "mailto://…"),
        ("mailto://jan.tajny:ha#slo@example.pl", "mailto://…"),
        ("mailto://jan:@tajne.haslo/x@example.pl", "mailto://…"),
        ("mailto://jan:tajne@example.pl?from=x@example.pl", "mailto://…"),
        ("json://tajne", "json://…"),
        ("json://[tajne/x", "json://…"),
        ("json://" + "tajne." * 40 + "pl", "json://…"),
        ("to jest tajne://x", "?://…"),
    ],
)
def test_a_place_is_an_address_without_its_secrets(url: str, shown: str) -> None:
    assert place_of(url) == shown


def test_addresses_that_look_alike_are_numbered_and_none_is_lost() -> None:
    urls = ["tgram://1:a/2", "json://a.pl/1", "tgram://3:b/4", "json://a.pl/2", "tgram://5:c/6"]
    found = places_of(urls)
    assert list(found) == ["tgram://…", "json://a.pl", "tgram://… (2)", "json://a.pl (2)", "tgram://… (3)"]
    assert list(found.values()) == urls


def test_a_place_fits_its_column() -> None:
    assert len(place_of("workflows://" + "a" * 60 + ".example.pl/x")) < 110
