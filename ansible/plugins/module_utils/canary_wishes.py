"""What may be wished of a canary, as `state` names it.

A wish is a function of the service. It returns the step to make, or None where nothing is to be done; what can't
be is refused, in check mode as well.
"""

from __future__ import annotations

import secrets

from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError, pick
from ansible_collections.serin.fleet.plugins.module_utils.canary import Step


def weighted(service):
    """The weight, by hand."""
    weight = service.wish["weight"]
    if not 0 <= weight <= 100 or round(weight, 2) != weight:
        raise AdminError(f"a weight is from 0 to 100 with at most two decimals, not {weight:g}")
    refuse_without_canary(service)
    if service.is_open and weight > 0:
        service.warn("the circuit is open: the canary gets nothing until a person resets it")
    if service.asked == weight:
        return None
    going = service.going
    if going and not (going["phase"] == "promoted" and weight == 0):
        raise AdminError(
            f"the rollout of {going['version']} sets the weight of {service.name}: end it by `state: aborted`, or keep "
            "the weight where it is by `state: paused`", 409
        )
    return Step("PUT", "/canary/weight", {"percent": weight}, weight=weight)


def started(service):
    """A rollout of the version."""
    refuse_without_canary(service)
    if service.rollout and came_to_it(service, service.rollout):
        return None
    if service.going:
        going = service.going
        raise AdminError(
            f"a rollout of {going['version']} to {service.name} is going on, begun by {going['started_by']} at "
            f"{going['started_at']} ({going['phase']}): wait until it is over, or end it by `state: aborted`", 409
        )
    if service.is_open:
        raise AdminError(
            f"the circuit of {service.name} is open: when the cause is found, close it by `state: reset`; then begin "
            "again", 409, facts=service.seen()
        )
    plan = pick(service.wish, "version", "steps", "deadline", "lease", "id")
    begun = {**pick(plan, "id", "version"), "phase": "pending"}
    # An id of its own makes the same start one, however often it is sent.
    return Step("POST", "/rollout", {"id": secrets.token_hex(8), **plan}, rollout=begun)


def came_to_it(service, rollout):
    """Whether the rollout that was asked for is the latest, and neither failed nor was undone since."""
    if service.wish["id"] is not None:
        return rollout["id"] == service.wish["id"].lower()
    version = service.wish["version"]
    if rollout["version"] != version or rollout["phase"] in ("pulled", "aborted"):
        return False
    # One that came through counts as long as stable doesn't say that it runs something else.
    return not rollout["finished"] or service.stable_versions() <= {version}


def decided(service):
    """The decision of the latest rollout: nothing to do but to wait."""
    service.rollout_meant()


def paused(service):
    """A rollout that doesn't go on."""
    rollout = service.rollout_going()
    if rollout["phase"] == "paused":
        return None
    if rollout["phase"] == "promoted":
        raise AdminError(f"the rollout of {rollout['version']} is promoted already: there is nothing to pause", 409)
    return steer("pause", rollout, "paused")


def resumed(service):
    """A rollout that goes on; with a step, past the manual gate of that step."""
    rollout, step = service.rollout_going(), service.wish["step"]
    is_paused = rollout["phase"] == "paused"
    if step is None:
        return steer("resume", rollout, "progressing") if is_paused else None
    if rollout["step"] < step:
        raise AdminError(f"the rollout of {rollout['version']} is at step {rollout['step']}, not at {step} yet", 409)
    if rollout["step"] > step or rollout["phase"] == "promoted":
        return None
    if is_paused or rollout["steps"][step - 1]["gate"] == "manual":
        # Whether somebody has passed the gate already isn't shown.
        return steer("resume", rollout, "progressing", certain=is_paused, passed=step)
    return None


def promoted(service):
    """A version that is approved."""
    rollout, swap = service.rollout_meant(), service.wish["swap"]
    if rollout["phase"] == "promoted" and not (swap and service.going):
        return None
    service.rollout_going()
    if rollout["step"] == 0:
        raise AdminError(
            f"the rollout of {rollout['version']} hasn't begun, so no user has seen the version ({rollout['why']}): "
            "wait for its first step", 409
        )
    return steer("promote", rollout, "promoted", {"swap": swap}, **({"swapped": True} if swap else {}))


def aborted(service):
    """No rollout that goes on, or none of the version."""
    going = service.going
    if going is None or service.wish["version"] not in (None, going["version"]):
        return None
    return steer("abort", going, "aborted")


def tripped(service):
    """An open circuit."""
    refuse_without_canary(service)
    return None if service.is_open else Step("POST", "/circuit/trip", circuit="open")


def reset(service):
    """A closed circuit."""
    return Step("POST", "/circuit/reset", circuit="closed") if service.is_open else None


WISHES = {
    "weighted": weighted,
    "started": started,
    "decided": decided,
    "paused": paused,
    "resumed": resumed,
    "promoted": promoted,
    "aborted": aborted,
    "tripped": tripped,
    "reset": reset,
}


def steer(verb, rollout, phase, body=None, certain=True, **more):
    """A step that steers a rollout into this phase."""
    after = {**pick(rollout, "id", "version"), "phase": phase, **more}
    return Step("POST", f"/rollout/{verb}", body, certain, rollout=after)


def refuse_without_canary(service):
    """Fails where the service can't have a canary."""
    if not service.has_canary:
        raise AdminError(
            f"{service.name} has no canary: give it `canary = [\"HOST:PORT\"]` and a [service.{service.name}.split] "
            "table in serin's configuration, then reload", 409
        )
