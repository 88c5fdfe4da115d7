"""Batch sessions: opened, filled part by part, handed in by their close. Source: FACTS §5, §15 items 4 to 13.

Until the close nothing is handed in, so a batch that is given up is simply not closed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ksefbuffer.errors import Refused, SessionUnusable, Unavailable
from ksefbuffer.invoice.forms import Form
from ksefbuffer.ksef import reading
from ksefbuffer.ksef.calls import no_page, quoted
from ksefbuffer.ksef.crypto import new_session_key
from ksefbuffer.ksef.failures import PART_MISSING, UNKNOWN_SESSION, UPLOAD_TOO_LATE, WAIT
from ksefbuffer.ksef.packages import Package, Part
from ksefbuffer.ksef.sessions import SessionCalls
from ksefbuffer.ksef.shapes import BatchSession, SessionKey, Unreadable, Upload
from ksefbuffer.ksef.wire import Answer, Call

UPLOAD_LASTS = timedelta(minutes=20)
# A storage shows a part a little after it took it (21205, issue #264); sessions go unknown at random (21173, #801).
CLOSE_PAUSES_S = {PART_MISSING: (2.0, 4.0, 8.0), UNKNOWN_SESSION: (1.0, 2.0, 4.0)}


class BatchCalls(SessionCalls):
    """Handing in packages of invoices."""

    def new_batch_key(self) -> SessionKey:
        """A fresh key for one package; it lives only in memory, so a package does not outlive its process."""
        return new_session_key()

    def open_batch(
        self, form: Form, package: Package, key: SessionKey, *, offline: bool = False, share: float = 1.0
    ) -> BatchSession:
        """Declare a package and learn where its parts go. Limit batchSession. The time of the opening is the
        invoicing date of every invoice in it.

        A public key that KSeF has withdrawn (21470) is fetched anew and the opening tried once more. OutcomeUnknown
        leaves at worst a session that nobody closes, so nothing is handed in. ValueError when ``key`` is not the one
        that the package was encrypted under.
        """
        if key != package.key:
            raise ValueError("the package was encrypted under another key")
        opened_at = self._clock()
        call = Call("open_batch", "POST", "/sessions/batch", "batchSession", share=share)
        more = {"batchFile": _declared(package), "offlineMode": offline}
        return self._open(call, form, key, more, lambda answer: _opened(answer, package, opened_at))

    def upload_part(self, upload: Upload, part: Part) -> None:
        """Send one part as KSeF asked for it, streamed from the disk. Not limited; parts may go in parallel.

        Repeated a few times, as storing a part twice does no harm. Raises Refused when the link does not work (it
        expired): the package needs a new session; OutcomeUnknown, Unreachable, Blocked when it may be tried again
        later; OSError when the part cannot be read; ValueError for an upload of another part.
        """
        if upload.ordinal != part.ordinal:
            raise ValueError("an upload of another part")
        self._wire.put("upload_part", upload.method, upload.url, upload.headers, part.path)

    def close_batch(self, reference: str, *, share: float = 1.0) -> None:
        """Hand the package in; a session that is past closing already counts as done. Limit batchSessionClose.

        After OutcomeUnknown the package may have been handed in: ask ``session``, or close again. Raises Unavailable
        (21205) when KSeF does not see a part yet, Refused (21173) when it keeps saying that it knows no such session,
        SessionUnusable (21208) when the time for sending was over, which cancelled the session.
        """
        call = Call(
            "close_batch", "POST", f"/sessions/batch/{quoted(reference)}/close", "batchSessionClose", share=share
        )
        pauses = {code: iter(pauses_s) for code, pauses_s in CLOSE_PAUSES_S.items()}
        while True:
            try:
                self._authorised(call, no_page)
                return
            except SessionUnusable as fault:
                if fault.code != UPLOAD_TOO_LATE and self._is_closed(reference, fault):
                    return
                raise
            except Refused as fault:
                pause_s = next(pauses.get(fault.code, iter(())), None)
                if pause_s is None:
                    raise _not_yet(fault) if fault.code == PART_MISSING else fault from None
                self._sleep(pause_s)


def _declared(package: Package) -> dict[str, object]:
    return {
        "fileSize": package.plain_size,
        "fileHash": package.plain_sha256_b64,
        "compressionType": package.compression,
        "fileParts": [
            {"ordinalNumber": part.ordinal, "fileSize": part.size, "fileHash": part.sha256_b64}
            for part in package.parts
        ],
    }


def _opened(answer: Answer, package: Package, opened_at: datetime) -> BatchSession:
    whole = reading.mapping(answer.json())
    uploads = sorted(map(reading.upload, reading.items(whole.get("partUploadRequests"))), key=lambda u: u.ordinal)
    if [upload.ordinal for upload in uploads] != [part.ordinal for part in package.parts]:
        raise Unreadable("uploads that are not of these parts")
    return BatchSession(
        reference=reading.text(whole.get("referenceNumber")),
        uploads=tuple(uploads),
        upload_until=opened_at + UPLOAD_LASTS * len(uploads),
        valid_until=reading.optional_moment(whole.get("validUntil")),
    )


def _not_yet(fault: Refused) -> Unavailable:
    return Unavailable(
        "KSeF nie widzi jeszcze wszystkich wysłanych części paczki.",
        action=WAIT,
        operation=fault.operation,
        code=fault.code,
        http_status=fault.http_status,
        details=fault.details,
    )
