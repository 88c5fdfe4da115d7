"""The pages behind the QR codes, in Polish, readable on a telephone and without any script."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

from .numbers import WARSAW
from .wire import Response

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;"
    "border-bottom:1px solid #ccc;vertical-align:top;overflow-wrap:anywhere}th{width:45%;font-weight:600}"
    "p.foot{color:#555;font-size:.9rem}"
)
_SAID = {True: "tak", False: "nie", None: "nie sprawdzono"}


def page(status: int, title: str, text: str, rows: list[tuple[str, str]]) -> Response:
    """A whole page: a heading, a sentence, and a table of what there is to tell. Everything is escaped here."""
    table = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    body = (
        '<!DOCTYPE html><html lang="pl"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p>{escape(text)}</p>{f'<table>{table}</table>' if table else ''}"
        '<p class="foot">Piaskownica KSeF: żaden z tych dokumentów nie istnieje naprawdę.</p>'
        "</main></body></html>"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "Cache-Control": "no-store",
    }
    return Response(status, headers, body.encode())


def invoice_page(told: dict[str, Any]) -> tuple[str, str, list[tuple[str, str]]]:
    """Title, sentence and table for KOD I."""
    rows = [("NIP sprzedawcy", told["sellerNip"]), ("Data wystawienia", told["issueDate"])]
    if told["state"] == "unknown":
        return (
            "Faktury nie ma w KSeF",
            "Faktura o tym skrócie nie znajduje się w KSeF. Jeżeli wystawiono ją w trybie offline, może jeszcze nie być"
            " przesłana.",
            [*rows, ("Skrót pliku", told["hash"])],
        )
    rows = [
        ("Numer KSeF", told["ksefNumber"]),
        ("Numer faktury", told["invoiceNumber"]),
        *rows,
        ("Nazwa sprzedawcy", told["sellerName"] or ""),
        ("Przyjęta do KSeF", _moment(told["acquisitionDate"])),
        ("Tryb wystawienia", told["invoicingMode"]),
        ("Skrót pliku", told["hash"]),
    ]
    if told["state"] == "found":
        return "Faktura znajduje się w KSeF", "Plik o tym skrócie jest w KSeF i nie został zmieniony.", rows
    return (
        "Faktura została technicznie poprawiona",
        "Pierwotny plik został odrzucony; w KSeF jest plik poprawiony technicznie, o tej samej treści.",
        [*rows, ("Skrót poprawionego pliku", told["currentHash"])],
    )


def certificate_page(told: dict[str, Any]) -> tuple[str, str, list[tuple[str, str]]]:
    """Title, sentence and table for KOD II."""
    rows = [(check["text"], _SAID[check["holds"]]) for check in told["checks"]]
    certificate = told["certificate"]
    if certificate:
        rows += [
            ("Numer seryjny certyfikatu", certificate["serial"]),
            ("Właściciel certyfikatu", certificate["commonName"]),
            ("Ważny od", _moment(certificate["validFrom"])),
            ("Ważny do", _moment(certificate["validTo"])),
        ]
    rows += [("NIP sprzedawcy", told["sellerNip"]), ("Kontekst", f"{told['contextType']} {told['contextValue']}")]
    rows.append(("Numer KSeF faktury", told["invoice"]["ksefNumber"] if told["invoice"] else "jeszcze nie nadany"))
    if told["valid"]:
        return "Wystawca potwierdzony", "Certyfikat KSeF potwierdza tożsamość wystawcy i treść faktury.", rows
    return "Nie potwierdzono wystawcy", "Kod nie potwierdza wystawcy tej faktury. Przyczyna jest poniżej.", rows


def _moment(text: str) -> str:
    """In Polish time, to the second. ``text``: as KSeF writes times, with seven digits at most."""
    whole, _, rest = text.partition(".")
    return datetime.fromisoformat(f"{whole}{rest[-6:]}").astimezone(WARSAW).strftime("%d.%m.%Y %H:%M:%S")
