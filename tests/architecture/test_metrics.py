"""The metrics: named as Prometheus advises, bounded, and the same in the code, the alerts and the docs."""

import re
from pathlib import Path

import pytest

from tests.architecture.catalogues import OPERATIONS, catalogues, names_in, series, with_table
from tests.architecture.tree import ROOT, SERVICES

_UNBOUNDED = {"id", "customer", "customer_id", "email", "key", "path", "url", "user"}
_NAMED = [
    path.relative_to(ROOT)
    for pattern in ("deploy/prometheus/*.yml", "deploy/grafana/**/*.json", "docs/**/*.md", "README.md")
    for path in ROOT.glob(pattern)
]


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_named_as_prometheus_advises(service: str) -> None:
    """A name begins with the service; a counter, and nothing else, ends in `_total`; a histogram ends in its
    unit; a gauge does too, or counts things that the name says."""
    for metric in catalogues()[service]:
        assert re.fullmatch(rf"rejse_{service}_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter"), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_bytes", "_records")), metric.name
        assert metric.meaning, metric.name


@pytest.mark.parametrize("service", SERVICES)
def test_no_label_has_a_value_for_every_customer(service: str) -> None:
    """Labels are bounded, and none of them can hold a person's data or a key."""
    assert not _UNBOUNDED & {label for metric in catalogues()[service] for label in metric.labels}


@pytest.mark.parametrize("path", _NAMED, ids=str)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    """Alerts, dashboards and docs name no metric that no service has."""
    assert names_in(ROOT / path) <= series() | {
        metric.name for all_ in catalogues().values() for metric in all_
    }


def test_the_alerts_select_by_labels_that_the_metrics_have() -> None:
    """An alert that selects by a label which a metric hasn't would never fire."""
    labels = {metric.name: {*metric.labels} for all_ in catalogues().values() for metric in all_}
    text = (ROOT / "deploy/prometheus/rules.yml").read_text()
    for name, selectors in re.findall(r"\b(rejse_\w+)\{([^}]+)\}", text):
        assert set(re.findall(r"(\w+)\s*=~?", selectors)) <= labels[name], f"{name}{{{selectors}}}"


def test_the_names_in_a_pattern_are_looked_at_too(tmp_path: Path) -> None:
    """An alert over several metrics at once is held to the catalogues like any other."""
    rules = tmp_path / "rules.yml"
    rules.write_text('sum({__name__=~"rejse_ingest_(a|b)_(c|d)_total"}) / rejse_api_e_total')

    expected = {f"rejse_ingest_{one}_{two}_total" for one in "ab" for two in "cd"} | {"rejse_api_e_total"}
    assert names_in(rules) == expected


def test_the_table_in_the_docs_is_the_catalogues() -> None:
    """docs/operations.md lists every metric with its meaning; run python -m tests.architecture.catalogues."""
    text = OPERATIONS.read_text()
    assert all(name in text for name in ("<!-- metrics: begin -->", "<!-- metrics: end -->"))
    assert text == with_table(text)
