"""Every metered route, in one list. What is not here is refused: nothing passes unmetered."""

from __future__ import annotations

from gateway import (
    chat,
    completions,
    embeddings,
    images,
    messages,
    moderations,
    rerank,
    responses,
    speech,
    transcription,
)
from gateway.surface import Surface

SURFACES: tuple[Surface, ...] = (
    chat.SURFACE,
    completions.SURFACE,
    embeddings.SURFACE,
    responses.SURFACE,
    *messages.SURFACES,
    rerank.SURFACE,
    speech.SURFACE,
    *transcription.SURFACES,
    *images.SURFACES,
    moderations.SURFACE,
)
