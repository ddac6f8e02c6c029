"""Writes a GGUF model of random weights: a real engine loads it and pays real costs, its text means nothing.

What tests may rely on:
- One token per byte and no merged ones: raw text of N bytes is N + 1 tokens with the start token, and a chat is one
  more for each message, because the template is every message's content followed by a newline.
- Every generated token is one printable ASCII character, and the end token never wins: an answer has exactly as many
  characters as tokens were asked for, and ends by length.
- At temperature 0 the text depends on the whole prompt, not on its last bytes alone, so equal text means equal prompt.

Run with an interpreter that has gguf and numpy: gguf_model.py OUT WIDTH LAYERS
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import gguf  # type: ignore[import-not-found, unused-ignore]
import numpy as np  # type: ignore[import-not-found, unused-ignore]
from numpy.typing import NDArray  # type: ignore[import-not-found, unused-ignore]

type_of = gguf.TokenType
Weights: TypeAlias = NDArray[np.float32]

CONTEXT_TOKENS = 32_768
ATTENTION_HEADS = 8
SEED = 20_250_101
BOS, EOS, FIRST_BYTE = 1, 2, 3
PRINTABLE = range(0x21, 0x7F)
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


@dataclass(frozen=True)
class Shape:
    """The size of a model: `width` is the embedding length, `layers` the number of transformer blocks."""

    width: int
    layers: int

    @property
    def hidden(self) -> int:
        return 3 * self.width


def vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Token texts, scores and kinds of a SentencePiece vocabulary that knows single bytes only."""
    entries = [("<unk>", type_of.UNKNOWN), ("<s>", type_of.CONTROL), ("</s>", type_of.CONTROL)]
    entries += [(f"<0x{value:02X}>", type_of.BYTE) for value in range(256)]
    # SentencePiece writes a space as U+2581; without an entry of its own a space would cost three byte tokens.
    entries.append(("\u2581", type_of.NORMAL))
    return [text for text, _ in entries], [0.0] * len(entries), [int(kind) for _, kind in entries]


def tensors(shape: Shape, vocabulary_size: int) -> Iterator[tuple[str, Weights]]:
    """Every tensor of the architecture by name, drawn from one seeded generator: the same shape, the same file.

    Queries and keys are large enough to make attention pick single tokens: an average of all of them forgets the
    prompt. What a layer adds is small against its input: deep random layers would otherwise blow a rounding error up
    until it changes the text.
    """
    rng = np.random.default_rng(SEED)

    def noise(rows: int, columns: int, scale: float = 1.0) -> Weights:
        drawn: Weights = rng.normal(0.0, scale / np.sqrt(columns), (rows, columns)).astype(np.float32)
        return drawn

    added = shape.layers**-0.5
    unit = np.ones(shape.width, dtype=np.float32)
    yield "token_embd.weight", noise(vocabulary_size, shape.width, shape.width**0.5)
    for index in range(shape.layers):
        yield f"blk.{index}.attn_norm.weight", unit
        for part, scale in (("attn_q", 1.5), ("attn_k", 1.5), ("attn_v", 1.0), ("attn_output", added)):
            yield f"blk.{index}.{part}.weight", noise(shape.width, shape.width, scale)
        yield f"blk.{index}.ffn_norm.weight", unit
        for part in ("ffn_gate", "ffn_up"):
            yield f"blk.{index}.{part}.weight", noise(shape.hidden, shape.width)
        yield f"blk.{index}.ffn_down.weight", noise(shape.width, shape.hidden, added)
    yield "output_norm.weight", unit
    # A row of zeros scores 0, and the best of the printable rows scores far above it.
    output = np.zeros((vocabulary_size, shape.width), dtype=np.float32)
    output[[FIRST_BYTE + value for value in PRINTABLE]] = noise(len(PRINTABLE), shape.width, 8.0)
    yield "output.weight", output


def write_model(path: Path, shape: Shape) -> None:
    """Write the model to `path`, which must not be in use: a half-written file is not a valid model."""
    texts, scores, kinds = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"expresslane-random-{shape.width}x{shape.layers}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_head_count(ATTENTION_HEADS)
    writer.add_head_count_kv(ATTENTION_HEADS)
    writer.add_rope_dimension_count(shape.width // ATTENTION_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(texts))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, weights in tensors(shape, len(texts)):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write the model that the command line describes."""
    parser = argparse.ArgumentParser(description="Write a random-weight GGUF model.")
    parser.add_argument("out", type=Path)
    parser.add_argument("width", type=int)
    parser.add_argument("layers", type=int)
    arguments = parser.parse_args()
    write_model(arguments.out, Shape(arguments.width, arguments.layers))


if __name__ == "__main__":
    main()
