"""``ksefbuffer demo``: a local KSeF, a buffer and a handful of invoices, all in one folder and one process.

Everything goes the way an ERP's would: files renamed into the inbox, answers read from the outbox. Some suppliers'
invoices lie in that KSeF as well, to be pulled and filed by rules.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

import click

from ksefbuffer import config as settings
from ksefbuffer import worker
from ksefbuffer.errors import ConfigurationFault
from ksefbuffer.queue import people, pulls
from ksefbuffer.queue.db import Database
from ksefbuffer.receiver.stock import bring_in
from ksefbuffer.sandbox import Sandbox

NIP = "5265877635"

_MARK = '# Written anew by "ksefbuffer demo" at every start.'
_ADMIN = "demo"
_LATENCY_S = 0.5
_LOOK_EVERY_S = 0.2
_ONCE_WITHIN = timedelta(minutes=2)
_WARSAW = ZoneInfo("Europe/Warsaw")
_CENT = Decimal("0.01")


PageOf = Callable[[settings.Config, Path, Mapping[str, str]], AbstractContextManager[Any]]
"""Makes the page of a configuration (with its file and environment): at work within ``with``, after ``start()``."""


def run(
    folder: Path | None, *, port: int, once: bool, environ: Mapping[str, str], page_of: PageOf, browser: bool = False
) -> int:
    """Shows the buffer at work until Ctrl-C; with ``once`` until every example has its final answer.

    ``folder`` None makes a temporary one, which stays; ``port`` is the page's, 0 takes a free one; ``browser``: the
    page is opened. Returns the exit code: with ``once`` 1 when an example did not get the answer it should. Raises
    ConfigurationFault (a folder that cannot be written or is somebody else's, a port in use, another demo at work in
    the folder).
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        place = _made(folder)
        # The shell's KSEFBUFFER_ variables and credentials belong to real buffers, never to a demo.
        foreign = (settings.PREFIX, "CREDENTIALS_", "NOTIFY_")
        own = {name: value for name, value in environ.items() if not name.startswith(foreign)}
        with _logging_to(place / "demo.log"), _everything(place, port, own, stop, page_of) as parts:
            return _show(*parts, once=once, stop=stop, browser=browser)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _made(folder: Path | None) -> Path:
    try:
        if folder is None:
            return Path(tempfile.mkdtemp(prefix="ksefbuffer-demo-"))
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.toml"
        if config.exists() and not config.read_text(encoding="utf-8", errors="replace").startswith(_MARK):
            raise ConfigurationFault(
                f"W folderze {folder} jest już konfiguracja prawdziwego bufora. / {folder} belongs to a real buffer.",
                action="Wskaż inny folder: --dir. / Name another folder: --dir.",
            )
        # Whatever is wrong with the folder shows here, before anything starts.
        (folder / "demo.log").open("a").close()
    except OSError as error:
        raise ConfigurationFault(
            f"Folderu pokazu {folder} nie można użyć / cannot use the demo's folder: {error.strerror}.",
            action="Wskaż inny folder: --dir. / Name another folder: --dir.",
        ) from error
    return folder


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    """The buffer's and the sandbox's log go to a file: the terminal belongs to the story."""
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("ksefbuffer")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Libraries are heard only when something is wrong.
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logging.getLogger().removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        handler.close()


