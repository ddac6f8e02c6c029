"""What a service holds at one moment, by the kernel, by itself and by its backends: all of it must come back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.processes import rss_bytes

if TYPE_CHECKING:
    from expresslane_client import Snapshot

__all__ = ["Levels"]

RSS_SHARE = 0.05
"""So much more resident memory is no leak: the allocator's arenas go back to the system whole or not at all."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Counts, and resident memory in bytes."""

    sessions: int
    """Open calls, by the service."""
    tickets: int
    """Prompts that wait or run, by the service."""
    unaccounted: int
    """Prompts accepted less those in any state: a ticket that was lost, or ended twice."""
    slots: int
    """Places of caps and lanes in use, by the service."""
    sockets: int
    """Open sockets of the service, by the kernel."""
    files: int
    """All open descriptors of the service, by the kernel."""
    threads: int
    """Threads of the service, by the kernel."""
    connections: int
    """Open connections, by the backends."""
    rss_bytes: int
    """Resident memory of the service, by the kernel."""

    @classmethod
    def of(cls, pid: int, snapshot: Snapshot, connections: int) -> Levels:
        """Now."""
        links = []
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                links.append(str(entry.readlink()))
            except FileNotFoundError:
                continue
        states = (snapshot.succeeded, snapshot.failed, snapshot.cancelled, snapshot.expired)
        return cls(
            sessions=snapshot.open_batches,
            tickets=snapshot.queued + snapshot.in_flight,
            unaccounted=abs(snapshot.submitted - sum(states) - snapshot.queued - snapshot.in_flight),
            slots=sum(
                one.in_flight
                + one.long_in_prefill
                + one.short_tokens_in_prefill
                + sum(model.in_flight for model in one.models)
                for one in snapshot.backends
            ),
            sockets=sum(link.startswith("socket:") for link in links),
            files=len(links),
            threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
            connections=connections,
            rss_bytes=rss_bytes(pid),
        )

    def without_connections(self, *, rss_bytes: int) -> Levels:
        """This with so much memory, and as if all connections to backends were closed."""
        less = self.connections
        return replace(self, sockets=self.sockets - less, files=self.files - less, connections=0, rss_bytes=rss_bytes)

    def above(self, before: Levels) -> list[str]:
        """The names of what is above the level before; of memory, above it by more than RSS_SHARE."""
        old, new = asdict(before), asdict(self)
        old["rss_bytes"] *= 1 + RSS_SHARE
        return [name for name, value in new.items() if value > old[name]]

    def values(self) -> dict[str, int]:
        """As JSON values."""
        return asdict(self)
