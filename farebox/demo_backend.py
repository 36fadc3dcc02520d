"""A small OpenAI-compatible backend on a real socket, for `farebox demo`.

It answers chats (streamed at a human pace, or whole), embeddings and the model list, reports its usage honestly by the
rule in `demo_answers`, and stops when its caller leaves. It is not a model and not a test double: tests that need a
misbehaving backend have their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from farebox import demo_answers

CHAT_MODELS = ("demo-small", "demo-large")
EMBEDDING_MODEL = "demo-embed"
DIMENSIONS = 64
CHOICES_MAX = 16
START_WITHIN_S = 10.0
PACE_S = 0.03


class Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The words of the message; of a list of parts those that are text."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class Tool(msgspec.Struct):
    function: Function


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """The fields of a chat request that change the answer; others are ignored, as a backend may."""

    model: Literal["demo-small", "demo-large"]
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None


class EmbeddingRequest(msgspec.Struct):
    model: Literal["demo-embed"]
    input: str | list[str | int | list[int]]


class Answer(msgspec.Struct):
    """What one chat will say: the pieces of each choice's text (or one tool call), why it ends, what it counts."""

    id: str
    created: int
    model: str
    choices: int
    pieces: list[str]
    finish: str
    call: dict[str, Any] | None
    prompt_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        said = demo_answers.count(self.call["function"]["arguments"]) if self.call else len(self.pieces)
        completion = said * self.choices
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }


def answer(asked: ChatRequest) -> Answer:
    """Decide the whole answer to a chat before its first piece is sent."""
    question = next((message.text for message in reversed(asked.messages) if message.role == "user"), "")
    pieces = demo_answers.tokens(demo_answers.answer(question, longer=asked.model == "demo-large"))
    most = asked.max_completion_tokens or asked.max_tokens or len(pieces)
    call = _tool_call(asked)
    finish = "tool_calls" if call else "length" if most < len(pieces) else "stop"
    tools = msgspec.json.encode(asked.tools).decode() if asked.tools else ""
    return Answer(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=asked.model,
        choices=asked.n or 1,
        pieces=[] if call else pieces[:most],
        finish=finish,
        call=call,
        prompt_tokens=demo_answers.count_prompt([message.text for message in asked.messages], tools),
    )


def _tool_call(asked: ChatRequest) -> dict[str, Any] | None:
    """The call that ``tool_choice`` insists on; tools that are only on offer are not used."""
    tools = [tool.function for tool in asked.tools or []]
    if isinstance(asked.tool_choice, dict):
        name = asked.tool_choice.get("function", {}).get("name")
        tools = [function for function in tools if function.name == name]
    elif asked.tool_choice != "required":
        return None
    if not tools:
        return None
    function = {"name": tools[0].name, "arguments": demo_answers.arguments_for(tools[0].parameters)}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


class DemoBackend:
    """A running demo backend; ``url`` is the base URL to configure, ``stop`` ends it and every stream in it."""

    def __init__(self, url: str, server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
        self.url = url
        self._server = server
        self._serving = serving

    async def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        await self._serving


async def start(host: str = "127.0.0.1", port: int = 0, pace_s: float = PACE_S) -> DemoBackend:
    """Start a demo backend that waits ``pace_s`` seconds before each token; port 0 takes a free one.

    Raises OSError where the address is taken.
    """
    listener = socket.create_server((host, port), backlog=1024)
    config = uvicorn.Config(
        build(pace_s), log_config=None, access_log=False, lifespan="off", timeout_keep_alive=75, ws="none"
    )
    server = _QuietServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="demo-backend")
    await _started(server, serving)
    return DemoBackend(f"http://{host}:{listener.getsockname()[1]}/v1", server, serving)


async def _started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    async with asyncio.timeout(START_WITHIN_S):
        while not server.started:
            if serving.done():
                await serving
                raise RuntimeError("the demo backend ended while it was starting")
            await asyncio.sleep(0.01)


class _QuietServer(uvicorn.Server):
    """Serves beside another server in one process: signals are the other one's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def build(pace_s: float = PACE_S) -> Starlette:
    """The backend as an ASGI application."""

    async def chat(request: Request) -> Response:
        body = await request.body()
        try:
            asked = msgspec.json.decode(body, type=ChatRequest)
        except msgspec.DecodeError as exc:
            return _error(400, str(exc))
        if not 1 <= (asked.n or 1) <= CHOICES_MAX:
            return _error(400, f"n must be between 1 and {CHOICES_MAX}")
        said = answer(asked)
        if asked.stream:
            wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
            return StreamingResponse(_stream(said, wants_usage, pace_s), media_type="text/event-stream")
        await asyncio.sleep(pace_s * len(said.pieces))
        return _json(_whole(said))

    return Starlette(
        routes=[
            Route("/v1/models", _models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/embeddings", _embeddings, methods=["POST"]),
        ]
    )


async def _models(request: Request) -> Response:
    rows = [
        {"id": model, "object": "model", "created": 0, "owned_by": "farebox-demo"}
        for model in (*CHAT_MODELS, EMBEDDING_MODEL)
    ]
    return _json({"object": "list", "data": rows})


async def _embeddings(request: Request) -> Response:
    body = await request.body()
    try:
        asked = msgspec.json.decode(body, type=EmbeddingRequest)
    except msgspec.DecodeError as exc:
        return _error(400, str(exc))
    inputs = _inputs(asked.input)
    rows = [
        {"object": "embedding", "index": index, "embedding": demo_answers.vector(str(item), DIMENSIONS)}
        for index, item in enumerate(inputs)
    ]
    total = sum(len(item) if isinstance(item, list) else demo_answers.count(item) for item in inputs)
    usage = {"prompt_tokens": total, "total_tokens": total}
    return _json({"object": "list", "data": rows, "model": asked.model, "usage": usage})


def _inputs(given: str | list[Any]) -> list[Any]:
    """The texts or token arrays of an embeddings request; one of either may come without a list around it."""
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return given


def _whole(said: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.pieces) or None}
    if said.call:
        message["tool_calls"] = [said.call]
    choices = [{"index": index, "message": message, "finish_reason": said.finish} for index in range(said.choices)]
    return {**_base(said, "chat.completion"), "choices": choices, "usage": said.usage}


async def _stream(said: Answer, wants_usage: bool, pace_s: float) -> AsyncIterator[bytes]:
    for index in range(said.choices):
        yield _chunk(said, index, {"role": "assistant", "content": "" if said.pieces else None})
    for piece in said.pieces:
        await asyncio.sleep(pace_s)
        for index in range(said.choices):
            yield _chunk(said, index, {"content": piece})
    for index in range(said.choices):
        if said.call:
            yield _chunk(said, index, {"tool_calls": [{"index": 0, **said.call}]})
        yield _chunk(said, index, {}, said.finish)
    if wants_usage:
        yield _event({**_base(said, "chat.completion.chunk"), "choices": [], "usage": said.usage})
    yield b"data: [DONE]\n\n"


def _chunk(said: Answer, index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return _event({**_base(said, "chat.completion.chunk"), "choices": [choice]})


def _base(said: Answer, kind: str) -> dict[str, Any]:
    return {"id": said.id, "object": kind, "created": said.created, "model": said.model}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, status)
