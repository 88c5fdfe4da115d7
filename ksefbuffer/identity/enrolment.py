"""Getting certificates from KSeF and renewing them, in steps that a restart may interrupt anywhere.

::

    start ── key sealed, request kept ──► ask ──► look ──► certificate kept ──► prove ──► active
                                           └─ answer unclear ──► find (by name) ─┘

A request counts against a small quota (12 for a person), also one that comes to nothing (FACTS §9, §15.39). So it is
never sent again unless KSeF did not take it: ``ask`` commits that it may be out there, and how much quota was left,
before it calls; after an unclear answer KSeF's list of certificates, searched for our unique name, tells that it came,
and only a quota that has not gone down, a while later, that it did not. A certificate that logs
in is put in use once it did log in; until then the old one stays. Nothing is revoked by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from cryptography import x509

from ksefbuffer.errors import (
    CallFault,
    ConfigurationFault,
    CredentialFault,
    NotAllowedNow,
    NotTaken,
    OutcomeUnknown,
    Refused,
    Unauthorised,
)
from ksefbuffer.identity.chosen import unsealed
from ksefbuffer.identity.examining import Purpose, new_name, sealed_for
from ksefbuffer.identity.material import Credential, CredentialKind, credential_of, secret_of
from ksefbuffer.identity.neighbours import CertificateKind, Database, Ksef, Register, Row
from ksefbuffer.identity.pacing import (
    ARRIVES_WITHIN,
    BEGIN_AGAIN_AFTER,
    CHECK_EVERY,
    FIND_PAUSES,
    GIVE_UP_FINDING_AFTER,
    PAUSES,
    REFUSED_PAUSE,
    RENEW_AGAIN_AFTER,
    RENEW_BEFORE,
    TURN_PAUSES,
    asked_pause,
    nth,
    said,
)
from ksefbuffer.identity.recognition import Kind, facts_of, recognise
from ksefbuffer.identity.requests import KeyKind, kind_of_key, new_key, request_for
from ksefbuffer.identity.vault import Vault

log = logging.getLogger(__name__)

PURPOSES: tuple[Purpose, ...] = ("auth", "offline")
_KINDS: Mapping[str, CertificateKind] = {"auth": "Authentication", "offline": "Offline"}
_DONE = 200
_REJECTED = 400
_GONE = ("Revoked", "Blocked")
_AT_ONCE = 10


class Enrolment:
    """Requests and renewals of both kinds of certificates. For one thread.

    ``log_in_with`` logs in to KSeF by a credential and goes on with it, or raises CallFault and leaves everything as it
    was. With ``follows`` it is also called when another process has put a certificate for "auth" in use: not ``used``,
    the row that the present login is by. ``problems`` says in Polish, by purpose, why a renewal could not begin.
    """

    def __init__(
        self,
        database: Database,
        register: Register,
        ksef: Ksef,
        vault: Vault,
        clock: Callable[[], datetime],
        *,
        log_in_with: Callable[[Credential], None],
        follows: bool = False,
        used: int | None = None,
    ) -> None:
        self._database = database
        self._register = register
        self._ksef = ksef
        self._vault = vault
        self._clock = clock
        self._log_in_with = log_in_with
        self._follows = follows
        self._used = used
        self._follow_at: datetime | None = None
        self._no_renewal_before: dict[str, datetime] = {}
        self._check_at: datetime | None = None
        self.problems: dict[str, str] = {}

    # --- for a command

    def start(self, purpose: Purpose, key: KeyKind = "ec") -> Row:
        """Begin a request; one that is pending already is gone on with instead. No quota is used before the first step.

        Raises NotAllowedNow when KSeF's limits are used up, CredentialFault, and CallFault.
        """
        before = self._pending(purpose)
        if before is not None:
            return before
        self._quota()
        subject = self._ksef.enrolment_data()
        private_key = new_key(key)
        request = request_for(subject, private_key)
        now = self._clock()
        name = new_name(purpose, now)
        sealed = self._vault.seal(sealed_for(purpose, name), secret_of(private_key))
        with self._database.transaction() as tx:
            begun = self._register.begin_request(tx, purpose, name, request=request, sealed_key=sealed, at=now)
            found = begun or self._register.pending(tx, purpose)
        if found is None:
            raise NotAllowedNow("Wniosek właśnie zakończono w innym procesie.", action="Powtórz polecenie.")
        return found

    def go_on(self, purpose: Purpose) -> Row | None:
        """One step of the pending request now, due or not; returns how it stands then. None: nothing is pending.

        For a command that waits: while the row stays pending, ``next_step_at`` is when to come again and ``note`` says
        why.
        """
        row = self._pending(purpose)
        if row is None:
            return None
        self._advance(row)
        with self._database.reading() as tx:
            return self._register.kept(tx, row.id)

    def abandon(self, purpose: Purpose) -> bool:
        """Give up what is pending and forget its key; False when nothing is. What KSeF has issued or still issues for
        it has used up quota and is of no use to anybody."""
        row = self._pending(purpose)
        if row is None:
            return False
        with self._database.transaction() as tx:
            return self._register.reject(tx, row.id, "Porzucony na żądanie.", at=self._clock())

    # --- for a duty

    def step(self) -> bool:
        """One due unit of work: a step of a request, the beginning of a renewal, or the daily look at what is in use.
        True when there may be more. KSeF's troubles postpone the unit and are noted in its row."""
        now = self._clock()
        for purpose in PURPOSES:
            row = self._pending(purpose)
            if row is not None and (row.next_step_at is None or row.next_step_at <= now):
                self._advance(row)
                return True
        if self._follows and (self._follow_at is None or self._follow_at <= now):
            self._follow(now)
        for purpose in PURPOSES:
            due = self._renewal_due(purpose)
            if due is not None and due <= now:
                return self._renew(purpose, now)
        if self._check_at is None or self._check_at <= now:
            self._check_at = now + CHECK_EVERY
            self._look_at_active(now)
        return False

    @property
    def next_due(self) -> datetime | None:
        """When ``step`` has something to do again."""
        moments = [self._check_at or self._clock()]
        for purpose in PURPOSES:
            row = self._pending(purpose)
            due = self._renewal_due(purpose) if row is None else row.next_step_at
            if due is not None:
                moments.append(due)
        return min(moments)

    def _pending(self, purpose: str) -> Row | None:
        with self._database.reading() as tx:
            return self._register.pending(tx, purpose)

    def _renewal_due(self, purpose: str) -> datetime | None:
        with self._database.reading() as tx:
            active, pending = self._register.active(tx, purpose), self._register.pending(tx, purpose)
            rejected_at = self._register.last_rejected_at(tx, purpose)
        if active is None or pending is not None or active.valid_to is None or not _by_ksef(active):
            return None
        moments = [active.valid_to - RENEW_BEFORE]
        if rejected_at is not None:
            moments.append(rejected_at + RENEW_AGAIN_AFTER)
        if purpose in self._no_renewal_before:
            moments.append(self._no_renewal_before[purpose])
        return max(moments)

    def _renew(self, purpose: Purpose, now: datetime) -> bool:
        with self._database.reading() as tx:
            active = self._register.active(tx, purpose)
        if active is None or active.certificate is None:
            return False
        try:
            self.start(purpose, kind_of_key(_parsed(active.certificate.encode("ascii"))))
        except (CallFault, CredentialFault, NotAllowedNow) as fault:
            self._no_renewal_before[purpose] = now + max(asked_pause(fault), BEGIN_AGAIN_AFTER)
            self.problems[purpose] = f"Nie udało się rozpocząć odnowienia certyfikatu: {fault}"
            log.warning("renewal purpose=%s could not begin: %s", purpose, fault)
            return False
        self.problems.pop(purpose, None)
        return True

    def _quota(self) -> int:
        """How many requests KSeF still allows. Raises NotAllowedNow when none, CallFault."""
        limits = self._ksef.certificate_limits()
        if limits.requests_left < 1:
            raise NotAllowedNow(
                "W KSeF wyczerpano limit wniosków o certyfikat.",
                action="Limit odnawia się z czasem (około 30 dni); można też użyć certyfikatu już wydanego.",
            )
        if limits.certificates_left < 1:
            raise NotAllowedNow(
                "W KSeF wyczerpano limit czynnych certyfikatów.",
                action="Unieważnij w KSeF certyfikaty, których już nie używasz, i powtórz polecenie.",
            )
        if not limits.may_request:
            raise NotAllowedNow(
                "KSeF nie pozwala teraz złożyć wniosku o certyfikat.",
                action="Zaloguj się podpisem lub certyfikatem (nie tokenem) i sprawdź w KSeF limity certyfikatów.",
            )
        return limits.requests_left

    # --- steps

    def _advance(self, row: Row) -> None:
        try:
            if row.certificate is not None:
                self._prove(row)
            elif row.asked_at is None:
                self._ask(row)
            elif row.reference is None:
                self._find(row, row.asked_at)
            else:
                self._look(row, row.asked_at, row.reference)
        except (CallFault, CredentialFault, ConfigurationFault, NotAllowedNow) as fault:
            # Of a step that only asks; what changes something at KSeF is judged where it is called.
            self._postpone(row, max(asked_pause(fault), nth(PAUSES, row.tries)), said(fault))

    def _postpone(self, row: Row, pause: timedelta, note: str | None) -> None:
        with self._database.transaction() as tx:
            self._register.postpone(tx, row.id, next_step_at=self._clock() + pause, note=note)

    def _reject(self, row: Row, note: str) -> None:
        log.warning("credential=%s request ended: %s", row.id, note)
        with self._database.transaction() as tx:
            self._register.reject(tx, row.id, note, at=self._clock())

    def _ask(self, row: Row) -> None:
        if any(_unclear(other) for other in map(self._pending, PURPOSES)):
            # Its fate is read from the quota, which this one would change.
            self._postpone(row, nth(TURN_PAUSES, row.tries), "Czeka, aż wyjaśni się los poprzedniego wniosku.")
            return
        quota = self._quota()
        with self._database.transaction() as tx:
            if row.request is None or not self._register.ask(tx, row.id, quota=quota, at=self._clock()):
                return
        try:
            reference = self._ksef.enrol(row.name, _KINDS[row.purpose], row.request)
        except Refused as fault:
            self._reject(row, said(fault))
        except NotTaken as fault:
            pause = max(asked_pause(fault), nth(PAUSES, row.tries))
            with self._database.transaction() as tx:
                self._register.not_asked(tx, row.id, next_step_at=self._clock() + pause, note=said(fault))
        except OutcomeUnknown as fault:
            log.warning("credential=%s answer to the request unclear; looking for it by name", row.id)
            self._postpone(row, FIND_PAUSES[0], str(fault))
        else:
            with self._database.transaction() as tx:
                self._register.asked(tx, row.id, reference, next_step_at=self._clock() + PAUSES[0])

    def _look(self, row: Row, asked_at: datetime, reference: str) -> None:
        try:
            status = self._ksef.enrolment(reference)
        except Refused:
            # Unknown yet, or forgotten after 30 days: the certificate itself is what counts.
            self._find(row, asked_at)
            return
        if status.code == _DONE:
            self._take(row, [status.serial])
        elif status.code < _DONE:
            self._postpone(row, nth(PAUSES, row.tries), status.description)
        elif status.code == _REJECTED or not self._found(row):
            self._reject(row, f"KSeF zakończył wniosek bez wydania certyfikatu ({status.code}: {status.description}).")

    def _find(self, row: Row, asked_at: datetime) -> None:
        if self._found(row):
            return
        waited = self._clock() - asked_at
        if row.reference is None and waited >= ARRIVES_WITHIN and self._quota_untouched(row):
            log.warning("credential=%s KSeF did not take the request; it is sent again", row.id)
            with self._database.transaction() as tx:
                note = "Wniosek nie dotarł do KSeF; bufor składa go jeszcze raz."
                self._register.not_asked(tx, row.id, next_step_at=self._clock(), note=note)
            return
        if waited < GIVE_UP_FINDING_AFTER:
            note = (
                "Nie wiadomo jeszcze, czy KSeF przyjął wniosek; bufor szuka certyfikatu i nie składa drugiego wniosku, "
                "żeby nie zużyć limitu."
            )
            self._postpone(row, nth(FIND_PAUSES, row.tries), note)
        else:
            self._reject(row, "KSeF nie wydał certyfikatu na ten wniosek; złóż nowy (ksefbuffer cert enroll).")

    def _quota_untouched(self, row: Row) -> bool:
        return row.quota is not None and self._ksef.certificate_limits().requests_left >= row.quota

    def _found(self, row: Row) -> bool:
        listed = self._ksef.certificates(name=row.name, kind=_KINDS[row.purpose])
        serials = [one.serial for one in listed if one.name == row.name and one.status not in _GONE]
        if serials:
            self._take(row, serials[:_AT_ONCE])
        return bool(serials)

    def _take(self, row: Row, serials: list[str]) -> None:
        issued = [_parsed(one.der) for one in self._ksef.retrieve_certificates(serials)]
        if not issued:
            self._postpone(row, nth(PAUSES, row.tries), "KSeF wydał certyfikat, ale jeszcze go nie udostępnia.")
            return
        secret = self._vault.open(sealed_for(row.purpose, row.name), row.sealed_key or b"")
        credential = next((one for one in (_joined(certificate, secret) for certificate in issued) if one), None)
        if credential is None:
            self._reject(row, "KSeF wydał certyfikat na inny klucz niż we wniosku; zgłoś to pomocy KSeF.")
            return
        wanted = CredentialKind.AUTHENTICATION if row.purpose == "auth" else CredentialKind.OFFLINE
        if credential.kind is not wanted:
            self._reject(row, "KSeF wydał certyfikat innego rodzaju niż we wniosku; zgłoś to pomocy KSeF.")
            return
        now = self._clock()
        with self._database.transaction() as tx:
            self._register.issue(tx, row.id, facts_of(credential.certificate), at=now)
            if row.purpose == "offline":
                # KSeF has just given it out; and it is for when KSeF cannot be asked.
                self._register.activate(tx, row.id, at=now)

    def _prove(self, row: Row) -> None:
        now = self._clock()
        if row.purpose == "auth":
            if row.valid_from is not None and row.valid_from > now:
                self._postpone(row, row.valid_from - now, "Certyfikat nie jest jeszcze ważny.")
                return
            credential = unsealed(row, self._vault)
            credential.check_login(now)
            try:
                self._log_in_with(credential)
            except (Unauthorised, Refused) as fault:
                self._postpone(row, max(asked_pause(fault), REFUSED_PAUSE), said(fault))
                return
            self._used = row.id
        with self._database.transaction() as tx:
            self._register.activate(tx, row.id, at=self._clock())

    def _follow(self, now: datetime) -> None:
        with self._database.reading() as tx:
            row = self._register.active(tx, "auth")
        if row is None or row.id == self._used:
            return
        try:
            self._log_in_with(unsealed(row, self._vault))
        except (CallFault, CredentialFault) as fault:
            log.warning("credential=%s in use by another process could not log in here: %s", row.id, fault)
            self._follow_at = now + max(asked_pause(fault), PAUSES[-2])
        else:
            self._used = row.id

    def _look_at_active(self, now: datetime) -> None:
        """Whether KSeF still takes what is in use: somebody may have revoked it there."""
        for purpose in PURPOSES:
            with self._database.reading() as tx:
                row = self._register.active(tx, purpose)
            if row is None or not row.serial or not _by_ksef(row):
                continue
            try:
                gone = any(one.status in _GONE for one in self._ksef.certificates(serial=row.serial))
            except CallFault as fault:
                log.info("credential=%s not checked: %s", row.id, fault)
                continue
            if gone:
                with self._database.transaction() as tx:
                    self._register.revoke(tx, row.id, "Odwołany w KSeF.", at=now)


def _unclear(row: Row | None) -> bool:
    return row is not None and row.asked_at is not None and row.reference is None and row.certificate is None


def _by_ksef(row: Row) -> bool:
    if row.source == "enrolment":
        return True
    kind = recognise(_parsed((row.certificate or "").encode("ascii"))).kind
    return kind in (Kind.KSEF_AUTHENTICATION, Kind.KSEF_OFFLINE)


def _parsed(content: bytes) -> x509.Certificate:
    """PEM or DER. Raises CredentialFault."""
    try:
        if content.startswith(b"-----"):
            return x509.load_pem_x509_certificate(content)
        return x509.load_der_x509_certificate(content)
    except ValueError:
        raise CredentialFault(
            "Certyfikatu wydanego przez KSeF nie da się odczytać.", action="Bufor spróbuje pobrać go jeszcze raz."
        ) from None


def _joined(certificate: x509.Certificate, secret: bytes) -> Credential | None:
    try:
        return credential_of(facts_of(certificate).certificate, secret)
    except CredentialFault:
        return None
