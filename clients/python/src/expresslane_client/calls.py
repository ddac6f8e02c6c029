"""One server stream, read message by message: its errors are ours, and a read that fails leaves no call behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

from grpc import aio

from expresslane_client.channels import translated_errors

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from expresslane_client.collecting import CollectCall

__all__ = ["Readable", "StreamCall"]

Response = TypeVar("Response", bound="Message")
Readable: TypeAlias = "aio.UnaryStreamCall[Any, Any] | CollectCall"


class StreamCall(Generic[Response]):
    """A call with one request and a stream of responses."""

    def __init__(self, call: Readable) -> None:
        self._call = call
        self.cancelled = False
        """Whether cancel() ended it."""

    async def read(self) -> Response | None:
        """The next message, None at the end and after cancel(). Raises the CallErrors of errors.py."""
        if self.cancelled:
            return None
        try:
            with translated_errors():
                response = await self._call.read()
        except BaseException:
            # gRPC does so too, but not when the task is cancelled just as the request has been sent.
            self.abandon()
            if self.cancelled:
                return None
            raise
        return None if response is aio.EOF else cast("Response", response)

    def abandon(self) -> None:
        """End the call without waiting for that."""
        self._call.cancel()

    async def cancel(self) -> None:
        """End the call, unless it has ended by itself."""
        if not self._call.done():
            self.cancelled = True
            self._call.cancel()
            await self._call.code()
