"""Goods or costs: the supplier's setting decides, then what the invoice shows; what shows neither is unclear."""

from __future__ import annotations

import pytest

from ksefbuffer.invoice.received import Received, read_received
from ksefbuffer.receiver.kinds import kind_of


def document(fa: str, parties: str = "") -> Received:
    return read_received(
        f'<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/">{parties}<Fa>{fa}</Fa></Faktura>'.encode()
    )


GOODS = "<FaWiersz><P_7>Kawa</P_7><GTIN>5901234123457</GTIN><P_8A>szt.</P_8A></FaWiersz>"
SERVICE = "<FaWiersz><P_7>Prąd</P_7><PKWiU>35.11.10.0</PKWiU><P_8A>kWh</P_8A></FaWiersz>"
PERIOD = "<OkresFa><P_6_Od>2026-10-01</P_6_Od><P_6_Do>2026-10-31</P_6_Do></OkresFa>"


@pytest.mark.parametrize(
    ("received", "kind"),
    [
        (document("<WZ>WZ/1/2026</WZ>" + GOODS), "towar"),
        (document(GOODS), "towar"),
        (document(PERIOD + SERVICE), "koszt"),
        (document(SERVICE), "koszt"),
        (document(GOODS, "<Podmiot3><Rola>11</Rola></Podmiot3>"), "koszt"),
        (document("<FaWiersz><P_7>Coś</P_7></FaWiersz>"), "niejasne"),
        (document(""), "niejasne"),
    ],
)
def test_what_the_invoice_shows(received: Received, kind: str) -> None:
    assert kind_of(received) == kind


def test_what_a_farmer_sells_is_goods() -> None:
    assert kind_of(read_received(b"<Faktura><FakturaRR><P_4C>1</P_4C></FakturaRR></Faktura>")) == "towar"


def test_the_suppliers_setting_decides() -> None:
    assert kind_of(document(GOODS), "koszt") == "koszt"
    assert kind_of(document(PERIOD + SERVICE), "towar") == "towar"
