"""People and programs that come in by HTTP: users, groups, grants, browser sessions, invitations, keys, their log.

Tokens and keys are random 256-bit values; the database keeps their SHA-256 alone. Hashing passwords is not done here.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, or_, select, update

from ksefbuffer.errors import NoSuchThing, NotAllowedNow
from ksefbuffer.queue.db import insert_or
from ksefbuffer.queue.models import incoming
from ksefbuffer.queue.web_models import (
    api_keys,
    audit,
    grants,
    group_members,
    groups,
    invitations,
    login_failures,
    users,
    web_sessions,
)

SESSION_LIFE = timedelta(hours=24)
SESSION_IDLE = timedelta(hours=8)
INVITATION_LIFE = timedelta(hours=24)
# Keys are 32 bits; a larger one in an address is a question that no database takes.
_BEYOND_KEYS = 2**31
_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
# From the third failure on each one doubles the wait (2^(n-3) seconds), up to a quarter of an hour.
_FREE_FAILURES = 3
_LONGEST_WAIT = timedelta(minutes=15)
_FAILURES_FORGOTTEN = timedelta(hours=24)

GrantRow = tuple[str, str, bool]
"""kind ("incoming" or "outgoing"), folder ("" = all), handle."""


@dataclass(frozen=True)
class User:
    """A person. ``password_hash`` is None until they have set a password."""

    id: int
    login: str
    name: str
    admin: bool
    active: bool
    must_change: bool
    created_at: datetime
    last_login_at: datetime | None
    password_hash: str | None = field(repr=False)
    totp_secret: str | None = field(repr=False)


@dataclass(frozen=True)
class Session:
    """A browser that is signed in."""

    user: User
    csrf: str = field(repr=False)
    last_seen_at: datetime


@dataclass(frozen=True)
class ApiKey:
    """A program's key, without the key: ``prefix`` is its beginning, by which people tell keys apart."""

    id: int
    name: str
    prefix: str
    scopes: tuple[str, ...]
    active: bool
    created_at: datetime
    last_used_at: datetime | None


def digest(token: str) -> str:
    """What is kept of a token or a key."""
    return hashlib.sha256(token.encode()).hexdigest()


# Users


def normal_login(login: str) -> str:
    """Lower case, without spaces around. Raises NotAllowedNow for what no login may be."""
    normal = login.strip().lower()
    if _LOGIN.fullmatch(normal) is None:
        raise NotAllowedNow(
            "Login może mieć 1–64 znaki: małe litery bez ogonków, cyfry, kropkę, myślnik, podkreślenie i @.",
            action="Podaj inny login.",
        )
    return normal


def add_user(
    tx: Connection, login: str, *, name: str = "", admin: bool = False, password_hash: str | None = None, at: datetime
) -> User:
    """A new user; without a password they need an invitation. Raises NotAllowedNow when the login is taken."""
    normal = normal_login(login)
    if find_user(tx, normal) is not None:
        raise NotAllowedNow(f"Użytkownik {normal} już jest.", action="Podaj inny login.")
    tx.execute(
        insert(users).values(
            login=normal, name=name.strip() or normal, admin=admin, password_hash=password_hash, created_at=at
        )
    )
    return user_of(tx, normal)


def find_user(tx: Connection, login: str) -> User | None:
    row = tx.execute(select(users).where(users.c.login == login.strip().lower())).first()
    return _user(row) if row is not None else None


def user_of(tx: Connection, login: str) -> User:
    """Raises NoSuchThing."""
    found = find_user(tx, login)
    if found is None:
        raise NoSuchThing(f"Nie ma użytkownika {login}.", action="Listę pokazuje: ksefbuffer user list.")
    return found


def user_by_id(tx: Connection, user_id: int) -> User:
    """Raises NoSuchThing."""
    row = tx.execute(select(users).where(users.c.id == user_id)).first() if user_id < _BEYOND_KEYS else None
    if row is None:
        raise NoSuchThing("Nie ma takiego użytkownika.")
    return _user(row)


def all_users(tx: Connection) -> list[User]:
    """By login."""
    return [_user(row) for row in tx.execute(select(users).order_by(users.c.login))]


