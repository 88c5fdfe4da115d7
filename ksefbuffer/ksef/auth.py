"""Logging in to KSeF and keeping access fresh.

Access tokens live 15 minutes and refresh tokens 7 days; only ``validUntil`` is believed. One thread at a time talks to
KSeF about access and the others take what it got, its failure included. Source: FACTS §2.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from ksefbuffer.errors import (
    Blocked,
    BufferFault,
    NotTaken,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unauthorised,
    Unavailable,
    Unreachable,
)
from ksefbuffer.ksef.crypto import FOR_TOKENS, PublicKeys, wrap
from ksefbuffer.ksef.failures import ASK_AGAIN, BAD_CHALLENGE, LOGIN_OVER, UNKNOWN_KEY, WAIT
from ksefbuffer.ksef.reading import header_text, integer, mapping, moment, optional_text, text
from ksefbuffer.ksef.wire import Answer, Call, Wire
from ksefbuffer.ksef.xades import Identifier, SigningCredential, login_document, sign

log = logging.getLogger(__name__)

# signxml logs whole login documents at DEBUG, the challenge included.
logging.getLogger("signxml").setLevel(logging.WARNING)

RENEW_BEFORE = timedelta(minutes=2)
# With a clock far ahead of KSeF's every token looks expired; then 401s decide, not our clock, except once a minute.
LEAST_USE = timedelta(minutes=1)
LOGIN_ATTEMPTS = 3
POLL_PAUSES_S = (0.2, 0.5, 1, 2, 4, 8, 15, *(30,) * 9)

_PENDING = 100
_DONE = 200


@dataclass(frozen=True)
class CertificateLogin:
    """Login by XAdES with an authentication certificate."""

    credential: SigningCredential = field(repr=False)
    identifier: Identifier = "certificate_subject"


@dataclass(frozen=True)
class TokenLogin:
    """Login by a KSeF token: the whole opaque string, which may itself hold "|"."""

    token: str = field(repr=False)


@dataclass(frozen=True)
class NoLogin:
    """No way in of our own: access comes only by ``Access.submit``, with a document that a person signed elsewhere."""


Login = CertificateLogin | TokenLogin | NoLogin


@dataclass(frozen=True)
class Context:
    """In whose name we act: ``kind`` is Nip or InternalId."""

    kind: str
    value: str


@dataclass(frozen=True)
class _Token:
    token: str = field(repr=False)
    valid_until: datetime
    renew_at: datetime


@dataclass(frozen=True)
class Challenge:
    """What a login document has to hold, and when KSeF gave it (ms since 1970). Lives for 10 minutes, for one use."""

    challenge: str = field(repr=False)
    timestamp_ms: int


class _LoginAgain(Exception):
    """This try failed in a way that a new challenge may cure; ``fault`` is what to raise when tries run out."""

    def __init__(self, fault: BufferFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Access:
    """The current access token of one context. Safe to share between threads.

    ``token``, ``renewed``, ``login_now``, ``adopt`` and ``submit`` raise Unauthorised (a person must act), Unreachable,
    RateLimited, Blocked, Unavailable, or OutcomeUnknown when KSeF would not say how the login ended.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        login: Login,
        context: Context,
        public_keys: PublicKeys,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
    ) -> None:
        self.context = context
        self._wire = wire
        self._login = login
        self._public_keys = public_keys
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._access: _Token | None = None
        self._refresh: _Token | None = None
        self._tries_ended = 0
        self._last_fault: BufferFault | None = None

    def token(self) -> str:
        """A token good for the next request; ask again for every request, since long work outlives it."""
        access = self._access
        if access is not None and self._clock() < access.renew_at:
            return access.token
        return self._alone(lambda: self._access is not None and self._clock() < self._access.renew_at, self._renew)

    def renewed(self, refused: str) -> str:
        """KSeF answered 401 to the token ``refused``: a newer one."""
        return self._alone(lambda: self._access is not None and self._access.token != refused, self._renew)

    def login_now(self) -> None:
        """Log in anew, whatever we hold: new rights become visible only so."""
        self._alone(lambda: False, self._log_in)

    def adopt(self, login: Login) -> None:
        """Log in by ``login``, and go on with it from now on; when that fails, the way in stays what it was."""
        with self._lock:
            before, self._login = self._login, login
            try:
                self._log_in()
            except BaseException:
                self._login = before
                raise
            self._last_fault = None
            self._tries_ended += 1

    def challenge(self) -> Challenge:
        """A new challenge, for a document to be signed elsewhere."""
        return self._wire.call(
            Call("challenge", "POST", "/auth/challenge", "anonymous", repeatable=True), _read_challenge
        )

    def submit(self, signed: bytes) -> None:
        """Log in by a signed AuthTokenRequest, its exact bytes, as it came back from whoever signed it.

        One try, as a challenge serves once. The access lasts while it can be refreshed: 7 days.
        """
        with self._lock:
            try:
                reference, token = self._post_document("login_by_document", signed)
                self._finish(reference, token)
            except Refused as fault:
                raise _refused_login(fault) from None
            except _LoginAgain as again:
                raise again.fault from None
            self._last_fault = None
            self._tries_ended += 1

    def _alone(self, satisfied: Callable[[], bool], obtain: Callable[[], None]) -> str:
        seen = self._tries_ended
        with self._lock:
            if not satisfied():
                if self._tries_ended != seen and self._last_fault is not None:
                    # Whoever we waited for has just been refused; asking again would be a storm.
                    raise copy.copy(self._last_fault)
                try:
                    obtain()
                    self._last_fault = None
                except BufferFault as fault:
                    self._last_fault = fault
                    raise
                finally:
                    self._tries_ended += 1
            if self._access is None:
                raise AssertionError("no access after a login")
            return self._access.token

    def _renew(self) -> None:
        if self._refresh is not None and self._clock() < self._refresh.renew_at:
            try:
                self._access = self._wire.call(
                    Call("refresh", "POST", "/auth/token/refresh", "anonymous", repeatable=True),
                    lambda answer: self._read_token(mapping(answer.json()).get("accessToken")),
                    bearer=self._refresh.token,
                )
                return
            except (RateLimited, Blocked, Unreachable, Unavailable):
                raise
            except (Refused, NotTaken):
                # Revoked sessions answer 400 21301, not 401, so every refusal means: log in anew (issues #336, #524).
                log.info("refresh refused, logging in anew")
        self._log_in()

    def _log_in(self) -> None:
        try:
            Retrying(
                sleep=self._sleep,
                stop=stop_after_attempt(LOGIN_ATTEMPTS),
                wait=wait_random_exponential(multiplier=1, max=10),
                retry=retry_if_exception(_worth_another_login),
                reraise=True,
            )(self._log_in_once)
        except _LoginAgain as again:
            raise again.fault from None

    def _log_in_once(self) -> None:
        self._finish(*self._begin())

    def _finish(self, reference: str, token: str) -> None:
        self._await(reference, token)
        try:
            self._access, self._refresh = self._wire.call(
                Call("redeem", "POST", "/auth/token/redeem", "anonymous"), self._read_tokens, bearer=token
            )
        except Unauthorised as fault:
            # Tokens are given out once: an answer lost on the way cannot be had again, only a new login helps.
            raise _LoginAgain(fault) if fault.code in LOGIN_OVER else fault from None
        log.info("logged in, access valid until %s", self._access.valid_until.isoformat())

    def _begin(self) -> tuple[str, str]:
        if isinstance(self._login, NoLogin):
            raise Unauthorised(
                "Bufor nie ma jeszcze certyfikatu ani tokenu, którym mógłby zalogować się do KSeF.",
                action="Zaimportuj certyfikat (ksefbuffer cert import) albo zaloguj się pierwszy raz podpisem: "
                "ksefbuffer cert auth-request.",
                operation="challenge",
            )
        challenge = self.challenge()
        try:
            if isinstance(self._login, CertificateLogin):
                return self._begin_by_certificate(self._login, challenge)
            return self._begin_by_token(self._login, challenge)
        except Refused as fault:
            if fault.code == UNKNOWN_KEY:
                self._public_keys.forget()
            unauthorised = _refused_login(fault)
            if fault.code in (UNKNOWN_KEY, BAD_CHALLENGE):
                raise _LoginAgain(unauthorised) from None
            raise unauthorised from None

    def _begin_by_certificate(self, login: CertificateLogin, challenge: Challenge) -> tuple[str, str]:
        document = login_document(challenge.challenge, self.context.kind, self.context.value, login.identifier)
        return self._post_document("login_by_certificate", sign(document, login.credential, self._clock()))

    def _post_document(self, operation: str, signed: bytes) -> tuple[str, str]:
        return self._wire.call(
            Call(operation, "POST", "/auth/xades-signature", "anonymous"),
            _read_operation,
            content=signed,
            content_type="application/xml",
        )

    def _begin_by_token(self, login: TokenLogin, challenge: Challenge) -> tuple[str, str]:
        key = self._public_keys.of(FOR_TOKENS)
        if key is None:
            raise Unavailable(
                "KSeF nie podaje ważnego klucza do szyfrowania tokenów.", action=WAIT, operation="login_by_token"
            )
        return self._wire.call(
            Call("login_by_token", "POST", "/auth/ksef-token", "anonymous"),
            _read_operation,
            json={
                "challenge": challenge.challenge,
                "contextIdentifier": {"type": self.context.kind, "value": self.context.value},
                "encryptedToken": wrap(key, f"{login.token}|{challenge.timestamp_ms}".encode()),
                "publicKeyId": key.identifier,
            },
        )

    def _await(self, reference: str, token: str) -> None:
        call = Call("login_status", "GET", f"/auth/{quote(reference, safe='')}", "anonymous", repeatable=True)
        for pause_s in (*POLL_PAUSES_S, None):
            code, description, details = self._wire.call(call, _read_status, bearer=token)
            if code == _DONE:
                return
            if not _PENDING <= code < _DONE:
                self._judge(code, description, details)
            if pause_s is not None:
                self._sleep(pause_s)
        raise OutcomeUnknown(
            "KSeF nie zakończył logowania w ciągu 5 minut.", action=WAIT, operation="login_status", code=str(_PENDING)
        )

    def _judge(self, code: int, description: str, details: tuple[str, ...]) -> None:
        said = "; ".join(filter(None, (description, *details))).lower()
        if code == 450 and "szyfrowani" in said:
            self._public_keys.forget()
        fault_class = Unavailable if code in (500, 550) else Unauthorised
        fault = fault_class(
            f"Logowanie do KSeF nie powiodło się: {'; '.join([description or str(code), *details[:1]])}.",
            action=_STATUS_ACTIONS.get(code, "Przeczytaj szczegóły podane przez KSeF i popraw ustawienia [auth]."),
            operation="login_status",
            code=str(code),
            details=details,
        )
        if _curable(code, said):
            raise _LoginAgain(fault)
        raise fault

    def _read_tokens(self, answer: Answer) -> tuple[_Token, _Token]:
        whole = mapping(answer.json())
        return self._read_token(whole.get("accessToken")), self._read_token(whole.get("refreshToken"))

    def _read_token(self, value: object) -> _Token:
        whole = mapping(value)
        now = self._clock()
        valid_until = moment(whole.get("validUntil"))
        return _Token(header_text(whole.get("token")), valid_until, max(valid_until - RENEW_BEFORE, now + LEAST_USE))


