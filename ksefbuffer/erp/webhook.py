"""Webhooks: the document object is POSTed wherever its ERP, or the settings, want it. Source: CONTRACT §6.

At least once, from a durable outbox; the body says how the document stands now, so a repeated or late one does no harm.
A place that does not answer rests as a whole and holds up no other.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

import httpx

from ksefbuffer.config import Config
from ksefbuffer.erp import answers
from ksefbuffer.erp.http import told_object
from ksefbuffer.queue import deliveries, documents, pauses, webhooks
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.states import State
from ksefbuffer.queue.webhooks import Due

log = logging.getLogger(__name__)

SIGNATURE = "X-Ksefbuffer-Signature"
TIMEOUT_S = 10.0
_FIRST_PAUSE = timedelta(seconds=2)
_LONGEST_PAUSE = timedelta(seconds=300)
_GIVEN_UP_AFTER = timedelta(days=3)
# Answers by which a place says that it cannot now, whatever it is told.
_OVERLOADED = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Failed(Exception):
    """Not told. ``place``: nothing could be told there now; ``for_good``: this address will never do. Polish, without
    the address."""

    def __init__(self, reason: str, *, place: bool = False, for_good: bool = False) -> None:
        super().__init__(reason)
        self.place = place
        self.for_good = for_good


@dataclass
class _Resting:
    until: datetime
    failures: int


@dataclass
class Webhooks:
    """The duty of telling by HTTP; one thread calls ``step``. ``secret`` None: nothing is signed.

    ``urls`` are told of every document that arrives from now on; ``allow_private`` False refuses addresses that lead
    into private networks or to this machine.
    """

    database: Database
    qr_url: str
    urls: Sequence[str] = ()
    secret: str | None = field(default=None, repr=False)
    allow_private: bool = True
    timeout_s: float = TIMEOUT_S
    _resting: dict[str, _Resting] = field(default_factory=dict)
    _last_origin: str = ""
    _tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, config: Config, database: Database) -> Webhooks:
        """As the settings say. Raises ConfigurationFault when the secret's file cannot be read."""
        web = config.web
        return cls(
            database,
            config.ksef.qr_url,
            urls=web.webhook_urls,
            secret=web.read_webhook_secret(),
            allow_private=web.webhook_allow_private,
        )

    def prepare(self, now: datetime) -> None:
        """Makes the settings' addresses known, before the first document is taken in. Raises StorageFault."""
        if self.urls and self.secret is None:
            log.warning("webhooks are not signed: no web.webhook_secret_file is set")
        with self.database.transaction() as tx:
            webhooks.set_targets(tx, self.urls, at=now)

    def next_due(self) -> datetime | None:
        """When something is to be told next."""
        dues: list[datetime] = []
        with self.database.reading() as tx:
            origin = webhooks.next_origin(tx, "")
            while origin is not None:
                due = webhooks.next_due(tx, origin)
                if due is not None:
                    resting = self._resting.get(origin)
                    dues.append(max(due, resting.until) if resting else due)
                origin = webhooks.next_origin(tx, origin)
        return min(dues, default=None)

    def step(self, now: datetime) -> bool:
        """Tells of one document at one address: read, POST, record. True when one was told or tried.

        Raises StorageFault.
        """
        due = self._choose(now)
        if due is None:
            return False
        self._last_origin = due.origin
        try:
            status = self._post(due.url, self._body(due, now))
            if not 200 <= status < 300:
                raise _Failed(_meaning(status), place=status in _OVERLOADED)
        except _Failed as failure:
            self._failed(due, failure, now)
            return True
        except Exception as error:
            # A fault nobody foresaw costs this one a pause, not all those behind it.
            log.exception("webhook document=%s place=%s cannot be made", due.document, due.origin)
            self._failed(due, _Failed(f"błąd programu ({type(error).__name__})"), now)
            return True
        self._resting.pop(due.origin, None)
        with self.database.transaction() as tx:
            webhooks.told(tx, due)
        return True

    def _choose(self, now: datetime) -> Due | None:
        """What has waited longest at the next place in turn that does not rest."""
        with self.database.reading() as tx:
            origins: list[str] = []
            origin = webhooks.next_origin(tx, "")
            while origin is not None:
                origins.append(origin)
                origin = webhooks.next_origin(tx, origin)
            behind = [one for one in origins if one > self._last_origin]
            for one in (*behind, *(one for one in origins if one <= self._last_origin)):
                resting = self._resting.get(one)
                if resting is None or resting.until <= now:
                    due = webhooks.due(tx, one, now)
                    if due is not None:
                        return due
        return None

    def _body(self, due: Due, now: datetime) -> bytes:
        with self.database.reading() as tx:
            document = documents.get(tx, due.document)
            arrival_id = webhooks.arrival_of(tx, due)
            arrival = deliveries.arrival(tx, arrival_id) if arrival_id is not None else None
            held_back = pauses.active(tx, now) if document.state is State.QUEUED else None
        return answers.as_json(told_object(document, arrival, qr_url=self.qr_url, held_back=held_back))

    def _failed(self, due: Due, failure: _Failed, now: datetime) -> None:
        reason = f"{due.origin}: {failure}"
        since = due.failing_since or now
        if failure.place:
            before = self._resting.get(due.origin)
            failures = before.failures + 1 if before else 1
            self._resting[due.origin] = _Resting(now + _pause(failures - 1), failures)
        gives_up = failure.for_good or now - since >= _GIVEN_UP_AFTER
        log.warning(
            "webhook document=%s attempt=%s %s: %s",
            due.document,
            due.attempts + 1,
            "given up" if gives_up else "not told",
            reason,
        )
        with self.database.transaction() as tx:
            if gives_up:
                webhooks.give_up(tx, due, error=reason, since=since, at=now)
            else:
                webhooks.not_told(tx, due, error=reason, since=since, again_at=now + _pause(due.attempts))

    def _post(self, url: str, body: bytes) -> int:
        """The answer's status; its body is not read. Raises _Failed.

        In a thread of its own: a place that answers a byte at a time would outlast every timeout of one read.
        """
        client = httpx.Client(timeout=self.timeout_s, trust_env=False, verify=self._context(), follow_redirects=False)
        outcome: list[int | _Failed] = []
        sender = threading.Thread(target=lambda: outcome.append(self._sent(client, url, body)), daemon=True)
        sender.start()
        sender.join(self.timeout_s)
        # Ends also what a slow place still holds.
        client.close()
        if not outcome:
            raise _Failed(f"nie odpowiedział w ciągu {self.timeout_s:g} s", place=True)
        if isinstance(outcome[0], _Failed):
            raise outcome[0]
        return outcome[0]

    def _sent(self, client: httpx.Client, url: str, body: bytes) -> int | _Failed:
        try:
            address = httpx.URL(url)
            if address.scheme not in ("http", "https") or not address.host or (address.port or 1) > 65_535:
                return _Failed("adres jest nieprawidłowy", for_good=True)
            headers = {"Content-Type": "application/json", "User-Agent": "ksefbuffer", **self._signature(body)}
            request = client.build_request("POST", address, content=body, headers=headers)
            if not self.allow_private:
                _pin(request, _public_address(address.host))
            response = client.send(request, stream=True)
            response.close()
            return response.status_code
        except _Failed as failure:
            return failure
        except httpx.TimeoutException:
            return _Failed("nie odpowiedział na czas", place=True)
        except (httpx.TransportError, OSError) as error:
            return _Failed(f"brak połączenia ({type(error).__name__})", place=True)
        except (httpx.InvalidURL, ValueError):
            return _Failed("adres jest nieprawidłowy", for_good=True)
        except RuntimeError:
            # Closed from outside, as its time was over.
            return _Failed("nie odpowiedział na czas", place=True)

    def _signature(self, body: bytes) -> dict[str, str]:
        return {SIGNATURE: signature(self.secret, body)} if self.secret is not None else {}

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
            # A company's own authority stands in the system's store.
            self._tls.load_default_certs()
        return self._tls


def signature(secret: str, body: bytes) -> str:
    """The header's value: ``sha256=`` and HMAC-SHA256 of the body as sent, in hexadecimal digits."""
    return f"sha256={hmac.new(secret.encode(), body, sha256).hexdigest()}"


def _pause(failures: int) -> timedelta:
    return min(_FIRST_PAUSE * (1 << min(failures, 10)), _LONGEST_PAUSE)


def _meaning(status: int) -> str:
    if 300 <= status < 400:
        return f"odesłał pod inny adres (HTTP {status}); bufor tam nie idzie"
    return f"odmówił (HTTP {status})"


def _public_address(host: str) -> str:
    """An address of ``host``, all of whose addresses are public. Raises _Failed, OSError."""
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    if not found or any(not ipaddress.ip_address(one.partition("%")[0]).is_global for one in found):
        raise _Failed("adres prowadzi do sieci prywatnej (web.webhook_allow_private = false)")
    return min(found, key=lambda one: (":" in one, one))


def _pin(request: httpx.Request, address: str) -> None:
    """Sends to the address that was looked at: a name may lead elsewhere when it is asked for again."""
    host = request.url.host
    request.url = request.url.copy_with(host=address)
    request.extensions = {**request.extensions, "sni_hostname": host}
