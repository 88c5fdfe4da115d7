"""What the page asked for and only the worker can do: certificates, tokens, a pull now.

An order is taken, done, and answered in the staff's words. One that a restart interrupted is done again where that
does no harm, and told of where it might.
"""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ksefbuffer.config import Config
from ksefbuffer.errors import BufferFault, ConfigurationFault, CredentialFault, NotAllowedNow
from ksefbuffer.identity import words
from ksefbuffer.identity.chosen import Standing, standing, standing_of_files, stored_choice
from ksefbuffer.identity.enrolment import Enrolment
from ksefbuffer.identity.examining import Purpose, examine
from ksefbuffer.identity.importing import bring_in
from ksefbuffer.identity.letterbox import order_purpose, seal_reply, setting_purpose
from ksefbuffer.identity.letterbox_opening import Letterbox
from ksefbuffer.identity.material import Credential, CredentialKind, load_credential, load_files
from ksefbuffer.identity.recognition import facts_of
from ksefbuffer.identity.uploads import Upload
from ksefbuffer.identity.vault import Vault
from ksefbuffer.ksef.client import Ksef
from ksefbuffer.ksef.signed import LoginRequest
from ksefbuffer.queue import credentials, facts, orders
from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.queue.orders import Order
from ksefbuffer.sender.probing import trouble_with

log = logging.getLogger(__name__)

CERTIFICATES_FACT = "certificates"
IN_FORCE_FACT = "settings_in_force"
LOGIN_TROUBLE_FACT = "login_trouble"
OVERRIDES_TROUBLE_FACT = "overrides_trouble"
AUTH_REQUEST_FACT = "auth_request"
PULL_FACT = "pull_wanted"
PURPOSES: tuple[Purpose, ...] = ("auth", "offline")
TOKENS_SHOWN = 100
# Opening an encrypted key takes a tenth of a second.
LOOKED_EVERY = timedelta(hours=1)
_FOR = {"auth": "logowania do KSeF", "offline": "kodów QR faktur offline"}

# What material's and examining's actions say to who edits the settings, for who stands before a form.
_IN_THE_FORM: Mapping[str, str] = {
    "zamienione miejscami": "Wskaż certyfikat w polu „Certyfikat”, a klucz w polu „Klucz prywatny”.",
    "klucz prywatny zamiast certyfikatu": "W polu „Certyfikat” wskaż certyfikat (.crt, .cer, .pem) albo plik .p12.",
    "nie zawiera certyfikatu": "W polu „Certyfikat” wskaż certyfikat (.crt, .cer, .pem, .der) albo plik .p12.",
    "certyfikat zamiast klucza": "W polu „Klucz prywatny” wskaż plik z kluczem (.key, .pem, .der).",
    "sam certyfikat, bez klucza": "Wskaż też plik z kluczem prywatnym (.key), zapisany przy składaniu wniosku.",
    "sam klucz prywatny": "Wskaż też plik z certyfikatem (.crt, .cer, .pem).",
    "nie podano hasła": "Wpisz hasło klucza i prześlij pliki jeszcze raz.",
    "jest niewłaściwe": "Wpisz właściwe hasło i prześlij pliki jeszcze raz; wielkość liter ma znaczenie.",
    "nie jest plikiem PKCS#12": "Wskaż certyfikat i klucz albo jeden plik .p12 lub .pfx.",
    "typu Offline (do kodów QR)": "Prześlij certyfikat typu Uwierzytelnianie albo wybierz przeznaczenie „kody QR "
    "faktur offline”.",
    "a do kodów QR faktur offline potrzebny": "Prześlij certyfikat typu Offline albo wybierz przeznaczenie „logowanie "
    "do KSeF”.",
    "a kody QR faktur offline podpisuje się": "Uzyskaj certyfikat typu Offline (przycisk „Uzyskaj certyfikaty z "
    "KSeF”); kwalifikowany służy do logowania.",
    "stracił ważność": "Pobierz z KSeF nowy certyfikat i prześlij go.",
    "już zapisany": "Zobacz listę certyfikatów na tej stronie.",
    "Trwa już konfiguracja": "Poczekaj na jej koniec albo ją porzuć (przycisk przy certyfikacie „w trakcie "
    "konfiguracji”).",
    "AuthTokenRequest": "Wskaż dokument pobrany z tej strony, po jego podpisaniu.",
    "nie jest podpisany": "Podpisz go Profilem Zaufanym albo podpisem kwalifikowanym i wskaż plik podpisany.",
    "więcej niż jeden podpis": "Pobierz nowy dokument i podpisz go jeden raz.",
    "inny dokument niż": "Podpisz dokument pobrany ostatnio z tej strony.",
    "innego podmiotu": "Pobierz nowy dokument i podpisz go bez zmian.",
    "Minęło 10 minut": "Pobierz nowy dokument i podpisz go w ciągu 10 minut.",
}


