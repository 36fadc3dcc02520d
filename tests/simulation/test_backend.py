"""The backend's record and what its callers get are the same, where nothing goes wrong."""

from __future__ import annotations

from simulation.backend import prompt_of
from simulation.world import World
from tests.simulation.runs import common, run_of


def test_without_faults_what_was_sent_is_what_was_received() -> None:
    def look(world: World) -> int:
        sent = {each.call: each.tokens for each in world.backend.record}
        good = [call for call in world.calls if call.answered]
        assert all(call.tokens == sent[call.plan.number] for call in good)
        return len(good)

    assert sum(run_of(seed, (), look) for seed in range(3)) > 5


def test_its_prompt_is_what_the_gateway_counts() -> None:
    messages = b'[{"role":"user","content":"call 1 wordword"}]'
    assert common().counting._tokenizers.count_chat(messages) == prompt_of("call 1 wordword")
