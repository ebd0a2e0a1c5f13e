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
USERS = ("serin", "agent", "app", "operator", "replica", "sentinel", "monitor")
# Roles that are here are found by their names alone.
APPLICATION = '"{{ (fleet_app == \'shop\') | ternary(\'shop\', \'serin.fleet.\' ~ fleet_app) }}"'
SWITCH = "echo {{{{ inventory_hostname }}}} {{{{ release_version }}}} >>{folder}/started; [ ! -e {folder}/broken ]"


@pytest.fixture
def playbook(fleet, defaults, tmp_path):
    """Plays a playbook by its name, or only the last `plays` of it; how it ended, and what was said."""
    shutil.copytree(PLAYBOOKS, tmp_path / "playbooks")
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    known = {
        **here, "fleet_admin": defaults["admin"], "fleet_token_file": defaults["token_file"], "fleet_service": SERVICE,
        "fleet_endpoint": fleet.apps[0].address, "fleet_pool": "stable", "fleet_lock": LOCK, "fleet_deploy": "ours",
        "fleet_redis": ["env", "-u", "REDISCLI_AUTH", "redis-cli", "-p", str(fleet.redis_port)],
        "redis_passwords": dict.fromkeys(USERS, "none"), "redis_sentinels": [], "redis_clients": [],
        "redis_address": "127.0.0.1", "redis_first_primary": "127.0.0.1", "fleet_app": "shop", "fleet_lock_seconds": 60,
    }
    group = {"hosts": {"one": {}, "two": {"fleet_endpoint": fleet.apps[1].address}}}
    groups = {
        "shop_canary": group, "fleet_instances": group, "redis": {"hosts": {"gone": {}, "store": {}}},
        "redis_sentinel": {"hosts": {"store": {}}},
        "lost": {"hosts": {"gone": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": known}}))
    # An application that writes down when it is started, and which one that is.
    (tmp_path / "playbooks/roles/shop/tasks").mkdir(parents=True)
    (tmp_path / "playbooks/roles/shop/tasks/switch.yml").write_text(yaml.safe_dump([
        {"ansible.builtin.shell": SWITCH.format(folder=tmp_path)},
    ]))

    for task in (tmp_path / "playbooks/tasks").iterdir():
        task.write_text(task.read_text().replace("serin.fleet.{{ fleet_app }}", APPLICATION))

    def run(name, plays=None, told=()):
        path = tmp_path / f"playbooks/{name}.yml"
        # Become is the playbooks' own, and nobody's here.
        found = plays if isinstance(plays, list) else yaml.safe_load(path.read_text())[-(plays or 0):]
        path.write_text(yaml.safe_dump([{**play, "become": False} for play in found]))
        known = {"app": "shop", "version": "2", **dict(told)}
        words = [word for pair in known.items() for word in ("--extra-vars", "=".join(pair))]
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
    look = plays([{"ansible.builtin.import_tasks": "tasks/look.yml"}])
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


def test_a_canary_that_an_agent_registers_gets_its_work_back(playbook, call, fleet, beat, redis_client):
    # Given a canary whose agent hasn't told of the new version yet
    beat("hand", "canary", "beating", fleet.apps[3].address, version="1")
    known = {"fleet_what": "canary of hand 2", "fleet_service": "hand", "fleet_pool": "canary", "fleet_agent": True,
             "fleet_approved": False}
    (play,) = yaml.safe_load((PLAYBOOKS / "canary.yml").read_text())
    deploy = next(task["block"] for task in play["tasks"] if "block" in task)
    wanted = ("Give the canary no work", "Hear of it from its agent", "Let it have work")
    # When it is put out of work and back
    tasks = [task for task in deploy if task["name"] in wanted]
    well, said = playbook("canary", plays(tasks, hosts="one", fleet_endpoint="beating", **known))
    # Then it says itself what it runs
    assert well and len(tasks) == len(wanted), said
    members = call.one("serin_info", service="hand", gather=["endpoints"])["endpoints"]
    assert [(one["state"], one["version"]) for one in members if one["id"] == "beating"] == [("ready", "1")]
    redis_client.delete("serin:{production}:lease:hand:canary:beating")
    redis_client.hdel("serin:{production}:service:hand:pool:canary", "beating")


@pytest.mark.parametrize("scale", ["out", "in"])
def test_what_an_agent_registers_is_not_scaled(playbook, scale):
    (play,) = yaml.safe_load((PLAYBOOKS / "scale.yml").read_text())
    told = {"scale": scale, "wish": "more", "fleet_agent": "yes"}
    well, said = playbook("scale", [{**play, "hosts": "fleet_instances"}], told)
    assert not well and "An agent registers one, two, and agents know of no wishes" in said, said


def test_what_is_approved_and_not_on_all_of_stable_is_gone_on_with_and_nothing_else(playbook, call, rollout):
    tasks = [{"ansible.builtin.import_tasks": f"tasks/{name}.yml"} for name in ("look", "free_canary")]
    went_on = [{"ansible.builtin.debug": {"msg": "goes on: {{ fleet_approved }}"}}]
    free = plays([*tasks, *went_on], fleet_canary=True)
    well, said = playbook("free", free)
    assert not well and "10.0 % of the users are on the canary" in said, said
    call.one("serin_canary", service=SERVICE, state="promoted", version="2")
    well, said = playbook("free", free)
    assert well and "goes on: True" in said, said
    well, said = playbook("free", free, {"version": "3"})
    assert not well and "10.0 % of the users are on the canary" in said, said
    call.one("serin_canary", service=SERVICE, state="aborted")
    well, said = playbook("free", free)
    assert well and "goes on: False" in said, said


def test_nobody_deploys_or_scales_while_another_deploys(playbook, redis_client):
    tasks = plays([{"ansible.builtin.import_tasks": "tasks/nobody_deploys.yml"}])
    redis_client.set(LOCK, "rolling, by Ada")
    well, said = playbook("nobody", tasks)
    assert not well and "Another deploy is under way: rolling, by Ada" in said, said
    redis_client.delete(LOCK)
    well, said = playbook("nobody", tasks)
    assert well, said


def test_an_artifact_is_named_by_its_whole_path(playbook):
    look = plays([{"ansible.builtin.import_tasks": "tasks/look.yml"}])
    well, said = playbook("look", look, {"artifact": "shop-2.tar.gz"})
    assert not well and "Write the whole path, from / on: artifact=shop-2.tar.gz" in said, said


ROLL = [{"ansible.builtin.include_tasks": "tasks/roll_one.yml"}]
RESTART = [{"ansible.builtin.include_tasks": "tasks/restart.yml"}]


def plays(tasks, hosts="fleet_instances", **variables):
    """A play of these tasks."""
    known = {"fleet_what": "rolling deployed to 2", "soak": 0, "fleet_restart_soak": 0, **variables}
    return [{"hosts": hosts, "gather_facts": False, "vars": known, "tasks": tasks}]


@pytest.fixture
def pool(call, fleet):
    """Two instances of version 1; what each is like, when it is called."""
    addresses = [app.address for app in fleet.apps[:2]]

    def members():
        found = call.one("serin_info", service=SERVICE, gather=["endpoints"])["endpoints"]
        return {one["id"]: (one["state"], one["version"]) for one in found if one["pool"] == "stable"}

    for address in addresses:
        call.one("serin_endpoint", service=SERVICE, endpoint=address, pool="stable", version="1", state="present")
        call.one("serin_endpoint", service=SERVICE, endpoint=address, pool="stable", state="ready")
    yield members
    call.one("serin_endpoint", service=SERVICE, endpoint=addresses[0], pool="stable", state="ready", version="")
    call.one("serin_endpoint", service=SERVICE, endpoint=addresses[1], pool="stable", state="absent")


def changes(call):
    """Who was taken out of work and given it back, the newest first."""
    entries = call.one("serin_info", service=SERVICE, gather=["audit"])["audit"]
    moves = [entry for entry in entries if entry["what"] in ("endpoint.drain", "endpoint.ready")]
    return [f"{entry['what'].removeprefix('endpoint.')} {entry['endpoint'].removeprefix('stable/')}" for entry in moves]


DUE = [{"ansible.builtin.set_fact": {"shop_due": True, "release_current": "1"}}]


def test_a_changed_setting_restarts_one_instance_after_the_other_each_out_of_work(
    playbook, pool, call, fleet, tmp_path, redis_client,
):
    well, said = playbook("restart", plays(DUE + RESTART), {"version": "1"})
    assert well, said
    one, two = (app.address for app in fleet.apps[:2])
    made = changes(call)[:4]
    orders = [[f"ready {b}", f"drain {b}", f"ready {a}", f"drain {a}"] for a, b in ((one, two), (two, one))]
    assert made in orders
    assert sorted((tmp_path / "started").read_text().splitlines()) == ["one 1", "two 1"]
    assert redis_client.get(LOCK) is None


def test_an_instance_that_does_not_come_back_is_the_last_that_is_restarted(
    playbook, pool, tmp_path, redis_client,
):
    (tmp_path / "broken").touch()
    well, said = playbook("restart", plays(DUE + RESTART), {"version": "1"})
    assert not well and "could not be put back, and is out of work" in said, said
    assert "goes on with the configuration that it has, since" in said
    assert len((tmp_path / "started").read_text().splitlines()) == 1, "it was tried once, on one of them"
    assert sorted(pool().values()) == [("draining", "1"), ("ready", "1")]
    assert redis_client.get(LOCK) is None
    # What was wrong is put right: the one that is out of work is first, and has work again.
    (tmp_path / "broken").unlink()
    well, said = playbook("restart", plays(DUE + RESTART), {"version": "1"})
    assert well, said
    assert set(pool().values()) == {("ready", "1")}


def test_what_a_person_drained_is_restarted_and_stays_drained(playbook, pool, call, fleet, tmp_path):
    address = fleet.apps[1].address
    call.one("serin_endpoint", service=SERVICE, endpoint=address, state="drained", reason="a look at it")
    well, said = playbook("restart", plays(DUE + RESTART, hosts="two"), {"version": "1"})
    assert well, said
    assert (tmp_path / "started").read_text().splitlines() == ["two 1"]
    assert pool()[address] == ("draining", "1")


def test_a_host_that_is_lost_amid_a_roll_leaves_no_lock_and_its_problem_is_told(
    playbook, pool, fleet, redis_client,
):
    redis_client.set(LOCK, "ours")
    lost = {"fleet_app": "checkbox", "fleet_endpoint": fleet.apps[1].address, "fleet_before": "1"}
    more = {"checkbox_address": "127.0.0.1", "checkbox_proxies": []}
    well, said = playbook("roll", [{**plays(ROLL, hosts="lost", **lost, **more)[0], "serial": 1}])
    assert not well and "gone could not be put back, and is out of work, and the roll stopped there" in said, said
    assert said.count("gone can't be reached any more: ") >= 2, "on the way there and on the way back"
    assert redis_client.get(LOCK) is None
    assert pool()[fleet.apps[1].address] == ("draining", "1")
    # It is back: the next roll begins with it.
    look = [{"ansible.builtin.import_tasks": "tasks/look.yml"}]
    well, said = playbook("look", plays(look, fleet_rolls=True))
    assert well, said
    before = {"ansible.builtin.set_fact": {"fleet_before": "1"}}
    well, said = playbook("roll", plays([before, *look], fleet_rolls=True) + plays(ROLL, hosts="fleet_first"))
    assert well, said
    assert pool()[fleet.apps[1].address] == ("ready", "2")


@pytest.mark.parametrize("hosts", ["lost", "one:lost"])
def test_a_host_that_is_lost_before_anything_is_touched_leaves_no_lock(playbook, redis_client, tmp_path, hosts):
    redis_client.set(LOCK, "ours")
    (prepare,) = [
        play for play in yaml.safe_load((PLAYBOOKS / "rolling.yml").read_text()) if play["name"] == "Prepare"
    ]
    play = {**prepare, "hosts": hosts, "tasks": prepare["tasks"][1:]}
    (tmp_path / "release").write_text("#!/bin/sh\necho 1\n")
    (tmp_path / "release").chmod(0o755)
    stage = tmp_path / "playbooks/tasks/stage.yml"
    stage.write_text(stage.read_text().replace("/usr/local/sbin/release", str(tmp_path / "release")))
    well, said = playbook("prepare", [play])
    assert not well and "Nothing was touched. " in said, said
    assert redis_client.get(LOCK) is None


def test_what_a_person_drained_stops_a_roll_with_the_words_that_give_it_back(playbook, pool, call, fleet):
    address = fleet.apps[1].address
    call.one("serin_endpoint", service=SERVICE, endpoint=address, state="drained", reason="a look at it")
    well, said = playbook("look", plays([{"ansible.builtin.import_tasks": "tasks/look.yml"}], fleet_rolls=True))
    assert not well and f"serin endpoint ready {SERVICE} {address}" in said, said


def test_one_that_has_the_release_and_no_work_is_rolled_as_well(playbook, pool, call, fleet, tmp_path):
    one = [{"ansible.builtin.set_fact": {"fleet_before": "2"}}, *ROLL]
    call.one("serin_endpoint", service=SERVICE, endpoint=fleet.apps[0].address, version="2")
    well, said = playbook("roll", plays(one, hosts="one"))
    assert well, said
    assert not (tmp_path / "started").exists(), "it is done already"
    call.one("serin_endpoint", service=SERVICE, endpoint=fleet.apps[0].address, version="1")
    well, said = playbook("roll", plays(one, hosts="one"))
    assert well, said
    assert (tmp_path / "started").read_text().splitlines() == ["one 2"]
    assert pool()[fleet.apps[0].address] == ("ready", "2")


def test_a_lock_that_can_not_be_given_back_makes_nothing_ill_that_went_well(playbook):
    task = [{"ansible.builtin.include_tasks": "tasks/give_back.yml"}]
    well, said = playbook("unlock", plays(task, fleet_redis=["false"]))
    assert well and "The lock can't be given back, and ends by itself" in said, said


def test_the_lock_is_given_back_by_a_host_of_the_store_that_is_there(playbook, redis_client):
    redis_client.set(LOCK, "ours")
    (play,) = plays([{"ansible.builtin.include_tasks": "tasks/give_back.yml"}])
    well, said = playbook("give-back", [{**play, "any_errors_fatal": True}])
    assert well and "[gone]: UNREACHABLE" not in said, said
    assert redis_client.get(LOCK) is None
