"""Invoices in a table of the ERP's own database. Source: CONTRACT §5; drivers and their traps: DEPS §2i.

Taking is ours first, then theirs: ``claim`` only reads; when a row's invoice is durably ours, ``mark`` says so in the
row. A crash in between shows the row again, and the same bytes are known by their hash. Giving is ``write_back``, and
``put`` for invoices received: repeating either changes nothing more.

Faults: ``TableAway`` (the ERP's database cannot be used now; nothing was changed or it may be repeated), ``TableUnfit``
(the table or a column is missing, the URL or its driver is wrong; a person must act), ``RowRefused`` (this row alone is
not taken). None quotes the URL's password, SQL or a row's contents.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    MetaData,
    NullPool,
    String,
    case,
    cast,
    create_engine,
    event,
    func,
    insert,
    inspect,
    literal,
    make_url,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy import Table as SqlTable
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SAWarning,
    SQLAlchemyError,
)
from sqlalchemy.types import NullType

from ksefbuffer.errors import BufferFault, ConfigurationFault

NEW = "nowa"
WRITTEN_BACK = (
    "status",
    "status_code",
    "document_id",
    "ksef_number",
    "accepted_at",
    "upo_xml",
    "verification_url",
    "error_code",
    "error_message",
    "updated_at",
)
REQUIRED = ("id", "invoice_xml", *WRITTEN_BACK)
OPTIONS = ("priority", "offline", "corrects_sha256", "reference")
HANDED_OVER = (
    "ksef_number",
    "seller_nip",
    "seller_name",
    "invoice_number",
    "issue_date",
    "gross",
    "currency",
    "folder",
    "tags",
    "verdict",
    "invoice_xml",
    "received_at",
)
# Written where the ERP's table has them.
ALSO_HANDED_OVER = ("decision", "decision_comment", "decided_at", "roles", "invoice_type", "buyer_nip")
PICKED_UP = "picked_up"

CONNECT_S = 5
LOCK_S = 5
STATEMENT_S = 20


class TableAway(BufferFault):
    """The ERP's database cannot be used now; asking again later is right."""

    exit_code = 3


class TableUnfit(ConfigurationFault):
    """The ERP's table or the way to it is not as CONTRACT §5 wants it; a person must act."""


class RowRefused(BufferFault):
    """The ERP's database does not take this row. ``is_sure`` says that it is the row's own fault, as far as the
    database tells; else it may be that all of them fail."""

    def __init__(self, message: str, *, action: str, is_sure: bool = True) -> None:
        super().__init__(message, action=action)
        self.is_sure = is_sure


@dataclass(frozen=True)
class TableInvoice:
    """A row to be taken. ``row_id``: the row's id as text; ``content``: the bytes (text is encoded as UTF-8);
    ``options``: the shape of the folder's NAME.json, only what the row sets, not judged here."""

    row_id: str
    content: bytes
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"TableInvoice(row_id={self.row_id!r}, size={len(self.content)})"


