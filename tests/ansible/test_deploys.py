"""What deploys leave and leave alone: rollouts that are decided, the lock, a canary that has users. The fleet is real
but for its hosts, which are all this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import yaml
from playbook import BIN, environment
from processes import ROOT, eventually

PLAYBOOKS = ROOT / "ansible/playbooks"
SERVICE = "deployed"
LOCK = "serin:{production}:lock:deploy"


@pytest.fixture
def playbook(fleet, defaults, tmp_path):
    """Plays a playbook by its name, or only the last `plays` of it; how it ended, and what was said."""
    shutil.copytree(PLAYBOOKS, tmp_path / "playbooks")
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    known = {
        **here, "fleet_admin": defaults["admin"], "fleet_token_file": defaults["token_file"], "fleet_service": SERVICE,
        "fleet_endpoint": fleet.apps[0].address, "fleet_pool": "stable", "fleet_lock": LOCK, "fleet_deploy": "ours",
        "fleet_redis": ["env", "-u", "REDISCLI_AUTH", "redis-cli", "-p", str(fleet.redis_port)],
        "redis_passwords": {"operator": "none"}, "version": "2",
    }
    group = {"hosts": {"one": {}, "two": {}}}
    groups = {"shop_canary": group, "fleet_instances": group}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": known}}))

    def run(name, plays=None, told=()):
        path = tmp_path / f"playbooks/{name}.yml"
        # Become is the playbooks' own, and nobody's here.
        found = plays if isinstance(plays, list) else yaml.safe_load(path.read_text())[-(plays or 0):]
        path.write_text(yaml.safe_dump([{**play, "become": False} for play in found]))
        words = [word for pair in {"app": "shop", **dict(told)}.items() for word in ("--extra-vars", "=".join(pair))]
        command = [BIN / "ansible-playbook", "--inventory", tmp_path / "hosts.yml", *words, path]
        env = environment(tmp_path)
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode == 0, " ".join((done.stdout + done.stderr).split())

    return run


@pytest.fixture
def rollout(call):
    """Begins a rollout with users on the canary, which is over when the test is; what it is like, when it is called."""
    def latest():
        return call.one("serin_info", service=SERVICE, gather=["services"])["services"][SERVICE]["rollout"]

    call.one("serin_canary", service=SERVICE, state="started", version="2", steps=["10%:1h", "50%:1h"])
    eventually("the first step", lambda: latest()["step"] == 1)
    yield latest
    call.one("serin_canary", service=SERVICE, state="aborted")
    call.one("serin_canary", service=SERVICE, state="weighted", weight=0)


def test_abort_ends_what_nobody_has_decided_and_leaves_what_is_approved(playbook, call, rollout):
    call.one("serin_canary", service=SERVICE, state="promoted", version="2")
    well, said = playbook("abort")
    assert well and "changed=0" in said and "changed=1" not in said, said
    assert rollout()["phase"] == "promoted" and not rollout()["finished"]
    # One of its own to end, and none that is left.
    call.one("serin_canary", service=SERVICE, state="aborted")
    call.one("serin_canary", service=SERVICE, state="started", version="2", steps=["10%:1h", "50%:1h"])
    well, said = playbook("abort")
    assert well and "changed=1" in said, said
    assert rollout()["phase"] == "aborted"
    well, said = playbook("abort")
    assert well and "changed=1" not in said, said


def test_stable_is_not_rolled_while_users_are_on_a_canary(playbook, rollout):
    look = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_tasks": "tasks/look.yml"}]}]
    well, said = playbook("look", look)
    assert not well and "10.0 % of the users of deployed are on its canary" in said, said
    assert "`serin weight deployed 0`" in said
    well, said = playbook("look", [{**look[0], "vars": {"fleet_canary": True}}])
    assert well, said
    well, said = playbook("abort")
    assert well, said
    well, said = playbook("look", look)
    assert well, said


def test_a_promotion_that_does_not_come_to_its_end_leaves_no_lock_behind(playbook, redis_client, rollout):
    redis_client.set(LOCK, "ours")
    well, said = playbook("promote", 1)
    assert not well and "joined meanwhile with another version" in said, said
    assert redis_client.get(LOCK) is None


def test_a_promotion_of_what_was_never_rolled_out_leaves_no_lock_behind(playbook, redis_client, call, fleet, rollout):
    # No rollout of that version is there to be seen through.
    redis_client.set(LOCK, "ours")
    call.one("serin_endpoint", service=SERVICE, endpoint=fleet.apps[0].address, version="3")
    well, said = playbook("promote", 1, {"version": "3"})
    assert not well and "is of 2, not of 3" in said, said
    assert redis_client.get(LOCK) is None
