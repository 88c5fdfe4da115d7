"""Telling systemd how we are (sd_notify(3)): one datagram, nothing at all where systemd does not listen."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify(environ: Mapping[str, str], message: str) -> None:
    """``message``: "READY=1", "WATCHDOG=1", "STOPPING=1", "STATUS=…". Never raises, never waits: a lost word stops
    nothing."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            channel.connect(address)
            channel.sendall(message.encode())
    except OSError:
        return