def any_admin(tx: Connection) -> bool:
    """Whether anybody can administer: active, with a password or not yet."""
    return tx.execute(select(users.c.id).where(users.c.admin, users.c.active).limit(1)).first() is not None


def change_user(tx: Connection, user_id: int, *, name: str, admin: bool) -> None:
    """Raises NotAllowedNow when nobody would be left to administer."""
    if not admin:
        _keep_an_admin(tx, user_id)
    tx.execute(update(users).where(users.c.id == user_id).values(name=name.strip() or users.c.login, admin=admin))


def set_active(tx: Connection, user_id: int, active: bool) -> None:
    """Who is switched off is signed out everywhere at once, and their invitations are void.

    Raises NotAllowedNow when nobody would be left to administer.
    """
    if not active:
        _keep_an_admin(tx, user_id)
        end_sessions(tx, user_id)
        tx.execute(delete(invitations).where(invitations.c.user_id == user_id))
    tx.execute(update(users).where(users.c.id == user_id).values(active=active))


def _keep_an_admin(tx: Connection, user_id: int) -> None:
    theirs = tx.execute(select(users.c.admin, users.c.active).where(users.c.id == user_id)).first()
    # Locked, each and in one order: of two administrators who take the right from each other the second must find out.
    left = select(users.c.id).where(users.c.admin, users.c.active).order_by(users.c.id).with_for_update()
    others = set(tx.execute(left).scalars()) - {user_id}
    if theirs is not None and theirs.admin and theirs.active and not others:
        raise NotAllowedNow(
            "To ostatni czynny administrator.", action="Najpierw nadaj uprawnienia administratora komuś innemu."
        )


def set_password(tx: Connection, user_id: int, password_hash: str, *, must_change: bool = False) -> None:
    """Ends every session and invitation of theirs: who knew the old password must not stay inside."""
    tx.execute(update(users).where(users.c.id == user_id).values(password_hash=password_hash, must_change=must_change))
    end_sessions(tx, user_id)
    tx.execute(delete(invitations).where(invitations.c.user_id == user_id, invitations.c.used_at.is_(None)))


def improve_hash(tx: Connection, user_id: int, password_hash: str) -> None:
    """The same password under newer parameters."""
    tx.execute(update(users).where(users.c.id == user_id).values(password_hash=password_hash))


def set_totp(tx: Connection, user_id: int, secret: str | None, *, step: int | None = None) -> None:
    """Switches the second step on (``secret``; ``step`` is that of the code that proved it) or off (None)."""
    tx.execute(update(users).where(users.c.id == user_id).values(totp_secret=secret, totp_last_step=step))


def use_totp_step(tx: Connection, user_id: int, step: int) -> bool:
    """False when this step's code, or a later one, was used before: a code is good once."""
    unused = or_(users.c.totp_last_step.is_(None), users.c.totp_last_step < step)
    done = tx.execute(update(users).where(users.c.id == user_id, unused).values(totp_last_step=step))
    return bool(done.rowcount)


def _user(row: Row[Any]) -> User:
    return User(
        id=row.id,
        login=row.login,
        name=row.name,
        admin=row.admin,
        active=row.active,
        must_change=row.must_change,
        created_at=row.created_at,
        last_login_at=row.last_login_at,
        password_hash=row.password_hash,
        totp_secret=row.totp_secret,
    )


# Sessions


def open_session(tx: Connection, user_id: int, *, at: datetime, ip: str) -> str:
    """A new session; returns its token, which goes into the cookie and nowhere else."""
    token = secrets.token_urlsafe(32)
    tx.execute(delete(web_sessions).where(web_sessions.c.expires_at <= at))
    tx.execute(
        insert(web_sessions).values(
            token_sha256=digest(token),
            user_id=user_id,
            csrf=secrets.token_urlsafe(32),
            created_at=at,
            last_seen_at=at,
            expires_at=at + SESSION_LIFE,
            ip=ip,
        )
    )
    tx.execute(update(users).where(users.c.id == user_id).values(last_login_at=at))
    return token


