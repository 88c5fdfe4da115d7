"""``incoming`` and ``rules`` at the command line."""

from __future__ import annotations

import json
import re
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.stock import Rules, Stock
from tests.commanding import Run
from tests.receiver import generator
from tests.receiver.generator import Made
from tests.receiver.test_stock import of
from tests.samples import NIP

NOW = datetime.now(UTC)


@pytest.fixture
def made(run: Run, tmp_path: Path) -> list[Made]:
    """A buffer with thirty received invoices, filed by the standard rules."""
    run("init")
    some = list(generator.many(30, seed=4))
    database = Database(f"sqlite:///{tmp_path / 'data' / 'ksefbuffer.db'}")
    Stock(database, Rules(NIP, "sandbox"), date(2026, 2, 1)).take([of(one) for one in some], at=NOW, actor="test")
    database.close()
    (tmp_path / "reguły.toml").write_text(generator.rulebook_toml(), encoding="utf-8")
    return some


def test_received_invoices_are_listed_searched_and_shown(run: Run, made: list[Made]) -> None:
    listed = json.loads(run("incoming", "list", "--json").out)
    assert [one["ksef_number"] for one in listed] == [one.ksef_number for one in reversed(made)]
    wanted = made[7]
    words = f"{wanted.number} {wanted.seller_nip} {wanted.gross:.2f}"
    (found,) = json.loads(run("incoming", "list", "--search", words, "--json").out)
    assert (found["ksef_number"], found["gross"]) == (wanted.ksef_number, f"{wanted.gross:.2f}")
    assert wanted.ksef_number in run("incoming", "list", "--search", wanted.number).out
    shown = json.loads(run("incoming", "show", wanted.ksef_number, "--json").out)
    assert shown["folder"] == "nieprzypisane"
    assert [event["event"] for event in shown["events"]] == ["stored", "filed"]
    assert "nieprzypisane" in run("incoming", "show", wanted.ksef_number).out
    assert run("incoming", "show", wanted.ksef_number, "--xml").out.encode() == wanted.content
    assert run("incoming", "list", "--until", "2001-01-01").out.strip() == "Nie ma takich faktur."


def test_an_unknown_number_is_told(run: Run, made: list[Made]) -> None:
    said = run("incoming", "show", "1111111111-20260101-000000000000-00")
    assert said.code == 1
    assert "Nie ma faktury" in said.err


def test_a_decision_is_kept_with_its_comment(run: Run, made: list[Made]) -> None:
    number = made[3].ksef_number
    assert run("incoming", "decide", number, "scam", "--comment", "nie zamawialiśmy").code == 0
    shown = json.loads(run("incoming", "show", number, "--json").out)
    assert (shown["decision"], shown["comment"]) == ("scam", "nie zamawialiśmy")
    assert shown["decided_by"].startswith("cli:")
    (only,) = json.loads(run("incoming", "list", "--decision", "scam", "--json").out)
    assert only["ksef_number"] == number
    assert len(json.loads(run("incoming", "list", "--decision", "none", "--json").out)) == 29


def test_rules_are_tried_brought_in_and_applied(run: Run, made: list[Made], tmp_path: Path) -> None:
    (tmp_path / "faktura.xml").write_bytes(made[0].content)
    (tried,) = json.loads(run("rules", "test", "faktura.xml", "--rules", "reguły.toml", "--json").out)
    assert tried["folder"] == made[0].folder
    assert tried["roles"] == ["buyer"]
    (before,) = json.loads(run("rules", "test", "faktura.xml", "--json").out)
    assert before["folder"] == "nieprzypisane"
    assert run("rules", "import", "reguły.toml").code == 0
    dry = json.loads(run("rules", "apply", "--dry-run", "--json").out)
    assert {one["folder"] for one in json.loads(run("incoming", "list", "--json").out)} == {"nieprzypisane"}
    done = json.loads(run("rules", "apply", "--json").out)
    assert done["changes"] == dry["changes"]
    folders = {one["ksef_number"]: one["folder"] for one in json.loads(run("incoming", "list", "--json").out)}
    assert folders == {one.ksef_number: one.folder for one in made}
    assert "zmian: 0" in run("rules", "apply").out


def test_a_test_says_which_condition_failed_and_what_was_seen(
    run: Run,
    made: list[Made],
    tmp_path: Path,
) -> None:
    (tmp_path / "faktura.xml").write_bytes(made[0].content)
    said = run("rules", "test", "faktura.xml", "--rules", "reguły.toml").out
    assert re.search(r"reguła „koszty media” nie pasuje: .*seller_nip|NIP sprzedawcy", said)
    assert "ocena:" in said


def test_rules_go_out_as_they_came_in_and_older_ones_are_kept(
    run: Run,
    made: list[Made],
    tmp_path: Path,
) -> None:
    assert "sprzedaż" in run("rules", "export").out
    run("rules", "import", "reguły.toml")
    text = (tmp_path / "reguły.toml").read_text(encoding="utf-8")
    assert run("rules", "export").out == text
    (tmp_path / "sklepy.csv").write_text(generator.stores_csv(), encoding="cp1250")
    said = run("rules", "stores", "sklepy.csv")
    assert "wersji 2" in said.out
    assert "Sklepów: 200" in said.out
    assert run("rules", "export", "wyjście.toml", "--version", "1").code == 0
    assert (tmp_path / "wyjście.toml").read_text(encoding="utf-8") == text
    assert run("rules", "export", "--version", "9").code == 2


def test_faults_in_rules_are_all_told_and_nothing_changes(run: Run, made: list[Made], tmp_path: Path) -> None:
    (tmp_path / "złe.toml").write_text(
        '[[rule]]\nname = "a"\ntarget = "../x"\n[[rule]]\nname = "b"\ntagi = ["x"]\ntarget = "y"\n', encoding="utf-8"
    )
    said = run("rules", "import", "złe.toml")
    assert said.code == 2
    assert "„..” nie nadaje się" in said.err
    assert "tagi" in said.err
    assert "sprzedaż" in run("rules", "export").out
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe\x00")
    assert run("rules", "import", "bin.toml").code == 2
    assert run("rules", "import", "nie ma.toml").code == 2


def test_a_bundle_holds_what_was_selected(run: Run, made: list[Made], tmp_path: Path) -> None:
    said = run("incoming", "export", "paczka.zip", "--search", made[0].seller_nip)
    assert said.code == 0, said.err
    mine = {one.content for one in made if one.seller_nip == made[0].seller_nip}
    with zipfile.ZipFile(tmp_path / "paczka.zip") as bundle:
        assert {bundle.read(name) for name in bundle.namelist() if name.endswith(".xml")} == mine
        assert made[0].ksef_number in bundle.read("spis.csv").decode("utf-8-sig")


def test_every_file_can_be_asked_for_again(run: Run, made: list[Made]) -> None:
    assert "30 plików" in run("incoming", "rebuild").out
