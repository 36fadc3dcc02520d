"""The bounded memory: what leaves first, and what is too old."""

from __future__ import annotations

from accounts.cache import Cache


def test_the_least_recently_used_entry_leaves_first() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a", 0.0)
    cache.put("c", 3)
    assert (cache.get("a", 0.0), cache.get("b", 0.0), cache.get("c", 0.0), len(cache)) == (1, None, 3, 2)


def test_an_entry_ends_at_its_instant() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1, until=10.0)
    assert cache.get("a", 9.9) == 1
    assert cache.get("a", 10.0) is None and len(cache) == 0


def test_an_entry_put_again_takes_no_further_room() -> None:
    cache: Cache[str, int] = Cache(2)
    for value in range(5):
        cache.put("a", value)
    assert (len(cache), cache.get("a", 0.0)) == (1, 4)


def test_entries_can_be_dropped_and_all_forgotten() -> None:
    cache: Cache[str, int] = Cache(3)
    for name in "abc":
        cache.put(name, 1)
    cache.drop("a")
    cache.drop("never there")
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0
