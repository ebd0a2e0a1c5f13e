"""Waiting for a decision while proxies come and go: what no real fleet does at the moment that a test needs."""

from __future__ import annotations

import types

import pytest

from ansible_collections.serin.fleet.plugins.module_utils import admin_api, canary

WAITED = object()


def service(revision, rollout="mine", decided=False, phase="progressing"):
    """A service as a proxy answers."""
    latest = {"id": rollout, "version": "2", "phase": phase, "decided": decided, "finished": False, "why": "so it is"}
    return {"revision": revision, "rollout": latest, "weight": {"asked": 1.0}, "circuit": {"state": "closed"}}


class Script:
    """A fleet that answers by a script. Calls that wait are answered by WAITED, or by an error."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def get(self, path, wait=0):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert (answer is WAITED) == bool(wait), path
        return answer


def wait(fleet):
    """Waits for the decision on the rollout that a fleet begins with."""
    params = {"service": "shop", "state": "decided", "wait": True, "wait_timeout": 600, "version": None, "reason": None}
    seen = canary.Service(types.SimpleNamespace(params=params, warn=print), fleet)
    seen.wait()
    assert not fleet.answers
    return seen


def test_a_proxy_that_is_behind_has_nothing_new_to_say():
    promoted = service(7, decided=True, phase="promoted")
    seen = wait(Script(service(5), WAITED, service(4, rollout="the one before"), WAITED, promoted))
    assert seen.rollout["phase"] == "promoted"


def test_another_rollout_that_was_begun_meanwhile_ends_the_wait():
    with pytest.raises(admin_api.AdminError, match="another rollout of shop was begun meanwhile"):
        wait(Script(service(5), WAITED, service(6, rollout="another")))


def test_who_waits_bears_with_proxies_that_are_away_for_a_moment():
    away = admin_api.Unreachable("nobody there")
    promoted = service(7, decided=True, phase="promoted")
    assert wait(Script(service(5), away, away, WAITED, promoted)).rollout["decided"]


def test_who_waits_does_not_bear_with_a_fleet_that_is_gone(monkeypatch):
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(canary.time, "monotonic", lambda: next(clock))
    away = [admin_api.Unreachable("nobody there") for _ in range(9)]
    with pytest.raises(admin_api.Unreachable, match="nobody there"):
        wait(Script(service(5), *away))
