"""How fast packages are built, against the bare cost of the same bytes, in one run.

Invoices lie in an SQLite table, as they do in the buffer, and are read one at a time. The bare cost is what no builder
can avoid: the same rows read, one zlib stream of level 6 (or one deflate per entry in a Zip) over the same archive
bytes in large pieces, AES-256-CBC over the archive, SHA-256 over the archive and over what was encrypted.

    python -m benchmarks.packages [--invoices 10000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ksefbuffer.ksef.crypto import new_session_key
from ksefbuffer.ksef.packages import Compression, build_package
from ksefbuffer.ksef.shapes import SessionKey

AIM = 0.70
PIECE = 1 << 20
TAR_BLOCK = 512


def invoice(number: int, dice: random.Random) -> bytes:
    """Some 3 to 9 kB of XML with the mixture of repetition and chance that invoices have."""
    lines = "".join(
        f"<FaWiersz><NrWierszaFa>{n}</NrWierszaFa><P_7>Towar {dice.randrange(10**6)} {dice.choice(WORDS)}</P_7>"
        f"<P_8A>szt.</P_8A><P_8B>{dice.randrange(1, 99)}</P_8B><P_9A>{dice.randrange(1, 10**6) / 100:.2f}</P_9A>"
        f"<P_11>{dice.randrange(1, 10**7) / 100:.2f}</P_11><P_12>23</P_12></FaWiersz>\n"
        for n in range(1, dice.randrange(8, 30))
    )
    head = (
        '<?xml version="1.0" encoding="UTF-8"?><Faktura xmlns="http://crd.gov.pl/wzor/2025/06/25/13775/">'
        "<Naglowek><KodFormularza>FA</KodFormularza></Naglowek><Podmiot1><NIP>5265877635</NIP></Podmiot1>"
        f"<Podmiot2><NIP>{dice.randrange(10**9, 10**10)}</NIP><Nazwa>{dice.choice(WORDS)} sp. z o.o.</Nazwa>"
        f"</Podmiot2><Fa><P_1>2026-11-20</P_1><P_2>FV/{number}/2026</P_2>"
    )
    return f"{head}{lines}</Fa></Faktura>".encode()


WORDS = ("zażółć", "gęślą", "jaźń", "śruba M8×40", "usługa montażu", "transport", "papier A4", "kawa ziarnista")


def stored(place: Path, count: int) -> Path:
    """A table of invoices."""
    dice = random.Random(1)
    path = place / "invoices.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE invoice (id INTEGER PRIMARY KEY, sha256 TEXT, content BLOB)")
        contents = (invoice(n, dice) for n in range(count))
        connection.executemany(
            "INSERT INTO invoice (sha256, content) VALUES (?, ?)",
            ((hashlib.sha256(content).hexdigest(), content) for content in contents),
        )
    connection.close()
    return path


def rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """The invoices, one at a time."""
    connection = sqlite3.connect(path)
    try:
        yield from connection.execute("SELECT sha256, content FROM invoice ORDER BY id")
    finally:
        connection.close()


def built(path: Path, place: Path, key: SessionKey, compression: Compression) -> tuple[float, int]:
    """Seconds, and bytes of the archive."""
    folder = place / "package"
    began = time.perf_counter()
    package = build_package(rows(path), folder, key, compression=compression)
    took = time.perf_counter() - began
    shutil.rmtree(folder)
    return took, package.plain_size


def bare(path: Path, place: Path, key: SessionKey, compression: Compression) -> float:
    """Seconds for the same work without any of the builder's own."""
    began = time.perf_counter()
    archive = b"".join(_deflated(path) if compression == "Zip" else _tarred(path))
    hashlib.sha256(archive).digest()
    encryptor = Cipher(algorithms.AES256(key.key), modes.CBC(key.iv)).encryptor()
    sealed = encryptor.update(archive + bytes(-len(archive) % 16)) + encryptor.finalize()
    hashlib.sha256(sealed).digest()
    (place / "bare").write_bytes(sealed)
    return time.perf_counter() - began


def _deflated(path: Path) -> Iterator[bytes]:
    for _, content in rows(path):
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        yield squeeze.compress(content) + squeeze.flush()


def _tarred(path: Path) -> Iterator[bytes]:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    piece = bytearray()
    for name, content in rows(path):
        # As many bytes as a header has, and as compressible: a name and zeros.
        piece += name.encode().ljust(TAR_BLOCK, b"\0") + content + bytes(-len(content) % TAR_BLOCK)
        if len(piece) > PIECE:
            yield squeeze.compress(piece)
            piece.clear()
    yield squeeze.compress(piece) + squeeze.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--invoices", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ksefbuffer-benchmark-"))
    reached = True
    try:
        path = stored(place, given.invoices)
        total = sum(len(content) for _, content in rows(path))
        print(f"{given.invoices} invoices, {total / 1e6:.1f} MB of XML, best of {given.rounds}")
        key = new_session_key()
        compressions: tuple[Compression, ...] = ("TarGz", "Zip")
        for compression in compressions:
            ours, bares, size = [], [], 0
            for _ in range(given.rounds):
                bares.append(bare(path, place, key, compression))
                took, size = built(path, place, key, compression)
                ours.append(took)
            share = min(bares) / min(ours)
            reached &= share >= AIM
            print(
                f"{compression:5}  {1 / min(ours):6.2f} packages/s  {given.invoices / min(ours):8.0f} invoices/s  "
                f"{total / min(ours) / 1e6:6.1f} MB/s  archive {size / 1e6:5.1f} MB  "
                f"{share:.0%} of the bare cost's speed (aim {AIM:.0%})"
            )
    finally:
        shutil.rmtree(place)
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
