"""Whose call it is: metadata while nothing authenticates, and what authenticates goes first."""

from __future__ import annotations

import pytest
from expresslane.errors import Reason, RefusedError
from expresslane.identity import TENANT_METADATA, authenticated_as, forget, tenant_of


class FakeContext:
    """A call with metadata."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """As gRPC gives it."""
        return self._metadata


def test_a_call_that_names_no_tenant_is_the_defaults() -> None:
    """Other metadata says nothing about the tenant."""
    assert tenant_of(FakeContext()) == "default"
    assert tenant_of(FakeContext(("user-agent", "x"))) == "default"


def test_the_metadata_names_the_tenant() -> None:
    """While nothing authenticates callers they are believed."""
    assert tenant_of(FakeContext((TENANT_METADATA, "acme"))) == "acme"


@pytest.mark.parametrize("name", ["", "Acme", "a b", "-a", "a" * 64, "ä", b"a\xff"])
def test_a_name_that_no_tenant_can_have_is_refused(name: str | bytes) -> None:
    """The refusal names the metadata and the rule."""
    with pytest.raises(RefusedError, match="1 to 63 of a-z, 0-9 and -") as raised:
        tenant_of(FakeContext((TENANT_METADATA, name)))
    assert raised.value.reason is Reason.INVALID_FIELD


def test_authentication_goes_before_metadata() -> None:
    """Who is known is not asked, and the next call is not taken for the same tenant's."""
    token = authenticated_as("acme")
    assert tenant_of(FakeContext((TENANT_METADATA, "other"))) == "acme"
    forget(token)
    assert tenant_of(FakeContext()) == "default"
