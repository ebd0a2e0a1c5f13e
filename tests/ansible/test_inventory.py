"""The inventory plugin: the fleet as Redis and the admin API know it, whoever wrote there."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from playbook import BIN, environment
from processes import redis_sentinel, redis_server

from ansible_collections.serin.fleet.plugins.module_utils import discovery

POOL = "serin:{{mirror}}:service:{}:pool:{}"


@pytest.fixture
def inventory(fleet, tmp_path):
    """Reads an inventory by a real ansible-inventory."""
    def read(*words, program="ansible-inventory", **options):
        source = tmp_path / "fleet.serin.yml"
        redis_url = f"redis://127.0.0.1:{fleet.redis_port}/0"
        told = {"plugin": "serin.fleet.serin", "redis_url": redis_url, "namespace": "mirror", **options}
        source.write_text(yaml.safe_dump(told))
        command = [BIN / program, "-i", source, *(words or ["--list"])]
        env = {**environment(tmp_path), "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    return read


@pytest.fixture
def member(redis_client):
    """Writes a member as `docs/redis.md` says, into a namespace of its own."""
    def write(service, pool, name, **told):
        redis_client.hset(POOL.format(service, pool), name, json.dumps({"state": "ready", "address": name, **told}))

    yield write
    for key in redis_client.scan_iter(match="serin:{mirror}:*"):
        redis_client.delete(key)


def listed(done):
    """What an inventory lists: groups with their hosts, and the variables of hosts."""
    assert done.returncode == 0, done.stderr
    groups = json.loads(done.stdout)
    hosts = plain(groups.pop("_meta")["hostvars"])
    return {name: set(group.get("hosts", group.get("children", []))) for name, group in groups.items()}, hosts


def plain(value):
    """The same without the marks that Ansible sets on texts that are no templates."""
    if isinstance(value, dict):
        return value["__ansible_unsafe"] if "__ansible_unsafe" in value else {k: plain(v) for k, v in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def test_redis_says_which_hosts_there_are(inventory, member, redis_client):
    # Given members of every kind, two of them on one host.
    member("checkbox", "stable", "10.0.0.11:3002", version="1.4", zone="b", metadata={"hostname": "web1"})
    member("checkbox", "stable", "10.0.0.12:3002", state="draining", weight=3)
    member("checkbox", "canary", "10.0.0.12:3003", version="1.5")
    member("check-in", "stable", "[fd00::1]:80", metadata={"hostname": "-oProxyCommand=x"})
    member("checkbox", "canary", "10.0.0.13:3002", state="removed")
    member("checkbox", "canary", "beats", address="10.0.0.14:3002", ttl_ms=9000)
    member("checkbox", "canary", "is-silent", address="10.0.0.15:3002", ttl_ms=9000)
    redis_client.set("serin:{mirror}:lease:checkbox:canary:beats", 1)
    member("checkbox", "canary", "elsewhere", address="-oProxyCommand=x:22")
    redis_client.hset(POOL.format("checkbox", "canary"), "torn", '{"state":')
    # When it is read.
    keyed = [{"key": "serin_zone", "prefix": "zone", "default_value": "nowhere"}]
    done = inventory(keyed_groups=keyed, groups={"idle": "serin_state == 'draining'"}, compose={"at": "serin_port + 1"})
    groups, hosts = listed(done)
    # Then hosts are machines, and groups are services and their pools.
    assert groups["checkbox"] == {"checkbox_stable", "checkbox_canary"}
    assert groups["checkbox_stable"] == {"web1", "10.0.0.12"}
    assert groups["checkbox_canary"] == {"10.0.0.12", "10.0.0.14"}
    assert groups["check_in_stable"] == {"fd00::1"}
    assert groups["zone_b"] == {"web1"} and groups["idle"] == {"10.0.0.12"}
    web = hosts["web1"]
    assert (web["ansible_host"], web["serin_version"], web["at"]) == ("10.0.0.11", "1.4", 3003)
    first, second = hosts["10.0.0.12"]["serin_endpoints"]
    assert {(one["pool"], one["port"], one["state"], one["weight"]) for one in (first, second)} == {
        ("stable", 3002, "draining", 3), ("canary", 3003, "ready", 1)
    }
    # What makes no sense is named and passed over.
    assert "`torn`" in done.stderr and "`elsewhere`" in done.stderr, done.stderr
    # A host that doesn't beat is there for whoever asks, and a service for who asks for it alone.
    groups, hosts = listed(inventory(silent=True, services=["checkbox"], group_prefix="serin_", hostnames=["id"]))
    assert hosts["is-silent"]["serin_state"] == "silent" and "serin_check_in" not in groups
    assert groups["serin_checkbox_stable"] == {"10.0.0.11:3002", "10.0.0.12:3002"}


def test_the_admin_api_says_which_hosts_there_are(fleet, inventory):
    options = {"source": "admin", "admin": [fleet.proxies[0].admin], "token_file": str(fleet.folder / "viewer")}
    groups, hosts = listed(inventory(hostnames=["address"], services=["plain"], **options))
    assert groups["plain_stable"] == {app.address for app in fleet.apps[:3]}
    assert hosts[fleet.apps[0].address]["serin_endpoints"][0]["health"] == "up"


def test_no_text_of_a_member_is_a_template(inventory, member, tmp_path):
    attack = f"{{{{ lookup('pipe', 'touch {tmp_path}/owned') }}}}"
    said = {"version": attack, "zone": attack, "metadata": {"hostname": attack, "rack": attack}}
    member("checkbox", "stable", "10.0.0.11:3002", **said)
    words = ["all", "-c", "local", "-m", "debug", "-a", "msg={{ serin_version }}{{ serin_zone }}{{ serin_endpoints }}"]
    done = inventory(*words, program="ansible")
    assert "10.0.0.11 | SUCCESS" in done.stdout and "lookup" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "owned").exists()


def test_redis_is_found_by_its_sentinels_and_let_in_by_a_login(fleet, inventory, member, redis_client, tmp_path):
    # Given a user as docs/redis.md has it for people, and a sentinel that knows the server.
    redis_client.acl_setuser("operator", enabled=True, passwords=["+sesame"], keys=["serin:{mirror}:*"],
                             categories=["+@read", "+@connection", "-@dangerous"])
    for name, text in ("user", "operator"), ("password", "sesame"), ("wrong", "please"):
        (tmp_path / name).write_text(text + "\n")
    member("checkbox", "stable", "10.0.0.11:3002")
    login = {"redis_username_file": str(tmp_path / "user"), "redis_password_file": str(tmp_path / "password")}
    with redis_sentinel(tmp_path, "main", fleet.redis_port) as port:
        url = f"redis+sentinel://127.0.0.1:{port}/main/0"
        groups, _ = listed(inventory(redis_url=url, **login))
        refused = inventory(redis_url=url, **{**login, "redis_password_file": str(tmp_path / "wrong")})
        unknown = inventory(redis_url=url.replace("main", "other"), **login)
    assert groups["checkbox_stable"] == {"10.0.0.11"}
    assert refused.returncode and "Redis can't be read" in refused.stderr and "please" not in refused.stderr
    assert unknown.returncode and "'other'" in unknown.stderr, unknown.stderr


def test_redis_is_read_by_tls_and_never_unchecked(inventory, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subject = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject],
                   check=True, capture_output=True)
    words = ["--port", "0", "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate,
             "--tls-auth-clients", "no"]
    with redis_server(tmp_path, *words, option="--tls-port") as port:
        url = f"rediss://127.0.0.1:{port}/0"
        groups, _ = listed(inventory(redis_url=url, redis_ca_file=str(certificate)))
        unchecked = inventory(redis_url=url)
    assert groups["all"] == {"ungrouped"}, "it is empty, and could be read"
    assert unchecked.returncode and "certificate verify failed" in unchecked.stderr, unchecked.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"redis_url": "redis://127.0.0.1:1/0"}, "Redis can't be read"),
        ({"redis_password_file": "/nowhere/password"}, "cannot read /nowhere/password"),
        ({"source": "admin", "admin": ["http://127.0.0.1:1"]}, "cannot reach the admin API"),
        ({"hostnames": ["fqdn"]}, "`fqdn` in `hostnames` is none of"),
    ],
    ids=["redis", "a login", "the API", "a name"],
)
def test_what_cannot_be_read_is_said(inventory, member, options, says):
    member("checkbox", "stable", "10.0.0.11:3002")
    done = inventory(**options)
    assert done.returncode != 0 and says in done.stderr, done.stderr


def test_a_redis_that_cannot_be_meant_is_refused():
    for url, says in (
        ("http://127.0.0.1:1", "`redis_url` is none"),
        ("redis+sentinel://127.0.0.1", "`redis_url` names no server"),
        ("redis+sentinel://127.0.0.1/main/first", "`redis_url` names no server"),
    ):
        with pytest.raises(discovery.DiscoveryError, match=says):
            discovery.connect(url, {}, {}, {})
    for namespace in "a b", "", "a}b", "a\nb":
        with pytest.raises(discovery.DiscoveryError, match="is no namespace"):
            discovery.Keys(namespace)


def test_data_of_a_later_version_is_left_alone(inventory, member, redis_client):
    member("checkbox", "stable", "10.0.0.11:3002")
    redis_client.set("serin:{mirror}:schema", 2)
    done = inventory()
    assert done.returncode != 0 and "upgrade this collection" in done.stderr, done.stderr
