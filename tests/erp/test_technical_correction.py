"""A corrected file at the door: what may follow a refused offline invoice, and what each other file is told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from ksefbuffer.erp.options import options_from
from ksefbuffer.erp.submit import Offer, Options, Source, cancel, retry, submit, submit_all, submit_too_large
from ksefbuffer.errors import NotAllowedNow
from ksefbuffer.invoice.findings import Finding
from ksefbuffer.invoice.identifiers import sha256_hex
from ksefbuffer.invoice.precheck import CheckContext
from ksefbuffer.queue import corrections, deliveries, documents, sessions
from ksefbuffer.queue.db import Database
from ksefbuffer.queue.documents import Document, NewDocument
from ksefbuffer.queue.states import Event, State
from tests.samples import NIP, NOW, invoice

CONTEXT = CheckContext(nip=NIP, environment="sandbox", now=NOW)
# Valid for our check and, as everybody's of its kind, for the schema; KSeF's word is written by hand here.
ORIGINAL = invoice("FV/1/2026", seed=1)
MENDED = ORIGINAL.replace(b"<SystemInfo>ksefbuffer</SystemInfo>", b"<SystemInfo>kasa 2</SystemInfo>")
MENDED_AGAIN = ORIGINAL.replace(b"<SystemInfo>ksefbuffer</SystemInfo>", b"<SystemInfo>kasa 3</SystemInfo>")
NUMBER = "5265877635-20261120-0100001AF629-AF"
DEADLINE = datetime(2026, 11, 23, 23, 0, tzinfo=UTC)


class Door:
    """The door of one buffer, and KSeF's words on what went through."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.names = 0

    def offer(self, content: bytes, **options: Any) -> Document:
        self.names += 1
        name = f"f{self.names}"
        offer = Offer(content, Source("folder", f"{name}.xml", name), Options(**options))
        return submit(self.database, offer, CONTEXT, actor="test").document

    def correct(self, content: bytes, original: bytes = ORIGINAL, **options: Any) -> Document:
        return self.offer(content, corrects_sha256=sha256_hex(original), **options)

    def now(self, document: Document) -> Document:
        with self.database.reading() as tx:
            return documents.get(tx, document.id)

    def processing(self, document: Document) -> Document:
        with self.database.transaction() as tx:
            session = sessions.begin(tx, "FA (3)", at=NOW)
            return documents.apply(tx, self.now(document), Event.BIND, at=NOW, actor="test", session_id=session)

    def refuse(self, document: Document, code: str = "450") -> Document:
        document = self.processing(document)
        error = Finding(code, "Błąd weryfikacji", source="ksef")
        with self.database.transaction() as tx:
            return documents.apply(
                tx, document, Event.REFUSE, at=NOW, actor="ksef", note=f"{code} Błąd weryfikacji",
                errors=[error.as_dict()], judged_by_ksef=True,
            )  # fmt: skip

    def accept(self, document: Document, number: str = NUMBER) -> Document:
        document = self.processing(document)
        with self.database.transaction() as tx:
            return documents.apply(
                tx, document, Event.NUMBER, at=NOW, actor="ksef", note=number, ksef_number=number, accepted_at=NOW
            )

    def refused_offline(self, content: bytes = ORIGINAL, code: str = "450") -> Document:
        return self.refuse(self.offer(content, offline=True), code)

    def history(self, document: Document) -> list[str]:
        with self.database.reading() as tx:
            return [str(move["note"]) for move in documents.history(tx, document.id)]


@pytest.fixture
def door(database: Database) -> Door:
    return Door(database)


def codes(document: Document) -> list[str]:
    return [str(error["code"]) for error in document.errors]


def told(document: Document) -> str:
    (error,) = document.errors
    assert error["hint"], "every refusal says what to do"
    return f"{error['message']} {error['hint']} {' '.join(error['details'])}"


