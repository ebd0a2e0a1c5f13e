"""A service's canary: what is decided of it, making a step, and waiting for a decision."""

from __future__ import annotations

import time

from ansible_collections.serin.fleet.plugins.module_utils import module
from ansible_collections.serin.fleet.plugins.module_utils.admin_api import (
    AdminError,
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
        self._now = fleet.get(self._path)

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

    def settled(self):
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
            self.warn(told["note"])
        self._look()
        return step.certain or told["revision"] != revision

    def warn(self, text):
        """Warns of something about the service."""
        self._ansible.warn(f"{self.name}: {text}")

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
        """Looks again. Another proxy may answer now, and be behind by a moment: what it says then is no news."""
        seen = self._fleet.get(self._path)
        if seen["revision"] >= self._now["revision"]:
            self._now = seen

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
            except Unreachable:
                # Proxies restart; whoever waits for hours needn't fail by that.
                if time.monotonic() - answered > AWAY:
                    raise
            if self.rollout["id"] != meant:
                raise AdminError(f"another rollout of {self.name} was begun meanwhile", 409, facts=self.seen())
