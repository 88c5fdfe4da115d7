"""File effects below one folder that survive power loss: whole or not at all, with their rights from the first moment,
never over somebody else's file and never out of that folder.

Folders are opened one below the other by descriptor, and links are not followed: what a share's user puts in the place
of a folder leads nowhere. Functions take descriptors and raise OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TEMPORARY = ".ksefbuffer-"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for ever on what may be a pipe.
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1
_CHUNK = 1 << 20
_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2


@dataclass(frozen=True)
class Access:
    """Who may use the files of a folder: their ``mode``, and the id of their ``group``; None as it comes. Folders get
    the same, with "enter" wherever there is "read"."""

    mode: int | None = None
    group: int | None = None


AS_IT_COMES = Access()
OWNER_ONLY = Access(0o600)


class GroupRefused(PermissionError):
    """This process may not give its files to that group (its id)."""

    def __init__(self, group: int) -> None:
        super().__init__(errno.EPERM, os.strerror(errno.EPERM))
        self.group = group


@dataclass(frozen=True)
class Tree:
    """The folder below which everything happens. ``owner``: whose files ours are there, as the file system says."""

    root: int
    owner: int

    def owns(self, there: os.stat_result) -> bool:
        """Whether it is a plain file of ours."""
        return stat.S_ISREG(there.st_mode) and there.st_uid == self.owner


@contextmanager
def opened(root: Path) -> Iterator[Tree]:
    """The folder, made if missing. It may itself be a link: that is its owner's way."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Tree(descriptor, _owner(descriptor))
    finally:
        os.close(descriptor)


def _owner(folder: int) -> int:
    # On a mounted share that is often not the user who writes.
    try:
        return _tried(folder).st_uid
    except OSError:
        return os.geteuid()


@contextmanager
def opened_below(tree: Tree, parts: Sequence[str]) -> Iterator[int]:
    """A folder of the tree. Raises FileNotFoundError; NotADirectoryError where a file or a link is in the way."""
    descriptor = os.dup(tree.root)
    try:
        for part in parts:
            descriptor = _descend(descriptor, part)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def made_below(
    tree: Tree, parts: tuple[str, ...], access_of: Callable[[tuple[str, ...]], Access | None]
) -> Iterator[int]:
    """As ``opened_below``, but what is missing is made, and every folder of ours gets its rights. ``access_of`` tells
    them by the folder's parts; None: they are not known, so a new folder is the owner's alone. Raises GroupRefused."""
    descriptor = os.dup(tree.root)
    try:
        for depth, part in enumerate(parts, start=1):
            access = access_of(parts[:depth])
            try:
                descriptor = _descend(descriptor, part)
            except FileNotFoundError:
                os.mkdir(part, 0o777 if access == AS_IT_COMES else 0o700, dir_fd=descriptor)
                descriptor = _descend(descriptor, part)
            if access is not None and access != AS_IT_COMES:
                _limit(tree, descriptor, access)
        yield descriptor
    finally:
        os.close(descriptor)


def _descend(descriptor: int, part: str) -> int:
    """The folder in the folder; the outer one is closed, unless there is no such folder in it."""
    try:
        inner = os.open(part, _FOLDER, dir_fd=descriptor)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), part) from None
        raise
    os.close(descriptor)
    return inner


def _limit(tree: Tree, folder: int, access: Access) -> None:
    """Gives a folder of ours its rights, at no moment wider ones."""
    found = os.fstat(folder)
    if found.st_uid != tree.owner:
        return
    files = access.mode if access.mode is not None else stat.S_IMODE(_tried(folder).st_mode)
    mode = files | (files & 0o444) >> 2
    now = stat.S_IMODE(found.st_mode)
    if access.group is not None:
        # What is made in it belongs to the same group.
        mode |= stat.S_ISGID
        if found.st_gid != access.group:
            os.fchmod(folder, now & 0o700)
            now &= 0o700
            _give(folder, access.group)
    if now != mode:
        os.fchmod(folder, mode)


def _give(descriptor: int, group: int) -> None:
    try:
        os.fchown(descriptor, -1, group)
    except PermissionError:
        raise GroupRefused(group) from None


