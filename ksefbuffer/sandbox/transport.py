"""The sandbox behind an httpx client, without a socket: answers, cuts and timeouts as they come over a wire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import httpx

from .wire import Request, Response

if TYPE_CHECKING:
    from .core import Sandbox


class SandboxTransport(httpx.BaseTransport):
    """Give to ``httpx.Client(transport=…)``. Timeouts are raised at once, not waited for."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.partition(b"?")[0].decode("ascii")
        file = None
        if self._sandbox.takes_file(request.method, path):
            file = self._sandbox.receive(cast("httpx.SyncByteStream", request.stream))
        try:
            answer = self._sandbox.handle(
                Request(
                    method=request.method,
                    path=path,
                    query=request.url.query.decode("ascii"),
                    headers=dict(request.headers),
                    body=b"" if file else request.read(),
                    file=file,
                )
            )
        finally:
            if file:
                file.unlink(missing_ok=True)
        read_timeout = request.extensions.get("timeout", {}).get("read")
        _obey(answer, request, read_timeout)
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        if answer.cut == "body":
            return httpx.Response(answer.status, headers=headers, stream=_Torn(answer.body))
        return httpx.Response(answer.status, headers=headers, content=answer.body)


def _obey(answer: Response, request: httpx.Request, read_timeout: float | None) -> None:
    """Raises what a client over a wire would meet."""
    if answer.cut == "refused":
        raise httpx.ConnectError("[Errno 111] Connection refused", request=request)
    if answer.cut == "timeout" or (read_timeout is not None and answer.delay_s > read_timeout):
        raise httpx.ReadTimeout("timed out", request=request)
    if answer.delay_s:
        time.sleep(answer.delay_s)
    if answer.cut == "before":
        raise httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
    if answer.cut == "after":
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)


class _Torn(httpx.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        half = len(self._body) // 2
        yield self._body[:half]
        raise httpx.RemoteProtocolError(
            "peer closed connection without sending complete message body"
            f" (received {half} bytes, expected {len(self._body)})"
        )
