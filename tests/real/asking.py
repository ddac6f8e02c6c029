"""How the tests ask: prompts of exact sizes that share no beginning, the engine itself, the service in front of it."""

from typing import Any

import aiohttp
from expresslane.settings import BackendSettings
from expresslane_client import Prompt

from .llama_server import LlamaServer

__all__ = ["ask", "engine_backend", "prompt", "text_of", "text_of_size"]

OUTPUT_TOKENS = 12
Answer = dict[str, Any]


def engine_backend(url: str, kind: str = "llamacpp", **options: Any) -> BackendSettings:
    """Settings of a backend that counts as the engine does, one token a byte, and finds out the rest by itself."""
    return BackendSettings.model_validate({"kind": kind, "url": url, "bytes_per_token": 1.0, **options})


def text_of_size(name: str, size: int) -> str:
    """Text of exactly `size` bytes that begins with its own name, so that the engine has nothing of it cached."""
    return f"{name}: ".ljust(size, "abcdefghijklmnopqrstuvwxyz"[hash_of(name) % 26])[:size]


def hash_of(name: str) -> int:
    """A small number from a name, the same in every process."""
    return sum(position * ord(letter) for position, letter in enumerate(name, 1))


def prompt(custom_id: str, size: int, *, salt: str = "", output_tokens: int = OUTPUT_TOKENS, **options: Any) -> Prompt:
    """A prompt of `size` tokens whose answer is the same every time."""
    text = text_of_size(f"{salt}{custom_id}", size)
    return Prompt(custom_id, text, max_tokens=output_tokens, temperature=0, **options)


async def ask(server: LlamaServer, path: str = "/v1/chat/completions", **body: Any) -> Answer:
    """Ask the engine directly, on a connection of its own; `text` stands for a single user message."""
    if "text" in body:
        body["messages"] = [{"role": "user", "content": body.pop("text")}]
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(server.url + path, json={"max_tokens": OUTPUT_TOKENS, "temperature": 0, **body}) as response,
    ):
        answer: Answer = await response.json()
        return answer


def text_of(answer: Answer) -> str:
    """The text of the only choice, of a chat or of a raw completion."""
    choice = answer["choices"][0]
    text: str = choice["message"]["content"] if "message" in choice else choice["text"]
    return text
