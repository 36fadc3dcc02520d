"""The instruments: names of the contract, bounded labels, gauges read when somebody looks."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from ledger.usage import Usage


def samples(metrics: Metrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def test_a_charge_is_counted_in_usd_and_in_tokens_by_kind() -> None:
    metrics = Metrics()
    usage = Usage(input=11, cache_read=5, output=3, web_searches=2)
    metrics.charged("small", "free", usage, "reported", 2_500_000)
    metrics.charged("small", "free", usage, "reported", 2_500_000)
    found = samples(metrics)
    assert found["farebox_charged_usd_total"] == [({"model": "small", "tier": "free"}, 0.005)]
    kinds = {labels["kind"]: value for labels, value in found["farebox_tokens_total"]}
    assert kinds == {"input": 22, "cache_read": 10, "output": 6}
    assert all(labels["source"] == "reported" for labels, _ in found["farebox_tokens_total"])


def test_requests_and_refusals_are_counted_by_their_labels() -> None:
    metrics = Metrics()
    metrics.request("chat.completions", "small", "free", "200", "").inc()
    metrics.refusal("key_revoked", "unknown").inc()
    metrics.uncharged("no_usage").inc()
    found = samples(metrics)
    labels = {"route": "chat.completions", "model": "small", "tier": "free", "status": "200", "code": ""}
    assert found["farebox_requests_total"] == [(labels, 1)]
    assert found["farebox_refusals_total"] == [({"code": "key_revoked", "tier": "unknown"}, 1)]
    assert found["farebox_uncharged_total"] == [({"reason": "no_usage"}, 1)]


def test_a_child_is_looked_up_once() -> None:
    metrics = Metrics()
    assert metrics.request("r", "m", "t", "200", "") is metrics.request("r", "m", "t", "200", "")


def test_gauges_are_read_when_somebody_looks() -> None:
    metrics, looked = Metrics(), []
    metrics.before_scrape(lambda: looked.append(1))
    metrics.before_scrape(lambda: metrics.streams_open.set(len(looked)))
    assert samples(metrics)["farebox_streams_open"] == [({}, 1)]
    assert samples(metrics)["farebox_streams_open"] == [({}, 2)]


def test_two_processes_in_one_share_nothing() -> None:
    one, two = Metrics(), Metrics()
    one.streams_open.set(5)
    assert samples(two)["farebox_streams_open"] == [({}, 0)]


def test_overhead_is_told_before_the_backend_and_in_total() -> None:
    metrics = Metrics()
    metrics.overhead_before.observe(0.001)
    metrics.overhead_total.observe(0.002)
    counts = {labels["phase"]: value for labels, value in samples(metrics)["farebox_overhead_seconds_count"]}
    assert counts == {"before": 1, "total": 1}
