"""The documents agree with the program: commands, states, settings, links, locks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ksefbuffer.cli import main
from ksefbuffer.config import Config
from ksefbuffer.erp.answers import STATUS_PL
from ksefbuffer.queue.states import TRANSITIONS, Event, State

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """README's text below a heading, up to the next one of its level."""
    return re.split(r"(?m)^## ", README.split(f"\n## {title}\n", 1)[1], maxsplit=1)[0]


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def told_commands() -> dict[str, str]:
    """The command table's first column: the words of each command, and its whole usage."""
    cells = re.findall(r"(?m)^\| `([^`]+)` \|", section("Commands"))
    return {re.match(r"[a-z]+( [a-z]+(-[a-z]+)*)?(?= |$)", cell)[0]: cell for cell in cells}  # type: ignore[index]


def test_readme_names_exactly_the_commands_there_are() -> None:
    assert set(told_commands()) == {name for name, _ in commands(main)}


@pytest.mark.parametrize(("name", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands(main)])
def test_readme_names_exactly_the_options_of_a_command(name: str, command: click.Command) -> None:
    options = {
        opt for p in command.params if isinstance(p, click.Option) for opt in p.opts if opt not in ("-h", "--help")
    }
    assert set(re.findall(r"--[a-z-]+", told_commands()[name])) == options


def test_every_state_is_explained_under_both_its_names() -> None:
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| ([^|`]+) \|", section("Exchange through folders")))
    assert rows == {str(state): STATUS_PL[state] for state in State}


def test_the_picture_of_the_states_shows_every_move_and_no_other() -> None:
    drawn = re.findall(r"(?m)^ +(\S+) --> (\S+): ([a-zA-Z ]+) \((\w)\)$", section("States"))
    moves = {
        (None if a == "[*]" else State(a), Event(event.lower().replace(" ", "_")), State(b)) for a, b, event, _ in drawn
    }
    assert moves == {(a, event, b) for (a, event), b in TRANSITIONS.items()}
    explained = set(re.findall(r"(?m)^\| (\w) \|", section("States")))
    assert {letter for *_, letter in drawn} == explained


def test_every_section_of_the_settings_is_in_the_table() -> None:
    table = section("Configuration")
    scalars = {"nip", "environment", "data_dir"}
    missing = [
        name
        for name in Config.model_fields
        if f"`[{name}]`" not in table and not (name in scalars and f"`{name}`" in table)
    ]
    assert missing == []


def test_links_inside_the_project_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    assert len(links) >= 5
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# The locks


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return {canonical(name): version for name, version in re.findall(r"(?m)^([\w.-]+)(?:\[[^\]]*\])?==(\S+)", text)}


def wanted(requirements: list[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}  # type: ignore[index]


def test_the_locks_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    run, tools = wanted(project["project"]["dependencies"]), wanted(project["dependency-groups"]["dev"])
    assert len(run) >= 10
    assert len(tools) >= 5
    assert run - pinned("requirements.lock").keys() == set()
    assert (run | tools) - pinned("requirements-dev.lock").keys() == set()


def test_what_is_tested_is_what_is_installed() -> None:
    ours, tested = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert {name: (version, tested.get(name)) for name, version in ours.items() if tested.get(name) != version} == {}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_has_hashes_for_everything_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
    assert len(entries) == len(pinned(lock))
    assert [entry.split("\n", 1)[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"(?m)^(?!#).*(?:index-url|find-links|://).*$", text) == []


def test_no_script_or_document_names_a_machine_or_an_account() -> None:
    files = [
        ROOT / name for name in ("dev", ".ci/run", "NOTICE", "CHANGELOG.md", "README.md", ".pre-commit-config.yaml")
    ]
    # Put together, so that this file does not name them either.
    machine = re.compile("/" + "work/|/" + "root/|/" + "home/|file:" + "///")
    assert [path.name for path in files if machine.search(path.read_text(encoding="utf-8"))] == []


def test_the_scripts_can_be_executed() -> None:
    assert [name for name in ("dev", ".ci/run") if not (ROOT / name).stat().st_mode & 0o100] == []
