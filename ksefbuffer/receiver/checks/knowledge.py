"""What the checks know of us and of our suppliers, from the rulebook. Nothing known: what needs it is silent.

Source: the list of checks (the daggers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from ...errors import ConfigurationFault
from ...invoice.addresses import AddressKey, address_key
from ...invoice.places import BUILT_IN, Vocabulary
from ..patterns import PatternFault, compiled
from ..shapes import Rulebook, Strength, Supplier
from ..stores import StoreRegister
from .catalogue import CATALOGUE, OF_STRENGTH, Severity


@dataclass(frozen=True, repr=False)
class Knowledge:
    """``nips`` are ours; ``names`` ours with all aliases; ``addresses`` our head office's, former and other ones, as
    written; ``glns`` and ``idwews`` ours besides the stores'; ``suppliers`` by NIP; ``orders`` and ``deliveries``
    exported lists of numbers in the forms of ``keys.reference_forms``; ``payment_hosts`` are hosts to which payment
    links may lead besides the usual ones; ``checks`` switches, raises or lowers checks by code."""

    nips: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    glns: frozenset[str] = frozenset()
    idwews: frozenset[str] = frozenset()
    stores: StoreRegister = field(default_factory=StoreRegister)
    suppliers: Mapping[str, Supplier] = field(default_factory=dict)
    orders: frozenset[str] = frozenset()
    deliveries: frozenset[str] = frozenset()
    payment_hosts: frozenset[str] = frozenset()
    environment: str = "production"
    late_days: int = 7
    old_delivery_months: int = 6
    vocabulary: Vocabulary = BUILT_IN
    checks: Mapping[str, Strength] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [f"{code} = {told}" for code, told in self.checks.items() if not _is_setting(code, told)]
        if wrong:
            raise ConfigurationFault(
                f"Nieznana kontrola lub jej ustawienie: {', '.join(wrong)}.",
                action="W sekcji [checks] wpisz kod Z01–Z57 i jedno z: off, note, warning, error.",
            )
        for supplier in self.suppliers.values():
            try:
                _ = supplier.order_pattern and compiled(supplier.order_pattern)
            except PatternFault as problem:
                raise ConfigurationFault(
                    f"Wzorzec numeru zamówienia dostawcy {supplier.nip}: {problem}.",
                    action="Popraw order_pattern w sekcji [[supplier]].",
                ) from problem

    @cached_property
    def address_keys(self) -> tuple[AddressKey, ...]:
        """Every known address of ours, the stores' too, ready to be compared."""
        ours = (*self.addresses, *self.stores.headquarters)
        stores = (address for store in self.stores.stores for address in store.addresses)
        return tuple(dict.fromkeys(address_key(text) for text in (*ours, *stores)))

    @cached_property
    def all_glns(self) -> frozenset[str]:
        """The GLNs of all our places."""
        return self.glns.union(self.stores.head_glns, *(store.glns for store in self.stores.stores))

    @cached_property
    def all_idwews(self) -> frozenset[str]:
        """All our internal identifiers."""
        return self.idwews.union(*(store.idwews for store in self.stores.stores))

    @cached_property
    def has_suppliers(self) -> bool:
        """Whether there is a list of those we buy from; a list of blocked ones alone is none."""
        return any(not supplier.blocked for supplier in self.suppliers.values())

    @cached_property
    def has_related(self) -> bool:
        """Whether related parties are listed."""
        return any(supplier.related for supplier in self.suppliers.values())

    def severity(self, code: str, usual: Severity) -> Severity | None:
        """How severe the check is here; None when it is switched off."""
        told = self.checks.get(code)
        return usual if told is None else OF_STRENGTH[told]


def knowledge_of(
    rulebook: Rulebook,
    nip: str,
    *,
    environment: str = "production",
    orders: Iterable[str] = (),
    deliveries: Iterable[str] = (),
) -> Knowledge:
    """What the rulebook of the buffer of ``nip`` says; ``orders`` and ``deliveries`` as Knowledge holds them. Raises
    ConfigurationFault when a check or a pattern in it cannot be used."""
    company = rulebook.company
    return Knowledge(
        nips=frozenset((nip, *company.nips)),
        names=company.names,
        addresses=(*company.headquarters, *company.addresses),
        glns=frozenset(company.glns),
        idwews=frozenset(company.idwews),
        stores=rulebook.stores,
        suppliers=MappingProxyType({supplier.nip: supplier for supplier in rulebook.suppliers}),
        orders=frozenset(orders),
        deliveries=frozenset(deliveries),
        payment_hosts=frozenset(host.casefold() for host in company.payment_hosts),
        environment=environment,
        late_days=company.late_days,
        old_delivery_months=company.old_delivery_months,
        vocabulary=rulebook.vocabulary,
        checks=rulebook.checks,
    )


def _is_setting(code: str, told: str) -> bool:
    return code in CATALOGUE and told in OF_STRENGTH
