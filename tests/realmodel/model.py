"""Writes a tiny language model into a GGUF file: a Llama with random weights and a vocabulary made on the spot.

Run by the interpreter of `.venv-realmodel`, which has `gguf` and `numpy`: `python model.py FILE`. It says nothing
sensible, but a server loads, prompts, samples and counts it as it does any other model. The weights' seed is fixed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gguf
import numpy

CONTEXT = 8192
LAYERS, WIDTH, HEADS, INNER = 6, 256, 4, 512  # some 600 tokens a second: an answer lasts long enough to be left
SPREAD = 0.3  # of the weights: wide enough for one token to be likelier than another
SEED = 20

UNKNOWN, BEGIN, END, TURN, TURN_END = "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"
NORMAL, UNKNOWN_KIND, CONTROL, BYTE = 1, 2, 3, 6  # GGUF's kinds of token
SPACE = "\u2581"  # how this kind of vocabulary writes a blank
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def vocabulary() -> tuple[list[str], list[int]]:
    """Tokens and their kinds: five for control, one a byte, one a printable character, and the README's words.

    A word comes with all its beginnings, because pieces are merged two at a time, from the left.
    """
    words = set(re.findall(r"[a-z]{2,}", Path(__file__).parents[2].joinpath("README.md").read_text("utf-8").lower()))
    beginnings = {SPACE + word[:end] for word in words for end in range(1, len(word) + 1)}
    characters = {chr(code) for code in range(33, 127)} | {SPACE, "\n"}
    pieces = sorted(beginnings | characters, key=lambda piece: (len(piece), piece))
    special = {UNKNOWN: UNKNOWN_KIND, BEGIN: CONTROL, END: CONTROL, TURN: CONTROL, TURN_END: CONTROL}
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    return tokens, [*special.values(), *[BYTE] * 256, *[NORMAL] * len(pieces)]


def write(file: str) -> None:
    """Write the model."""
    tokens, kinds = vocabulary()
    writer = gguf.GGUFWriter(file, "llama")
    _shape(writer, len(tokens))
    _tokenizer(writer, tokens, kinds)
    _weights(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shape(writer: gguf.GGUFWriter, tokens: int) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(tokens)


def _tokenizer(writer: gguf.GGUFWriter, tokens: list[str], kinds: list[int]) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores([-float(place) for place in range(len(tokens))])
    writer.add_unk_token_id(tokens.index(UNKNOWN))
    writer.add_bos_token_id(tokens.index(BEGIN))
    writer.add_eos_token_id(tokens.index(TURN_END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _weights(writer: gguf.GGUFWriter, tokens: int) -> None:
    chance = numpy.random.default_rng(SEED)

    def random(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", chance.normal(0, SPREAD, (rows, columns)).astype(numpy.float32))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", numpy.ones(WIDTH, numpy.float32))

    random("token_embd", tokens, WIDTH)
    for layer in (f"blk.{number}" for number in range(LAYERS)):
        ones(f"{layer}.attn_norm")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            random(f"{layer}.{name}", WIDTH, WIDTH)
        ones(f"{layer}.ffn_norm")
        random(f"{layer}.ffn_gate", INNER, WIDTH)
        random(f"{layer}.ffn_up", INNER, WIDTH)
        random(f"{layer}.ffn_down", WIDTH, INNER)
    ones("output_norm")
    random("output", tokens, WIDTH)


if __name__ == "__main__":
    write(sys.argv[1])