@contextmanager
def _everything(
    place: Path, port: int, environ: Mapping[str, str], stop: threading.Event, page_of: PageOf
) -> Iterator[tuple[Path, Sandbox, str, str, threading.Thread]]:
    """The sandbox, the buffer and the page at work. Gives the folder, the sandbox, its address, a link that lets the
    administrator in, and the worker's thread."""
    database = Database(f"sqlite:///{place / 'data' / 'ksefbuffer.db'}")
    port = _free(port)
    # Before the sandbox: a second demo in this folder must not touch the first one's KSeF.
    with database.sole_worker(wait=stop):
        sandbox = Sandbox(place / "data" / "sandbox.db", latency_s=_LATENCY_S, limits="test")
        with sandbox.serve() as server:
            file = place / "config.toml"
            file.write_text(_config(server.base_url, server.root, port), encoding="utf-8")
            config = settings.load(file, environ)
            buffer = worker.assemble(config, database=database, environ=environ)
            orders = None
            try:
                worker.prepare(buffer)
                _bring_in_rules(database)
                orders = worker.orders_of(buffer)
                work = worker.Worker(buffer)
                work.duties.append(worker.orders_duty(orders, buffer.clock))
                work.stop = stop
                thread = threading.Thread(target=work.run, name="worker")
                thread.start()
                try:
                    with page_of(config, file, environ) as page:
                        page.start()
                        link = f"http://127.0.0.1:{port}{_invitation(database)}"
                        yield place, sandbox, server.root, link, thread
                finally:
                    stop.set()
                    thread.join()
            finally:
                if orders is not None:
                    orders.close()
                buffer.close()
        sandbox.close()


def _free(port: int) -> int:
    """The port, or a free one for 0. Raises ConfigurationFault when it cannot be had."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConfigurationFault(
            f"Port {port} jest zajęty albo niedozwolony. / Port {port} is taken or not allowed: {error.strerror}.",
            action="Wybierz inny (--port) albo pomiń tę opcję. / Choose another (--port) or leave it out.",
        ) from error


def _invitation(database: Database) -> str:
    """The path that lets the demo's administrator in, once."""
    now = worker.utc_now()
    with database.transaction() as tx:
        user = people.find_user(tx, _ADMIN)
        if user is None:
            user = people.add_user(tx, _ADMIN, name="Administrator pokazu", admin=True, at=now)
        return f"/zaproszenie/{people.invite(tx, user.id, at=now)}"


def _config(base_url: str, root: str, port: int) -> str:
    return (
        f'{_MARK}\nnip = "{NIP}"\nenvironment = "sandbox"\ndata_dir = "data"\n\n'
        f'[ksef]\nbase_url = "{base_url}"\nqr_url = "{root}/qr"\n\n[sending]\nsession_idle_seconds = 20\n\n'
        f"[web]\nport = {port}\n\n"
        # All of a year's windows would be asked for, and this KSeF is new.
        f"[incoming]\nsince = {worker.utc_now().date() - timedelta(days=7)}\n"
    )


def _show(
    place: Path,
    sandbox: Sandbox,
    address: str,
    link: str,
    work: threading.Thread,
    *,
    once: bool,
    stop: threading.Event,
    browser: bool,
) -> int:
    board = Board(place / "outbox")
    today = worker.utc_now().astimezone(_WARSAW).date()
    # A folder used before keeps its invoices; the new ones get numbers and names of their own.
    run_mark = worker.utc_now().astimezone(_WARSAW).strftime("-%H%M%S") if board.told else ""
    examples = Examples(place / "inbox", today, run_mark)
    # Pulled at once only by a buffer that has never pulled: a later demo would wait for its next turn.
    suppliers = Suppliers(place / "incoming", [] if run_mark else sandbox.seed(_bought(today)))
    _introduce(place, address, link)
    if browser:
        webbrowser.open(link)
    deadline = worker.utc_now() + _ONCE_WITHIN
    while not stop.is_set() and work.is_alive():
        examples.drop_what_is_due(board.told)
        for line in (*board.news(), *suppliers.news()):
            click.echo(f"{worker.utc_now().astimezone(_WARSAW):%H:%M:%S}  {line}")
        answered = examples.answered(board.told)
        if once and ((answered is not None and not suppliers.missing) or worker.utc_now() > deadline):
            break
        stop.wait(_LOOK_EVERY_S)
    as_expected = examples.answered(board.told) and not suppliers.missing
    if not work.is_alive() and not stop.is_set():
        click.echo(f"Bufor przerwał pracę; powód jest w {place / 'demo.log'}. / The buffer stopped; see demo.log.")
        return 1
    click.echo(f"\nKoniec pokazu; pliki zostają w {place} / The demo is over; its files stay in {place}")
    return 0 if as_expected or not once else 1


