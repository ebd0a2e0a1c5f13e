"""Machines at a provider: made once, and ended when the fleet is. Amazon's EC2 is emulated by moto, on loopback;
DigitalOcean by what its modules ask for."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading
import urllib.request

import boto3
import pytest
from playbook import BIN, environment
from processes import ROOT, accepts, on_free_ports, running

REGION = "eu-central-1"
HOSTS = {"all": {"hosts": {"proxy-1": {}, "proxy-2": {}, "checkbox-1": {}}}}
PROVISION = {"fleet": "shop", "sizes": {"proxy-1": "t3.medium"}, "ec2": {
    "region": REGION, "image": "ami-12c6146b", "size": "t3.small", "operators": "192.0.2.0/24",
}}
LOGIN = {
    "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true",
    "DO_API_TOKEN": "testing",
}


@pytest.fixture(scope="module")
def amazon(tmp_path_factory):
    """An emulated EC2; its address."""
    @contextlib.contextmanager
    def start(port):
        command = [BIN / "moto_server", "--host", "127.0.0.1", "--port", str(port)]
        with running("moto_server", command, tmp_path_factory.mktemp("moto") / "log", lambda: accepts(port)):
            yield f"http://127.0.0.1:{port}"

    with on_free_ports(1, start) as address:
        yield address


class Desk:
    """An inventory, and who runs playbooks on it."""

    def __init__(self, folder, amazon):
        self.folder, self.amazon = folder, amazon
        (folder / "secrets").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "secrets/deploy"], check=True)
        (folder / "hosts.yml").write_text(json.dumps(HOSTS))
        (folder / "group_vars").mkdir()
        (folder / "group_vars/all.yml").write_text(json.dumps({"provision": PROVISION}))

    def play(self, playbook, login=True, **variables):
        """How it ended, what it changed, and what it said."""
        told = {"ansible_python_interpreter": sys.executable, "provision_patience": 0, "provider": "ec2", **variables}
        words = ["-i", self.folder / "hosts.yml", "-e", json.dumps(told), f"playbooks/{playbook}.yml"]
        done = subprocess.run(
            [BIN / "ansible-playbook", *words], cwd=ROOT / "ansible", capture_output=True, text=True, check=False,
            env={**environment(self.folder), **(LOGIN if login else {}), "AWS_ENDPOINT_URL": self.amazon},
        )
        said = done.stdout + done.stderr
        return done.returncode, sum(map(int, re.findall(r"changed=(\d+)", said))), said

    def ec2(self):
        """Amazon, by another's eyes than Ansible's."""
        login = {name.lower(): value for name, value in LOGIN.items() if name.startswith("AWS_") and "KEY" in name}
        return boto3.client("ec2", endpoint_url=self.amazon, region_name=REGION, **login)

    def machines(self):
        """Those that aren't ended: by name, their fleet, size and address."""
        found = {}
        for reservation in self.ec2().describe_instances()["Reservations"]:
            for one in reservation["Instances"]:
                tags = {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}
                if one["State"]["Name"] != "terminated":
                    found[tags["Name"]] = (tags.get("fleet"), one["InstanceType"], one["PrivateIpAddress"])
        return found

    def known(self, host):
        """What was written down of a host."""
        file = self.folder / f"host_vars/{host}/provisioned.yml"
        return file.read_text() if file.exists() else None


@pytest.fixture
def desk(tmp_path, amazon):
    """Somebody with an inventory, and an account in which another fleet has a machine of the same name."""
    urllib.request.urlopen(urllib.request.Request(f"{amazon}/moto-api/reset", method="POST"), timeout=10).close()
    desk = Desk(tmp_path, amazon)
    tags = [{"Key": "Name", "Value": "other-1"}, {"Key": "fleet", "Value": "other"}]
    desk.ec2().run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, InstanceType="t3.nano",
                             TagSpecifications=[{"ResourceType": "instance", "Tags": tags}])
    return desk


def test_machines_are_made_once_and_ended_with_the_fleet_and_those_of_others_stay(desk):
    status, _, said = desk.play("provision")
    assert status == 0, said
    made = desk.machines()
    assert {name: (fleet, size) for name, (fleet, size, _) in made.items()} == {
        "proxy-1": ("shop", "t3.medium"), "proxy-2": ("shop", "t3.small"), "checkbox-1": ("shop", "t3.small"),
        "other-1": ("other", "t3.nano"),
    }
    assert f"ansible_host: {made['checkbox-1'][2]}\n" in desk.known("checkbox-1")
    status, changed, said = desk.play("provision")
    assert (status, changed, desk.machines()) == (0, 0, made), said

    status, _, said = desk.play("teardown", backup=False)
    assert status != 0 and "say -e confirm=shop" in " ".join(said.split()) and desk.machines() == made, said
    status, _, said = desk.play("teardown", backup=False, confirm="other")
    assert status != 0 and desk.machines() == made, said
    status, _, said = desk.play("teardown", backup=False, confirm="shop")
    assert (status, list(desk.machines()), desk.known("checkbox-1")) == (0, ["other-1"], None), said
    groups = [group["GroupName"] for group in desk.ec2().describe_security_groups()["SecurityGroups"]]
    assert "fleet-shop" not in groups and desk.ec2().describe_key_pairs()["KeyPairs"] == []


@pytest.mark.parametrize(("variables", "login", "why"), [
    ({}, False, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
    ({"provider": "digitalocean"}, False, "set DO_API_TOKEN"),
    ({"provider": "moon"}, True, "Say where by -e provider=ec2, digitalocean or list: moon"),
    ({"provider": "list"}, True, "has no ansible_host in the inventory"),
    ({"provision": {"ec2": {"region": REGION}}}, True, "doesn't say image, operators, size"),
])
def test_what_is_missing_is_named_before_anything_is_made(desk, variables, login, why):
    status, changed, said = desk.play("provision", login=login, **variables)
    plain = " ".join(said.replace("\\n", " ").split())
    assert status != 0 and changed == 0 and why in plain, said
    assert list(desk.machines()) == ["other-1"]


class DigitalOcean(http.server.BaseHTTPRequestHandler):
    """An account; the server has its `droplets` and `keys`, each by what it is asked for."""

    def answer(self, status, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def wish(self):
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length) or "null") if length else None

    def do_GET(self):
        self.wish()
        what, *more = self.path.partition("?")[0].strip("/").split("/")
        droplets, keys = self.server.droplets, self.server.keys
        match (what, *more):
            case ("account",) | ("firewalls",):
                self.answer(200, {"account": {}, "firewalls": [], "links": {}})
            case ("account", "keys", mark) if mark in keys:
                self.answer(200, {"ssh_key": keys[mark]})
            case ("droplets",):
                self.answer(200, {"droplets": list(droplets.values()), "links": {}})
            case ("droplets", number) if number in droplets:
                self.answer(200, {"droplet": droplets[number]})
            case ("droplets", _, "actions", number):
                self.answer(200, {"action": {"id": number, "status": "completed"}})
            case _:
                self.answer(404, {"message": "not found"})

    def do_POST(self):
        wish, keys = self.wish(), self.server.keys
        if self.path.endswith("/actions"):
            self.answer(201, {"action": {"id": 1, "status": "completed"}})
        elif self.path == "/account/keys":
            # Only one is ever asked for, by its mark.
            keys[self.server.mark] = {"fingerprint": self.server.mark, **wish}
            self.answer(201, {"ssh_key": keys[self.server.mark]})
        else:
            self.answer(202, {"droplet": self.server.make(wish["name"], wish["size"], wish["tags"])})

    def do_DELETE(self):
        self.wish()
        known = self.server.droplets if self.path.startswith("/droplets/") else self.server.keys
        self.answer(204 if known.pop(self.path.rpartition("/")[2], None) else 404)

    def log_message(self, *_):
        """Says nothing."""


class Ocean(http.server.ThreadingHTTPServer):
    """DigitalOcean, with a droplet of another fleet that has a name of this one's."""

    def __init__(self, mark):
        super().__init__(("127.0.0.1", 0), DigitalOcean)
        self.mark, self.keys, self.droplets = mark, {}, {}
        self.make("proxy-1", "s-4vcpu-8gb", ["fleet-other"])

    def make(self, name, size, tags):
        number = len(self.droplets) + 1
        networks = [{"type": kind, "ip_address": f"{net}.{number}"} for kind, net in (
            ("public", "203.0.113"), ("private", "10.1.0"),
        )]
        self.droplets[str(number)] = {
            "id": number, "name": name, "size_slug": size, "status": "active", "tags": tags,
            "networks": {"v4": networks},
        }
        return self.droplets[str(number)]

    def seen(self):
        """Of each droplet its name, size and fleet."""
        return [(one["name"], one["size_slug"], one["tags"]) for one in self.droplets.values()]


def test_a_droplet_of_another_fleet_with_the_same_name_is_left_alone(tmp_path):
    desk = Desk(tmp_path, "http://127.0.0.1:1")
    command = ["ssh-keygen", "-l", "-E", "md5", "-f", tmp_path / "secrets/deploy.pub"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with Ocean(told.split()[1].removeprefix("MD5:")) as ocean:
        threading.Thread(target=ocean.serve_forever, daemon=True).start()
        api = f"http://127.0.0.1:{ocean.server_port}"
        known = {"region": "fra1", "image": "debian-12-x64", "size": "s-1vcpu-2gb", "api": api}
        told = {"provider": "digitalocean", "provision": {"fleet": "shop", "digitalocean": known}}
        # Given another fleet's
        others = ocean.seen()
        # When the machines are made, and made again
        status, _, said = desk.play("provision", **told)
        assert status == 0, said
        made = ocean.seen()
        # Then there is one more of that name, and what is known is its address
        assert made[:1] == others and sorted(made[1:]) == [
            (name, "s-1vcpu-2gb", ["fleet-shop"]) for name in sorted(HOSTS["all"]["hosts"])
        ]
        place = next(one for one in ocean.droplets.values() if (one["name"], one["id"] > 1) == ("proxy-1", True))
        assert f"ansible_host: 10.1.0.{place['id']}\n" in desk.known("proxy-1")
        status, changed, said = desk.play("provision", **told)
        assert (status, changed, ocean.seen()) == (0, 0, made), said
        # And it is there still when they are gone
        status, _, said = desk.play("teardown", backup=False, confirm="shop", **told)
        assert (status, ocean.seen(), ocean.keys) == (0, others, {}), said
        ocean.shutdown()
