#!/usr/bin/python
"""The module serin_canary."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serin_canary
short_description: Weight, rollouts and circuit of a service's canary behind serin
version_added: 0.1.0
description:
  - Sets how many of the users the canary gets, runs rollouts, waits for their decision, opens and closes the circuit.
  - serin alone decides whether a canary is pulled. A rollout that was pulled or aborted is this module's failure where
    it was told to wait for the decision.
author:
  - The serin authors (@serin)
extends_documentation_fragment:
  - serin.fleet.admin
  - serin.fleet.admin.reason
options:
  service:
    description: The service.
    type: str
    required: true
    aliases: [backend]
  state:
    description:
      - V(weighted) sets the canary's weight by hand. Refused while a rollout sets it.
      - V(started) begins a rollout of O(version), unless one of it is going on or came through.
      - V(decided) waits until the latest rollout is decided, and changes nothing.
      - V(paused) stops a rollout from going on; its weight stays.
      - V(resumed) ends a pause. With O(step), passes the manual gate of that step too, unless it is behind already.
      - V(promoted) approves the version of the rollout.
      - V(aborted) ends a rollout and takes the users back. Where none is going on nothing is to be done.
      - V(tripped) opens the circuit, so that the canary gets nothing until it is reset.
      - V(reset) closes the circuit. Needs O(reason) and the role operator.
    type: str
    required: true
    choices: [weighted, started, decided, paused, resumed, promoted, aborted, tripped, reset]
  weight:
    description: Percent of the users, from 0 to 100 with at most two decimals. For V(weighted).
    type: float
    aliases: [percent]
  version:
    description:
      - The version that is rolled out. Required for V(started).
      - For the other states of a rollout, which one is meant. If the latest is of another version, V(aborted) has
        nothing to do and the others fail.
    type: str
  steps:
    description:
      - The steps of a rollout, each as C(WEIGHT:HOLD[:GATE][:NO_DATA]). For V(started).
      - If unset, those of serin's configuration.
    type: list
    elements: str
  deadline:
    description: After how long a rollout is aborted if it isn't decided, such as C(24h). For V(started).
    type: str
  lease:
    description:
      - How long a rollout lives without a sign of whoever drives it, such as C(2m). For V(started).
      - This module gives that sign while it waits.
    type: str
  id:
    description:
      - The id of a rollout, 16 hex digits, so that the same start twice is one. For V(started).
      - With it, whether a rollout is started goes by the id, and no longer by the version.
    type: str
  step:
    description: The step whose manual gate is passed, from 1. For V(resumed).
    type: int
  swap:
    description: Whether V(promoted) exchanges the pools at once. Only if the canary's capacity suffices.
    type: bool
    default: false
  wait:
    description:
      - Whether V(started) waits for the decision, and V(promoted) until the canary is empty.
      - V(decided) always waits.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait at most. The rollout goes on by itself after that.
    type: int
    default: 3600
attributes:
  check_mode:
    description: Says what would change, changes nothing, and waits for nothing.
    support: full
  diff_mode:
    description: Shows weight, circuit and rollout as they were decided, before and after.
    support: full
seealso:
  - module: serin.fleet.serin_info
"""

EXAMPLES = r"""
- name: Begin a rollout and wait for what becomes of it
  serin.fleet.serin_canary:
    service: checkbox
    state: started
    version: 4f2a91c
    steps: ["1%:5m", "10%:10m", "50%:10m:manual", "100%:0s"]
    lease: 2m
    wait: true
    wait_timeout: 7200

- name: Approve it
  serin.fleet.serin_canary:
    service: checkbox
    state: promoted
    version: 4f2a91c

- name: See to it that no rollout of this version is left behind
  serin.fleet.serin_canary:
    service: checkbox
    state: aborted
    version: 4f2a91c
    reason: the pipeline failed

- name: Give the canary a tenth of the users
  serin.fleet.serin_canary:
    service: checkbox
    state: weighted
    weight: 10

- name: Close the circuit
  serin.fleet.serin_canary:
    service: checkbox
    state: reset
    reason: fixed in 4f2a91d
"""

RETURN = r"""
before:
  description: What was decided before. Weight in percent, circuit, and the latest rollout.
  type: dict
  returned: success
  sample: {circuit: closed, rollout: null, weight: 0}
after:
  description:
    - What the module made of it; in check mode what it would.
    - What serin decided by itself meanwhile is not in it, but in RV(rollout).
  type: dict
  returned: success
  sample: {circuit: closed, rollout: {id: 00f1c2d3e4a5b6c7, phase: pending, version: 4f2a91c}, weight: 0}
rollout:
  description: The latest rollout as it is now, with its phase and why; null if there never was one.
  type: dict
  returned: success, and failure by a decision
  sample: {decided: true, phase: promoted, step: 4, version: 4f2a91c, why: promoted by serin}
circuit:
  description: The circuit as it is now, with cause, reason and evidence while it is open.
  type: dict
  returned: success, and failure by a decision
  sample: {cause: null, epoch: 0, state: closed}
verdict:
  description: What serin thinks of the canary now.
  type: dict
  returned: success, and failure by a decision
  sample: {decision: hold, e: 1.3, threshold: 1000.0, why: not enough evidence yet}
weight:
  description: The canary's weight now, as asked for and in effect.
  type: dict
  returned: success, and failure by a decision
  sample: {asked: 10.0, effective: 10.0}
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
  sample: 409
"""

from ansible_collections.serin.fleet.plugins.module_utils import canary, module
from ansible_collections.serin.fleet.plugins.module_utils.canary_wishes import WISHES

OPTIONS = {
    "service": {"type": "str", "required": True, "aliases": ["backend"]},
    "state": {"type": "str", "required": True, "choices": list(WISHES)},
    "weight": {"type": "float", "aliases": ["percent"]},
    "version": {"type": "str"},
    "steps": {"type": "list", "elements": "str"},
    "deadline": {"type": "str"},
    "lease": {"type": "str"},
    "id": {"type": "str"},
    "step": {"type": "int"},
    "swap": {"type": "bool", "default": False},
    "wait": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 3600},
    "reason": module.REASON,
}


def work(ansible, fleet):
    """Does what the state asks for, unless it is so already or this is check mode."""
    service = canary.Service(ansible, fleet)
    before = service.settled()
    step = WISHES[ansible.params["state"]](service)
    if not ansible.check_mode:
        if step is not None and not service.make(step):
            step = None
        service.wait()
    after = before if step is None else step.predict(before)
    return module.outcome(before, after, **service.seen())


def main():
    module.run(
        work,
        OPTIONS,
        required_if=[("state", "weighted", ("weight",)), ("state", "started", ("version",)),
                     ("state", "reset", ("reason",))],
    )


if __name__ == "__main__":
    main()
