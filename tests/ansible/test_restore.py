"""The store's way back: what `restore-redis` makes of a backup by real servers, and what restore.yml leaves of a store
where that fails. `tests/run --fleet` has the rest."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import redis
import yaml
from playbook import BIN, environment
from processes import ROOT, redis_server

PLAYBOOKS = ROOT / "ansible/playbooks"
SCRIPT = PLAYBOOKS / "files/restore-redis"
KEYS = 3000
# Of the value of each, so that a backup of all is some megabytes.
LENGTH = 1000


@pytest.fixture
def store(tmp_path):
    """The folder of a server that was stopped, with a backup beside what it has."""
    with redis_server(tmp_path) as port, redis.Redis(port=port) as client:
        for number in range(KEYS):
            client.set(f"key {number}", os.urandom(LENGTH // 2).hex())
        client.set("gone by then", 1, px=1)
        client.set("gone soon", 1, px=1500)
        client.set("elsewhere", 1)
        client.move("elsewhere", 3)
        folder = tmp_path / "store"
        (folder / "appendonlydir").mkdir(parents=True)
        command = ["redis-cli", "-p", str(port), "--rdb", folder / "restored.rdb"]
        subprocess.run(command, check=True, capture_output=True)
    (folder / "appendonlydir/what was there").write_text("all of it")
    return folder


def put_in(folder, before="exec"):
    """What the script came to, behind these words of a shell."""
    command = ["bash", "-c", f'{before} "$@"', "bash", SCRIPT, folder]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def keys_of(folder):
    """How many keys a server finds there."""
    with redis_server(folder, "--appendonly", "yes") as port, redis.Redis(port=port) as client:
        return client.dbsize()


def is_untouched(folder):
    """Whether all is there that was there, and nothing else."""
    names = sorted(path.name for path in folder.iterdir())
    return names == ["appendonlydir", "restored.rdb"] and (folder / "appendonlydir/what was there").exists()


def test_a_backup_becomes_what_a_server_starts_with_and_what_was_there_is_kept(store):
    done = put_in(store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{KEYS + 1} keys that last"
    assert (store / "replaced/appendonlydir/what was there").exists()
    assert sorted(path.name for path in store.iterdir()) == ["appendonlydir", "replaced"]
    assert keys_of(store) in (KEYS, KEYS + 1), "with the one that ends soon, or without"


def test_a_disk_that_is_full_changes_nothing_and_is_told(store):
    # In place of the disk, the largest file that may be written: half of the backup.
    done = put_in(store, f"ulimit -f {KEYS * LENGTH // 2048}; exec")
    assert done.returncode != 0
    assert "restore-redis: the log can't be written; nothing has changed" in done.stderr
    assert is_untouched(store)


def test_what_is_no_backup_changes_nothing_and_is_told(store):
    (store / "restored.rdb").write_text("no backup")
    done = put_in(store)
    assert done.returncode != 0
    assert "nothing has changed" in done.stderr
    assert is_untouched(store)


def test_a_server_that_will_keep_no_log_is_not_believed(store, tmp_path):
    # A redis-cli that fails as the real one does: with an error for an answer, and 0.
    cli = tmp_path / "bin/redis-cli"
    cli.parent.mkdir()
    cli.write_text('#!/bin/sh\ncase "$*" in *"config set"*) echo "ERR no" ;; *) exec /usr/bin/redis-cli "$@" ;; esac\n')
    cli.chmod(0o755)
    done = put_in(store, f"PATH={cli.parent}:$PATH exec")
    assert done.returncode != 0
    assert "keeps no log; nothing has changed" in done.stderr
    assert is_untouched(store)


# In the place of systemd: it keeps what state a unit is in, and one that shall not start doesn't.
SYSTEMCTL = """#!/bin/sh
for unit; do :; done
unit=$(echo "$unit" | tr -d "'")
unit=${{unit%.service}}
state={folder}/$MACHINE/$unit.state
case " $* " in
    *' show '*) echo LoadState=loaded; echo "ActiveState=$(cat "$state")" ;;
    *' stop '*) [ ! -e {folder}/$MACHINE/keeps-$unit ] || exit 1; echo inactive >"$state" ;;
    *' start '*) [ ! -e {folder}/$MACHINE/lost-$unit ] || exit 1; echo active >"$state" ;;
