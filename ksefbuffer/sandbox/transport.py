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
        headers = {**answer.headers, "Content-Length": str(answer.length)}
        if answer.cut == "body" or answer.file:
            return httpx.Response(answer.status, headers=headers, stream=_Streamed(answer))
        return httpx.Response(answer.status, headers=headers, content=answer.body[: answer.length])


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


class _Streamed(httpx.SyncByteStream):
    def __init__(self, answer: Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        length = self._answer.length
        if self._answer.cut != "body":
            yield from self._answer.pieces(length)
            return
        yield from self._answer.pieces(length // 2)
        raise httpx.RemoteProtocolError(
            "peer closed connection without sending complete message body"
            f" (received {length // 2} bytes, expected {length})"
        )
