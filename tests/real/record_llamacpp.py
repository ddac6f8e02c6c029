"""Records real llama-server traffic into tests/fixtures/llamacpp: python -m tests.real.record_llamacpp (repo root).

Bodies are kept byte for byte, one file for each exchange; exchanges.json says what was asked and how the server
answered. Only what differs from run to run by nature (ids, times, timings) will differ when it is run again.
"""

import asyncio
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from .engines import LLAMA_CPP_PYTHON
from .llama_server import LlamaServer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "llamacpp"
HEADERS_KEPT = ("Content-Type", "Transfer-Encoding", "Keep-Alive", "Connection")
ENGINE_ARGS = ("--sse-ping-interval", "1")
CONTEXT_TOKENS = 6_144
PROMPT = "Hello from lane 7"
SLOTS = 2


@dataclass(frozen=True)
class Exchange:
    """One request whose response is recorded under `name`; a `payload` makes it a POST, str is sent as it is."""

    name: str
    path: str
    payload: Any = None


def chat(text: str = PROMPT, **options: object) -> dict[str, object]:
    """A chat request for a short answer that is the same every time."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0, **options}


USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
OVERFLOW = "x" * CONTEXT_TOKENS
SCHEMA = {"type": "json_schema", "json_schema": {"schema": {"type": "no-such-type"}}}
EXCHANGES = (
    Exchange("health.json", "/health"),
    Exchange("models.json", "/v1/models"),
    Exchange("slots_idle.json", "/slots"),
    Exchange("tokenize.json", "/tokenize", {"content": "Hi \u00e9!", "add_special": True}),
    Exchange("chat.json", "/v1/chat/completions", chat()),
    Exchange("chat_cached.json", "/v1/chat/completions", chat()),
    Exchange("chat_usage.sse", "/v1/chat/completions", chat(**USAGE)),
    Exchange("chat_no_usage.sse", "/v1/chat/completions", chat(stream=True)),
    Exchange("chat_stop.sse", "/v1/chat/completions", chat(**USAGE, stop=["7r"], max_tokens=40)),
    Exchange("chat_logprobs.json", "/v1/chat/completions", chat(max_tokens=2, logprobs=True, top_logprobs=2)),
    Exchange("chat_progress.sse", "/v1/chat/completions", chat("p" * 900, **USAGE, return_progress=True)),
    Exchange("chat_pings.sse", "/v1/chat/completions", chat("q" * 5_000, stream=True)),
    Exchange("completions.json", "/v1/completions", {"prompt": "Hello", "max_tokens": 4, "temperature": 0}),
    Exchange("completions.sse", "/v1/completions", {"prompt": "Hello", "max_tokens": 4, "temperature": 0, **USAGE}),
    Exchange("native.json", "/completion", {"prompt": "Hello", "n_predict": 4, "temperature": 0}),
    Exchange("native.sse", "/completion", {"prompt": "Hello", "n_predict": 4, "temperature": 0, "stream": True}),
    Exchange("error_context_overflow.json", "/v1/chat/completions", chat(OVERFLOW)),
    Exchange("error_context_overflow_stream.json", "/v1/chat/completions", chat(OVERFLOW, stream=True)),
    Exchange("error_bad_json.json", "/v1/chat/completions", "{not json"),
    Exchange("error_no_messages.json", "/v1/chat/completions", {"max_tokens": 4}),
    Exchange("error_bad_type.json", "/v1/chat/completions", chat(temperature="hot")),
    Exchange("error_bad_schema.json", "/v1/chat/completions", chat(response_format=SCHEMA)),
    Exchange("error_n_too_many.json", "/v1/chat/completions", chat(n=3)),
    Exchange("error_no_such_path.json", "/v1/nothing", {}),
    Exchange("unknown_model.json", "/v1/chat/completions", chat(model="other")),
)


async def record(session: aiohttp.ClientSession, url: str, exchange: Exchange) -> dict[str, Any]:
    """Send one exchange, write its body to its file and return its entry for the index."""
    if exchange.payload is None:
        call = session.get(url + exchange.path)
    else:
        raw = exchange.payload if isinstance(exchange.payload, str) else json.dumps(exchange.payload)
        call = session.post(url + exchange.path, data=raw, headers={"Content-Type": "application/json"})
    async with call as response:
        body = await response.read()
    (FIXTURES / exchange.name).write_bytes(body)
    headers = {name: response.headers[name] for name in HEADERS_KEPT if name in response.headers}
    asked = (
        exchange.payload
        if len(str(exchange.payload)) < 1_000
        else f"{str(exchange.payload)[:80]}... ({len(str(exchange.payload))} characters)"
    )
    return {"path": exchange.path, "request": asked, "status": response.status, "headers": headers}


async def record_all() -> None:
    """Record every exchange with one engine, in order, so that cached prompts come out the same again."""
    FIXTURES.mkdir(parents=True, exist_ok=True)
    connector = aiohttp.TCPConnector(force_close=True)
    with tempfile.TemporaryDirectory() as folder:
        engine = LlamaServer(Path(folder), slots=SLOTS, context_tokens=CONTEXT_TOKENS * SLOTS, extra_args=ENGINE_ARGS)
        async with engine, aiohttp.ClientSession(connector=connector) as session:
            index = {exchange.name: await record(session, engine.url, exchange) for exchange in EXCHANGES}
            props = await engine.props()
    props["model_path"] = "tiny.gguf"
    (FIXTURES / "props.json").write_text(json.dumps(props, indent=1) + "\n")
    about = {"engine": f"llama-server of {LLAMA_CPP_PYTHON}", "build_info": props["build_info"], "exchanges": index}
    (FIXTURES / "exchanges.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(record_all())
