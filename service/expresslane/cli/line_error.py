"""What can be wrong with a line of a prompts file, with an example of a line that would be right."""

from __future__ import annotations

__all__ = ["CHAT_EXAMPLE", "EXAMPLE", "OPENAI_EXAMPLE", "RAW_EXAMPLE", "LineError", "kind"]

EXAMPLE = '{"custom_id": "a", "prompt": "Why is the sky blue?"}'
RAW_EXAMPLE = '{"custom_id": "a", "raw_prompt": "The sky is"}'
CHAT_EXAMPLE = '{"custom_id": "a", "messages": [{"role": "user", "content": "Hi"}]}'
OPENAI_EXAMPLE = (
    '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", '
    '"body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}}'
)


class LineError(Exception):
    """A line that cannot be sent: the field at fault (or empty), the column (or 0), the reason, and a right line."""

    def __init__(self, message: str, *, field: str = "", column: int = 0, example: str = EXAMPLE) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.column = column
        self.example = example


def kind(value: object) -> str:
    """A JSON value's type in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
