"""A CollectBatch call that reads like a GenerateBatch call, so that one machinery serves both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc import aio

from expresslane_client.v1 import inference_pb2

if TYPE_CHECKING:
    import grpc

__all__ = ["CollectCall"]

_METHOD = "/expresslane.v1.Inference/CollectBatch"
_ACCEPTED = "x-expresslane-accepted"


class CollectCall:
    """The response as two messages: that the batch is accepted, which the service says ahead of it, then all results.

    To gRPC it is a call with a stream of responses: of any other it tells nothing before its end.
    """

    def __init__(
        self,
        channel: aio.Channel,
        request: inference_pb2.GenerateBatchRequest,
        *,
        timeout: float | None,
        metadata: Any,
    ) -> None:
        method = channel.unary_stream(
            _METHOD,
            request_serializer=inference_pb2.CollectBatchRequest.SerializeToString,
            response_deserializer=inference_pb2.CollectBatchResponse.FromString,
        )
        asked = inference_pb2.CollectBatchRequest(prompts=request.prompts, config=request.config)
        self._call: aio.UnaryStreamCall[Any, Any] = method(asked, timeout=timeout, metadata=metadata)
        self._told = False

    async def read(self) -> Any:
        """The next message, or aio.EOF. Raises aio.AioRpcError."""
        if not self._told:
            self._told = True
            if _ACCEPTED in dict(await self._call.initial_metadata()):
                event = inference_pb2.Event(accepted=inference_pb2.Accepted())
                return inference_pb2.GenerateBatchResponse(events=[event])
        response: Any = await self._call.read()
        if response is aio.EOF:
            return response
        return inference_pb2.GenerateBatchResponse(results=response.results, summary=response.summary)

    def cancel(self) -> bool:
        """End it."""
        return self._call.cancel()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._call.done()

    async def code(self) -> grpc.StatusCode:
        """What it has ended in."""
        return await self._call.code()
