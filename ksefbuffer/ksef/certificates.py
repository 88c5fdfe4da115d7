"""KSeF certificates: limits, requests, retrieval, listing, revocation. Source: FACTS §9; open-api 2.9.0 /certificates.

Not for who logged in by a token (25001, 25002). A request counts against the subject's quota also when it comes to
nothing, so ``enrol`` is never repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from ksefbuffer.errors import OutcomeUnknown
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.calls import Calls, given_reference, no_page, quoted
from ksefbuffer.ksef.crypto import b64
from ksefbuffer.ksef.failures import ASK_AGAIN, name_of
from ksefbuffer.ksef.shapes import CertificateLimits, CertificateListed, EnrolmentStatus, IssuedCertificate
from ksefbuffer.ksef.wire import Call

CertificateKind = Literal["Authentication", "Offline"]
RevocationReason = Literal["Unspecified", "Superseded", "KeyCompromise"]

CERTIFICATES_AT_ONCE = 10
_PAGE_SIZE = 50
_MOST_PAGES = 200


class CertificateCalls(Calls):
    """Each call has its own counter of 10 a second, 30 a minute, 120 an hour."""

    def certificate_limits(self) -> CertificateLimits:
        """How many certificates the subject that we logged in as may still ask for and hold."""
        call = Call("certificate_limits", "GET", "/certificates/limits", "other:certificate-limits", repeatable=True)
        return self._authorised(call, lambda answer: reading.certificate_limits(answer.json()))

    def enrolment_data(self) -> dict[str, tuple[str, ...]]:
        """The subject that a request must name, exactly: values by KSeF's field names (commonName, countryName…).
        Raises Refused (25001) for who logged in by a token."""
        call = Call("enrolment_data", "GET", "/certificates/enrollments/data", "other:enrolment-data", repeatable=True)
        return self._authorised(call, lambda answer: reading.enrolment_data(answer.json()))

    def enrol(self, name: str, kind: CertificateKind, request: bytes) -> str:
        """Ask for a certificate: ``request`` is PKCS#10 in DER, ``name`` 5 to 100 letters, digits, spaces, - and _.

        Returns the request's reference. OutcomeUnknown: look for ``name`` among ``certificates`` before asking again.
        Refused: 25002, 25003, 25004, 25006, 25007, 25010, 25011.
        """
        call = Call("enrol", "POST", "/certificates/enrollments", "other:enrol")
        body = {"certificateName": name, "certificateType": kind, "csr": b64(request)}
        return self._authorised(call, given_reference, json=body)

    def enrolment(self, reference: str) -> EnrolmentStatus:
        """How a request stands. Refused: 25005 unknown, or HTTP 410 after 30 days."""
        path = f"/certificates/enrollments/{quoted(reference)}"
        call = Call("enrolment", "GET", path, "other:enrolment", repeatable=True)
        return self._authorised(call, lambda answer: reading.enrolment_status(answer.json()))

    def retrieve_certificates(self, serials: Sequence[str]) -> tuple[IssuedCertificate, ...]:
        """The certificates with these serial numbers (16 upper-case hex digits), ten at most; unknown ones are left
        out."""
        if not 1 <= len(serials) <= CERTIFICATES_AT_ONCE:
            raise ValueError("one to ten serial numbers")
        call = Call(
            "retrieve_certificates", "POST", "/certificates/retrieve", "other:retrieve-certificates", repeatable=True
        )
        body = {"certificateSerialNumbers": list(serials)}
        return self._authorised(call, lambda answer: reading.issued_certificates(answer.json()), json=body)

    def certificates(
        self, *, name: str = "", serial: str = "", kind: CertificateKind | None = None, status: str = ""
    ) -> Iterator[CertificateListed]:
        """Certificates of the subject that we logged in as, the newest first. ``name`` may be a part of the name.

        Ends only after the last page was read.
        """
        wanted = {"name": name, "certificateSerialNumber": serial, "type": kind, "status": status}
        body = {field: value for field, value in wanted.items() if value}
        for page in range(_MOST_PAGES):
            call = Call(
                "certificates",
                "POST",
                "/certificates/query",
                "other:certificates",
                repeatable=True,
                query={"pageSize": _PAGE_SIZE, "pageOffset": page},
            )
            listed, more = self._authorised(call, lambda answer: reading.certificates_page(answer.json()), json=body)
            yield from listed
            if not more:
                return
        raise OutcomeUnknown(
            f"Lista KSeF nie ma końca ({name_of('certificates')}).", action=ASK_AGAIN, operation="certificates"
        )

    def revoke_certificate(self, serial: str, reason: RevocationReason = "Unspecified") -> None:
        """Revoke a certificate. Access gained with it lasts on until its tokens expire. Refused: 25008 unknown, 25009
        when it is revoked, blocked or expired already."""
        path = f"/certificates/{quoted(serial)}/revoke"
        call = Call("revoke_certificate", "POST", path, "other:revoke-certificate")
        self._authorised(call, no_page, json={"revocationReason": reason})
