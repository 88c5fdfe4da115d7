"""Dokumenty over HTTP: what people see, do and take along, and that two shops' staff are kept apart."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable

import httpx
import pytest

from ksefbuffer.queue import incoming, people, remarks
from ksefbuffer.queue.incoming import Incoming, Judgement
from ksefbuffer.web import packing
from ksefbuffer.web.pages import documents
from ksefbuffer.web.site import Site
from tests.samples import a_nip, invoice
from tests.web.received import an_invoice_received

Sign = Callable[..., str]
SHOP_1 = [("incoming", "sklepy/1", True)]
SHOP_2 = [("incoming", "sklepy/2", True)]
WATCHER = [("incoming", "sklepy/1", False)]
NOWHERE = "9999999999-20260101-0123456789AB-CD"


def again(site: Site, one: Incoming) -> Incoming:
    with site.database.reading() as tx:
        return incoming.get(tx, one.id)


def audited(site: Site) -> list[tuple[str, str, str]]:
    with site.database.reading() as tx:
        return [(line.actor, line.action, line.object) for line in people.noted(tx)]


def unzipped(response: httpx.Response) -> dict[str, bytes]:
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def rows_of(archive: dict[str, bytes]) -> list[dict[str, str]]:
    text = archive["spis.csv"].decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text), delimiter=";"))


@pytest.fixture
def shops(site: Site) -> dict[str, Incoming]:
    """An invoice in each of these folders; the number tells which."""
    folders = ("sklepy/1", "sklepy/1/2026-11", "sklepy/10", "sklepy/2", "SKLEPY/1", "nieprzypisane")
    return {folder: an_invoice_received(site, folder, number=f"FV/{at}/W") for at, folder in enumerate(folders)}


# Rights


GETS = ("", "/pdf", "/xml", "/tresc", "/zalacznik/{file}")
POSTS: dict[str, dict[str, str]] = {
    "/decyzja": {"decyzja": "accepted"},
    "/uwaga": {"tresc": "moja uwaga"},
    "/etykieta": {"etykieta": "moja"},
    "/ksiegowanie": {"okres": "2026-11"},
    "/zalacznik": {},
    "/zalacznik/{file}/usun": {},
}


def test_every_route_of_an_invoice_is_in_the_table_of_rights() -> None:
    routes = {(method, route.path) for route in documents.router.routes for method in route.methods}  # type: ignore[attr-defined]
    of_one = {(method, path.replace("{attachment_id}", "{file}")) for method, path in routes if "{number}" in path}
    assert of_one == {
        *(("GET", f"/dokumenty/{{number}}{tail}") for tail in GETS),
        *(("POST", f"/dokumenty/{{number}}{tail}") for tail in POSTS),
    }


def told(response: httpx.Response, number: str) -> str:
    """What a page says, but for the address and the token that are in every page."""
    text = re.sub(r'name="csrf" value="[^"]*"', "", response.text)
    return text.replace(number, "NUMER")


@pytest.mark.parametrize("folder", ["sklepy/2", "sklepy/10", "SKLEPY/1", "nieprzypisane"])
def test_another_shops_invoice_answers_exactly_like_one_that_is_not_there(
    site: Site, client: httpx.Client, signed_in: Sign, shops: dict[str, Incoming], folder: str
) -> None:
    one = shops[folder]
    with site.database.transaction() as tx:
        file = remarks.attach(tx, one.id, "umowa.pdf", "application/pdf", b"%PDF", at=site.clock(), actor="x")
    csrf = signed_in(client, "ola", grants=SHOP_1)
    for tail in GETS:
        url = tail.format(file=file)
        theirs = client.get(f"/dokumenty/{one.ksef_number}{url}")
        nothing = client.get(f"/dokumenty/{NOWHERE}{url}")
        assert theirs.status_code == nothing.status_code == 404
        assert told(theirs, one.ksef_number) == told(nothing, NOWHERE)
        assert one.invoice_number not in theirs.text
    for tail, fields in POSTS.items():
        url, data = tail.format(file=file), {"csrf": csrf, **fields}
        files = {"plik": ("a.txt", b"a")} if tail == "/zalacznik" else None
        theirs = client.post(f"/dokumenty/{one.ksef_number}{url}", data=data, files=files)
        nothing = client.post(f"/dokumenty/{NOWHERE}{url}", data=data, files=files)
        assert theirs.status_code == nothing.status_code == 404, tail
        assert told(theirs, one.ksef_number) == told(nothing, NOWHERE)
    assert again(site, one) == one
    with site.database.reading() as tx:
        assert len(remarks.attached(tx, one.id)) == 1
        assert remarks.comments(tx, one.id) == []
        assert remarks.tags(tx, [one.id]) == {}
        assert remarks.booked(tx, [one.id]) == {}


def test_lists_searches_counts_and_downloads_hold_ones_own_shop_alone(
    client: httpx.Client, signed_in: Sign, shops: dict[str, Incoming]
) -> None:
    csrf = signed_in(client, "ola", grants=SHOP_1)
    own = {shops["sklepy/1"].invoice_number, shops["sklepy/1/2026-11"].invoice_number}
    foreign = {one.invoice_number for one in shops.values()} - own
    everything = ",".join(str(one.id) for one in shops.values()).split(",")
    for url in (
        "/dokumenty",
        "/dokumenty?q=zolw",
        "/dokumenty?katalog=sklepy",
        "/dokumenty?nowe=1",
        "/dokumenty?katalog=sklepy/1&decyzja=none",
    ):
        page = client.get(url).text
        assert all(number in page for number in own), url
        assert not any(number in page for number in foreign), url
        assert "faktur: 2" in page, url
    for url in ("/dokumenty?katalog=sklepy/2", "/dokumenty?katalog=nieprzypisane", "/dokumenty?q=FV/3/W"):
        page = client.get(url).text
        assert "faktur: 0" in page, url
        assert not any(f"{number}</a>" in page for number in (*own, *foreign)), url
    tree = re.findall(r'katalog=([^"&]+)"', client.get("/dokumenty?katalog=sklepy/1").text)
    assert list(dict.fromkeys(tree)) == ["sklepy", "sklepy%2F1", "sklepy%2F1%2F2026-11"]
    for data in ({"wszystkie": "1"}, {"wszystkie": "1", "filtr": "katalog=sklepy%2F2&q="}, {"wybrane": everything}):
        response = client.post("/dokumenty/pobierz", data={"csrf": csrf, **data})
        if data.get("filtr"):
            assert response.status_code == 303
            continue
        assert {row["Numer faktury"] for row in rows_of(unzipped(response))} == own
    assert client.get(f"/dokumenty/nowe?po={shops['sklepy/1/2026-11'].id}").text.strip() == ""
    beside = client.get(f"/dokumenty/{shops['sklepy/1/2026-11'].ksef_number}").text
    assert shops["sklepy/1"].ksef_number in beside
    assert not any(one.ksef_number in beside for folder, one in shops.items() if not folder.startswith("sklepy/1"))


def test_marking_many_touches_ones_own_alone(
    site: Site, client: httpx.Client, signed_in: Sign, shops: dict[str, Incoming]
) -> None:
    csrf = signed_in(client, "ola", grants=[*SHOP_1, ("incoming", "sklepy/2", False)])
    ids = {folder: one.id for folder, one in shops.items()}
    chosen = {"csrf": csrf, "okres": "2026-11", "wybrane": [str(row_id) for row_id in ids.values()]}
    assert client.post("/dokumenty/zaksieguj", data=chosen).status_code == 303
    with site.database.reading() as tx:
        assert set(remarks.booked(tx, list(ids.values()))) == {ids["sklepy/1"], ids["sklepy/1/2026-11"]}
    assert client.post("/dokumenty/przeczytane", data={"csrf": csrf, "filtr": ""}).status_code == 303
    with site.database.reading() as tx:
        user = people.find_user(tx, "ola")
        assert user is not None
        unread = remarks.unread_among(tx, user.id, list(ids.values()))
    assert unread == {ids["sklepy/10"], ids["SKLEPY/1"], ids["nieprzypisane"]}


def test_who_may_only_see_handles_nothing(
    site: Site, client: httpx.Client, signed_in: Sign, shops: dict[str, Incoming]
) -> None:
    one = shops["sklepy/1"]
    with site.database.transaction() as tx:
        file = remarks.attach(tx, one.id, "a.txt", "", b"tresc", at=site.clock(), actor="x")
    csrf = signed_in(client, "jan", grants=WATCHER)
    page = client.get(f"/dokumenty/{one.ksef_number}")
    assert page.status_code == 200
    assert f'action="/dokumenty/{one.ksef_number}' not in page.text
    assert client.get(f"/dokumenty/{one.ksef_number}/zalacznik/{file}").content == b"tresc"
    for tail, fields in POSTS.items():
        files = {"plik": ("a.txt", b"a")} if tail == "/zalacznik" else None
        url = f"/dokumenty/{one.ksef_number}{tail.format(file=file)}"
        assert client.post(url, data={"csrf": csrf, **fields}, files=files).status_code == 404, tail
    assert client.post("/dokumenty/zaksieguj", data={"csrf": csrf, "okres": "2026-11"}).status_code == 404
    assert again(site, one) == one


def test_staff_without_any_folder_have_no_such_section(
    client: httpx.Client, signed_in: Sign, shops: dict[str, Incoming]
) -> None:
    csrf = signed_in(client, "sprzedawca", grants=[("outgoing", "", True)])
    for url in ("/dokumenty", "/dokumenty/nowe", f"/dokumenty/{shops['sklepy/1'].ksef_number}"):
        assert client.get(url).status_code == 404
    for url in ("/dokumenty/pobierz", "/dokumenty/przeczytane", "/dokumenty/zaksieguj"):
        assert client.post(url, data={"csrf": csrf, "wszystkie": "1"}).status_code == 404


def test_a_right_taken_away_ends_a_download_under_way(
    site: Site, shops: dict[str, Incoming], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_AT_ONCE", 1)
    rights = [("sklepy/1",), ()]
    keys = [shops["sklepy/1/2026-11"].id, shops["sklepy/1"].id]
    parts = b"".join(packing.packed(site.database, lambda: rights.pop(0), keys))
    with zipfile.ZipFile(io.BytesIO(parts)) as archive:
        assert len(archive.namelist()) == 2  # one invoice and the list


def test_nobody_comes_in_without_signing_in_and_nothing_is_posted_without_the_token(
    site: Site, client: httpx.Client, signed_in: Sign, shops: dict[str, Incoming]
) -> None:
    one = shops["sklepy/1"]
    for url in ("/dokumenty", f"/dokumenty/{one.ksef_number}", f"/dokumenty/{one.ksef_number}/xml"):
        response = client.get(url)
        assert (response.status_code, response.headers["location"].partition("?")[0]) == (303, "/logowanie")
    signed_in(client, "anna", admin=True)
    for tail, fields in POSTS.items():
        assert client.post(f"/dokumenty/{one.ksef_number}{tail.format(file=1)}", data=fields).status_code == 403
    for tail in ("pobierz", "przeczytane", "zaksieguj"):
        assert client.post(f"/dokumenty/{tail}", data={"wszystkie": "1"}).status_code == 403
    assert again(site, one) == one


# One invoice


def test_an_invoice_can_be_read_with_all_that_is_known_of_it(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    fired = [
        {"code": "Z16", "severity": "W", "message": "Nowy rachunek sprzedawcy.", "field": "Fa/Platnosc", "values": {}}
    ]
    why = [
        {
            "rule": "sklepy",
            "condition": "GLN równe: 590",
            "field": "gln",
            "value": "5901234123457",
            "where": "Podmiot3/GLN",
        }
    ]
    one = an_invoice_received(site, "sklepy/7", verdict="do wyjaśnienia", fired=fired, reasons=why, tags=["pilne"])
    signed_in(client, "anna", admin=True)
    page = client.get(f"/dokumenty/{one.ksef_number}").text
    for text in (
        *("FV/1/2026", one.ksef_number, "Hurtownia Żółw", "Sprzedawca", "Nabywca", "Pozycje", "Podsumowanie"),
        *("do wyjaśnienia", "Nowy rachunek sprzedawcy.", "Z16", "5901234123457", "Podmiot3/GLN", "GLN równe: 590"),
        *("sklepy/7", "pilne", "pobrano z KSeF", "odłożono do katalogu", "nabywca"),
    ):
        assert text in page, text
    assert f'href="{site.config.ksef.qr_url}/invoice/{one.seller_nip}/' in page


@pytest.mark.parametrize(
    ("content", "readable"),
    [
        (b"to nie jest XML", False),
        (b"", False),
        (b"<Faktura/>", False),
        (b"<Faktura><Fa><P_2>X/1</P_2><nieznane>cos", True),
        (b"\xff\xfe\x00<", False),
        (invoice("FV/1", lines=700), True),
    ],
)
def test_whatever_came_has_a_page(
    site: Site, client: httpx.Client, signed_in: Sign, content: bytes, readable: bool
) -> None:
    one = an_invoice_received(site, content=content)
    signed_in(client, "anna", admin=True)
    page = client.get(f"/dokumenty/{one.ksef_number}")
    assert page.status_code == 200
    assert ("nie da się odczytać" in page.text) is not readable
    assert client.get(f"/dokumenty/{one.ksef_number}/tresc").status_code == 200
    assert client.get(f"/dokumenty/{one.ksef_number}/xml").content == content


def test_a_long_invoice_says_how_many_rows_are_left_out(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one = an_invoice_received(site, content=invoice("FV/1", lines=700))
    signed_in(client, "anna", admin=True)
    assert "jeszcze 200 pozycji" in client.get(f"/dokumenty/{one.ksef_number}").text


def test_the_files_are_the_stored_bytes_and_a_real_page(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one = an_invoice_received(site, number='FV/1/ŻÓŁĆ; a="b"')
    signed_in(client, "anna", admin=True)
    with site.database.reading() as tx:
        content = incoming.content(tx, one.id)
    xml = client.get(f"/dokumenty/{one.ksef_number}/xml")
    assert xml.content == content
    assert xml.headers["content-disposition"].startswith("attachment; ")
    assert "filename*=UTF-8''FV_1_%C5%BB%C3%93%C5%81%C4%86" in xml.headers["content-disposition"]
    pdf = client.get(f"/dokumenty/{one.ksef_number}/pdf")
    assert pdf.content.startswith(b"%PDF-")
    assert pdf.headers["content-type"] == "application/pdf"
    for response in (xml, pdf):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "no-store" in response.headers["cache-control"]


def test_an_invoice_that_cannot_be_printed_says_so(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one = an_invoice_received(site, content=b"nic")
    signed_in(client, "anna", admin=True)
    response = client.get(f"/dokumenty/{one.ksef_number}/pdf")
    assert response.status_code == 409
    assert "Nie da się wydrukować" in response.text


@pytest.mark.parametrize("decision", ["accepted", "rejected", "scam"])
def test_a_decision_is_kept_with_its_reason_and_its_author(
    site: Site, client: httpx.Client, signed_in: Sign, decision: str
) -> None:
    one = an_invoice_received(site, "sklepy/1")
    csrf = signed_in(client, "ola", grants=SHOP_1)
    data = {"csrf": csrf, "decyzja": decision, "uwaga": "sprawdzone z kierownikiem", "widziano": ""}
    assert client.post(f"/dokumenty/{one.ksef_number}/decyzja", data=data).status_code == 303
    decided = again(site, one)
    assert (decided.decision, decided.comment, decided.decided_by) == (
        decision,
        "sprawdzone z kierownikiem",
        "user:ola",
    )
    assert ("user:ola", "incoming-decide", one.ksef_number) in audited(site)
    page = client.get(f"/dokumenty/{one.ksef_number}").text
    assert "sprawdzone z kierownikiem" in page
    assert documents.DECISIONS[decision] in page


def test_a_refusal_wants_a_reason(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one = an_invoice_received(site)
    csrf = signed_in(client, "anna", admin=True)
    for decision in ("rejected", "scam", "cokolwiek", ""):
        data = {"csrf": csrf, "decyzja": decision, "uwaga": " ", "widziano": ""}
        response = client.post(f"/dokumenty/{one.ksef_number}/decyzja", data=data, follow_redirects=True)
        assert "Podaj powód" in response.text or "Wybierz decyzję" in response.text
    assert again(site, one).decision is None


def test_of_two_who_decide_at_once_the_second_is_told_of_the_first(
    site: Site, client: httpx.Client, signed_in: Sign
) -> None:
    one = an_invoice_received(site)
    csrf = signed_in(client, "anna", admin=True)
    first = {"csrf": csrf, "decyzja": "accepted", "widziano": ""}
    second = {"csrf": csrf, "decyzja": "rejected", "uwaga": "nie nasza", "widziano": ""}
    client.post(f"/dokumenty/{one.ksef_number}/decyzja", data=first)
    page = client.post(f"/dokumenty/{one.ksef_number}/decyzja", data=second, follow_redirects=True).text
    assert "W międzyczasie ktoś już zdecydował (anna: przyjęta)" in page
    seen = re.search(r'name="widziano" value="([^"]+)"', page)
    assert seen is not None
    client.post(f"/dokumenty/{one.ksef_number}/decyzja", data={**second, "widziano": seen[1]})
    assert again(site, one).decision == "rejected"


def test_remarks_tags_and_marks_are_told_in_the_story_and_the_journal(
    site: Site, client: httpx.Client, signed_in: Sign
) -> None:
    one = an_invoice_received(site)
    csrf = signed_in(client, "anna", admin=True)
    url = f"/dokumenty/{one.ksef_number}"
    client.post(f"{url}/uwaga", data={"csrf": csrf, "tresc": "proszę o korektę"})
    client.post(f"{url}/etykieta", data={"csrf": csrf, "etykieta": "media"})
    client.post(f"{url}/ksiegowanie", data={"csrf": csrf, "okres": "2026-12"})
    page = client.get(url).text
    assert all(text in page for text in ("proszę o korektę", "media", "księgowanie 2026-12"))
    assert one.invoice_number in client.get("/dokumenty?etykieta=media&ksiegowanie=tak").text
    client.post(f"{url}/etykieta", data={"csrf": csrf, "usun": "media"})
    client.post(f"{url}/ksiegowanie", data={"csrf": csrf, "usun": "1"})
    assert "księgowanie 2026-12" not in client.get(url).text
    actions = [action for _, action, on in audited(site) if on == one.ksef_number]
    assert actions == ["incoming-unbook", "incoming-untag", "incoming-book", "incoming-tag", "incoming-comment"]


def test_the_story_names_no_folder_that_is_not_theirs(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one = an_invoice_received(site, "sklepy/2 (tajny)")
    lay_in = ("sklepy/20", "sklepy/1/2026-11", "SKLEPY/1", "sklepy", "sklepy/1")
    with site.database.transaction() as tx:
        for folder in lay_in:
            judged = {one.id: Judgement(folder, [], [], "", 1, "do wyjaśnienia", [])}
            incoming.judge(tx, judged, at=site.clock(), actor="rules", row=False)
        incoming.judge(tx, judged, at=site.clock(), actor="rules", note="przyszła faktura korygowana", row=False)

    def told() -> list[str]:
        page = client.get(f"/dokumenty/{one.ksef_number}").text
        return re.findall(r'<div class="said">(.*?)</div>', page)

    signed_in(client, "ola", grants=SHOP_1)
    assert told() == [
        "inny katalog (zasadna)",
        "inny katalog (do wyjaśnienia)",
        "sklepy/1/2026-11 (do wyjaśnienia)",
        *["inny katalog (do wyjaśnienia)"] * 2,
        "sklepy/1 (do wyjaśnienia)",
        "przyszła faktura korygowana",
    ]
    signed_in(client, "anna", admin=True)
    assert told()[:2] == ["sklepy/2 (tajny) (zasadna)", "sklepy/20 (do wyjaśnienia)"]


@pytest.mark.parametrize(
    ("tail", "data", "words"),
    [
        ("uwaga", {"tresc": "  "}, "od 1 do 4000"),
        ("uwaga", {"tresc": "x" * 4001}, "od 1 do 4000"),
        ("etykieta", {"etykieta": "x" * 61}, "od 1 do 60"),
        ("etykieta", {}, "od 1 do 60"),
        ("ksiegowanie", {"okres": "2026-13"}, "RRRR-MM"),
        ("ksiegowanie", {"okres": "grudzień"}, "RRRR-MM"),
        ("zalacznik", {}, "Wybierz plik"),
    ],
)
def test_what_cannot_be_kept_is_said_and_nothing_is_changed(
    site: Site, client: httpx.Client, signed_in: Sign, tail: str, data: dict[str, str], words: str
) -> None:
    one = an_invoice_received(site)
    csrf = signed_in(client, "anna", admin=True)
    page = client.post(f"/dokumenty/{one.ksef_number}/{tail}", data={"csrf": csrf, **data}, follow_redirects=True)
    assert words in page.text
    assert [line for line in audited(site) if line[1].startswith("incoming-")] == []


# Attachments


def attach(client: httpx.Client, one: Incoming, csrf: str, name: str, content: bytes, kind: str) -> httpx.Response:
    files = {"plik": (name, content, kind)}
    return client.post(f"/dokumenty/{one.ksef_number}/zalacznik", data={"csrf": csrf}, files=files)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("umowa.pdf", "application/pdf"),
        ("strona.html", "text/html"),
        ("obraz.svg", "image/svg+xml"),
        ("../../../etc/passwd", "text/plain"),
        ('"><script>alert(1)</script>.html', "text/html"),
        ("zażółć gęślą.txt", "text/plain; charset=utf-8"),
    ],
)
def test_what_people_attach_is_saved_never_shown(
    site: Site, client: httpx.Client, signed_in: Sign, name: str, kind: str
) -> None:
    one = an_invoice_received(site)
    csrf = signed_in(client, "anna", admin=True)
    content = b"<script>alert(1)</script>"
    assert attach(client, one, csrf, name, content, kind).status_code == 303
    page = client.get(f"/dokumenty/{one.ksef_number}").text
    assert "<script>alert" not in page
    (link,) = re.findall(r'href="(/dokumenty/[^"]+/zalacznik/\d+)"', page)
    response = client.get(link)
    assert response.content == content
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment; ")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert ".." not in response.headers["content-disposition"]
    assert "/" not in response.headers["content-disposition"].partition("filename*")[0]


def test_an_attachment_too_large_is_refused_whole(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one = an_invoice_received(site)
    csrf = signed_in(client, "anna", admin=True)
    large = b"x" * (remarks.MAX_ATTACHMENT_BYTES + 1)
    files = [("plik", ("maly.txt", b"a")), ("plik", ("duzy.bin", large))]
    response = client.post(f"/dokumenty/{one.ksef_number}/zalacznik", data={"csrf": csrf}, files=files)
    assert response.status_code == 413
    with site.database.reading() as tx:
        assert remarks.attached(tx, one.id) == []
    assert attach(client, one, csrf, "w sam raz.bin", large[:-1], "").status_code == 303


def test_a_removed_attachment_is_gone(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one, other = an_invoice_received(site), an_invoice_received(site, number="FV/2")
    csrf = signed_in(client, "anna", admin=True)
    attach(client, one, csrf, "a.txt", b"a", "text/plain")
    with site.database.reading() as tx:
        (kept,) = remarks.attached(tx, one.id)
    url = f"/dokumenty/{{}}/zalacznik/{kept.id}"
    assert client.get(url.format(other.ksef_number)).status_code == 404
    assert client.post(url.format(other.ksef_number) + "/usun", data={"csrf": csrf}).status_code == 404
    assert client.post(url.format(one.ksef_number) + "/usun", data={"csrf": csrf}).status_code == 303
    assert client.get(url.format(one.ksef_number)).status_code == 404


# What sellers write


EVIL = "<script>alert(1)</script>"


def test_what_a_seller_writes_is_text_everywhere(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    number = "FV/<b>1</b>"
    content = invoice(number, nip=a_nip(5), seller_name=EVIL, footer=f"{EVIL} \" onmouseover='x'")
    why = [{"rule": EVIL, "condition": EVIL, "field": "", "value": EVIL, "where": EVIL}]
    fired = [{"code": "Z06", "severity": "N", "message": EVIL, "field": EVIL, "values": {}}]
    one = an_invoice_received(
        site,
        "koszty/<script>alert(1)<script>",
        content=content,
        seller_name=EVIL,
        reasons=why,
        fired=fired,
        tags=[EVIL],
        damage=[EVIL],
    )
    csrf = signed_in(client, "anna", admin=True)
    url = f"/dokumenty/{one.ksef_number}"
    client.post(f"{url}/uwaga", data={"csrf": csrf, "tresc": EVIL})
    client.post(f"{url}/etykieta", data={"csrf": csrf, "etykieta": EVIL})
    client.post(f"{url}/decyzja", data={"csrf": csrf, "decyzja": "scam", "uwaga": EVIL, "widziano": ""})
    for address in ("/dokumenty", "/dokumenty?q=%3Cscript%3Ealert(1)&katalog=%3Cscript%3E", url, f"{url}/tresc"):
        page = client.get(address).text
        assert "<script>alert" not in page, address
        assert "onmouseover='x'" not in page, address
        assert "<b>1</b>" not in page, address
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get(url).text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", " =", "＝"])
def test_no_cell_of_the_list_is_a_formula(site: Site, client: httpx.Client, signed_in: Sign, start: str) -> None:
    one = an_invoice_received(site, seller_name=f"{start}HYPERLINK(0)", invoice_number=f"{start}1+1")
    csrf = signed_in(client, "anna", admin=True)
    client.post(
        f"/dokumenty/{one.ksef_number}/decyzja",
        data={"csrf": csrf, "decyzja": "accepted", "uwaga": "=cmd|' /C calc'!A0", "widziano": ""},
    )
    archive = unzipped(client.post("/dokumenty/pobierz", data={"csrf": csrf, "wybrane": str(one.id)}))
    (row,) = rows_of(archive)
    assert all(row[name].startswith("'") for name in ("Sprzedawca", "Numer faktury", "Komentarz")), row
    assert not any(cell.lstrip().startswith(("=", "+", "@")) for cell in row.values())


# Lists


def test_a_selection_is_a_zip_with_every_byte_as_it_came(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    made = [an_invoice_received(site, f"sklepy/{n}", number=f"FV/{n}/2026") for n in range(45)]
    csrf = signed_in(client, "anna", admin=True)
    archive = unzipped(client.post("/dokumenty/pobierz", data={"csrf": csrf, "wszystkie": "1", "filtr": "q=FV"}))
    rows = rows_of(archive)
    assert len(rows) == len(archive) - 1 == 45
    with site.database.reading() as tx:
        for one in made:
            (row,) = (row for row in rows if row["Numer KSeF"] == one.ksef_number)
            assert archive[row["Plik"]] == incoming.content(tx, one.id)
            assert row["Plik"].startswith(one.folder + "/")
    assert ("user:anna", "incoming-fetch", "") in audited(site)


def test_more_than_a_browser_should_take_is_not_packed(
    site: Site, client: httpx.Client, signed_in: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MOST", 2)
    for n in range(3):
        an_invoice_received(site, number=f"FV/{n}")
    csrf = signed_in(client, "anna", admin=True)
    response = client.post("/dokumenty/pobierz", data={"csrf": csrf, "wszystkie": "1"})
    assert response.status_code == 409
    assert "incoming export" in response.text


def test_the_list_goes_on_page_by_page_and_back_to_where_one_was(
    site: Site, client: httpx.Client, signed_in: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PAGE", 4)
    made = [an_invoice_received(site, "a" if n % 2 else "b", number=f"FV/{n}/2026") for n in range(18)]
    signed_in(client, "anna", admin=True)
    seen: list[str] = []
    url = "/dokumenty?katalog=a"
    while url:
        page = client.get(url).text
        seen += re.findall(r'<td class="main"><a href="/dokumenty/([^?"]+)\?katalog=a"', page)
        following = re.search(r'<a href="([^"]+)" rel="next">', page)
        url = following[1].replace("&amp;", "&") if following else ""
    assert seen == [one.ksef_number for one in reversed(made) if one.folder == "a"]
    page = client.get(f"/dokumenty/{seen[4]}?katalog=a").text
    assert re.findall(r'href="/dokumenty/([^?"]+)\?katalog=a" rel="(?:prev|next)"', page) == [seen[3], seen[5]]


@pytest.mark.parametrize("query", ["od=wczoraj", "do=2026-13-01", "ocena=jakaś", "decyzja=x", "od=31.02.2026"])
def test_a_filter_that_makes_no_sense_is_told(client: httpx.Client, signed_in: Sign, query: str) -> None:
    signed_in(client, "anna", admin=True)
    response = client.get(f"/dokumenty?{query}")
    assert response.status_code == 200
    assert 'class="notice warning"' in response.text


@pytest.mark.parametrize(
    "query",
    [
        "przed=x",
        "przed=99999999999999999999",
        "przed=-1",
        "q=%22%27%25",
        "q=" + "x" * 3000,
        "nic=1",
        "nowe=0",
    ],
)
def test_no_address_breaks_the_list(site: Site, client: httpx.Client, signed_in: Sign, query: str) -> None:
    an_invoice_received(site)
    signed_in(client, "anna", admin=True)
    assert client.get(f"/dokumenty?{query}").status_code == 200
    assert client.get(f"/dokumenty/nowe?{query}&po=99999999999999999999").status_code == 200


@pytest.mark.parametrize("number", ["%2e%2e", "..%2f..%2fetc", "'%20OR%201=1", "x" * 3000, "%00", "nowe2"])
def test_no_number_breaks_a_page(client: httpx.Client, signed_in: Sign, number: str) -> None:
    signed_in(client, "anna", admin=True)
    for tail in ("", "/xml", "/pdf", "/tresc", "/zalacznik/99999999999999999999", "/zalacznik/x"):
        assert client.get(f"/dokumenty/{number}{tail}").status_code == 404


def test_what_was_opened_is_read_and_what_came_since_is_told(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    one = an_invoice_received(site, "sklepy/1")
    csrf = signed_in(client, "ola", grants=SHOP_1)
    assert 'class="unread"' in client.get("/dokumenty").text
    client.get(f"/dokumenty/{one.ksef_number}")
    assert '<tr class="unread"' not in client.get("/dokumenty").text
    assert client.get(f"/dokumenty/nowe?po={one.id}").text.strip() == ""
    an_invoice_received(site, "sklepy/2")
    assert client.get(f"/dokumenty/nowe?po={one.id}").text.strip() == ""
    an_invoice_received(site, "sklepy/1", number="FV/NOWA")
    assert "Nowych faktur: 1." in client.get(f"/dokumenty/nowe?po={one.id}").text
    client.post("/dokumenty/przeczytane", data={"csrf": csrf})
    assert '<tr class="unread"' not in client.get("/dokumenty").text
    signed_in(client, "ewa", grants=SHOP_1)
    assert client.get("/dokumenty").text.count('<tr class="unread"') == 2


def test_an_administrator_marks_a_whole_archive_as_read_at_once(
    site: Site, client: httpx.Client, signed_in: Sign
) -> None:
    for n in range(3):
        an_invoice_received(site, f"a/{n}", number=f"FV/{n}")
    csrf = signed_in(client, "anna", admin=True)
    client.post("/dokumenty/przeczytane", data={"csrf": csrf})
    assert '<tr class="unread"' not in client.get("/dokumenty").text
