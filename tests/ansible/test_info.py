"""serin_info: what there is, read in one go."""

from __future__ import annotations

from wishes import task

HERE = "serin_info"
ALL = ["services", "endpoints", "flags", "audit"]


def test_a_playbook_reads_everything(fleet, play):
    real, check = play.run(task(HERE, gather=ALL), task(HERE, gather=ALL, check=True))
    for read in (real, check):
        assert not read["failed"] and not read["changed"]
        assert read["services"]["plain"]["circuit"]["state"] == "closed"
        assert {"shop", "plain"} <= {endpoint["service"] for endpoint in read["endpoints"]}
        assert read["store"]["reachable"]
    play.refuse((HERE, {"service": "shp"}, "there is no service `shp`; known: circuit"))


def test_a_service_is_read_alone(fleet, call):
    read = call.one(HERE, service="plain", gather=["services", "endpoints"])
    assert list(read["services"]) == ["plain"] and "flags" not in read
    assert [endpoint["id"] for endpoint in read["endpoints"]] == sorted(app.address for app in fleet.apps[:3])
    assert read["endpoints"][0]["metadata"] == {}


def test_the_audit_log_says_who_changed_what(call):
    call.one("serin_canary", service="hand", state="weighted", weight=1, reason="for the log")
    call.one("serin_canary", service="hand", state="weighted", weight=0)
    read = call.one(HERE, service="hand", gather=["audit"], limit=2)
    newest, before = read["audit"]
    assert (newest["who"], newest["what"], newest["to"], before["why"]) == ("operator", "weight", "0", "for the log")
    call.refuse((HERE, {"limit": 0}, "from 1 to 1000"), (HERE, {"gather": ["service"]}, "value of gather must be one"))