_STATUS_ACTIONS = {
    415: "Nadaj temu certyfikatowi lub tokenowi uprawnienia w KSeF dla NIP z konfiguracji (nip, auth.internal_id).",
    425: "Bufor zaloguje się ponownie.",
    450: "Sprawdź auth.token_file: token musi być czynny, z tego samego środowiska i dla tego samego NIP; "
    "w razie potrzeby wystaw nowy.",
    460: "Sprawdź certyfikat: czy jest ważny, nieunieważniony i wydany dla tego samego środowiska KSeF.",
    470: "Zaloguj bufor poświadczeniami innej, uprawnionej osoby lub firmy.",
    480: "KSeF zablokował dostęp z powodu podejrzenia incydentu bezpieczeństwa. Skontaktuj się z pomocą KSeF.",
    500: WAIT,
    550: WAIT,
}

_REFUSAL_ACTIONS = {
    "9101": "Wyślij dokładnie ten plik, który przygotował bufor, podpisany i niczym nie zmieniony.",
    "9102": "Podpisz dokument podpisem XAdES (otoczonym) i wyślij plik podpisany.",
    "9103": "Dokument może mieć tylko jeden podpis; przygotuj nowy poleceniem ksefbuffer cert auth-request.",
    "9105": "Podpisz dokument podpisem XAdES w postaci otoczonej i po podpisaniu niczego w pliku nie zmieniaj.",
    "21111": "Wyzwanie wygasło albo zostało już użyte: przygotuj nowy dokument (ksefbuffer cert auth-request).",
    "21115": "Sprawdź certyfikat: środowisko KSeF, datę ważności i dane podmiotu (NIP lub PESEL); "
    "sprawdź też zegar komputera.",
    "21117": "Sprawdź auth.identifier i auth.internal_id: nie pasują do rodzaju kontekstu.",
    "21308": "Zaloguj bufor poświadczeniami innej, uprawnionej osoby lub firmy.",
}