def test_a_mended_file_of_a_refused_offline_invoice_is_taken(door: Door) -> None:
    original = door.refused_offline()
    with door.database.transaction() as tx:
        documents.change(
            tx, original.id, offline_mode="offline24", offline_since=NOW, offline_event={"id": 7},
            offline_deadline=DEADLINE, offline_term="następny dzień roboczy",
        )  # fmt: skip
    correction = door.correct(MENDED)
    assert (correction.state, correction.errors) == (State.QUEUED, [])
    assert (correction.corrects_sha256, correction.offline, correction.online_only) == (original.sha256, True, False)
    assert (correction.offline_mode, correction.offline_since, correction.offline_deadline) == (
        "offline24",
        NOW,
        DEADLINE,
    )
    assert (correction.offline_event, correction.offline_term) == ({"id": 7}, "następny dzień roboczy")
    (warning,) = correction.warnings
    assert warning["code"] == "K10"
    assert original.document_id in " ".join(warning["details"])
    assert "kasa 2" in " ".join(warning["details"]), "what changed is told"


def test_it_goes_singly_and_never_in_a_batch(door: Door) -> None:
    door.refused_offline()
    correction = door.correct(MENDED)
    with door.database.reading() as tx:
        assert documents.heaps(tx, NOW) == []
        assert [one.id for one in documents.waiting(tx, NOW, limit=5, singly_only=True)] == [correction.id]


def test_the_refused_invoice_s_answer_names_its_correction(door: Door) -> None:
    original = door.refused_offline()
    with door.database.transaction() as tx:
        while (due := deliveries.due(tx, NOW)) is not None:
            deliveries.told(tx, due)
    correction = door.correct(MENDED)
    original = door.now(original)
    assert codes(original) == ["450", "K11"], "KSeF's reason stays the first"
    assert correction.document_id in original.errors[1]["details"][0]
    with door.database.reading() as tx:
        first = deliveries.due(tx, NOW)
    assert first is not None
    assert first.arrival.document == original.id, "and it is told"


@pytest.mark.parametrize("state", ["queued", "failed", "processing", "sent", "cancelled"])
def test_what_ksef_did_not_refuse_is_not_corrected(door: Door, state: str) -> None:
    original = door.offer(ORIGINAL, offline=True)
    said = {"queued": "nie ma jeszcze wyniku", "failed": "nie ma jeszcze wyniku", "sent": NUMBER}
    said |= {"processing": "nie ma jeszcze wyniku", "cancelled": "wycofana"}
    match state:
        case "failed":
            with door.database.transaction() as tx:
                documents.apply(tx, original, Event.FAIL, at=NOW, actor="test", next_attempt_at=NOW)
        case "processing":
            door.processing(original)
        case "sent":
            door.accept(original)
        case "cancelled":
            cancel(door.database, original.document_id, now=NOW, actor="test")
    correction = door.correct(MENDED)
    assert (correction.state, correction.judged_by_ksef) == (State.ERROR, False)
    assert "K02" in codes(correction)
    assert said[state] in correction.errors[0]["message"]


def test_what_only_we_refused_is_sent_anew(door: Door) -> None:
    wrong = invoice("FV/1/2026", nip="5260250274")
    assert door.offer(wrong, offline=True).state is State.ERROR
    assert "bez corrects_sha256" in told(door.correct(MENDED, wrong))


def test_a_file_too_large_to_be_kept_is_explained(door: Door) -> None:
    finding = Finding("A06", "Plik ma 9 bajtów.")
    source = Source("folder", "wielki.xml", "wielki")
    submit_too_large(door.database, "ab" * 32, 9_000_000, finding, source, Options(), now=NOW, actor="test")
    correction = door.offer(MENDED, corrects_sha256="ab" * 32)
    assert codes(correction) == ["K08"]
    assert "za duży" in told(correction)


def test_an_unknown_hash_is_named(door: Door) -> None:
    correction = door.correct(MENDED, b"nobody's")
    assert codes(correction) == ["K01"]
    assert sha256_hex(b"nobody's") in told(correction)


def test_an_online_invoice_is_sent_again_without_ceremony(door: Door) -> None:
    door.refuse(door.offer(ORIGINAL))
    correction = door.correct(MENDED)
    assert codes(correction) == ["K04"]
    assert "zwyczajnie" in told(correction)
    again = door.offer(MENDED)
    assert again.state is State.QUEUED, "the same bytes without the option are an ordinary invoice"
    assert (again.corrects_sha256, again.offline, again.warnings) == (None, False, [])


