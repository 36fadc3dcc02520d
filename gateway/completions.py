"""Text completions (``/completions``): a prompt goes in, text comes out, framed as a chat's chunks are. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gateway.call import CHOICES_MAX, TOKENS_MAX, EmbeddingsRequest
from gateway.chunk import Chunk
from gateway.envelope import CompletionEnvelope
from gateway.fields import (
    NULL,
    BadRequest,
    Fields,
    Raw,
    encode,
    joined,
    model_of,
    read,
    split,
    usage_asked,
    usage_wanted,
    whole,
)
from gateway.filter import StreamFilter
from gateway.meter import Count, StreamMeter, read_whole
from gateway.surface import Cost, Surface
from ledger.usage import Usage

if TYPE_CHECKING:
    from config.catalog import Model
    from gateway.counting import Counting

OUTPUT_UNTOLD = 16  # OpenAI's documented default of `max_tokens` on this route, kept by those that copy it
PROMPTS_MAX = 2048
CHARS_PER_TOKEN = 4  # of an echoed prompt whose characters are not known


class CompletionRequest(msgspec.Struct, frozen=True):
    """A completion asked for. `n` counts every text the backend will write: of each prompt as many as were asked for.

    `input` is the prompt's JSON: a text, texts, token ids or lists of them. `echoed` is for each prompt how many
    characters it comes back with, empty when it does not.
    """

    body: bytes
    fields: Fields
    model: str
    stream: bool
    n: int
    asked_output: int | None
    include_usage: bool
    input: bytes
    echoed: tuple[int, ...] = ()
    features: frozenset[str] = frozenset()

    @property
    def text_bytes(self) -> int:
        return len(self.input)


class EchoMeter(StreamMeter):
    """Leaves out the prompt that each choice begins with: it is input, and was not written by the model."""

    __slots__ = ("_per_prompt", "_skip")

    def __init__(self, count: Count, echoed: tuple[int, ...], choices: int) -> None:
        super().__init__(count)
        self._per_prompt = max(1, choices // max(1, len(echoed)))
        self._skip = [chars for chars in echoed for _ in range(self._per_prompt)]

    def take(self, chunk: Chunk) -> None:
        """Read one chunk."""
        for choice in chunk.choices or ():
            if choice.text and 0 <= choice.index < len(self._skip):
                skipped = min(len(choice.text), self._skip[choice.index])
                self._skip[choice.index] -= skipped
                choice.text = choice.text[skipped:]
        super().take(chunk)


def parse(body: bytes, content_type: str = "") -> CompletionRequest:
    """Read a completion request. Raises BadRequest."""
    fields = split(body)
    prompt = bytes(fields.get("prompt", NULL))
    prompts = _prompts(prompt)
    each = max(whole(fields, "n", CHOICES_MAX) or 1, whole(fields, "best_of", CHOICES_MAX) or 1)
    asked = whole(fields, "max_tokens", TOKENS_MAX, 0)
    return CompletionRequest(
        body=body,
        fields=fields,
        model=model_of(fields),
        stream=read(fields, "stream", bool, "true or false") or False,
        n=each * len(prompts),
        asked_output=OUTPUT_UNTOLD if asked is None else asked,
        include_usage=usage_wanted(fields),
        input=prompt,
        echoed=tuple(prompts) if read(fields, "echo", bool, "true or false") else (),
    )


def rewrite(request: CompletionRequest, model: str, output_cap: int | None) -> bytes:
    """The body for the backend: its own name of the model, usage asked for in a stream, the output bound."""
    fields = request.fields.copy()
    if model != request.model:
        fields["model"] = Raw(encode(model))
    if request.stream and not request.include_usage:
        fields["stream_options"] = usage_asked(fields.get("stream_options"))
    if output_cap is not None:
        fields["max_tokens"] = Raw(encode(output_cap))
    return joined(request.body, fields)


async def foresee(request: CompletionRequest, model: Model, counting: Counting) -> Usage:
    """The prompt's tokens."""
    return Usage(input=await counting.estimate(_as_embeddings(request), model))


async def count_input(request: CompletionRequest, model: Model, counting: Counting) -> int:
    """The prompt's tokens by the model's vocabulary."""
    return await counting.exact(_as_embeddings(request), model)


def tap(request: CompletionRequest, count: Count, cost: Cost, event_bytes_max: int) -> StreamFilter:
    """The way of a streamed reply."""
    return StreamFilter(
        _meter(request, count), usage_wanted=request.include_usage, cost=cost, event_bytes_max=event_bytes_max
    )


def whole_reply(request: CompletionRequest, body: bytes, content_type: str, count: Count) -> StreamMeter:
    """The meter of a whole reply."""
    return read_whole(_meter(request, count), body)


def _as_embeddings(request: CompletionRequest) -> EmbeddingsRequest:
    """A prompt has the shapes of an embedding's input, and is counted as one."""
    return EmbeddingsRequest(request.body, request.fields, request.model, request.input)


def _meter(request: CompletionRequest, count: Count) -> StreamMeter:
    return EchoMeter(count, request.echoed, request.n) if request.echoed else StreamMeter(count)


def _prompts(prompt: bytes) -> list[int]:
    """For each prompt its characters. Raises BadRequest for what is neither text nor tokens nor a list of either."""
    try:
        value = msgspec.json.decode(prompt)
    except (ValueError, RecursionError):
        value = None
    several = isinstance(value, list) and not all(map(_is_token, value))
    prompts = value if several else [value]
    sizes = [_chars(each) for each in prompts]
    if not 1 <= len(sizes) <= PROMPTS_MAX or None in sizes:
        raise BadRequest("The field prompt must be a text, token ids, or a list of either.", "prompt")
    return [size for size in sizes if size is not None]


def _chars(prompt: Any) -> int | None:
    if isinstance(prompt, str):
        return len(prompt)
    tokens = isinstance(prompt, list) and bool(prompt) and all(map(_is_token, prompt))
    return len(prompt) * CHARS_PER_TOKEN if tokens else None


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


SURFACE = Surface(
    route="completions",
    path="/completions",
    kind="completion",
    parse=parse,
    rewrite=rewrite,
    foresee=foresee,
    count=count_input,
    tap=tap,
    whole=whole_reply,
    envelope=CompletionEnvelope(),
)
