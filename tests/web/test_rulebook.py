"""Katalogi i reguły over HTTP: a draft is changed step by step, tried on real invoices, and saved as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import httpx
import pytest

from ksefbuffer.queue import folders, incoming, people, pulls, rulebooks
from ksefbuffer.receiver import stock
from ksefbuffer.receiver.refiling import Refiling
from ksefbuffer.receiver.rulebook import read_rulebook
from ksefbuffer.receiver.rules import file
from ksefbuffer.receiver.shapes import Catalogue, Rule, Rulebook
from ksefbuffer.receiver.stock import Rules, Stock
from ksefbuffer.web import filing, ruledesk, trying
from ksefbuffer.web.pages import rulebook
from ksefbuffer.web.site import Site
from tests.receiver import generator
from tests.receiver.test_stock import of
from tests.samples import NIP
from tests.web.received import an_invoice_received

Sign = Callable[..., str]
RULES = """# nasze reguły
[[catalogue]]
path = "koszty"

[[catalogue]]
path = "koszty/media"

[[catalogue]]
path = "sklepy"

[[rule]]
name = "prąd"
when = [{ field = "seller_name", contains = "Energia" }]
target = "koszty/media"
tags = ["prąd"]

[[rule]]
name = "sklepy"
when = [{ field = "store", present = true }]
target = "sklepy/{store.number}"

