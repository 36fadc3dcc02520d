"""How many tokens: exact where that is cheap or asked for, never much too few otherwise."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from splintr import Tokenizer

from config.catalog import Model
from gateway.counting import EXACT_BYTES_MAX, Counting
from gateway.tokens import Tokenizers
from tests.gateway.parts import chat_request, embeddings_request

SMALL = Model("small", "main", "gpt-4o-mini")
OLDER = Model("older", "main", "gpt-4")
FACTOR = Model("factor", "main", "other", tokenizer_factor_ppm=1_500_000)
# The smallest PNG head there is: 512 by 512 pixels, one tile.
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAgAAAAIACAYAAAD0eNT6"


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Counting:
    return Counting(Tokenizers.load(tmp_path_factory.mktemp("data")))


async def test_a_chat_is_counted_with_what_its_form_costs(counting: Counting) -> None:
    # "hello world" is two tokens, its role one, the message three and the answer's beginning three.
    assert await counting.exact(chat_request("hello world"), SMALL) == 2 + 1 + 3 + 3


async def test_a_short_request_is_estimated_exactly(counting: Counting) -> None:
    request = chat_request("hello " * 100)
    assert await counting.estimate(request, SMALL) == await counting.exact(request, SMALL)


@pytest.mark.parametrize("text", ["hello world, how are you? ", "def f(x): return x\n", "Größenänderung, süß. "])
async def test_a_long_request_is_estimated_from_its_bytes_and_hardly_below_its_tokens(
    counting: Counting, text: str
) -> None:
    request = chat_request(text * (EXACT_BYTES_MAX // len(text) + 1))
    exact, estimated = await counting.exact(request, SMALL), await counting.estimate(request, SMALL)
    assert exact * 9 // 10 <= estimated <= 3 * exact


async def test_a_long_chat_is_counted_off_the_event_loop(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    count_chat = counting._tokenizers.count_chat

    def noted(*given: Any) -> int:
        seen.append(threading.current_thread() is threading.main_thread())
        return count_chat(*given)

    monkeypatch.setattr(counting._tokenizers, "count_chat", noted)
    await counting.exact(chat_request("word " * 100), SMALL)
    assert await counting.exact(chat_request("word " * 10_000), SMALL) > 10_000
    assert seen == [True, False]


async def test_tools_and_images_are_counted(counting: Counting) -> None:
    plain = await counting.exact(chat_request("look"), SMALL)
    tool = {"type": "function", "function": {"name": "weather", "description": "The weather of a town."}}
    assert await counting.exact(chat_request("look", tools=[tool]), SMALL) > plain + 5
    picture = {"type": "image_url", "image_url": {"url": PNG}}
    seen = chat_request([{"type": "text", "text": "look"}, picture])
    assert await counting.exact(seen, SMALL) == plain + 85 + 170
    low = chat_request([{"type": "text", "text": "look"}, {**picture, "image_url": {"url": PNG, "detail": "low"}}])
    assert await counting.exact(low, SMALL) == plain + 85


async def test_a_picture_weighs_what_it_shows_not_what_its_bytes_are(counting: Counting) -> None:
    heavy = {"type": "image_url", "image_url": {"url": PNG + "A" * 400_000}}
    request = chat_request([{"type": "text", "text": "look"}, heavy])
    assert await counting.estimate(request, SMALL) < 1000


async def test_embeddings_count_texts_and_ready_tokens(counting: Counting) -> None:
    assert await counting.exact(embeddings_request("hello world"), SMALL) == 2
    assert await counting.exact(embeddings_request(["hello world", "hello"]), SMALL) == 3
    assert await counting.exact(embeddings_request([1, 2, 3]), SMALL) == 3
    assert await counting.exact(embeddings_request([[1, 2], [3]]), SMALL) == 3
    long = embeddings_request("hello world " * 1000)
    assert await counting.estimate(long, SMALL) >= await counting.exact(long, SMALL)


async def test_a_model_has_its_own_measure(counting: Counting) -> None:
    text = "Größenänderungsgeschwindigkeit"
    assert await counting.text(text, OLDER) != await counting.text(text, SMALL)
    assert await counting.text(text, FACTOR) == -(-await counting.text(text, SMALL) * 3 // 2)


async def test_a_model_may_name_a_vocabulary_of_another_family(counting: Counting) -> None:
    text = "Größenänderungsgeschwindigkeit"
    named = Model("named", "main", "llama-3.3-70b", tokenizer="llama3", tokenizer_factor_ppm=2_000_000)
    own = len(Tokenizer.from_pretrained("llama3").encode_ordinary(text))
    assert own != await counting.text(text, SMALL)
    assert await counting.text(text, named) == counting.counter(named)(text) == 2 * own
    assert await counting.estimate(chat_request(text), named) == 2 * (own + 1 + 3 + 3)


async def test_pieces_are_counted_as_the_whole_is(counting: Counting) -> None:
    text = "hello world, " * 50
    assert counting.counter(FACTOR)(text) == await counting.text(text, FACTOR)
    assert counting.counter(SMALL)("") == 0
