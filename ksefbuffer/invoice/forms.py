"""The document forms that KSeF knows. Source: FACTS §4.1 (form codes), FA3-FIELDS (namespaces)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A form code: note the space in ``system_code``. ``namespace`` is that of the root element ``root``."""

    system_code: str
    schema_version: str
    value: str
    namespace: str
    root: str


FA3 = Form("FA (3)", "1-0E", "FA", "http://crd.gov.pl/wzor/2025/06/25/13775/", "Faktura")
FA2 = Form("FA (2)", "1-0E", "FA", "http://crd.gov.pl/wzor/2023/06/29/12648/", "Faktura")
FA_RR = Form("FA_RR (1)", "1-1E", "FA_RR", "http://crd.gov.pl/wzor/2026/03/06/14189/", "Faktura")
PEF = Form("PEF (3)", "2-1", "PEF", "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2", "Invoice")
PEF_KOR = Form("PEF_KOR (3)", "2-1", "PEF", "urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2", "CreditNote")

FORMS: tuple[Form, ...] = (FA3, FA2, FA_RR, PEF, PEF_KOR)
BY_NAMESPACE = {form.namespace: form for form in FORMS}
BY_SYSTEM_CODE = {form.system_code: form for form in FORMS}
