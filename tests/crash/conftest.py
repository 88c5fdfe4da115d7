from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from ksefbuffer.identity.material import Credential, load_credential
from ksefbuffer.identity.selfsigned import make_selfsigned
from ksefbuffer.ksef.auth import CertificateLogin
from tests.crash.harness import START, Fate, World, template_database
from tests.samples import NIP


def _wishes(request: pytest.FixtureRequest) -> dict[str, bool]:
    return {name: bool(getattr(request.module, name.upper(), False)) for name in ("batch", "offline")}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template_database(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> CertificateLogin:
    folder = tmp_path_factory.mktemp("login")
    certificate, key = make_selfsigned(NIP, now=START - timedelta(days=1))
    (folder / "a.crt").write_bytes(certificate)
    (folder / "a.key").write_bytes(key)
    credential: Credential = load_credential(
        certificate=folder / "a.crt", private_key=folder / "a.key", pkcs12=None, password=None
    )
    return CertificateLogin(credential)


@pytest.fixture
def scenario(
    request: pytest.FixtureRequest, tmp_path: Path, template: Path, login: CertificateLogin
) -> Callable[[Sequence[Fate]], World]:
    numbers = itertools.count()

    def play(fates: Sequence[Fate]) -> World:
        world = World(tmp_path / str(next(numbers)), template, **_wishes(request))
        for fate in fates:
            if world.live(fate, login):
                break
            # A request that was stuck in the network arrives between two lives.
            world.wire.deliver_stuck(only_due=False)
        else:
            assert world.live(Fate(), login)
        world.wire.deliver_stuck(only_due=False)
        return world

    return play


@pytest.fixture(scope="module")
def course(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, template: Path, login: CertificateLogin
) -> list[str]:
    """The boundaries of an undisturbed life, in order."""
    world = World(tmp_path_factory.mktemp("course") / "0", template, **_wishes(request))
    fate = Fate()
    assert world.live(fate, login)
    world.books()
    return fate.seen
