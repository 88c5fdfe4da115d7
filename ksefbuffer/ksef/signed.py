"""The login document that a person signs elsewhere: with Profil Zaufany, or a qualified signature or seal.

KSeF's challenge lives for 10 minutes. What comes back is checked before it is sent, for a file that cannot be taken is
better told of here, in words, than by KSeF in a code. Source: FACTS §2.1, §2.3, §2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lxml import etree

from ksefbuffer.errors import CredentialFault
from ksefbuffer.ksef.auth import Context
from ksefbuffer.ksef.xades import NAMESPACE, Identifier, login_document

CHALLENGE_LIVES = timedelta(minutes=10)
LARGEST_DOCUMENT = 1_000_000

_SIGNATURE = "{http://www.w3.org/2000/09/xmldsig#}Signature"
_NAMESPACES = (NAMESPACE, NAMESPACE.replace("2.0", "2.1"))
_ASK_ANEW = "Przygotuj nowy dokument (ksefbuffer cert auth-request) i podpisz go w ciągu 10 minut."


@dataclass(frozen=True)
class LoginRequest:
    """A login document waiting for its signature; ``issued_at`` is KSeF's time of the challenge."""

    challenge: str = field(repr=False)
    issued_at: datetime
    context_kind: str
    context_value: str
    identifier: Identifier

    @property
    def expires_at(self) -> datetime:
        """When KSeF stops taking it, UTC."""
        return self.issued_at + CHALLENGE_LIVES

    def document(self) -> bytes:
        """The AuthTokenRequest to be signed: UTF-8, with its XML declaration."""
        root = login_document(self.challenge, self.context_kind, self.context_value, self.identifier)
        return etree.tostring(root, xml_declaration=True, encoding="utf-8")

    def kept(self) -> dict[str, str]:
        """What ``restored`` needs, fit for JSON."""
        return {
            "challenge": self.challenge,
            "issued_at": self.issued_at.isoformat(),
            "context_kind": self.context_kind,
            "context_value": self.context_value,
            "identifier": self.identifier,
        }

    @classmethod
    def restored(cls, kept: Mapping[str, str]) -> LoginRequest:
        """The request that ``kept`` was taken from. Raises ValueError, KeyError for anything else."""
        return cls(
            challenge=kept["challenge"],
            issued_at=datetime.fromisoformat(kept["issued_at"]).astimezone(UTC),
            context_kind=kept["context_kind"],
            context_value=kept["context_value"],
            identifier=(
                "certificate_fingerprint" if kept["identifier"] == "certificate_fingerprint" else "certificate_subject"
            ),
        )

    def check(self, signed: bytes, now: datetime) -> None:
        """Whether ``signed`` is this document with one signature, and in time. Whether the signature holds is KSeF's to
        judge. Raises CredentialFault."""
        root = _parsed(signed)
        found = next((one for name in _NAMESPACES for one in root.iter(f"{{{name}}}AuthTokenRequest")), None)
        if found is None:
            raise CredentialFault(
                "To nie jest dokument logowania do KSeF (AuthTokenRequest).",
                action="Wskaż plik, który przygotowało polecenie ksefbuffer cert auth-request, po jego podpisaniu.",
            )
        signatures = len(list(root.iter(_SIGNATURE)))
        if signatures == 0:
            raise CredentialFault(
                "Dokument nie jest podpisany.",
                action="Podpisz go Profilem Zaufanym albo podpisem lub pieczęcią kwalifikowaną (XAdES, podpis "
                "otoczony) i wskaż plik podpisany.",
            )
        if signatures > 1:
            raise CredentialFault("Dokument ma więcej niż jeden podpis.", action=_ASK_ANEW)
        space = etree.QName(found).namespace
        if (found.findtext(f"{{{space}}}Challenge") or "").strip() != self.challenge:
            raise CredentialFault(
                "Podpisano inny dokument niż ostatnio przygotowany.",
                action="Podpisz plik z ostatniego polecenia ksefbuffer cert auth-request.",
            )
        context = found.findtext(f"{{{space}}}ContextIdentifier/{{{space}}}{self.context_kind}") or ""
        if context.strip() != self.context_value:
            raise CredentialFault("Podpisany dokument dotyczy innego podmiotu.", action=_ASK_ANEW)
        if now >= self.expires_at:
            raise CredentialFault(
                f"Minęło 10 minut od przygotowania dokumentu (był ważny do {self.expires_at:%H:%M:%S} UTC) i KSeF już "
                "go nie przyjmie; nie został wysłany.",
                action=_ASK_ANEW,
            )


def login_request(challenge: str, timestamp_ms: int, context: Context, identifier: Identifier) -> LoginRequest:
    """The request for KSeF's challenge in this context."""
    issued_at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    return LoginRequest(challenge, issued_at, context.kind, context.value, identifier)


def _parsed(signed: bytes) -> etree._Element:
    try:
        if len(signed) > LARGEST_DOCUMENT or b"<!DOCTYPE" in signed:
            raise ValueError("no login document")
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        return etree.fromstring(signed, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise CredentialFault(
            "Plik nie jest dokumentem XML.",
            action="Wskaż podpisany plik XML; podpis w osobnym pliku (.p7s, .sig) albo w PDF nie nadaje się.",
        ) from None
