#!/usr/bin/python
"""The module serin_endpoint."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serin_endpoint
short_description: Registers, drains and takes out endpoints of a service behind serin
version_added: 0.1.0
description:
  - Says of one endpoint whether it is in a pool of a service, and whether it gets work.
  - A drain gives an endpoint no new work, lets what it has finish, and returns when nothing is in flight any more
    through any of the proxies that O(admin) names.
  - The names and states of M(community.general.haproxy) are understood, so that a play moves over by changing names.
  - RV(ignore:changed) depends on what was decided of the endpoint alone, never on requests in flight or on health.
author:
  - The serin authors (@serin)
extends_documentation_fragment:
  - serin.fleet.admin
  - serin.fleet.admin.reason
options:
  service:
    description:
      - The service.
      - If unset, the only service that has such an endpoint. Required for V(state=present).
    type: str
    aliases: [backend]
  endpoint:
    description: The endpoint's id, which is its C(IP:PORT) unless it was registered under another name.
    type: str
    required: true
    aliases: [host, name]
  pool:
    description:
      - The pool. If unset, the one that has the endpoint; a new one goes into V(stable).
    type: str
    choices: [stable, canary]
  state:
    description:
      - V(present) registers it, or changes what is said of it; one that drains goes on draining.
      - V(ready) gives it work, as its health allows. It must be there.
      - V(drained) gives it no new work, and waits until the old is done. It must be there.
      - V(absent) drains it and takes it out, for good also where serin's configuration file names it.
      - V(enabled) is V(ready); V(disabled) and V(drain) are V(drained).
    type: str
    default: present
    choices: [present, ready, drained, absent, enabled, disabled, drain]
  address:
    description: Its C(IP:PORT), if O(endpoint) isn't that. For V(present) and V(ready), as are the options below.
    type: str
  weight:
    description: Its share of the work in its pool, from 1 to 1000. A new one has 1.
    type: int
  version:
    description: What it runs. Rollouts go by it. An empty one says that nothing is known.
    type: str
  zone:
    description: Where it stands, for people. An empty one says that nothing is known.
    type: str
  metadata:
    description: What else is to be known of it, texts by key. Replaces what was there as a whole.
    type: dict
  control:
    description: Whether it serves the fresh control, with which a canary is compared. For the stable pool.
    type: bool
  wait:
    description:
      - Whether V(drained) and V(absent) wait until nothing is in flight, and V(ready) until it gets work.
      - V(absent) without waiting takes it out at once, and looks at no floor.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait at most.
    type: int
    default: 120
  min_ready:
    description:
      - How many endpoints of the pool must stay ready. A drain that would leave fewer is refused, also if it is
        another that is under way at the same moment.
      - serin's default is 1, and 0 for a canary pool without traffic.
    type: int
    aliases: [floor]
  on_timeout:
    description:
      - What to do when something is still in flight after O(wait_timeout).
      - V(fail) leaves it draining and fails, V(proceed) goes on, and V(kill) does so once the tunnels, such as
        WebSockets, are closed that are left, through each proxy. Requests have deadlines of their own.
    type: str
    default: fail
    choices: [fail, proceed, kill]
  drain:
    description:
      - Understood for plays that used M(community.general.haproxy). serin drains whatever it disables; V(false)
        is O(wait=false).
    type: bool
    default: true
attributes:
  check_mode:
    description: Says what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows what was decided of the endpoint, before and after.
    support: full
seealso:
  - module: serin.fleet.serin_info
  - module: community.general.haproxy
"""

EXAMPLES = r"""
- name: Take an instance out of work, with four others staying ready
  serin.fleet.serin_endpoint:
    service: itrust
    endpoint: 10.0.1.14:8080
    state: drained
    min_ready: 4
    wait_timeout: 120

- name: Give it work again, with the version that it runs now
  serin.fleet.serin_endpoint:
    service: itrust
    endpoint: 10.0.1.14:8080
    state: ready
    version: "23.1"

- name: Register an instance in the canary pool
  serin.fleet.serin_endpoint:
    service: checkbox
    pool: canary
    endpoint: 10.0.0.21:3002
    version: 4f2a91c
    zone: b

- name: Drain an instance and take it out
  serin.fleet.serin_endpoint:
    service: checkbox
    endpoint: 10.0.0.12:3002
    state: absent

- name: As the haproxy module had it
  serin.fleet.serin_endpoint:
    backend: itrust
    host: 10.0.1.14:8080
    state: disabled
    drain: true
    wait: true
"""

