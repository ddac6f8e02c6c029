"""An adapter opened against the fake, with the one question that most tests ask."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from expresslane.backends.base import Answer, Call
from expresslane.backends.factory import make_backend
from expresslane.errors import BackendError
from expresslane.prompts import Prompt, RequestOptions
from expresslane.settings import BackendSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from expresslane.backends.base import Backend
    from expresslane.prompts import Chat

__all__ = ["Asker", "opened", "until"]

MAX_ANSWER_BYTES = 1 << 20


class Asker:
    """Asks one adapter."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.firsts: list[Answer] = []

    async def ask(self, content: str | Chat = "hi", *, raw: bool = False, **options: Any) -> Answer:
        """The answer to one prompt; `options` are those of RequestOptions."""
        answer = self.answer()
        await self.backend.generate(self.call(content, raw=raw, **options), answer)
        return answer

    async def fail(self, content: str | Chat = "hi", *, raw: bool = False, **options: Any) -> BackendError:
        """The error that one prompt ends in."""
        with pytest.raises(BackendError) as raised:
            await self.ask(content, raw=raw, **options)
        return raised.value

    def answer(self) -> Answer:
        """An answer that notes its first token in `firsts`."""
        answer = Answer(lambda: self.firsts.append(answer))
        return answer

    @staticmethod
    def call(content: str | Chat = "hi", *, raw: bool = False, **options: Any) -> Call:
        """One attempt at a prompt."""
        return Call(Prompt("p", "m", content, raw=raw, options=RequestOptions(**options)), "fake-model")


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until the condition holds; the test's own timeout bounds it."""
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(
    url: str, kind: Any = "openai", *, max_answer_bytes: int = MAX_ANSWER_BYTES, **settings: Any
) -> AsyncIterator[Asker]:
    """An adapter of that kind in front of `url`, open; `settings` are more of BackendSettings."""
    backend = make_backend("b", BackendSettings(kind=kind, url=url, **settings), max_answer_bytes=max_answer_bytes)
    await backend.start()
    try:
        yield Asker(backend)
    finally:
        await backend.close()
