"""`farebox partitions`, word by word."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger import months
from ledger.engine import make_engine
from tests.ledger.old_months import ago, business_in
from tests.ledger.till import Till
from tests.process import command, environment

pytestmark = pytest.mark.long


@pytest.fixture
def env(data_dir: Path, database_url: str, redis_url: str) -> dict[str, str]:
    return environment(data_dir, database_url, redis_url, "http://127.0.0.1:9")


async def test_a_month_goes_and_comes_back(env: dict[str, str], database_url: str) -> None:
    engine = make_engine(database_url)
    old = await business_in(await Till.open(engine), ago(9))
    month = months.name(old.month)
    for word, state in (("seal", "sealed"), ("detach", "detached"), ("attach", "sealed"), ("unseal", "open")):
        code, said, error = await command(env, "partitions", word, month)
        assert code == 0 and said.startswith(month), error
        _, listed, _ = await command(env, "partitions", "list")
        assert [line.split()[1] for line in listed.splitlines() if line.startswith(month)] == [state]
        code, said, _ = await command(env, "verify")
        assert code == 0, said
    await engine.dispose()


async def test_a_refusal_is_a_sentence_and_exit_1(env: dict[str, str]) -> None:
    code, _, error = await command(env, "partitions", "detach", months.name(ago(9)))
    assert (code, error) == (1, f"farebox: {months.name(ago(9))} is not sealed: seal it first\n")
    code, said, _ = await command(env, "partitions", "home")
    assert (code, said) == (0, "No row stands outside its month.\n")