def test_an_invoice_declared_offline_by_the_buffer_counts_as_offline(door: Door) -> None:
    original = door.offer(ORIGINAL)
    with door.database.transaction() as tx:
        documents.change(tx, original.id, offline_mode="offline24")
    door.refuse(original)
    assert door.correct(MENDED).state is State.QUEUED


@pytest.mark.parametrize(("code", "finding"), [("410", "K03"), ("415", "K03"), ("21405", "K09"), ("430", "")])
def test_only_the_file_s_own_faults_are_mended_by_a_file(door: Door, code: str, finding: str) -> None:
    original = door.refused_offline(code=code)
    correction = door.correct(MENDED)
    assert codes(correction) == ([finding] if finding else [])
    if finding:
        assert f"queue retry {original.document_id}" in told(correction)


def test_a_refusal_by_ksef_counts_though_our_own_check_spoke_last(door: Door) -> None:
    original = door.refused_offline()
    retry(door.database, original.document_id, CheckContext(nip="5260250274", environment="sandbox", now=NOW), actor="")
    assert "450" not in codes(door.now(original))
    assert door.correct(MENDED).state is State.QUEUED


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b"<P_15>", b"<P_15>1", "Fa/P_15"),
        (b"<P_2>FV/1/2026<", b"<P_2>FV/2/2026<", "Fa/P_2"),
        (b"<AdresL1>ul. Fabryczna 12<", b"<AdresL1>ul. Fabryczna 13<", "Podmiot1/Adres/AdresL1"),
    ],
)
def test_a_change_of_content_is_refused_with_what_changed(door: Door, old: bytes, new: bytes, field: str) -> None:
    door.refused_offline()
    changed = ORIGINAL.replace(old, new)
    assert changed != ORIGINAL
    correction = door.correct(changed)
    (error,) = [error for error in correction.errors if error["code"] == "K05"]
    assert error["field"] == field
    assert any(line.startswith(f"{field}: było") for line in error["details"])
    assert "fakturą korygującą" in error["hint"]


def test_the_number_of_a_refused_duplicate_may_change_and_nothing_else(door: Door) -> None:
    """KSeF takes a technical correction of a duplicate; with the number kept it would be one for ever."""
    door.refused_offline(code="440")
    renumbered = ORIGINAL.replace(b"<P_2>FV/1/2026<", b"<P_2>FV/1/2026/bis<")
    both = renumbered.replace(b"ul. Fabryczna 12", b"ul. Fabryczna 13")
    refused = door.correct(both)
    assert refused.errors[0]["field"] == "Podmiot1/Adres/AdresL1"
    taken = door.correct(renumbered)
    assert taken.state is State.QUEUED
    assert "przekaż nabywcy nowy" in taken.warnings[0]["message"]


def test_one_correction_at_a_time(door: Door) -> None:
    original = door.refused_offline()
    first = door.correct(MENDED)
    second = door.correct(MENDED_AGAIN)
    assert codes(second) == ["K07"]
    assert first.document_id in told(second)
    door.accept(first)
    third = door.correct(ORIGINAL + b"\n")
    assert codes(third) == ["K06"]
    assert NUMBER in told(third)
    assert door.correct(ORIGINAL + b"\n\n", MENDED).errors[0]["code"] == "K06", "the whole line is settled"
    assert door.now(original).state is State.ERROR


def test_two_corrections_in_one_commit_are_not_both_taken(door: Door) -> None:
    door.refused_offline()
    options = Options(corrects_sha256=sha256_hex(ORIGINAL))
    offers = [Offer(c, Source("folder", n, n), options) for c, n in ((MENDED, "a"), (MENDED_AGAIN, "b"))]
    states = [one.document.state for one in submit_all(door.database, offers, CONTEXT, actor="test")]
    assert sorted(states) == [State.ERROR, State.QUEUED]


