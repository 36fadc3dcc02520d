"""Habits of the routes whose events have names: Anthropic Messages, OpenAI Responses, and those that copy them."""

from __future__ import annotations

from typing import Any

from ledger.usage import Usage, UsageSource
from tests.dialects.case import COUNTED_INPUT, Case

COUNTED = UsageSource.COUNTED


def message(name: str, usage: Usage, *sends: Any, **more: Any) -> Case:
    return Case(name, "messages", usage, sends, **more)


def begins(usage: Any, id: str = "msg_1") -> dict[str, Any]:
    given = {"id": id, "type": "message", "role": "assistant", "content": [], "model": "c", "usage": usage}
    return {"type": "message_start", "message": given}


def words(text: str, kind: str = "text") -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", kind: text}}


def block(**more: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": more}


def ends(usage: Any, reason: str = "end_turn") -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


STOP = {"type": "message_stop"}
PING = {"type": "ping"}

MESSAGES = [
    message(
        "input first, output last",
        Usage(input=12, output=30),
        begins({"input_tokens": 12, "output_tokens": 1}),
        block(type="text", text=""),
        PING,
        words("Grüße"),
        {"type": "content_block_stop", "index": 0},
        ends({"output_tokens": 30}),
        STOP,
        house=True,
    ),
    message(
        "caches by time to live, beside the input",
        Usage(input=7, cache_read=2000, cache_write=300, cache_write_1h=500, output=20),
        begins(
            {
                "input_tokens": 7,
                "cache_read_input_tokens": 2000,
                "cache_creation_input_tokens": 800,
                "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 500},
                "output_tokens": 1,
            }
        ),
        words("a"),
        ends({"output_tokens": 20}),
        STOP,
    ),
    message(
        "cache written, no times told",
        Usage(input=7, cache_write=800, output=20),
        begins(
            {"input_tokens": 7, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 800, "output_tokens": 1}
        ),
        words("a"),
        ends({"output_tokens": 20}),
        STOP,
    ),
    message(
        "server tools: the input grows by what was read",
        Usage(input=15665, output=795, web_searches=1),
        begins({"input_tokens": 2037, "output_tokens": 1}),
        block(type="server_tool_use", id="s", name="web_search", input={}),
        block(type="web_search_tool_result", tool_use_id="s", content=[{"type": "web_search_result"}]),
        words("a"),
        ends(
            {
                "input_tokens": 15665,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 795,
                "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
            }
        ),
        STOP,
    ),
    message(
        "searches done, and the stream broke",
        Usage(input=20, output=len("a") + len("web_search"), web_searches=1),
        begins({"input_tokens": 20, "output_tokens": 1}),
        block(type="server_tool_use", id="s", name="web_search", input={}),
        block(type="web_search_tool_result", tool_use_id="s", content=[{"type": "web_search_result"}]),
        words("a"),
        source=COUNTED,
    ),
    message(
        "a repeated start is no second message",
        Usage(input=12, output=30),
        begins({"input_tokens": 12, "output_tokens": 1}),
        words("a"),
        begins({"input_tokens": 12, "output_tokens": 1}),
        words("b"),
        ends({"output_tokens": 30}),
        STOP,
    ),
    message(
        "two messages in one stream",
        Usage(input=30, output=50),
        begins({"input_tokens": 10, "output_tokens": 1}),
        words("a"),
        ends({"output_tokens": 20}),
        STOP,
        begins({"input_tokens": 20, "output_tokens": 1}, "msg_2"),
        words("b"),
        ends({"output_tokens": 30}),
        STOP,
    ),
    message(
        "output cumulative in several deltas",
        Usage(input=10, output=30),
        begins({"input_tokens": 10, "output_tokens": 1}),
        words("a"),
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 10}},
        words("b"),
        ends({"output_tokens": 30}),
        STOP,
    ),
    message(
        "zeros first, the truth last (servers that copy the API)",
        Usage(input=25, output=9),
        begins({"input_tokens": 0, "output_tokens": 0}),
        words("a"),
        ends({"input_tokens": 25, "output_tokens": 9}),
        STOP,
    ),
    message(
        "null first, the truth last",
        Usage(input=25, output=9),
        begins(None),
        words("a"),
        ends({"input_tokens": 25, "output_tokens": 9}),
        STOP,
    ),
    message(
        "no usage at all",
        Usage(input=COUNTED_INPUT, output=5),
        begins(None),
        words("Grüße"),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        STOP,
        source=COUNTED,
    ),
    message(
        "broken off behind the start: the text is counted",
        Usage(input=12, output=5),
        begins({"input_tokens": 12, "output_tokens": 1}),
        words("Grüße"),
        source=COUNTED,
    ),
    message(
        "overloaded in the middle",
        Usage(input=12, output=5),
        begins({"input_tokens": 12, "output_tokens": 1}),
        words("Grüße"),
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        source=COUNTED,
        failed=True,
    ),
    message(
        "thinking inside the output",
        Usage(input=12, output=10, reasoning=90),
        begins({"input_tokens": 12, "output_tokens": 1}),
        words("hm", "thinking"),
        words("a"),
        ends({"output_tokens": 100, "output_tokens_details": {"thinking_tokens": 90}}),
        STOP,
    ),
    message(
        "fast mode is a price of its own",
        Usage(input=12, output=9),
        begins({"input_tokens": 12, "output_tokens": 1, "service_tier": "standard", "speed": "fast"}),
        words("a"),
        ends({"output_tokens": 9}),
        STOP,
        variant="fast",
    ),
    message(
        "priority",
        Usage(input=12, output=9),
        begins({"input_tokens": 12, "output_tokens": 1, "service_tier": "priority"}),
        words("a"),
        ends({"output_tokens": 9}),
        STOP,
        variant="priority",
    ),
    Case(
        "whole",
        "messages",
        Usage(input=5, cache_read=100, output=9),
        {
            "type": "message",
            "content": [{"type": "text", "text": "a"}],
            "usage": {
                "input_tokens": 5,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 0,
                "output_tokens": 9,
            },
        },
        whole=True,
        house=True,
    ),
    Case(
        "whole, no usage",
        "messages",
        Usage(input=COUNTED_INPUT, output=5),
        {"content": [{"type": "text", "text": "Grüße"}]},
        whole=True,
        source=COUNTED,
    ),
    Case("a count is free", "messages.count_tokens", Usage(), {"input_tokens": 2095}, whole=True),
]


