"""The store, as playbooks speak with it: which server is the primary, the lock of deploys, passwords that nobody sees.
Servers and sentinels are real; the playbooks' own files are played, with other places for what lies in /etc."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import redis
import yaml
from playbook import BIN, environment
from processes import ROOT, redis_server, running

OLD, NEW = "o" * 43, "n" * 43
ANSIBLE = ROOT / "ansible"
# Where sentinels listen is fixed, so each run of the tests has an address of its own.
ADDRESS = f"127.{100 + os.getpid() // 65536 % 100}.{os.getpid() // 256 % 256}.{os.getpid() % 254 + 1}"
PRIMARY, FIRST = "10.0.0.12", "10.0.0.11"
MONITORS = f"sentinel monitor fleet {PRIMARY} 6379 1\n"


def play(folder, tasks, variables, hosts=None):
    """How a play of these tasks ended for hosts that are all this machine; what was said, and the facts of each."""
    hosts = hosts or {"store": {}}
    show = {"ansible.builtin.copy": {
        "content": "{{ redis_primary | default('') }}", "dest": f"{folder}/primary-{{{{ inventory_hostname }}}}",
        "mode": "0600",
    }}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    group = {"hosts": {name: {**here, **own} for name, own in hosts.items()}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"redis_sentinel": group}}}))
    tasks = [*tasks, show]
    (folder / "play.yml").write_text(json.dumps([{
        "hosts": "all", "gather_facts": False, "tasks": tasks, "vars": variables,
    }]))
    command = [BIN / "ansible-playbook", "--inventory", folder / "hosts.yml", folder / "play.yml"]
    done = subprocess.run(command, env=environment(folder), cwd=folder, capture_output=True, text=True, check=False)
    primaries = {path.name.removeprefix("primary-"): path.read_text() for path in folder.glob("primary-*")}
    return done.returncode == 0, (done.stdout + done.stderr).replace("\n", " "), primaries


@contextlib.contextmanager
def sentinel(folder, password):
    """A sentinel that takes this password, and knows the primary; its configuration."""
    conf = folder / "sentinel.conf"
    conf.write_text(
        f"bind {ADDRESS}\nport 26379\ndir {folder}\nuser default off\n"
        f"user sentinel on #{hashlib.sha256(password.encode()).hexdigest()} allchannels +@all\n"
        f"sentinel sentinel-user sentinel\nsentinel sentinel-pass {password}\n{MONITORS}"
    )
    command = ["redis-server", conf, "--sentinel"]
    with running("redis-sentinel", command, folder / "sentinel.log", lambda: "+monitor" in log(folder)):
        yield conf


def log(folder):
    """What the sentinel has said."""
    return (folder / "sentinel.log").read_text()


def ask(folder, hosts, password=NEW, **more):
    """Who is the primary, as the role redis finds out; each host has its `conf`."""
    text = (ANSIBLE / "roles/redis/tasks/primary.yml").read_text()
    assert text.count("/etc/redis/sentinel.conf") == 2
    tasks = folder / "primary.yml"
    assert text.count("-h 127.0.0.1") == 1
    text = text.replace("-h 127.0.0.1", f"-h {ADDRESS}")
    tasks.write_text(text.replace("/etc/redis/sentinel.conf", '{{ conf }}').replace(
        'redis_master_name }} ", {{ conf }}', 'redis_master_name }} ", "{{ conf }}"'))
    variables = {
        "redis_sentinels": [ADDRESS], "redis_master_name": "fleet", "redis_first_primary": FIRST,
        "redis_passwords": {"sentinel": password}, "redis_tls": False, "redis_by_tls": "", **more,
    }
    hosts = {name: {"conf": str(conf)} for name, conf in hosts.items()}
    return play(folder, [{"ansible.builtin.include_tasks": str(tasks)}], variables, hosts)


def test_while_its_password_changes_the_sentinels_still_say_who_is_the_primary(tmp_path):
    with sentinel(tmp_path, OLD) as conf:
        # One of the hosts has no sentinel, and so no password that is in force.
        well, said, primaries = ask(tmp_path, {"one": conf, "two": tmp_path / "none"})
    assert well, said
    assert primaries == {"one": PRIMARY, "two": PRIMARY}
    assert OLD not in said and NEW not in said


def test_on_a_fleet_that_goes_over_to_tls_a_host_asks_its_own_sentinel_as_before(tmp_path):
    by_tls = {"redis_tls": True, "redis_by_tls": "--tls"}
    with sentinel(tmp_path, NEW) as conf:
        assert ask(tmp_path, {"one": conf}, **by_tls)[2] == {"one": PRIMARY}


def test_where_no_sentinel_answers_nobody_is_taken_for_the_primary(tmp_path):
    (tmp_path / "conf").write_text(MONITORS)
    well, said, primaries = ask(tmp_path, {"one": tmp_path / "conf"})
    assert not well and primaries == {}
    assert f"No sentinel of {ADDRESS} says which server is the primary" in said


@pytest.mark.parametrize("conf", ["", "sentinel monitor mymaster 127.0.0.1 6379 2\n"])
def test_a_new_store_begins_with_the_first_primary(tmp_path, conf):
    (tmp_path / "conf").write_text(conf)
    well, said, primaries = ask(tmp_path, {"one": tmp_path / "conf", "two": tmp_path / "none"})
    assert well, said
    assert primaries == {"one": FIRST, "two": FIRST}


class Store:
    """A server with a user `operator`, and a redis-cli that writes down what everybody sees of all processes."""

    def __init__(self, folder, port, client):
        self.folder, self.port, self.client = folder, port, client
        self.lock = "serin:{production}:lock:deploy"
        cli = folder / "redis-cli"
        cli.write_text(
            f"#!/bin/sh\nps -e -ww -o args >>{folder}/seen\n"
            f'[ ! -e {folder}/meanwhile ] || redis-cli -p {port} --user admin --pass {OLD} set "{self.lock}" other\n'
            'exec redis-cli "$@"\n'
        )
        cli.chmod(0o755)
        # Without the collection's own settings a playbook finds its tasks beside it.
        shutil.copytree(ANSIBLE / "playbooks", folder / "playbooks")
        self.variables = {
            "redis_sentinels": [], "redis_first_primary": "127.0.0.1", "redis_address": "127.0.0.1",
            "redis_clients": [], "redis_passwords": dict.fromkeys(
                ("serin", "agent", "app", "operator", "replica", "sentinel", "monitor"), NEW,
            ),
            "fleet_lock": "serin:{production}:lock:deploy", "fleet_lock_seconds": 7200, "fleet_what": "a test",
            "fleet_redis": [str(cli), "-p", str(port), "--user", "operator", "--no-auth-warning"],
        }

    def play(self, *names, **variables):
        """Plays files of tasks; how it ended and what was said."""
        tasks = [{"ansible.builtin.include_tasks": f"{self.folder}/playbooks/{name}"} for name in names]
        hosts = {"one": {}, "two": {}}
        return play(self.folder, tasks, {**self.variables, **variables}, hosts)[:2]


@pytest.fixture
def store(tmp_path):
    """A store that nobody has locked."""
    (tmp_path / "users.acl").write_text(
        f"user default off\nuser admin on >{OLD} ~* &* +@all\n"
        # What the role's template gives to people.
        f"user operator on >{NEW} ~* resetchannels -@all +@connection +@read -@dangerous +multi +exec +watch +unwatch "
        "+set +del\n"
        f"user replica on >{NEW} resetchannels -@all +psync +sync +replconf +ping\n"
    )
    admin = {"username": "admin", "password": OLD, "decode_responses": True}
    acl = ["--aclfile", tmp_path / "users.acl"]
    with redis_server(tmp_path, *acl) as port, redis.Redis(port=port, **admin) as client:
        yield Store(tmp_path, port, client)


def test_the_lock_is_taken_once_and_given_back_and_its_password_is_in_nobodys_arguments(store):
    well, said = store.play("tasks/lock.yml")
    assert well, said
    assert store.client.get(store.lock).startswith("a test, by ")
    assert 7000 < store.client.ttl(store.lock) <= 7200
    well, said = store.play("tasks/lock.yml")
    assert not well and "Another deploy is under way: a test, by " in said
    store.client.delete(store.lock)
    well, said = store.play("tasks/lock.yml", "tasks/give_back.yml")
    assert well, said
    assert store.client.get(store.lock) is None
    seen = (store.folder / "seen").read_text()
    assert "ansible-playbook" in seen
    assert NEW not in seen and NEW not in said


def test_a_lock_lasts_as_long_as_a_decision_is_waited_for_and_longer(store):
    well, said = store.play("tasks/lock.yml", fleet_patience="14400")
    assert well, said
    assert store.client.ttl(store.lock) > 14400 + 3300


def test_what_another_has_locked_meanwhile_stays_locked(store):
    assert store.play("tasks/lock.yml")[0]
    store.client.set(store.lock, "another deploy")
    well, said = store.play("tasks/give_back.yml", fleet_deploy="a test, by nobody")
    assert well, said
    assert store.client.get(store.lock) == "another deploy"


def test_a_store_that_refuses_is_told_and_is_no_other_deploy(store):
    wrong = {**store.variables["redis_passwords"], "operator": "x" * 43}
    well, said = store.play("tasks/lock.yml", redis_passwords=wrong)
    assert not well and "The lock can't be taken: " in said and "Another deploy" not in said
    well, said = store.play("tasks/give_back.yml", redis_passwords=wrong, fleet_deploy="a test")
    assert well and "The lock can't be given back, and ends by itself" in said
