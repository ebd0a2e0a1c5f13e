#!/usr/bin/python
"""The module serin_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serin_info
short_description: What a fleet behind serin looks like
version_added: 0.1.0
description:
  - Reads services, endpoints, flags and the audit log, and changes nothing.
author:
  - The serin authors (@serin)
extends_documentation_fragment:
  - serin.fleet.admin
options:
  service:
    description: A service, to read of it alone. One that isn't there is refused.
    type: str
    aliases: [backend]
  gather:
    description: What to read.
    type: list
    elements: str
    default: [services, endpoints]
    choices: [services, endpoints, flags, audit]
  limit:
    description: Of the audit log, how many entries, the newest first. At most 1000.
    type: int
    default: 100
attributes:
  check_mode:
    description: Reads all the same.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
seealso:
  - module: serin.fleet.serin_endpoint
  - module: serin.fleet.serin_canary
  - module: serin.fleet.serin_flag
"""

EXAMPLES = r"""
- name: Look at a service
  serin.fleet.serin_info:
    service: checkbox
  register: fleet

- name: Go on only if nothing is under way
  ansible.builtin.assert:
    that:
      - fleet.services.checkbox.circuit.state == "closed"
      - fleet.services.checkbox.weight.asked == 0
      - fleet.endpoints | rejectattr("state", "equalto", "ready") | length == 0

- name: Who changed what
  serin.fleet.serin_info:
    gather: [audit]
    limit: 20
"""

RETURN = r"""
services:
  description: Services by name, as the API has them. Weight, circuit, verdict, rollout, traffic, pools.
  type: dict
  returned: if gathered
  sample: {checkbox: {circuit: {state: closed}, name: checkbox, revision: 42, weight: {asked: 10.0, effective: 10.0}}}
endpoints:
  description: Endpoints, each with its service and pool.
  type: list
  elements: dict
  returned: if gathered
  sample: [{address: "10.0.0.11:3002", id: "10.0.0.11:3002", pool: stable, service: checkbox, state: ready}]
flags:
  description: Flags by key. How each fares, and its definition.
  type: dict
  returned: if gathered
  sample: {new-editor: {default: "off", key: new-editor, state: ENABLED, switched: false, type: boolean}}
audit:
  description: Who changed what, the newest first.
  type: list
  elements: dict
  returned: if gathered
  sample: [{at: "2026-04-01T12:00:00.250Z", from: "0", service: checkbox, to: "10", what: weight, who: jenkins}]
proxy:
  description: The name of the proxy that answered.
  type: str
  returned: success
  sample: p1
store:
  description: How its store is doing. C(reachable), C(age_seconds), C(detail).
  type: dict
  returned: success
  sample: {age_seconds: 0.1, detail: null, poisoned: [], reachable: true}
known:
  description: The names that exist, where one was asked for that doesn't.
  type: list
  elements: str
  returned: failure
  sample: [checkbox, itrust]
status:
  description: The status of the API's answer, where there was one.
  type: int
  returned: failure
  sample: 404
"""

from ansible_collections.serin.fleet.plugins.module_utils import endpoints, module
from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError, unknown

GATHER = ["services", "endpoints", "flags", "audit"]

OPTIONS = {
    "service": {"type": "str", "aliases": ["backend"]},
    "gather": {"type": "list", "elements": "str", "default": ["services", "endpoints"], "choices": GATHER},
    "limit": {"type": "int", "default": 100},
}


def work(ansible, fleet):
    """Reads what is asked for."""
    wish = ansible.params
    if not 1 <= wish["limit"] <= 1000:
        raise AdminError(f"`limit` is from 1 to 1000, not {wish['limit']}")
    whole = fleet.get("/v1/services")
    services = {service["name"]: service for service in whole["services"]}
    if wish["service"] is not None:
        if wish["service"] not in services:
            raise unknown("service", wish["service"], services)
        services = {wish["service"]: services[wish["service"]]}
    told = {"changed": False, "proxy": whole["proxy"], "store": whole["store"]}
    if "services" in wish["gather"]:
        told["services"] = services
    if "endpoints" in wish["gather"]:
        told["endpoints"] = endpoints.listed(services.values())
    if "flags" in wish["gather"]:
        told["flags"] = flags(fleet)
    if "audit" in wish["gather"]:
        told["audit"] = audit(fleet, wish["service"])[:wish["limit"]]
    return told


def flags(fleet):
    """Flags by key, each with its definition."""
    known = fleet.get("/v1/flags")
    definitions = known["document"]["flags"]
    return {flag["key"]: {**flag, "definition": definitions.get(flag["key"])} for flag in known["flags"]}


def audit(fleet, service):
    """The audit log, of a service or of all."""
    return [entry for entry in fleet.get("/v1/audit")["entries"] if service in (None, entry.get("service"))]


def main():
    module.run(work, OPTIONS)


if __name__ == "__main__":
    main()
