"""The store by TLS: certificates, and what roles configure by them. Servers, a sentinel, a mirror and the daemon
are real; what lies in /etc on hosts lies in folders here."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import subprocess
import urllib.request

import pytest
import redis
from processes import PATIENCE, ROOT, accepts, eventually, running, serin
from redis.backoff import NoBackoff
from redis.retry import Retry
from test_store import ask, play

ROLES = ROOT / "ansible/roles"
CERTIFICATE = ROLES / "redis/files/certificate"
# The ports are fixed, so each run of the tests has addresses of its own.
HERE = [f"127.{100 + 50 * which + os.getpid() // 65536 % 50}.{os.getpid() // 256 % 256}.{os.getpid() % 254 + 1}"
        for which in range(3)]
USERS = ("serin", "agent", "app", "operator", "replica", "sentinel", "monitor")
PASSWORDS = {user: f"{user}-{'x' * 32}" for user in USERS}
HOUR = 3600
# A client that tries no second time.
ONCE = Retry(NoBackoff(), 0)


def certificate(folder, *words):
    """What the script said of a host's certificate."""
    done = subprocess.run(["sh", CERTIFICATE, folder, *words], capture_output=True, text=True, check=False)
    return done.stdout.split(), done.stderr


def openssl(*words):
    """What openssl says."""
    return subprocess.run(["openssl", *words], capture_output=True, text=True, check=True).stdout


def days_left(pem):
    """For how many whole days a certificate is good."""
    ends = openssl("x509", "-noout", "-enddate", "-in", pem).strip().removeprefix("notAfter=")
    begins = openssl("x509", "-noout", "-startdate", "-in", pem).strip().removeprefix("notBefore=")
    return (ssl.cert_time_to_seconds(ends) - ssl.cert_time_to_seconds(begins)) // (24 * HOUR)


def shorten(folder, host, days):
    """Replaces a host's certificate by one of the same kind that ends so soon."""
    pem = folder / "redis" / f"{host}.pem"
    (folder / "names").write_text("subjectAltName = IP:10.0.0.11, IP:127.0.0.1\n")
    openssl("req", "-new", "-key", pem, "-subj", "/CN=store", "-out", folder / "request")
    by = ["-CA", folder / "redis-ca.pem", "-CAkey", folder / "redis-ca.key", "-set_serial", "7"]
    openssl("x509", "-req", "-in", folder / "request", *by, "-days", str(days), "-extfile", folder / "names",
            "-out", folder / "short")
    key = openssl("pkey", "-in", pem)
    pem.write_text(key + (folder / "short").read_text())


def test_a_hosts_certificate_is_made_once_and_anew_when_it_would_no_longer_do(tmp_path):
    assert certificate(tmp_path, "one", "10.0.0.11", "--check")[0][0] == "due"
    assert not list(tmp_path.iterdir()), "a check has made something"
    (made, first), _ = certificate(tmp_path, "one", "10.0.0.11")
    assert made == "made" and certificate(tmp_path, "one", "10.0.0.11") == (["same", first], "")
    pem, key = tmp_path / "redis/one.pem", tmp_path / "redis-ca.key"
    assert [path.stat().st_mode & 0o077 for path in (pem, key)] == [0, 0], "others can read a key"
    assert (days_left(pem), days_left(tmp_path / "redis-ca.pem")) == (730, 3650)
    # With a quarter of a year left it is made anew, and not before.
    for days, state in ((100, "same"), (80, "made")):
        shorten(tmp_path, "one", days)
        assert certificate(tmp_path, "one", "10.0.0.11")[0][0] == state
    assert days_left(pem) == 730
    # So it is for another address, and by another authority.
    assert certificate(tmp_path, "one", "10.0.0.13")[0][0] == "made"
    (tmp_path / "redis-ca.pem").rename(tmp_path / "before.pem")
    assert certificate(tmp_path, "one", "10.0.0.13", "--check")[0][0] == "due"
    assert certificate(tmp_path, "one", "10.0.0.13")[0][0] == "made"
    assert not list(tmp_path.glob(".certificate.*")), "something is left behind"


