"""The control interface under /sandbox: the same orders as in Python, by HTTP, from this machine only."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import control_identity
from .control_fields import count, flag, known, moment, number, text
from .faults import Fault
from .instants import as_datetime, read_ticks
from .seeding import read_order
from .wire import Request, Response, as_json, nothing

if TYPE_CHECKING:
    from .core import Sandbox

_FAULT_FIELDS = {item.name for item in fields(Fault)}


def handle(sandbox: Sandbox, request: Request) -> Response:
    """Answers a control request; mistakes are 400 with a sentence, unknown things 404."""
    if not _from_here(request.client_ip):
        return as_json(403, {"error": "control is reachable from this machine only"})
    action = _ACTIONS.get((request.method, request.segments[1:]))
    reference = ""
    if action is None and request.segments[1:2] == ("sessions",) and len(request.segments) == 4:
        reference = request.segments[2]
        action = _ACTIONS.get((request.method, ("sessions", "*", request.segments[3])))
    if action is None:
        return as_json(
            404, {"error": "no such control", "controls": [f"{m} /sandbox/{'/'.join(p)}" for m, p in _ACTIONS]}
        )
    try:
        if action is _seed:
            return as_json(201, {"ksefNumbers": sandbox.seed(read_order(request.body), at=_at(request))})
        body = json.loads(request.body) if request.body.strip() else {}
        if not isinstance(body, dict):
            raise TypeError("the body must be a JSON object")
        return action(sandbox, body | ({"reference": reference} if reference else {}))
    except LookupError as fault:
        return as_json(404, {"error": f"not found: {fault}"})
    except (ValueError, TypeError) as fault:
        return as_json(400, {"error": str(fault)})


def _from_here(client_ip: str) -> bool:
    try:
        address = ipaddress.ip_address(client_ip)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _add_fault(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    if unknown := sorted(set(body) - _FAULT_FIELDS):
        raise ValueError(f"unknown: {', '.join(unknown)}; a fault has: {', '.join(sorted(_FAULT_FIELDS))}")
    fault = Fault(**body)
    sandbox.faults.add(fault)
    return as_json(201, sandbox.faults.listed())


def _list_faults(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, sandbox.faults.listed())


def _clear_faults(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    sandbox.faults.clear()
    return nothing()


def _rotate(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    sandbox.rotate_keys(keep_old=flag(body, "keepOld"))
    return nothing()


def _kill(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    code = body.get("code", 500)
    if not isinstance(code, int) or code < 400:
        raise ValueError("code must be a final status of at least 400")
    sandbox.kill_session(body["reference"], code)
    return nothing()


def _outage(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    seconds = body.get("seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise ValueError("seconds must be a positive number, or null for until stopped")
    sandbox.outage(seconds, style=str(body.get("style", "refused")), everything=flag(body, "everything"))
    return nothing()


def _stop_outage(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    sandbox.stop_outage()
    return nothing()


def _invoices(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return Response(200, {"Content-Type": "application/json; charset=utf-8"}, sandbox.dump_invoices().encode())


def _deviations(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    items = [
        {"at": item.at.isoformat(), "operation": item.operation, "name": item.name, "text": item.text}
        for item in sandbox.deviations
    ]
    return as_json(200, items)


def _forget(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    sandbox.forget_deviations()
    return nothing()


def _calls(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, dict(sandbox.calls))


def _throttled(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, dict(sandbox.throttled))


def _release(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, {"released": sandbox.release()})


def _settings(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, {"latencySeconds": sandbox.latency_s})


def _set(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    seconds = body.get("latencySeconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError("latencySeconds must be a number")
    sandbox.latency_s = float(seconds)
    return _settings(sandbox, body)


def _at(request: Request) -> datetime | None:
    """The query's ``at``: when the first of the invoices was permanently stored."""
    at = request.arguments.get("at", [""])[0]
    return as_datetime(read_ticks(at)) if at else None


def _seed(_: Sandbox, __: dict[str, Any]) -> Response:
    raise TypeError("the body must be one XML file, or a JSON list")


def _tell_hwm(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, {"hwm": sandbox.hwm, "held": sandbox.hwm_held, "lagSeconds": sandbox.hwm_lag_s})


def _hold_hwm(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    if "lagSeconds" in body:
        sandbox.hwm_lag_s = number(body, "lagSeconds")
    if "at" in body or "lagSeconds" not in body:
        sandbox.hold_hwm(text(body, "at") if body.get("at") is not None else None)
    return _tell_hwm(sandbox, body)


def _release_hwm(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    sandbox.release_hwm()
    return _tell_hwm(sandbox, body)


def _tell_latarnia(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, sandbox.latarnia_status())


def _play_latarnia(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    known(body, "scenario", "start", "end", "event", "title", "text")
    words = {name: text(body, name) for name in ("title", "text") if name in body}
    event = sandbox.latarnia(
        text(body, "scenario"), start=moment(body, "start"), end=moment(body, "end"), event=count(body, "event"),
        **words,
    )  # fmt: skip
    return as_json(201, {"event": event})


def _clear_latarnia(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    sandbox.latarnia("clear")
    return nothing()


_MEASURES = {
    "invoices": "invoices",
    "packageBytes": "package_bytes",
    "partBytes": "part_bytes",
}


def _tell_exports(sandbox: Sandbox, _: dict[str, Any]) -> Response:
    return as_json(200, sandbox.measures())


def _set_exports(sandbox: Sandbox, body: dict[str, Any]) -> Response:
    known = {*_MEASURES, "records", "seconds"}
    if unknown := sorted(set(body) - known):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    told = sandbox.measures()
    wanted = {mine: int(number({name: told[name], **body}, name)) for name, mine in _MEASURES.items()}
    sandbox.export_at_most(**wanted)
    if "records" in body:
        sandbox.metadata_at_most(int(number(body, "records")))
    if "seconds" in body:
        sandbox.export_s = None if body["seconds"] is None else number(body, "seconds")
    return _tell_exports(sandbox, body)


_ACTIONS: dict[tuple[str, tuple[str, ...]], Callable[[Sandbox, dict[str, Any]], Response]] = {
    ("POST", ("faults",)): _add_fault,
    ("GET", ("faults",)): _list_faults,
    ("DELETE", ("faults",)): _clear_faults,
    ("POST", ("release",)): _release,
    ("POST", ("keys", "rotate")): _rotate,
    **control_identity.ACTIONS,
    ("GET", ("latarnia",)): _tell_latarnia,
    ("POST", ("latarnia",)): _play_latarnia,
    ("DELETE", ("latarnia",)): _clear_latarnia,
    ("POST", ("sessions", "*", "kill")): _kill,
    ("POST", ("outage",)): _outage,
    ("DELETE", ("outage",)): _stop_outage,
    ("GET", ("invoices",)): _invoices,
    ("GET", ("deviations",)): _deviations,
    ("DELETE", ("deviations",)): _forget,
    ("GET", ("calls",)): _calls,
    ("GET", ("throttled",)): _throttled,
    ("GET", ("settings",)): _settings,
    ("POST", ("settings",)): _set,
    ("POST", ("seed",)): _seed,
    ("GET", ("hwm",)): _tell_hwm,
    ("POST", ("hwm",)): _hold_hwm,
    ("DELETE", ("hwm",)): _release_hwm,
    ("GET", ("exports",)): _tell_exports,
    ("POST", ("exports",)): _set_exports,
}
