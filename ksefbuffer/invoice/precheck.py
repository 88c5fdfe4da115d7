"""The check before sending: what KSeF would refuse (groups A to D: BLOCK) and what KSeF lets through although the law
or the receiver will not (groups E and F: WARN). Source: the project's list of checks; codes are those of the list.

Not here, because they need a folder or the database: A01-A04, A07, A08, D05, D08, F02; nor the rules that need
configured data (E28, F04, F09 and parts of others).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from lxml import etree

from . import rules, schema
from .document import InvoiceHeader, fields_of, form_of, header_of
from .findings import Finding, Severity
from .forms import FA2, FA3, FORMS, Form
from .reading import MAX_ATTRIBUTES, attribute_flood, depth_finding, line_of, local_name, read
from .wording import printable

_WARSAW = ZoneInfo("Europe/Warsaw")
_FORM_CODE = f"{{{FA3.namespace}}}KodFormularza"
# So many findings of one code are told one by one; the rest is counted.
MAX_PER_CODE = 50


@dataclass(frozen=True)
class CheckContext:
    """For whom and when a document is checked.

    ``nip`` is the buffer's own; ``now`` an aware UTC time; sizes are bytes (decimal MB, FACTS §4.1). ``correction``
    marks a technical correction of an offline invoice, ``offline`` one declared as issued offline. ``xsd_dir`` names
    a folder with the four XSD files, to be used instead of the package's.
    """

    nip: str
    environment: str
    now: datetime
    max_bytes: int = 1_000_000
    max_bytes_with_attachment: int = 3_000_000
    correction: bool = False
    offline: bool = False
    xsd_dir: Path | None = None


@dataclass(frozen=True, repr=False)
class Report:
    """What was read and what was found, in the order of the list of checks."""

    header: InvoiceHeader
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that refuse the document."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.BLOCK)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are kept and shown with the document."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARN)

    @property
    def ok(self) -> bool:
        """Whether the document may be sent."""
        return not any(finding.severity is Severity.BLOCK for finding in self.findings)

    def __repr__(self) -> str:
        codes = Counter(f"{finding.severity}:{finding.code}" for finding in self.findings)
        return f"Report({', '.join(f'{code}×{count}' for code, count in codes.items()) or 'ok'})"


def refusal_of_size(size: int, context: CheckContext) -> Finding | None:
    """A06 for a document that is too big whatever is in it, so that it need not be read into memory; else None."""
    if size <= context.max_bytes_with_attachment:
        return None
    return _too_big(size, context.max_bytes_with_attachment)


def check(content: bytes, context: CheckContext) -> Report:
    """Check one document; all findings, not only the first. Never raises for anything in ``content``; raises
    ConfigurationFault when the XSD files are missing or not the expected ones."""
    too_big = refusal_of_size(len(content), context)
    if too_big is not None:
        return Report(InvoiceHeader(), (too_big,))
    reading = read(content)
    findings = list(reading.findings)
    root = reading.root
    if root is None:
        if len(content) > context.max_bytes:
            findings.insert(0, _too_big(len(content), context.max_bytes))
        return Report(InvoiceHeader(), _shortened(findings))
    fields = fields_of(root)
    header = header_of(root, fields)
    if len(content) > context.max_bytes and not header.has_attachment:
        findings.insert(0, _too_big(len(content), context.max_bytes))
    valid = False
    if header.form is not FA3:
        findings.extend(_other_form(root, context))
    elif reading.well_formed:
        wrong_codes = _wrong_form_code(root)
        findings.extend(wrong_codes)
        flood = attribute_flood(root) if content.count(b"=") > MAX_ATTRIBUTES else None
        if flood is not None:
            # Each attribute would cost the schema an error of its own.
            return Report(header, _shortened([*findings, flood]))
        valid = schema.is_valid(root, context.xsd_dir)
        if not valid:
            findings.extend(_schema_findings(root, context, known=bool(wrong_codes)))
    case = rules.Case(
        root, fields, header, reading.text, context.now, context.now.astimezone(_WARSAW).date(), context.environment
    )
    if reading.text_is_sound:
        findings.extend(rules.mojibake(case))
    if header.form in (FA3, FA2) or (header.form is None and local_name(root) == FA3.root):
        findings.extend(rules.refused_by_ksef(case, context.nip, context.correction, context.offline))
    if valid and reading.text_is_sound:
        findings.extend(rules.questionable(case))
    return Report(header, _shortened(findings))


def _too_big(size: int, limit: int) -> Finding:
    return Finding(
        "A06",
        f"Plik ma {size} bajtów, dozwolone {limit}.",
        "Podziel fakturę na mniejsze albo skróć opisy; KSeF nie przyjmuje większych plików.",
    )


def _other_form(root: etree._Element, context: CheckContext) -> list[Finding]:
    """C01 (and D10) for everything that is not FA(3)."""
    form = form_of(root)
    name = printable(local_name(root))
    if form is None:
        namespace = printable(str(root.tag)[1:].rpartition("}")[0])
        known = next((form for form in FORMS if form.namespace == namespace), None)
        what = f"element główny {name} " + (
            f"w przestrzeni nazw „{namespace}”" if namespace else "bez przestrzeni nazw"
        )
        hint = (
            f"Element główny powinien nazywać się {known.root}."
            if known
            else f'Faktura FA(3) zaczyna się od <Faktura xmlns="{FA3.namespace}">.'
        )
        return [Finding("C01", f"To nie jest faktura ustrukturyzowana KSeF: {what}.", hint, line=line_of(root))]
    findings = [
        Finding(
            "C01",
            f"Struktura {_short(form)} nie pasuje: obsługiwana jest wysyłka FA(3).",
            "Ustaw w ERP wystawianie faktur w strukturze FA(3)."
            if form is FA2
            else "Faktury tej struktury trzeba na razie wysyłać innym programem.",
            line=line_of(root),
        )
    ]
    if form is FA2 and context.environment in ("demo", "production"):
        findings.append(
            Finding(
                "D10",
                f"Struktura FA(2) nie jest przyjmowana w środowisku {context.environment}.",
                "Od 1 lutego 2026 r. obowiązuje FA(3); zaktualizuj ERP.",
                line=line_of(root),
            )
        )
    return findings


def _short(form: Form) -> str:
    return form.system_code.replace(" ", "")


def _wrong_form_code(root: etree._Element) -> list[Finding]:
    """C02: the attributes of KodFormularza, which KSeF compares with the session's form code."""
    code = root[0][0] if len(root) and len(root[0]) else None
    if code is None or code.tag != _FORM_CODE:
        return []
    findings = []
    for attribute, wanted in (("kodSystemowy", FA3.system_code), ("wersjaSchemy", FA3.schema_version)):
        value = code.get(attribute)
        if value == wanted:
            continue
        shown = f"{attribute} „{printable(str(value))}”" if value is not None else f"brak atrybutu {attribute}"
        findings.append(
            Finding(
                "C02",
                f"Nagłówek: {shown}, ma być „{wanted}”.",
                "Wpisz dokładnie tę wartość, z odstępem przed nawiasem." if attribute == "kodSystemowy" else "",
                line=line_of(code),
                field=f"Naglowek/KodFormularza/@{attribute}",
            )
        )
    return findings


def _schema_findings(root: etree._Element, context: CheckContext, *, known: bool) -> list[Finding]:
    findings = schema.findings_of(root, context.xsd_dir)
    if known:
        # C02 has said it already, and better.
        findings = [finding for finding in findings if finding.field != "Naglowek/KodFormularza"]
    too_deep = depth_finding(root)
    return [too_deep, *findings] if too_deep else findings


def _shortened(findings: list[Finding]) -> tuple[Finding, ...]:
    counts = Counter(finding.code for finding in findings)
    if not counts or max(counts.values()) <= MAX_PER_CODE:
        return tuple(findings)
    kept: list[Finding] = []
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.code] += 1
        if seen[finding.code] <= MAX_PER_CODE or counts[finding.code] <= MAX_PER_CODE + 1:
            kept.append(finding)
        elif seen[finding.code] == MAX_PER_CODE + 1:
            rest = counts[finding.code] - MAX_PER_CODE
            kept.append(
                Finding(finding.code, f"…i jeszcze {rest} uwag tego rodzaju.", finding.hint, severity=finding.severity)
            )
    return tuple(kept)