RETURN = r"""
before:
  description: What was decided of the endpoint before.
  type: dict
  returned: success
  sample: {address: "10.0.0.11:3002", control: false, metadata: {}, state: ready, version: null, weight: 1}
after:
  description: The same after the module; in check mode what would be.
  type: dict
  returned: success
  sample: {address: "10.0.0.11:3002", control: false, metadata: {}, state: draining, version: null, weight: 1}
service:
  description: Its service.
  type: str
  returned: success
  sample: checkbox
pool:
  description: Its pool.
  type: str
  returned: success
  sample: stable
endpoint:
  description: The endpoint as the proxy that answered sees it now, with its health and what is in flight.
  type: dict
  returned: if it is there
  sample: {address: "10.0.0.11:3002", health: up, id: "10.0.0.11:3002", in_flight: 0, state: draining, weight: 1}
in_flight:
  description: Requests that are with it, through all proxies that were asked.
  type: int
  returned: after a drain
  sample: 0
proxies:
  description: The addresses of the proxies that were asked.
  type: list
  elements: str
  returned: after a drain, and after waiting for an endpoint to be ready
  sample: ["http://10.0.0.2:9901", "http://10.0.0.3:9901"]
waited:
  description: Seconds that were waited.
  type: float
  returned: after a drain, and after waiting for an endpoint to be ready
  sample: 0.7
known:
  description: The names that exist, where one was asked for that doesn't.
  type: list
  elements: str
  returned: failure
  sample: ["10.0.0.11:3002", "10.0.0.12:3002"]
status:
  description: The status of the API's answer, where there was one.
  type: int
  returned: failure
  sample: 409
"""

from ansible_collections.serin.fleet.plugins.module_utils import endpoints, module, rotation
from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError

ALIASES = {"enabled": "ready", "disabled": "drained", "drain": "drained"}

OPTIONS = {
    "service": {"type": "str", "aliases": ["backend"]},
    "endpoint": {"type": "str", "required": True, "aliases": ["host", "name"]},
    "pool": {"type": "str", "choices": list(endpoints.POOLS)},
    "state": {"type": "str", "default": "present", "choices": ["present", "ready", "drained", "absent", *ALIASES]},
    "address": {"type": "str"},
    "weight": {"type": "int"},
    "version": {"type": "str"},
    "zone": {"type": "str"},
    "metadata": {"type": "dict"},
    "control": {"type": "bool"},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 120},
    "min_ready": {"type": "int", "aliases": ["floor"]},
    "on_timeout": {"type": "str", "default": "fail", "choices": ["fail", "proceed", "kill"]},
    "drain": {"type": "bool", "default": True},
    "reason": module.REASON,
}


def work(ansible, fleet):
    """Finds the endpoint, says what shall be of it, and does that unless this is check mode."""
    wish = ansible.params
    state = ALIASES.get(wish["state"], wish["state"])
    known = endpoints.services(fleet, wish["service"])
    place, found = find(known, wish, state)
    if place is None:
        return module.outcome(endpoints.desired(None), endpoints.desired(None), service=wish["service"])
    before = endpoints.desired(found)
    after = target(wish, state, place, found)
    task = rotation.Task(ansible, fleet, place, found, known)
    told = {}
    if state in ("present", "ready"):
        refuse_takeover(place, found, before, after)
        if not ansible.check_mode:
            told = task.put(before, after)
    elif ansible.check_mode:
        task.keep_floor(gone=state == "absent")
    else:
        told = task.take_out(gone=state == "absent")
    return module.outcome(before, after, service=place.service, pool=place.pool, **told)


def find(known, wish, state):
    """The endpoint's place, and what is known of it there. Of one that is absent and shall be, no place."""
    found = endpoints.places(known, wish["pool"], wish["endpoint"])
    if len(found) > 1:
        where = "; ".join(str(place) for place, _ in found)
        raise AdminError(f"there is more than one such endpoint ({where}): say which by `service` and `pool`")
    if found:
        return found[0]
    if state == "present":
        return endpoints.Place(wish["service"], wish["pool"] or "stable", wish["endpoint"]), None
    if state == "absent":
        return None, None
    raise endpoints.unknown_endpoint(known, wish["pool"], wish["endpoint"])


def target(wish, state, place, found):
    """What shall be of it: what was said, else what is."""
    if state == "absent":
        return endpoints.desired(None)
    new = {"address": place.endpoint, "weight": 1, "version": None, "zone": None, "metadata": {}, "control": False}
    now = endpoints.desired(found) if found else {"state": "ready", **new}
    if state == "drained":
        return {**now, "state": "draining"}
    said = {trait: wish[trait] for trait in endpoints.TRAITS if wish[trait] is not None}
    after = {**now, **said, **({"state": "ready"} if state == "ready" else {})}
    after["address"] = endpoints.canonical(after["address"])
    after["metadata"] = {key: str(value) for key, value in after["metadata"].items()}
    after["version"], after["zone"] = after["version"] or None, after["zone"] or None
    if after["weight"] not in endpoints.WEIGHTS:
        raise AdminError(f"an endpoint's weight is from 1 to 1000, not {after['weight']}")
    return after


def refuse_takeover(place, found, before, after):
    """What beats by itself says itself what it is: a registration from here would be undone, or outlive it."""
    differs = [trait for trait in endpoints.TRAITS if before.get(trait) != after[trait]]
    if found and found.get("lease") and differs:
        raise AdminError(
            f"{place} is registered by a heartbeat, which says itself what it is: change {', '.join(differs)} "
            "where it beats (in the configuration of `serin agent`)"
        )


def main():
    module.run(work, OPTIONS, required_if=[("state", "present", ("service",))])


if __name__ == "__main__":
    main()
