"""An explanation is a value that travels: as JSON it says all it has to say."""

from __future__ import annotations

import msgspec

from policies.explanation import Explanation, Rule


def test_it_is_json_and_back() -> None:
    rules = (
        Rule("account", "pass", "The account is active."),
        Rule("balance", "refuse", "Too little.", {"available": "0.0000", "left": 3}),
    )
    told = Explanation(False, "insufficient_balance", "Too little.", "free", "small", rules)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told
