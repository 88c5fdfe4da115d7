"""The description of the API that programs read: what FastAPI knows of the routes, made whole."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from ksefbuffer.web.api import shapes

VERSION = "1"
_SHAPES = (shapes.ProblemShape, shapes.RefusedShape, shapes.NotReadyShape)
_ABOUT = """Bufor między systemem sprzedaży a KSeF. Fakturę (FA(3), XML) przekazuje się przez `POST /api/v1/invoices`;
odpowiedź 202 znaczy, że bufor ma ją trwale i że trafi do KSeF dokładnie raz albo człowiek dowie się, dlaczego nie.
Powtórzenie tych samych bajtów nie wysyła faktury drugi raz. Czasy są w UTC (ISO 8601), błędy to
`application/problem+json` z tekstem po polsku. Przykłady: docs/integration.md."""
_TAGS = [
    {"name": "Faktury wychodzące", "description": "Przekazanie do wysłania, stan, UPO, kody QR, wydruk."},
    {"name": "Faktury przychodzące", "description": "To, co KSeF ma dla nas: lista, treść, decyzja."},
    {"name": "Bufor", "description": "Stan bufora; health i metrics nie wymagają klucza."},
]


def describe(app: FastAPI) -> None:
    """Makes the application describe its API, and nothing but its API."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _whole(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _whole(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title="ksefbuffer API",
        version=VERSION,
        description=_ABOUT,
        routes=app.routes,
        tags=_TAGS,
        servers=[{"url": "/"}],
    )
    schemas = found["components"]["schemas"]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in _SHAPES], ref_template="#/components/schemas/{model}"
    )
    for name, schema in definitions["$defs"].items():
        schemas.setdefault(name, schema)
    # FastAPI's own word for a parameter of another shape, which it puts wherever we say nothing of 422.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in found["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return found