def _curable(code: int, said: str) -> bool:
    """Whether a new try may succeed without a person: FACTS §2.2."""
    if code == 450:
        return any(word in said for word in ("szyfrowani", "wyzwani", "czas"))
    if code in (400, 460):
        # The check of the chain asks OCSP servers, which have their own bad moments.
        return "weryfikacji łańcucha" in said
    return code in (425, 500, 550)


def _refused_login(fault: Refused) -> Unauthorised:
    return Unauthorised(
        fault.message,
        action=_REFUSAL_ACTIONS.get(fault.code, "Sprawdź certyfikat lub token w ustawieniach [auth]."),
        operation=fault.operation,
        code=fault.code,
        http_status=fault.http_status,
        details=fault.details,
    )


def _worth_another_login(fault: BaseException) -> bool:
    if isinstance(fault, OutcomeUnknown):
        return fault.code != str(_PENDING)
    return isinstance(fault, _LoginAgain | Unreachable)


def _read_challenge(answer: Answer) -> Challenge:
    whole = mapping(answer.json())
    stamp = whole.get("timestampMs")
    if stamp is None:
        stamp = int(moment(whole.get("timestamp")).timestamp() * 1000)
    return Challenge(text(whole.get("challenge")), integer(stamp))


def _read_operation(answer: Answer) -> tuple[str, str]:
    whole = mapping(answer.json())
    return text(whole.get("referenceNumber")), header_text(mapping(whole.get("authenticationToken")).get("token"))


def _read_status(answer: Answer) -> tuple[int, str, tuple[str, ...]]:
    status = mapping(mapping(answer.json()).get("status"))
    details = status.get("details")
    return (
        integer(status.get("code")),
        optional_text(status.get("description")),
        tuple(map(str, details)) if isinstance(details, list) else (),
    )


def not_taken(fault: OutcomeUnknown) -> Unavailable:
    """A step before the call proper ended unclearly: the call itself was never made, which is worth knowing."""
    return Unavailable(
        fault.message,
        action=fault.action or ASK_AGAIN,
        operation=fault.operation,
        code=fault.code,
        http_status=fault.http_status,
        details=fault.details,
        retry_after_s=fault.retry_after_s,
    )
