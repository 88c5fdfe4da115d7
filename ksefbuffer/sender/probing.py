"""Whether a folder lets the buffer do what it does there: write, sync, rename, remove."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def trouble_with(folder: Path) -> str | None:
    """Why files cannot be written there, in Polish; None when they can. Leaves nothing behind.

    A leading dot keeps everybody who watches the folder from taking the probe for an invoice.
    """
    if not folder.exists():
        return f"Nie ma folderu {folder}."
    if not folder.is_dir():
        return f"{folder} nie jest folderem."
    part = folder / f".ksefbuffer-{secrets.token_hex(6)}.part"
    whole = part.with_suffix(".tmp")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"ksefbuffer")
            file.flush()
            os.fsync(file.fileno())
        part.rename(whole)
    except OSError as error:
        return f"W folderze {folder} nie można zapisać pliku: {error.strerror}."
    finally:
        for left in (part, whole):
            with suppress(OSError):
                left.unlink()
    return None
