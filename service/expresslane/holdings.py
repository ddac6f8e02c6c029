"""What is held in memory for callers, beside prompts that wait or run: of one tenant, of all, and told by tenant."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from expresslane.interceptors.open_calls import OpenCalls
    from expresslane.jobs import JobStore
    from expresslane.kept_batches import KeptBatches
    from expresslane.tenants import Tenant, Tenants

__all__ = ["OTHERS", "Holdings", "Holds"]

OTHERS = "_others"
"""Stands for all tenants that are not told by name; no tenant can be called so."""
_NAMED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Holdings:
    """So many calls, sessions among them, results, jobs and batches, and what results take in bytes."""

    open_calls: int
    unread_results: int
    unread_bytes: int
    jobs: int
    job_result_bytes: int
    kept_batches: int
    kept_result_bytes: int
    open_sessions: int

    def without(self, parts: Sequence[Holdings]) -> Holdings:
        """What is left besides these parts of it; no number below 0, should they have been read at another moment."""

        def left(name: str) -> int:
            rest: int = getattr(self, name) - sum(getattr(part, name) for part in parts)
            return max(0, rest)

        return Holdings(**{field.name: left(field.name) for field in fields(self)})


class Holds:
    """Looks up what is held where it is counted."""

    def __init__(
        self, tenants: Tenants, calls: OpenCalls, sessions: OpenCalls, jobs: JobStore, kept: KeptBatches
    ) -> None:
        self._tenants = tenants
        self._calls = calls
        self._sessions = sessions
        self._jobs = jobs
        self._kept = kept

    def of(self, tenant: Tenant | None) -> Holdings:
        """What is held for a tenant, or for all."""
        name = None if tenant is None else tenant.name
        unread = self._tenants.unread if tenant is None else tenant.unread
        jobs, kept = self._jobs.kept(name), self._kept.kept(name)
        return Holdings(
            open_calls=self._calls.total if name is None else self._calls.of(name),
            unread_results=unread.results,
            unread_bytes=unread.bytes,
            jobs=jobs.count,
            job_result_bytes=jobs.bytes,
            kept_batches=kept.count,
            kept_result_bytes=kept.bytes,
            open_sessions=self._sessions.total if name is None else self._sessions.of(name),
        )

    def by_tenant(self) -> Iterator[tuple[str, Holdings]]:
        """What is held for each tenant that has settings of its own, and for all others together.

        Other names are what callers say, so they must not become labels. May be called from another thread.
        """
        named = [(one.name, self.of(one)) for one in self._tenants.configured(_NAMED_MAX)]
        yield from named
        yield OTHERS, self.of(None).without([held for _, held in named])
