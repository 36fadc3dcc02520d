"""What the demo backend says, and how it counts: short answers about Farebox, chosen by a word in the question.

Pure and deterministic. Its tokens are words and punctuation marks, each with the white space before it: not any model's
vocabulary, but a rule that a reader can check by hand, so that a demo charge can be checked too.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct

_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")
_MESSAGE_OVERHEAD = 3  # role and separators, as OpenAI's published rule has it

_ABOUT = (
    "Farebox stands between an application and its language models. It knows who is calling, asks whether they may, "
    "passes the answer on as it arrives, and writes what it cost into a double-entry ledger."
)
_ANSWERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("balance", "money", "ledger", "charge", "cost", "price"),
        "Before this answer began, Farebox set aside the most it could cost. When the last word is through, it charges "
        "what the backend reported, to the billionth of a dollar, and gives the rest back.",
    ),
    (
        ("limit", "rate", "quota", "429", "fast"),
        "A tier may limit requests, tokens or cost in any window of time, several at once. A call that is refused "
        "changes no counter, and the refusal says in one sentence how long to wait.",
    ),
    (
        ("stream", "stop", "disconnect"),
        "Each piece is passed on unchanged the moment it arrives. Stop reading, and Farebox stops the backend within a "
        "fraction of a second and charges only what had been produced.",
    ),
    (
        ("tier", "upgrade", "plan"),
        "A tier is one object: which models, how much, how fast, and what to offer when it is used up.",
    ),
    (("hello", "hi", "hey"), "Hello! I am the demo backend behind Farebox. Ask me about prices, limits or streams."),
)
_LONGER = (
    " The same words in a larger model: every entry in the ledger balances to zero, an entry is never rewritten, and "
    "`farebox verify` recomputes all of it from the first posting."
)
# Open WebUI's background prompts, told by the JSON key they ask for.
_TASKS: tuple[tuple[str, object], ...] = (
    ("title", "🚏 Asking Farebox"),
    ("follow_ups", ["What does a call cost?", "How are limits counted?", "What happens when I stop an answer?"]),
    ("tags", ["Technology", "Billing"]),
    ("queries", ["metering gateway for language models"]),
    ("text", " and how is it counted?"),
    ("prompt", "A brass fare box on a tram, warm light, photograph"),
)


def tokens(text: str) -> list[str]:
    """The pieces of a text; joined they are the text again, without white space at its end."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """How many tokens a text has."""
    return len(tokens(text))


def count_prompt(texts: list[str], tools: str = "") -> int:
    """Tokens of a conversation: each message with its overhead, and the tool definitions as JSON text."""
    return sum(count(text) + _MESSAGE_OVERHEAD for text in texts) + count(tools)


def answer(question: str, *, longer: bool = False) -> str:
    """The answer to a user's last message; a background task gets the JSON it asked for."""
    if (task := _task(question)) is not None:
        return task
    words = set(re.findall(r"\w+", question.lower()))
    # The plural of a word asks for the same.
    words |= {word.removesuffix("s") for word in words}
    text = next((text for keys, text in _ANSWERS if words.intersection(keys)), _ABOUT)
    return text + _LONGER if longer else text


def arguments_for(schema: object) -> str:
    """JSON arguments that fit a tool's parameter schema: every required property, by its type."""
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    required = schema.get("required", list(properties)) if isinstance(schema, dict) else []
    return json.dumps({name: _example(name, properties.get(name)) for name in required})


def vector(text: str, dimensions: int) -> list[float]:
    """A unit-range vector made of the text's digest: equal texts have equal vectors, and that is all it means."""
    digest = hashlib.shake_256(text.encode()).digest(4 * dimensions)
    return [number / 2**31 for number in struct.unpack(f"<{dimensions}i", digest)]


def _task(question: str) -> str | None:
    if not question.startswith("### Task:"):
        return None
    # A prompt with retrieved documents starts alike and asks for no JSON: it is a user's chat.
    for key, value in _TASKS:
        if re.search(rf'\{{\s*\\?"{key}\\?"\s*:', question):
            return json.dumps({key: value}, ensure_ascii=False)
    return None


def _example(name: str, schema: object) -> object:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(schema, dict) and schema.get("enum"):
        return schema["enum"][0]
    examples: dict[object, object] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return examples.get(kind, f"demo {name}")
