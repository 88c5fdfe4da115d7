"""Every call that OpenAPI describes, made in many shapes: no 5xx, and every answer as described."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ksefbuffer.queue import documents, incoming, people
from ksefbuffer.queue.states import State
from ksefbuffer.web.access import SCOPES
from ksefbuffer.web.site import Site
from tests.queue.builders import document_in
from tests.queue.test_incoming import put
from tests.samples import invoice
from tests.web.calling import INVOICES, Till
from tests.web.conftest import Live

MOST_EXAMPLES = 25
# Without a parameter or a body there is nothing to be given wrongly.
NOTHING_TO_MISTAKE = {
    f"GET {prefix}{path}" for prefix in ("", "/api/v1") for path in ("/health/live", "/health/ready", "/metrics")
}
# No schema says what a good invoice is.
BEYOND_A_SCHEMA = {"POST /api/v1/invoices"}


@pytest.fixture
def described(
    make_site: Callable[..., Site], serve: Callable[[Site], Live], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, str]]:
    """A page with a document in every state and a received invoice, and no limit of calls."""
    site = make_site()
    with site.database.transaction() as tx:
        for state in State:
            document_in(tx, state, content=invoice(f"S/{state}"))
        put(tx, folder="sklepy/7", content=invoice("FS/1"))
    monkeypatch.setattr("ksefbuffer.web.api.limits.CALLS_A_MINUTE", 10**9)
    monkeypatch.setattr("ksefbuffer.web.api.limits.Buckets.take", lambda *_: 0.0)
    monkeypatch.setattr("ksefbuffer.web.api.invoices._wait", _no_wait)
    # Ready, as it would be with a worker.
    with site.database.sole_worker():
        yield site, serve(site).base_url


async def _no_wait(*_: Any) -> None:
    """Tested by itself."""


@pytest.fixture
def api_schema(described: tuple[Site, str]) -> Any:
    return schemathesis.openapi.from_url(f"{described[1]}/api/openapi.json")


def test_the_api_keeps_to_its_description(described: tuple[Site, str], api_schema: Any) -> None:
    site, base_url = described
    with site.database.transaction() as tx:
        _, secret = people.add_key(tx, "wszystko", SCOPES, at=site.clock())
        known = {
            "document_id": documents.listing(tx, limit=1)[0].document_id,
            "ksef_number": incoming.listing(tx, limit=1)[0].ksef_number,
        }
    tried: set[str] = set()
    complaints: dict[str, str] = {}
    for result in api_schema.get_all_operations():
        operation = result.ok()
        tried.add(operation.label)
        for mode in schemathesis.GenerationMode:
            if mode is schemathesis.GenerationMode.NEGATIVE and operation.label in NOTHING_TO_MISTAKE:
                continue
            try:
                _try(operation, mode, known, secret)
            except BaseExceptionGroup as several:
                complaints[f"{operation.label} {mode.value}"] = "\n".join(map(str, several.exceptions))
            except Exception as complaint:
                complaints[f"{operation.label} {mode.value}"] = str(complaint)
    assert complaints == {}, "\n\n".join(f"{label}: {said}" for label, said in complaints.items())
    assert len(tried) >= 20
    with httpx.Client(base_url=base_url) as client:
        assert Till(client, secret).get(INVOICES).status_code == 200


def _try(operation: Any, mode: schemathesis.GenerationMode, known: dict[str, str], secret: str) -> None:
    """Calls one operation in many shapes; every second id is one that is there."""

    @settings(
        max_examples=MOST_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def shaped(case: Any) -> None:
        for name, value in known.items():
            if name in case.path_parameters and len(str(case.path_parameters[name])) % 2:
                case.path_parameters[name] = value
        if mode is schemathesis.GenerationMode.POSITIVE:
            # Only the list itself gives one out.
            case.query.pop("cursor", None)
        excused = [positive_data_acceptance] if operation.label in BEYOND_A_SCHEMA else []
        case.call_and_validate(headers={"Authorization": f"Bearer {secret}"}, excluded_checks=excused)

    shaped()
