"""Accounts, links and what looks like a swindle (Z46, Z47, Z49, Z51). Source: FA3-FIELDS §7.

The hosts of payment operators, of link shorteners and the words of advertising are general knowledge, not KSeF's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import urlsplit

from ...invoice.accounts import account_key, is_polish_account, nrb_ok
from ...invoice.folding import fold
from .case import WARSAW, Case, CheckFunction, Hit, days_from, shown

_OPERATORS = (
    "przelewy24.pl", "payu.com", "payu.pl", "tpay.com", "paynow.pl", "autopay.eu", "autopay.pl", "bluemedia.pl",
    "dotpay.pl", "imoje.pl", "blik.com", "paypal.com", "stripe.com", "cashbill.pl", "hotpay.pl", "espago.com",
    "payten.com", "polcard.com.pl", "gov.pl",
)  # fmt: skip
_SHORTENERS = (
    "bit.ly", "tinyurl.com", "t.co", "goo.gl", "cutt.ly", "is.gd", "ow.ly", "rb.gy", "rebrand.ly", "shorturl.at",
    "s.id",
)  # fmt: skip
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'„”,;)]{3,300}", re.IGNORECASE)
_EMAIL = re.compile(r"[^\s<>\"'„”,;:()]{1,64}@([^\s<>\"'„”,;:()]{3,200})")
_PAYING = re.compile(r"platn|zaplac|oplac|payment|\bpay\b|przelew", re.IGNORECASE)
_LIKE_GOVERNMENT = re.compile(r"gov[-.]?pl|(?:mf|ksef|podatki)-gov|podatki-gov", re.IGNORECASE)
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f]*:[0-9a-f:.]*|0x[0-9a-f]+")
# They turn the reading direction around; no Polish text needs them.
_BIDI = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
_IPKSEF_IN_LINK = re.compile(r"[?&]IPKSeF=([^&#]*)")

# Source: the list of checks (ksef-api#829).
_REPORTED_WITHIN = 60  # days
_NEARLY_NOTHING = Decimal("1.00")
_MAX_TEXTS = 200
_ADVERTISING = (
    "oferta", "oferte", "promocj", "zapraszamy", "reklam", "rabat", "kup teraz", "wygraj", "nagrod", "konkurs",
    "odwiedz", "sprawdz na", "kliknij", "skorzystaj", "wpis do", "katalog firm", "rejestr firm", "aktywacj",
)  # fmt: skip


def new_account(case: Case) -> Iterator[Hit]:
    """Z46. The accounts listed for the seller are all it may use; without a list, those of its earlier invoices."""
    written = case.received.accounts
    if not written:
        return
    known = frozenset(account_key(text) for text in case.supplier.accounts) if case.supplier else frozenset()
    if not known:
        before = case.metadata.invoicing_at if case.metadata else None
        known = case.archive.accounts(case.seller_nip, before)
    for text in written if known else ():
        if account_key(text) not in known:
            yield Hit("Fa/Platnosc/RachunekBankowy/NrRB", {"koniec": _end(text)})


def wrong_account(case: Case) -> Iterator[Hit]:
    """Z47."""
    factors = case.body.values("Platnosc/RachunekBankowyFaktora/NrRB")
    for text in dict.fromkeys((*case.received.accounts, *factors)):
        key = account_key(text)
        if is_polish_account(key) and not nrb_ok(key):
            yield Hit("Fa/Platnosc", {"koniec": _end(text)})


def _end(account: str) -> str:
    """The last four characters: a whole account number is shown nowhere."""
    return shown(account_key(account)[-4:])


def suspicious_link(case: Case) -> Iterator[Hit]:
    """Z49: every payment link that leads elsewhere than to operators we know, links and addresses in texts only when
    they hide where they lead or ask to pay, and signs that nobody sees."""
    yield from _payment_link(case)
    seen: set[str] = set()
    for path, text in _texts(case):
        if _BIDI.search(text):
            yield Hit(path, {"pole": path}, variant="hidden")
        for url in _URL.findall(text):
            host = host_of(url)
            paying = _PAYING.search(fold(url)) is not None and not _is_known(host, case.knowledge.payment_hosts)
            if host and host not in seen and (paying or is_disguised(url)):
                seen.add(host)
                yield Hit(path, {"host": shown(host)}, variant="text")
        for domain in _EMAIL.findall(text):
            host = domain.rstrip(".").casefold()
            if "/" not in host and host not in seen and is_disguised(f"https://{host}"):
                seen.add(host)
                yield Hit(path, {"host": shown(host)}, variant="text")


def _payment_link(case: Case) -> Iterator[Hit]:
    path = "Fa/Platnosc/LinkDoPlatnosci"
    link = case.body.first("Platnosc/LinkDoPlatnosci")
    if not link:
        return
    host = host_of(link)
    is_safe = link.casefold().startswith("https://") and not is_disguised(link)
    if not is_safe or not _is_known(host, case.knowledge.payment_hosts):
        yield Hit(path, {"host": shown(host) or "adres nieczytelny"})
        return
    inside, beside = _IPKSEF_IN_LINK.search(link), case.body.first("Platnosc/IPKSeF")
    if inside is not None and beside and inside[1].strip() != beside:
        yield Hit(path, {"host": shown(host)}, variant="id")


def host_of(url: str) -> str:
    """The host of a link, lower-case; "" when there is none."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        return (parts.hostname or "").casefold().rstrip(".")
    except ValueError:
        return ""


