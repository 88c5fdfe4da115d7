"""Calls made with our access: what all of the API's doors share.

Source: FACTS §2 (access), §3 (keys), §15.7 (sessions that KSeF does not know yet).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from ksefbuffer.errors import OutcomeUnknown, Refused, Unauthorised, Unavailable
from ksefbuffer.invoice.forms import Form
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.auth import Access, Context, Login, not_taken
from ksefbuffer.ksef.crypto import FOR_SESSIONS, PublicKey, PublicKeys, b64, read_public_keys, wrap
from ksefbuffer.ksef.failures import (
    ASK_AGAIN,
    BAD_CONTINUATION,
    LOGIN_OVER,
    UNKNOWN_KEY,
    UNKNOWN_SESSION,
    WAIT,
    name_of,
)
from ksefbuffer.ksef.limits import Limiter
from ksefbuffer.ksef.shapes import SessionKey
from ksefbuffer.ksef.wire import Answer, Call, Wire

T = TypeVar("T")

USER_AGENT = f"ksefbuffer/{version('ksefbuffer')}"
PAGE_SIZE = 1000
# KSeF at times does not know a session that it has just opened (issue #801).
UNKNOWN_SESSION_PAUSES_S = (0.5, 1.0, 2.0)
LISTING_RESTARTS = 2


class Calls:
    """One context (a NIP, or a branch's InternalId) at one KSeF environment.

    ``base_url`` ends in "/v2". ``clock`` gives aware UTC times; ``sleep`` takes seconds; ``transport`` replaces the
    network in tests. Makes no call until asked to; ConfigurationFault for a ``base_url`` that is no address.
    """

    def __init__(
        self,
        *,
        base_url: str,
        context_nip: str,
        login: Login,
        limiter: Limiter,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = 30,
        internal_id: str = "",
        user_agent: str = USER_AGENT,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._wire = Wire(
            base_url=base_url,
            limiter=limiter,
            clock=clock,
            sleep=sleep,
            transport=transport,
            timeout_s=timeout_s,
            user_agent=user_agent,
        )
        self._public_keys = PublicKeys(self._fetch_public_keys, clock)
        self._access = Access(
            self._wire,
            login=login,
            context=Context("InternalId", internal_id) if internal_id else Context("Nip", context_nip),
            public_keys=self._public_keys,
            clock=clock,
            sleep=sleep,
        )

    def close(self) -> None:
        """Close the connections; sessions at KSeF stay as they are."""
        self._wire.close()

    def _authorised(self, call: Call, reader: Callable[[Answer], T], *, json: object = None) -> T:
        token = self._before(self._access.token)
        try:
            return self._wire.call(call, reader, bearer=token, json=json)
        except Unauthorised as fault:
            if fault.http_status != 401 and fault.code not in LOGIN_OVER:
                raise
        # A 401 proves that nothing was done, so even a send may follow once more.
        token = self._before(lambda: self._access.renewed(token))
        return self._wire.call(call, reader, bearer=token, json=json)

    def _before(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except OutcomeUnknown as fault:
            raise not_taken(fault) from None

    def _in_known_session(self, ask: Callable[[], T]) -> T:
        for pause_s in UNKNOWN_SESSION_PAUSES_S:
            try:
                return ask()
            except Refused as fault:
                if fault.code != UNKNOWN_SESSION:
                    raise
            self._sleep(pause_s)
        return ask()

    def _fetch_public_keys(self) -> tuple[PublicKey, ...]:
        call = Call("public_keys", "GET", "/security/public-key-certificates", "anonymous", repeatable=True)
        return self._wire.call(call, public_keys)

    def _open(
        self,
        call: Call,
        form: Form,
        key: SessionKey,
        more: Mapping[str, Any],
        reader: Callable[[Answer], T],
    ) -> T:
        """Open a session of either kind."""
        code = {"systemCode": form.system_code, "schemaVersion": form.schema_version, "value": form.value}
        return self._with_key(call, key, {"formCode": code, **more}, reader)

    def _with_key(self, call: Call, key: SessionKey, more: Mapping[str, Any], reader: Callable[[Answer], T]) -> T:
        """Make a call that hands KSeF a symmetric key. A public key that KSeF has withdrawn (21470) is fetched anew and
        the call tried once more."""
        try:
            return self._with_key_once(call, key, more, reader)
        except Refused as fault:
            if fault.code != UNKNOWN_KEY:
                raise
        self._public_keys.forget()
        return self._with_key_once(call, key, more, reader)

    def _with_key_once(self, call: Call, key: SessionKey, more: Mapping[str, Any], reader: Callable[[Answer], T]) -> T:
        public_key = self._before(lambda: self._public_keys.of(FOR_SESSIONS))
        if public_key is None:
            raise Unavailable("KSeF nie podaje ważnego klucza do szyfrowania.", action=WAIT, operation=call.operation)
        body = {
            "encryption": {
                "encryptedSymmetricKey": wrap(public_key, key.key),
                "initializationVector": b64(key.iv),
                "publicKeyId": public_key.identifier,
            },
            **more,
        }
        return self._authorised(call, reader, json=body)

    def _listing(
        self, call: Call, field: str, read: Callable[[object], T], identity: Callable[[T], str]
    ) -> Iterator[T]:
        """Every entry of a listing, each once, page after page, 1,000 at a time.

        Ends only after the last page was read: a listing cut short raises, for a missing entry would look like proof.
        """
        seen: set[str] = set()
        restarts = 0
        continuation = ""
        continuations: set[str] = set()
        while True:
            try:
                entries, following = self._page(call, continuation, field, read)
            except Refused as fault:
                if fault.code != BAD_CONTINUATION or restarts == LISTING_RESTARTS:
                    raise
                restarts += 1
                continuation, continuations = "", set()
                continue
            for entry in entries:
                if identity(entry) not in seen:
                    seen.add(identity(entry))
                    yield entry
            if not following:
                return
            if following in continuations:
                raise OutcomeUnknown(
                    f"KSeF podaje w kółko tę samą stronę listy ({name_of(call.operation)}).",
                    action=ASK_AGAIN,
                    operation=call.operation,
                )
            continuations.add(following)
            continuation = following

    def _page(self, call: Call, continuation: str, field: str, read: Callable[[object], T]) -> tuple[list[T], str]:
        def page(answer: Answer) -> tuple[list[T], str]:
            whole = reading.mapping(answer.json())
            following = whole.get("continuationToken")
            entries = [read(entry) for entry in reading.items(whole.get(field))]
            return entries, reading.header_text(following) if following else ""

        headers = {"x-continuation-token": continuation} if continuation else {}
        paged = replace(call, query={**call.query, "pageSize": PAGE_SIZE}, headers=headers)
        return self._in_known_session(lambda: self._authorised(paged, page))


def public_keys(answer: Answer) -> tuple[PublicKey, ...]:
    """Reader of KSeF's list of public keys."""
    return read_public_keys(answer.json())


def no_page(answer: Answer) -> None:
    """Reader of a close: it answers 204 with nothing; a firewall's page with 200 closes nothing (FACTS §15.19)."""
    if answer.status != 204 and answer.body.strip():
        reading.mapping(answer.json())


def given_reference(answer: Answer) -> str:
    """Reader of an answer that gives a reference."""
    return reading.text(reading.mapping(answer.json()).get("referenceNumber"))


def quoted(part: str) -> str:
    """A part of a path."""
    return quote(part, safe="")


def session_path(reference: str) -> str:
    """The path under which a session of either kind is asked about."""
    return f"/sessions/{quoted(reference)}"