esac
"""
UNITS = ("redis-server", "redis-sentinel")


class Fleet:
    """Three hosts with servers and sentinels, of which the first is the primary."""

    def __init__(self, folder, store):
        self.folder, self.hosts = folder, ("first", "second", "third")
        for host in self.hosts:
            (folder / host / "appendonlydir").mkdir(parents=True)
            (folder / host / "appendonlydir/what was there").write_text("all of it")
            for unit in UNITS:
                (folder / host / f"{unit}.state").write_text("active")
        self.backup = folder / "backup"
        self.backup.mkdir()
        (store / "restored.rdb").rename(self.backup / "redis.rdb")
        shutil.copytree(PLAYBOOKS, folder / "playbooks")
        text = (PLAYBOOKS / "tasks/restore_redis.yml").read_text()
        place = f"{folder}/{{{{ inventory_hostname }}}}"
        text = re.sub(r", (/var/lib/redis[^]]*)]", r', "\1"]', text)
        for there, here in (
            ("/var/lib/redis", place), ("script: restore-redis", f"script: restore-redis {place}"),
            ("    owner: redis\n    group: redis\n", ""),
        ):
            assert there in text
            text = text.replace(there, here)
        # Who is the primary is for others to find out.
        text = "---\n" + text[text.index("- name: Know where it is"):]
        (folder / "playbooks/tasks/restore_redis.yml").write_text(text)
        play = yaml.safe_load((PLAYBOOKS / "restore.yml").read_text())
        for one in play:
            one.update(become=False, environment={"MACHINE": "{{ inventory_hostname }}"})
        (folder / "playbooks/restore.yml").write_text(yaml.safe_dump(play))
        (folder / "bin").mkdir()
        (folder / "bin/systemctl").write_text(SYSTEMCTL.format(folder=folder))
        (folder / "bin/systemctl").chmod(0o755)

    def restore(self):
        """How restore.yml ended, and what was said."""
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        known = {"redis_server": True, "redis_sentinel": True, "redis_primary": "first"}
        group = {"hosts": {host: {"redis_address": host} for host in self.hosts}}
        everything = {"children": {"redis": group, "redis_sentinel": group}, "vars": {**here, **known}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump({"all": everything}))
        told = json.dumps({"backup": str(self.backup), "confirm": "redis"})
        env = environment(self.folder)
        env["PATH"] = f"{self.folder}/bin:{env['PATH']}"
        playbook = self.folder / "playbooks/restore.yml"
        done = subprocess.run(
            [BIN / "ansible-playbook", "--inventory", self.folder / "hosts.yml", "--extra-vars", told, playbook],
            env=env, cwd=self.folder, capture_output=True, text=True, check=False, timeout=180,
        )
        return done.returncode == 0, " ".join((done.stdout + done.stderr).split())

    def mark(self, host, what):
        """Tells a host how to behave."""
        (self.folder / host / what).touch()

    def down(self):
        """What doesn't run, as `HOST UNIT`."""
        all_of_them = [(host, unit) for host in self.hosts for unit in UNITS]
        return [
            f"{host} {unit}" for host, unit in all_of_them
            if (self.folder / host / f"{unit}.state").read_text().strip() != "active"
        ]

    def has_what_was_there(self):
        """Which hosts do."""
        return [host for host in self.hosts if (self.folder / host / "appendonlydir/what was there").exists()]


@pytest.fixture
def fleet(tmp_path, store):
    """A store of three hosts, all at work, and a backup of another time."""
    return Fleet(tmp_path / "fleet", store)


def test_a_restored_store_is_at_work_again_with_what_the_backup_has(fleet):
    well, said = fleet.restore()
    assert well, said
    assert fleet.down() == [] and fleet.has_what_was_there() == []
    assert (fleet.folder / "first/replaced/appendonlydir/what was there").exists()
    assert keys_of(fleet.folder / "first") in (KEYS, KEYS + 1)


def test_a_backup_that_can_not_be_put_in_leaves_the_store_at_work_as_it_was(fleet):
    # Whole as far as redis-check-rdb looks, and in a place that can't be made.
    (fleet.folder / "first/new").touch()
    script = fleet.folder / "playbooks/files/restore-redis"
    script.write_text(script.read_text().replace("rm -rf new\nmkdir new", "mkdir new"))
    well, said = fleet.restore()
    assert not well and "What was there was started again" in said, said
    assert fleet.down() == []
    assert fleet.has_what_was_there() == list(fleet.hosts)


def test_nothing_is_put_in_while_one_server_still_runs_and_all_are_started_again(fleet):
    fleet.mark("third", "keeps-redis-server")
    well, said = fleet.restore()
    assert not well and "third could not be stopped, so nothing was restored" in said, said
    assert fleet.down() == []
    assert fleet.has_what_was_there() == list(fleet.hosts)


def test_sentinels_choose_no_emptied_replica_while_the_restored_primary_does_not_start(fleet):
    fleet.mark("first", "lost-redis-server")
    well, said = fleet.restore()
    assert not well and "the other servers and the sentinels are still stopped" in said, said
    assert len(fleet.down()) == len(fleet.hosts) * len(UNITS)


def test_too_little_room_is_refused_before_anything_is_stopped(fleet):
    disk = fleet.folder / "bin/df"
    disk.write_text("#!/bin/sh\necho Avail; echo 9000000\n")
    disk.chmod(0o755)
    well, said = fleet.restore()
    assert not well and "has 9000000 bytes left, and this takes" in said and "Nothing was touched" in said, said
    assert fleet.down() == []
    assert fleet.has_what_was_there() == list(fleet.hosts)