@pytest.mark.parametrize("named", [ORIGINAL, MENDED], ids=["by the first file", "by the last refused one"])
def test_a_refused_correction_is_corrected_again_and_the_chain_is_kept(door: Door, named: bytes) -> None:
    original = door.refused_offline()
    first = door.correct(MENDED)
    with door.database.transaction() as tx:
        documents.change(tx, first.id, offline_mode="awaria", offline_deadline=DEADLINE + timedelta(days=9))
    door.refuse(first)
    second = door.correct(MENDED_AGAIN, named)
    assert second.state is State.QUEUED
    assert second.corrects_sha256 == original.sha256, "KSeF wants the file that the customer's codes name"
    assert second.offline_deadline == DEADLINE + timedelta(days=9), "the term as it was kept up last"
    assert first.document_id in second.warnings[0]["message"]
    for refused in (original, first):
        assert codes(door.now(refused)) == ["450", "K11"]
        assert second.document_id in door.now(refused).errors[1]["details"][0]
    with door.database.reading() as tx:
        line = corrections.line_of(tx, second.sha256)
    assert line is not None
    assert (line.original.id, [one.id for one in line.corrections]) == (original.id, [first.id, second.id])


def test_a_correction_that_never_got_in_is_not_part_of_the_chain(door: Door) -> None:
    original = door.refused_offline()
    wrong = ORIGINAL.replace(b"<P_15>", b"<P_15>1")
    assert door.correct(wrong).state is State.ERROR
    mistaken = door.correct(MENDED, wrong)
    assert codes(mistaken) == ["K02"]
    assert original.sha256 in told(mistaken), "whose hash is wanted"
    assert door.correct(MENDED_AGAIN).warnings[0]["message"].count("dokument") == 1


def test_refused_at_first_it_is_heard_again_once_ksef_has_spoken(door: Door) -> None:
    original = door.offer(ORIGINAL, offline=True)
    correction = door.correct(MENDED)
    assert "K02" in codes(correction)
    door.refuse(original)
    again = door.correct(MENDED)
    assert (again.id, again.state, again.corrects_sha256) == (correction.id, State.QUEUED, original.sha256)
    assert [warning["code"] for warning in again.warnings] == ["K10"]
    assert original.document_id in door.history(again)[-1]
    assert codes(door.now(original)) == ["450", "K11"]


def test_a_person_s_retry_hears_it_again_too(door: Door) -> None:
    original = door.offer(ORIGINAL, offline=True)
    correction = door.correct(MENDED)
    with pytest.raises(NotAllowedNow, match="nie ma jeszcze wyniku") as caught:
        retry(door.database, correction.document_id, CONTEXT, actor="test")
    assert "Poczekaj" in caught.value.action
    door.refuse(original)
    retried = retry(door.database, correction.document_id, CONTEXT, actor="test")
    assert (retried.state, retried.corrects_sha256, retried.offline) == (State.QUEUED, original.sha256, True)
    assert [warning["code"] for warning in retried.warnings] == ["K10"]


@pytest.mark.parametrize("accepted", [False, True])
def test_an_original_with_a_correction_is_not_retried(door: Door, accepted: bool) -> None:
    original = door.refused_offline()
    correction = door.correct(MENDED)
    if accepted:
        door.accept(correction)
    with pytest.raises(NotAllowedNow, match=correction.document_id) as caught:
        retry(door.database, original.document_id, CONTEXT, actor="test")
    assert caught.value.action
    assert door.now(original).state is State.ERROR


def test_an_earlier_correction_is_not_retried_beside_a_later_one(door: Door) -> None:
    door.refused_offline()
    first = door.refuse(door.correct(MENDED))
    second = door.correct(MENDED_AGAIN)
    with pytest.raises(NotAllowedNow, match=second.document_id):
        retry(door.database, first.document_id, CONTEXT, actor="test")
    door.refuse(second)
    retried = retry(door.database, first.document_id, CONTEXT, actor="test")
    assert (retried.state, retried.errors) == (State.QUEUED, [])
    assert first.document_id in door.now(second).errors[1]["details"][0]


def test_a_refused_original_may_be_retried_while_nothing_corrects_it(door: Door) -> None:
    original = door.refused_offline()
    correction = door.correct(MENDED)
    cancel(door.database, correction.document_id, now=NOW, actor="test")
    assert retry(door.database, original.document_id, CONTEXT, actor="test").state is State.QUEUED


