"""The whole duty, its messages over real sockets: what is told, how often, and what never is."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from ksefbuffer.notify import duty as module
from ksefbuffer.notify.duty import Notify
from ksefbuffer.queue import documents, facts, incoming, notices, pauses
from ksefbuffer.queue.db import Database, StorageFault
from ksefbuffer.queue.states import Event, State
from tests.conftest import Clock
from tests.notify.post import EVENTS, SECRET, Post, Staff, opened
from tests.queue.builders import new
from tests.queue.test_incoming import made
from tests.receiver.stored import judgement

pytestmark = pytest.mark.process


def fact(database: Database, name: str) -> Any:
    with database.reading() as tx:
        known = facts.get(tx, name)
    return known[0] if known else None


# Refused documents


def test_a_refused_document_is_told_within_two_minutes_by_its_number(staff: Staff, post: Post) -> None:
    staff.refuse(invoice_number="FV/7/2026")
    staff.live(minutes=2)
    (told,) = post.taken
    assert told.title == "ksefbuffer 5265877635: 1 dokument w błędzie"
    assert "FV/7/2026: odmowa KSeF 440" in told.body
    assert told.weight == "warning"


def test_a_thousand_refused_documents_are_one_message(staff: Staff, post: Post) -> None:
    for _ in range(10):
        staff.refuse(100, code="C03", by_ksef=False)
        staff.clock.forward(5)
        staff.look()
    staff.live(minutes=10)
    (told,) = post.taken
    assert "1000 dokumentów w błędzie" in told.title
    assert "i jeszcze 990 dokumentów" in told.body
    assert len(told.body) < 1500


def test_refusals_that_go_on_all_day_are_told_four_times_an_hour_at_most(staff: Staff, post: Post) -> None:
    for _ in range(120):
        staff.refuse()
        staff.clock.forward(60)
        staff.look()
    staff.live(minutes=16)
    assert 8 <= len(post.taken) <= 10
    assert sum(int(re.search(r": (\d+) dokument", title)[1]) for title in post.titles) == 120  # type: ignore[index]


def test_a_document_mended_at_once_is_not_told(staff: Staff, post: Post) -> None:
    staff.refuse()
    with staff.database.transaction() as tx:
        (document,) = documents.listing(tx, states=[State.ERROR])
        documents.apply(tx, document, Event.RETRY, at=staff.clock(), actor="test")
    staff.live(minutes=5)
    assert post.taken == []


def test_a_document_refused_again_after_a_retry_is_told_again(staff: Staff, post: Post) -> None:
    staff.refuse()
    staff.live(minutes=20)
    with staff.database.transaction() as tx:
        (document,) = documents.listing(tx, states=[State.ERROR])
        waiting = documents.apply(tx, document, Event.RETRY, at=staff.clock(), actor="test")
        documents.apply(tx, waiting, Event.REFUSE, at=staff.clock(), actor="test", errors=[{"code": "440"}])
    staff.live(minutes=5)
    assert len(post.taken) == 2


def test_nothing_of_an_invoice_but_its_number_is_told(staff: Staff, post: Post) -> None:
    staff.refuse()
    staff.live(minutes=2)
    assert "tresc-faktury-wprost" not in post.taken[0].body


def test_a_file_without_a_readable_number_is_told_by_its_name(staff: Staff, post: Post) -> None:
    with staff.database.transaction() as tx:
        document = documents.insert_document(
            tx,
            new(invoice_number=None, business_key=None, errors=[{"code": "A01"}]),
            at=staff.clock(),
            actor="test",
        )
        from tests.queue.builders import arrival

        arrival(tx, document, "kasa 3@sklep.xml")
    staff.live(minutes=2)
    assert "plik kasa 3 (at) sklep.xml: kontrola wstępna A01" in post.taken[0].body


# What was before


def test_what_was_refused_and_received_before_anybody_was_to_be_told_is_history(
    sqlite_database: Database, clock: Clock, post: Post
) -> None:
    quiet = Staff(sqlite_database, clock)
    quiet.refuse(50)
    receive(quiet, "sklepy/7", 3)
    clock.forward(30)
    quiet.look()
    people = Staff(sqlite_database, clock, post.url)
    people.live(minutes=30)
    assert post.taken == []
    people.refuse(invoice_number="FV/NOWA")
    people.live(minutes=2)
    assert len(post.taken) == 1
    assert "1 dokument w błędzie" in post.taken[0].title


def test_switched_off_and_on_again_tells_nothing_of_the_time_between(
    staff: Staff, post: Post, sqlite_database: Database
) -> None:
    silent = Staff(sqlite_database, staff.clock)
    silent.look()
    assert fact(sqlite_database, "notify_memory") is None
    silent.refuse(5)
    staff.clock.forward(600)
    staff.started()
    staff.live(minutes=30)
    assert post.taken == []


def test_an_event_added_later_begins_with_what_comes_then(staff: Staff, post: Post) -> None:
    staff.events = tuple(event for event in EVENTS if event != "document_error")
    staff.started()
    staff.live(minutes=1)
    staff.refuse(3)
    staff.live(minutes=20)
    staff.events = EVENTS
    staff.started()
    staff.live(minutes=20)
    assert post.taken == []
    staff.refuse()
    staff.live(minutes=2)
    assert len(post.taken) == 1


def test_only_the_chosen_events_are_told(sqlite_database: Database, clock: Clock, post: Post) -> None:
    people = Staff(sqlite_database, clock, post.url, events=("disk",))
    people.look()
    people.refuse()
    receive(people, "sklepy/7")
    people.offline(clock() + timedelta(hours=1))
    ksef_fails(people)
    people.live(minutes=30)
    assert post.taken == []
    people.free = 10**6
    people.live(minutes=1)
    assert len(post.taken) == 1


# Restarts and crashes


def happen(staff: Staff) -> None:
    """Something of every kind."""
    staff.refuse(3)
    receive(staff, "sklepy/7", 2)
    staff.offline(staff.clock() + timedelta(hours=3))
    staff.free = 5 * 10**8
    ksef_fails(staff)


def test_a_restart_repeats_nothing(staff: Staff, post: Post) -> None:
    happen(staff)
    for _ in range(40):
        ksef_fails(staff)
        staff.live(minutes=0.5)
        staff.started()
    titles = " ".join(post.titles) + " ".join(message.body for message in post.taken)
    for once in ("w błędzie", "nowe faktury", "termin za mniej niż 4 h", "mało miejsca", "nie może pracować"):
        assert titles.count(once) == 1, once


def test_a_crash_before_the_commit_that_writes_a_notice_loses_none(
    staff: Staff, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    staff.refuse()
    staff.clock.forward(120)
    commit = Database._commit

    def dies(self: Database, unit: Any) -> None:
        raise StorageFault("dysk pełny")

    monkeypatch.setattr(Database, "_commit", dies)
    with pytest.raises(StorageFault):
        staff.duty.step(staff.clock())
    monkeypatch.setattr(Database, "_commit", commit)
    staff.live(minutes=1)
    assert len(post.taken) == 1
    staff.refuse()
    staff.clock.forward(1200)
    monkeypatch.setattr(Database, "_commit", dies)
    with pytest.raises(StorageFault):
        staff.duty.step(staff.clock())
    monkeypatch.setattr(Database, "_commit", commit)
    staff.started()
    staff.live(minutes=1)
    assert len(post.taken) == 2


def test_nothing_is_sent_inside_a_transaction(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    from ksefbuffer.queue.db import inside_transaction

    seen: list[bool] = []
    real: Callable[..., str] = module.sending.send

    def watched(*arguments: Any) -> str:
        seen.append(inside_transaction())
        return real(*arguments)

    monkeypatch.setattr(module.sending, "send", watched)
    staff.refuse()
    staff.live(minutes=2)
    assert seen == [False]


# Addresses


def test_a_dead_address_holds_up_no_other_and_is_tried_until_it_takes(
    sqlite_database: Database, clock: Clock, post: Post
) -> None:
    with opened() as other:
        other.answer = 503
        people = Staff(sqlite_database, clock, other.url, post.url)
        people.look()
        people.refuse()
        people.live(minutes=3)
        assert len(post.taken) == 1
        assert other.taken == []
        assert 1 <= other.tries <= 3
        people.live(hours=2)
        assert other.tries < 20
        other.answer = 200
        people.live(minutes=16)
        assert (len(post.taken), len(other.taken)) == (1, 1)


def test_what_gathered_for_a_dead_address_comes_as_one_message_the_gravest_first(staff: Staff, post: Post) -> None:
    post.answer = 500
    staff.refuse()
    staff.live(minutes=2)
    staff.free = 10**6
    staff.live(minutes=2)
    post.answer = 200
    staff.live(minutes=20)
    (told,) = post.taken
    assert told.title == "ksefbuffer 5265877635: 2 powiadomienia"
    assert told.weight == "failure"
    assert told.body.index("mało miejsca") < told.body.index("w błędzie")


def test_an_address_that_never_answers_is_given_up_and_the_others_go_on(staff: Staff, post: Post) -> None:
    post.answer = 500
    staff.refuse()
    staff.live(hours=74, every_s=600)
    with staff.database.reading() as tx:
        assert notices.waiting(tx) == {}
    assert fact(staff.database, module.FACT)["places"][0]["ok"] is False, "nobody may think that it works"
    tried = post.tries
    staff.live(hours=5, every_s=600)
    assert post.tries == tried
    post.answer = 200
    staff.refuse()
    staff.live(minutes=3)
    assert len(post.taken) == 1


def test_how_the_addresses_stand_is_told_without_their_secrets(staff: Staff, post: Post) -> None:
    post.answer = 401
    staff.refuse()
    staff.live(minutes=2)
    assert fact(staff.database, module.FACT) == {
        "places": [{"place": "json://localhost", "ok": False, "message": "adres odmówił (HTTP 401)", "waiting": 1}]
    }
    post.answer = 200
    staff.live(minutes=20)
    assert fact(staff.database, module.FACT) == {
        "places": [{"place": "json://localhost", "ok": True, "message": "", "waiting": 0}]
    }


def test_an_address_taken_out_of_the_settings_is_sent_nothing_more(staff: Staff, post: Post) -> None:
    post.answer = 500
    staff.refuse()
    staff.live(minutes=3)
    with opened() as other:
        staff.urls = (other.url.replace("json", "form"),)
        staff.started()
        staff.look()
        with staff.database.reading() as tx:
            assert notices.waiting(tx) == {}
        post.answer = 200
        staff.live(minutes=30)
        assert (post.taken, other.taken) == ([], [])


def test_no_address_is_written_anywhere(
    sqlite_database: Database, clock: Clock, post: Post, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    urls = (post.url, f"json://u:{SECRET}@127.0.0.1:1/{SECRET}", f"nieznany://{SECRET}", f"tgram://{SECRET}/{SECRET}")
    with caplog.at_level(logging.DEBUG):
        people = Staff(sqlite_database, clock, *urls)
        people.look()
        people.refuse()
        people.live(minutes=5)
        post.answer = 403
        people.free = 1
        people.live(minutes=5)
    assert len(post.taken) == 1
    out, err = capfd.readouterr()
    assert "not delivered" in caplog.text
    for written in (caplog.text, out, err, repr(people.duty)):
        assert SECRET not in written
    with sqlite_database.engine.connect() as connection:
        assert SECRET not in "\n".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]


def test_without_addresses_nothing_is_done(sqlite_database: Database, clock: Clock) -> None:
    duty = Notify(sqlite_database, (), EVENTS, lambda: 0, clock)
    assert duty.step(clock()) is False
    assert duty.next_due is None
    assert fact(sqlite_database, "notify_memory") is None


# Outages


def ksef_fails(staff: Staff, scope: str = "ksef") -> None:
    now = staff.clock()
    with staff.database.transaction() as tx:
        pauses.pause(
            tx,
            scope,
            at=now,
            until=now + timedelta(minutes=1),
            code="Unreachable",
            message="przerwa w wysyłce: KSeF nie odpowiada",
            action="Sprawdź łącze.",
        )


def ksef_answers(staff: Staff) -> None:
    with staff.database.transaction() as tx:
        pauses.over(tx, "ksef", "incoming")


def failing(staff: Staff, *, minutes: int) -> None:
    for _ in range(minutes):
        ksef_fails(staff)
        staff.live(minutes=1)


def test_an_outage_is_told_when_it_has_lasted_ten_minutes_and_when_it_is_over(staff: Staff, post: Post) -> None:
    failing(staff, minutes=9)
    assert post.taken == []
    failing(staff, minutes=50)
    (begun,) = post.taken
    assert begun.title == "ksefbuffer 5265877635: bufor nie może pracować z KSeF"
    assert "Przerwa w wysyłce: KSeF nie odpowiada. " in begun.body
    assert "Trwa od 20.11.2026 11:15" in begun.body
    ksef_answers(staff)
    staff.live(minutes=30)
    _, ended = post.taken
    assert ended.title == "ksefbuffer 5265877635: koniec: bufor nie może pracować z KSeF"
    assert ended.weight == "info"


def test_one_success_between_failures_is_no_end_and_no_beginning(staff: Staff, post: Post) -> None:
    failing(staff, minutes=15)
    for _ in range(20):
        ksef_answers(staff)
        staff.live(minutes=1)
        failing(staff, minutes=4)
    assert len(post.taken) == 1


def test_short_trouble_is_not_told(staff: Staff, post: Post) -> None:
    for _ in range(10):
        failing(staff, minutes=8)
        ksef_answers(staff)
        staff.live(minutes=3)
    assert post.taken == []


def test_a_pause_that_nobody_tries_any_more_neither_begins_nor_ends_an_outage(staff: Staff, post: Post) -> None:
    ksef_fails(staff)
    staff.live(hours=5)
    assert post.taken == []
    failing(staff, minutes=15)
    assert len(post.taken) == 1
    staff.live(hours=5)
    assert len(post.taken) == 1


def test_pulling_alone_that_fails_is_an_outage_too(staff: Staff, post: Post) -> None:
    for _ in range(12):
        ksef_fails(staff, "incoming")
        staff.live(minutes=1)
    assert len(post.taken) == 1


def test_an_announced_mode_is_told_at_once_and_once_and_so_is_what_follows_it(staff: Staff, post: Post) -> None:
    def mode(name: str | None) -> None:
        with staff.database.transaction() as tx:
            facts.put(tx, "mode", {"mode": name, "since": None, "why": f"Powód: {name}."}, at=staff.clock())

    mode(None)
    staff.live(minutes=5)
    mode("awaria")
    staff.live(minutes=30)
    mode("awaria całkowita")
    staff.live(minutes=30)
    mode(None)
    staff.live(minutes=30)
    assert [title.split(": ", 1)[1] for title in post.titles] == [
        "tryb „awaria”",
        "tryb „awaria całkowita”",
        "koniec: tryb „awaria całkowita”",
    ]
    for name in ("offline24", None) * 5:
        mode(name)
        staff.live(minutes=5)
    assert len(post.taken) == 3, "offline24 that comes and goes is told only when it lasts"


def test_answers_that_do_not_arrive_are_told(staff: Staff, post: Post) -> None:
    from ksefbuffer.queue import deliveries
    from tests.queue.builders import arrival, document_in

    with staff.database.transaction() as tx:
        arrival(tx, document_in(tx, State.QUEUED))
        due = deliveries.due(tx, staff.clock())
        assert due is not None
        deliveries.not_told(tx, due, error="brak prawa zapisu", again_at=staff.clock())
    staff.live(minutes=12)
    assert "odpowiedzi nie docierają do ERP" in post.taken[0].title


def test_a_table_that_is_away_is_told_only_while_it_is_switched_on(staff: Staff, post: Post) -> None:
    with staff.database.transaction() as tx:
        facts.put(tx, "table", {"ok": False, "message": "Baza ERP nie odpowiada."}, at=staff.clock())
    staff.live(minutes=15)
    assert post.taken == []
    staff.duty.table = True
    staff.live(minutes=15)
    assert len(post.taken) == 1


# Terms


def test_a_term_is_told_a_day_before_four_hours_before_and_when_it_is_missed(staff: Staff, post: Post) -> None:
    ends = staff.clock() + timedelta(hours=36)
    for _ in range(3):
        staff.offline(ends)
    staff.live(hours=60, every_s=300)
    assert [title.split(": ", 1)[1] for title in post.titles] == [
        "termin za mniej niż 24 h: 3 faktury offline bez numeru KSeF",
        "termin za mniej niż 4 h: 3 faktury offline bez numeru KSeF",
        "po terminie: 3 faktury offline bez numeru KSeF",
    ]
    assert post.taken[2].weight == "failure"


def test_each_step_of_a_term_comes_at_its_time(staff: Staff, post: Post) -> None:
    ends = staff.clock() + timedelta(hours=25)
    staff.offline(ends)
    for hours, told in ((0.9, 0), (0.2, 1), (19.8, 1), (0.2, 2), (3.8, 2), (0.2, 3)):
        staff.live(hours=hours, every_s=60)
        assert len(post.taken) == told, f"{ends - staff.clock()} before the end"


def test_terms_of_two_days_are_two_notices(staff: Staff, post: Post) -> None:
    staff.offline(staff.clock() + timedelta(hours=20))
    staff.offline(staff.clock() + timedelta(hours=2))
    staff.live(minutes=1)
    with staff.database.reading() as tx:
        assert notices.waiting(tx) == {}
    (told,) = post.taken
    assert "2 powiadomienia" in told.title
    assert "termin za mniej niż 4 h: 1 faktura" in told.body
    assert "termin za mniej niż 24 h: 1 faktura" in told.body


@pytest.mark.parametrize("state", [State.SENT, State.CANCELLED])
def test_what_is_sent_or_withdrawn_has_no_term(staff: Staff, post: Post, state: State) -> None:
    staff.offline(staff.clock() + timedelta(hours=1), state=state)
    staff.live(hours=2)
    assert post.taken == []


def test_a_refused_invoice_keeps_its_term_until_its_correction_takes_it_over(staff: Staff, post: Post) -> None:
    ends = staff.clock() + timedelta(hours=30)
    refused = staff.offline(ends, state=State.ERROR)
    staff.live(hours=8, every_s=300)
    assert any("termin za mniej niż 24 h" in title for title in post.titles)
    assert "korektę techniczną" in post.taken[-1].body
    told = len(post.taken)
    with staff.database.transaction() as tx:
        documents.insert_document(tx, new(corrects_sha256=refused.sha256), at=staff.clock(), actor="test")
    staff.live(hours=30, every_s=300)
    assert len(post.taken) == told


def test_terms_missed_long_before_anybody_was_to_be_told_are_history(
    sqlite_database: Database, clock: Clock, post: Post
) -> None:
    people = Staff(sqlite_database, clock, post.url)
    people.offline(clock() - timedelta(days=200))
    people.live(minutes=5)
    assert post.taken == []
    people.started()
    people.live(minutes=5)
    assert post.taken == []


# Received invoices


def receive(staff: Staff, folder: str, count: int = 1, *, verdict: str = "zasadna", **changes: Any) -> None:
    now = staff.clock()
    with staff.database.transaction() as tx:
        stored = incoming.store(tx, [made(**changes) for _ in range(count)], at=now, actor="test")
        judged = {row: judgement(folder) for row in stored.values()}
        judged = {row: type(one)(**{**vars(one), "verdict": verdict}) for row, one in judged.items()}
        incoming.judge(tx, judged, at=now, actor="test", row=False)


def test_received_invoices_are_told_by_folder_the_doubtful_ones_by_number(staff: Staff, post: Post) -> None:
    receive(staff, "sklepy/7", 4)
    receive(staff, "biuro", 2)
    receive(staff, "nieprzypisane", verdict="niezasadna", invoice_number="FS/9", seller_name="Obca\nFirma@x")
    staff.live(minutes=3)
    (told,) = post.taken
    assert told.title == "ksefbuffer 5265877635: 7 nowych faktur otrzymanych, 1 do sprawdzenia"
    assert "- sklepy/7: 4\n- biuro: 2\n- nieprzypisane: 1" in told.body
    assert "- FS/9, Obca Firma (at) x (NIP 1111111111) – niezasadna" in told.body
    assert "1234" not in told.body, "an amount is nobody's business here"


def test_a_digest_comes_every_quarter_at_most_and_misses_none(staff: Staff, post: Post) -> None:
    for _ in range(90):
        receive(staff, "sklepy/7")
        staff.clock.forward(60)
        staff.look()
    staff.live(minutes=20)
    assert 6 <= len(post.taken) <= 8
    assert sum(int(re.search(r": (\d+) now", title)[1]) for title in post.titles) == 90  # type: ignore[index]


# Certificates and the disk


def certificate(staff: Staff, ends_in: timedelta) -> int:
    from tests.queue.test_credentials import Paper, begun, credentials

    row = begun(staff.database)
    with staff.database.transaction() as tx:
        credentials.ask(tx, row.id, quota=12, at=staff.clock())
        credentials.asked(tx, row.id, "R", next_step_at=staff.clock())
        credentials.issue(tx, row.id, Paper(valid_to=staff.clock() + ends_in), at=staff.clock())
        credentials.activate(tx, row.id, at=staff.clock())
    return row.id


def test_a_certificate_is_told_at_each_step_to_its_end(staff: Staff, post: Post) -> None:
    certificate(staff, timedelta(days=35))
    staff.live(hours=24 * 40, every_s=1800)
    steps = [re.search(r"(za \d+ dni|jutro|wygasł)", title) for title in post.titles]
    assert [step and step[1] for step in steps] == ["za 30 dni", "za 14 dni", "za 7 dni", "za 3 dni", "jutro", "wygasł"]
    assert [message.weight for message in post.taken] == ["info"] * 2 + ["warning"] * 3 + ["failure"]


def test_a_certificate_found_late_is_told_once_at_the_step_it_has_reached(staff: Staff, post: Post) -> None:
    certificate(staff, timedelta(days=5))
    staff.live(minutes=10)
    assert len(post.taken) == 1
    assert "wygasa za 5 dni" in post.taken[0].title


def test_a_revoked_certificate_is_told_unless_another_serves(staff: Staff, post: Post) -> None:
    from ksefbuffer.queue import credentials

    row = certificate(staff, timedelta(days=700))
    staff.live(minutes=1)
    with staff.database.transaction() as tx:
        credentials.revoke(tx, row, "KSeF odwołał", at=staff.clock())
    staff.live(minutes=5)
    assert [title.split(": ", 1)[1] for title in post.titles] == ["certyfikat do logowania w KSeF: odwołany"]


def test_little_space_is_told_in_two_steps_and_again_only_after_it_was_enough(staff: Staff, post: Post) -> None:
    space = [5 * 10**9, 9 * 10**8, 10**9, 9 * 10**8, 1.1 * 10**9, 8 * 10**8, 10**8, 3 * 10**8, 10**8]
    for free in space:
        staff.free = int(free)
        staff.live(minutes=2)
    assert [message.weight for message in post.taken] == ["warning", "failure"]
    staff.free = 2 * 10**9
    staff.live(minutes=2)
    staff.free = 9 * 10**8
    staff.live(minutes=2)
    assert [message.weight for message in post.taken] == ["warning", "failure", "warning"]
    staff.free = None
    staff.live(minutes=2)
    assert len(post.taken) == 3


# Keeping up


def test_marks_move_on_without_a_write_at_every_look(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    commit = Database._commit

    def counted(self: Database, unit: Any) -> None:
        writes.append(1)
        commit(self, unit)

    monkeypatch.setattr(Database, "_commit", counted)
    staff.live(minutes=30)
    assert writes == [], "an idle buffer writes nothing"
    staff.free = 10**8
    staff.offline(staff.clock() - timedelta(minutes=1))
    staff.live(minutes=2)
    assert writes
    writes.clear()
    staff.live(minutes=10)
    assert writes == [], "nor does one with troubles that were told"


def test_the_clock_put_back_stops_nothing(staff: Staff, post: Post) -> None:
    staff.refuse()
    staff.live(minutes=3)
    staff.clock.forward(-7200)
    staff.refuse()
    staff.live(minutes=5)
    assert len(post.taken) == 2


def test_old_notices_are_forgotten_and_terms_and_certificates_never(staff: Staff) -> None:
    staff.refuse()
    staff.offline(staff.clock() + timedelta(hours=1))
    staff.live(minutes=3)
    for one, other in pairwise(range(0, 100, 10)):
        staff.clock.forward((other - one) * 86400)
        staff.free = 10**8 if one % 20 else 50 * 10**9
        staff.look()
    staff.clock.forward(40 * 86400)
    staff.free = 10**8
    staff.look()
    with staff.database.reading() as tx:
        kept = tx.exec_driver_sql("SELECT DISTINCT event FROM notices").scalars()
        assert set(kept) == {"deadline", "disk"}
    assert json.dumps(fact(staff.database, "notify_memory"))
