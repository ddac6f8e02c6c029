"""What the client package exports."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files

import expresslane_client


def test_exports_are_sorted_and_there() -> None:
    """Every name of the sorted __all__ can be imported."""
    names = expresslane_client.__all__
    assert names == sorted(names)
    assert all(hasattr(expresslane_client, name) for name in names)


def test_every_error_is_exported() -> None:
    """Whoever calls the client can catch each of its errors by name."""
    errors = {name for name in expresslane_client.errors.__all__ if name != "from_rpc_error"}
    assert errors <= set(expresslane_client.__all__)
    assert all(
        issubclass(getattr(expresslane_client, name), expresslane_client.ExpresslaneClientError)
        for name in errors
        if name.endswith("Error")
    )


def test_the_package_is_typed_and_knows_its_version() -> None:
    """Type checkers use the annotations, and __version__ is the distribution's."""
    assert files("expresslane_client").joinpath("py.typed").is_file()
    assert expresslane_client.__version__ == version("expresslane-client")
