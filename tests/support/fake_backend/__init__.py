"""A scripted HTTP server on loopback that speaks the dialects of model servers, and records what it saw.

    async with FakeBackend() as fake:
        fake.script(Script(status=503), Script(text="second try"))  # the next two generations
        fake.on(lambda request: Script(pieces=2))                   # every generation after those
        ...                                                         # talk to fake.url
        assert fake.peak == 1
        assert fake.requests[0].json["model"] == "fake-model"

It never sleeps: a script waits on `asyncio.Event` gates that the test sets. What nothing is scripted for is answered
with `echo_of(prompt)`, so that an answer shows whose it is.
"""

from tests.support.fake_backend.echo import echo_of
from tests.support.fake_backend.request import SeenRequest
from tests.support.fake_backend.script import CUT_BEFORE_HEADERS, Script
from tests.support.fake_backend.server import FakeBackend

__all__ = ["CUT_BEFORE_HEADERS", "FakeBackend", "Script", "SeenRequest", "echo_of"]
