"""Which vocabularies a model may name to be counted by, and whether they are installed here. Loads none.

Two are always there. The others are in the optional extra: one name for each vocabulary, that of the library which
has it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from config.complaints import did_you_mean

ALWAYS = ("o200k_base", "cl100k_base")
EXTRA = (
    "llama2",
    "llama3",
    "codellama",
    "mistral_v1",
    "mistral_v2",
    "mistral_v3",
    "qwen3",
    "deepseek_v3",
    "glm4",
    "kimi_k2",
    "kimi_k3",
    "gemma2",
    "gemma3",
    "gemma4",
    "phi4",
    "olmo2",
)
EXTRA_MODULE = "splintr"
NEEDS_EXTRA = "needs the extra: pip install 'farebox[tokenizers]'"


def vocabulary_name(name: str) -> str:
    """The name, if a model can be counted by it here. Raises ValueError, saying what is missing."""
    known = (*ALWAYS, *EXTRA)
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}{did_you_mean(name, known)}")
    if name in EXTRA and find_spec(EXTRA_MODULE) is None:
        raise ValueError(f"{name} {NEEDS_EXTRA}")
    return name


VocabularyName = Annotated[
    str,
    AfterValidator(vocabulary_name),
    WithJsonSchema({"title": "Vocabulary", "type": "string", "enum": [*ALWAYS, *EXTRA]}),
]
