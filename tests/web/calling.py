"""How the API's tests call it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.samples import invoice

XML = {"Content-Type": "application/xml"}
INVOICES = "/api/v1/invoices"
INCOMING = "/api/v1/incoming"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


class Till:
    """A program with a key; ``send`` hands an invoice in."""

    def __init__(self, client: httpx.Client, secret: str) -> None:
        self.client, self.headers = client, bearer(secret)

    def send(
        self, content: bytes | None = None, headers: dict[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        content = invoice() if content is None else content
        return self.client.post(
            INVOICES, content=content, params=options, headers={**self.headers, **XML, **(headers or {})}
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, params=options, headers=self.headers)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.client.post(path, headers=self.headers, **more)


def is_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """A problem as RFC 9457 has it, Polish, of this kind; returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert told["type"] == f"urn:ksefbuffer:problem:{slug}", told
    assert told["status"] == status
    assert told["title"]
    return told
