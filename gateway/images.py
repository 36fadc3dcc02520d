"""`/images/generations` and `/images/edits`: pictures made to order. Pure.

Charged by tokens where the backend tells them (text and pictures in, the new picture's tokens as output), else by the
picture, at the price of its size and quality: the variant "1024x1024/hd". SVG is refused: a second model writes it,
whose tokens are told apart and have no price here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from config.catalog import Model
from gateway import multipart
from gateway.chunk import Chunk
from gateway.envelope import ChatEnvelope
from gateway.fields import BadRequest, Raw, is_set, model_of, read, split
from gateway.fields import whole as number
from gateway.meter import Count
from gateway.plain import PlainRequest, rewrite, text_tokens
from gateway.stored import Body
from gateway.surface import Cost, Surface
from gateway.units import UnitMeter, UnitTap, read_json
from ledger.usage import Usage, UsageSource
from policies.estimate import IMAGE_UNKNOWN_TOKENS

if TYPE_CHECKING:
    from gateway.counting import Counting

IMAGES_MAX = 128

_LAST = re.compile(rb'"type"\s*:\s*"image_(?:generation|edit)\.completed"')
_WORD = re.compile(r"[a-z0-9][a-z0-9.:_-]{0,31}")
_USUAL = ("auto", "standard")  # what a price without a variant is for


class Order(msgspec.Struct, frozen=True):
    """The pictures wanted: how many, of what size and quality as the caller wrote them, and from what.

    `given` is how many pictures were sent with it.
    """

    n: int
    size: str
    quality: str
    prompt: str
    given: int = 0

    @property
    def known(self) -> Usage:
        """What is charged where no tokens are told."""
        return Usage(images=self.n)


class GenerationRequest(PlainRequest, frozen=True, kw_only=True):
    """Pictures from a text, asked for in JSON."""

    order: Order

    features: ClassVar[frozenset[str]] = frozenset({"images"})


class EditRequest(msgspec.Struct, frozen=True):
    """Pictures from pictures, asked for in a form."""

    form: multipart.Form
    model: str
    stream: bool
    order: Order

    asked_output: ClassVar[int | None] = None
    include_usage: ClassVar[bool] = True
    features: ClassVar[frozenset[str]] = frozenset({"images"})

    @property
    def n(self) -> int:
        return self.order.n

    @property
    def text_bytes(self) -> int:
        return len(self.order.prompt.encode())


class ImageMeter(UnitMeter):
    """A picture that is not finished is worth nothing: only reports and finished replies count."""

    def take(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.report(chunk.usage)


class _Reply(msgspec.Struct):
    data: Raw = Raw(b"null")
    usage: Any = None
    size: Any = None
    quality: Any = None


def parse_generation(body: bytes, content_type: str) -> GenerationRequest:
    """Read a request for new pictures. Raises BadRequest."""
    fields = split(body)
    size, quality, prompt = (read(fields, name, str, "a text") or "" for name in ("size", "quality", "prompt"))
    order = Order(number(fields, "n", IMAGES_MAX) or 1, size, quality, prompt)
    if is_set(fields, "svg") or read(fields, "output_format", str, "a text") == "svg":
        raise _no_svg()
    return GenerationRequest(
        body=body,
        fields=fields,
        model=model_of(fields),
        stream=read(fields, "stream", bool, "true or false") or False,
        n=order.n,
        text_bytes=len(order.prompt.encode()),
        order=order,
    )


def parse_edit(body: Body, content_type: str) -> EditRequest:
    """Read a request for changed pictures, a form. Raises BadRequest."""
    form = multipart.parse(body, content_type)
    size, quality, prompt = (form.text(name) or "" for name in ("size", "quality", "prompt"))
    order = Order(form.number("n", IMAGES_MAX) or 1, size, quality, prompt, len(form.files))
    if form.text("output_format") == "svg" or any(part.name.split("[")[0] == "svg" for part in form.parts):
        raise _no_svg()
    return EditRequest(form, form.model(), form.flag("stream"), order)


def rewrite_edit(request: EditRequest, model: str, output_cap: int | None) -> Body:
    """The form for a backend that knows the model by this name. There is no output that could be capped."""
    return request.form.body if model == request.model else request.form.replaced({"model": model})


async def foresee(request: GenerationRequest | EditRequest, model: Model, counting: Counting) -> Usage:
    """The pictures wanted, and what is sent as tokens for a model that is priced by those."""
    order = request.order
    text = await text_tokens([order.prompt], request.text_bytes, model, counting)
    return Usage(input=text, image_in=order.given * IMAGE_UNKNOWN_TOKENS, images=order.n)


async def count_input(request: GenerationRequest | EditRequest, model: Model, counting: Counting) -> int:
    """The input's tokens where they were not reported."""
    return (await foresee(request, model, counting)).input_tokens


def tap(request: GenerationRequest | EditRequest, count: Count, cost: Cost, event_bytes_max: int) -> UnitTap:
    """The way of a stream: unfinished pictures pass at once, the last finished one ends it."""
    return UnitTap(_meter(request.order), cost, event_bytes_max, last=_LAST, results=request.n)


def whole(request: GenerationRequest | EditRequest, body: bytes, content_type: str, count: Count) -> UnitMeter:
    """Meter a whole reply: its usage, or its pictures. Its word on size and quality outweighs the caller's."""
    meter, reply = _meter(request.order), read_json(body, _Reply)
    if reply is None:
        return meter
    if isinstance(reply.usage, dict):
        meter.report(reply.usage)
    _count_pictures(meter, request.order, reply)
    return meter


def variant(size: object, quality: object) -> str:
    """The name of a price: size and quality, lower case, without what is usual, absent or no plain word."""
    words = [word.strip().lower() for word in (size, quality) if isinstance(word, str)]
    return "/".join(word for word in words if word not in _USUAL and _WORD.fullmatch(word))


def _meter(order: Order) -> ImageMeter:
    meter = ImageMeter(order.known, parts=order.n)
    meter.known_variant = variant(order.size, order.quality)
    return meter


def _count_pictures(meter: UnitMeter, order: Order, reply: _Reply) -> None:
    made = read_json(bytes(reply.data), list[Raw])
    images = order.n if made is None else len(made)
    if images > order.n:
        # More than was asked for is the backend's affair, not the caller's.
        meter.problem("data")
    source = UsageSource.COUNTED if made is not None else UsageSource.ESTIMATED
    name = variant(reply.size or order.size, reply.quality or order.quality)
    meter.correct(Usage(images=min(images, order.n)), source, name)


def _no_svg() -> BadRequest:
    return BadRequest("SVG pictures are not offered here.", "output_format")


SURFACES = (
    Surface(
        route="images.generations",
        path="/images/generations",
        kind="image",
        parse=parse_generation,
        rewrite=rewrite,
        foresee=foresee,
        count=count_input,
        tap=tap,
        whole=whole,
        envelope=ChatEnvelope(),
    ),
    Surface(
        route="images.edits",
        path="/images/edits",
        kind="image",
        parse=parse_edit,
        rewrite=rewrite_edit,
        foresee=foresee,
        count=count_input,
        tap=tap,
        whole=whole,
        envelope=ChatEnvelope(),
        form=True,
    ),
)
