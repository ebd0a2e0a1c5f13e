"""What roles refuse before they touch anything, and what they would write. `tests/run --fleet` runs those whose
programs Debian has; of MongoDB and Jenkins this is all that is tested."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
import yaml
from playbook import BIN, environment
from processes import ROOT

ROLES = ROOT / "ansible/roles"
SECRET = "s" * 43


def play(folder, tasks, variables):
    """Whether these tasks end well on this machine, and what was said."""
    plays = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks, "vars": variables}]
    variables["ansible_python_interpreter"] = sys.executable
    (folder / "play.yml").write_text(json.dumps(plays))
    command = [BIN / "ansible-playbook", folder / "play.yml"]
    env = environment(folder)
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def preflight(folder, role, variables):
    """Whether a role would begin with these variables, and what it says."""
    task = {"ansible.builtin.include_role": {"name": f"serin.fleet.{role}", "tasks_from": "preflight"}}
    return play(folder, [task], variables)


def verified(folder, role, variables, dead="none"):
    """Whether a role is content with this machine, where all units run but `dead`, and what it says."""
    systemctl = folder / "bin/systemctl"
    systemctl.parent.mkdir(exist_ok=True)
    systemctl.write_text(f'#!/bin/sh\n[ "$*" != "is-active --quiet {dead}" ]\n')
    systemctl.chmod(0o755)
    task = {"ansible.builtin.include_role": {"name": f"serin.fleet.{role}", "tasks_from": "verify"}}
    path = f"{systemctl.parent}:{os.environ['PATH']}"
    return play(folder, [{"block": [task], "environment": {"PATH": path}}], variables)


def rendered(folder, role, template, variables):
    """What a role's template comes to."""
    defaults = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text()) or {}
    shown = folder / "shown"
    copy = {"src": str(ROLES / role / "templates" / f"{template}.j2"), "dest": str(shown), "mode": "0600"}
    well, said = play(folder, [{"ansible.builtin.template": copy}], {**defaults, **variables})
    assert well, said
    return shown.read_text()


