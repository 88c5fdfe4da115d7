"""The rules of the architecture that a machine can check: .importlinter's contracts, and what only the text shows."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ksefbuffer"
UNIT = ROOT / "systemd" / "ksefbuffer@.service"


def parsed(path: Path) -> ast.Module:
    """A module of the package, its relative imports made absolute."""
    tree = ast.parse(path.read_bytes())
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            node.module = ".".join((*base, *([node.module] if node.module else [])))
            node.level = 0
    return tree


MODULES = {path.relative_to(PACKAGE).as_posix(): parsed(path) for path in sorted(PACKAGE.rglob("*.py"))}

CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
CLOCK_OWNERS = {"datetime", "date", "time"}

# Modules that decide and do nothing: a prefix ending in "/" is a whole package. They may come later than their name.
PURE = (
    "errors.py",
    "erp/answers.py",
    "erp/ddl.py",
    "invoice/findings.py",
    "invoice/forms.py",
    "invoice/identifiers.py",
    "ksef/limits.py",
    "ksef/statuses.py",
    "offline/calendar.py",
    "offline/deadlines.py",
    "offline/modes.py",
    "notify/batched.py",
    "notify/deciding.py",
    "notify/ending.py",
    "notify/outages.py",
    "notify/places.py",
    "notify/shapes.py",
    "notify/wording.py",
    "queue/states.py",
    "receiver/checks/",
    "receiver/instants.py",
    "receiver/recount.py",
    "receiver/rules.py",
    "receiver/schedule.py",
    "receiver/verdict.py",
    "sender/plan.py",
)
IMPURE = {
    *("sqlalchemy", "alembic", "psycopg", "sqlite3", "httpx", "tenacity", "urllib.request", "socket", "lxml", "xml"),
    *("fastapi", "starlette", "uvicorn", "http", "apscheduler", "watchdog", "cryptography", "signxml", "subprocess"),
}
WEB_MAY_NOT = {f"ksefbuffer.{name}" for name in ("ksef", "identity", "sender", "receiver", "worker", "sandbox", "cli")}
# Sealing for the worker and the words for a certificate's standing know no key; the rules' modules are pure.
WEB_MAY = {
    "web/asking.py": {"ksefbuffer.identity.letterbox"},
    "web/filing.py": {
        *(
            "ksefbuffer.receiver." + name
            for name in ("conditions", "filenames", "folders", "rulebook", "rules", "seen")
        ),
        *("ksefbuffer.receiver." + name for name in ("shapes", "storelist", "targets", "verdict")),
    },
}
SANDBOX_MAY = {"ksefbuffer.sandbox", "ksefbuffer.errors", "ksefbuffer.invoice.forms"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports; "from a import b" gives both "a" and "a.b"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def reads_the_clock(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time" and {a.name for a in node.names} & CLOCKS:
            return True
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if name in CLOCK_OWNERS:
                return True
    return False


def commits(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
        for node in ast.walk(tree)
    )


def imports(*packages: str) -> Callable[[ast.AST], bool]:
    return lambda tree: any(within(name, set(packages)) for name in imported(tree))


@pytest.mark.parametrize(
    ("broken_by", "allowed"),
    [
        pytest.param(reads_the_clock, ("cli.py", "worker/", "sandbox/"), id="the-clock"),
        pytest.param(commits, ("queue/db.py",), id="commit"),
        pytest.param(imports("watchdog"), ("erp/folder.py",), id="watchdog"),
        pytest.param(imports("apscheduler"), ("worker/duties.py",), id="apscheduler"),
    ],
)
def test_only_the_named_modules_do_it(broken_by: Callable[[ast.AST], bool], allowed: tuple[str, ...]) -> None:
    assert [name for name, tree in MODULES.items() if not name.startswith(allowed) and broken_by(tree)] == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("from datetime import datetime\nx = datetime.now()", reads_the_clock),
        ("import datetime as d, time\nx = time.monotonic", reads_the_clock),
        ("from time import perf_counter", reads_the_clock),
        ("import datetime\nx = datetime.date.today()", reads_the_clock),
        ("tx.commit()", commits),
        ("def f():\n    from watchdog.events import E", imports("watchdog")),
    ],
)
def test_a_break_of_each_rule_would_be_seen(source: str, rule: Callable[[ast.AST], bool]) -> None:
    assert rule(ast.parse(source))
    assert not rule(ast.parse("from datetime import datetime\nx = datetime.fromisoformat('2026-11-20')\nupdate()"))


def test_pure_modules_touch_nothing_outside() -> None:
    pure = {name: tree for name, tree in MODULES.items() if name.startswith(PURE)}
    assert len(pure) >= 8, "the list has lost touch with the files"
    broken = {name: [i for i in imported(tree) if within(i, IMPURE)] for name, tree in pure.items()}
    assert {name: found for name, found in broken.items() if found} == {}


def test_the_page_reaches_no_key() -> None:
    web = {name: tree for name, tree in MODULES.items() if name.startswith("web/")}
    reached = {
        name: [
            i
            for i in imported(tree)
            if within(i, WEB_MAY_NOT) and not within(i, {*WEB_MAY.get(name, ()), "ksefbuffer.identity.words"})
        ]
        for name, tree in web.items()
    }
    # "from ksefbuffer.receiver import rules" names the package too, which alone holds nothing.
    packages = {"ksefbuffer.receiver", "ksefbuffer.identity"}
    assert {name: found for name, found in reached.items() if set(found) - packages} == {}


def test_the_sandbox_is_a_second_reading_of_the_documents() -> None:
    strange = {
        (name, i)
        for name, tree in MODULES.items()
        if name.startswith("sandbox/")
        for i in imported(tree)
        if within(i, {"ksefbuffer"}) and not within(i, SANDBOX_MAY) and i not in ("ksefbuffer", "ksefbuffer.invoice")
    }
    assert strange == set()


def test_annotations_are_postponed_everywhere() -> None:
    def postponed(tree: ast.Module) -> bool:
        return any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)

    def only_a_docstring(tree: ast.Module) -> bool:
        return all(isinstance(node, ast.Expr) for node in tree.body)

    assert [name for name, tree in MODULES.items() if not postponed(tree) and not only_a_docstring(tree)] == []


def test_nothing_shipped_names_the_machine_it_was_written_on() -> None:
    # Put together, so that this file does not name it either.
    machine = re.compile(r"(?<![\w.])/" + r"work/|" + r"(?<![\w.])/" + "shared/|TO" + "DO|FIX" + "ME")
    folders = ("ksefbuffer", "tests", "migrations", "benchmarks", "systemd")
    texts = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in _TEXTS]
    texts += [path for path in ROOT.iterdir() if path.suffix in _TEXTS]
    assert len(texts) > 20
    named = [path.relative_to(ROOT).as_posix() for path in texts if machine.search(path.read_text(encoding="utf-8"))]
    assert named == []


_TEXTS = {".py", ".toml", ".md", ".service", ".sql", ".mako", ".cfg", ".ini"}


def _lint(where: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=where, capture_output=True, text=True, check=False
    )


def test_the_import_contracts_are_kept() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("errors.py", "import ksefbuffer.config"),
        ("queue/states.py", "import ksefbuffer.ksef"),
        ("ksef/limits.py", "import ksefbuffer.identity"),
        ("sandbox/planted.py", "import ksefbuffer.ksef"),
        ("sender/planted.py", "import sqlalchemy"),
        ("erp/answers.py", "import sqlalchemy.orm"),
        ("erp/planted.py", "import httpx"),
        ("sandbox/planted.py", "import httpx"),
        ("sender/planted.py", "import tenacity"),
        ("config.py", "import cryptography.x509"),
        ("receiver/planted.py", "import ksefbuffer.sender"),
    ],
)
def test_a_break_of_the_contracts_is_seen(tmp_path: Path, module: str, line: str) -> None:
    copy = tmp_path / "ksefbuffer"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    broken = copy / module
    broken.parent.mkdir(exist_ok=True)
    (broken.parent / "__init__.py").touch()
    with broken.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    if module.startswith("receiver/"):
        (copy / "sender").mkdir(exist_ok=True)
    done = _lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 broken" in done.stdout or "2 broken" in done.stdout
    assert f"ksefbuffer.{module.removesuffix('.py').replace('/', '.')}" in done.stdout


# The systemd unit


def _settings() -> dict[str, str]:
    lines = [line for line in UNIT.read_text(encoding="utf-8").splitlines() if "=" in line and line[0] not in "#;"]
    settings = dict(line.split("=", 1) for line in lines)
    assert len(settings) >= 30
    return settings


def test_the_unit_restarts_on_anything_but_a_mistake_in_the_settings() -> None:
    unit = _settings()
    assert unit["Type"] == "notify"
    assert unit["Restart"] == "always"
    assert unit["RestartPreventExitStatus"] == "2"
    assert unit["StartLimitIntervalSec"] == "0"
    assert int(unit["WatchdogSec"]) >= 30
    assert unit["ExecStart"].split()[1:] == ["--config", "/etc/ksefbuffer/%i.toml", "run"]


def test_the_unit_holds_no_rights_it_does_not_need() -> None:
    unit = _settings()
    assert unit["ProtectSystem"] == "strict"
    assert unit["NoNewPrivileges"] == "yes"
    assert unit["CapabilityBoundingSet"] == ""
    assert unit["User"] == "ksefbuffer"
    assert "LoadCredential" not in unit, "a credential that is not there would keep the unit from starting"
    assert "#LoadCredential=auth.key:" in UNIT.read_text(encoding="utf-8")


def test_systemd_itself_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # The program is not installed where the unit says; everything else is judged as it stands.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/ksefbuffer/bin/ksefbuffer", "/bin/true")
    instance = tmp_path / "ksefbuffer@5265877635.service"
    instance.write_text(text, encoding="utf-8")
    done = subprocess.run([analyze, "verify", "--man=no", instance], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "ksefbuffer@" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr
