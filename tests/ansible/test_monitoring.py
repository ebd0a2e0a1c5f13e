"""What Prometheus is told to watch is what serin has, and what the manual says. `tests/lint-ansible` has promtool look
at the rules themselves, and the fleet's test has them fire."""

from __future__ import annotations

import json
import re

import yaml
from processes import ROOT

FILES = ROOT / "ansible/roles/monitoring/files"


def rules():
    """All rules, as Prometheus reads them."""
    groups = yaml.safe_load((FILES / "serin.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries():
    """All that rules and dashboard ask."""
    shown = json.loads((FILES / "serin.dashboard.json").read_text())
    return [rule["expr"] for rule in rules()] + [ask["expr"] for panel in shown["panels"] for ask in panel["targets"]]


def test_each_alert_is_in_the_manual_with_its_severity_and_the_manual_has_no_other():
    page = (ROOT / "docs/alerts.md").read_text().split("## Prometheus' rules")[1]
    told = re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert told == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]


def test_each_metric_that_is_asked_for_is_one_that_serin_has():
    manual = "".join((ROOT / "docs" / page).read_text() for page in ("operating.md", "alerts.md"))
    known = set(re.findall(r"^\| `(serin_\w+)", manual, re.MULTILINE))
    asked = {name for query in queries() for name in re.findall(r"\bserin_\w+", query)}
    assert asked, "something is asked for"
    assert {name.removesuffix("_bucket") for name in asked} <= known


def test_every_alert_says_who_is_to_act_and_what_is_wrong():
    for rule in rules():
        assert rule["labels"].keys() == {"severity"}
        assert rule["annotations"].keys() == {"summary"}
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_panels_of_the_dashboard_dont_overlap():
    panels = json.loads((FILES / "serin.dashboard.json").read_text())["panels"]
    taken = set()
    for place in (panel["gridPos"] for panel in panels):
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
