"""What can go wrong, sorted by what is known about the other side.

::

    BufferFault                     message (Polish) + action (Polish): what happened, what to do next
    ├── ConfigurationFault          exit 2: a setting, a file or an environment is wrong
    ├── NoSuchThing                 exit 1: asked for something that is not there
    ├── NotAllowedNow               exit 1: the thing exists, but its state forbids this
    ├── CredentialFault             exit 4: a certificate, key or token cannot be used
    └── CallFault                   a call to KSeF did not bring the answer hoped for
        ├── NotTaken                proven: KSeF did not act on the request
        │   ├── Unreachable         exit 3: no connection was ever made
        │   ├── RateLimited         KSeF's 429, or our own count says that the limit is used up
        │   ├── Unauthorised        exit 4: login refused; only a person can mend it
        │   ├── Blocked             exit 3: a firewall before KSeF refused us; not an authorisation matter
        │   ├── Unavailable         exit 3: KSeF says that it cannot now (21184, 503 before any work)
        │   └── SessionUnusable     this KSeF session takes no more invoices (21155, 21180, expired)
        ├── OutcomeUnknown          the request may or may not have been acted on; only asking KSeF tells
        └── Refused                 KSeF read the request and said no; repeating it unchanged is pointless

Callers catch by the class, that is by what is known of KSeF's state, never ``except Exception`` around a send.
"""

from __future__ import annotations

from collections.abc import Sequence


class BufferFault(Exception):
    """Base of every foreseeable fault; shown to people without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, action: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.action = action

    def __str__(self) -> str:
        return f"{self.message} {self.action}".strip()


class ConfigurationFault(BufferFault):
    """A setting, a file or the environment is wrong; names the key and how to mend it."""

    exit_code = 2


class NoSuchThing(BufferFault):
    """Asked for a document, a session or a file that is not there."""


class NotAllowedNow(BufferFault):
    """The thing exists, but its state forbids what was asked."""


class CredentialFault(BufferFault):
    """A certificate, key or token cannot be used; no call was made."""

    exit_code = 4


class CallFault(BufferFault):
    """A call to KSeF did not bring the answer hoped for.

    ``code`` is KSeF's numeric code as text ("21405"), or "" when there was none; ``http_status`` is None when no
    response was read; ``details`` are KSeF's own sentences; ``retry_after_s`` is the pause that KSeF asked for, in
    seconds; ``operation`` is the name of the call. Never holds request bodies, tokens or links.
    """

    def __init__(
        self,
        message: str,
        *,
        action: str = "",
        operation: str = "",
        code: str = "",
        http_status: int | None = None,
        details: Sequence[str] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, action=action)
        self.operation = operation
        self.code = code
        self.http_status = http_status
        self.details = tuple(details)
        self.retry_after_s = retry_after_s


class NotTaken(CallFault):
    """Proven: KSeF did not act on the request, so it may be repeated."""


class Unreachable(NotTaken):
    """No connection to KSeF was ever made (refused, no route, no such host, TLS)."""

    exit_code = 3


class RateLimited(NotTaken):
    """A limit is used up: KSeF's 429, or our own count before calling. ``retry_after_s`` is always set."""

    exit_code = 3


class Unauthorised(NotTaken):
    """Login or rights refused; a person must act (certificate, token, permissions)."""

    exit_code = 4


class Blocked(NotTaken):
    """A firewall before KSeF refused the request; an infrastructure matter, not one of rights."""

    exit_code = 3


class Unavailable(NotTaken):
    """KSeF says that it cannot do this now (maintenance)."""

    exit_code = 3


class SessionUnusable(NotTaken):
    """This KSeF session takes no more invoices; another one must be opened."""


class OutcomeUnknown(CallFault):
    """The request may or may not have been acted on (timeout, cut, 5xx, unreadable answer)."""

    exit_code = 3


class Refused(CallFault):
    """KSeF read the request and said no; ``code`` and ``details`` say why."""