def exact_access(folder: int, access: Access) -> Access:
    """``access``, with the rights that a new file in this folder gets by itself for what is left open in it.
    Raises GroupRefused."""
    usual = _tried(folder, access.group)
    return Access(
        access.mode if access.mode is not None else stat.S_IMODE(usual.st_mode),
        access.group if access.group is not None else usual.st_gid,
    )


def _tried(folder: int, group: int | None = None) -> os.stat_result:
    """What an empty file is like, made here: umask, inherited groups, default ACLs, the share all have their say."""
    name = f"{TEMPORARY}{os.getpid()}-probe.part"
    descriptor = _created(folder, name, 0o666)
    try:
        usual = os.fstat(descriptor)
        if group is not None and usual.st_gid != group:
            _give(descriptor, group)
        return usual
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=folder)


def write(folder: int, content: bytes, access: Access) -> str:
    """Writes a temporary file with its rights, durably, and returns its name."""
    name = f"{TEMPORARY}{os.getpid()}-file.part"
    descriptor = _created(folder, name, 0o600)
    try:
        try:
            if access.group is not None and os.fstat(descriptor).st_gid != access.group:
                _give(descriptor, access.group)
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if access.mode is not None and stat.S_IMODE(os.fstat(descriptor).st_mode) != access.mode:
                os.fchmod(descriptor, access.mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        discard(folder, name)
        raise
    return name


def _created(folder: int, name: str, mode: int) -> int:
    """A new file, never one that lies there already: that may be open to others."""
    try:
        return os.open(name, _CREATE, mode, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, _CREATE, mode, dir_fd=folder)


def discard(folder: int, name: str) -> None:
    """Removes a file if it is there and can be removed."""
    with suppress(OSError):
        os.unlink(name, dir_fd=folder)


def place(folder: int, temporary: str, name: str) -> None:
    """Gives a temporary file its name, unless that is taken (FileExistsError)."""
    if _renameat2(folder, os.fsencode(temporary), folder, os.fsencode(name), _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), name)
    # A share whose server cannot refuse to overwrite. The KSeF number in the name makes a clash in this moment
    # a matter of malice, and nobody may see a file that is not whole.
    if found(folder, name) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    replace(folder, temporary, name)


def replace(folder: int, temporary: str, name: str) -> None:
    """Gives a temporary file its name, in place of the file of ours that has it."""
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def found(folder: int, name: str) -> os.stat_result | None:
    """What lies at that name, a link itself; None when nothing does."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def has_access(there: os.stat_result, access: Access) -> bool:
    return access.mode in (None, stat.S_IMODE(there.st_mode)) and access.group in (None, there.st_gid)


def holds(folder: int, name: str, content: bytes) -> bool:
    """Whether a plain file of that name holds exactly these bytes; one that cannot be read does not."""
    try:
        descriptor = os.open(name, _LOOK, dir_fd=folder)
    except OSError:
        return False
    try:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode) or there.st_size != len(content):
            return False
        at = 0
        while chunk := os.read(descriptor, _CHUNK):
            if content[at : at + len(chunk)] != chunk:
                return False
            at += len(chunk)
        return at == len(content)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def remove(folder: int, name: str) -> None:
    """Removes a file; that it is gone already is fine."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def remove_empty(tree: Tree, parts: Sequence[str]) -> None:
    """Removes a folder of ours, and those above it, as far as they are empty."""
    for depth in range(len(parts), 0, -1):
        try:
            with opened_below(tree, parts[: depth - 1]) as outer:
                there = found(outer, parts[depth - 1])
                if there is None:
                    continue
                if there.st_uid != tree.owner:
                    return
                os.rmdir(parts[depth - 1], dir_fd=outer)
        except FileNotFoundError:
            continue
        except OSError:
            # Somebody's files are in it, or it is none of ours: it stays.
            return


def remove_leftovers(folder: int) -> None:
    """Removes temporary files that a crash left; nobody else uses their prefix."""
    with os.scandir(folder) as entries:
        names = [one.name for one in entries if one.name.startswith(TEMPORARY) and one.name.endswith(".part")]
    for name in names:
        remove(folder, name)


def names_in(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def sync(folder: int) -> None:
    """Makes renames in a folder durable; shares that cannot sync a folder are taken as they are."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
