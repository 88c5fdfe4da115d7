"""``ksefbuffer notify test``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commanding import Run
from tests.notify.post import SECRET, Post
from tests.samples import NIP

pytestmark = pytest.mark.process


def configured(root: Path, *urls: str) -> None:
    listed = ", ".join(f'"{url}"' for url in urls)
    (root / "config.toml").write_text(f'nip = "{NIP}"\nenvironment = "sandbox"\n[notify]\nurls = [{listed}]\n')


def test_each_address_gets_a_message_and_the_dead_one_is_named(run: Run, tmp_path: Path, post: Post) -> None:
    configured(tmp_path, post.url, f"json://u:{SECRET}@127.0.0.1:1/{SECRET}", f"tgram://{SECRET}")
    said = run("notify", "test")
    assert said.code == 3
    lines = said.out.splitlines()
    assert lines[0] == "json://localhost: przyjęto"
    assert lines[1].startswith("json://127.0.0.1: nie udało się połączyć")
    assert lines[2].startswith("tgram://…: nie rozpoznano adresu")
    assert SECRET not in said.out + said.err
    assert post.titles == [f"ksefbuffer NIP {NIP}: wiadomość próbna"]


def test_it_is_well_when_all_take(run: Run, tmp_path: Path, post: Post) -> None:
    configured(tmp_path, post.url)
    assert run("notify", "test").code == 0


def test_without_addresses_the_setting_is_named(run: Run, tmp_path: Path) -> None:
    configured(tmp_path)
    said = run("notify", "test")
    assert said.code == 2
    assert "[notify] urls" in said.err