def find_session(tx: Connection, token: str, *, at: datetime) -> Session | None:
    """The session of this token, unless it is over or its user was switched off."""
    row = tx.execute(
        select(users, web_sessions.c.csrf, web_sessions.c.last_seen_at)
        .join(web_sessions, web_sessions.c.user_id == users.c.id)
        .where(
            web_sessions.c.token_sha256 == digest(token),
            web_sessions.c.expires_at > at,
            web_sessions.c.last_seen_at > at - SESSION_IDLE,
            users.c.active,
        )
    ).first()
    return Session(_user(row), row.csrf, row.last_seen_at) if row is not None else None


def touch_session(tx: Connection, token: str, *, at: datetime) -> None:
    tx.execute(update(web_sessions).where(web_sessions.c.token_sha256 == digest(token)).values(last_seen_at=at))


def end_session(tx: Connection, token: str) -> None:
    tx.execute(delete(web_sessions).where(web_sessions.c.token_sha256 == digest(token)))


def end_sessions(tx: Connection, user_id: int) -> None:
    tx.execute(delete(web_sessions).where(web_sessions.c.user_id == user_id))


# Throttling


def waits_until(tx: Connection, *, ip: str, login: str, at: datetime) -> datetime | None:
    """Until when nobody may try this login from this address; None when now is fine."""
    found = tx.execute(select(login_failures.c.until).where(*_failures_of(ip, login))).scalar()
    return found if found is not None and found > at else None


def count_failure(tx: Connection, *, ip: str, login: str, at: datetime) -> datetime | None:
    """One more failure; returns until when to wait, None while there is nothing to wait for."""
    tx.execute(delete(login_failures).where(login_failures.c.last_at <= at - _FAILURES_FORGOTTEN))
    name = login[:64].lower()
    statement = insert_or(tx, login_failures).values(ip=ip, login=name, count=1, last_at=at)
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=[login_failures.c.ip, login_failures.c.login],
            set_={"count": login_failures.c.count + 1, "last_at": at},
        )
    )
    count = tx.execute(select(login_failures.c.count).where(*_failures_of(ip, login))).scalar_one()
    if count < _FREE_FAILURES:
        return None
    until = at + min(timedelta(seconds=2 ** min(count - _FREE_FAILURES, 20)), _LONGEST_WAIT)
    tx.execute(update(login_failures).where(*_failures_of(ip, login)).values(until=until))
    return until


def forget_failures(tx: Connection, *, ip: str, login: str) -> None:
    tx.execute(delete(login_failures).where(*_failures_of(ip, login)))


def _failures_of(ip: str, login: str) -> tuple[Any, Any]:
    return login_failures.c.ip == ip, login_failures.c.login == login[:64].lower()


# Invitations


def invite(tx: Connection, user_id: int, *, at: datetime, life: timedelta = INVITATION_LIFE) -> str:
    """A one-time token for ``/zaproszenie/TOKEN``, by which the user sets a password; voids earlier ones."""
    token = secrets.token_urlsafe(32)
    tx.execute(delete(invitations).where(invitations.c.user_id == user_id, invitations.c.used_at.is_(None)))
    tx.execute(
        insert(invitations).values(token_sha256=digest(token), user_id=user_id, created_at=at, expires_at=at + life)
    )
    return token


def invited(tx: Connection, token: str, *, at: datetime) -> User | None:
    """Whom this token invites, while it is good."""
    row = tx.execute(
        select(users)
        .join(invitations, invitations.c.user_id == users.c.id)
        .where(
            invitations.c.token_sha256 == digest(token),
            invitations.c.used_at.is_(None),
            invitations.c.expires_at > at,
            users.c.active,
        )
    ).first()
    return _user(row) if row is not None else None


def use_invitation(tx: Connection, token: str, *, at: datetime) -> User | None:
    """Takes the token out of use; None when it was used before, ran out, or never was."""
    found = invited(tx, token, at=at)
    if found is None:
        return None
    unused = and_(invitations.c.token_sha256 == digest(token), invitations.c.used_at.is_(None))
    done = tx.execute(update(invitations).where(unused).values(used_at=at))
    return found if done.rowcount else None


# Groups and grants


