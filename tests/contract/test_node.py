"""The contract as an independent gRPC stack sees it: stubs from proto/ alone, in Node.js."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from expresslane.settings import BackendSettings, SimulatedSettings

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend

ROOT = Path(__file__).resolve().parents[2]
IDS = [f"node-{number}" for number in range(12)]

FAST = SimulatedSettings(prefill_tokens_per_s=100_000, step_s=0.001)


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What the Node.js client saw of a service in this process."""

    async def run() -> dict[str, Any]:
        simulated = BackendSettings(kind="simulated", simulated=FAST)
        async with (
            FakeBackend() as fake,
            Service(
                simulated=simulated, fake=backend(fake.url), default_model="simulated", retry_base_s=0.001
            ) as service,
        ):
            fake.script(Script(status=503, body=b"{}"))
            node = await asyncio.create_subprocess_exec(
                "node",
                str(Path(__file__).parent / "node/client.mjs"),
                service.address,
                str(ROOT / "proto"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await node.communicate()
            assert node.returncode == 0, err.decode()
            answer: dict[str, Any] = json.loads(out)
            return answer

    return asyncio.run(run())


def results(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All results in the order in which they came."""
    return [result for message in messages for result in message["results"]]


def test_batch_ends_each_prompt_once(seen: dict[str, Any]) -> None:
    """A03, A04: every custom_id comes back exactly once, then the summary, in the last message only."""
    assert sorted(result["custom_id"] for result in results(seen["batch"])) == sorted(IDS)
    assert all(result["outcome"] == "OUTCOME_SUCCEEDED" for result in results(seen["batch"]))
    assert [bool(message["summary"]) for message in seen["batch"]] == [False] * (len(seen["batch"]) - 1) + [True]
    summary = seen["batch"][-1]["summary"]
    assert (summary["request_id"], summary["total"], summary["succeeded"]) == ("from-node", 12, 12)
    assert summary["state"] == "BATCH_STATE_COMPLETED"


def test_simulated_answers_are_stamped(seen: dict[str, Any]) -> None:
    """G22: every result of a simulated backend, and the summary, say so."""
    assert all(result["simulated"] for result in results(seen["batch"]))
    assert seen["batch"][-1]["summary"]["simulated"]


def test_in_order_delivery_and_gather(seen: dict[str, Any]) -> None:
    """A02: IN_ORDER and CollectBatch give results in the order of the request."""
    assert [result["custom_id"] for result in results(seen["inOrder"])] == IDS
    assert [result["custom_id"] for result in seen["collected"]["results"]] == IDS


def test_single_prompt_streams_its_text(seen: dict[str, Any]) -> None:
    """Generate: the deltas add up to the text of the result, which comes last."""
    text = "".join(delta["text"] for message in seen["single"] for delta in message["deltas"])
    assert text
    assert text == seen["single"][-1]["result"]["choices"][0]["text"]


def test_session_acknowledges_and_ends(seen: dict[str, Any]) -> None:
    """StreamPrompts: credits first, each prompt acknowledged and answered once, the summary last."""
    messages = seen["session"]
    assert messages[0]["credits"] > 0
    assert sorted(custom_id for message in messages for custom_id in message["accepted"]) == IDS[:3]
    assert sorted(result["custom_id"] for result in results(messages)) == IDS[:3]
    assert messages[-1]["summary"]["total"] == 3


def test_unknown_model_hurts_no_other_prompt(seen: dict[str, Any]) -> None:
    """A prompt for a model nobody serves fails alone, with NOT_FOUND and a hint."""
    by_id = {result["custom_id"]: result for result in results(seen["unknownModel"])}
    assert by_id["b"]["outcome"] == "OUTCOME_SUCCEEDED"
    error = by_id["a"]["error"]
    assert (error["code"], error["reason"], error["field"]) == (5, "UNKNOWN_MODEL", "model")
    assert "simulated" in error["message"]


def test_a_success_tells_of_the_attempts_before_it(seen: dict[str, Any]) -> None:
    """A21: a prompt that succeeded at its second attempt says what the first one ended in."""
    (again,) = results(seen["again"])
    assert (again["outcome"], again["attempts"], again["error"]) == ("OUTCOME_SUCCEEDED", 2, None)
    (failed,) = again["history"]
    told = (failed["backend"], failed["reason"], failed["http_status"])
    assert told == ("backends/fake", "BACKEND_OVERLOADED", 503)
    assert all(result["history"] == [] for result in results(seen["batch"]))


def test_a_job_is_watched_twice(seen: dict[str, Any]) -> None:
    """A05: a job is submitted, watched whole and from a position on, and polled when it has ended."""
    assert (seen["job"]["name"], seen["job"]["total"]) == ("jobs/from-node", 12)
    whole = results(seen["watched"])
    assert sorted(result["custom_id"] for result in whole) == sorted(IDS)
    assert results(seen["watchedOn"]) == whole[9:]
    last = seen["watchedOn"][-1]
    assert (last["position"], last["summary"]["succeeded"]) == (12, 12)
    assert seen["jobEnded"]["state"] == "JOB_STATE_COMPLETED"


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        ("empty", 3, "EMPTY_BATCH"),
        ("duplicate", 3, "DUPLICATE_CUSTOM_ID"),
        ("noBackend", 5, "UNKNOWN_BACKEND"),
        ("jobTwice", 6, "JOB_EXISTS"),
        ("noJob", 5, "UNKNOWN_JOB"),
        ("drained", 14, "DRAINING"),
    ],
)
def test_refusals_carry_code_and_reason(seen: dict[str, Any], call: str, code: int, reason: str) -> None:
    """A refused call ends with its status code, and an ErrorInfo with reason and domain in the trailers."""
    assert seen[call]["code"] == code
    assert reason in seen[call]["details"]
    assert "expresslane.dev" in seen[call]["details"]
    assert len(seen[call]["details"]) < 4096


def test_admin_shows_and_changes_backends(seen: dict[str, Any]) -> None:
    """T07, T08: backends are listed, one can be had by name, and its cap changes at once."""
    assert [backend["name"] for backend in seen["backends"]["backends"]] == ["backends/fake", "backends/simulated"]
    assert seen["backend"]["kind"] == "simulated"
    assert (seen["updated"]["cap"], seen["updated"]["effective_cap"]) == (3, 3)
    snapshot = seen["snapshot"]
    outcomes = sum(snapshot[name] for name in ("succeeded", "failed", "cancelled", "expired", "queued", "in_flight"))
    assert snapshot["submitted"] == outcomes > 0
