"""Who asks, and what they may see and handle. Pure: pages, files, API, search and counts all ask here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCOPES = ("send", "read", "incoming", "decide", "status")
"""What an API key may be made for: hand in, retry and cancel documents; read them; read received invoices; decide on
them; ask for the buffer's state."""


@dataclass(frozen=True)
class Grant:
    """``folder`` is a catalogue below the incoming folder, "" meaning all; it covers its subfolders. Outgoing documents
    have no folders. ``handle`` allows acting, not only seeing."""

    kind: Literal["incoming", "outgoing"]
    folder: str
    handle: bool

    def covers(self, folder: str) -> bool:
        """Whether this grant is for received invoices in that folder."""
        return self.kind == "incoming" and within(folder, self.folder)


@dataclass(frozen=True)
class Caller:
    """A person in a browser or a program with a key.

    An administrator may do everything. A key may do what its scopes say; its grants, when it has any, narrow the
    received invoices to their folders. Anybody else may do what the grants say.
    """

    kind: Literal["user", "key"]
    id: int
    name: str
    admin: bool
    grants: tuple[Grant, ...]
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """As the logs of events name them: "user:anna", "key:kasa-1"."""
        return f"{self.kind}:{self.name}"

    @property
    def sees_outgoing(self) -> bool:
        if self.kind == "key":
            return bool(self.scopes & {"send", "read"})
        return self.admin or any(grant.kind == "outgoing" for grant in self.grants)

    @property
    def handles_outgoing(self) -> bool:
        if self.kind == "key":
            return "send" in self.scopes
        return self.admin or any(grant.kind == "outgoing" and grant.handle for grant in self.grants)

    def sees_folder(self, folder: str) -> bool:
        """Whether received invoices filed in ``folder`` are theirs to see."""
        return self.folders is None or any(within(folder, prefix) for prefix in self.folders)

    def handles_folder(self, folder: str) -> bool:
        """Whether they may decide on received invoices filed in ``folder``, comment on and move them."""
        if self.kind == "key":
            return "decide" in self.scopes and self.sees_folder(folder)
        return self.admin or any(grant.covers(folder) and grant.handle for grant in self.grants)

    @property
    def folders(self) -> tuple[str, ...] | None:
        """Folders to narrow a query by, each with its subfolders, sorted, none inside another. None: everything;
        (): nothing."""
        if self.admin:
            return None
        if self.kind == "key" and not self.scopes & {"incoming", "decide"}:
            return ()
        theirs = {grant.folder for grant in self.grants if grant.kind == "incoming"}
        if "" in theirs or (self.kind == "key" and not theirs):
            return None
        return tuple(sorted(one for one in theirs if not any(one != other and within(one, other) for other in theirs)))


def within(folder: str, prefix: str) -> bool:
    """Whether ``folder`` is ``prefix`` or lies below it; "" is above everything."""
    return not prefix or folder == prefix or folder.startswith(prefix + "/")