class _ErpTable:
    """One table of the ERP's database. Safe for several threads; nothing is opened before the first call."""

    def __init__(self, url: str, name: str, *, required: Sequence[str], setting: str, buffer_name: str) -> None:
        self._name = name
        self._required = required
        self._setting = setting
        self._columns: dict[str, Column[Any]] | None = None
        try:
            self._url = make_url(url)
            self._engine = _engine(self._url, buffer_name)
        except (NoSuchModuleError, ImportError):
            raise TableUnfit(
                f"Brakuje sterownika bazy danych dla table.url ({self._url.drivername}).",
                action="Zainstaluj ksefbuffer[mssql] albo ksefbuffer[mysql], albo popraw adres.",
            ) from None
        except (ArgumentError, ValueError):
            raise TableUnfit(
                "Adres bazy ERP (table.url) jest niepoprawny.",
                action="Podaj go w postaci SQLAlchemy: baza://host/nazwa.",
            ) from None

    def check(self) -> None:
        """Connect and compare the table with CONTRACT §5. Raises TableAway or TableUnfit."""
        with self._told(), self._engine.connect() as connection:
            self._columns = self._reflected(connection)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _known(self, connection: Connection) -> dict[str, Column[Any]]:
        if self._columns is None:
            self._columns = self._reflected(connection)
        return self._columns

    def _reflected(self, connection: Connection) -> dict[str, Column[Any]]:
        """The table's columns by lower-case name."""
        inspector = inspect(connection)
        schema, _, bare = self._name.rpartition(".")
        # A dot may also be a part of the name itself.
        places = [(None, self._name), *([(schema, bare)] if schema else [])]
        for place, name in places:
            if inspector.has_table(name, schema=place):
                break
        else:
            near = get_close_matches(bare.lower(), inspector.get_table_names(schema=schema or None), n=1)
            raise TableUnfit(
                f"W bazie ERP nie ma tabeli {self._name}" + (f" (jest {near[0]})." if near else "."),
                action=f"Utwórz ją poleceniami z `ksefbuffer table ddl` albo popraw {self._setting}.",
            )
        with warnings.catch_warnings():
            # A column of a type unknown to SQLAlchemy is fine: it is passed through as the driver gives it.
            warnings.simplefilter("ignore", SAWarning)
            table = SqlTable(name, MetaData(), schema=place, autoload_with=connection, resolve_fks=False)
        columns = {column.name.lower(): column for column in table.columns}
        missing = [name for name in self._required if name not in columns]
        if missing:
            raise TableUnfit(
                f"W tabeli {self._name} brakuje kolumn: {', '.join(missing)}.",
                action="Dodaj je; ich typy podaje `ksefbuffer table ddl`.",
            )
        return columns

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the driver's faults into ours, without a word of SQL, data or password."""
        file = self._url.database if self._engine.dialect.name == "sqlite" else None
        # SQLite would make an empty database of a mistyped path.
        if file and file != ":memory:" and not Path(file).exists():
            raise TableAway(f"Nie ma pliku bazy ERP {file}.", action="Sprawdź table.url i czy dysk jest dostępny.")
        try:
            yield
        except (OperationalError, InterfaceError) as fault:
            self._columns = None
            raise TableAway(
                f"Baza ERP jest niedostępna: {self._reason(fault)}.",
                action="Bufor spróbuje ponownie sam; sprawdź bazę i table.url.",
            ) from None
        except DBAPIError as fault:
            # The columns may have been changed since they were read.
            self._columns = None
            raise TableUnfit(
                f"Baza ERP odrzuciła operację na tabeli {self._name} ({type(fault.orig).__name__}).",
                action="Porównaj kolumny i uprawnienia z `ksefbuffer table ddl`.",
            ) from None
        except SQLAlchemyError as fault:
            self._columns = None
            raise TableAway(
                f"Baza ERP jest niedostępna ({type(fault).__name__}).", action="Bufor spróbuje ponownie sam."
            ) from None

    def _reason(self, fault: DBAPIError) -> str:
        text = " ".join(str(fault.orig).split("\n", 1)[0].split())[:200].rstrip(".")
        for secret in (self._url.password, *(self._url.query.get(key) for key in ("password", "passwd", "pwd"))):
            text = text.replace(str(secret), "***") if secret else text
        return text


