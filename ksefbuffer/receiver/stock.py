"""Taking received invoices in: read, stored once, judged, given their folder, all in one commit.

What is made of an invoice can always be made anew from its bytes and KSeF's metadata: ``refile`` does so when the
rules have changed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from ksefbuffer.invoice.accounts import account_key
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.invoice.names import number_key
from ksefbuffer.invoice.received import Received, read_received
from ksefbuffer.ksef.reading import invoice_metadata
from ksefbuffer.ksef.shapes import InvoiceMetadata
from ksefbuffer.queue import incoming, pulls
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.incoming import Incoming, Judgement, NewIncoming
from ksefbuffer.receiver.archive import Expected, StoredArchive
from ksefbuffer.receiver.rulebook import read_rulebook
from ksefbuffer.receiver.rules import Facts, file
from ksefbuffer.receiver.shapes import UNMATCHED, Catalogue, Condition, Rule, Rulebook
from ksefbuffer.receiver.verdict import Knowledge, Metadata, delivery_keys, judge, knowledge_of, likeness

Folders = dict[str | tuple[str, str], str]
"""Folders of invoices about to be written down: by KSeF number, and by seller and folded number."""

log = logging.getLogger(__name__)

AT_ONCE = 200
_SEARCHED = 4_000
_SEARCHED_REFERENCES = 40
_KEYS_OF_A_KIND = 200
# KSeF's names of kinds, where the document itself cannot be read.
_TYPES = {
    "Vat": "VAT",
    "Kor": "KOR",
    "Zal": "ZAL",
    "Roz": "ROZ",
    "Upr": "UPR",
    "KorZal": "KOR_ZAL",
    "KorRoz": "KOR_ROZ",
    "VatRr": "VAT_RR",
    "KorVatRr": "KOR_VAT_RR",
}
_NO_RULE = {"rule": "", "condition": "nie pasuje żadna reguła", "field": "", "value": "", "where": ""}
# In force until somebody brings in rules of their own.
STANDARD = Rulebook(
    catalogues=(Catalogue("sprzedaż", description="faktury, na których sprzedawcą jest nasza firma"),),
    rules=(
        Rule("sprzedaż własna", (Condition("role", "equals", ("seller",)),), target="sprzedaż"),
        Rule("pozostałe", target=UNMATCHED),
    ),
)


@dataclass(frozen=True, repr=False)
class Arrived:
    """An invoice as KSeF gave it, its hash compared already. ``roles`` of buyer, third, authorized, seller."""

    content: bytes
    metadata: InvoiceMetadata
    roles: frozenset[str]


@dataclass(frozen=True)
class Taken:
    """How many were new, and how many were here before."""

    stored: int
    known: int


@dataclass(frozen=True, repr=False)
class Change:
    """What the rules in force make of a stored invoice now, where that differs from what was made of it."""

    ksef_number: str
    before: tuple[str, tuple[str, ...], str]
    after: tuple[str, tuple[str, ...], str]

    @property
    def moves(self) -> bool:
        return self.before[0] != self.after[0]


@dataclass
class Rules:
    """The rulebook in force, read again when another one was brought in. ``environment`` is the buffer's."""

    nip: str
    environment: str
    version: int = -1
    rulebook: Rulebook = STANDARD
    knowledge: Knowledge = field(default_factory=Knowledge)

    def refresh(self, tx: Any) -> None:
        version = pulls.rulebook_version(tx)
        if version != self.version:
            kept = pulls.rulebook(tx)
            self.use(read_rulebook(kept.content) if kept is not None else STANDARD, version)

    def use(self, rulebook: Rulebook, version: int) -> None:
        """Raises ConfigurationFault when a check or a pattern in it cannot be used."""
        self.knowledge = knowledge_of(rulebook, self.nip, environment=self.environment)
        self.rulebook, self.version = rulebook, version


