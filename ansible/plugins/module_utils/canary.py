"""A service's canary: what is decided of it, what each wish makes of that, and waiting for a decision.

A wish is a function of the service. It returns the step to make, or None where nothing is to be done; what can't
be is refused, in check mode as well.
"""

from __future__ import annotations

import secrets
import time

from ansible_collections.serin.fleet.plugins.module_utils import module
from ansible_collections.serin.fleet.plugins.module_utils.admin_api import (
    AdminError,
    NoAnswer,
    Unreachable,
    pick,
    segment,
)

# The longest that one call waits for a decision, in seconds: a proxy that goes is noticed by then.
LONGEST_CALL = 30
# Seconds between two looks at whether the canary is empty.
LOOK = 1
# How long no proxy may answer while a decision is waited for, in seconds.
AWAY = 60


class Step:
    """A call of the API, and what will be decided after it.

    Of a step that isn't `certain` to be needed, the service's revision tells whether it was.
    """

    def __init__(self, method, path, body=None, certain=True, **decided):
        self.method = method
        self.path = path
        self.body = body
        self.certain = certain
        self._decided = decided

    def predict(self, before):
        """What will be decided, as far as that is known before."""
        return {**before, **self._decided}


class Service:
    """A service, as it is seen now."""

    def __init__(self, ansible, fleet):
        self._ansible = ansible
        self._fleet = fleet
        self.wish = ansible.params
        self.name = ansible.params["service"]
        self._path = f"/v1/services/{segment(self.name)}"
        self._look()

    @property
    def rollout(self):
        """The latest rollout, or None."""
        return self._now.get("rollout")

    @property
    def going(self):
        """The rollout that is going on, or None. A promoted one is until its canary is empty."""
        rollout = self.rollout
        return rollout if rollout and not rollout["finished"] else None

    @property
    def is_open(self):
        """Whether the circuit is open."""
        return self._now["circuit"]["state"] == "open"

    @property
    def asked(self):
        """The weight that was asked for, in percent."""
        return self._now["weight"]["asked"]

    @property
    def has_canary(self):
        """Whether it can have a canary at all."""
        return self._now["has_canary"]

    def stable_versions(self):
        """The versions that stable's endpoints say they run, without those that drain."""
        endpoints = self._now["pools"]["stable"]["endpoints"]
        return {endpoint["version"] for endpoint in endpoints if endpoint["state"] != "draining"} - {None}

    def decided(self):
        """What was decided of the canary: what `changed` depends on."""
        rollout = self.rollout
        return {
            "weight": self.asked,
            "circuit": self._now["circuit"]["state"],
            "rollout": rollout and pick(rollout, "id", "version", "phase"),
        }

    def seen(self):
        """What a caller may want to look at."""
        return {"service": self.name, "rollout": self.rollout, **pick(self._now, "circuit", "verdict", "weight")}

    def make(self, step):
        """Makes a step, and looks again. Says whether it was needed."""
        revision = self._now["revision"]
        body = module.with_reason(self._ansible, step.body)
        told = self._fleet.change(step.method, self._path + step.path, body)
        if told.get("note"):
            self._ansible.warn(f"{self.name}: {told['note']}")
        self._look()
        return step.certain or told["revision"] != revision

    def wait(self):
        """Waits for what the state is to be waited for; fails where it came out otherwise."""
        state = self.wish["state"]
        if state == "decided" or (state == "started" and self.wish["wait"]):
            self._until_decided()
        elif state == "promoted" and self.wish["wait"]:
            self._until_empty()

    def rollout_meant(self):
        """The latest rollout, if it is the one that was meant."""
        rollout, version = self.rollout, self.wish["version"]
        if rollout is None:
            raise AdminError(f"{self.name} never had a rollout: begin one by `state: started`", 404)
        if version not in (None, rollout["version"]):
            raise AdminError(f"the latest rollout of {self.name} is of {rollout['version']}, not of {version}", 409)
        return rollout

    def rollout_going(self):
        """The rollout that is meant, if it is still going on."""
        rollout = self.rollout_meant()
        if self.going is None:
            raise AdminError(
                f"no rollout of {self.name} is going on: the latest, of {rollout['version']}, is over "
                f"({rollout['why']})", 409
            )
        return rollout

    def _look(self):
        self._now = self._fleet.get(self._path)

    def _until_decided(self):
        self.rollout_meant()
        path = f"{self._path}/rollout?wait="
        # A call that waits is also the sign of life that a lease asks for.
        self._until("decided", lambda left: self._fleet.get(f"{path}{min(left, LONGEST_CALL)}s", wait=LONGEST_CALL))
        rollout = self.rollout
        if rollout["phase"] != "promoted":
            text = f"the rollout of {rollout['version']} to {self.name} was {rollout['phase']}: {rollout['why']}"
            raise AdminError(text, facts=self.seen())

    def _until_empty(self):
        self._until("finished", lambda left: time.sleep(min(left, LOOK)))

    def _until(self, word, pause):
        """Waits until this is so of the rollout that is the latest now."""
        end = time.monotonic() + self.wish["wait_timeout"]
        meant, answered = self.rollout["id"], time.monotonic()
        while not self.rollout[word]:
            left = end - time.monotonic()
            if left <= 0:
                text = f"the rollout of {self.rollout['version']} to {self.name} isn't {word} after "
                text += f"{self.wish['wait_timeout']} s: {self.rollout['why']}. It goes on; wait longer, or end it by "
                raise AdminError(text + "`state: aborted`", facts=self.seen())
            try:
                pause(max(1, int(left)))
                self._look()
                answered = time.monotonic()
            except (Unreachable, NoAnswer):
                # Proxies restart; whoever waits for hours needn't fail by that.
                if time.monotonic() - answered > AWAY:
                    raise
            if self.rollout["id"] != meant:
                raise AdminError(f"another rollout of {self.name} was begun meanwhile", 409, facts=self.seen())


def weighted(service):
    """The weight, by hand."""
    weight = service.wish["weight"]
    if not 0 <= weight <= 100 or round(weight, 2) != weight:
        raise AdminError(f"a weight is from 0 to 100 with at most two decimals, not {weight:g}")
    refuse_without_canary(service)
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
    plan_shown = {**pick(plan, "id", "version"), "phase": "pending"}
    # An id of its own makes the same start one, however often it is sent.
    return Step("POST", "/rollout", {"id": secrets.token_hex(8), **plan}, rollout=plan_shown)


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