def _introduce(place: Path, address: str, link: str) -> None:
    program = "ksefbuffer" if shutil.which("ksefbuffer") else sys.argv[0]
    command = f"{program} --config {place / 'config.toml'}"
    click.echo(
        f"""
ksefbuffer: pokaz / demo

  PL  Lokalny KSeF ({address}/v2) i bufor pracują. Przykładowe faktury trafiają do folderu
      {place / "inbox"}
      a odpowiedzi (NAZWA.ksef.json, NAZWA.upo.xml, NAZWA.qr1.png) do
      {place / "outbox"}
      Faktury od dostawców bufor pobiera z KSeF i układa według reguł w
      {place / "incoming"}
      Strona (link jednorazowy, 24 h; ustaw hasło, login: {_ADMIN}):
      {link}
      Wrzuć do pierwszego folderu własną fakturę FA(3): sprzedawca (Podmiot1) musi mieć NIP {NIP}.
      Stan w drugim oknie: {command} status
      Ctrl-C kończy pokaz; dziennik: demo.log.

  EN  A local KSeF ({address}/v2) and the buffer are at work. Example invoices go into the first
      folder above, answers come back in the second; suppliers' invoices are pulled from KSeF and filed by
      rules in the third. The link above opens the page, once: set a password, the login is {_ADMIN}.
      Drop an FA(3) of your own into the first: its seller (Podmiot1) must have NIP {NIP}.
      In another window: {command} --lang en status
      Ctrl-C ends the demo; the log is demo.log.
"""
    )


@dataclass
class Board:
    """What the outbox says, by answer name. ``told``: the object of CONTRACT §4 last seen for each."""

    outbox: Path
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        list(self.news())

    def news(self) -> Iterator[str]:
        """A line for every answer that is new or says something else than before."""
        for path in sorted(self.outbox.glob("*.ksef.json")):
            try:
                look = path.stat()
                if self._seen.get(path.name) == (look.st_ino, look.st_mtime_ns):
                    continue
                answer = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            self._seen[path.name] = (look.st_ino, look.st_mtime_ns)
            name = path.name.removesuffix(".ksef.json")
            before, self.told[name] = self.told.get(name), answer
            if before is None or any(before[key] != answer[key] for key in ("status", "upo_file", "errors")):
                yield _line(answer)


