"""The inventory plugin serin."""

from __future__ import annotations

DOCUMENTATION = r"""
name: serin
short_description: The fleet behind serin, from where serin keeps it
version_added: 0.1.0
description:
  - Reads the endpoints of all services from serin's Redis, or from the admin API of a proxy.
  - A host is a machine. Endpoints with the same address on different ports are on one, and stand in its
    RV(ignore:serin_endpoints).
  - Each service is a group, with a group for each of its pools below it. C(checkbox), C(checkbox_stable) and
    C(checkbox_canary), for instance.
  - The name of the file must end in C(serin.yml) or C(serin.yaml).
  - Redis holds what was registered or changed. Members that only serin's configuration file names are known to
    the admin API alone.
author:
  - The serin authors (@serin)
requirements:
  - The Python package C(redis), on the controller, for O(source=redis)
extends_documentation_fragment:
  - constructed
options:
  plugin:
    description: That this file is for this plugin.
    type: str
    required: true
    choices: [serin.fleet.serin]
  source:
    description: Where the fleet is read from.
    type: str
    default: redis
    choices: [redis, admin]
  redis_url:
    description:
      - Where Redis is, as in C([store] url). C(redis://HOST:PORT/DB), C(rediss://…), C(redis+sentinel://HOST,HOST/NAME).
      - A replica near by will do, since nothing is written.
    type: str
    default: redis://127.0.0.1:6379/0
    env:
      - name: SERIN_REDIS_URL
  redis_username_file:
    description: A file with the name of the user at Redis. One that may read the pools and leases.
    type: path
  redis_password_file:
    description: A file with its password.
    type: path
  sentinel_username_file:
    description: A file with the name of the user at the sentinels.
    type: path
  sentinel_password_file:
    description: A file with its password.
    type: path
  redis_ca_file:
    description: The only certificate authorities to trust; if unset the system's.
    type: path
  redis_certificate_file:
    description: A client certificate, where Redis asks for one.
    type: path
  redis_key_file:
    description: Its key.
    type: path
  namespace:
    description: The fleet's namespace, as in C([store] namespace).
    type: str
    default: production
  admin:
    description:
      - For O(source=admin), addresses of admin APIs as seen from the controller. C(http://HOST:PORT) or C(unix:/PATH).
      - The first that answers is asked.
    type: list
    elements: str
    default: [http://127.0.0.1:9901]
    env:
      - name: SERIN_ADMIN
  token_file:
    description: For O(source=admin), a file with the token of a viewer, on the controller.
    type: path
    env:
      - name: SERIN_TOKEN_FILE
  services:
    description: The services to read. If unset, all.
    type: list
    elements: str
    default: []
  hostnames:
    description:
      - What a host is called, the first that the endpoint has.
      - C(ip), C(address) (with the port), C(id), or C(metadata.KEY) for what it was registered with.
      - Endpoints with the same name are one host.
    type: list
    elements: str
    default: [metadata.hostname, ip]
  group_prefix:
    description: What the names of groups begin with.
    type: str
    default: ""
  silent:
    description:
      - For O(source=redis), whether to list endpoints as well that are registered by a heartbeat and don't beat.
    type: bool
    default: false
"""

EXAMPLES = r"""
# production.serin.yml: what Redis knows
plugin: serin.fleet.serin
redis_url: redis+sentinel://10.0.0.5,10.0.0.6,10.0.0.7/mymaster
redis_username_file: /etc/serin/redis-user
redis_password_file: /etc/serin/redis-password
keyed_groups:
  - key: serin_zone
    prefix: zone
  - key: serin_version
    prefix: version
groups:
  draining: serin_state == "draining"

---
# admin.serin.yml: what a proxy knows, with the members of its configuration file and their health
plugin: serin.fleet.serin
source: admin
admin: [http://10.0.0.2:9901, http://10.0.0.3:9901]
token_file: /etc/serin/viewer-token
compose:
  ansible_user: "'deploy'"
"""

import re

from ansible.errors import AnsibleParserError
from ansible.utils.unsafe_proxy import wrap_var

from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible_collections.serin.fleet.plugins.module_utils import admin_api, discovery, endpoints

# What a host's first endpoint says of itself, as variables of the host.
VARIABLES = ("service", "pool", "id", "address", "port", "state", "weight", "version", "zone", "metadata", "control")