@dataclass
class _Signed:
    """An order that goes on with the access of a signed document."""

    order: int
    ksef: Ksef
    enrolment: Enrolment
    since: datetime


@dataclass
class Orders:
    """The duty of orders; one thread calls ``step``.

    ``letterbox`` is None when the machine key cannot be used, and ``trouble`` says why. ``enrolment`` makes requests
    with a KSeF's access, ``alone`` as in the worker's; ``stranger`` is a KSeF without any way in.
    """

    config: Config
    database: Database
    ksef: Ksef
    clock: Callable[[], datetime]
    letterbox: Letterbox | None
    vault: Callable[[], Vault]
    enrolment: Callable[[Ksef, bool], Enrolment]
    stranger: Callable[[], Ksef]
    trouble: BufferFault | None = None
    next_due: datetime | None = None
    _signed: _Signed | None = None
    _told: list[dict[str, Any]] | None = field(default=None, repr=False)
    _look_at: datetime | None = None
    _files: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def step(self) -> bool:
        """One order, or one step of the order that takes longer. True when there may be more. Raises StorageFault."""
        now = self.clock()
        self._tell_certificates(now)
        with self.database.reading() as tx:
            open_orders, late = orders.unfinished(tx), orders.any_late(tx, now)
        if late:
            with self.database.transaction() as tx:
                orders.expire(tx, now)
            return True
        for order in open_orders:
            if self._signed is not None and self._signed.order == order.id:
                continue
            if order.state == "waiting":
                with self.database.transaction() as tx:
                    if not orders.take(tx, order.id):
                        continue
            self._do(order, again=order.state == "working")
            return True
        return self._go_on(now)

    def close(self) -> None:
        """Lets go of the access that a signed document gave."""
        if self._signed is not None:
            self._signed.ksef.close()
            self._signed = None

    def _do(self, order: Order, *, again: bool) -> None:
        ended = False
        try:
            if self.letterbox is None:
                raise self.trouble or ConfigurationFault("Klucz maszyny jest niedostępny.")
            wanted = json.loads(self.letterbox.open(order_purpose(order.kind), order.payload or b""))
            result = self._result(order, wanted, again=again)
            if result is not None:
                self._finish(order.id, result)
            ended = True
        except StorageFault:
            # It stays at work in the database, and is gone on with as after a restart.
            ended = True
            raise
        except BufferFault as fault:
            self._fail(order.id, fault)
            ended = True
        finally:
            if not ended:
                with suppress(StorageFault):
                    self._fail(
                        order.id,
                        BufferFault("Bufor natrafił na nieoczekiwany błąd.", action="Szczegóły są w dzienniku usługi."),
                    )

    def _finish(self, number: int, result: dict[str, Any]) -> None:
        with self.database.transaction() as tx:
            orders.finish(tx, number, result, at=self.clock())

    def _fail(self, number: int, fault: BufferFault) -> None:
        with self.database.transaction() as tx:
            orders.fail(tx, number, fault.message, in_the_form(fault), at=self.clock())

    def _result(self, order: Order, wanted: dict[str, Any], *, again: bool) -> dict[str, Any] | None:
        """None: the order goes on."""
        match order.kind:
            case "cert-import":
                return self._import(wanted, again=again)
            case "cert-enroll":
                return self._enroll(wanted, since=order.at if again else None)
            case "cert-abandon":
                return self._abandon(wanted["purpose"])
            case "auth-request":
                return self._auth_request()
            case "auth-submit":
                return self._auth_submit(order, wanted, again=again)
            case "token-list":
                return self._tokens()
            case "token-make":
                return self._make_token(wanted, again=again)
            case "token-revoke":
                self.ksef.revoke_token(str(wanted["reference"]))
                return {
                    "message": "Token unieważniony. Dostęp uzyskany nim wcześniej wygasa najdalej po kilku minutach."
                }
            case "pull":
                return self._pull(wanted.get("subjects") or [])
            case "rescan":
                return self._rescan()
            case "folders":
                return self._folders()
            case _:
                raise ConfigurationFault(
                    f"Ta wersja bufora nie zna polecenia {order.kind}.", action="Zaktualizuj bufor."
                )

    # --- certificates

    def _import(self, wanted: dict[str, Any], *, again: bool) -> dict[str, Any]:
        config, now = self.config, self.clock()
        credential = uploaded(wanted)
        purpose = _purpose(wanted.get("purpose"), credential)
        examined = examine(credential, purpose, environment=config.environment, nip=config.nip, now=now)
        told = facts_of(credential.certificate)
        if not (again and self._is_kept(told.fingerprint)):
            bring_in(self.database, credentials, self.vault(), credential, purpose, now=now)
        hints = list(examined.hints)
        if purpose == "auth" and config.auth.has_key:
            hints.append("W pliku konfiguracji, w [auth], są wskazane pliki; dopóki są ważne, bufor używa ich.")
        return {
            "message": f"Zapisano certyfikat do {_FOR[purpose]}: {told.subject}, ważny do {told.valid_to:%Y-%m-%d}.",
            "kind": str(examined.recognised.kind),
            "purpose": purpose,
            "hints": hints,
        }

    def _is_kept(self, fingerprint: str) -> bool:
        with self.database.reading() as tx:
            return any(row.fingerprint == fingerprint for row in credentials.all_kept(tx))

    def _enroll(self, wanted: dict[str, Any], since: datetime | None) -> dict[str, Any]:
        with self.database.reading() as tx:
            kept = credentials.all_kept(tx)
        purposes: Sequence[Purpose] = [one for one in PURPOSES if one in wanted["purposes"]]
        if wanted.get("renew"):
            purposes = [one for one in purposes if any(row.purpose == one and row.state == "active" for row in kept)]
        if not purposes:
            raise NotAllowedNow("Nie ma certyfikatu do odnowienia.", action="Najpierw uzyskaj go albo prześlij.")
        enrolment = self.enrolment(self.ksef, False)
        for purpose in purposes:
            begun = any(
                row.purpose == purpose and row.source == "enrolment" and since is not None and row.made_at >= since
                for row in kept
            )
            if not begun:
                enrolment.start(purpose, "rsa" if wanted.get("key") == "rsa" else "ec")
        return {
            "message": "Bufor składa wniosek w KSeF; certyfikat pojawi się na liście, zwykle w ciągu kilku minut.",
            "purposes": list(purposes),
        }

    def _abandon(self, purpose: Purpose) -> dict[str, Any]:
        if not self.enrolment(self.ksef, False).abandon(purpose):
            raise NotAllowedNow("Nic nie jest w trakcie konfiguracji.", action="Odśwież stronę.")
        return {"message": "Porzucono; klucz został usunięty."}

    # --- a login signed elsewhere

    def _auth_request(self) -> dict[str, Any]:
        ksef = self.stranger()
        try:
            request = ksef.auth_request(self.config.auth.identifier)
        finally:
            ksef.close()
        with self.database.transaction() as tx:
            facts.put(tx, AUTH_REQUEST_FACT, request.kept(), at=self.clock())
        return {
            "message": "Dokument gotowy do podpisania.",
            "document": request.document().decode("utf-8"),
            "expires_at": request.expires_at.isoformat(),
        }

    def _auth_submit(self, order: Order, wanted: dict[str, Any], *, again: bool) -> dict[str, Any] | None:
        if again:
            raise NotAllowedNow(
                "Bufor uruchomiono ponownie, zanim skończył logowanie podpisanym dokumentem.",
                action="Pobierz nowy dokument i podpisz go; rozpoczęte wnioski o certyfikat będą kontynuowane.",
            )
        with self.database.reading() as tx:
            told = facts.get(tx, AUTH_REQUEST_FACT)
        if told is None:
            raise NotAllowedNow("Nie ma dokumentu logowania.", action="Najpierw pobierz dokument z tej strony.")
        ksef = self.stranger()
        try:
            ksef.auth_submit(LoginRequest.restored(told[0]), b64decode(wanted["content"]))
            with self.database.transaction() as tx:
                facts.forget(tx, AUTH_REQUEST_FACT)
            enrolment = self.enrolment(ksef, True)
            for purpose in PURPOSES:
                enrolment.start(purpose)
        except BaseException:
            ksef.close()
            raise
        self.close()
        self._signed = _Signed(order.id, ksef, enrolment, self.clock())
        self.next_due = self.clock()
        with self.database.transaction() as tx:
            orders.progress(tx, order.id, {"message": "Zalogowano do KSeF; trwa uzyskiwanie certyfikatów."})
        return None

    def _go_on(self, now: datetime) -> bool:
        signed = self._signed
        if signed is None:
            self.next_due = None
            return False
        with self.database.reading() as tx:
            pending = [row for row in (credentials.pending(tx, purpose) for purpose in PURPOSES) if row is not None]
            kept = [row for row in credentials.all_kept(tx) if row.made_at >= signed.since or row.state == "pending"]
        due = [row for row in pending if row.next_step_at is None or row.next_step_at <= now]
        if due:
            purpose: Purpose = "offline" if due[0].purpose == "offline" else "auth"
            signed.enrolment.go_on(purpose)
            return True
        if pending:
            self.next_due = min(row.next_step_at for row in pending if row.next_step_at is not None)
            return False
        newest = {row.purpose: row for row in reversed(kept)}
        lines = [f"{_FOR[one]}: {standing(newest[one], now).status}" for one in PURPOSES if one in newest]
        good = all(row.state in ("active", "replaced") for row in newest.values())
        notes = [row.note for row in newest.values() if row.note]
        self.close()
        self.next_due = None
        if good:
            self._finish(signed.order, {"message": "Certyfikaty uzyskane. Do " + "; do ".join(lines) + "."})
        else:
            fault = CredentialFault(
                "Zalogowano, ale KSeF nie wydał certyfikatu. Do " + "; do ".join(lines) + ".", action=" ".join(notes)
            )
            self._fail(signed.order, fault)
        return True

    # --- tokens

    def _tokens(self) -> dict[str, Any]:
        listed: list[dict[str, Any]] = []
        more = False
        for one in self.ksef.tokens():
            if len(listed) == TOKENS_SHOWN:
                more = True
                break
            listed.append(
                {
                    "reference": one.reference,
                    "description": one.description,
                    "permissions": list(one.permissions),
                    "status": one.status,
                    "created_at": one.created_at.isoformat() if one.created_at else None,
                    "last_used_at": one.last_used_at.isoformat() if one.last_used_at else None,
                }
            )
        return {"message": "", "tokens": listed, "more": more}

    def _make_token(self, wanted: dict[str, Any], *, again: bool) -> dict[str, Any]:
        description = str(wanted["description"])
        if again:
            raise NotAllowedNow(
                "Bufor uruchomiono ponownie w chwili tworzenia tokenu; nie wiadomo, czy KSeF go utworzył.",
                action=f"Odśwież listę tokenów i unieważnij ten o opisie „{description}”, a potem utwórz nowy.",
            )
        made = self.ksef.make_token(description)
        sealed = seal_reply(b64decode(wanted["reply_key"]), made.token.encode("utf-8"))
        return {
            "message": "Token utworzony.",
            "reference": made.reference,
            "sealed": b64encode(sealed).decode("ascii"),
        }

    # --- receiving, folders

    def _pull(self, subjects: list[str]) -> dict[str, Any]:
        if not self.config.incoming.enabled:
            raise NotAllowedNow("Pobieranie jest wyłączone.", action="Ustaw w pliku [incoming] enabled = true.")
        now = self.clock()
        wanted = [one for one in self.config.incoming.subjects if not subjects or one in subjects]
        with self.database.transaction() as tx:
            facts.put(tx, PULL_FACT, {"at": now.isoformat(), "subjects": wanted}, at=now)
        return {"message": "Pobieranie rozpoczęte."}

    def _rescan(self) -> dict[str, Any]:
        if not self.config.incoming.enabled:
            raise NotAllowedNow("Pobieranie jest wyłączone.", action="Ustaw w pliku [incoming] enabled = true.")
        with self.database.transaction() as tx:
            orders.want_rescan(tx)
        return {"message": "Bufor porówna ostatnie dni z KSeF i dobierze to, czego brakuje."}

    def _folders(self) -> dict[str, Any]:
        paths = self.config.paths
        names = {
            "inbox": paths.inbox,
            "outbox": paths.outbox,
            "processed": paths.processed,
            "rejected": paths.rejected,
            **({"incoming": paths.incoming} if self.config.incoming.enabled else {}),
        }
        found = {name: trouble_with(folder) for name, folder in names.items()}
        bad = [text for text in found.values() if text]
        if bad:
            raise ConfigurationFault(
                " ".join(bad), action="Nadaj użytkownikowi, pod którym działa bufor, prawo zapisu w tych folderach."
            )
        return {"message": "Próba zapisu udana we wszystkich folderach.", "folders": list(found)}

    # --- facts for the page

    def _tell_certificates(self, now: datetime) -> None:
        """Which certificates are in use and how they stand, as only the worker may read those from files; written when
        it changed."""
        if self._look_at is None or now >= self._look_at:
            self._look_at = now + LOOKED_EVERY
            self._files = certificates_of_files(self.config, now)
        with self.database.reading() as tx:
            kept = credentials.all_kept(tx)
        told = in_use(self.config, self._files, kept, now)
        if told != self._told:
            with self.database.transaction() as tx:
                facts.put(tx, CERTIFICATES_FACT, told, at=now)
            self._told = told


