"""The only door to typst: JSON to PDF. Also a program (``python -m``), JSON on its input, the PDF on its output.

typst keeps what it has laid out for the next page, and some 140 kB for each row of a table: 10,000 rows leave a
gigabyte behind. So what is long is set by a process of its own, which takes that with it when it ends.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # It takes its memory when it is first imported: not for who has all pages set apart.
    import typst

# Archivable, with its structure for screen readers: ISO 19005-2 level A and ISO 14289-1.
STANDARDS: list[typst.PDFStandard] = ["a-2a", "ua-1"]
LONG_CHARACTERS = 20_000  # A hundred rows or so.
TIMEOUT_S = 300.0
# Twice what the longest invoice that KSeF takes was seen to need; what is beyond must not cost the server its memory.
MAX_MEMORY_BYTES = 3 * 1024**3
_MAX_KIND = 80
_NOT_SET = 3

# One page at a time: what typst needs while it works is wanted once.
_one_at_a_time = threading.Lock()


class NotSet(Exception):
    """typst refused; its message is the kind of fault, without anything of the page."""


def pdf(spoken: str, *, drawn: int = 0, apart: bool = False) -> bytes:
    """The page as PDF/A-2a, which is PDF/UA-1 too. Equal input, equal bytes. Raises NotSet.

    drawn: how many of the characters only draw codes, which cost next to nothing; apart: set what is short by a process
    of its own, too, beside others.
    """
    long = len(spoken) - drawn > LONG_CHARACTERS
    if apart and not long:
        return _apart(spoken)
    with _one_at_a_time:
        return _apart(spoken) if long else _here(spoken)


def _here(spoken: str) -> bytes:
    import typst

    try:
        made = _compiler().compile(_template(), sys_inputs={"page": spoken}, format="pdf", pdf_standards=STANDARDS)
    except typst.TypstError as fault:
        # What follows the colon quotes the text that it stumbled over.
        raise NotSet(fault.message.partition(":")[0][:_MAX_KIND]) from None
    assert isinstance(made, bytes)
    return made


def _apart(spoken: str) -> bytes:
    # The child needs no secret of ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KSEFBUFFER", "CRED"))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=spoken.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotSet(f"trwało to ponad {TIMEOUT_S:.0f} s") from None
    if done.returncode == _NOT_SET:
        raise NotSet(done.stderr.decode(errors="replace")[:_MAX_KIND])
    if done.returncode != 0:
        raise NotSet(f"proces składający zakończył się kodem {done.returncode}")
    return done.stdout


@cache
def _compiler() -> typst.Compiler:
    import typst

    # Typefaces of the machine would make pages differ from server to server.
    return typst.Compiler(ignore_system_fonts=True)


@cache
def _template() -> bytes:
    return files(__package__).joinpath("page.typ").read_bytes()


def main() -> int:
    """Sets what stands on the standard input."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        made = _here(sys.stdin.buffer.read().decode())
    except NotSet as fault:
        sys.stderr.write(str(fault))
        return _NOT_SET
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
