"""A defect while a prompt is released costs that prompt alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane.errors import Reason
from expresslane.results import Outcome

from tests.support.virtual_time import virtual_time
from tests.unit.service.world import ScriptedBackend, World, prompt, second

if TYPE_CHECKING:
    import pytest
    from expresslane.batches.ticket import Ticket


@virtual_time
async def test_defect_at_release_hurts_no_other_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt whose release raises fails as INTERNAL, and the others released in the same turn succeed."""
    async with World(ScriptedBackend()) as world:
        release = world.dispatcher.release

        def defective(ticket: Ticket, backend: int, attempt: int) -> None:
            if ticket.prompt.custom_id == "b":
                raise ZeroDivisionError
            release(ticket, backend, attempt)

        monkeypatch.setattr(world.dispatcher, "release", defective)
        results, _ = await world.run([prompt("a"), prompt("b"), prompt("c")])
        by_id = {result.custom_id: result for result in results}
        assert [by_id[one].outcome for one in "abc"] == [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SUCCEEDED]
        assert by_id["b"].error is not None
        assert by_id["b"].error.reason is Reason.INTERNAL


@virtual_time
async def test_defect_at_release_ends_a_fail_fast_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is released in the same turn as a defect of its FAIL_FAST batch is aborted before it reaches a backend."""
    backend = ScriptedBackend(default=second(100))
    async with World(backend) as world:
        release = world.dispatcher.release

        def defective(ticket: Ticket, backend: int, attempt: int) -> None:
            if ticket.prompt.custom_id == "b":
                raise ZeroDivisionError
            release(ticket, backend, attempt)

        monkeypatch.setattr(world.dispatcher, "release", defective)
        results, summary = await world.run([prompt(one) for one in "abcd"], fail_fast=True)
        outcomes = {result.custom_id: result.outcome for result in results}
        assert outcomes == dict.fromkeys("acd", Outcome.CANCELLED) | {"b": Outcome.FAILED}
        assert summary.wall_ns == 0
    assert backend.calls == []
