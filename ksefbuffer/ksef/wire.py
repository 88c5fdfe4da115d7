"""The only place that speaks HTTP with KSeF, and the only one that turns its troubles into ``errors``.

What is known after a call (FACTS §15; urllib3's rule: a connection that was never made proves that nothing was done,
anything later proves nothing):

=====================================================  =========================================
no connection (refused, no host, TLS, connect timeout)  Unreachable
timeout, cut, cut body, 5xx, answer that is not KSeF's   OutcomeUnknown
429, or our own count                                    RateLimited, before or without the work
4xx                                                      as ``failures.fault_of`` says
=====================================================  =========================================

Pure reads are repeated a few times here; what changes something is called once, and its caller decides.
Nothing here logs or raises bodies, tokens, or links: faults are raised without the HTTP library's own exception.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ksefbuffer.errors import CallFault, ConfigurationFault, OutcomeUnknown, RateLimited, Refused, Unreachable
from ksefbuffer.ksef.crypto import sha256_b64
from ksefbuffer.ksef.failures import ASK_AGAIN, WAIT, fault_of, name_of, read_json, read_problem
from ksefbuffer.ksef.limits import GUARD_S, Limiter

T = TypeVar("T")

log = logging.getLogger(__name__)

# httpx logs every URL at INFO, pre-signed links included, and httpcore logs headers at DEBUG.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

READ_ATTEMPTS = 4
LONGEST_REPEAT_PAUSE_S = 15.0
# A wait for our own count up to this long is slept through; a longer one is the caller's to plan.
LONGEST_LOCAL_WAIT_S = 1.0 + GUARD_S
LOCAL_WAITS = 5
CONNECT_TIMEOUT_S = 10.0
# The largest honest answer is a session's UPO with 10,000 documents, some 6 MB.
LARGEST_ANSWER = 64_000_000

_STORAGE_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_WARNING_CODE = re.compile(r"\[([^\]]+)\]:")
_NEVER_CONNECTED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


@dataclass(frozen=True)
class Call:
    """One operation: ``group`` is its limit (None: not limited), of which it may use ``share``; ``repeatable``: a read,
    or as harmless."""

    operation: str
    method: str
    path: str
    group: str | None
    repeatable: bool = False
    accept: str = "application/json"
    query: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    share: float = 1.0


@dataclass(frozen=True)
class Answer:
    """A 2xx answer, read whole."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Parsed JSON; ValueError for HTML, emptiness and the like."""
        return read_json(self.body)

    def document(self) -> bytes:
        """The body as an XML document whose ``x-ms-meta-hash`` agrees; ValueError for a page of a firewall, a
        changed or an empty document. Source: FACTS §1.3, §15.19."""
        declared = self.headers.get("x-ms-meta-hash")
        if declared is not None and declared.strip() != sha256_b64(self.body):
            raise ValueError("hash differs")
        if declared is None and (not _head(self.body).startswith(b"<") or is_page(self.body)):
            raise ValueError("not an XML document")
        if not self.body:
            raise ValueError("empty")
        return self.body


