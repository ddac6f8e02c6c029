"""Batches whose callers may come back (on_disconnect KEEP), each under its tenant and request_id."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from expresslane.batches.keeper import Keeper, Kept
from expresslane.errors import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from expresslane.batches.batch import Batch, BatchOptions
    from expresslane.batches.held import Bounds
    from expresslane.batches.log import Log
    from expresslane.prompts import Prompt
    from expresslane.tenants import Tenant

__all__ = ["KeptBatch", "KeptBatches"]

log = structlog.get_logger(__name__)


class KeptBatch(Kept):
    """A batch that its caller may come back to. `digest`: of what was asked for (servicers/payload.py)."""

    def __init__(self, batch: Batch, log: Log, digest: bytes) -> None:
        super().__init__((batch.options.tenant, batch.options.request_id), batch, log)
        self.digest = digest


class KeptBatches(Keeper[KeptBatch]):
    """Keeps each batch while a call is attached to it and `keep_s` longer, whether it has ended or not.

    One whose results a call has read to the end is kept too, for that call may have lost them on the way; but it goes
    first when room is needed.
    """

    noun = "batches"
    setting = "kept"
    full_reason = Reason.KEPT_FULL
    way_out = "come back later, or send this one without KEEP"

    def find(self, tenant: str, request_id: str) -> KeptBatch | None:
        """The batch that is kept under this key, if there is one."""
        return self._entries.get((tenant, request_id))

    def cancel_named(self, tenant: str, request_id: str) -> KeptBatch:
        """Cancel what is unfinished of the batch under this key, which stays for who reads it, but goes first.

        Raises RefusedError (UNKNOWN_REQUEST).
        """
        kept = self.find(tenant, request_id)
        if kept is None:
            message = f"no batch is kept under the request_id {request_id[:64]!r}, or no longer"
            raise RefusedError(Reason.UNKNOWN_REQUEST, message)
        self.cancel(kept)
        kept.spent = True
        return kept

    def attach(self, kept: KeptBatch, digest: bytes) -> None:
        """Check that a call may attach. Raises RefusedError (REQUEST_EXISTS)."""
        if kept.digest != digest:
            message = f"other prompts or failure rules are kept under the request_id {kept.batch.options.request_id!r}"
            raise RefusedError(Reason.REQUEST_EXISTS, message)

    def create(
        self, options: BatchOptions, prompts: Sequence[tuple[Prompt, int]], digest: bytes, *, method: str
    ) -> KeptBatch:
        """Accept a batch under a key that is free. Raises RefusedError (KEPT_FULL, and those of the intake)."""
        key = (options.tenant, options.request_id)
        return self._keep(key, options, prompts, method=method, make=lambda batch, log: KeptBatch(batch, log, digest))

    @contextmanager
    def attached(self, kept: KeptBatch) -> Iterator[None]:
        """While a call is attached, the batch's time does not run; it begins anew when the last one leaves."""
        self._keep_on(kept)
        try:
            with self.reading(kept):
                yield
        finally:
            if not kept.readers:
                self._expire_in(kept, kept.batch.options.keep_s, self._wall_clock())

    def close(self) -> None:
        """Forget everything, and say so where somebody may have wanted it."""
        unread = sum(not kept.spent for kept in self._entries.values())
        if unread:
            log.warning("kept batches forgotten that no call has read to the end", batches=unread)
        super().close()

    def _bounds(self, tenant: Tenant) -> Bounds:
        return tenant.kept_bounds

    def _ended(self, entry: KeptBatch) -> None:
        """Its time depends on its readers alone."""

    def _expire(self, entry: KeptBatch) -> None:
        if entry.batch.unfinished:
            log.warning(
                "kept batch cancelled: no call came back to it",
                request_id=entry.batch.options.request_id,
                unfinished=entry.batch.unfinished,
            )
        super()._expire(entry)