def test_an_authority_is_followed_by_another_without_a_moment_in_which_one_is_not_believed(tmp_path):
    # Given a host's certificate.
    certificate(tmp_path, "one", "10.0.0.11")
    before = (tmp_path / "redis/one.pem").read_text()
    # When another authority is made, and both are believed.
    (tmp_path / "redis-ca.pem").rename(tmp_path / "before.pem")
    certificate(tmp_path)
    with (tmp_path / "redis-ca.pem").open("a") as both:
        both.write((tmp_path / "before.pem").read_text())
    # Then the host's is as good as it was, and is one by the new one once it is taken away.
    assert certificate(tmp_path, "one", "10.0.0.11")[0][0] == "same"
    assert (tmp_path / "redis/one.pem").read_text() == before
    (tmp_path / "redis/one.pem").unlink()
    assert certificate(tmp_path, "one", "10.0.0.11")[0][0] == "made"
    with pytest.raises(subprocess.CalledProcessError):
        openssl("verify", "-CAfile", tmp_path / "before.pem", tmp_path / "redis/one.pem")
    openssl("verify", "-CAfile", tmp_path / "redis-ca.pem", tmp_path / "redis/one.pem")


def test_certificates_of_an_authority_of_ones_own_are_taken_while_they_are_good(tmp_path):
    # Given certificates whose authority has its key elsewhere.
    certificate(tmp_path, "one", "10.0.0.11")
    shorten(tmp_path, "one", 5)
    (tmp_path / "redis-ca.key").unlink()
    # Then they are good until they end, and what isn't there is asked for.
    assert certificate(tmp_path, "one", "10.0.0.11")[0][0] == "same"
    said, complaint = certificate(tmp_path, "two", "10.0.0.12")
    assert not said and "Put one there, the key and the certificate in one file" in complaint
    assert not (tmp_path / "redis/two.pem").exists()


def lay_roles(folder):
    """Roles whose /etc is a folder of each host, whose servers have one address, and whose `laid` writes it all."""
    everywhere = {"serin.fleet.redis": f"{folder}/roles/redis", "/etc/fleet-redis-ca.pem": f"{folder}/ca.pem"}
    on_hosts = {
        "dest: /etc/redis/tls.pem": 'dest: "{{ place }}/tls.pem"', "/etc/redis": "{{ place }}",
        "dir /var/lib/redis": "dir {{ place }}", "bind 127.0.0.1 ": "bind ",
    }
    for role, of in (("redis", "redis_replica_of"), ("redis_mirror", "redis_mirror_of")):
        for path in (path for path in (ROLES / role).rglob("*") if path.is_file()):
            text = path.read_text()
            lies_there = path.suffix == ".j2" or path.name == "certificate.yml"
            for one, other in (everywhere | on_hosts if lies_there else everywhere).items():
                text = text.replace(one, other)
            text = re.sub(r"^ *(owner|group): .*\n", "", text, flags=re.MULTILINE)
            copy = folder / "roles" / role / path.relative_to(ROLES / role)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
        names = ["users.acl", "redis.conf", *(["sentinel.conf"] if role == "redis" else [])]
        (folder / "roles" / role / "tasks/laid.yml").write_text(f"""---
- template: {{src: "{{{{ item }}}}.j2", dest: "{{{{ place }}}}/{{{{ item }}}}", mode: "0600"}}
  vars: {{{of}: "{{{{ (redis_address == '{HERE[0]}') | ternary('', '{HERE[0]}') }}}}", redis_monitored: {HERE[0]}}}
  loop: {names}
""")


def laid(folder):
    """Configurations of two servers, a sentinel and a mirror, by the roles; certificates that are there stay."""
    lay_roles(folder)
    hosts = {}
    for name, address in zip(("one", "two", "mirror"), HERE):
        (folder / name).mkdir()
        hosts[name] = {"place": str(folder / name), "redis_address": address, "redis_mirror_address": address}
    roles = folder / "roles"

    def written(role, tasks, where):
        return {"include_role": {"name": str(roles / role), "tasks_from": tasks}, "when": f"inventory_hostname {where}"}

    tasks = [
        written("redis", "certificate", "!= ''"), written("redis", "laid", "!= 'mirror'"),
        written("redis_mirror", "laid", "== 'mirror'"),
    ]
    variables = {
        "redis_tls": True, "redis_certificates": str(folder / "secrets"), "redis_passwords": PASSWORDS,
        "redis_sentinels": [HERE[0]], "redis_quorum": 1,
    }
    (folder / "secrets").mkdir()
    for again in tasks, tasks[:1]:
        well, said, _ = play(folder, again, variables, hosts)
        assert well, said
        assert ("changed: [" in said) == (again == tasks), said
    return folder


