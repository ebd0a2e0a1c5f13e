"""A fleet's members as they lie in Redis, and the connection to it.

The keys and what they hold are those of serin's docs/redis.md. Needs the Python package `redis`, and only when a
connection is opened: what is read is read through whatever client it is given.
"""

from __future__ import annotations

import json
import urllib.parse

from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError
from ansible_collections.serin.fleet.plugins.module_utils.endpoints import POOLS, canonical

# The meaning of the keys that is known here.
SCHEMA = 1
SENTINEL_PORT = 26379
# Seconds that Redis may take to be connected to, and for an answer.
PATIENCE = 10


class DiscoveryError(Exception):
    """The fleet can't be read from Redis. The message names the next step."""


class Keys:
    """The keys of a namespace."""

    def __init__(self, namespace):
        if not namespace or any(c in "{}" or c.isspace() or not c.isprintable() for c in namespace):
            raise DiscoveryError(f"`{namespace}` is no namespace: it is a plain word, that of `[store] namespace`")
        self._prefix = f"serin:{{{namespace}}}"

    @property
    def schema(self):
        """What all keys mean."""
        return f"{self._prefix}:schema"

    @property
    def any_pool(self):
        """A pattern of the pools of all services."""
        escaped = "".join("\\" + c if c in "*?[]\\" else c for c in self._prefix)
        return f"{escaped}:service:*:pool:*"

    def pool(self, service, pool):
        """The members of a pool."""
        return f"{self._prefix}:service:{service}:pool:{pool}"

    def lease(self, service, pool, member):
        """Exists as long as a leased member lives."""
        return f"{self._prefix}:lease:{service}:{pool}:{member}"

    def service_of(self, key):
        """The service that a pool's key is of."""
        return key[len(f"{self._prefix}:service:"):].partition(":")[0]


def members(client, namespace, services=None, warn=lambda text: None):
    """All members of these services, or of all, as endpoints in the form of the admin API."""
    keys = Keys(namespace)
    schema = client.get(keys.schema)
    if schema is not None and schema.isdigit() and int(schema) > SCHEMA:
        raise DiscoveryError(f"the data in Redis is of a later serin (schema {schema}): upgrade this collection")
    if not services:
        services = {keys.service_of(key) for key in client.scan_iter(match=keys.any_pool, count=1000)}
    found = []
    for service in sorted(services):
        for pool in POOLS:
            for name, text in sorted(client.hgetall(keys.pool(service, pool)).items()):
                try:
                    member = decode(name, text)
                except (AdminError, ValueError, KeyError, TypeError, AttributeError):
                    warn(f"the field `{name}` of {keys.pool(service, pool)} makes no sense and is passed over")
                    continue
                if member["state"] != "removed":
                    found.append({"service": service, "pool": pool, **member})
    return without_lease(client, keys, found)


def decode(name, text):
    """A member as an endpoint."""
    told = json.loads(text)
    endpoint = {"id": name, "state": told["state"]}
    if endpoint["state"] not in ("ready", "draining", "removed"):
        raise ValueError(endpoint["state"])
    if endpoint["state"] == "removed":
        return endpoint
    endpoint.update(
        address=canonical(told["address"]),
        weight=told.get("weight", 1),
        version=told.get("version"),
        zone=told.get("zone"),
        metadata=dict(told.get("metadata") or {}),
        control=bool(told.get("control", False)),
        leased=told.get("ttl_ms") is not None,
    )
    return endpoint


def without_lease(client, keys, found):
    """The same, with those that should beat a lease and don't as `silent`."""
    leased = [member for member in found if member["leased"]]
    if leased:
        asked = client.pipeline(transaction=False)
        for member in leased:
            asked.exists(keys.lease(member["service"], member["pool"], member["id"]))
        for member, alive in zip(leased, asked.execute()):
            if not alive:
                member["state"] = "silent"
    return found


def connect(url, login, sentinel_login, tls):
    """A client of the server at this URL, in any of the forms that `[store] url` has.

    `login` and `sentinel_login` hold `username` and `password`, `tls` the options of the package `redis`; all as far as
    there are any.
    """
    try:
        import redis
        import redis.sentinel
    except ImportError:
        raise DiscoveryError(
            "reading the fleet from Redis needs the Python package `redis` where Ansible runs: install it, or read "
            "it from the admin API by `source: admin`"
        ) from None
    options = {"decode_responses": True, "socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    parts = urllib.parse.urlsplit(url)
    secure = parts.scheme.startswith("rediss")
    options.update(tls if secure else {})
    if parts.scheme in ("redis", "rediss"):
        return redis.Redis.from_url(url, **options, **login)
    if parts.scheme not in ("redis+sentinel", "rediss+sentinel"):
        raise DiscoveryError("`redis_url` is none: write redis://HOST:PORT/DB, rediss://… or redis+sentinel://HOSTS/NAME")
    name, database = sentinel_path(parts.path)
    options["ssl"] = secure
    sentinels = [host_and_port(text) for text in parts.netloc.rpartition("@")[2].split(",")]
    watch = redis.sentinel.Sentinel(sentinels, sentinel_kwargs={**options, **sentinel_login}, **options)
    return watch.master_for(name, db=database, **login)


def sentinel_path(path):
    """The name and the database in `/NAME[/DB]`."""
    name, _, database = path.strip("/").partition("/")
    if not name or not (database or "0").isdigit():
        raise DiscoveryError("`redis_url` names no server: write redis+sentinel://HOST,HOST/NAME or …/NAME/DB")
    return name, int(database or 0)


def host_and_port(text):
    """A sentinel's host and port."""
    parts = urllib.parse.urlsplit(f"//{text}")
    return parts.hostname, parts.port or SENTINEL_PORT
