"""The store, as playbooks speak with it: which server is the primary, the lock of deploys, passwords that nobody sees.
Servers and sentinels are real; the playbooks' own files are played, with other places for what lies in /etc."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys

import pytest
import yaml
from playbook import BIN, environment
from processes import ROOT, running

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


def ask(folder, hosts, password=NEW):
    """Who is the primary, as the role redis finds out; each host has its `conf`."""
    text = (ANSIBLE / "roles/redis/tasks/primary.yml").read_text()
    assert text.count("/etc/redis/sentinel.conf") == 2
    tasks = folder / "primary.yml"
    tasks.write_text(text.replace("/etc/redis/sentinel.conf", '{{ conf }}').replace(
        'redis_master_name }} ", {{ conf }}', 'redis_master_name }} ", "{{ conf }}"'))
    variables = {
        "redis_sentinels": [ADDRESS], "redis_master_name": "fleet", "redis_first_primary": FIRST,
        "redis_passwords": {"sentinel": password},
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
