"""The parties of a received invoice and their addresses, of a FA and of UBL. Source: FA3-FIELDS §1, §2, §3."""

from __future__ import annotations

from dataclasses import dataclass

from .rows import NOTHING, Row


@dataclass(frozen=True, repr=False)
class Address:
    """One TAdres. ``kind`` is the element's name (Adres, AdresKoresp, WysylkaDo …), ``where`` its path."""

    kind: str
    country: str
    line1: str
    line2: str
    gln: str
    where: str


@dataclass(frozen=True, repr=False)
class Party:
    """One party. ``nip`` is as written, right or wrong; ``eu_vat`` is KodUE + NrVatUE; ``role`` the digits of Rola
    (RolaPU), ``role_other`` the text of OpisRoli; ``where`` the element's path, such as ``Podmiot3[2]``."""

    where: str
    nip: str = ""
    name: str = ""
    eu_vat: str = ""
    other_id: str = ""
    no_id: bool = False
    idwew: str = ""
    addresses: tuple[Address, ...] = ()
    gln: str = ""
    customer_number: str = ""
    role: str = ""
    role_other: str = ""


def party_of(row: Row, where: str) -> Party:
    """The party of a Podmiot1, 2, 3 or PodmiotUpowazniony, called ``where``."""
    identity = (row.rows("DaneIdentyfikacyjne") or [NOTHING])[0]
    addresses = tuple(
        address_of(found, kind, f"{where}/{kind}") for kind in ("Adres", "AdresKoresp") for found in row.rows(kind)
    )
    vat = identity.first("NrVatUE")
    return Party(
        where,
        identity.first("NIP"),
        identity.first("Nazwa"),
        identity.first("KodUE") + vat if vat else "",
        identity.first("NrID"),
        identity.first("BrakID") == "1",
        identity.first("IDWew"),
        addresses,
        next((address.gln for address in addresses if address.gln), ""),
        row.first("NrKlienta") or row.first("NrKontrahenta"),
        row.first("Rola") or row.first("RolaPU"),
        row.first("OpisRoli"),
    )


def address_of(row: Row, kind: str, where: str) -> Address:
    """The address of a TAdres."""
    first = row.first
    return Address(kind, first("KodKraju"), first("AdresL1"), first("AdresL2"), first("GLN"), where)


def marked_gln(row: Row, *paths: str) -> str:
    """The first of the identifiers at ``paths`` that is marked as a GLN (scheme 0088)."""
    return next((found.text for path in paths for found in row.rows(path) if found.attribute("schemeID") == "0088"), "")


def ubl_party_of(row: Row, where: str) -> Party:
    """The party of an UBL Party."""
    number = row.first("PartyTaxScheme/CompanyID") or row.first("PartyLegalEntity/CompanyID")
    schemed = next((found.text for found in row.rows("EndpointID") if found.attribute("schemeID") == "9945"), "")
    digits = number.removeprefix("PL")
    is_nip = len(digits) == 10 and digits.isdecimal()
    gln = marked_gln(row, "EndpointID", "PartyIdentification/ID")
    address = ubl_address_of(row.rows("PostalAddress"), "PostalAddress", gln, f"{where}/PostalAddress")
    return Party(
        where,
        nip=digits if is_nip else schemed.removeprefix("PL"),
        name=row.first("PartyLegalEntity/RegistrationName") or row.first("PartyName/Name"),
        eu_vat="" if is_nip else number,
        other_id=row.first("PartyIdentification/ID"),
        addresses=(address,),
        gln=gln,
    )


def ubl_address_of(rows: list[Row], kind: str, gln: str, where: str) -> Address:
    """The first of UBL addresses, its parts put into two lines as a TAdres has them."""
    row = rows[0] if rows else NOTHING
    street = [row.first(path) for path in ("StreetName", "AdditionalStreetName", "AddressLine/Line")]
    town = [row.first(path) for path in ("PostalZone", "CityName")]
    country = row.first("Country/IdentificationCode")
    return Address(kind, country, " ".join(filter(None, street)), " ".join(filter(None, town)), gln, where)