@dataclass
class Stock:
    """``since``: from which issue date on all our invoices are pulled; ``rows``: whether the ERP's table wants them."""

    database: Database
    rules: Rules
    since: date
    rows: bool = False

    def take(
        self, arrived: Sequence[Arrived], *, at: datetime, actor: str, then: Callable[[Any], None] | None = None
    ) -> Taken:
        """Stores, judges and files what is new; of what is known our roles may grow. ``then`` acts in the same commit.

        At most AT_ONCE at a time, so that nobody waits long for the database. Raises StorageFault.
        """
        read = {one.metadata.ksef_number: (one, read_received(one.content)) for one in arrived}
        with self.database.reading() as tx:
            known = incoming.known(tx, list(read))
        # Reading takes its time, and nobody should wait for the database meanwhile.
        new = {number: _new(*of) for number, of in read.items() if number not in known}
        with self.database.transaction() as tx:
            self.rules.refresh(tx)
            keys = incoming.store(tx, list(new.values()), at=at, actor=actor)
            # In the order in which they came, as corrections follow their originals.
            stored = {number: keys[number] for number in new if number in keys}
            archive = self._archive(tx, [_expected(new[number]) for number in stored])
            judged: dict[int, Judgement] = {}
            folders: Folders = {}
            for number, row_id in stored.items():
                one, received = read[number]
                told = _told(one.metadata, new[number].sha256, one.roles)
                judgement = judged[row_id] = self._judge(archive, received, told, at, folders)
                for key in (number, (new[number].seller_nip, new[number].number_key)):
                    folders.setdefault(key, judgement.folder)
            incoming.judge(tx, judged, at=at, actor="rules", row=self.rows)
            self._let_corrections_follow(tx, [new[number] for number in stored], at)
            for number, had in incoming.known(tx, [number for number in read if number not in stored]).items():
                self._grow(tx, had, read[number][0].roles, at=at, actor=actor)
            if then is not None:
                then(tx)
        return Taken(len(stored), len(read) - len(stored))

    def _let_corrections_follow(self, tx: Any, originals: Sequence[NewIncoming], at: datetime) -> None:
        """Corrections that came before what they correct, in another role or another package."""
        pairs = sorted({(one.seller_nip, one.number_key) for one in originals if one.number_key})
        waiting = incoming.correcting(tx, [one.ksef_number for one in originals], pairs)
        archive, judged = self._archive(tx), dict[int, Judgement]()
        for had in waiting:
            judgement = self._again(archive, had, had.roles, at, {})
            if _made(judgement) != _made_of(had):
                judged[had.id] = judgement
        incoming.judge(tx, judged, at=at, actor="rules", note="przyszła faktura korygowana", row=self.rows)

    def grow(self, roles: Iterable[tuple[str, frozenset[str]]], *, at: datetime, actor: str) -> None:
        """Our roles in invoices that are stored, by KSeF number, when nothing else is new of them. Raises
        StorageFault."""
        wanted = dict(roles)
        with self.database.transaction() as tx:
            self.rules.refresh(tx)
            for number, had in incoming.known(tx, list(wanted)).items():
                self._grow(tx, had, wanted[number], at=at, actor=actor)

    def _grow(self, tx: Any, had: Incoming, roles: frozenset[str], *, at: datetime, actor: str) -> None:
        if roles <= had.roles:
            return
        roles = incoming.add_roles(tx, had, roles, at=at, actor=actor)
        judgement = self._again(self._archive(tx), had, roles, at, {})
        if _made(judgement) != _made_of(had):
            incoming.judge(tx, {had.id: judgement}, at=at, actor="rules", row=self.rows)

    def refile(self, keys: Sequence[int], *, at: datetime, actor: str, plan: Folders | None = None) -> list[Change]:
        """What the rules in force make of stored invoices now; written down, unless there is a ``plan``: then nothing
        is, and it collects the folders that would change, so that corrections planned later follow. Raises
        StorageFault."""
        changes: list[Change] = []
        opened = self.database.reading() if plan is not None else self.database.transaction()
        with opened as tx:
            self.rules.refresh(tx)
            archive = self._archive(tx)
            # Corrections follow originals that go somewhere else in this very step.
            folders = {} if plan is None else plan
            judged: dict[int, Judgement] = {}
            for had in incoming.some(tx, keys):
                judgement = self._again(archive, had, had.roles, at, folders)
                if _made(judgement) == _made_of(had):
                    continue
                changes.append(Change(had.ksef_number, _made_of(had), _made(judgement)))
                judged[had.id] = judgement
                if judgement.folder != had.folder:
                    folders[had.ksef_number] = judgement.folder
                    folders[had.seller_nip, number_key(had.invoice_number)] = judgement.folder
            if plan is None:
                incoming.judge(tx, judged, at=at, actor=actor, row=self.rows)
        return changes

    def _archive(self, tx: Any, expected: Sequence[Expected] = ()) -> StoredArchive:
        return StoredArchive(tx, self._complete_since(tx), expected)

    def _again(
        self, archive: StoredArchive, had: Incoming, roles: frozenset[str], at: datetime, plan: Folders
    ) -> Judgement:
        content = incoming.content(archive.tx, had.id)
        raw = json.loads(incoming.metadata_of(archive.tx, [had.id])[had.id], parse_float=Decimal)
        told = _told(invoice_metadata(raw), had.sha256, roles)
        return self._judge(archive, read_received(content), told, at, plan)

    def _judge(
        self, archive: StoredArchive, received: Received, told: Metadata, at: datetime, plan: Folders
    ) -> Judgement:
        rulebook = self.rules.rulebook
        store = rulebook.stores.find(received, rulebook.vocabulary)
        verdict = judge(received, told, self.rules.knowledge, archive, now=at, store=store)
        facts = Facts(
            our_nip=self.rules.nip,
            roles=told.roles,
            ksef_number=told.ksef_number,
            invoicing_date=told.invoicing_at.date() if told.invoicing_at else None,
            corrected_folder=_corrected_folder(archive.tx, received, plan),
            verdict=verdict.verdict,
            store=store,
        )
        filing = file(received, facts, rulebook)
        return Judgement(
            folder=filing.folder,
            tags=filing.tags,
            reasons=filing.as_json()["reasons"] or [_NO_RULE],
            store=store.sure.number if store.sure else "",
            rulebook=self.rules.version,
            verdict=verdict.verdict,
            fired=verdict.as_json()["fired"],
        )

    def _complete_since(self, tx: Any) -> date | None:
        buyer = pulls.cursor(tx, "buyer")
        return self.since if buyer is not None and buyer.caught_up_at is not None else None


