"""The two tables an ERP creates in its own database, per dialect. Source: CONTRACT §5. Pure text, no SQL library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Dialect = Literal["sqlite", "postgresql", "mssql", "mysql"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    note: str
    rest: str = ""


# SQLite has no type for times and exact sums: ISO 8601 and decimal text keep them exact.
_TYPES: Mapping[str, Mapping[Dialect, str]] = {
    "xml": {"sqlite": "TEXT", "postgresql": "TEXT", "mssql": "NVARCHAR(MAX)", "mysql": "LONGTEXT"},
    "long": {"sqlite": "TEXT", "postgresql": "TEXT", "mssql": "NVARCHAR(MAX)", "mysql": "TEXT"},
    "flag": {"sqlite": "INTEGER", "postgresql": "BOOLEAN", "mssql": "BIT", "mysql": "BOOLEAN"},
    "time": {
        "sqlite": "TEXT",
        "postgresql": "TIMESTAMP(3) WITH TIME ZONE",
        "mssql": "DATETIME2(3)",
        "mysql": "DATETIME(3)",
    },
    "date": {"sqlite": "TEXT", "postgresql": "DATE", "mssql": "DATE", "mysql": "DATE"},
    "sum": {"sqlite": "TEXT", "postgresql": "NUMERIC(18, 2)", "mssql": "DECIMAL(18, 2)", "mysql": "DECIMAL(18, 2)"},
}

_OUTGOING = (
    _Column("id", "64", "the ERP's own key; an integer or UUID column works as well", "NOT NULL PRIMARY KEY"),
    _Column("invoice_xml", "xml", "the invoice; a binary column keeps its bytes exactly", "NOT NULL"),
    _Column("priority", "16", "optional: urgent | normal"),
    _Column("offline", "flag", "optional: 1 issued offline, 0 never, NULL nothing said"),
    _Column("corrects_sha256", "64", "optional: technical correction of that document"),
    _Column("reference", "256", "optional: the ERP's own reference, given back"),
    _Column("status", "32", "NULL or 'nowa' = to be taken; then the state's Polish name"),
    _Column("status_code", "16", "queued | processing | sent | error | failed | cancelled"),
    _Column("document_id", "64", "the buffer's identifier"),
    _Column("ksef_number", "36", "the KSeF number"),
    _Column("accepted_at", "time", "when KSeF accepted it, UTC"),
    _Column("upo_xml", "xml", "the UPO, once it is there"),
    _Column("verification_url", "512", "the link in QR code I"),
    _Column("error_code", "32", "why not: the first error's code"),
    _Column("error_message", "long", "why not, and what to do, in Polish"),
    _Column("updated_at", "time", "the last write-back, UTC"),
)

_INCOMING = (
    _Column("ksef_number", "36", "one row per KSeF number, whatever the roles", "NOT NULL PRIMARY KEY"),
    _Column("seller_nip", "16", ""),
    _Column("seller_name", "512", ""),
    _Column("invoice_number", "256", ""),
    _Column("issue_date", "date", ""),
    _Column("gross", "sum", ""),
    _Column("currency", "3", ""),
    _Column("folder", "1000", "where the rules filed it"),
    _Column("tags", "512", "comma-separated"),
    _Column("verdict", "16", "zasadna | do wyjaśnienia | niezasadna"),
    _Column("invoice_xml", "xml", "", "NOT NULL"),
    _Column("received_at", "time", "UTC"),
    _Column("picked_up", "flag", "for the ERP to set"),
)


def ddl(dialect: Dialect, outgoing: str = "ksef_outgoing", incoming: str = "ksef_incoming") -> str:
    """The statements, commented, ended by semicolons. Names may carry a schema ("dbo.ksef_outgoing") and are quoted.

    Raises ValueError for a dialect not in DIALECTS.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect is one of {', '.join(DIALECTS)}")
    return "\n".join(
        (
            f"-- ksefbuffer: tables in the ERP's own database ({dialect}).",
            "-- The ERP inserts (id, invoice_xml); rows whose status is NULL or 'nowa' are taken and answered.",
            _table(dialect, outgoing, _OUTGOING),
            _index(dialect, outgoing, "status"),
            "-- Invoices received from KSeF; the ERP sets picked_up.",
            _table(dialect, incoming, _INCOMING),
            _index(dialect, incoming, "picked_up"),
        )
    )


def _table(dialect: Dialect, name: str, columns: Sequence[_Column]) -> str:
    lines = []
    for number, column in enumerate(columns, start=1):
        comma = "," if number < len(columns) else ""
        declared = f"{column.name} {_type(dialect, column.kind)} {column.rest}".strip()
        lines.append(f"    {declared}{comma}" + (f"  -- {column.note}" if column.note else ""))
    ending = ") DEFAULT CHARSET = utf8mb4;" if dialect == "mysql" else ");"
    return "\n".join((f"CREATE TABLE {_quoted(dialect, name)} (", *lines, ending))


def _index(dialect: Dialect, table: str, column: str) -> str:
    schema, _, bare = table.rpartition(".")
    index = f"{bare}_{column}"
    # SQLite wants the schema before the index, the others before the table.
    if dialect == "sqlite" and schema:
        where = f"{_quoted(dialect, f'{schema}.{index}')} ON {_quoted(dialect, bare)}"
    else:
        where = f"{_quoted(dialect, index)} ON {_quoted(dialect, table)}"
    return f"CREATE INDEX {where} ({column});\n"


def _type(dialect: Dialect, kind: str) -> str:
    if kind in _TYPES:
        return _TYPES[kind][dialect]
    return {"sqlite": "TEXT", "mssql": f"NVARCHAR({kind})"}.get(dialect, f"VARCHAR({kind})")


def _quoted(dialect: Dialect, name: str) -> str:
    opening, closing = {"mssql": ("[", "]"), "mysql": ("`", "`")}.get(dialect, ('"', '"'))
    return ".".join(opening + part.replace(closing, closing * 2) + closing for part in name.split("."))
