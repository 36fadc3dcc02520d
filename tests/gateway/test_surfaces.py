"""The list of metered routes: complete, without doubles, and nothing beside it is served."""

from __future__ import annotations

from typing import get_args

from config.catalog import Kind
from gateway.surfaces import SURFACES

ROUTES = {
    "chat.completions",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "messages.count_tokens",
    "rerank",
    "audio.speech",
    "audio.transcriptions",
    "audio.translations",
    "images.generations",
    "images.edits",
    "moderations",
}


def test_these_routes_are_metered_and_each_once() -> None:
    assert len(SURFACES) == len(ROUTES) == len({surface.path for surface in SURFACES})
    assert {surface.route for surface in SURFACES} == ROUTES


def test_a_route_is_named_after_its_path() -> None:
    assert all(surface.path == "/" + surface.route.replace(".", "/") for surface in SURFACES)


def test_every_kind_of_model_has_a_route() -> None:
    assert {surface.kind for surface in SURFACES} == set(get_args(Kind))


def test_only_counting_is_free() -> None:
    assert {surface.route for surface in SURFACES if surface.free} == {"messages.count_tokens"}


def test_only_sound_passes_unread_and_only_streams_of_named_events_go_on_behind_an_end() -> None:
    assert {surface.route for surface in SURFACES if surface.reply == "raw"} == {"audio.speech"}
    assert {surface.route for surface in SURFACES if surface.reopens} == {"responses", "messages"}
