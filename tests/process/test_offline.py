"""The line is cut under a real daemon: both codes, a kill -9 in the middle, and everything sent afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import zxingcpp
from PIL import Image

from tests.process.running import Town, command, town, until
from tests.process.test_processes import today_s_invoices

pytestmark = pytest.mark.process


def with_codes(place: Town, name: str) -> dict[str, Any]:
    answer = place.answer(name)
    return answer if answer.get("certificate_url") and answer.get("verification_url") else {}


def decoded(picture: Path) -> str:
    (code,) = zxingcpp.read_barcodes(Image.open(picture))
    return str(code.text)


def offline_certificate(root: Path) -> str:
    told = json.loads(command("cert", "status", "--json", cwd=root).stdout or "[]")
    return next((one["status"] for one in told if one["purpose"] == "offline"), "")


def test_a_shop_that_enrolled_by_itself_goes_on_without_ksef(tmp_path: Path) -> None:
    with town(tmp_path) as place:
        address = f"http://127.0.0.1:{place.port}"
        config = tmp_path / "config.toml"
        config.write_text(config.read_text().replace("[ksef]\n", f'[ksef]\nqr_url = "{address}/qr"\n'))
        contents = today_s_invoices(6)
        names = list(contents)
        place.start_ksef()
        place.start_buffer()
        place.drop(names[0], contents[names[0]])
        until(lambda: place.answer(names[0]).get("ksef_number"), "the first one has its number")
        # In the sandbox the certificate for offline codes is got unbidden.
        until(lambda: offline_certificate(tmp_path) == "połączenie aktywne", "the certificate is in use")
        control = httpx.Client(base_url=f"{address}/sandbox", timeout=10)
        control.post("/outage", json={"style": "refused"}).raise_for_status()
        for name in names[1:4]:
            place.drop(name, contents[name])
        for name in names[1:4]:
            answer = until(lambda name=name: with_codes(place, name), f"{name} has both codes")  # type: ignore[misc]
            assert answer["offline"]["mode"] == "offline24"
            assert answer["jpk_marker"] == "OFF"
            for number, link in (("1", "verification_url"), ("2", "certificate_url")):
                assert decoded(tmp_path / "outbox" / f"{name}.qr{number}.png") == answer[link]
        place.buffer.kill()  # type: ignore[union-attr]
        for name in names[4:]:
            place.drop(name, contents[name])
        place.start_buffer()
        for name in names[4:]:
            until(lambda name=name: with_codes(place, name), f"{name} has both codes")  # type: ignore[misc]
        control.delete("/outage").raise_for_status()
        for name in names[1:]:
            until(lambda name=name: place.answer(name).get("ksef_number"), f"{name} has its number")  # type: ignore[misc]
            answer = place.answer(name)
            assert answer["invoicing_mode"] == "offline"
            page = httpx.get(answer["certificate_url"], headers={"Accept": "application/json"}).json()
            assert page["valid"] is True, page
            assert page["invoice"]["ksefNumber"] == answer["ksef_number"]
        assert place.ask_ksef("deviations") == []
        assert len(place.ask_ksef("invoices")) == 6
        control.close()
