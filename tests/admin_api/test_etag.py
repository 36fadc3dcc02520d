"""Versions as ETags."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fastapi import Response

from admin_api import etag as module
from admin_api.etag import etag, show
from admin_api.problems import Problem


def test_what_was_shown_comes_back() -> None:
    now = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
    assert module._required(etag(3)) == 3
    assert module._instant(etag(now)) == now
    assert module._required('W/"3"') == 3 and module._required("3") == 3


def test_a_reply_carries_it() -> None:
    response = Response()
    show(response, 7)
    assert response.headers["etag"] == '"7"'


def test_without_one_only_those_who_may_go_on() -> None:
    assert module._instant(None) is None
    with pytest.raises(Problem) as caught:
        module._required(None)
    assert caught.value.status == 428


@pytest.mark.parametrize("text", ["*", '""', '"x"', '"-1"', '"1.5"', '"99999999999999999999"', '"٣"', '"3", "4"'])
def test_what_is_no_version_is_not_the_one_that_is_there(text: str) -> None:
    for read in (module._required, module._instant):
        with pytest.raises(Problem) as caught:
            read(text)
        assert (caught.value.status, caught.value.code) == (409, "stale-write")
