"""expresslane: batches of prompts in over gRPC, ordered by length under caps, streamed back as they finish."""

from expresslane._scheduler import __version__

__all__ = ["__version__"]
