"""The whole service in process, on a free loopback port, with a client: for integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from expresslane.app import App
from expresslane.settings import BackendSettings, Settings
from expresslane.telemetry.setup import Telemetry
from expresslane_client import Client

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["Service", "backend", "simulated_service"]


def backend(url: str, kind: str = "openai", **options: Any) -> BackendSettings:
    """Settings of one backend at `url`, serving the model `m` unless told otherwise."""
    return BackendSettings.model_validate({"kind": kind, "url": url, "models": (("m", "m"),), **options})


def simulated_service(**options: Any) -> Service:
    """The whole service on a simulated backend that answers at once."""
    instant = {"kind": "simulated", "simulated": {"step_s": 0, "output_tokens": 1}}
    return Service(simulated=BackendSettings.model_validate(instant), **options)


class Service:
    """`async with Service(fake=backend(fake.url)) as service:` then `service.client`, `service.app`, `service.address`.

    Keyword arguments that are BackendSettings are backends; all others are settings. Extra environment for telemetry
    (OTEL_*) goes into `environ`.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, /, **options: Any) -> None:
        backends = {name: value for name, value in options.items() if isinstance(value, BackendSettings)}
        others = {name: value for name, value in options.items() if name not in backends}
        self.settings = Settings.model_validate({"listen": "127.0.0.1:0", "backends": backends, **others})
        self._telemetry = Telemetry.start("test", environ or {})
        self.address = ""
        self.app: App
        self.client: Client

    async def __aenter__(self) -> Self:
        self.app = App(self.settings, self._telemetry)
        self.address = await self.app.start()
        self.client = Client(self.address)
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, trace)
        await self.app.stop(0)