def add_group(tx: Connection, name: str, *, at: datetime) -> int:
    """Returns the group's id. Raises NotAllowedNow for an empty name or one that is taken."""
    name = " ".join(name.split())
    if not name or len(name) > 100:
        raise NotAllowedNow("Nazwa grupy musi mieć od 1 do 100 znaków.")
    if tx.execute(select(groups.c.id).where(func.lower(groups.c.name) == name.lower())).first() is not None:
        raise NotAllowedNow(f"Grupa „{name}” już jest.", action="Podaj inną nazwę.")
    done = tx.execute(insert(groups).values(name=name, created_at=at))
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def all_groups(tx: Connection) -> list[tuple[int, str]]:
    """(id, name), by name."""
    return [(row.id, row.name) for row in tx.execute(select(groups.c.id, groups.c.name).order_by(groups.c.name))]


def group_name(tx: Connection, group_id: int) -> str:
    """Raises NoSuchThing."""
    found: str | None = None
    if group_id < _BEYOND_KEYS:
        found = tx.execute(select(groups.c.name).where(groups.c.id == group_id)).scalar()
    if found is None:
        raise NoSuchThing("Nie ma takiej grupy.")
    return found


def remove_group(tx: Connection, group_id: int) -> None:
    """With its grants; its members stay users."""
    tx.execute(delete(grants).where(grants.c.group_id == group_id))
    tx.execute(delete(group_members).where(group_members.c.group_id == group_id))
    tx.execute(delete(groups).where(groups.c.id == group_id))


def set_members(tx: Connection, group_id: int, user_ids: Iterable[int]) -> None:
    tx.execute(delete(group_members).where(group_members.c.group_id == group_id))
    for user_id in sorted(set(user_ids)):
        tx.execute(insert(group_members).values(group_id=group_id, user_id=user_id))


def members(tx: Connection, group_id: int) -> set[int]:
    query = select(group_members.c.user_id).where(group_members.c.group_id == group_id)
    return set(tx.execute(query).scalars())


def groups_of(tx: Connection, user_id: int) -> list[str]:
    """Names of the user's groups."""
    query = (
        select(groups.c.name)
        .join(group_members, group_members.c.group_id == groups.c.id)
        .where(group_members.c.user_id == user_id)
        .order_by(groups.c.name)
    )
    return list(tx.execute(query).scalars())


def set_grants(
    tx: Connection,
    wanted: Iterable[GrantRow],
    *,
    user_id: int | None = None,
    group_id: int | None = None,
    key_id: int | None = None,
) -> None:
    """Puts these in place of the holder's; of two for one folder the one to handle wins."""
    holder = {"user_id": user_id, "group_id": group_id, "key_id": key_id}
    tx.execute(delete(grants).where(*_held(holder)))
    merged: dict[tuple[str, str], bool] = {}
    for kind, folder, handle in wanted:
        merged[kind, folder] = merged.get((kind, folder), False) or handle
    for (kind, folder), handle in sorted(merged.items()):
        tx.execute(insert(grants).values(kind=kind, folder=folder, handle=handle, **holder))


def own_grants(
    tx: Connection, *, user_id: int | None = None, group_id: int | None = None, key_id: int | None = None
) -> list[GrantRow]:
    """Of this holder alone, without those of groups; sorted."""
    holder = {"user_id": user_id, "group_id": group_id, "key_id": key_id}
    return _grant_rows(tx, *_held(holder))


def grants_of_user(tx: Connection, user_id: int) -> list[GrantRow]:
    """The user's own and those of the groups they belong to."""
    theirs = select(group_members.c.group_id).where(group_members.c.user_id == user_id)
    return _grant_rows(tx, or_(grants.c.user_id == user_id, grants.c.group_id.in_(theirs)))


def _held(holder: dict[str, int | None]) -> list[Any]:
    held = [grants.c[column] == value for column, value in holder.items() if value is not None]
    assert len(held) == 1, "a grant has one holder"
    return held


def _grant_rows(tx: Connection, *conditions: Any) -> list[GrantRow]:
    query = select(grants.c.kind, grants.c.folder, grants.c.handle).where(*conditions)
    merged: dict[tuple[str, str], bool] = {}
    for kind, folder, handle in tx.execute(query):
        merged[kind, folder] = merged.get((kind, folder), False) or handle
    return sorted((kind, folder, handle) for (kind, folder), handle in merged.items())


# Keys of programs