class TableConnector(_ErpTable):
    """The outgoing table: invoices in, answers back.

    url: SQLAlchemy's; outgoing: the table's name, a schema in front allowed; buffer_name: what the database's own
    administration shows as this client's name.
    """

    def __init__(self, url: str, outgoing: str, *, buffer_name: str) -> None:
        super().__init__(url, outgoing, required=REQUIRED, setting="table.outgoing", buffer_name=buffer_name)

    def claim(self, limit: int) -> list[TableInvoice]:
        """Up to ``limit`` rows to be taken, urgent ones first, then by id; changes nothing.

        Rows without an invoice yet are left alone. Raises TableAway or TableUnfit.
        """
        with self._told(), self._engine.connect() as connection:
            columns = self._known(connection)
            given = [name for name in OPTIONS if name in columns]
            # Without SQLAlchemy's conversions: SQLite's types are wishes, and a wrong one must not hide a row.
            wanted = [type_coerce(columns[name], NullType()).label(name) for name in ("id", "invoice_xml", *given)]
            found = connection.execute(
                select(*wanted)
                .where(_to_be_taken(columns), columns["id"].is_not(None), columns["invoice_xml"].is_not(None))
                .order_by(*_order(columns))
                .limit(limit)
            )
            return [_invoice(row._asdict(), given) for row in found]

    def mark(self, row_id: str, values: Mapping[str, str | bytes | None]) -> bool:
        """The first write-back, when the row's invoice is ours; a row already answered is left as it is.

        Returns whether the row was marked. values as for ``write_back``.
        """
        return self._write(row_id, values, only_new=True)

    def answered_since(self, since: datetime, *, after: str | None, limit: int) -> list[tuple[str, str]]:
        """Row id and document id of rows that we marked or answered from ``since`` on, by document id, those after
        ``after``; changes nothing. Raises TableAway or TableUnfit."""
        with self._told(), self._engine.connect() as connection:
            columns = self._known(connection)
            document_id = columns["document_id"]
            # A row only marked so far has no time yet. Document ids sort by time, so they say when it was taken.
            query = select(type_coerce(columns["id"], NullType()), cast(document_id, String(64))).where(
                document_id.is_not(None), cast(document_id, String(64)) >= _first_id_of(since)
            )
            if after is not None:
                query = query.where(cast(document_id, String(64)) > after)
            found = connection.execute(query.order_by(cast(document_id, String(64))).limit(limit))
            return [(_text_id(row_id), str(of).strip()) for row_id, of in found]

    def forget(self, row_id: str, document_id: str) -> bool:
        """Makes a row new again whose document we do not know any more, unless it has been given another since."""
        with self._told(), self._engine.begin() as connection:
            columns = self._known(connection)
            changed = {columns[name]: None for name in WRITTEN_BACK} | {columns["status"]: NEW}
            for same_id in _same_id(columns["id"], row_id, self._engine.dialect.name):
                held = cast(columns["document_id"], String(64)) == document_id
                statement = update(columns["id"].table).where(same_id, held)
                if connection.execute(statement.values(changed)).rowcount:
                    return True
        return False

    def write_back(self, row_id: str, values: Mapping[str, str | bytes | None]) -> bool:
        """Set the columns of WRITTEN_BACK given in ``values``; times are ISO 8601 text, converted to the column's type.

        Returns False when the row is no longer there, which is the ERP's right. Raises TableAway or TableUnfit.
        """
        return self._write(row_id, values, only_new=False)

    def _write(self, row_id: str, values: Mapping[str, str | bytes | None], *, only_new: bool) -> bool:
        unknown = set(values) - set(WRITTEN_BACK)
        if unknown:
            raise ValueError(f"not written back: {', '.join(sorted(unknown))}")
        with self._told(), self._engine.begin() as connection:
            columns = self._known(connection)
            changed = {columns[name]: _fitting(columns[name], name, value) for name, value in values.items()}
            for same_id in _same_id(columns["id"], row_id, self._engine.dialect.name):
                statement = update(columns["id"].table).where(same_id)
                if only_new:
                    statement = statement.where(_to_be_taken(columns))
                if connection.execute(statement.values(changed)).rowcount:
                    return True
        return False


class IncomingTable(_ErpTable):
    """The incoming table: a row per invoice received, by its KSeF number.

    url and buffer_name as for ``TableConnector``; incoming: the table's name.
    """

    def __init__(self, url: str, incoming: str, *, buffer_name: str) -> None:
        super().__init__(url, incoming, required=HANDED_OVER, setting="table.incoming", buffer_name=buffer_name)

    def put(self, row: Mapping[str, Any]) -> None:
        """Inserts the row of an invoice, or brings it up to date; ``picked_up`` is the ERP's and is never touched.

        row: the columns of HANDED_OVER and ALSO_HANDED_OVER; texts, ``issue_date`` a date, times aware, ``gross`` a
        Decimal, ``invoice_xml`` bytes, any of them None. Raises TableAway, TableUnfit; RowRefused when the table is
        there and fit, and it is this row that it does not take.
        """
        unknown = set(row) - {*HANDED_OVER, *ALSO_HANDED_OVER}
        if unknown:
            raise ValueError(f"not handed over: {', '.join(sorted(unknown))}")
        is_sure = True
        try:
            with self._told():
                refused = self._upsert(row)
        except TableAway:
            # Drivers call much an operational fault that is this row's alone: a trigger's word, a text too long.
            refused, is_sure = "operacja nie powiodła się", False
        if refused:
            self.check()
            raise RowRefused(
                f"Baza ERP nie przyjmuje wiersza tej faktury do tabeli {self._name}: {refused}.",
                action="Porównaj kolumny, ograniczenia i wyzwalacze z `ksefbuffer table ddl`; bufor spróbuje ponownie.",
                is_sure=is_sure,
            )

    def _upsert(self, row: Mapping[str, Any]) -> str:
        """Returns the database's kind of fault with this row, "" when it is written."""
        for last in (False, True):
            try:
                with self._engine.begin() as connection:
                    self._insert_or_update(connection, row)
                return ""
            except IntegrityError as fault:
                # The number may have been inserted by another node meanwhile; then it is there the second time.
                if last:
                    return type(fault.orig).__name__
            except DBAPIError as fault:
                # psycopg calls a trigger's own word a programming error.
                by_trigger = str(getattr(fault.orig, "sqlstate", None) or "").startswith("P0")
                if isinstance(fault, ProgrammingError | OperationalError | InterfaceError) and not by_trigger:
                    raise
                return type(fault.orig).__name__
        raise AssertionError("unreachable")

    def _insert_or_update(self, connection: Connection, row: Mapping[str, Any]) -> None:
        columns = self._known(connection)
        dialect = self._engine.dialect.name
        values = {columns[name]: _handed(columns[name], name, row[name], dialect) for name in row if name in columns}
        key = columns["ksef_number"]
        mine = key == values.pop(key)
        # Asked, as drivers disagree on how many rows an UPDATE has changed.
        if connection.execute(select(func.count()).select_from(key.table).where(mine)).scalar_one():
            connection.execute(update(key.table).where(mine).values(values))
            return
        values[key] = row["ksef_number"]
        picked_up = columns.get(PICKED_UP)
        if picked_up is not None and not picked_up.nullable and picked_up.server_default is None:
            values[picked_up] = "0" if _python_type(picked_up) is str else False
        connection.execute(insert(key.table).values(values))


