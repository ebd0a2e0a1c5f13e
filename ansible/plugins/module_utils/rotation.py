"""Putting an endpoint into work and taking it out, through all proxies of a fleet.

Where it is decided any proxy will do, since they share a store. Whether it is so is for each to say: requests are
in flight through one proxy, and each checks health by itself.
"""

from __future__ import annotations

import time

from ansible_collections.serin.fleet.plugins.module_utils import endpoints, module
from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError, Unreachable

# Seconds between two looks whether an endpoint is ready.
LOOK = 0.2
# What a drain waits at least, so that it looks at all.
LEAST_WAIT = 1


class Task:
    """One endpoint, and what a module was told of it."""

    def __init__(self, ansible, fleet, place, found, known):
        self._ansible = ansible
        self._wish = ansible.params
        self._fleet = fleet
        self._place = place
        self._found = found
        self._known = known

    def put(self, before, after):
        """Registers it as it shall be, and gives it work if it has none and shall have."""
        endpoint = None
        if any(before.get(trait) != after[trait] for trait in endpoints.TRAITS):
            body = {trait: after[trait] for trait in endpoints.TRAITS if after[trait] is not None}
            endpoint = self._change("PUT", "", body)
        if before["state"] == "draining" and after["state"] == "ready":
            endpoint = self._change("POST", "ready")
        if self._wish["state"] in ("ready", "enabled") and self._wish["wait"]:
            return self._until_ready()
        return {"endpoint": endpoint or self._fleet.get(self._place.path())}

    def take_out(self, gone):
        """Drains it, and takes it out if it shall be gone."""
        told = {}
        if not gone or self._waits():
            told = self._drain()
        if gone:
            self._change("DELETE", "")
            told.pop("endpoint", None)
        return told

    def keep_floor(self, gone):
        """In check mode: refuses what the proxy would, as far as somebody said how many must stay."""
        floor, found = self._wish["min_ready"], self._found
        if floor is None or found["state"] != "ready" or (gone and not self._waits()):
            return
        service = next(service for service in self._known if service["name"] == self._place.service)
        left = service["pools"][self._place.pool]["ready"] - 1
        if left < floor:
            raise AdminError(f"draining {self._place} would leave {left} ready, and {floor} must stay (min_ready)", 409)

    def _waits(self):
        return self._wish["wait"] and self._wish["drain"]

    def _drain(self):
        began = time.monotonic()
        limit = self._wish["wait_timeout"] if self._waits() else 0
        floor = self._wish["min_ready"]
        wish = {} if floor is None else {"min_ready": floor}
        path = self._place.path("drain")
        proxy, first = self._fleet.ask("POST", path, self._drain_wish(limit, wish), wait=limit)
        seen = {proxy.address: first}
        for other in self._fleet.others(proxy):
            left = max(limit - (time.monotonic() - began), LEAST_WAIT if limit else 0)
            # The floor has been kept by the first; here it may be seen as ready for a moment longer.
            body = self._drain_wish(left, {"min_ready": 0})
            told = self._at(other, "POST", path, body, left)
            if told is not None:
                seen[other.address] = told
        for address, told in seen.items():
            if told.get("note") and limit:
                self._ansible.warn(f"{self._place} is not empty after {limit} s: {told['note']} ({address})")
        in_flight = sum(told["in_flight"] for told in seen.values())
        return {"endpoint": first, "in_flight": in_flight, **self._waited(began, seen)}

    def _drain_wish(self, seconds, more):
        on_timeout = self._wish["on_timeout"] if self._waits() else "proceed"
        body = {"wait": f"{max(0, int(seconds * 1000))}ms", "on_timeout": on_timeout, **more}
        return module.with_reason(self._ansible, body)

    def _until_ready(self):
        """Waits until each proxy that can be reached gives it work."""
        began = time.monotonic()
        limit = self._wish["wait_timeout"]
        seen = {}
        for proxy in self._fleet.proxies:
            while found := self._at(proxy, "GET", self._place.path()):
                if found["state"] == "ready":
                    seen[proxy.address] = found
                    break
                if time.monotonic() - began >= limit:
                    raise AdminError(
                        f"{self._place} gets no work from {proxy.address} after {limit} s: it is {found['state']} "
                        f"(health: {found['health']}). See that it answers serin's health check, or use `wait: false`"
                    )
                time.sleep(LOOK)
        if not seen:
            raise Unreachable(f"no proxy could be reached that would say whether {self._place} is ready")
        return {"endpoint": next(iter(seen.values())), **self._waited(began, seen)}

    def _change(self, method, verb, body=None):
        return self._fleet.change(method, self._place.path(verb), module.with_reason(self._ansible, body))

    def _at(self, proxy, method, path, body=None, wait=0):
        """What a proxy says. Nothing, with a warning, where none is there that could have work under way. One that
        hasn't heard of the endpoint yet has nothing in flight with it, and gives it no work."""
        try:
            return proxy.call(method, path, body, wait=wait)
        except Unreachable as error:
            self._ansible.warn(f"left out: {error}")
            return None
        except AdminError as error:
            if error.status != 404:
                raise
            return {"state": "not known there", "health": "unknown", "in_flight": 0}

    def _waited(self, began, seen):
        return {"proxies": list(seen), "waited": round(time.monotonic() - began, 3)}