[[rule]]
name = "pozostałe"
target = "nieprzypisane"
"""


def bring_in(site: Site, text: str = RULES) -> int:
    return stock.bring_in(
        site.database, text, nip=NIP, environment="sandbox", at=site.clock(), actor="cli:root", note="z pliku"
    )


def in_force(site: Site) -> tuple[int, Rulebook]:
    with site.database.reading() as tx:
        kept = pulls.rulebook(tx)
    return (kept.version, read_rulebook(kept.content)) if kept is not None else (0, stock.STANDARD)


class Admin:
    """Somebody at the forms, who sends what the page holds."""

    def __init__(self, client: httpx.Client, csrf: str) -> None:
        self.client, self.csrf = client, csrf

    def get(self, url: str) -> str:
        response = self.client.get(url)
        assert response.status_code == 200, response.text
        return response.text

    def stamp(self) -> str:
        found = re.search(r'name="stan" value="([0-9a-f]{16})"', self.get("/reguly/tekst"))
        assert found is not None
        return found[1]

    def post(self, url: str, **fields: object) -> httpx.Response:
        return self.client.post(url, data={"csrf": self.csrf, "stan": self.stamp(), **fields}, follow_redirects=True)

    def save(self, note: str = "") -> httpx.Response:
        return self.post("/reguly/zapisz", uwaga=note)

    def names(self) -> list[str]:
        return re.findall(r'<a href="/reguly/regula/\d+"><strong>([^<]*)</strong>', self.get("/reguly"))

    def keep(
        self,
        which: object,
        name: str,
        *conditions: tuple[str, str, str],
        target: str = "",
        wanted: str = "zapisz",
        **fields: object,
    ) -> httpx.Response:
        rows = [(*field.partition("[")[::2], operator, values) for field, operator, values in conditions]
        data: dict[str, object] = {
            "nazwa": name,
            "pole": [row[0] for row in rows],
            "klucz": [row[1].removesuffix("]") for row in rows],
            "operator": [row[2] for row in rows],
            "wartosci": [row[3] for row in rows],
            "cel": target,
            "dalej": "stop",
            "czynna": "1",
            "co": wanted,
            **fields,
        }
        return self.post(f"/reguly/regula/{which}", **data)


@pytest.fixture
def admin(client: httpx.Client, signed_in: Sign) -> Admin:
    return Admin(client, signed_in(client, "anna", admin=True))


@pytest.fixture
def filled(site: Site) -> Site:
    """Sixty invoices, judged and filed by the rules of the generator."""
    bring_in(site, generator.rulebook_toml())
    kept = Stock(site.database, Rules(NIP, "sandbox"), date(2026, 1, 1))
    kept.take([of(made) for made in generator.many(60)], at=site.clock(), actor="pull")
    return site


# Who may


def test_nobody_but_an_administrator_finds_any_of_it(site: Site, client: httpx.Client, signed_in: Sign) -> None:
    bring_in(site)
    csrf = signed_in(client, "ola", grants=[("incoming", "", True), ("outgoing", "", True)])
    before = in_force(site)
    asked = 0
    for route in rulebook.router.routes:
        path = route.path.format(at=0, which=0, version=1)  # type: ignore[attr-defined]
        for method in route.methods:  # type: ignore[attr-defined]
            response = client.request(method, path, data={"csrf": csrf} if method == "POST" else None)
            assert response.status_code == 404, (method, path)
            asked += 1
    assert asked > 15
    assert in_force(site) == before


def test_nothing_is_changed_without_the_token(site: Site, admin: Admin) -> None:
    bring_in(site)
    for route in rulebook.router.routes:
        if "POST" in route.methods:  # type: ignore[attr-defined]
            path = route.path.format(at=0, which=0, version=1)  # type: ignore[attr-defined]
            assert admin.client.post(path, data={"stan": admin.stamp()}).status_code == 403, path


# The draft


def test_the_standard_rules_are_the_receivers_own(admin: Admin) -> None:
    assert filing.STANDARD == stock.STANDARD
    assert admin.names() == [rule.name for rule in stock.STANDARD.rules]


def test_a_changed_rule_is_in_force_only_once_the_draft_is_saved(site: Site, admin: Admin) -> None:
    bring_in(site)
    admin.keep(
        0, "prąd i gaz", ("seller_name", "contains", "Energia\nGaz"), target="koszty/media", etykiety="media\n pilne"
    )
    version, rules = in_force(site)
    assert (version, rules.rules[0].name) == (1, "prąd")
    assert "Pracujesz na szkicu" in admin.get("/reguly")
    assert admin.names() == ["prąd i gaz", "sklepy", "pozostałe"]
    response = admin.save("gaz też")
    assert "Reguły w wersji 2 obowiązują" in response.text
    assert "Pracujesz na szkicu" not in response.text
    version, rules = in_force(site)
    assert version == 2
    assert (rules.rules[0].name, rules.rules[0].conditions[0].values) == ("prąd i gaz", ("Energia", "Gaz"))
    assert rules.rules[0].tags == ("media", "pilne")
    with site.database.reading() as tx:
        kept = pulls.rulebook(tx)
        (line,) = [one for one in people.noted(tx) if one.action == "rules-save"]
    assert kept is not None
    assert (kept.actor, kept.note, line.object, line.actor) == ("user:anna", "gaz też", "2", "user:anna")


def test_a_draft_is_ones_own(site: Site, admin: Admin, signed_in: Sign) -> None:
    bring_in(site)
    admin.post("/reguly/regula/0/usun")
    with httpx.Client(base_url=admin.client.base_url) as other:
        ewa = Admin(other, signed_in(other, "ewa", admin=True))
        assert "Pracujesz na szkicu" not in ewa.get("/reguly")
        assert "prąd" in ewa.names()
    assert "prąd" not in admin.names()


@pytest.mark.parametrize(
    ("form", "field", "operator", "values"),
    [
        (("gross", "between", "100\n200"), "gross", "between", ("100", "200")),
        (("gross", "between", "\n200"), "gross", "between", ("", "200")),
        (("gross", "between", "100"), "gross", "between", ("100", "")),
        (("store", "present", ""), "store", "present", ("true",)),
        (("store", "present", " Nie "), "store", "present", ("false",)),
        (("extra[Nr dostawy]", "contains", "80"), "extra[Nr dostawy]", "contains", ("80",)),
        (("xpath[Fa/RodzajFaktury]", "equals", "KOR"), "xpath[Fa/RodzajFaktury]", "equals", ("KOR",)),
        (("seller_nip", "in", "1111111111\n\n 5265877635 \r\n"), "seller_nip", "in", ("1111111111", "5265877635")),
        (("order_number", "matches", r"^ZAM-\d+"), "order_number", "matches", (r"^ZAM-\d+",)),
    ],
)
def test_what_a_condition_says_in_the_form_it_says_in_the_rules(
    site: Site, admin: Admin, form: tuple[str, str, str], field: str, operator: str, values: tuple[str, ...]
) -> None:
    bring_in(site)
    assert "jest w szkicu" in admin.keep("nowa", "nowa", form, ("", "equals", ""), target="inne").text
    admin.save()
    (condition,) = in_force(site)[1].rules[2].conditions
    assert (condition.field, condition.operator, condition.values) == (field, operator, values)
    # And back: the form shows what it was given.
    shown = ruledesk.form_of(in_force(site)[1].rules[2])
    assert ruledesk.rule_of(shown) == in_force(site)[1].rules[2]


@pytest.mark.parametrize(
    ("name", "conditions", "target", "words"),
    [
        ("", [], "x", "brak „name”"),
        ("pozostałe", [], "x", "ta nazwa już wystąpiła"),
        ("x", [], "", "nic by nie robiła"),
        ("x", [("gross", "equals", "dużo")], "x", "nie jest liczbą"),
        ("x", [("gross", "contains", "")], "x", "brak wartości"),
        ("x", [("seller_name", "matches", "(")], "x", "matches"),
        ("x", [("nie_ma", "equals", "1")], "x", "nieznane pole"),
        ("x", [("extra[]", "equals", "1")], "x", "nieznane pole"),
        ("x", [], "../../etc", "nie nadaje się na nazwę katalogu"),
        ("x", [], "{nie.ma}", "nieznany znacznik"),
        ("x", [("role", "equals", "kupiec")], "x", "nie jest żadnym z"),
        ("x", [("store", "present", "true } ]\n[company]\nnips = [ ")], "x", "„present” przyjmuje true albo false"),
        ("x", [("store", "present", "może")], "x", "„present” przyjmuje true albo false"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_and_what_was_typed_stays(
    site: Site, admin: Admin, name: str, conditions: list[tuple[str, str, str]], target: str, words: str
) -> None:
    bring_in(site)
    before = admin.stamp()
    response = admin.keep("nowa", name, *conditions, target=target)
    assert response.status_code == 422
    assert words in response.text
    assert "(wiersz" not in response.text
    assert f'value="{target}"' in response.text
    for _, _, values in conditions:
        assert values.partition("\n")[0] in response.text
    assert admin.stamp() == before


def test_a_new_rule_stands_before_the_one_that_takes_whatever_is_left(site: Site, admin: Admin) -> None:
    bring_in(site)
    admin.keep("nowa", "nowa", ("currency", "equals", "EUR"), target="waluty")
    assert admin.names() == ["prąd", "sklepy", "nowa", "pozostałe"]


def test_rules_move_switch_off_and_go_by_buttons(site: Site, admin: Admin) -> None:
    bring_in(site)
    admin.post("/reguly/regula/1/przesun", gdzie="wyzej")
    assert admin.names() == ["sklepy", "prąd", "pozostałe"]
    admin.post("/reguly/regula/0/przesun", gdzie="wyzej")
    admin.post("/reguly/regula/2/przesun", gdzie="nizej")
    assert admin.names() == ["sklepy", "prąd", "pozostałe"]
    admin.post("/reguly/regula/0/przesun", gdzie="nizej")
    admin.post("/reguly/regula/0/przelacz")
    admin.post("/reguly/regula/1/usun")
    assert admin.names() == ["prąd", "pozostałe"]
    admin.save()
    rules = in_force(site)[1].rules
    assert [(rule.name, rule.enabled) for rule in rules] == [("prąd", False), ("pozostałe", True)]
    for url in ("/reguly/regula/9/usun", "/reguly/regula/9/przesun", "/reguly/regula/9/przelacz"):
        assert admin.post(url).status_code == 404


@pytest.mark.parametrize("which", ["9", "-1", "x", "99999999999999999999", "0x1", "²"])
def test_a_rule_that_is_not_there_has_no_form(site: Site, admin: Admin, which: str) -> None:
    bring_in(site)
    assert admin.client.get(f"/reguly/regula/{which}").status_code == 404


def test_a_form_from_before_another_change_changes_nothing(site: Site, admin: Admin) -> None:
    bring_in(site)
    old = admin.stamp()
    admin.post("/reguly/regula/0/usun")
    for url in ("/reguly/regula/0/usun", "/reguly/regula/0/przesun", "/reguly/regula/0/przelacz", "/reguly/zapisz"):
        response = admin.post(url, stan=old)
        assert "Szkic zmienił się tymczasem" in response.text, url
    assert "Szkic zmienił się tymczasem" in admin.keep(0, "inna", target="x", stan=old).text
    assert admin.post("/reguly/tekst", stan=old, tekst=RULES).status_code == 409
    assert admin.names() == ["sklepy", "pozostałe"]
    assert in_force(site)[0] == 1


def test_what_another_saved_meanwhile_is_not_replaced_unseen(site: Site, admin: Admin) -> None:
    bring_in(site)
    admin.post("/reguly/regula/0/usun")
    bring_in(site, RULES.replace('"prąd"', '"prąd i gaz"'))
    assert "W międzyczasie zapisano wersję 2" in admin.get("/reguly")
    assert "Obowiązuje już wersja 2" in admin.save().text
    assert in_force(site)[0] == 2
    # Nor is a third one by a yes that was meant for the second.
    bring_in(site, RULES.replace('"prąd"', '"prąd i woda"'))
    admin.post("/reguly/zapisz", mimo="2")
    assert in_force(site)[0] == 3
    admin.post("/reguly/zapisz", mimo="3")
    assert in_force(site)[0] == 4
    assert [rule.name for rule in in_force(site)[1].rules] == ["sklepy", "pozostałe"]


def test_changes_can_be_dropped_and_nothing_to_save_is_said(site: Site, admin: Admin) -> None:
    bring_in(site)
    assert "Nie ma zmian" in admin.save().text
    admin.post("/reguly/regula/0/usun")
    admin.post("/reguly/porzuc")
    assert admin.names() == ["prąd", "sklepy", "pozostałe"]
    assert in_force(site)[0] == 1


# Catalogues, stores, text


def test_a_renamed_catalogue_takes_along_what_files_into_it(site: Site, admin: Admin) -> None:
    bring_in(site, RULES + '\n[[store]]\nnumber = "7"\ncatalogue = "koszty/siódmy"\n')
    admin.post("/reguly/katalogi", bylo="koszty", sciezka="wydatki", opis="wszystkie wydatki")
    admin.save()
    rules = in_force(site)[1]
    assert [one.path for one in rules.catalogues] == ["wydatki", "wydatki/media", "sklepy"]
    assert rules.catalogues[0].description == "wszystkie wydatki"
    assert rules.rules[0].target == "wydatki/media"
    assert rules.rules[1].target == "sklepy/{store.number}"
    assert rules.stores.stores[0].catalogue == "wydatki/siódmy"


def test_catalogues_are_added_where_one_wants_them_and_removed_when_nothing_files_into_them(
    site: Site, admin: Admin
) -> None:
    bring_in(site)
    admin.post("/reguly/katalogi", w="koszty", sciezka="najem", prawa="0640")
    admin.post("/reguly/katalogi", sciezka="Zażółć gęślą")
    page = admin.post("/reguly/katalogi", bylo="koszty", co="usun").text
    assert "kierują: reguła „prąd”" in page
    admin.post("/reguly/katalogi", bylo="koszty/najem", co="usun")
    admin.save()
    assert [one.path for one in in_force(site)[1].catalogues] == ["koszty", "koszty/media", "sklepy", "Zażółć gęślą"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sciezka": ""}, "pusta"),
        ({"sciezka": "../x"}, "nie nadaje się"),
        ({"sciezka": "a:b"}, "nie nadaje się"),
        ({"sciezka": "koszty"}, "już jest"),
        ({"sciezka": "x", "bylo": "nie ma"}, "Nie ma już katalogu"),
        ({"sciezka": "x", "prawa": "0777"}, "nie jest prawem"),
    ],
)
def test_a_wrong_catalogue_is_told(site: Site, admin: Admin, fields: dict[str, str], words: str) -> None:
    bring_in(site)
    before = admin.stamp()
    assert words in admin.post("/reguly/katalogi", **fields).text
    assert admin.stamp() == before


def test_the_tree_says_how_many_invoices_lie_in_each(site: Site, admin: Admin) -> None:
    bring_in(site)
    for folder in ("koszty", "koszty/media", "koszty2", "sklepy/7"):
        an_invoice_received(site, folder, number=f"FV/{folder}")
    page = admin.get("/reguly/katalogi")
    counts = dict(re.findall(r'katalog=([^"]+)">faktur: (\d+)', page))
    assert counts == {"koszty": "2", "koszty/media": "1", "sklepy": "1"}


def test_the_register_of_stores_comes_from_a_spreadsheet(site: Site, admin: Admin) -> None:
    bring_in(site, RULES + '\n[[store]]\nnumber = "stary"\n')
    data = {"csrf": admin.csrf, "stan": admin.stamp()}
    files = {"plik": ("sklepy.csv", generator.stores_csv().encode("cp1250", "replace"))}
    page = admin.client.post("/reguly/sklepy", data=data, files=files, follow_redirects=True).text
    assert "nowych 200, usuniętych 1" in page
    admin.save()
    rules = in_force(site)[1]
    assert len(rules.stores.stores) == 200
    assert [rule.name for rule in rules.rules] == ["prąd", "sklepy", "pozostałe"]


def test_a_wrong_register_is_told_row_by_row_and_not_taken(site: Site, admin: Admin) -> None:
    bring_in(site)
    before = admin.stamp()
    files = {"plik": ("sklepy.csv", b"Numer;GLN\n7;123\n7;5901234123457\n")}
    data = {"csrf": admin.csrf, "stan": before}
    response = admin.client.post("/reguly/sklepy", data=data, files=files)
    assert response.status_code == 422
    assert "Wiersz 2: GLN „123” jest błędny" in response.text
    assert admin.stamp() == before


def test_the_text_keeps_its_comments_and_its_faults_are_told_with_lines(site: Site, admin: Admin) -> None:
    bring_in(site)
    wrong = RULES.replace("target", "taget", 1)
    response = admin.post("/reguly/tekst", tekst=wrong)
    assert response.status_code == 422
    assert "nieznany klucz „taget”; najbliższy znany: „target”" in response.text
    assert "(wiersz 11)" in response.text
    assert "taget = " in response.text
    better = RULES.replace("# nasze reguły", "# nasze reguły, wersja druga")
    admin.post("/reguly/tekst", tekst=better.replace("\n", "\r\n"))
    admin.save()
    with site.database.reading() as tx:
        kept = pulls.rulebook(tx)
    assert kept is not None
    assert kept.content == better


@pytest.mark.parametrize("text", ["", "[[rule]]\nname='x'\n", "to nie toml", "\x01", "[checks]\nZ99 = 'off'\n"])
def test_no_text_breaks_the_page(site: Site, admin: Admin, text: str) -> None:
    bring_in(site)
    assert admin.post("/reguly/tekst", tekst=text).status_code in (200, 422)
    assert in_force(site)[0] == 1


def test_names_in_rules_are_text_everywhere(site: Site, admin: Admin) -> None:
    evil = "<script>alert(1)</script>"
    text = f'[[catalogue]]\npath = "x"\ndescription = "{evil}"\n[[rule]]\nname = "{evil}"\ntags = ["{evil}"]\n'
    text += f'[[store]]\nnumber = "{evil}"\nname = "{evil}"\n'
    bring_in(site, text)
    bring_in(site, text + "\n# inna\n")
    an_invoice_received(site, seller_name=evil)
    admin.post("/reguly/katalogi", bylo="x", sciezka="y", opis=evil)
    for url in ("", "/regula/0", "/katalogi", "/sklepy", "/tekst", "/proba", "/wersje", "/wersje/1"):
        assert "<script>alert" not in admin.get(f"/reguly{url}"), url


# Versions


def test_an_older_version_can_be_seen_compared_and_restored(site: Site, admin: Admin) -> None:
    bring_in(site)
    bring_in(site, RULES.replace("Energia", "Prąd"))
    page = admin.get("/reguly/wersje/1")
    assert "<del>-when = [{ field = &#34;seller_name&#34;, contains = &#34;Energia&#34; }]</del>" in page
    assert "<ins>+when = [{ field = &#34;seller_name&#34;, contains = &#34;Prąd&#34; }]</ins>" in page
    admin.post("/reguly/wersje/1/przywroc")
    assert in_force(site)[0] == 2
    admin.save("jednak po staremu")
    version, rules = in_force(site)
    assert (version, rules) == (3, read_rulebook(RULES))
    listed = re.findall(r'<a href="/reguly/wersje/(\d)">', admin.get("/reguly/wersje"))
    assert listed == ["3", "2", "1"]


@pytest.mark.parametrize("version", ["3", "0", "-1", "99999999999999999999"])
def test_a_version_that_never_was_is_not_found(site: Site, admin: Admin, version: str) -> None:
    bring_in(site)
    assert admin.client.get(f"/reguly/wersje/{version}").status_code == 404
    assert admin.post(f"/reguly/wersje/{version}/przywroc").status_code == 404


# Trying


def changed_by(site: Site) -> dict[tuple[str, str], int]:
    """What the receiver itself would move, were these rules in force: the truth for the dry run."""
    kept = Stock(site.database, Rules(NIP, "sandbox"), date(2026, 1, 1))
    with site.database.reading() as tx:
        keys = incoming.keys_of(tx)
    found: dict[tuple[str, str], int] = {}
    for one in kept.refile(keys, at=site.clock(), actor="x", plan={}):
        if one.moves:
            move = (one.before[0], one.after[0])
            found[move] = found.get(move, 0) + 1
    return found


def test_the_dry_run_tells_what_the_receiver_would_do(filled: Site, admin: Admin) -> None:
    site = filled
    assert "katalog zmieniłoby 0, same etykiety 0" in admin.get("/reguly/proba")
    places = admin.names()
    admin.keep(places.index("koszty media"), "koszty media", ("kind", "equals", "koszt"), target="biuro/{seller.nip}")
    admin.keep(places.index("sklepy"), "sklepy", ("store", "present", ""), target="markety/{store.number}")
    page = admin.get("/reguly/proba")
    told = {
        (before, after): int(count)
        for before, after, count in re.findall(
            r'<tr><td>([^<]*)</td><td><strong>([^<]*)</strong></td><td class="num">(\d+)</td>', page
        )
    }
    assert changed_by(site) == {}
    admin.save()
    assert told == changed_by(site)
    assert len(told) > 10


def test_one_invoice_is_explained_rule_by_rule(filled: Site, admin: Admin) -> None:
    with filled.database.reading() as tx:
        one = next(one for one in folders.listing(tx, folders.Asked(None, folder="sklepy"), limit=99))
    page = admin.get(f"/reguly/proba?numer={one.ksef_number}")
    assert "zostałaby tam" in page
    assert re.search(r'<tr class="marked"><td>sklepy</td><td>pasuje, <strong>decyduje', page)
    assert "Nie ma faktury" in admin.get("/reguly/proba?numer=nie-ma")


def test_a_rule_is_tried_on_real_invoices_while_it_is_written(filled: Site, admin: Admin) -> None:
    with filled.database.reading() as tx:
        ones = folders.listing(tx, folders.Asked(None), limit=99)
    name = ones[0].seller_name
    same = [one for one in ones if one.seller_name == name]
    fields = {
        "nazwa": "nowa", "pole": "seller_name", "klucz": "", "operator": "equals", "wartosci": name,
        "cel": "wybrane", "dalej": "stop", "czynna": "1",
    }  # fmt: skip
    response = admin.post("/reguly/podglad/nowa", **fields)
    assert f"Pasuje {len(same)} z {len(ones)}" in response.text
    assert all(one.invoice_number in response.text for one in same)
    # What an earlier rule decides stays where it is; the others would move.
    assert "<html" not in response.text
    assert "nie jest liczbą" in admin.post("/reguly/podglad/nowa", **{**fields, "pole": "gross"}).text
    page = admin.keep("nowa", "nowa", ("seller_name", "equals", name), target="wybrane", wanted="podglad")
    assert f"Pasuje {len(same)} z {len(ones)}" in page.text
    assert admin.names() == [rule.name for rule in in_force(filled)[1].rules]


def test_more_than_one_run_looks_at_is_looked_at_in_turns(filled: Site) -> None:
    rules = in_force(filled)[1]
    rules = replace(rules, rules=(Rule("wszystko", target="jeden"),), catalogues=(Catalogue("jeden"),))
    seen = before = 0
    with filled.database.reading() as tx:
        while True:
            run = trying.dry_run(tx, rules, nip=NIP, most=25, before=before or None)
            seen += run.looked_at
            if run.next is None:
                break
            before = run.next
    assert seen == 60


def test_saved_rules_file_what_comes_next(filled: Site, admin: Admin) -> None:
    site = filled
    admin.keep("nowa", "wszystko inne", ("buyer_nip", "equals", NIP), target="nowe/{seller.nip}", wanted="zapisz")
    at = admin.names().index("wszystko inne")
    for _ in range(at):
        at = admin.names().index("wszystko inne")
        admin.post(f"/reguly/regula/{at}/przesun", gdzie="wyzej")
    assert admin.names()[0] == "wszystko inne"
    admin.save()
    kept = Stock(site.database, Rules(NIP, "sandbox"), date(2026, 1, 1))
    new = [made for made in generator.many(5, seed=9) if not made.corrects]
    kept.take([of(made) for made in new], at=site.clock(), actor="pull")
    with site.database.reading() as tx:
        for made in new:
            assert incoming.find(tx, made.ksef_number).folder == f"nowe/{made.seller_nip}"


# Filing everything anew


def test_everything_is_filed_anew_when_asked_for(filled: Site, admin: Admin) -> None:
    site = filled
    refiling = Refiling(site.database, Stock(site.database, Rules(NIP, "sandbox"), date(2026, 1, 1)), site.clock)
    assert not refiling.step()
    at = admin.names().index("sklepy")
    admin.keep(at, "sklepy", ("store", "present", ""), target="markety/{store.number}")
    admin.save()
    assert "czeka na pracujący bufor" in admin.post("/reguly/uloz").text
    steps = 0
    while refiling.step():
        steps += 1
    assert steps == 1
    with site.database.reading() as tx:
        state = rulebooks.refiling(tx)
        counted = folders.counts(tx, None)
    assert state is not None
    assert (state.looked_at, state.done_at is not None) == (60, True)
    assert state.changed > 10
    assert not any(folder.startswith("sklepy/") for folder in counted)
    assert f"przejrzano 60, zmieniono {state.changed}" in admin.get("/reguly")
    assert not refiling.step()


def test_filing_anew_goes_on_after_a_restart_and_begins_again_when_asked_again(
    filled: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksefbuffer.receiver.refiling._AT_ONCE", 25)
    site = filled

    def duty() -> Refiling:
        return Refiling(site.database, Stock(site.database, Rules(NIP, "sandbox"), date(2026, 1, 1)), site.clock)

    with site.database.transaction() as tx:
        rulebooks.want_refiling(tx, whole=60, at=site.clock(), actor="user:anna")
    assert duty().step()
    with site.database.reading() as tx:
        assert getattr(rulebooks.refiling(tx), "looked_at", None) == 25
    assert duty().step()
    site.clock.forward(1)  # type: ignore[attr-defined]
    with site.database.transaction() as tx:
        rulebooks.want_refiling(tx, whole=60, at=site.clock(), actor="user:anna")
    one = duty()
    while one.step():
        pass
    with site.database.reading() as tx:
        assert getattr(rulebooks.refiling(tx), "looked_at", None) == 60


def test_the_page_and_the_receiver_file_alike(filled: Site) -> None:
    rules = in_force(filled)[1]
    with filled.database.reading() as tx:
        for one in folders.listing(tx, folders.Asked(None), limit=99):
            read = trying.one_sample(tx, one, nip=NIP)
            assert filing.filed(read, rules).folder == one.folder
            assert sorted(file(read.received, read.facts, rules).tags) == sorted(one.tags)
