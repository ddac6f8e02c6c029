"""Whose answer a text is: what the engine says to each prompt alone, as far as rounding cannot change it.

How an engine rounds depends on how many sequences it works on in one step, so at temperature 0 a prompt can get another
text beside others than alone, from the first token on at which the two best are nearly a tie. Of the 3,840 tokens of 48
answers one was such a tie (0.000003 nats), and that answer alone changed: never alone, in three of six runs with four
at once, in all six with eight, with other work on the machine too. Of 32 other prompts, eight at once, the distance of
the two best moved by at most 0.000015 nats. A prompt that is asked alone twice gets the same text, from the cache too,
so tests of one prompt at a time compare whole texts.
"""

from collections.abc import Iterable, Mapping

from expresslane_client import Result

from .asking import OUTPUT_TOKENS, ask
from .llama_server import LlamaServer

__all__ = ["assert_own", "assert_own_answers", "certain_text"]

TIE_NATS = 0.001
SHORTEST = 3
"""Fewer certain characters say too little of whose answer it is; three name one of 830,000."""


async def certain_text(server: LlamaServer, text: str, output_tokens: int = OUTPUT_TOKENS) -> str:
    """The engine's greedy answer to one prompt alone, up to the first token that was nearly a tie.

    Raises AssertionError where hardly anything is certain: that prompt is a bad witness, and with another salt it is
    another one.
    """
    answer = await ask(server, text=text, max_tokens=output_tokens, logprobs=True, top_logprobs=2)
    certain = ""
    for token in answer["choices"][0]["logprobs"]["content"]:
        best, second = (one["logprob"] for one in token["top_logprobs"][:2])
        if best - second < TIE_NATS:
            break
        certain += token["token"]
    assert len(certain) >= SHORTEST, f"nearly a tie after {certain!r}, so the answer names nobody: {text!r}"
    return certain


async def assert_own_answers(
    server: LlamaServer, texts: Mapping[str, str], results: Iterable[Result], output_tokens: int = OUTPUT_TOKENS
) -> None:
    """Each result has as many characters as tokens were asked for, and fits its own prompt and no other of `texts`.

    `texts` are the prompts by custom_id. The engine must have nothing else to do. Raises AssertionError.
    """
    certain = {name: await certain_text(server, text, output_tokens) for name, text in texts.items()}
    for one in results:
        assert_own(one.custom_id, one.text, certain, output_tokens)


def assert_own(custom_id: str, answer: str, certain: Mapping[str, str], output_tokens: int) -> None:
    """The same of one answer, by the certain texts of all prompts. Raises AssertionError."""
    assert len(answer) == output_tokens, f"{custom_id}: {len(answer)} characters, not {output_tokens}"
    fits = [name for name, own in certain.items() if answer.startswith(own)]
    assert fits == [custom_id], f"the answer to {custom_id!r} fits those to {fits}: {answer!r}"