def bring_in(database: Database, text: str, *, nip: str, environment: str, at: datetime, actor: str, note: str) -> int:
    """A rulebook for force; returns its version. Raises RulebookFault or ConfigurationFault with all that is wrong."""
    Rules(nip, environment).use(read_rulebook(text), 0)
    with database.transaction() as tx:
        return pulls.keep_rulebook(tx, text, at=at, actor=actor, note=note)


def roles_in(received: Received, nip: str) -> frozenset[str]:
    """Our roles in a document as it says itself, for one that did not come from KSeF."""
    found = {
        "seller": [received.seller],
        "buyer": [received.buyer],
        "third": list(received.thirds),
        "authorized": [received.authorised] if received.authorised else [],
    }
    return frozenset(
        role
        for role, parties in found.items()
        if any(party.nip == nip or party.idwew.startswith(nip) for party in parties)
    )


def _made(judgement: Judgement) -> tuple[str, tuple[str, ...], str]:
    return judgement.folder, tuple(judgement.tags), judgement.verdict


def _made_of(had: Incoming) -> tuple[str, tuple[str, ...], str]:
    return had.folder, tuple(had.tags), had.verdict


def _corrected_folder(tx: Any, received: Received, plan: Folders) -> str | None:
    if not received.is_correction:
        return None
    originals = received.corrected[:_KEYS_OF_A_KIND]
    seller = received.seller.nip
    keys: list[str | tuple[str, str]] = [one.ksef_number for one in originals if one.ksef_number]
    keys += [(seller, number_key(one.number)) for one in originals if one.number]
    planned = next((plan[key] for key in keys if key in plan), None)
    if planned is not None:
        return planned
    numbers = [key for key in keys if isinstance(key, str)]
    return incoming.folder_of(tx, numbers, seller, [key[1] for key in keys if not isinstance(key, str)])