def _line(answer: Mapping[str, Any]) -> str:
    parts = [f"{answer['source']:<26} {answer['status_pl']} / {answer['status']}"]
    if answer["ksef_number"]:
        parts.append(f"{answer['invoice_number']} → {answer['ksef_number']}")
    if answer["upo_file"]:
        parts.append(f"UPO: {answer['upo_file']}")
    lines = ["  ".join(parts)]
    for error in answer["errors"]:
        lines.append(f"{'':10}{error['code']}: {error['message']}")
        if error["hint"]:
            lines.append(f"{'':12}→ {error['hint']}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Example:
    """One file of the show. ``after``: the example whose number must be known first; ``sent``: how it should end."""

    name: str
    content: bytes
    sent: bool


class Examples:
    """The invoices of the show: dropped when their time has come, and what became of them."""

    def __init__(self, inbox: Path, today: date, run_mark: str) -> None:
        self._inbox = inbox
        self._today = today
        self._mark = run_mark
        self._dropped: dict[str, Example] = {}
        self._first = self._name("1-kilka-stawek")
        self._whole: set[str] | None = None

    def drop_what_is_due(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """At first everything that needs nothing; the correction once the first invoice has its KSeF number."""
        if not self._dropped:
            for example in self._opening():
                self._drop(example)
        elif self._whole is None and (number := told.get(self._first, {}).get("ksef_number")):
            for example in self._follow_up(str(number)):
                self._drop(example)
            self._whole = set(self._dropped)

    def answered(self, told: Mapping[str, Mapping[str, Any]]) -> bool | None:
        """None while an example waits; then whether each ended as it should."""
        if self._whole is None:
            first = told.get(self._first)
            return False if first is not None and first["status"] == "error" else None
        ends = []
        for name in self._whole:
            answer = told.get(name)
            if answer is None or not (answer["upo_file"] or answer["status"] in ("error", "cancelled")):
                return None
            ends.append((answer["status"] == "sent") == self._dropped[name].sent)
        return all(ends)

    def _opening(self) -> Iterator[Example]:
        today, several = self._today, self._several_rates()
        yield Example(self._first, several, True)
        simple = _invoice(self._number(2), today, [_Row("Kanapka z żółtym serem", "szt.", 3, "12.50", "8")], kind="UPR")
        yield Example(self._name("2-uproszczona"), simple, True)
        euro = [_Row("Projekt wnętrza", "godz.", 16, "85.00", "23"), _Row("Dojazd", "km", 120, "0.55", "23")]
        yield Example(self._name("3-w-euro"), _invoice(self._number(3), today, euro, currency="EUR"), True)
        comma = several.replace(self._number(1).encode(), self._number(4).encode()).replace(b"<P_15>", b"<P_15>1 ")
        yield Example(self._name("4-bledna-kwota"), comma, False)
        tomorrow = today + timedelta(days=1)
        late = _invoice(self._number(5), tomorrow, [_Row("Prenumerata gazety", "szt.", 1, "24.99", "8")])
        yield Example(self._name("5-data-przyszla"), late, False)

    def _follow_up(self, ksef_number: str) -> Iterator[Example]:
        today = self._today
        yield Example(self._name("6-ten-sam-plik"), self._several_rates(), True)
        reused = _invoice(self._number(1), today, [_Row("Zupełnie inny towar", "szt.", 7, "10.00", "23")])
        yield Example(self._name("7-numer-zajety"), reused, False)
        rows = [
            _Row("Kawa ziarnista 1 kg", "szt.", 10, "54.90", "23", before=True),
            _Row("Kawa ziarnista 1 kg", "szt.", 8, "54.90", "23"),
        ]
        corrected = _Corrected(self._number(1), today, ksef_number)
        yield Example(
            self._name("8-korekta"), _invoice(self._number(8), today, rows, kind="KOR", corrected=corrected), True
        )

    def _several_rates(self) -> bytes:
        rows = [
            _Row("Kawa ziarnista 1 kg", "szt.", 10, "54.90", "23"),
            _Row("Chleb żytni na zakwasie", "szt.", 25, "6.20", "5"),
            _Row("Montaż stolarki okiennej", "m2", 12, "119.50", "8"),
        ]
        return _invoice(self._number(1), self._today, rows)

    def _number(self, number: int) -> str:
        return f"DEMO/{number}{self._mark}/{self._today:%m/%Y}"

    def _name(self, name: str) -> str:
        return f"{name}{self._mark}"

    def _drop(self, example: Example) -> None:
        """As an ERP should: under another name first, then renamed."""
        partial = self._inbox / f"{example.name}.xml.part"
        partial.write_bytes(example.content)
        partial.rename(self._inbox / f"{example.name}.xml")
        self._dropped[example.name] = example


@dataclass
class Suppliers:
    """The invoices that suppliers sent us: ``missing`` are the KSeF numbers of those not filed yet."""

    folder: Path
    numbers: Sequence[str]

    def __post_init__(self) -> None:
        self.missing = set(self.numbers)

    def news(self) -> Iterator[str]:
        for path in sorted(self.folder.rglob("*.xml")) if self.missing else ():
            number = path.stem.rsplit("_", 1)[-1]
            if number in self.missing:
                self.missing.remove(number)
                yield f"{'z KSeF / from KSeF':<26} {path.relative_to(self.folder.parent)}"


_SHOP_7 = "5901234123457"
_ENERGY = "8988943983"
_RULES = f"""\
[company]
names = ["Hurtownia Pod Dębem sp. z o.o."]
headquarters = ["ul. Fabryczna 12, 02-777 Warszawa"]

[[rule]]
name = "sprzedaż własna"
when = [{{ field = "role", equals = "seller" }}]
target = "sprzedaż"

[[rule]]
name = "media"
when = [{{ field = "seller_nip", equals = "{_ENERGY}" }}]
target = "koszty/media"
tags = ["koszt"]

[[rule]]
name = "sklepy"
when = [{{ field = "store", present = true }}]
target = "sklepy/{{store.number}}"

[[store]]
number = "7"
name = "Sklep 7 Gdynia"
gln = ["{_SHOP_7}"]
address = ["ul. Portowa 5, 81-350 Gdynia"]

[[store]]
number = "12"
name = "Sklep 12 Kraków"
address = ["ul. Polna 3, 30-001 Kraków"]
"""


def _bring_in_rules(database: Database) -> None:
    """Once: a demo that goes on in its folder keeps what was made of them there."""
    with database.reading() as tx:
        known = pulls.rulebook_version(tx)
    if not known:
        at = worker.utc_now()
        bring_in(database, _RULES, nip=NIP, environment="sandbox", at=at, actor="demo", note="demo")


def _bought(today: date) -> Iterator[bytes]:
    """Four purchases: for a shop by its GLN, for one by its address, a cost, and one that does not add up."""
    ours = _party("Podmiot2", NIP, "Hurtownia Pod Dębem sp. z o.o.", "ul. Fabryczna 12", "02-777 Warszawa")
    by_gln = _receiver("Sklep 7", "ul. Portowa 5", "81-350 Gdynia", f"<GLN>{_SHOP_7}</GLN>")
    by_address = _receiver("Magazyn odbiorcy", "Polna 3", "30-001 Kraków")
    dairy = ("8596371687", "Mleczarnia Łąka sp. z o.o.")
    for index, (nip, name, rows, third, wrong) in enumerate(
        (
            (*dairy, [_Row("Mleko 2 % 1 l", "szt.", 240, "2.89", "5")], by_gln, False),
            (
                "5534343322",
                "Palarnia Kawy Żar S.A.",
                [_Row("Kawa ziarnista 1 kg", "szt.", 30, "41.00", "23")],
                by_address,
                False,
            ),
            (_ENERGY, "Energia Miasta S.A.", [_Row("Energia elektryczna", "kWh", 1800, "0.62", "23")], "", False),
            (*dairy, [_Row("Masło 200 g", "szt.", 100, "6.10", "5")], "", True),
        ),
        1,
    ):
        invoice = _invoice(f"FS/{index}/{today:%m/%Y}", today, rows).decode()
        seller = _party("Podmiot1", nip, name, "ul. Rynek 1", "50-101 Wrocław")
        start, end = invoice.index("<Podmiot1>"), invoice.index("<Fa>")
        whole = invoice[:start] + seller + ours + third + invoice[end:]
        yield (whole.replace("<P_15>", "<P_15>1", 1) if wrong else whole).encode()


def _receiver(name: str, street: str, town: str, gln: str = "") -> str:
    return (
        f"<Podmiot3><DaneIdentyfikacyjne><BrakID>1</BrakID><Nazwa>{name}</Nazwa></DaneIdentyfikacyjne>"
        f"<Adres><KodKraju>PL</KodKraju><AdresL1>{street}</AdresL1><AdresL2>{town}</AdresL2>{gln}</Adres>"
        "<Rola>2</Rola></Podmiot3>"
    )


# The invoices: FA(3), small but whole.


@dataclass(frozen=True)
class _Row:
    name: str
    unit: str
    quantity: int
    net_price: str
    rate: str
    before: bool = False

    @property
    def net(self) -> Decimal:
        return Decimal(self.net_price) * self.quantity


@dataclass(frozen=True)
class _Corrected:
    number: str
    issued: date
    ksef_number: str


_EXCHANGE = Decimal("4.2512")
_TOTALS = {"23": ("P_13_1", "P_14_1"), "8": ("P_13_2", "P_14_2"), "5": ("P_13_3", "P_14_3")}


def _invoice(
    number: str,
    issued: date,
    rows: Sequence[_Row],
    *,
    kind: str = "VAT",
    currency: str = "PLN",
    corrected: _Corrected | None = None,
) -> bytes:
    """An FA(3) of ours. ``issued`` is the Polish day; rows marked ``before`` count as what a correction takes back."""
    net = {rate: _net(rows, rate) for rate in _TOTALS if any(row.rate == rate for row in rows)}
    vat = {rate: _rounded(amount * int(rate) / 100) for rate, amount in net.items()}
    totals = ""
    for rate, amount in net.items():
        net_field, vat_field = _TOTALS[rate]
        totals += f"<{net_field}>{amount}</{net_field}><{vat_field}>{vat[rate]}</{vat_field}>"
        if currency != "PLN":
            totals += f"<{vat_field}W>{_rounded(vat[rate] * _EXCHANGE)}</{vat_field}W>"
    correction = ""
    if corrected is not None:
        correction = (
            "<PrzyczynaKorekty>Zwrot towaru</PrzyczynaKorekty><TypKorekty>2</TypKorekty><DaneFaKorygowanej>"
            f"<DataWystFaKorygowanej>{corrected.issued}</DataWystFaKorygowanej>"
            f"<NrFaKorygowanej>{corrected.number}</NrFaKorygowanej><NrKSeF>1</NrKSeF>"
            f"<NrKSeFFaKorygowanej>{corrected.ksef_number}</NrKSeFFaKorygowanej></DaneFaKorygowanej>"
        )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/">
  <Naglowek>
    <KodFormularza kodSystemowy="FA (3)" wersjaSchemy="1-0E">FA</KodFormularza>
    <WariantFormularza>3</WariantFormularza>
    <DataWytworzeniaFa>{issued - timedelta(days=1)}T22:00:00Z</DataWytworzeniaFa>
    <SystemInfo>ksefbuffer demo</SystemInfo>
  </Naglowek>
  {_party("Podmiot1", NIP, "Hurtownia Pod Dębem sp. z o.o.", "ul. Fabryczna 12", "02-777 Warszawa")}
  {_party("Podmiot2", "7291836450", "Piekarnia Pod Świerkiem sp. z o.o.", "ul. Żwirki i Wigury 21", "90-001 Łódź")}
  <Fa>
    <KodWaluty>{currency}</KodWaluty>
    <P_1>{issued}</P_1>
    <P_2>{escape(number)}</P_2>
    {totals}
    <P_15>{sum(net.values(), Decimal()) + sum(vat.values(), Decimal())}</P_15>
    <Adnotacje>
      <P_16>2</P_16><P_17>2</P_17><P_18>2</P_18><P_18A>2</P_18A>
      <Zwolnienie><P_19N>1</P_19N></Zwolnienie>
      <NoweSrodkiTransportu><P_22N>1</P_22N></NoweSrodkiTransportu>
      <P_23>2</P_23>
      <PMarzy><P_PMarzyN>1</P_PMarzyN></PMarzy>
    </Adnotacje>
    <RodzajFaktury>{kind}</RodzajFaktury>{correction}
    {"".join(_row(index, row, currency) for index, row in enumerate(rows, 1))}
  </Fa>
</Faktura>
""".encode()


def _party(role: str, nip: str, name: str, street: str, town: str) -> str:
    last = "" if role == "Podmiot1" else "<JST>2</JST><GV>2</GV>"
    return (
        f"<{role}><DaneIdentyfikacyjne><NIP>{nip}</NIP><Nazwa>{name}</Nazwa></DaneIdentyfikacyjne>"
        f"<Adres><KodKraju>PL</KodKraju><AdresL1>{street}</AdresL1><AdresL2>{town}</AdresL2></Adres>{last}</{role}>"
    )


def _row(index: int, row: _Row, currency: str) -> str:
    exchange = "" if currency == "PLN" else f"<KursWaluty>{_EXCHANGE}</KursWaluty>"
    before = "<StanPrzed>1</StanPrzed>" if row.before else ""
    return (
        f"<FaWiersz><NrWierszaFa>{index}</NrWierszaFa><P_7>{escape(row.name)}</P_7><P_8A>{row.unit}</P_8A>"
        f"<P_8B>{row.quantity}</P_8B><P_9A>{row.net_price}</P_9A><P_11>{row.net}</P_11><P_12>{row.rate}</P_12>"
        f"{exchange}{before}</FaWiersz>"
    )


def _net(rows: Sequence[_Row], rate: str) -> Decimal:
    return sum((-row.net if row.before else row.net for row in rows if row.rate == rate), Decimal())


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)
