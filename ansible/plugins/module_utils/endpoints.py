"""Endpoints as the admin API shows them, and what of that is desired state.

What serin finds out by itself (health, requests in flight, how a lease stands) is no desired state: whether a
module changed anything never depends on it.
"""

from __future__ import annotations

import ipaddress

from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError, segment, unknown

POOLS = ("stable", "canary")
# What a registration says of an endpoint; `state` is beside it.
TRAITS = ("address", "weight", "version", "zone", "metadata", "control")
WEIGHTS = range(1, 1001)


class Place:
    """An endpoint's service, pool and id."""

    def __init__(self, service, pool, endpoint):
        self.service = service
        self.pool = pool
        self.endpoint = endpoint

    def path(self, verb=""):
        """Its path in the API."""
        path = f"/v1/services/{segment(self.service)}/pools/{self.pool}/endpoints/{segment(self.endpoint)}"
        return f"{path}/{verb}" if verb else path

    def __str__(self):
        return f"{self.endpoint} in the {self.pool} pool of {self.service}"


def services(fleet, name):
    """The service of this name, or all of them."""
    if name is not None:
        return [fleet.get(f"/v1/services/{segment(name)}")]
    return fleet.get("/v1/services")["services"]


def places(known, pool, endpoint):
    """Where in these services an endpoint is, with what is known of it there."""
    return [
        (Place(found["service"], found["pool"], endpoint), found)
        for found in listed(known)
        if found["id"] == endpoint and pool in (None, found["pool"])
    ]


def unknown_endpoint(known, pool, endpoint):
    """The failure that no such endpoint is there, with the names of those that are."""
    ids = {found["id"] for found in listed(known) if pool in (None, found["pool"])}
    where = ", ".join(service["name"] for service in known) or "any service"
    return unknown(f"endpoint in {f'the {pool} pool' if pool else 'a pool'} of {where} called", endpoint, ids)


def desired(found):
    """What of an endpoint somebody decided. None is one that isn't there."""
    if found is None:
        return {"state": "absent"}
    state = "draining" if found["state"] == "draining" else "ready"
    return {
        "state": state,
        "address": canonical(found["address"]),
        "weight": found["weight"],
        "version": found["version"],
        "zone": found["zone"],
        "metadata": found["metadata"],
        "control": found["control"],
    }


def canonical(address):
    """An address and port as they are always written; what isn't one is refused."""
    host, colon, port = address.rpartition(":")
    try:
        if not colon or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError
        if host.startswith("[") and host.endswith("]"):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]:{int(port)}"
        return f"{ipaddress.IPv4Address(host)}:{int(port)}"
    except ValueError:
        raise AdminError(
            f"`{address}` is no IP:PORT, such as 10.0.0.11:3002 or [::1]:3002; this module registers no "
            "names, and an endpoint with another id needs an `address`"
        ) from None


def listed(services):
    """All endpoints of these services, each with its service and pool."""
    return [
        {"service": service["name"], "pool": pool, "zone": None, "metadata": {}, "control": False, **found}
        for service in services
        for pool in POOLS
        for found in service["pools"][pool]["endpoints"]
    ]
