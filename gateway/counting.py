"""How many tokens a request or an answer has in a given model's own measure.

Exact where that is cheap or asked for, from byte counts otherwise; a model whose vocabulary we do not have is counted
with the nearest one, times the model's factor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.catalog import Model
from gateway.call import NO_MEDIA, ChatRequest, Media, Request
from gateway.tokens import Tokenizers, encoding_for
from policies.estimate import AUDIO_BYTES_PER_TOKEN, FILE_BYTES_PER_TOKEN, image_tokens, input_tokens, scaled

EXACT_BYTES_MAX = 4096
"""Requests up to this size are counted before admission; longer ones are estimated and counted only if nobody
reports."""


class Counting:
    """Counts for models. One for each process."""

    def __init__(self, tokenizers: Tokenizers) -> None:
        self._tokenizers = tokenizers

    async def estimate(self, request: Request, model: Model) -> int:
        """Tokens of the request, never much too few: what its hold is made of."""
        if request.text_bytes <= EXACT_BYTES_MAX:
            return await self.exact(request, model)
        if isinstance(request, ChatRequest):
            media = request.media
            images = sum(image_tokens(image.head, image.detail) for image in media.images)
            tokens = input_tokens(request.text_bytes, images, media.audio_bytes, media.file_bytes)
        else:
            tokens = input_tokens(request.text_bytes)
        return scaled(tokens, model.tokenizer_factor_ppm)

    async def exact(self, request: Request, model: Model) -> int:
        """Tokens of the request by the model's vocabulary, media by rule."""
        encoding = encoding_for(model.upstream_model, model.tokenizer)
        if isinstance(request, ChatRequest):
            beside = _beside(request.media) if request.media is not NO_MEDIA else 0
            chat = request.messages, request.tools, encoding, beside
            if self._tokenizers.at_once(len(request.messages) + len(request.tools), encoding):
                count = self._tokenizers.count_chat(*chat)
            else:
                count = await asyncio.to_thread(self._tokenizers.count_chat, *chat)
        else:
            count = await self._tokenizers.count_input_async(request.input, encoding)
        return scaled(count, model.tokenizer_factor_ppm)

    async def text(self, text: str, model: Model) -> int:
        """Tokens of an answer's text."""
        count = await self._tokenizers.count_async(text, encoding_for(model.upstream_model, model.tokenizer))
        return scaled(count, model.tokenizer_factor_ppm)

    def counter(self, model: Model) -> Callable[[str], int]:
        """The same for pieces, without waiting: for answers too long to be kept whole."""
        encoding, factor = encoding_for(model.upstream_model, model.tokenizer), model.tokenizer_factor_ppm
        return lambda text: scaled(self._tokenizers.count(text, encoding), factor)


def _beside(media: Media) -> int:
    """Tokens of what stands beside the text, by rule."""
    images = sum(image_tokens(image.head, image.detail) for image in media.images)
    return images + media.audio_bytes // AUDIO_BYTES_PER_TOKEN + media.file_bytes // FILE_BYTES_PER_TOKEN
