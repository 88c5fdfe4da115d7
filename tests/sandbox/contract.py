"""The official OpenAPI document as judge of the sandbox's answers, where that document is present."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

DOCUMENT = Path(__file__).parents[2] / ".." / "shared" / "ksef" / "open-api.json"
# Answers that KSeF gives though its document does not list them (FACTS §1.2), and those of no operation at all.
UNLISTED = {404, 406, 413, 415, 500, 501}
NO_BODY = {204}


@lru_cache(maxsize=1)
def official() -> Any:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    document["servers"] = [{"url": "/v2"}]
    readers = {"application/problem+json": _json, "application/xml": _text}
    return OpenAPI.from_dict(document, config=Config(extra_media_type_deserializers=readers))


# The judge's own readers leave problem+json undecoded and make a tree of XML, which the document calls a string.
def _json(content: bytes, **_: str) -> Any:
    return json.loads(content)


def _text(content: bytes, **_: str) -> str:
    return content.decode("utf-8", "replace")


class Asked:
    def __init__(self, request: httpx.Request) -> None:
        self.host_url = ""
        self.path = request.url.path
        self.method = request.method.lower()
        self.body = request.content or None
        self.content_type = request.headers.get("content-type", "application/json")
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(request.url.params.multi_items()), header=Headers(list(request.headers.items()))
        )


class Answered:
    def __init__(self, response: httpx.Response) -> None:
        self.status_code = response.status_code
        self.headers = dict(response.headers)
        self.data = response.content
        self.content_type = response.headers.get("content-type", "").partition(";")[0]


def complaints(responses: list[httpx.Response]) -> list[str]:
    """What the document finds wrong with these answers."""
    found = []
    for response in responses:
        if response.status_code in UNLISTED or not response.request.url.path.startswith("/v2/"):
            continue
        if response.status_code in NO_BODY:
            assert response.content == b""
        try:
            official().validate_response(Asked(response.request), Answered(response))
        except OpenAPIError as fault:
            cause = fault.__cause__ or fault
            errors = "; ".join(str(error.message) for error in getattr(cause, "schema_errors", []))
            found.append(
                f"{response.request.method} {response.request.url.path} {response.status_code}: {fault} {errors}"
            )
    return found
