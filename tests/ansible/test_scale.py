"""serin's driver by Ansible: what it makes of a wish, and of an Ansible that fails or hangs. In place of Ansible is a
program that writes down what it was asked for; `tests/run --fleet` has the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from processes import ROOT, eventually

DRIVER = ROOT / "ansible/bin/scale"
# Plays what it is told to: fails, or waits until it is killed.
PLAYBOOK = """#!/bin/sh
echo "$@" >>{folder}/played
echo $$ >{folder}/pid
[ ! -e {folder}/hang ] || sleep 60
[ ! -e {folder}/fail ] || {{ cat {folder}/fail; exit 2; }}
"""
FAILED = """TASK [Start it] ***
fatal: [shop-4 -> localhost]: FAILED! => {"changed": false, "msg": "no quota"}
PLAY RECAP ***
"""
ADD = {
    "version": 1, "service": "shop", "pool": "stable", "token": "5f1c0a9b77e2d3c4", "fence": 17, "min": 2, "max": 6,
    "action": "add", "count": 2,
}
INSTANCE = {"id": "10.0.0.24:80", "address": "10.0.0.24:80"}


class Desk:
    """The driver with its folder."""

    def __init__(self, folder):
        self.folder = folder
        playbook = folder / "playbook"
        playbook.write_text(PLAYBOOK.format(folder=folder))
        playbook.chmod(0o755)

    def begin(self, wish, seconds=20):
        """A call that is under way."""
        command = [DRIVER, self.folder, "--state", self.folder / "state", "--seconds", str(seconds), "--", "--diff"]
        env = {**os.environ, "FLEET_PLAYBOOK": str(self.folder / "playbook"), "HOME": str(self.folder)}
        call = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        call.stdin.write(wish if isinstance(wish, str) else json.dumps(wish))
        call.stdin.close()
        return call

    def call(self, wish, seconds=20):
        """What a call answers, after whether it ended well."""
        call = self.begin(wish, seconds)
        answer = json.loads(call.stdout.read())
        return call.wait() == 0, answer

    def played(self):
        """What Ansible was told, each time: the variables."""
        file = self.folder / "played"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.JSONDecoder().raw_decode(line[line.index("{"):])[0] for line in lines]

    def pid(self):
        """Of Ansible, once it works."""
        file = self.folder / "pid"
        return eventually("Ansible works", lambda: file.exists() and file.read_text().strip())


@pytest.fixture
def desk(tmp_path):
    """A driver that nobody has called."""
    return Desk(tmp_path)


def test_a_wish_becomes_the_playbooks_variables_and_the_same_wish_the_same(desk):
    told = {"app": "shop", "wish": ADD["token"], "scale": "out", "count": 2}
    for _ in range(2):
        assert desk.call(ADD) == (True, {"done": True})
    assert desk.played() == [told, told]
    words = (desk.folder / "played").read_text()
    assert f"--inventory {desk.folder}/hosts.yml" in words and words.endswith("--diff playbooks/scale.yml\n")

    desk.call({**ADD, "action": "remove", "instances": [INSTANCE]})
    desk.call({**ADD, "action": "undo", "keep": [INSTANCE]})
    inwards = {"app": "shop", "wish": ADD["token"], "scale": "in", "min_ready": 0}
    assert desk.played()[2:] == [{**inwards, "instances": [INSTANCE["id"]]}, {**inwards, "keep": [INSTANCE["id"]]}]


def test_why_the_playbook_failed_is_the_answer(desk):
    (desk.folder / "fail").write_text(FAILED)
    well, answer = desk.call(ADD)
    assert not well and answer["done"] is False and answer["error"].startswith("shop-4: no quota")


def test_what_hangs_is_ended_in_time(desk):
    (desk.folder / "hang").touch()
    well, answer = desk.call(ADD, seconds=1)
    assert not well and "took too long" in answer["error"]
    assert not os.path.exists(f"/proc/{desk.pid()}")


def test_ansible_ends_with_the_driver_and_until_then_nobody_else_works(desk):
    (desk.folder / "hang").touch()
    first = desk.begin(ADD)
    pid = desk.pid()
    well, answer = desk.call(ADD, seconds=1)
    assert not well and answer["error"] == "an earlier call is still at work" and len(desk.played()) == 1
    first.send_signal(signal.SIGTERM)
    first.stdout.read()
    assert first.wait() == 128 + signal.SIGTERM
    assert not os.path.exists(f"/proc/{pid}")


def test_a_proxy_that_does_not_lead_any_more_is_refused(desk):
    assert desk.call({**ADD, "fence": 18})[0]
    well, answer = desk.call(ADD)
    assert not well and "doesn't lead any more: fence 17 after 18" in answer["error"]
    assert len(desk.played()) == 1


@pytest.mark.parametrize("left", ["", "seventeen", "1\n2"])
def test_a_fence_that_was_lost_is_told_with_what_to_do_about_it(desk, left):
    assert desk.call(ADD)[0]
    kept = desk.folder / "state/shop.fence"
    kept.write_text(left)
    well, answer = desk.call(ADD)
    assert not well and answer["error"].startswith(f"{kept} has no fence in it: ")
    assert len(desk.played()) == 1
    kept.unlink()
    assert desk.call(ADD)[0]
    assert kept.read_text() == "17"


@pytest.mark.parametrize(("wish", "why"), [
    ("no json", "no JSON"),
    ({**ADD, "version": 2}, "version 1"),
    ({**ADD, "pool": "canary"}, "only the stable pool"),
    ({**ADD, "token": "$(reboot)"}, "token makes no sense"),
    ({**ADD, "service": "../shop"}, "service makes no sense"),
    ({**ADD, "count": 7}, "count is from 0 to max"),
    ({**ADD, "count": True}, "count is from 0 to max"),
    ({**ADD, "action": "reboot"}, "action is add, remove or undo"),
    ({**ADD, "action": "remove", "instances": ["10.0.0.24:80"]}, "instances is no list of instances"),
    ({**ADD, "fence": "17"}, "no fence"),
])
def test_a_wish_that_makes_no_sense_is_refused_and_nothing_is_played(desk, wish, why):
    well, answer = desk.call(wish)
    assert not well and answer["done"] is False and why in answer["error"]
    assert desk.played() == []
