"""TLS connections that bring no call: all that can be known here of handshakes that fail inside gRPC.

gRPC asks for the certificates as each connection begins and does not say how its handshake ended. Whoever gets through
makes a call, nearly always at once, so connections without one are counted: callers without a certificate or with a
wrong one, callers who do not trust ours, clear text, scans and probes.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Handshakes"]

FIRST_CALL_S = 10.0
"""Within which a connection brings its first call, or counts as one without."""
LOOK_EVERY_S = 5.0
LINE_EVERY_S = 60.0
QUIET_S = 60.0
"""A peer that has been silent so long may be another connection from the same port by now."""
PENDING_MAX = 65_536
PEERS_MAX = 65_536

log = structlog.get_logger(__name__)


class Handshakes:
    """Counts connections that began, against first calls. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: deque[float] = deque(maxlen=PENDING_MAX)
        """Those whose call has not come; with more than fit, the oldest go uncounted."""
        self._peers: OrderedDict[str, float] = OrderedDict()
        """When each last made a call, the latest at the end."""
        self._told_s = -LINE_EVERY_S
        self._untold = 0

    def begun(self) -> None:
        """A connection begins; in any thread."""
        self._begun.append(self._clock())

    def called(self, peer: str) -> None:
        """A call came from there; on the event loop, like all that follows."""
        now_s = self._clock()
        before_s = self._peers.get(peer)
        self._peers[peer] = now_s
        self._peers.move_to_end(peer)
        if before_s is not None and now_s - before_s < QUIET_S:
            return
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        if self._begun and now_s - self._begun[-1] < FIRST_CALL_S:
            self._begun.pop()

    def without_call(self) -> int:
        """How many connections are to be told of now: of more than 10 s ago, and once a minute."""
        now_s = self._clock()
        while self._begun and now_s - self._begun[0] >= FIRST_CALL_S:
            self._begun.popleft()
            self._untold += 1
        while self._peers and now_s - next(iter(self._peers.values())) >= QUIET_S:
            self._peers.popitem(last=False)
        if not self._untold or now_s - self._told_s < LINE_EVERY_S:
            return 0
        untold, self._untold, self._told_s = self._untold, 0, now_s
        return untold

    async def run(self) -> None:
        """Log until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if connections := self.without_call():
                log.warning(
                    "TLS connections without a call: a wrong or no certificate, clear text, or a probe",
                    connections=connections,
                    hint="GRPC_VERBOSITY=info writes why each handshake failed to standard error",
                )