def _told(metadata: InvoiceMetadata, stored_sha256: str, roles: frozenset[str]) -> Metadata:
    return Metadata(
        ksef_number=metadata.ksef_number,
        sha256_hex=metadata.sha256_hex,
        stored_sha256_hex=stored_sha256,
        seller_nip=metadata.seller_nip,
        buyer_id_type=metadata.buyer_id_type,
        buyer_id_value=metadata.buyer_id,
        invoice_number=metadata.invoice_number,
        issue_date=metadata.issue_date,
        gross=metadata.gross,
        currency=metadata.currency,
        invoice_type=metadata.invoice_type,
        form_code=metadata.form_code,
        has_attachment=metadata.has_attachment,
        self_invoicing=metadata.self_invoicing,
        invoicing_at=metadata.invoicing_at,
        roles=roles,
    )


def _new(one: Arrived, received: Received) -> NewIncoming:
    metadata = one.metadata
    seller = received.seller
    number = metadata.invoice_number or received.invoice_number
    gross = received.gross if received.gross is not None else metadata.gross
    return NewIncoming(
        ksef_number=metadata.ksef_number,
        sha256=sha256_hex(one.content),
        content=one.content,
        meta=json.dumps(dict(metadata.raw), ensure_ascii=False, default=_as_json),
        roles=one.roles,
        form=received.form or metadata.form_code[:32] or None,
        invoice_number=number,
        number_key=number_key(number),
        invoice_type=(received.invoice_type or _TYPES.get(metadata.invoice_type, metadata.invoice_type))[:32],
        issue_date=metadata.issue_date or received.issue_date,
        seller_nip=(metadata.seller_nip or seller.nip)[:16],
        seller_name=metadata.seller_name or seller.name,
        buyer_nip=(metadata.buyer_id if metadata.buyer_id_type == "Nip" else received.buyer.nip)[:16],
        currency=(metadata.currency or received.currency)[:8],
        gross=gross,
        invoiced_at=metadata.invoicing_at,
        acquired_at=metadata.accepted_at,
        stored_at_ksef=metadata.permanent_at_raw,
        mode=metadata.invoicing_mode[:16],
        damage=received.damage,
        likeness=likeness(received),
        search=_search(metadata, received, number, gross),
        keys=frozenset(_keys(received)),
    )


def _expected(new: NewIncoming) -> Expected:
    deliveries = tuple(value for kind, value in new.keys if kind == "delivery")
    return Expected(new.seller_nip, new.number_key, new.likeness, deliveries)


def _as_json(value: object) -> object:
    # KSeF writes amounts as numbers, and so they are kept.
    return float(value) if isinstance(value, Decimal) and Decimal(str(float(value))) == value else str(value)


def _keys(received: Received) -> Iterable[tuple[str, str]]:
    kinds: dict[str, Iterable[str]] = {
        "account": map(account_key, received.accounts),
        "advance": (one.ksef_number for one in received.advances),
        "corrected": (one.ksef_number for one in received.corrected),
        "delivery": delivery_keys(received),
        "original": (number_key(one.number) for one in received.corrected),
    }
    for kind, values in kinds.items():
        for value in list(dict.fromkeys(filter(None, values)))[:_KEYS_OF_A_KIND]:
            yield kind, value


def _search(metadata: InvoiceMetadata, received: Received, number: str, gross: Decimal | None) -> str:
    """The words by which people look for it."""
    texts: list[str] = [
        number,
        "".join(incoming.search_words(number)),
        metadata.seller_name or received.seller.name,
        metadata.seller_nip or received.seller.nip,
        metadata.buyer_name or received.buyer.name,
        metadata.buyer_id or received.buyer.nip,
        metadata.ksef_number,
        metadata.issue_date.isoformat() if metadata.issue_date else "",
    ]
    if gross is not None:
        texts += [f"{gross:.2f}", f"{gross:,.2f}".replace(",", " ")]
    texts += [party.name for party in received.thirds[:5]]
    texts += [*received.orders[:_SEARCHED_REFERENCES], *received.wz[:_SEARCHED_REFERENCES]]
    texts += [extra.value for extra in received.extra[:_SEARCHED_REFERENCES]]
    words = dict.fromkeys(word for text in texts for word in incoming.search_words(text))
    return " ".join(words)[:_SEARCHED]