# Options of the package `redis`, and ours for them.
TLS = {"ssl_ca_certs": "redis_ca_file", "ssl_certfile": "redis_certificate_file", "ssl_keyfile": "redis_key_file"}
# Whoever may register an endpoint chooses these texts: a name of a host is nothing else, and is no option of ssh.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:\[\]-]*")


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Reads the fleet."""

    NAME = "serin.fleet.serin"

    def verify_file(self, path):
        """Whether a file is for this plugin."""
        return super().verify_file(path) and path.endswith(("serin.yml", "serin.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Reads the fleet into the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            found = self._from_redis() if self.get_option("source") == "redis" else self._from_admin()
            hosts = {self._add(endpoint) for endpoint in found}
        except (admin_api.AdminError, discovery.DiscoveryError) as error:
            raise AnsibleParserError(f"{path}: {error}") from error
        for host in sorted(hosts):
            self._construct(host)

    def _from_redis(self):
        tls = {name: self.get_option(option) for name, option in TLS.items() if self.get_option(option)}
        client = discovery.connect(self.get_option("redis_url"), self._login("redis"), self._login("sentinel"), tls)
        try:
            found = discovery.members(
                client, self.get_option("namespace"), self.get_option("services"), self.display.warning
            )
        except discovery.DiscoveryError:
            raise
        except Exception as error:
            # Everything that the package `redis` raises; its messages name the server, and never a password.
            raise discovery.DiscoveryError(f"Redis can't be read: {error}") from error
        return [endpoint for endpoint in found if self.get_option("silent") or endpoint["state"] != "silent"]

    def _login(self, whose):
        login = {}
        for part in ("username", "password"):
            path = self.get_option(f"{whose}_{part}_file")
            if path:
                login[part] = self._line(path)
        return login

    def _line(self, path):
        try:
            with open(path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            raise discovery.DiscoveryError(f"cannot read {path}: {error.strerror}") from error

    def _from_admin(self):
        token_file = self.get_option("token_file")
        token = admin_api.read_token(token_file) if token_file else None
        fleet = admin_api.Fleet(self.get_option("admin"), token)
        names = self.get_option("services")
        known = [service for name in names for service in endpoints.services(fleet, name)]
        return endpoints.listed(known if names else endpoints.services(fleet, None))

    def _add(self, endpoint):
        """Adds an endpoint to its host, and the host to the groups. Returns the host's name."""
        ip, port = split(endpoint["address"])
        # Of texts that others wrote nothing is ever taken for a template.
        told = wrap_var({**endpoint, "ip": ip, "port": port})
        host = self._name({**endpoint, "ip": ip})
        self.inventory.add_host(host, self._group(endpoint))
        known = self.inventory.get_host(host).get_vars().get("serin_endpoints", [])
        self.inventory.set_variable(host, "serin_endpoints", [*known, told])
        if not known:
            self.inventory.set_variable(host, "ansible_host", ip)
            for name in VARIABLES:
                self.inventory.set_variable(host, f"serin_{name}", told[name])
        return host

    def _group(self, endpoint):
        """The group of an endpoint's pool, below that of its service."""
        service = self._sanitize_group_name(self.get_option("group_prefix") + endpoint["service"])
        pool = f"{service}_{endpoint['pool']}"
        self.inventory.add_group(service)
        self.inventory.add_group(pool)
        self.inventory.add_child(service, pool)
        return pool

    def _name(self, endpoint):
        for wanted in self.get_option("hostnames"):
            if wanted.startswith("metadata."):
                name = endpoint["metadata"].get(wanted[len("metadata."):])
            elif wanted in ("ip", "address", "id"):
                name = endpoint[wanted]
            else:
                raise discovery.DiscoveryError(f"`{wanted}` in `hostnames` is none of ip, address, id and metadata.KEY")
            if name and PLAIN_NAME.fullmatch(name):
                return name
        return endpoint["ip"]

    def _construct(self, host):
        """Variables, groups and keyed groups that the file makes of what is known."""
        variables = self.inventory.get_host(host).get_vars()
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)


def split(address):
    """The IP and the port of an address."""
    ip, _, port = address.rpartition(":")
    return ip.strip("[]"), int(port)