def add_key(tx: Connection, name: str, scopes: Sequence[str], *, at: datetime) -> tuple[ApiKey, str]:
    """A new key; the second value is the key itself, told once. Raises NotAllowedNow when the name is taken."""
    name = name.strip()
    if re.fullmatch(r"[\w.@ -]{1,64}", name) is None:
        raise NotAllowedNow("Nazwa klucza może mieć 1–64 znaki: litery, cyfry, spację, kropkę, myślnik i @.")
    if tx.execute(select(api_keys.c.id).where(api_keys.c.name == name)).first() is not None:
        raise NotAllowedNow(f"Klucz o nazwie {name} już jest.", action="Podaj inną nazwę albo unieważnij tamten.")
    secret = f"ksb_{secrets.token_urlsafe(32)}"
    tx.execute(
        insert(api_keys).values(
            name=name, sha256=digest(secret), prefix=secret[:12], scopes=sorted(set(scopes)), created_at=at
        )
    )
    return key_of(tx, name), secret


def key_of(tx: Connection, name: str) -> ApiKey:
    """Raises NoSuchThing."""
    row = tx.execute(select(api_keys).where(api_keys.c.name == name.strip())).first()
    if row is None:
        raise NoSuchThing(f"Nie ma klucza o nazwie {name}.", action="Listę pokazuje: ksefbuffer apikey list.")
    return _key(row)


def find_key(tx: Connection, secret: str) -> ApiKey | None:
    """The key that this secret is, unless it was revoked."""
    row = tx.execute(select(api_keys).where(api_keys.c.sha256 == digest(secret), api_keys.c.active)).first()
    return _key(row) if row is not None else None


def touch_key(tx: Connection, key_id: int, *, at: datetime) -> None:
    tx.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at))


def revoke_key(tx: Connection, name: str) -> ApiKey:
    """For good. Raises NoSuchThing."""
    found = key_of(tx, name)
    tx.execute(update(api_keys).where(api_keys.c.id == found.id).values(active=False))
    return found


def all_keys(tx: Connection) -> list[ApiKey]:
    """By name, revoked ones too."""
    return [_key(row) for row in tx.execute(select(api_keys).order_by(api_keys.c.name))]


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(row.id, row.name, row.prefix, tuple(row.scopes), row.active, row.created_at, row.last_used_at)


# The log of what people and programs did


@dataclass(frozen=True)
class Noted:
    """One line of the log."""

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    note: str
    ip: str


def note(tx: Connection, *, at: datetime, actor: str, action: str, on: str = "", text: str = "", ip: str = "") -> None:
    """Writes a line, in the commit of what it tells of.

    ``actor``: "user:anna", "key:kasa-1", "cli:root". ``action``: a word of at most 32 characters ("login", "user-add").
    ``on``: what it was done to. ``text``: the rest, for people. Never a secret or an invoice's content.
    """
    tx.execute(insert(audit).values(at=at, actor=actor, action=action, object=on, note=text, ip=ip))


def noted(
    tx: Connection,
    *,
    actor: str = "",
    action: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Noted]:
    """Newest first; ``before`` is the id of the last line of the page above, ``until`` is exclusive."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if actor:
        query = query.where(audit.c.actor == actor)
    if action:
        query = query.where(audit.c.action == action)
    if since is not None:
        query = query.where(audit.c.at >= since)
    if until is not None:
        query = query.where(audit.c.at < until)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [Noted(**row._mapping) for row in tx.execute(query)]


def actors(tx: Connection) -> list[str]:
    """Everybody who is in the log, sorted."""
    return _each_value(tx, audit.c.actor)


def actions(tx: Connection) -> list[str]:
    """Every word of what was done, sorted."""
    return _each_value(tx, audit.c.action)


def known_folders(tx: Connection) -> list[str]:
    """Every folder that a received invoice lies in, sorted."""
    return _each_value(tx, incoming.c.folder)


def _each_value(tx: Connection, column: ColumnElement[str]) -> list[str]:
    # One step of an index a value: DISTINCT would pass over every row.
    found: list[str] = []
    query = select(func.min(column))
    while (value := tx.execute(query.where(column > found[-1]) if found else query).scalar()) is not None:
        found.append(value)
    return found