# The drivers that this project installs, where the URL names none.
_DRIVERS = {"postgresql": "postgresql+psycopg", "mssql": "mssql+pymssql", "mysql": "mysql+pymysql"}


def _engine(url: URL, buffer_name: str) -> Engine:
    parsed = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    backend = parsed.get_backend_name()
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": 300, "pool_size": 2, "pool_timeout": 10}
    if backend == "sqlite":
        options = {"poolclass": NullPool}
    settings: dict[str, dict[str, Any]] = {
        "sqlite+pysqlite": {"timeout": float(LOCK_S)},
        "postgresql+psycopg": {"connect_timeout": CONNECT_S, "application_name": buffer_name},
        "mssql+pymssql": {"login_timeout": CONNECT_S, "timeout": STATEMENT_S, "appname": buffer_name},
        "mysql+pymysql": {
            "connect_timeout": CONNECT_S,
            "read_timeout": STATEMENT_S,
            "write_timeout": STATEMENT_S,
            "program_name": buffer_name,
        },
    }
    chosen = settings.get(f"{backend}+{parsed.get_dialect().driver}", {})
    # What the URL says itself goes first.
    arguments = {name: value for name, value in chosen.items() if name not in parsed.query}
    engine = create_engine(parsed, connect_args=arguments, hide_parameters=True, **options)
    if backend == "sqlite":
        event.listen(engine, "connect", _keep_odd_bytes)
    if backend in _LIMITS:
        event.listen(engine, "begin", _limit_waiting)
    return engine


# The ERP may hold its rows locked as long as it likes; this duty must come back.
_LIMITS = {
    "postgresql": f"SET LOCAL lock_timeout = '{LOCK_S}s'; SET LOCAL statement_timeout = '{STATEMENT_S}s'",
    "mssql": f"SET LOCK_TIMEOUT {LOCK_S * 1000}",
    "mysql": f"SET SESSION innodb_lock_wait_timeout = {LOCK_S}",
}


def _limit_waiting(connection: Connection) -> None:
    connection.exec_driver_sql(_LIMITS[connection.dialect.name])


def _keep_odd_bytes(connection: Any, _record: Any) -> None:
    # A text that is not UTF-8 is the pre-check's to refuse, not a reason to read no row at all.
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")


def _first_id_of(moment: datetime) -> str:
    """No document id given from ``moment`` on sorts before this (they are UUIDv7)."""
    head = int(moment.timestamp() * 1000).to_bytes(6, "big").hex()
    return f"{head[:8]}-{head[8:]}"


def _to_be_taken(columns: Mapping[str, Column[Any]]) -> ColumnElement[bool]:
    return or_(columns["status"].is_(None), columns["status"] == NEW)


def _order(columns: Mapping[str, Column[Any]]) -> list[ColumnElement[Any]]:
    priority = columns.get("priority")
    # Spelled out, as dialects disagree on comparing and on where NULL sorts.
    urgent = (
        [case((priority == "urgent", 0), else_=1)] if priority is not None and _python_type(priority) is str else []
    )
    return [*urgent, columns["id"]]


def _python_type(column: Column[Any]) -> type:
    try:
        return column.type.python_type
    except NotImplementedError:
        return object


def _invoice(row: dict[str, Any], given: list[str]) -> TableInvoice:
    options = {name: row[name] for name in given if row[name] is not None and row[name] != ""}
    if "offline" in options:
        options["offline"] = _flag(options["offline"])
    for name in ("priority", "corrects_sha256", "reference"):
        if name in options:
            options[name] = str(options[name]).strip()
    return TableInvoice(row_id=_text_id(row["id"]), content=_bytes(row["invoice_xml"]), options=options)


