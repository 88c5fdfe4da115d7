from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from io import BytesIO

import pytest
import zxingcpp
from lxml import etree
from PIL import Image

from ksefbuffer.offline import qr

GOLDEN = "https://qr-test.ksef.mf.gov.pl/invoice/1111111111/01-02-2026/UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE"
NUMBER = "5265877635-20261120-0100001AF629-AF"


def _picture(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content)).convert("L")


def _read(picture: Image.Image) -> list[str]:
    return [code.text for code in zxingcpp.read_barcodes(picture)]


def test_the_golden_sample_of_the_documents_is_met() -> None:
    digest = urlsafe_b64decode("UtQp9Gpc51y-u3xApZjIjgkpZ01js-J8KflSPW8WzIE=").hex()
    assert qr.verification_url("https://qr-test.ksef.mf.gov.pl", "1111111111", date(2026, 2, 1), digest) == GOLDEN
    assert qr.verification_url("https://qr-test.ksef.mf.gov.pl/", "1111111111", date(2026, 2, 1), digest) == GOLDEN


def test_the_link_carries_the_hash_of_the_bytes_without_padding() -> None:
    content = b"<Faktura/>"
    url = qr.verification_url(
        "https://qr.ksef.mf.gov.pl", "5265877635", date(2026, 11, 20), hashlib.sha256(content).hexdigest()
    )
    encoded = url.rsplit("/", 1)[1]
    assert len(encoded) == 43
    assert urlsafe_b64decode(encoded + "=") == hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    ("nip", "digest"),
    [("5265877635", "ab"), ("5265877635", "zz" * 32), ("526-58-77-635", "ab" * 32), ("٥" * 10, "ab" * 32)],
)
def test_a_wrong_hash_or_nip_makes_no_link(nip: str, digest: str) -> None:
    with pytest.raises(ValueError):
        qr.verification_url("https://qr.ksef.mf.gov.pl", nip, date(2026, 1, 1), digest)


@pytest.mark.parametrize("label", [NUMBER, "OFFLINE", "CERTYFIKAT"])
@pytest.mark.parametrize("url", [GOLDEN, GOLDEN + "/" + "x" * 350], ids=["kod-1", "as-long-as-kod-2"])
def test_a_strangers_reader_reads_the_picture(url: str, label: str) -> None:
    assert _read(_picture(qr.png(url, label))) == [url]


def test_the_label_is_drawn_whole_below_the_quiet_zone() -> None:
    picture = _picture(qr.png(GOLDEN, NUMBER))
    side = 49 * qr.MODULE_PX  # version 6 has 41 modules, and 4 of quiet zone on each side
    below = picture.crop((0, side, picture.width, picture.height)).point(lambda value: 255 if value < 128 else 0)
    drawn = below.getbbox()
    assert drawn is not None
    left, top, right, bottom = drawn
    assert left > 0
    assert right < picture.width, "the label is cut at the edge"
    assert bottom < below.height
    assert right - left > 150, "35 characters are wider than that"
    assert 7 <= bottom - top <= 20
    quiet = picture.crop((0, side - 4 * qr.MODULE_PX, picture.width, side))
    assert quiet.getextrema() == (255, 255)


def test_different_labels_look_different() -> None:
    one, other = _picture(qr.png(GOLDEN, "OFFLINE")), _picture(qr.png(GOLDEN, NUMBER))
    assert one.tobytes() != other.tobytes()
    assert qr.png(GOLDEN, NUMBER) == qr.png(GOLDEN, NUMBER)


def test_a_label_wider_than_the_code_widens_the_picture() -> None:
    picture = _picture(qr.png(GOLDEN, "W" * 60))
    assert picture.width > 49 * qr.MODULE_PX
    assert _read(picture) == [GOLDEN]


def test_the_svg_shows_the_same_code_and_its_label() -> None:
    root = etree.fromstring(qr.svg(GOLDEN, "A&B <" + NUMBER))
    ns = {"s": "http://www.w3.org/2000/svg"}
    assert root.findtext("s:text", namespaces=ns) == "A&B <" + NUMBER
    path = root.find("s:path", ns).get("d")
    side = int(root.get("viewBox").split()[2])
    modules = Image.new("L", (side, side), 255)
    for run in path.strip("M").split("M"):
        start, _, rest = run.partition("h")
        x, y = map(int, start.split())
        for step in range(int(rest.partition("v")[0])):
            modules.putpixel((x + step, y), 0)
    assert _read(modules.resize((side * 5, side * 5), Image.Resampling.NEAREST)) == [GOLDEN]


def test_threads_draw_the_same_pictures_as_one() -> None:
    jobs = [(f"{GOLDEN}/{n}", f"{NUMBER}{n}") for n in range(12)]
    alone = [qr.png(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda job: qr.png(*job), jobs)) == alone
