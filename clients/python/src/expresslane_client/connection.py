"""The connection to one service: its channel, opened at the first use, and the metadata of every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from expresslane_client.channels import MESSAGE_BYTES_MAX, Metadata, as_metadata, open_channel, with_trace_context
from expresslane_client.credentials import Tls, key_metadata
from expresslane_client.targets import check_target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import grpc
    from grpc import aio

__all__ = ["Connection"]

TENANT_METADATA = "x-expresslane-tenant"


class Connection:
    """What the calls of a client share. Its arguments are explained at Client."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        metadata: Mapping[str, str] | Metadata = (),
        api_key: str = "",
        tls: Tls | bool | None = None,
        tenant: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        self.target = target.strip()  # it may come from a file, with a line end
        check_target(self.target)
        claim = [(TENANT_METADATA, tenant)] if tenant else []
        self._metadata = (*as_metadata(metadata), *claim, *key_metadata(api_key))
        known = Tls() if tls is True else tls or None
        self._credentials = known.credentials() if known is not None else credentials
        self._server_name = known.server_name if known is not None else ""
        self._message_bytes_max = message_bytes_max
        self._open: aio.Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        if self._open is not None:
            channel, self._open = self._open, None
            await channel.close()

    @property
    def channel(self) -> aio.Channel:
        """The gRPC channel, opened at the first use."""
        if self._open is None:
            self._open = open_channel(self.target, self._credentials, self._message_bytes_max, self._server_name)
        return self._open

    def _call_metadata(self) -> Metadata:
        return with_trace_context(self._metadata)