def _is_known(host: str, ours: frozenset[str]) -> bool:
    return any(host == known or host.endswith(f".{known}") for known in (*_OPERATORS, *ours))


def is_disguised(url: str) -> bool:
    """Whether a link hides where it leads: a shortener, a bare address, a name before @, foreign or invisible letters,
    a look-alike of the government's."""
    host = host_of(url)
    try:
        has_user = "@" in urlsplit(url if "://" in url else f"https://{url}").netloc
    except ValueError:
        return True
    if not host or has_user or _INVISIBLE.search(url) or _ADDRESS.fullmatch(host):
        return True
    if host.startswith("xn--") or ".xn--" in host or any(_is_foreign_letter(sign) for sign in host):
        return True
    if host in _SHORTENERS or host.removeprefix("www.") in _SHORTENERS:
        return True
    is_government = host == "gov.pl" or host.endswith(".gov.pl")
    return not is_government and _LIKE_GOVERNMENT.search(host) is not None


def _is_foreign_letter(sign: str) -> bool:
    return not sign.isascii() and not unicodedata.name(sign, "").startswith("LATIN")


def _texts(case: Case) -> Iterator[tuple[str, str]]:
    """Where people read: names, lines, descriptions, footers, contacts."""
    received = case.received
    for party in (received.seller, received.buyer):
        yield f"{party.where}/DaneIdentyfikacyjne/Nazwa", party.name
    for text in received.line_texts[:_MAX_TEXTS]:
        yield "Fa/FaWiersz/P_7", text
    for extra in received.extra[:_MAX_TEXTS]:
        yield "Fa/DodatkowyOpis", extra.value
    for text in received.footers:
        yield "Stopka/Informacje/StopkaFaktury", text
    for text in received.values("Podmiot1/DaneKontaktowe/Email"):
        yield "Podmiot1/DaneKontaktowe/Email", text
    for text in case.body.values("Platnosc/RachunekBankowy/NrRB"):
        yield "Fa/Platnosc/RachunekBankowy/NrRB", text


def unsolicited(case: Case) -> Iterator[Hit]:
    """Z51; one who is on our list of suppliers may sell us a domain."""
    if case.received.issue_date is not None and _looks_unsolicited(case):
        until = days_from(case.received.issue_date, _REPORTED_WITHIN)
        is_late = case.now.astimezone(WARSAW).date() > until
        yield Hit("Fa/FaWiersz/P_7", {"termin": str(until)}, variant="late" if is_late else "")


def _looks_unsolicited(case: Case) -> bool:
    gross, lines = case.gross, case.received.line_texts
    if gross is None or case.corrects or case.kind not in ("VAT", "UPR"):
        return False
    texts = [*lines[:_MAX_TEXTS], *(extra.value for extra in case.received.extra[:_MAX_TEXTS]), *case.received.footers]
    if abs(gross) <= _NEARLY_NOTHING:
        return any(_URL.search(text) or any(word in fold(text) for word in _ADVERTISING) for text in texts)
    return len(lines) == 1 and case.supplier is None and _URL.search(lines[0]) is not None


CHECKS: dict[str, CheckFunction] = {
    "Z46": new_account,
    "Z47": wrong_account,
    "Z49": suspicious_link,
    "Z51": unsolicited,
}