class Wire:
    """A kept-alive connection to the API with its cookies, and a bare one for pre-signed links. Thread-safe.

    Raises ConfigurationFault for a ``base_url`` that is no address.
    """

    def __init__(
        self,
        *,
        base_url: str,
        limiter: Limiter,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
        transport: httpx.BaseTransport | None,
        timeout_s: float,
        user_agent: str,
    ) -> None:
        self._base_url = _checked(base_url)
        self._limiter = limiter
        self._clock = clock
        self._sleep = sleep
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        headers = {"User-Agent": user_agent}
        self._api = httpx.Client(
            transport=transport, timeout=timeout, headers={**headers, "X-Error-Format": "problem-details"}
        )
        # Links lead to a storage that must learn neither our token nor our cookies.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._links = httpx.Client(transport=transport, timeout=timeout, headers=headers, cookies=no_cookies)

    def close(self) -> None:
        self._api.close()
        self._links.close()

    def call(
        self,
        call: Call,
        reader: Callable[[Answer], T],
        *,
        bearer: str = "",
        json: object = None,
        content: bytes | None = None,
        content_type: str = "",
    ) -> T:
        """Make the call, repeating it only if that is harmless, and return what ``reader`` makes of the answer.

        ``reader`` raises ValueError for an answer that it cannot read, which proves nothing about the work.
        """
        headers = {"Accept": call.accept, **call.headers}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if content_type:
            headers["Content-Type"] = content_type

        def once() -> T:
            reserved_at = self._admit(call)
            request = self._api.build_request(
                call.method,
                self._base_url + call.path,
                params=call.query or None,
                headers=headers,
                json=json,
                content=content,
            )
            try:
                answer = self._exchange(call, self._api, request)
            finally:
                if call.group is not None:
                    self._limiter.settle(call.group, reserved_at, self._clock())
            return self._read(call.operation, answer, reader)

        return self._repeated(once) if call.repeatable else once()

    def follow(self, operation: str, link: str) -> bytes:
        """The document behind a pre-signed link: no authorisation, no cookies, no limit. Raises Refused when the link
        no longer works, so that a fresh one can be asked for."""
        call = Call(operation, "GET", "", group=None, repeatable=True)

        def once() -> bytes:
            request = self._to_follow(operation, link)
            return self._read(operation, self._exchange(call, self._links, request), Answer.document)

        return self._repeated(once)

    def fetch(self, operation: str, link: str, take: Callable[[Iterator[bytes]], None]) -> None:
        """Give ``take`` the bytes behind a pre-signed link as they come: no authorisation, no cookies, no limit, no
        size too large. Only 200 counts. ``take`` is called anew for every try; it raises OutcomeUnknown for bytes that
        are worth another one. Raises Refused when the link no longer works."""
        call = Call(operation, "GET", "", group=None, repeatable=True)

        def once() -> None:
            request = self._to_follow(operation, link)
            # Hashes are of the bytes as stored, so nobody needs to squeeze them on the way.
            request.headers["Accept-Encoding"] = "identity"
            self._read(operation, self._exchange(call, self._links, request, take), _whole)

        self._repeated(once)

    def _to_follow(self, operation: str, link: str) -> httpx.Request:
        try:
            request = self._links.build_request("GET", link, headers={"Accept": "*/*"})
        except (httpx.InvalidURL, ValueError, TypeError):
            raise _dead_link(operation, None) from None
        if request.url.scheme not in ("http", "https"):
            raise _dead_link(operation, None)
        return request

    def put(self, operation: str, method: str, link: str, headers: Mapping[str, str], path: Path) -> None:
        """Send a file to a pre-signed link, by exactly the given method and headers: no authorisation, no cookies, no
        limit. Repeated, since sending it again puts the same in the same place. Only 201 is success: a firewall
        answers 200 for what never arrived. Raises Refused when the link no longer works, OSError for the file."""
        call = Call(operation, method, "", group=None, repeatable=True)

        def once() -> None:
            with path.open("rb") as body:
                told = httpx.Headers(dict(headers))
                # Without the length httpx would send chunks, which a storage does not take.
                told["Content-Length"] = str(os.fstat(body.fileno()).st_size)
                try:
                    request = self._links.build_request(method, link, headers=told, content=body)
                except (httpx.InvalidURL, ValueError, TypeError):
                    raise _dead_upload(operation, None, b"") from None
                self._read(operation, self._exchange(call, self._links, request), _created)

        self._repeated(once)

    def _repeated(self, once: Callable[[], T]) -> T:
        return Retrying(
            sleep=self._sleep,
            stop=stop_after_attempt(READ_ATTEMPTS),
            wait=_pause,
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )(once)

    def _admit(self, call: Call) -> datetime:
        """When the call was let through."""
        for _ in range(LOCAL_WAITS):
            now = self._clock()
            wait_s = self._limiter.reserve(call.group, now, share=call.share) if call.group is not None else 0.0
            if wait_s <= 0:
                return now
            if wait_s > LONGEST_LOCAL_WAIT_S:
                break
            self._sleep(wait_s)
        raise RateLimited(
            f"Limit wywołań KSeF jest wyczerpany ({name_of(call.operation)}).",
            action=WAIT,
            operation=call.operation,
            retry_after_s=wait_s,
        )

    def _exchange(
        self,
        call: Call,
        client: httpx.Client,
        request: httpx.Request,
        take: Callable[[Iterator[bytes]], None] | None = None,
    ) -> Answer:
        """The answer, read whole unless ``take`` takes the body of a 200."""
        operation = call.operation
        body = b""
        try:
            response = client.send(request, stream=True)
            try:
                if take is not None and response.status_code == 200:
                    take(response.iter_bytes())
                else:
                    body = _read_whole(response)
            finally:
                response.close()
        except _NEVER_CONNECTED as fault:
            log.debug("operation=%s failed=%s", operation, type(fault).__name__)
            raise _unreachable(operation, fault) from None
        except (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict, _TooLarge) as fault:
            log.debug("operation=%s failed=%s", operation, type(fault).__name__)
            raise OutcomeUnknown(
                f"Połączenie z KSeF zostało przerwane ({name_of(operation)}).",
                action=ASK_AGAIN,
                operation=operation,
                details=(type(fault).__name__,),
            ) from None
        warnings = _WARNING_CODE.findall(response.headers.get("x-system-warning", ""))
        if warnings:
            log.warning("operation=%s system_warning=%s", operation, ",".join(warnings))
        if response.is_success:
            log.debug("operation=%s status=%d", operation, response.status_code)
            return Answer(response.status_code, response.headers, body)
        self._log_failure(operation, response, body)
        if client is self._links:
            _judge_link(call, response.status_code, body)
        failed = fault_of(operation, response.status_code, body, self._retry_after(response))
        if isinstance(failed, RateLimited) and call.group is not None and failed.retry_after_s is not None:
            self._limiter.penalise(call.group, self._clock(), failed.retry_after_s)
        raise failed

    def _log_failure(self, operation: str, response: httpx.Response, body: bytes) -> None:
        problem = read_problem(body)
        log.info(
            "operation=%s status=%d code=%s trace=%s azure=%s",
            operation,
            response.status_code,
            problem.code or "-",
            problem.trace or "-",
            response.headers.get("x-azure-ref", "-"),
        )

    def _retry_after(self, response: httpx.Response) -> float | None:
        text = response.headers.get("retry-after", "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
            return float(text)
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max((moment - self._clock()).total_seconds(), 0.0)

    def _read(self, operation: str, answer: Answer, reader: Callable[[Answer], T]) -> T:
        try:
            return reader(answer)
        except ValueError:
            raise OutcomeUnknown(
                f"Odpowiedź KSeF jest nieczytelna ({name_of(operation)}, HTTP {answer.status}).",
                action=ASK_AGAIN,
                operation=operation,
                http_status=answer.status,
            ) from None


def _checked(base_url: str) -> str:
    try:
        parsed = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationFault(
            f"ksef.base_url nie jest adresem KSeF: {base_url}.",
            action="Podaj pełny adres, np. https://api-test.ksef.mf.gov.pl/v2.",
        )
    return base_url.rstrip("/")


class _TooLarge(Exception):
    """The answer is larger than any honest one."""


def _read_whole(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise _TooLarge
    return bytes(body)


def _unreachable(operation: str, fault: Exception) -> Unreachable:
    # The text of these is the system's own ("Connection refused", a failed certificate check); no URL, no header.
    reason = str(fault) if isinstance(fault, httpx.ConnectError | httpx.ProxyError) else type(fault).__name__
    return Unreachable(
        f"Brak połączenia z KSeF ({name_of(operation)}).",
        action="Sprawdź internet, DNS i adres ksef.base_url; bufor ponowi sam.",
        operation=operation,
        details=(reason,) if reason else (),
    )


def _dead_link(operation: str, status: int | None) -> Refused:
    return Refused(
        f"Odnośnik już nie działa ({name_of(operation)}).",
        action="Bufor pobierze nowy odnośnik sam; nie trzeba nic robić.",
        operation=operation,
        http_status=status,
    )


def _dead_upload(operation: str, status: int | None, body: bytes) -> Refused:
    # Of a storage's XML only the code is kept: its sentences quote the signature.
    reason = _STORAGE_CODE.search(body)
    return Refused(
        f"Odnośnik do wysyłki nie działa lub wygasł ({name_of(operation)}).",
        action="Bufor zbuduje paczkę od nowa i wyśle ją w nowej sesji.",
        operation=operation,
        http_status=status,
        details=(reason[1].decode("ascii"),) if reason else (),
    )


def _judge_link(call: Call, status: int, body: bytes) -> None:
    """Raise Refused when it is the storage that refuses a link; other troubles are judged like those of the API."""
    if call.method == "GET":
        if status in (400, 401, 403, 404, 410) and not _by_firewall(body):
            raise _dead_link(call.operation, status)
    elif 400 <= status < 500 and status not in (408, 429) and not _by_firewall(body):
        raise _dead_upload(call.operation, status, body)


def _by_firewall(body: bytes) -> bool:
    return is_page(body) or read_problem(body).firewall


def _head(body: bytes) -> bytes:
    return body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()


def is_page(body: bytes) -> bool:
    """Whether the bytes begin like HTML, as a firewall's answers do."""
    return _head(body).startswith((b"<!doctype html", b"<html"))


def _created(answer: Answer) -> None:
    if answer.status != 201:
        raise ValueError("only 201 says that a part was stored")


def _whole(answer: Answer) -> None:
    if answer.status != 200:
        raise ValueError("only 200 brings the whole")


def _may_pass(fault: BaseException) -> bool:
    return isinstance(fault, OutcomeUnknown | Unreachable) and (fault.retry_after_s or 0) <= LONGEST_REPEAT_PAUSE_S


_backoff = wait_random_exponential(multiplier=0.5, max=8)


def _pause(state: RetryCallState) -> float:
    fault = state.outcome.exception() if state.outcome is not None else None
    asked = fault.retry_after_s if isinstance(fault, CallFault) else None
    return _backoff(state) if asked is None else asked + _backoff(state)
