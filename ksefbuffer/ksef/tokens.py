"""KSeF tokens: making, listing, revoking. Source: FACTS §2.5; open-api 2.9.0 /tokens.

A new token can only be made by who logged in with a certificate or a signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ksefbuffer.errors import OutcomeUnknown
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.calls import Calls, no_page, quoted
from ksefbuffer.ksef.failures import ASK_AGAIN, name_of
from ksefbuffer.ksef.shapes import NewToken, TokenListed
from ksefbuffer.ksef.wire import Answer, Call

# What a buffer needs and nothing more: to send invoices and to read them.
LEAST_PERMISSIONS = ("InvoiceRead", "InvoiceWrite")
_PAGE_SIZE = 100


class TokenCalls(Calls):
    """Each call has its own counter of 10 a second, 30 a minute, 120 an hour."""

    def make_token(self, description: str, permissions: Sequence[str] = LEAST_PERMISSIONS) -> NewToken:
        """Make a token; it works once its status is Active. ``description``: 5 to 256 characters.

        KSeF shows the token only here, so after OutcomeUnknown look for ``description`` in ``tokens`` and revoke it.
        Refused: 26001 for permissions that we lack, 26002 in a context that cannot have tokens.
        """
        if not 5 <= len(description) <= 256:
            raise ValueError("a description has 5 to 256 characters")
        call = Call("make_token", "POST", "/tokens", "other:make-token")
        body = {"permissions": list(permissions), "description": description}
        return self._authorised(call, lambda answer: reading.new_token(answer.json()), json=body)

    def token(self, reference: str) -> TokenListed:
        """A token's status."""
        call = Call("token", "GET", f"/tokens/{quoted(reference)}", "other:token", repeatable=True)
        return self._authorised(call, lambda answer: reading.token_listed(answer.json()))

    def tokens(self, status: str = "") -> Iterator[TokenListed]:
        """Tokens of our context, or only our own when we may not manage credentials; the newest first. Ends only after
        the last page was read."""
        query: dict[str, str | int] = {"pageSize": _PAGE_SIZE, **({"status": status} if status else {})}
        continuation = ""
        seen: set[str] = set()
        while True:
            headers = {"x-continuation-token": continuation} if continuation else {}
            call = Call("tokens", "GET", "/tokens", "other:tokens", repeatable=True, query=query, headers=headers)
            listed, continuation = self._authorised(call, _page)
            yield from listed
            if not continuation:
                return
            if continuation in seen:
                raise OutcomeUnknown(
                    f"KSeF podaje w kółko tę samą stronę listy ({name_of('tokens')}).",
                    action=ASK_AGAIN,
                    operation="tokens",
                )
            seen.add(continuation)

    def revoke_token(self, reference: str) -> None:
        """Revoke a token. Access gained with it lasts on until its access token expires."""
        self._authorised(Call("revoke_token", "DELETE", f"/tokens/{quoted(reference)}", "other:revoke-token"), no_page)


def _page(answer: Answer) -> tuple[list[TokenListed], str]:
    whole = reading.mapping(answer.json())
    following = whole.get("continuationToken")
    listed = [reading.token_listed(entry) for entry in reading.items(whole.get("tokens"))]
    return listed, reading.header_text(following) if following else ""
