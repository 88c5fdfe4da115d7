"""One message to one address, by Apprise. The only module that knows it.

An address that does not answer costs several seconds: never call it inside a transaction.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from contextvars import ContextVar
from functools import lru_cache
from types import ModuleType

from ksefbuffer.notify.shapes import Weight

_loading = threading.Lock()
# It sends in threads of its own, which inherit the context.
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_NO_SUCH_ADDRESS = "nie rozpoznano adresu: sprawdź jego rodzaj i czy jest w nim wszystko, czego ten rodzaj wymaga"


def send(url: str, title: str, body: str, weight: Weight) -> str:
    """Sends; "" when the address took it, else why not, in Polish and without anything of the address."""
    with _loading:
        apprise = _apprise()
    asset = apprise.AppriseAsset(
        app_id="ksefbuffer", app_desc="ksefbuffer", app_url="", image_url_mask="", image_url_logo="", async_mode=False
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return _NO_SUCH_ADDRESS
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    said: list[str] = []
    _heard.set(said)
    taken = sender.notify(title=title, body=body, notify_type=weight, body_format="text")
    return "" if taken else _reason(said)


class _Swallowed(logging.Filter):
    """Keeps Apprise's log lines from every handler, as they hold addresses; what one send says is kept for it."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = _heard.get()
        if said is not None:
            said.append(record.getMessage())
        return False


@lru_cache(maxsize=1)
def _apprise() -> ModuleType:
    """Imported on first use: most processes never need it, and it costs a third of a second and much memory."""
    apprise_log = logging.getLogger("apprise")
    apprise_log.addFilter(_Swallowed())
    apprise_log.setLevel(logging.WARNING)
    # The library below it writes the paths of its requests, in which tokens stand.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import apprise

        # Its plugins are loaded by the first address.
        apprise.Apprise.instantiate("json://localhost")
    return apprise


def _reason(said: list[str]) -> str:
    """What its log lines tell of the failure; they hold parts of the address, so none is passed on."""
    told = " ".join(said)
    code = re.search(r"\berror=(\d{3})\b", told)
    if code is not None:
        return f"adres odmówił (HTTP {code[1]})"
    if "onnection error" in told:
        return "nie udało się połączyć z adresem albo odmówił on logowania"
    return "adres nie przyjął wiadomości"