def opened_values(values: Mapping[str, Any], letterbox: Letterbox | None) -> dict[str, Any]:
    """Settings changed on the page, those that are secrets opened. Raises CredentialFault."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if not (isinstance(value, dict) and "sealed" in value):
            found[key] = value
            continue
        if letterbox is None:
            raise CredentialFault("Klucz maszyny jest niedostępny.", action="Sprawdź: ksefbuffer doctor.")
        found[key] = json.loads(letterbox.open(setting_purpose(key), b64decode(value["sealed"])))
    return found


def uploaded(wanted: Mapping[str, Any]) -> Credential:
    """The credential in an order to import one. Raises CredentialFault."""
    first = _upload(wanted["certificate"])
    second = _upload(wanted["key"]) if wanted.get("key") else None
    return load_files(first, second, wanted.get("password") or None)


def _upload(told: Mapping[str, str]) -> Upload:
    return Upload(told["name"], b64decode(told["content"]))


def _purpose(given: str | None, credential: Credential) -> Purpose:
    match given:
        case "auth":
            return "auth"
        case "offline":
            return "offline"
        case _:
            return "offline" if credential.kind is CredentialKind.OFFLINE else "auth"


def in_the_form(fault: BufferFault) -> str:
    """What to do next, for who stands before the page's form."""
    return next((told for part, told in _IN_THE_FORM.items() if part in fault.message), fault.action)


