"""serin_flag: definitions and switches of flags, and a kill switch that no playbook undoes."""

from __future__ import annotations

import json
import subprocess

import pytest
from processes import SERIN
from wishes import task, warned

from ansible_collections.serin.fleet.plugins.modules import serin_flag

HERE = "serin_flag"
BOOLEAN = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
PARTIAL = {**BOOLEAN, "targeting": {"fractional": [["on", 10], ["off", 90]]}, "metadata": {"owner": "editor-team"}}


@pytest.fixture
def key(request, call):
    """A flag of the test's own."""
    name = request.node.name.removeprefix("test_")
    yield name
    call.one(HERE, key=name, state="absent")


def definition(call, key):
    """A flag's definition as the API has it."""
    return call.one("serin_info", gather=["flags"])["flags"][key]["definition"]


def test_a_playbook_sets_switches_and_removes_a_flag(play, key):
    _, on, gone = play.settle(
        (HERE, {"key": key, "definition": BOOLEAN}),
        # What YAML makes of a bare `on`.
        (HERE, {"key": key, "state": True, "reason": "launch day"}),
        (HERE, {"key": key, "state": "absent"}),
    )
    assert on["after"]["defaultVariant"] == "on" and on["switched"]
    assert gone["after"] is None
    play.refuse((HERE, {"key": key, "state": "off"}, f"there is no flag `{key}`"))


def test_a_flag_is_switched_and_given_back(call, key):
    present, off, on, back = call.settle(
        (HERE, {"key": key, "definition": PARTIAL}),
        (HERE, {"key": key, "state": False}),
        (HERE, {"key": key, "state": "on"}),
        (HERE, {"key": key, "state": "back"}),
    )
    assert not present["switched"] and off["switched"] and on["switched"] and not back["switched"]
    assert back["after"] == PARTIAL == definition(call, key)


def test_a_playbook_that_runs_again_does_not_undo_a_kill_switch(call, key):
    call.run(task(HERE, key=key, definition=PARTIAL), task(HERE, key=key, state="off"))
    same = call.one(HERE, key=key, definition=PARTIAL)
    assert not same["changed"] and "is held by a switch" in warned(same)
    # A definition that is another takes effect when the switch is undone.
    wider = {**PARTIAL, "targeting": {"fractional": [["on", 50], ["off", 50]]}}
    changed, back = call.settle((HERE, {"key": key, "definition": wider}), (HERE, {"key": key, "state": "back"}))
    assert changed["after"]["defaultVariant"] == "off" and "targeting" not in changed["after"]
    assert back["after"] == wider


DISABLED = {**BOOLEAN, "state": "DISABLED"}


@pytest.mark.parametrize("given", [BOOLEAN, PARTIAL, DISABLED], ids=["without a rule", "with a rule", "disabled"])
def test_the_command_and_the_module_switch_alike(fleet, call, given):
    words = ["--admin", fleet.proxies[0].admin, "--token-file", fleet.folder / "operator"]
    for key in ("by-module", "by-command"):
        call.one(HERE, key=key, definition=given)
    for switch in ("off", "on", "back"):
        call.one(HERE, key="by-module", state=switch)
        command = [SERIN, "flag", switch, "by-command", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # Of a flag that a switch only gave what it said anyway, nothing is to be undone.
        assert done.returncode == 0 or "isn't switched" in done.stderr, done.stderr
        assert definition(call, "by-module") == definition(call, "by-command"), switch
    call.run(*(task(HERE, key=key, state="absent") for key in ("by-module", "by-command")))


def test_a_change_of_another_flag_meanwhile_is_no_obstacle(call, key, monkeypatch):
    read, other = serin_flag.read, []

    def read_and_be_overtaken(fleet, wanted):
        found = read(fleet, wanted)
        if not other:
            other.append(fleet.change("PUT", "/v1/flags/overtaking", BOOLEAN))
        return found

    monkeypatch.setattr(serin_flag, "read", read_and_be_overtaken)
    result = call.one(HERE, key=key, definition=BOOLEAN)
    assert result["changed"] and other
    assert definition(call, key) == BOOLEAN == definition(call, "overtaking")
    call.one(HERE, key="overtaking", state="absent")


def test_what_makes_no_sense_of_a_flag_is_refused(call, key):
    call.one(HERE, key=key, definition={**BOOLEAN, "variants": {"few": 3, "many": 9}, "defaultVariant": "few"})
    twice = {**BOOLEAN, "variants": {"a": False, "b": False}, "defaultVariant": "a"}
    call.one(HERE, key="twice", definition=twice)
    bare = json.loads(json.dumps({**BOOLEAN, "variants": {True: True, False: False}, "defaultVariant": False}))
    call.refuse(
        (HERE, {"key": "nwe", "state": "back"}, "there is no flag `nwe`; known: "),
        (HERE, {"key": key, "state": "on"}, "only a boolean flag can be switched"),
        (HERE, {"key": "twice", "state": "off"}, "are both false"),
        (HERE, {"key": "bare", "definition": bare}, "YAML reads a bare on"),
        (HERE, {"key": "bare"}, "missing: definition"),
        (HERE, {"key": "bare", "definition": "on"}, "dict"),
    )
    refused = call.one(HERE, key="bare", definition={**BOOLEAN, "defaultVariant": "of"})
    assert refused["status"] == 400 and "`of` is not among the variants" in refused["msg"], refused
    call.one(HERE, key="twice", state="absent")