def response(name: str, usage: Usage, *sends: Any, **more: Any) -> Case:
    return Case(name, "responses", usage, sends, **more)


def created(id: str = "resp_1", **more: Any) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": id, "status": "in_progress", "usage": None, **more}}


def delta(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "delta": text}


def over(usage: Any, status: str = "completed", id: str = "resp_1", **more: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": {"id": id, "status": status, "usage": usage, **more}}


def told(given: int, made: int, cached: int = 0, thought: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given + made,
    }


def search(action: Any, status: str = "completed") -> dict[str, Any]:
    return {"type": "web_search_call", "id": "ws", "status": status, "action": action}


def item(value: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": 0, "item": value}


RESPONSES = [
    response(
        "completed, cache and reasoning inside",
        Usage(input=27361, cache_read=3712, output=704, reasoning=3712),
        created(),
        delta("Grüße"),
        over(told(31073, 4416, 3712, 3712), service_tier="default"),
        house=True,
    ),
    response(
        "incomplete: the bound was reached",
        Usage(input=40, output=16),
        created(),
        delta("Grüße"),
        over(told(40, 16), "incomplete", incomplete_details={"reason": "max_output_tokens"}),
    ),
    response(
        "failed, with usage",
        Usage(input=40, output=6),
        created(),
        delta("Grüße"),
        over(told(40, 6), "failed", error={"code": "server_error", "message": "x"}),
        failed=True,
    ),
    response(
        "failed, without usage",
        Usage(input=COUNTED_INPUT, output=5),
        created(),
        delta("Grüße"),
        over(None, "failed", error={"code": "server_error", "message": "x"}),
        source=COUNTED,
        failed=True,
    ),
    response(
        "an error event",
        Usage(input=COUNTED_INPUT, output=5),
        created(),
        delta("Grüße"),
        {"type": "error", "code": "server_error", "message": "x", "param": None},
        source=COUNTED,
        failed=True,
    ),
    response(
        "no usage (a server that copies the API)",
        Usage(input=COUNTED_INPUT, output=5),
        created(),
        delta("Grüße"),
        over(None, output=[{"type": "message", "content": [{"type": "output_text", "text": "Grüße"}]}]),
        source=COUNTED,
    ),
    response(
        "usage null, then in progress, then told",
        Usage(input=4, output=2),
        created(),
        {"type": "response.in_progress", "response": {"id": "resp_1", "usage": None}},
        delta("a"),
        over(told(4, 2)),
    ),
    response(
        "flex asked and given",
        Usage(input=4, output=2),
        created(service_tier="auto"),
        delta("a"),
        over(told(4, 2), service_tier="flex"),
        variant="flex",
    ),
    response(
        "priority asked, default given",
        Usage(input=4, output=2),
        created(service_tier="priority"),
        delta("a"),
        over(told(4, 2), service_tier="default"),
    ),
    response(
        "searches told beside the tokens",
        Usage(input=4, output=2, web_searches=3),
        created(),
        item(search({"type": "search"})),
        delta("a"),
        over(told(4, 2), tool_usage={"web_search": {"num_requests": 3}}),
    ),
    response(
        "searches counted by items; looking into a page is none",
        Usage(input=4, output=2, web_searches=2),
        created(),
        item(search({"type": "search"})),
        item(search({"type": "open_page"})),
        item(search({"type": "find_in_page"})),
        item(search({"type": "search"}, "failed")),
        item(search({"type": "search"})),
        delta("a"),
        over(told(4, 2)),
    ),
    response(
        "several responses in one stream",
        Usage(input=30, cache_read=5, output=11, reasoning=9),
        created("resp_1"),
        delta("a"),
        over(told(15, 10, 5, 4), id="resp_1"),
        created("resp_2"),
        delta("b"),
        over(told(20, 10, 0, 5), id="resp_2"),
    ),
    response(
        "a picture drawn by a tool is marked, not charged",
        Usage(input=4, output=2),
        created(),
        delta("a"),
        over(told(4, 2), tool_usage={"image_gen": {"input_tokens": 9, "output_tokens": 272}}),
        problems=("image_gen",),
    ),
    response(
        "a function call is counted by name and arguments",
        Usage(input=COUNTED_INPUT, output=len("f{}")),
        created(),
        {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
        {"type": "response.function_call_arguments.delta", "delta": "{}"},
        source=COUNTED,
    ),
    Case(
        "whole",
        "responses",
        Usage(input=4, output=2),
        {"id": "r", "object": "response", "status": "completed", "usage": told(4, 2), "service_tier": "priority"},
        whole=True,
        variant="priority",
        house=True,
    ),
    Case(
        "whole, no usage",
        "responses",
        Usage(input=COUNTED_INPUT, output=5),
        {"id": "r", "output": [{"type": "message", "content": [{"type": "output_text", "text": "Grüße"}]}]},
        whole=True,
        source=COUNTED,
    ),
]

CASES = [*MESSAGES, *RESPONSES]
