"""The catalogue's values as an operator writes them, and what of them must not be shown. Pure.

A document is what one table of the file holds. Only what differs from the usual is in it; reading it again gives the
same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from config.catalog import Model, Rates, Upstream
from config.catalog_forms import ModelForm, UpstreamForm
from config.form import Document
from config.price_form import PricesForm
from config.task_form import TaskForm
from config.tier_form import TierForm
from policies.task import TaskRule
from policies.tier import Tier

HIDDEN = "***"
_SECRET = re.compile(r"key|token|secret|auth|pass|cookie|session|signature", re.IGNORECASE)


def upstream_document(upstream: Upstream) -> Document:
    """``[[upstreams]]``"""
    return UpstreamForm.showing(upstream).document()


def model_document(model: Model, rates: Rates | None = None) -> Document:
    """``[[models]]``; without ``prices`` where the model has none."""
    return ModelForm.showing(model, rates).document()


def prices_document(rates: Rates) -> Document:
    """``prices = {…}``"""
    return PricesForm.showing(rates).document()


def tier_document(tier: Tier) -> Document:
    """``[[tiers]]``"""
    return TierForm.showing(tier).document()


def task_document(rule: TaskRule) -> Document:
    """``[[tasks]]``"""
    return TaskForm.showing(rule).document()


def concealed(document: Document) -> Document:
    """The document for those who must not see secrets."""
    headers = document.get("headers")
    return document | {"headers": concealed_headers(headers)} if headers else document


def concealed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without the values of those that look like a credential."""
    return {name: HIDDEN if is_secret(name) else value for name, value in headers.items()}


def is_secret(header: str) -> bool:
    """Whether a header of this name looks as if it held a credential."""
    return _SECRET.search(header) is not None