def certificates_of_files(config: Config, now: datetime) -> list[dict[str, Any]]:
    """How the certificates named in the settings stand, and in the sandbox its own, as ``in_use`` tells them."""
    found: list[dict[str, Any]] = []
    for purpose, keys in (("auth", config.auth), ("offline", config.offline)):
        own = purpose == "auth" and config.environment == "sandbox" and not keys.has_key
        certificate, private_key = keys.certificate, keys.private_key
        if own:
            certificate, private_key = config.data_dir / "sandbox-auth.crt", config.data_dir / "sandbox-auth.key"
        if not keys.has_key and (certificate is None or not certificate.exists()):
            continue
        try:
            credential = load_credential(
                certificate=certificate,
                private_key=private_key,
                pkcs12=keys.pkcs12,
                password=keys.read_private_key_password(),
            )
        except (CredentialFault, ConfigurationFault) as fault:
            found.append(_broken(purpose, fault))
        else:
            told = as_told(standing_of_files(purpose, credential, now))
            found.append({**told, "origin": "sandbox" if own else "files"})
    return found


def in_use(
    config: Config, files: Sequence[dict[str, Any]], kept: Sequence[credentials.Kept], now: datetime
) -> list[dict[str, Any]]:
    """For the fact "certificates": by purpose, the one in use first, then others from files.

    Each has ``as_told``'s keys; ``kept`` is its row's number, None for files. ``problem`` is None while it is good.
    """
    told: list[dict[str, Any]] = []
    for purpose in PURPOSES:
        mine = [one for one in files if one["purpose"] == purpose]
        row = stored_choice(purpose, kept)
        stored = [] if row is None else [{**as_told(standing(row, now)), "kept": row.id}]
        named_first = bool(mine) and mine[0]["origin"] == "files" and mine[0]["status"] != words.EXPIRED
        told += [*mine, *stored] if named_first else [*stored, *mine]
        if purpose == "auth" and not mine and not stored and config.auth.method == "certificate":
            told.append(_broken("auth", ConfigurationFault("Bufor nie ma certyfikatu do logowania w KSeF."), "none"))
    return told


def as_told(one: Standing) -> dict[str, Any]:
    """A standing, fit for JSON."""
    good = one.status in (words.WORKING, words.CONFIGURING) or one.status.startswith("wygasa")
    until = one.valid_to.isoformat() if one.valid_to else None
    return {
        "purpose": one.purpose,
        "origin": one.origin,
        "kept": None,
        "status": one.status,
        "subject": one.subject,
        "issuer": one.issuer,
        "serial": one.serial,
        "valid_from": one.valid_from.isoformat() if one.valid_from else None,
        "valid_to": until,
        "expires_at": until,
        "days_left": one.days_left,
        "note": one.note,
        "problem": None if good else f"Certyfikat do {_FOR[one.purpose]}: {one.status}.",
        "action": "",
    }


def _broken(purpose: str, fault: BufferFault, origin: str = "files") -> dict[str, Any]:
    nothing = dict.fromkeys(("kept", "valid_from", "valid_to", "expires_at", "days_left"))
    empty = dict.fromkeys(("subject", "issuer", "serial", "note"), "")
    told = {"purpose": purpose, "origin": origin, "status": "nie działa" if origin == "files" else "brak"}
    return {**told, **nothing, **empty, "problem": fault.message, "action": fault.action}
