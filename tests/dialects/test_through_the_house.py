"""One dialect of each route and kind of reply through a whole Farebox: what was said is what the ledger booked."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.surfaces import SURFACES
from tests import house
from tests.backend import Backend, plain
from tests.backend import stream as script
from tests.dialects.case import Case, cost_of, ids
from tests.dialects.priced import TIER, catalog, model_of
from tests.dialects.test_dialects import CASES
from tests.house import Farebox

CHOSEN = [case for case in CASES if case.house]
ADDED = re.compile(rb',"cost":"[0-9.]+","balance":"[0-9.]+"')


@pytest.fixture
async def primed(data_dir: Path, database_url: str, redis_url: str, backend: Backend) -> AsyncIterator[Farebox]:
    """A Farebox whose prices are those of `case.price`."""
    async with house.farebox(data_dir, database_url, redis_url, backend.url, catalog=catalog()) as running:
        yield running


def test_every_route_is_among_them() -> None:
    assert {case.route for case in CHOSEN} == {surface.route for surface in SURFACES if not surface.free}


async def test_the_ledger_books_what_the_vendor_said(primed: Farebox, backend: Backend) -> None:
    for case in CHOSEN:
        ada = await primed.caller(tier=TIER, usd="100.00")
        passed = await _called(primed, backend, ada, case)
        (charge,) = await primed.charges(ada.user.id)
        where = ids(CHOSEN)(case)
        assert charge["usage"] == case.usage.parts(), where
        assert (charge["usage_source"], charge["variant"] or "") == (case.source, case.variant), where
        assert charge["amount"] == cost_of(case.usage, case.variant), where
        assert ADDED.sub(b"", passed) == case.sent(), where
    assert not await primed.broken()


async def _called(farebox: Farebox, backend: Backend, ada: house.Caller, case: Case) -> bytes:
    sent = case.sent()
    if case.whole or isinstance(case.sends, bytes):
        backend.answer = plain(sent, content_type="application/json" if case.whole else "audio/mpeg")
    else:
        backend.answer = script([sent[at : at + 7] for at in range(0, len(sent), 7)])
    body, content_type = case.asked(model=model_of(case.surface.kind))
    reply = await farebox.post(f"/v1{case.surface.path}", body, ada.headers | {"content-type": content_type})
    assert reply.status == 200, reply.body
    return reply.body