@contextlib.contextmanager
def server(folder, name, address, port, *words):
    """A server or sentinel by its configuration."""
    conf = folder / name / ("sentinel.conf" if words else "redis.conf")
    log = folder / name / f"{conf.stem}.log"
    with running(name, ["redis-server", conf, *words], log, lambda: accepts(port, address)) as child:
        yield child


def client(folder, address, user, port=6379):
    """A client by TLS."""
    login = {"username": user, "password": PASSWORDS[user], "decode_responses": True}
    tls = {"ssl": True, "ssl_ca_certs": str(folder / "ca.pem"), "ssl_check_hostname": True}
    return redis.Redis(address, port, retry=ONCE, **login, **tls)


def link(folder, address, port=6379):
    """Whose replica a server is, while it has what that has."""
    with contextlib.suppress(redis.RedisError), client(folder, address, "sentinel", port) as asked:
        said = asked.info("replication")
        return said.get("master_link_status") == "up" and said["master_host"]


def test_store_and_mirrors_are_reached_by_tls_alone_and_another_server_takes_the_place_of_a_lost_one(tmp_path):
    folder = laid(tmp_path)
    for name, text in (("user", "serin"), ("password", PASSWORDS["serin"])):
        (folder / name).write_text(text + "\n")
    config = f'''
[store]
url = "rediss+sentinel://{HERE[0]}/fleet/0"
username_file = "{folder}/user"
password_file = "{folder}/password"
sentinel_username_file = "{folder}/user"
sentinel_password_file = "{folder}/password"
state_file = "@state@"
[store.tls]
ca_file = "{folder}/ca.pem"
'''
    with contextlib.ExitStack() as stack:
        # Given two servers, one of them a replica, a mirror, and a sentinel.
        first = stack.enter_context(server(folder, "one", HERE[0], 6379))
        stack.enter_context(server(folder, "two", HERE[1], 6379))
        stack.enter_context(server(folder, "mirror", HERE[2], 6380))
        stack.enter_context(server(folder, "one", HERE[0], 26379, "--sentinel"))
        eventually("the replica is one", lambda: link(folder, HERE[1]) == HERE[0])
        eventually("the mirror is one", lambda: link(folder, HERE[2], 6380) == HERE[0])
        sentinel = client(folder, HERE[0], "sentinel", 26379)
        eventually("the sentinel knows both", lambda: {
            (one["ip"], one["port"]) for one in sentinel.sentinel_slaves("fleet")
        } == {(HERE[1], 6379), (HERE[2], 6380)})
        # Then nobody is answered who speaks without it, or believes another authority.
        for address, port in ((HERE[0], 6379), (HERE[0], 26379), (HERE[2], 6380)):
            with redis.Redis(address, port, retry=ONCE) as plain, pytest.raises(redis.ConnectionError):
                plain.ping()
            with redis.Redis(address, port, retry=ONCE, ssl=True) as stranger, \
                    pytest.raises(redis.ConnectionError, match="verify failed"):
                stranger.ping()
        # And an application reads its mirror as it always did.
        with redis.Redis(HERE[2], 6379, username="app", password=PASSWORDS["app"]) as app:
            assert app.hgetall("serin:{production}:flags") == {}
        # And proxies and roles find the primary, also when that is lost.
        proxy = stack.enter_context(serin(folder / "serin", config, ""))
        eventually("the proxy reaches the store", lambda: reaches(proxy))
        assert asked(folder) == HERE[0]
        first.kill()
        first.wait()
        eventually("the sentinel has another primary",
                   lambda: sentinel.sentinel_get_master_addr_by_name("fleet", return_responses=True)[0] == HERE[1])
        assert asked(folder) == HERE[1]
        eventually("the mirror follows it", lambda: link(folder, HERE[2], 6380) == HERE[1])
        eventually("the proxy reaches that one", lambda: reaches(proxy))


def reaches(proxy):
    """Whether a daemon has the store."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{proxy.admin}/readyz", timeout=PATIENCE) as response:
        return b'"reachable":true' in response.read()
    return False


def asked(folder):
    """Who is the primary, as the role redis finds out."""
    by = f"--tls --cacert {folder}/ca.pem"
    variables = {"redis_sentinels": [HERE[0]], "redis_tls": True, "redis_by_tls": by}
    well, said, primaries = ask(folder, {"host": folder / "one/sentinel.conf"}, PASSWORDS["sentinel"], **variables)
    assert well, said
    return primaries["host"]
