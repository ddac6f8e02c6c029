"""What tests of clients that go on after a loss share: how soon they do, what they send, what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expresslane_client import Prompt, Resume

if TYPE_CHECKING:
    from tests.support.stub_server import StubService

__all__ = ["SOON", "asked", "numbered"]

SOON = Resume(time_s=30.0, attempts=20, pause_s=0.01, pause_max_s=0.05)


def numbered(count: int) -> list[Prompt]:
    """That many prompts."""
    return [Prompt(f"p{number}", f"text {number}") for number in range(count)]


def asked(service: StubService) -> list[list[str]]:
    """custom_ids of each batch that was asked for."""
    return [[one.custom_id for one in request.prompts] for request in service.requests]  # type: ignore[attr-defined]