def test_another_document_s_number_still_stands_in_the_way(door: Door) -> None:
    door.refused_offline()
    other = door.offer(invoice("FV/1/2026", seed=9))
    correction = door.correct(MENDED)
    assert codes(correction) == ["D05"]
    assert other.document_id in told(correction)


def test_a_correction_holds_its_number(door: Door) -> None:
    door.refused_offline()
    correction = door.correct(MENDED)
    late = door.offer(invoice("FV/1/2026", seed=9))
    assert codes(late) == ["D05"]
    assert correction.document_id in told(late)


def test_an_attachment_may_come_in_a_correction(door: Door) -> None:
    """KSeF takes attachments interactively only so; our own check (D06) lets none of other invoices in."""
    content = invoice("FV/5/2026", attachment=True)
    new = NewDocument(sha256_hex(content), len(content), content, form="FA (3)", offline=True, attachment=True)
    with door.database.transaction() as tx:
        original = documents.insert_document(tx, new, at=NOW, actor="test")
    door.refuse(original)
    mended = content.replace(b"<SystemInfo>ksefbuffer<", b"<SystemInfo>kasa 2<")
    correction = door.correct(mended, content)
    assert (correction.state, correction.attachment) == (State.QUEUED, True)
    with door.database.reading() as tx:
        assert [one.id for one in documents.waiting(tx, NOW, limit=5, singly_only=True)] == [correction.id]


def test_who_has_been_replaced_is_known(door: Door) -> None:
    original = door.refused_offline()
    with door.database.reading() as tx:
        assert corrections.replaced(tx, [original.id]) == set()
    first = door.correct(MENDED)
    everybody = [original.id, first.id]
    with door.database.reading() as tx:
        assert corrections.replaced(tx, everybody) == {original.id}
    door.refuse(first)
    with door.database.reading() as tx:
        assert corrections.replaced(tx, everybody) == set(), "the term goes on"
    second = door.correct(MENDED_AGAIN)
    door.accept(second)
    with door.database.reading() as tx:
        assert corrections.replaced(tx, [*everybody, second.id]) == {original.id, first.id}


@pytest.mark.parametrize(
    ("given", "offline", "online_only"), [(None, False, False), (True, True, False), (False, False, True)]
)
def test_what_was_said_of_offline_is_kept(door: Door, given: bool | None, offline: bool, online_only: bool) -> None:
    assert options_from({} if given is None else {"offline": given}).offline is given
    document = door.offer(ORIGINAL, offline=given)
    assert (document.offline, document.online_only) == (offline, online_only)


def test_the_same_bytes_with_other_words_of_offline_are_heard_by_the_new_ones(door: Door) -> None:
    tomorrow = invoice(issue_date=NOW.date() + timedelta(days=1))
    first = door.offer(tomorrow, offline=False)
    assert (first.state, first.online_only) == (State.ERROR, True)
    offer = Offer(tomorrow, Source("folder", "x.xml", "x"), Options(offline=True))
    later = CheckContext(nip=NIP, environment="sandbox", now=NOW + timedelta(days=1))
    again = submit(door.database, offer, later, actor="test").document
    assert (again.state, again.offline, again.online_only) == (State.QUEUED, True, False)


def test_corrections_that_come_at_once_by_two_ways_are_not_both_taken(door: Door) -> None:
    """Under numbers of their own, so that no unique number keeps them apart."""
    door.refused_offline(code="440")
    together = Barrier(2)

    def come(suffix: str) -> Document:
        content = ORIGINAL.replace(b"<P_2>FV/1/2026<", f"<P_2>FV/1/2026/{suffix}<".encode())
        options = Options(corrects_sha256=sha256_hex(ORIGINAL))
        offer = Offer(content, Source("folder", suffix, suffix), options)
        together.wait(30)
        return submit(door.database, offer, CONTEXT, actor="test").document

    with ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(come, ("a", "b")))
    assert sorted(one.state for one in taken) == [State.ERROR, State.QUEUED]
    assert sum(("K07" in codes(one)) for one in taken) == 1
