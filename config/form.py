"""What all forms of the catalogue have in common. Pure.

A form is one table as people write it, in the file and over the admin API alike. It gives the value of ``catalog.py``
that it means (``value``), and is made of one again (``showing``), unchecked: what is stored can always be shown.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

Document = dict[str, Any]
"""A table: text, whole numbers, lists and tables."""


class Form(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def document(self) -> Document:
        """The table as an operator writes it: without what is usual."""
        return self.model_dump(mode="json", exclude_defaults=True)
