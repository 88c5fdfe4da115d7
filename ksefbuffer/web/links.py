"""Addresses of the page as people use them."""

from __future__ import annotations

from ksefbuffer.config import Config


def base_url(config: Config) -> str:
    """Where the page is, without a slash at the end: what the settings say, else the address it listens on."""
    web = config.web
    if web.public_url is not None:
        return web.public_url
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(web.host, web.host)  # noqa: S104
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if web.tls_certificate is not None else 'http'}://{host}:{web.port}"


def invitation_url(base: str, token: str) -> str:
    return f"{base}/zaproszenie/{token}"