DATABASE = {"name": "site", "user": "checkbox", "password": SECRET, "from": ["10.0.0.21"]}
RELAY = {"mail_relay_from": ["10.0.0.11"], "mail_relay_smarthost": {}}
MONGODB = {
    "mongodb_repository": {"line": "deb [signed-by=/etc/apt/keyrings/mongodb.asc] https://x y z", "key": "k"},
    "mongodb_admin_password": SECRET,
    "mongodb_backup_password": SECRET,
    "mongodb_databases": [DATABASE],
}
REFUSED = {
    "a relay for everybody": ("mail_relay", {**RELAY, "mail_relay_from": ["0.0.0.0/0"]}, "is everybody"),
    "a mail server that is none": (
        "mail_relay",
        {**RELAY, "mail_relay_smarthost": {"url": "mail.example.org"}},
        "smtp+tls://HOST:PORT",
    ),
    "a password in the clear": (
        "mail_relay",
        {**RELAY, "mail_relay_smarthost": {"url": "smtp://mail.example.org", "user": "u", "password": "p"}},
        "may send it unencrypted",
    ),
    "monitoring of nothing": ("monitoring", {"monitoring_jobs": {"node": {"a": "b"}}}, "has no job `serin`"),
    "half of Grafana": (
        "monitoring",
        {"monitoring_jobs": {"serin": {"a": "b"}}, "monitoring_grafana": {"package": "x.deb"}},
        "its `sha256`",
    ),
    "a store without a login": (
        "exporters",
        {"exporters_redis": True, "exporters_from": ["10.0.0.3"]},
        "`exporters_redis` needs `exporters_redis_password`",
    ),
    "a webhook without a token": (
        "git_server",
        {"git_server_repositories": [], "git_server_people": [], "git_server_token": "short"},
        "`git_server_token` is 32 letters and digits, or more",
    ),
    "a short password of the store": (
        "redis",
        {"redis_passwords": {"app": "short"}, "redis_sentinels": ["a", "b", "c"]},
        "A password in `redis_passwords` is shorter than 32 letters",
    ),
    "TLS without certificates": (
        "redis",
        {"redis_passwords": {"app": SECRET}, "redis_sentinels": ["a", "b", "c"], "redis_tls": True},
        "`redis_tls` needs `redis_certificates`",
    ),
    "an agent without a program": (
        "serin_agent",
        {"serin_agent_binary": "/nowhere/serin", "serin_agent_admin": []},
        "is no program",
    ),
    "options that end their line": ("tomcat", {"tomcat_java_opts": '-Xmx1g"; id "'}, "stands between quotes"),
    "a repository without a key": (
        "mongodb",
        {**MONGODB, "mongodb_repository": {"line": "deb https://x y z", "key": "k"}},
        "signed-by",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused_and_told(tmp_path, what):
    role, variables, told = REFUSED[what]
    well, said = preflight(tmp_path, role, variables)
    assert not well
    assert any(words in said.replace("\n", " ") for words in told.split("|")), said


@pytest.mark.parametrize("role", ["mariadb", "mongodb"])
@pytest.mark.parametrize("wrong", [{"name": "a`b"}, {"user": "o'hara"}, {"password": "short"}, {"from": ["%"]}])
def test_what_a_database_could_take_for_something_else_is_refused(tmp_path, role, wrong):
    well, _ = preflight(tmp_path, role, {**MONGODB, f"{role}_databases": [DATABASE]})
    assert well, "as it should be"
    well, said = preflight(tmp_path, role, {**MONGODB, f"{role}_databases": [{**DATABASE, **wrong}]})
    assert not well
    assert SECRET not in said
    assert f"In `{role}_databases`, entry 1: " in said.replace("\n", " "), said


def test_tables_that_mariadb_could_not_find_any_more_are_refused_before_it_has_the_setting(tmp_path):
    text = (ROLES / "mariadb/tasks/preflight.yml").read_text()
    assert "/var/lib/mysql" in text
    tasks = yaml.safe_load(text.replace("/var/lib/mysql", str(tmp_path / "mysql")))

    def begins(setting):
        return play(tmp_path, tasks, {"mariadb_databases": [DATABASE], "mariadb_lower_case_table_names": setting})

    # Given none, as on a bare host, and then what MariaDB has of itself and of an application
    assert begins(1)[0]
    (tmp_path / "mysql/shop").mkdir(parents=True)
    for name in ("aria_log.00000001", "shop/db.opt", "shop/users.frm", "shop/users.MYD", "shop/users.MYI"):
        (tmp_path / "mysql" / name).touch()
    well, said = begins(1)
    assert well, said
    # When a name has a capital letter, of a table or of a database
    for name in ("shop/loginFailures.frm", "Shop"):
        (tmp_path / "mysql" / name).mkdir() if name == "Shop" else (tmp_path / "mysql" / name).touch()
        well, said = begins(1)
        assert not well and f"mysql/{name}" in said and "rename or dump that first" in " ".join(said.split()), said
    # Then it is none of this role's business without the setting
    assert begins(0)[0]


@pytest.mark.parametrize(("tables", "how"), [
    ("echo 0", "--single-transaction"), ("echo 45", "--lock-all-tables"), ("exit 1", "--lock-all-tables"),
])
def test_a_backup_of_mariadb_is_of_one_moment_whatever_its_tables_are(tmp_path, tables, how):
    plays = yaml.safe_load((ROOT / "ansible/playbooks/backup.yml").read_text())
    words = next(play for play in plays if play["name"] == "MariaDB")["tasks"][0]["vars"]
    command = words["fleet_dumps"].replace("{{ fleet_others }}", words["fleet_others"])
    assert "{{" not in command
    for name, does in (("mariadb", tables), ("mariadb-dump", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], env={"PATH": path}, capture_output=True, text=True, check=True,
    )
    assert done.stdout.split()[:2] == [how, "--all-databases"]


def test_what_is_brought_along_for_jenkins_has_its_checksum_and_plugins_have_versions(tmp_path):
    war = tmp_path / "jenkins.war"
    war.write_text("a")
    sum_of_it = subprocess.run(["sha256sum", war], capture_output=True, text=True, check=True).stdout.split()[0]
    needed = yaml.safe_load((ROLES / "jenkins/vars/main.yml").read_text())["jenkins_needed"]
    right = {
        "jenkins_war": str(war),
        "jenkins_war_sha256": sum_of_it,
        "jenkins_plugin_manager": str(war),
        "jenkins_plugin_manager_sha256": sum_of_it,
        "jenkins_plugins": dict.fromkeys(needed, "1.2.v3"),
        "jenkins_admin_password": SECRET,
        "jenkins_webhook_token": SECRET,
    }
    well, said = preflight(tmp_path, "jenkins", dict(right))
    assert well, said
    for wrong, told in (
        ({"jenkins_war_sha256": "0" * 64}, "jenkins.war"),
        ({"jenkins_plugins": {**right["jenkins_plugins"], "git": "latest"}}, "git has no version"),
        ({"jenkins_plugins": {"git": "5.2"}}, "lacks configuration-as-code"),
    ):
        well, said = preflight(tmp_path, "jenkins", {**right, **wrong})
        assert not well
        assert told in said


def test_jenkins_is_configured_by_yaml_that_names_no_secret(tmp_path):
    agent = {"name": "deploy-1", "host": "10.0.0.2", "user": "deploy", "folder": "/var/lib/pipeline"}
    other = {**agent, "name": "deploy-2", "user": "builder"}
    variables = {
        "jenkins_agents": [agent, other],
        "jenkins_url": "http://10.0.0.3:8090/",
        "jenkins_mail": {"host": "10.0.0.3", "from": "jenkins@example.org"},
        "jenkins_admin_password": SECRET,
        "jenkins_webhook_token": SECRET,
    }
    text = rendered(tmp_path, "jenkins", "jenkins.yaml", variables)
    assert SECRET not in text
    read = yaml.safe_load(text)
    assert read["jenkins"]["numExecutors"] == 0
    assert [node["permanent"]["labelString"] for node in read["jenkins"]["nodes"]] == ["deploy"] * 2
    credentials = read["credentials"]["system"]["domainCredentials"][0]["credentials"]
    names = {traits["id"] for credential in credentials for traits in credential.values()}
    assert names == {"webhook-token", "ansible-ssh", "ansible-vault", "agent-key-deploy", "agent-key-builder"}
    logins = {one["id"]: one["username"] for traits in credentials for one in traits.values() if "username" in one}
    for node in (node["permanent"] for node in read["jenkins"]["nodes"]):
        user = {"deploy-1": "deploy", "deploy-2": "builder"}[node["name"]]
        assert logins[node["launcher"]["ssh"]["credentialsId"]] == user
    # Those that pipelines ask for are there.
    for pipeline in (ROOT / "ansible/jenkins").glob("*.Jenkinsfile"):
        assert "credentials('ansible-ssh')" in pipeline.read_text()
    read = yaml.safe_load(rendered(tmp_path, "jenkins", "jenkins.yaml", {**variables, "jenkins_agents": []}))
    assert read["jenkins"]["nodes"] == []


def test_users_of_mongodb_are_made_by_a_script_that_can_be_run_again(tmp_path):
    script = rendered(tmp_path, "mongodb", "users.js", MONGODB)
    stub = """
const made = {}, calls = [];
const admin = {
  auth(user, pwd) { if (made[user]?.pwd !== pwd) throw new Error("Authentication failed"); },
  createUser({ user, ...wish }) { calls.push("create " + user); made[user] = wish; },
  updateUser(user, wish) { calls.push("update " + user); made[user] = { ...made[user], ...wish }; },
  getUser(user) { return made[user] ?? null; },
};
const db = { getSiblingDB: () => admin };
function run() {
"""
    told = "}\nrun(); run();\n"
    told += "console.log(JSON.stringify({ calls, roles: made.checkbox.roles, backup: made.backup.roles }));\n"
    (tmp_path / "users.js").write_text(stub + script + told)
    node = shutil.which("node")
    done = subprocess.run([node, tmp_path / "users.js"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "calls": ["create admin", "create checkbox", "create backup", "update checkbox", "update backup"],
        "roles": [{"role": "readWrite", "db": "site"}],
        "backup": [{"role": "backup", "db": "admin"}, {"role": "restore", "db": "admin"}],
    }


def test_mongodb_is_configured_by_yaml_that_lets_nobody_in_without_a_login(tmp_path):
    text = rendered(tmp_path, "mongodb", "mongod.conf", {**MONGODB, "mongodb_address": "10.0.0.41"})
    read = yaml.safe_load(text)
    assert read["security"] == {"authorization": "enabled"}
    assert read["net"]["bindIp"] == "127.0.0.1,10.0.0.41"


@pytest.mark.parametrize(("source", "networks", "told"), [
    ("192.0.2.7", ["198.51.100.0/24", "192.0.2.0/24"], None),
    ("2001:db8::7", ["192.0.2.0/24", "2001:db8::/32"], None),
    ("10.0.0.2", ["192.0.2.0/24"], "this came from 10.0.0.2"),
    ("2001:db8::7", ["0.0.0.0/0"], "this came from 2001:db8::7"),
    ("192.0.2.7", ["192.0.2.0/24", "nowhere"], None),
    ("192.0.2.7", ["nowhere"], "'nowhere' does not appear to be an IPv4 or IPv6 network"),
    ("192.0.2.7", [], "this came from 192.0.2.7"),
])
def test_whoever_comes_by_ssh_from_where_it_is_not_let_in_is_told_before_anything_is_changed(
    tmp_path, source, networks, told,
):
    read = yaml.safe_load((ROLES / "common/tasks/preflight.yml").read_text())
    tasks = [task for task in read if "comes from" in task["name"]]
    assert len(tasks) == 2
    by_ssh = {"SSH_CONNECTION": f"{source} 50022 10.0.0.11 22"}
    variables = {"common_local": False, "common_ssh_from": networks}
    well, said = play(tmp_path, [{"block": tasks, "environment": by_ssh}], variables)
    assert well == (told is None), said
    assert well or (told in " ".join(said.split()) and "`common_ssh_from`" in said)


def test_the_firewall_lets_ssh_in_over_both_protocols(tmp_path):
    networks = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]
    text = rendered(tmp_path, "common", "nftables.conf", {"common_ssh_from": networks})
    assert [line.strip() for line in text.splitlines() if "saddr" in line] == [
        "ip saddr { 192.0.2.0/24, 198.51.100.7 } tcp dport 22 accept",
        "ip6 saddr { 2001:db8::/32 } tcp dport 22 accept",
    ]


@pytest.mark.parametrize(("role", "template"), [
    ("redis", "users.acl"), ("redis", "sentinel.conf"), ("redis_mirror", "users.acl"), ("serin", "tokens"),
])
def test_while_a_secret_is_rotated_both_are_taken_and_nobody_else_gets_another(tmp_path, role, template):
    users = ["serin", "agent", "app", "operator", "replica", "sentinel", "monitor"]
    variables = {
        "redis_passwords": {user: f"{user}-is-{SECRET}" for user in users},
        "redis_address": "10.0.0.11",
        "redis_monitored": "10.0.0.11",
        "serin_tokens": [{"name": "agent", "role": "viewer", "token": SECRET}],
    }
    user = "app" if role == "redis_mirror" else "agent"
    alone = rendered(tmp_path, role, template, variables).splitlines()
    variables |= {"redis_passwords_too": {user: ["another"]}}
    variables["serin_tokens"][0]["too"] = ["another"]
    both = rendered(tmp_path, role, template, variables).splitlines()
    more = [line for line in both if line not in alone]
    assert len(more) == 1
    assert hashlib.sha256(b"another").hexdigest() in more[0]
    password = SECRET if role == "serin" else variables["redis_passwords"][user]
    assert any(hashlib.sha256(password.encode()).hexdigest() in line for line in both)
    assert more[0].startswith("agent:viewer:" if role == "serin" else f"user {user} on #")


class NoApplication(http.server.BaseHTTPRequestHandler):
    """Answers as Express does where there is no such route."""

    def do_GET(self):
        body = f"Cannot GET {self.path}".encode()
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


def test_what_does_not_run_or_answer_is_told_with_the_next_step(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoApplication) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {"checkbox_address": "127.0.0.1", "checkbox_port": server.server_port}
        well, said = verified(tmp_path, "checkbox", dict(variables))
        assert well and "changed=0" in said, said
        well, said = verified(tmp_path, "checkbox", dict(variables), dead="nginx")
        assert not well and "nginx doesn't run: `journalctl -u nginx -n 50` says why" in said, said
        assert "checkbox doesn't run" not in said and "gives no answer" not in said, said
        jenkins = {"jenkins_address": "127.0.0.1", "jenkins_port": server.server_port}
        well, said = verified(tmp_path, "jenkins", jenkins)
        assert not well and "/login answers 404, and not 200" in said, said
        server.shutdown()
    well, said = verified(tmp_path, "checkbox", dict(variables))
    assert not well and f"http://127.0.0.1:{variables['checkbox_port']}/api gives no answer" in said, said
    assert "playbooks/site.yml --tags checkbox --limit localhost sees to both" in said, said


def test_the_same_hosts_are_asked_about_the_same_roles_as_are_made():
    def plays(name):
        read = yaml.safe_load((ROOT / f"ansible/playbooks/{name}.yml").read_text())
        return [(play["name"], play["hosts"], play["tags"]) for play in read]

    *asked, last = plays("verify")
    assert asked == plays("site") and last[1:] == ("all", "always")
    roles = {tag for *_, tags in asked for tag in ([tags] if isinstance(tags, str) else tags)} - {"register"}
    assert roles == {path.parts[-3] for path in ROLES.glob("*/tasks/verify.yml")}
    # What `release` makes is asked about with the applications.
    assert roles | {"release"} == {path.name for path in ROLES.iterdir()}


# Units that bring a sandbox, or can have none, and why.
APART = {
    "redis-server": "Debian's is strict",
    "redis-sentinel": "Debian's is strict",
    "tomcat10": "Debian's is strict",
    "prometheus": "Debian's has one",
    "chrony": "Debian's is strict",
    "nftables": "runs for a moment, with what Debian gives it",
    "ssh": "whoever logs in may do what they may",
    "grafana-server": "its maker's has one",
}


def units(tasks):
    """The units that tasks run, start anew or stop, each by its name or by a loop over names."""
    for task in tasks or []:
        yield from units(task.get("block"))
        name = task.get("ansible.builtin.systemd_service", {}).get("name")
        loop = task.get("loop")
        yield from loop if name == "{{ item }}" and isinstance(loop, list) else [name] if name else []


@pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))
def test_what_a_role_runs_is_in_a_sandbox(role):
    files = [path for part in ("tasks", "handlers") for path in (ROLES / role / part).glob("*.yml")]
    written = "".join(path.read_text() for path in files)
    for unit in {unit for path in files for unit in units(yaml.safe_load(path.read_text()))} - APART.keys():
        own = ROLES / role / f"templates/{unit.removesuffix('.timer')}.service.j2"
        sandbox = own if own.exists() else ROLES / role / "templates/sandbox.conf.j2"
        places = [f"/etc/systemd/system/{name}.service.d/fleet.conf" for name in (unit, "{{ item }}")]
        assert own.exists() or any(place in written for place in places), unit
        assert "NoNewPrivileges=yes" in sandbox.read_text(), sandbox


# Who restarts has no release staged, and what runs is put back for both by the same tasks.
SHARED = {"fleet_before"}


def test_no_task_calls_something_as_what_was_registered_before_which_it_would_get_instead():
    kept, named = set(), set()

    def look(thing):
        if isinstance(thing, list):
            for part in thing:
                look(part)
        if isinstance(thing, dict):
            kept.update([thing["register"]] if isinstance(thing.get("register"), str) else [])
            kept.update(thing.get("ansible.builtin.set_fact", {}))
            named.update(thing.get("vars") or {})
            for part in thing.values():
                look(part)

    for folder in ("playbooks", "roles"):
        for file in (ROOT / "ansible" / folder).rglob("*.yml"):
            if "meta" not in file.parts:
                look(yaml.safe_load(file.read_text()))
    assert len(kept) > 50 and len(named) > 50, "there is little to look at"
    assert kept & named == SHARED
