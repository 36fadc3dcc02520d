"""What the demo backend says and how it counts."""

from __future__ import annotations

import json

import pytest

from farebox import demo_answers


@pytest.mark.parametrize("text", ["Hello, world!", "  two  spaces", "naïve – 你好 🙂", "", "a_b c-d"])
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(demo_answers.tokens(text)) == text


def test_words_and_marks_count_one_each() -> None:
    assert demo_answers.count("Hello, big world!") == 5


def test_a_prompt_counts_each_message_its_overhead_and_the_tools() -> None:
    assert demo_answers.count_prompt(["one two", "three"]) == 3 + 6
    assert demo_answers.count_prompt(["one"], tools="[{}]") == 1 + 3 + 4


def test_a_question_finds_its_answer_and_a_larger_model_says_more() -> None:
    short = demo_answers.answer("What are the prices?")
    assert "set aside" in short
    assert demo_answers.answer("What are the prices?", longer=True).startswith(short + " ")


def test_an_unknown_question_is_answered_with_what_farebox_is() -> None:
    assert demo_answers.answer("Why is the sky blue?").startswith("Farebox stands between")


@pytest.mark.parametrize("key", ["title", "follow_ups", "tags", "queries", "text", "prompt"])
def test_a_background_task_gets_the_json_it_asks_for(key: str) -> None:
    prompt = f'### Task:\nGenerate something.\n### Output:\nJSON format: {{ "{key}": "..." }}\n### Chat History:\nhi'
    assert list(json.loads(demo_answers.answer(prompt))) == [key]


def test_a_chat_with_retrieved_documents_is_no_background_task() -> None:
    prompt = "### Task:\nRespond to the user query using the provided context.\n<context>ledger</context>"
    assert "set aside" in demo_answers.answer(prompt)


def test_tool_arguments_fit_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "extra": {"type": "string"},
        },
        "required": ["city", "days", "unit"],
    }
    assert json.loads(demo_answers.arguments_for(schema)) == {"city": "demo city", "days": 1, "unit": "C"}
    assert demo_answers.arguments_for({}) == "{}"


def test_a_vector_depends_on_the_text_alone() -> None:
    vector = demo_answers.vector("farebox", 64)
    assert vector == demo_answers.vector("farebox", 64) != demo_answers.vector("Farebox", 64)
    assert len(vector) == 64
    assert all(-1 <= number < 1 for number in vector)
