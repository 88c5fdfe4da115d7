"""News that come in crowds: refused documents and received invoices, gathered into one notice. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from ksefbuffer.notify.shapes import DOCUMENT_ERROR, INCOMING, Arrived, Memory, Notice, Refusals, Refused, Seen
from ksefbuffer.notify.wording import counted, listed, quoted

# What comes within a minute is told together; what goes on coming, only now and then.
GATHERED_FOR = timedelta(minutes=1)
AGAIN_AFTER = timedelta(minutes=15)
# What is older when first looked at (the buffer stood still, or did not tell) is no news.
NEWS_FOR = timedelta(days=2)

_FOLDERS = 15
_CODES = 5


def refused(seen: Seen, memory: Memory, now: datetime) -> tuple[list[Notice], Memory]:
    """Documents that KSeF or the pre-check refused."""
    found = seen.refusals
    if found is None or found.oldest is None:
        return [], memory if found is None else replace(memory, error_mark=found.upto)
    if not ripe(found.oldest, memory.error_told_at, now):
        return [], memory
    notice = Notice(
        key=f"{DOCUMENT_ERROR}:{found.upto}",
        level=1,
        event=DOCUMENT_ERROR,
        weight="warning",
        subject=f"{counted(found.count, 'dokument', 'dokumenty', 'dokumentów')} w błędzie",
        body=_refused_body(found),
    )
    return [notice], replace(memory, error_mark=found.upto, error_told_at=now)


def _refused_body(found: Refusals) -> str:
    if found.count == 1:
        lines = ["Odrzucony dokument czeka na poprawienie; bufor nie wyśle go ponownie sam."]
    else:
        lines = ["Odrzucone dokumenty czekają na poprawienie; bufor nie wyśle ich ponownie sam."]
    if found.count > len(found.named):
        told = [f"{code} × {count}" for code, count in found.codes[:_CODES]]
        lines.append(f"Najczęstsze przyczyny: {', '.join(told)}.")
    named = [f"{_name(one)}: {_who(one)} {', '.join(one.codes)}".rstrip() for one in found.named]
    lines.append(listed(named, found.count - len(named), "dokument", "dokumenty", "dokumentów"))
    lines.append(
        "Co zrobić: sprawdź przyczynę (ksefbuffer queue list --status error), popraw fakturę w swoim systemie i wyślij "
        "ją ponownie."
    )
    return "\n".join(lines)


def _name(one: Refused) -> str:
    if one.number:
        return quoted(one.number)
    return f"plik {quoted(one.place)}" if one.place else "dokument bez numeru"


def _who(one: Refused) -> str:
    return "odmowa KSeF" if one.by_ksef else "kontrola wstępna"


def received(seen: Seen, memory: Memory, now: datetime) -> tuple[list[Notice], Memory]:
    """Invoices received, by folder; those that want a person's eye by number."""
    found = seen.arrived
    if found is None or found.oldest is None:
        return [], memory if found is None else replace(memory, incoming_mark=found.upto)
    if not ripe(found.oldest, memory.incoming_told_at, now):
        return [], memory
    subject = counted(found.count, "nowa faktura otrzymana", "nowe faktury otrzymane", "nowych faktur otrzymanych")
    if found.doubtful:
        subject += f", {found.doubtful} do sprawdzenia"
    notice = Notice(
        key=f"{INCOMING}:{found.upto}",
        level=1,
        event=INCOMING,
        weight="warning" if found.doubtful else "info",
        subject=subject,
        body=_received_body(found),
    )
    return [notice], replace(memory, incoming_mark=found.upto, incoming_told_at=now)


def _received_body(found: Arrived) -> str:
    folders = [f"{quoted(folder, 100)}: {count}" for folder, count in found.folders[:_FOLDERS]]
    lines = ["W folderach:", listed(folders, len(found.folders) - len(folders), "folder", "foldery", "folderów")]
    if found.doubtful:
        lines.append("Do sprawdzenia:")
        named = [
            f"{quoted(one.invoice_number)}, {quoted(one.seller_name) or 'bez nazwy'} (NIP {quoted(one.seller_nip, 16)})"
            f" – {one.verdict}"
            for one in found.named
        ]
        lines.append(listed(named, found.doubtful - len(named), "faktura", "faktury", "faktur"))
        lines.append("Co zrobić: obejrzyj je (ksefbuffer incoming list), zanim zostaną zapłacone.")
    return "\n".join(lines)


def ripe(oldest: datetime, told_at: datetime | None, now: datetime) -> bool:
    """Whether the crowd has been gathered; a told moment that lies ahead (the clock was put back) holds up nothing."""
    lately = told_at is not None and timedelta(0) <= now - told_at < AGAIN_AFTER
    return not lately and now - oldest >= GATHERED_FOR
