"""The HTTP connector: documents handed in over the API. Source: CONTRACT §6.

Nothing is brought to these ERPs by files: they ask for the document, or are told by a webhook (``erp.webhook``).
"""

from __future__ import annotations

from typing import Any

from ksefbuffer.erp.delivery import Answer, document_object, shown_verification_url
from ksefbuffer.erp.files import shown, text_as_name
from ksefbuffer.queue import pauses
from ksefbuffer.queue.deliveries import Arrival
from ksefbuffer.queue.documents import Document

CONNECTOR = "http"


class HttpConnector:
    """Where answers to documents of the API go: nowhere, they are asked for."""

    has_files = False
    has_pages = False

    def put_page(self, arrival: Arrival, page: bytes | None) -> None:
        """Nothing: the page is printed when it is asked for."""

    def deliver(self, answer: Answer) -> None:
        """Done at once: what was to be told lies in the database, where the API reads it."""

    @staticmethod
    def upo_name(arrival: Arrival) -> str:
        return f"{arrival.answer_name}.upo.xml"


def told_object(
    document: Document, arrival: Arrival | None, *, qr_url: str, held_back: pauses.Pause | None
) -> dict[str, Any]:
    """The object of CONTRACT §4 as programs get it over HTTP, by asking or by a webhook.

    ``held_back``: what holds the whole sender back now; ``qr_url``: the verification page's address.
    """
    whole = document_object(
        document,
        arrival,
        upo_file=upo_file(arrival) if document.has_upo and arrival else None,
        verification_url=shown_verification_url(document, qr_url),
        held_back=held_back,
    )
    # As the ERP wrote it: what is kept is text that every database takes.
    whole["source"] = _written(arrival.place) if arrival else ""
    return whole


def stem(arrival: Arrival) -> str:
    """What the names of a document's files begin with."""
    return _written(arrival.answer_name)


def upo_file(arrival: Arrival) -> str:
    """The name of the document's UPO."""
    return f"{stem(arrival)}.upo.xml"


def _written(kept: str) -> str:
    try:
        return shown(text_as_name(kept))
    except ValueError:
        return shown(kept)
