"""Received invoices put into the database as if pulled and filed, each with an XML that can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ksefbuffer.invoice.received import read_received
from ksefbuffer.queue import incoming
from ksefbuffer.queue.incoming import Incoming, Judgement
from ksefbuffer.web.site import Site
from tests.queue.test_incoming import made
from tests.samples import NIP, a_nip, invoice

SELLER = a_nip(77)


def an_invoice_received(
    site: Site,
    folder: str = "sklepy/7",
    *,
    number: str = "FV/1/2026",
    seller_name: str = "Hurtownia Żółw sp. z o.o.",
    content: bytes | None = None,
    verdict: str = "zasadna",
    fired: Sequence[dict[str, Any]] = (),
    tags: Sequence[str] = (),
    reasons: Sequence[dict[str, Any]] = (),
    **changes: Any,
) -> Incoming:
    """Stored, judged and filed in ``folder``; ``changes`` are columns."""
    if content is None:
        # Its number makes the bytes differ, as KSeF numbers do.
        content = invoice(number, nip=SELLER, buyer_nip=NIP, seller_name=seller_name, lines=2)
    said = read_received(content)
    words = " ".join(incoming.search_words(f"{said.invoice_number} {seller_name} {said.seller.nip} {said.gross}"))
    new = made(
        **{
            "content": content,
            "sha256": hashlib.sha256(content).hexdigest(),
            "invoice_number": said.invoice_number or number,
            "issue_date": said.issue_date,
            "seller_nip": said.seller.nip[:16],
            "seller_name": seller_name,
            "gross": said.gross,
            "search": words,
            **changes,
        }
    )
    why = list(reasons) or [
        {"rule": "sklepy", "condition": "sklep: podane", "field": "store", "value": "7", "where": "Podmiot3"}
    ]
    judgement = Judgement(folder, list(tags), why, "", 1, verdict, list(fired))
    with site.database.transaction() as tx:
        (row_id,) = incoming.store(tx, [new], at=site.clock(), actor="pull").values()
        incoming.judge(tx, {row_id: judgement}, at=site.clock(), actor="rules", row=False)
        return incoming.get(tx, row_id)