def _flag(value: Any) -> Any:
    words = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}
    return words.get(str(value).strip().lower(), value)


def _bytes(value: Any) -> bytes:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else bytes(value)


def _text_id(value: Any) -> str:
    return bytes(value).hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _same_id(column: Column[Any], row_id: str, dialect: str) -> Iterator[ColumnElement[bool]]:
    """Conditions for "this row", the one that an index serves first."""
    if dialect == "sqlite" and _python_type(column) is not bytes:
        # SQLite itself turns the text into what the column holds.
        yield type_coerce(column, String()) == literal(row_id, String())
    else:
        converted = _typed_id(_python_type(column), row_id)
        if converted is not None:
            yield column == converted
    yield cast(column, String(255)) == literal(row_id, String())


def _typed_id(kind: type, row_id: str) -> Any:
    try:
        if kind is bytes:
            return bytes.fromhex(row_id)
        if kind in (int, Decimal, UUID, str):
            return kind(row_id)
    except (ValueError, InvalidOperation):
        pass
    return None


def _fitting(column: Column[Any], name: str, value: str | bytes | None) -> Any:
    """``value`` as the column's own type wants it."""
    kind = _python_type(column)
    if value is None:
        return None
    if kind is bytes:
        return value.encode() if isinstance(value, str) else value
    text = value.decode() if isinstance(value, bytes) else value
    if kind in (datetime, date):
        moment = datetime.fromisoformat(text).astimezone(UTC)
        if kind is date:
            return moment.date()
        aware = isinstance(column.type, DateTime) and column.type.timezone
        return moment if aware else moment.replace(tzinfo=None)
    length = getattr(column.type, "length", None)
    if name == "error_message" and isinstance(length, int):
        # A short column of the ERP's must not keep it from hearing that there is an error.
        return text if len(text) <= length else text[: length - 1] + "…"
    return text


# What a person reads may be cut to the ERP's column; what identifies an invoice may not.
_MAY_BE_CUT = frozenset(("seller_name", "folder", "tags", "decision_comment"))


def _handed(column: Column[Any], name: str, value: Any, dialect: str) -> Any:
    """A value of an incoming row as the column's own type wants it. Raises RowRefused."""
    kind = _python_type(column)
    match value:
        case None:
            return None
        case bytes() if kind is bytes:
            return value
        case bytes():
            return _text_for(column, name, _as_text(value))
        case datetime() if kind in (datetime, date):
            moment = value.astimezone(UTC)
            return moment.date() if kind is date else moment if _is_aware(column) else moment.replace(tzinfo=None)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case date() if kind is date:
            return value
        case date() if kind is datetime:
            return datetime(value.year, value.month, value.day, tzinfo=UTC if _is_aware(column) else None)
        case date():
            return value.isoformat()
        case Decimal():
            return _amount(value, kind, dialect)
        case _:
            return value.encode() if kind is bytes else _text_for(column, name, value)


def _is_aware(column: Column[Any]) -> bool:
    return isinstance(column.type, DateTime) and column.type.timezone


def _amount(value: Decimal, kind: type, dialect: str) -> Any:
    # At least the two places of money, in a column of texts as well.
    exact = value.quantize(Decimal("0.01")) if value == value.quantize(Decimal("0.01")) else value
    if kind is float:
        return float(exact)
    if kind is str:
        return f"{exact:f}"
    # SQLite has no exact numbers, and its driver takes none; the column's affinity makes of the text what it can.
    return type_coerce(f"{exact:f}", String()) if dialect == "sqlite" else exact


def _text_for(column: Column[Any], name: str, text: str) -> str:
    # PostgreSQL has no text with this character in it.
    text = text.replace("\0", "\ufffd")
    length = getattr(column.type, "length", None)
    if not isinstance(length, int) or len(text) <= length:
        return text
    if name in _MAY_BE_CUT:
        return text[: length - 1] + "…"
    raise RowRefused(
        f"Wartość kolumny {name} ma {len(text)} znaków, a kolumna w tabeli ERP mieści {length}.",
        action="Poszerz kolumnę; typy podaje `ksefbuffer table ddl`. Bufor spróbuje ponownie.",
    )


def _as_text(content: bytes) -> str:
    """An invoice for a column of texts; what is no text in it is replaced. Only a binary column keeps every byte."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8", "replace")
