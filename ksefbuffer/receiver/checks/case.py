"""One received invoice under the checks, and what a check gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from zoneinfo import ZoneInfo

from ...invoice.document import decimal_of
from ...invoice.identifiers import collapse
from ...invoice.received import Party, Received, Row
from ...invoice.wording import printable
from ..shapes import Supplier
from ..stores import StoreMatch
from .archive import Archive, Known
from .catalogue import Severity
from .knowledge import Knowledge

WARSAW = ZoneInfo("Europe/Warsaw")
ZERO = Decimal()
CENT = Decimal("0.01")
_MAX_DIGITS = 18
# Numbers in one question to the archive. A rebate may correct 50,000 invoices; the first ones are enough to look.
MAX_ASKED = 100
MAX_HITS = 10  # Of one check; an invoice of ten thousand lines may be wrong ten thousand times.

_LETTERS = {"FA (3)": "3", "FA (2)": "2", "FA_RR (1)": "R", "PEF (3)": "P", "PEF_KOR (3)": "P"}
# Units and members that buy with the buyer; an employee's invoice is ours as well.
_BUYING_ROLES = frozenset(("2", "4", "8", "10", "11"))


@dataclass(frozen=True, repr=False)
class Metadata:
    """What KSeF says of an invoice (FACTS §8), and how it came. ``buyer_id_type`` is Nip, VatUe, Other or None;
    ``sha256_hex`` is invoiceHash, ``stored_sha256_hex`` that of the stored bytes; ``form_code`` is the system code;
    ``invoicing_at`` is aware; ``roles`` holds buyer, third, authorized, seller."""

    ksef_number: str
    sha256_hex: str
    stored_sha256_hex: str
    seller_nip: str
    buyer_id_type: str
    buyer_id_value: str
    invoice_number: str
    issue_date: date | None
    gross: Decimal | None
    currency: str
    invoice_type: str
    form_code: str
    has_attachment: bool
    self_invoicing: bool
    invoicing_at: datetime | None
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Hit:
    """A check that fired: where (a path), the values for its message, and which of its messages (``variant``)
    or severities it is when not the usual ones."""

    where: str
    values: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""
    severity: Severity | None = None


CheckFunction = Callable[["Case"], Iterator[Hit]]


class Case:
    """An invoice, what KSeF says of it (None: it did not come from KSeF), what we know and what is stored."""

    def __init__(
        self,
        received: Received,
        metadata: Metadata | None,
        knowledge: Knowledge,
        archive: Archive,
        now: datetime,
        store: StoreMatch | None = None,
    ) -> None:
        self.received = received
        self.metadata = metadata
        self.knowledge = knowledge
        self.archive = archive
        self.now = now.astimezone(UTC)
        self._store = store

    @cached_property
    def form(self) -> str:
        """The letter of the form, see ``catalogue``."""
        return _LETTERS.get(self.received.form, "?")

    @cached_property
    def body(self) -> Row:
        """Fa; an empty row when there is none."""
        return self._row("Fa")

    @cached_property
    def kind(self) -> str:
        """RodzajFaktury."""
        return self.received.invoice_type

    @cached_property
    def corrects(self) -> bool:
        return self.received.is_correction

    @cached_property
    def lines(self) -> list[Row]:
        """FaWiersz, each."""
        return self.body.rows("FaWiersz")

    @cached_property
    def is_whole(self) -> bool:
        """Whether nothing may have been lost in reading, so that something missing is missing in the invoice."""
        return not any("składnia" in damage for damage in self.received.damage)

    @cached_property
    def seller_nip(self) -> str:
        nip = self.received.seller.nip
        return nip or (self.metadata.seller_nip if self.metadata else "")

    @cached_property
    def buyer_nip(self) -> str:
        """As the invoice says; where the form is not fully read (PEF), as KSeF says."""
        nip = self.received.buyer.nip
        if not nip and self.form in "P?" and self.metadata and self.metadata.buyer_id_type == "Nip":
            return self.metadata.buyer_id_value
        return nip

    @cached_property
    def invoice_number(self) -> str:
        return self.received.invoice_number or (collapse(self.metadata.invoice_number) if self.metadata else "")

    @cached_property
    def issue_date(self) -> date | None:
        return self.received.issue_date or (self.metadata.issue_date if self.metadata else None)

    @property
    def ksef_number(self) -> str:
        return self.metadata.ksef_number if self.metadata else ""

    @cached_property
    def buyer_is_us(self) -> bool:
        return self.buyer_nip in self.knowledge.nips

    @cached_property
    def our_thirds(self) -> tuple[Party, ...]:
        """The third parties that are us, or a unit of ours."""
        return tuple(third for third in self.received.thirds if self._is_us(third))

    @cached_property
    def we_buy(self) -> bool:
        """Whether we are the buyer, or a third party in a role that buys."""
        return self.buyer_is_us or any(third.role in _BUYING_ROLES for third in self.our_thirds)

    @cached_property
    def is_own_sale(self) -> bool:
        """Whether we pulled an invoice that we issued: seller by the document and by KSeF, and not its buyer."""
        return (
            self.metadata is not None
            and "seller" in self.metadata.roles
            and "buyer" not in self.metadata.roles
            and (not self.knowledge.nips or self.seller_nip in self.knowledge.nips)
        )

    @cached_property
    def store(self) -> StoreMatch:
        """The store that the invoice is for."""
        return self._store or self.knowledge.stores.find(self.received, self.knowledge.vocabulary)

    @cached_property
    def supplier(self) -> Supplier | None:
        return self.knowledge.suppliers.get(self.seller_nip)

    @cached_property
    def accepted_on(self) -> date | None:
        """The Polish day on which KSeF took the invoice."""
        at = self.metadata.invoicing_at if self.metadata else None
        return at.astimezone(WARSAW).date() if at is not None else None

    def is_earlier(self, known: Known) -> bool:
        """Whether ``known`` is another invoice that KSeF took before this one. When the times are not known, any other
        one is; so the first of two is not blamed for the second, however late it is judged."""
        if known.ksef_number == self.ksef_number:
            return False
        mine = self.metadata.invoicing_at if self.metadata else None
        if mine is None or known.accepted_at is None:
            return True
        return (known.accepted_at, known.ksef_number) < (mine, self.ksef_number)

    @cached_property
    def gross(self) -> Decimal | None:
        """P_15, as ``amount`` reads it."""
        gross = self.received.gross
        return gross if gross is not None and gross.adjusted() < _MAX_DIGITS else None

    def number(self, name: str) -> Decimal | None:
        """The amount in a field of Fa."""
        return amount(self.body.first(name))

    def flag(self, path: str) -> bool:
        """Whether a choice field of Fa says 1."""
        return self.body.first(path) == "1"

    def _is_us(self, party: Party) -> bool:
        return party.nip in self.knowledge.nips or party.idwew[:10] in self.knowledge.nips

    def _row(self, name: str) -> Row:
        found = self.received.rows(name)
        return found[0] if found else Row(None)


def amount(text: str) -> Decimal | None:
    """A number that can be counted with: no more digits than FA(3) allows; None for anything else."""
    number = decimal_of(text or None)
    return number if number is not None and number.adjusted() < _MAX_DIGITS else None


def days_from(day: date, days: int) -> date:
    """``day`` moved by so many days, as far as the calendar goes."""
    return date.fromordinal(max(1, min(day.toordinal() + days, date.max.toordinal())))


def shown(text: str, limit: int = 60) -> str:
    """Foreign text fit to be put into a message: one line, no characters that disturb, cut."""
    return printable(collapse(text), limit)


def buyer_shown(party: Party) -> str:
    """How to call the number of a buyer: its NIP, another number, or that it has none."""
    if party.nip:
        return f"NIP {shown(party.nip, 20)}"
    other = party.eu_vat or party.other_id
    return f"nr {shown(other, 30)}" if other else "bez NIP"
