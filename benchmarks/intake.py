"""Files renamed into the inbox, checked, stored durably and moved away, against bare XSD validation of the same files.

Bare validation reads each file, parses it and validates it with the same compiled schema in one thread: nothing is
stored. Both halves of the run use the same files on the same disk.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lxml import etree

from benchmarks import stage
from ksefbuffer.erp.folder import FolderConnector, Folders
from ksefbuffer.invoice import schema as xsd
from ksefbuffer.invoice.precheck import CheckContext, check
from ksefbuffer.queue import schema
from ksefbuffer.queue.db import Database
from tests.samples import invoice


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--files", type=int, default=1000)
    options.add_argument("--lines", type=int, default=5, help="rows of each invoice")
    options.add_argument("--profile", action="store_true", help="tell where the intake's time goes")
    asked = options.parse_args()
    with stage.folder() as place:
        waiting = place / "waiting"
        waiting.mkdir()
        size = 0
        for number in range(asked.files):
            content = invoice(f"FV/{number}/2026", stage.NIP, stage.today(), asked.lines, seed=number)
            size += len(content)
            (waiting / f"f{number:06}.xml").write_bytes(content)
        bare_s = bare_validation(waiting)
        checks_s = pre_check(waiting)
        profile = cProfile.Profile() if asked.profile else None
        intake_s = intake(place, waiting, profile)
    count = asked.files
    print(
        f"intake: {bare_s / intake_s:.0%} of bare XSD validation; {count / intake_s:.0f} files/s taken in against "
        f"{count / bare_s:.0f} files/s validated ({count / checks_s:.0f} files/s through the whole pre-check); "
        f"{count} files of {size // count} bytes"
    )
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)
        pstats.Stats(profile).sort_stats("cumtime").print_stats("ksefbuffer/", 25)


def bare_validation(waiting: Path) -> float:
    paths = sorted(waiting.iterdir())
    xsd.is_valid(etree.fromstring(paths[0].read_bytes()))
    began = time.perf_counter()
    for path in paths:
        if not xsd.is_valid(etree.fromstring(path.read_bytes())):
            raise SystemExit(f"{path.name} is not valid")
    return time.perf_counter() - began


def pre_check(waiting: Path) -> float:
    contents = [path.read_bytes() for path in sorted(waiting.iterdir())]
    context = CheckContext(nip=stage.NIP, environment="production", now=datetime.now(UTC))
    began = time.perf_counter()
    for content in contents:
        check(content, context)
    return time.perf_counter() - began


def intake(place: Path, waiting: Path, profile: cProfile.Profile | None) -> float:
    database = Database(f"sqlite:///{place / 'buffer.db'}")
    schema.upgrade(database)
    folders = Folders(*(place / name for name in ("inbox", "outbox", "processed", "rejected")))
    connector = FolderConnector(
        database,
        folders,
        context=lambda now: CheckContext(nip=stage.NIP, environment="production", now=now),
        settle=timedelta(0),
    )
    connector.prepare()
    if profile:
        profile.enable()
    began = time.perf_counter()
    for path in waiting.iterdir():
        path.rename(folders.inbox / path.name)
    while connector.take_in(datetime.now(UTC)):
        pass
    taken = time.perf_counter() - began
    if profile:
        profile.disable()
    left = len(list(folders.inbox.iterdir()))
    if left:
        raise SystemExit(f"{left} files stayed in the inbox")
    database.close()
    return taken


if __name__ == "__main__":
    main()
