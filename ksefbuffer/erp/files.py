"""File effects that survive power loss: whole or not at all, and never over somebody else's file."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
from pathlib import Path

_NAME_MAX = 255  # bytes; ext4, NTFS and SMB agree on it
TEMPORARY = ".ksefbuffer-"
ASIDE = ".ksefbuffer+"

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it is seen whole or not at all: temporary name, fsync, rename, fsync of the folder.

    Raises OSError. Writing the same again is harmless.
    """
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{abs(hash(path.name)):x}.part"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class Replaced(OSError):
    """The file at a name is no longer the one that was read; it was left, or put back, where it was."""


def move_without_overwriting(source: Path, folder: Path, *, inode: int) -> Path:
    """Moves a file into a folder under its own name, or as ``NAME.2.xml``, ``NAME.3.xml`` … where that is taken.

    Only the very file with ``inode`` is moved: a writer may put another in its place at any moment, and that one is
    still to be read (Replaced). The caller syncs both folders, once for many moves. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        target = _rename_to_free_name(source, folder, source.name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _move_across(source, folder, inode=inode)
    if target.lstat().st_ino != inode:
        _rename_to_free_name(target, source.parent, source.name)
        raise Replaced(errno.ESTALE, "w jego miejscu jest już inny plik", str(source))
    return target


def _move_across(source: Path, folder: Path, *, inode: int) -> Path:
    """To another file system: set aside first, so that what is copied is what is removed.

    What is set aside may be a file that nobody has read yet: after a crash ``put_back`` gives it its name again.
    """
    aside = _rename_to_free_name(source, source.parent, fitting(ASIDE + source.stem, source.suffix))
    if aside.lstat().st_ino != inode:
        _rename_to_free_name(aside, source.parent, source.name)
        raise Replaced(errno.ESTALE, "w jego miejscu jest już inny plik", str(source))
    temporary = folder / f"{TEMPORARY}{os.getpid()}-move.part"
    try:
        with aside.open("rb") as origin, temporary.open("wb") as copy:
            shutil.copyfileobj(origin, copy)
            copy.flush()
            os.fsync(copy.fileno())
        target = _rename_to_free_name(temporary, folder, source.name)
    except OSError:
        temporary.unlink(missing_ok=True)
        _rename_to_free_name(aside, source.parent, source.name)
        raise
    sync_folder(folder)
    aside.unlink()
    sync_folder(source.parent)
    return target


def _rename_to_free_name(source: Path, folder: Path, name: str) -> Path:
    number = 1
    while True:
        target = folder / numbered(name, number)
        try:
            _rename_new(source, target)
        except FileExistsError:
            number += 1
        else:
            return target


def _rename_new(source: Path, target: Path) -> None:
    """Renames, but never over an existing file (FileExistsError)."""
    if _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(source))
    # Shares whose server cannot refuse to overwrite: the name is taken by an empty file first.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
    source.replace(target)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable; shares that cannot sync a folder are taken as they are."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def numbered(name: str, number: int) -> str:
    """``NAME.xml`` for 1, ``NAME.2.xml`` for 2 …, never longer than a file name may be."""
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = name, ""
    addition = "" if number == 1 else f".{number}"
    return fitting(stem, f"{addition}{dot}{ending}")


def fitting(stem: str, ending: str) -> str:
    """``stem + ending`` as a file name; a stem too long is cut and marked by a digest of the whole."""
    whole = os.fsencode(stem) + os.fsencode(ending)
    if len(whole) <= _NAME_MAX:
        return stem + ending
    mark = f"~{_short_digest(stem)}"
    room = _NAME_MAX - len(os.fsencode(ending)) - len(mark)
    cut = os.fsencode(stem)[:room]
    # A cut inside a multi-byte character would make a name that is no text.
    return cut.decode("utf-8", "ignore") + mark + ending


def _short_digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def name_as_text(name: str) -> str:
    """A file name as text for the database: bytes that are no UTF-8 become %XX, and % itself %25. Reversible."""
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else "%25" if c == "%" else c for c in name)


def text_as_name(text: str) -> str:
    """The file name that ``name_as_text`` was given."""
    out: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == "%":
            code = int(text[position + 1 : position + 3], 16)
            out.append("%" if code == 0x25 else chr(0xDC00 + code))
            position += 3
        else:
            out.append(text[position])
            position += 1
    return "".join(out)


def shown(name: str) -> str:
    """A file name fit for a log, a page or an answer: control, bidi and undecodable characters are escaped."""
    return "".join(
        c if c.isprintable() and not "\udc80" <= c <= "\udcff" else c.encode("unicode_escape").decode() for c in name
    )


def put_back(folder: Path) -> None:
    """Gives files that a crash left set aside their names again (a very long one comes back shortened)."""
    for path in folder.glob(f"{ASIDE}*"):
        _rename_to_free_name(path, folder, path.name.removeprefix(ASIDE))


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files that a crash left; nobody else uses their prefix."""
    for path in folder.glob(f"{TEMPORARY}*.part"):
        path.unlink(missing_ok=True)
