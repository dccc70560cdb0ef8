"""The alerts: valid, each proven to fire, and each one telling what to do."""

import re
from typing import Any

import yaml

from shared.config import VARIABLES
from tests.deploy.compose import our_services
from tests.deploy.tools import PROMETHEUS, check, promtool


def test_prometheus_accepts_its_configuration_and_the_rules() -> None:
    """Prometheus' own checker finds no fault in either."""
    check([promtool(), "check", "config", PROMETHEUS / "prometheus.yml"])


def test_each_alert_fires_when_it_should_and_none_when_all_is_well() -> None:
    """The scenarios of rules_test.yml come out as written there."""
    check([promtool(), "test", "rules", "rules_test.yml"], cwd=PROMETHEUS)


def test_each_alert_has_a_scenario_in_which_it_fires() -> None:
    """No alert is left out of the scenarios."""
    fired = set(re.findall(r'alertname="(\w+)"[^}]*}\', value', (PROMETHEUS / "rules_test.yml").read_text()))
    assert fired == {alert["alert"] for alert in _alerts()}


def test_each_alert_says_how_urgent_it_is_what_happened_and_what_to_do() -> None:
    """Whoever is woken by an alert needs no more than its own text to begin."""
    for alert in _alerts():
        assert alert["labels"]["severity"] in ("critical", "warning"), alert["alert"]
        assert alert["annotations"].keys() == {"summary", "action"}, alert["alert"]


def test_the_spool_s_alerts_know_its_bound() -> None:
    """The bound that the alerts compute with is the one that ingest is given, and the default."""
    text = (PROMETHEUS / "rules.yml").read_text()
    bound = int(our_services()["ingest"]["environment"]["REJSE_SPOOL_BYTES_MAX"])

    assert {variable.default for variable in VARIABLES if variable.name == "spool_bytes_max"} == {str(bound)}
    assert f"rejse_ingest_spool_bytes > {bound // 2}" in text
    assert f"predict_linear(rejse_ingest_spool_bytes[10m], 3600) > {bound}" in text


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
