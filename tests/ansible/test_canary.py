"""serin_canary: weights, rollouts and circuits come to be as they shall, and a pulled canary is a failure."""

from __future__ import annotations

import concurrent.futures

from processes import eventually
from wishes import task, warned

HERE = "serin_canary"
SLOW = ["10%:1h", "50%:1h"]


def latest(call, service):
    """The latest rollout of a service."""
    return call.one("serin_info", service=service, gather=["services"])["services"][service]["rollout"]


def at_step(call, service, step):
    """Waits until the rollout of a service is there."""
    eventually(f"step {step}", lambda: latest(call, service)["step"] == step)


def test_a_playbook_sets_the_weight(play, call):
    (some,) = play.settle((HERE, {"service": "hand", "state": "weighted", "weight": 12.5}))
    assert some["weight"] == {"asked": 12.5, "effective": 12.5}
    (none,) = call.settle((HERE, {"service": "hand", "state": "weighted", "weight": 0, "reason": "enough seen"}))
    assert (none["before"]["weight"], none["after"]["weight"]) == (12.5, 0)
    play.refuse((HERE, {"service": "hand", "state": "weighted", "weight": 101}, "from 0 to 100"))


def test_a_circuit_is_opened_and_closed(fleet, call):
    tripped, _, reset, _ = call.settle(
        (HERE, {"service": "circuit", "state": "tripped", "reason": "the phone rings"}),
        (HERE, {"service": "circuit", "state": "weighted", "weight": 5}),
        (HERE, {"service": "circuit", "state": "reset", "reason": "a false alarm"}),
        (HERE, {"service": "circuit", "state": "weighted", "weight": 0}),
    )
    assert tripped["circuit"]["reason"] == "the phone rings"
    assert reset["circuit"]["state"] == "closed"


def test_a_weight_behind_an_open_circuit_is_warned_of_and_no_rollout_starts(fleet, call):
    call.one(HERE, service="circuit", state="tripped")
    some = {"service": "circuit", "state": "weighted", "weight": 5}
    for result in call.run(task(HERE, **some, check=True), task(HERE, **some), task(HERE, **some)):
        assert "the circuit is open" in warned(result)
    call.refuse((HERE, {"service": "circuit", "state": "started", "version": "2"}, "close it by `state: reset`"))
    refused = call.run(
        task(HERE, service="circuit", state="reset", reason="no"), token_file=str(fleet.folder / "deployer")
    )[0]
    assert refused["status"] == 403 and "operator" in refused["msg"], refused
    call.one(HERE, service="circuit", state="weighted", weight=0)
    assert call.one(HERE, service="circuit", state="reset", reason="done")["changed"]


def test_a_rollout_is_started_paused_resumed_promoted_and_aborted(call):
    rolled = {"service": "rolled"}
    call.settle((HERE, {**rolled, "state": "started", "version": "2", "steps": SLOW, "deadline": "2h"}))
    at_step(call, "rolled", 1)
    call.refuse(
        (HERE, {**rolled, "state": "started", "version": "3"}, "a rollout of 2 to rolled is going on, begun by op"),
        (HERE, {**rolled, "state": "weighted", "weight": 1}, "the rollout of 2 sets the weight"),
        (HERE, {**rolled, "state": "promoted", "version": "3"}, "is of 2, not of 3"),
    )
    paused, resumed, promoted = call.settle(
        (HERE, {**rolled, "state": "paused"}),
        (HERE, {**rolled, "state": "resumed"}),
        (HERE, {**rolled, "state": "promoted", "version": "2", "reason": "looks good"}),
    )
    assert (paused["rollout"]["phase"], resumed["rollout"]["phase"]) == ("paused", "progressing")
    assert promoted["rollout"]["phase"] == "promoted" and promoted["rollout"]["decided_by"] == "operator"
    again, other, aborted = call.run(
        task(HERE, **rolled, state="started", version="2"),
        task(HERE, **rolled, state="aborted", version="3"),
        task(HERE, **rolled, state="aborted", version="2"),
    )
    assert [result["changed"] for result in (again, other, aborted)] == [False, False, True]
    call.refuse(
        (HERE, {**rolled, "state": "paused"}, "no rollout of rolled is going on"),
        (HERE, {**rolled, "state": "promoted"}, "no rollout of rolled is going on"),
    )
    decided = call.one(HERE, **rolled, state="decided")
    assert decided["failed"] and "of 2 to rolled was aborted" in decided["msg"], decided
    # A version that was given up may be tried again.
    call.settle((HERE, {**rolled, "state": "started", "version": "2", "steps": SLOW, "id": "00000000000000AA"}))
    at_step(call, "rolled", 1)
    call.settle((HERE, {**rolled, "state": "aborted"}))


def test_a_manual_gate_is_passed_once(call):
    steered = {"service": "steered", "state": "resumed"}
    call.one(HERE, service="steered", state="started", version="2", steps=["1%:0s:manual", "2%:1h", "3%:1h:manual"])
    at_step(call, "steered", 1)
    assert not call.one(HERE, **steered)["changed"], "it isn't paused"
    call.refuse((HERE, {**steered, "step": 3}, "is at step 1, not at 3 yet"))
    assert call.one(HERE, **steered, step=1)["changed"]
    at_step(call, "steered", 2)
    again, not_manual = call.run(task(HERE, **steered, step=1), task(HERE, **steered, step=2))
    assert (again["changed"], not_manual["changed"]) == (False, False)
    call.one(HERE, service="steered", state="aborted")
    # Also while the step still holds.
    call.one(HERE, service="steered", state="started", version="3", steps=["1%:1h:manual"])
    at_step(call, "steered", 1)
    passed, again = call.run(task(HERE, **steered, step=1), task(HERE, **steered, step=1))
    assert (passed["changed"], again["changed"]) == (True, False)
    call.one(HERE, service="steered", state="aborted")


def test_waiting_ends_with_the_promotion_and_with_an_empty_canary(fleet, call):
    doomed = {"service": "doomed", "wait": True}
    quick = ["1%:0s:time", "100%:0s:time"]
    (started,) = call.settle((HERE, {**doomed, "state": "started", "version": "2", "steps": quick}))
    assert started["rollout"]["phase"] == "promoted"
    assert not call.one(HERE, **doomed, state="decided", version="2")["failed"]
    waited = call.one(HERE, **doomed, state="promoted", wait_timeout=1)
    assert waited["failed"] and "isn't finished after 1 s: promoted: the canary keeps" in waited["msg"]
    call.one("serin_endpoint", service="doomed", endpoint=fleet.apps[0].address, version="2")
    finished = call.one(HERE, **doomed, state="promoted")
    assert (finished["failed"], finished["changed"], finished["rollout"]["finished"]) == (False, False, True)
    # It came through, so nothing is to be started, until stable runs something else.
    again = task(HERE, **doomed, state="started", version="2", check=True)
    back = task("serin_endpoint", service="doomed", endpoint=fleet.apps[0].address, version="1")
    assert [result["changed"] for result in call.run(again, back, again)] == [False, True, True]


def test_a_pull_is_a_failure_with_its_evidence(api, call):
    call.one(HERE, service="pulled", state="started", version="2", steps=SLOW, lease="2m")
    at_step(call, "pulled", 1)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(call.one, HERE, service="pulled", state="decided", version="2")
        api.change("POST", "/v1/services/pulled/circuit/trip", {"reason": "it smells"})
        pulled = waiting.result()
    assert pulled["failed"] and "the rollout of 2 to pulled was pulled" in pulled["msg"], pulled
    assert (pulled["circuit"]["state"], pulled["circuit"]["reason"]) == ("open", "it smells")
    assert pulled["rollout"]["phase"] == "pulled"
    assert not call.one(HERE, service="pulled", state="aborted")["changed"], "it is over already"


def test_what_makes_no_sense_of_a_canary_is_refused(call):
    hand = {"service": "hand"}
    call.refuse(
        (HERE, {"service": "hnd", "state": "aborted"}, "there is no service `hnd`; known: circuit"),
        (HERE, {"service": "plain", "state": "weighted", "weight": 0}, "plain has no canary"),
        (HERE, {"service": "plain", "state": "started", "version": "2"}, "plain has no canary"),
        (HERE, {"service": "plain", "state": "tripped"}, "plain has no canary"),
        (HERE, {**hand, "state": "decided"}, "hand never had a rollout"),
        (HERE, {**hand, "state": "promoted"}, "hand never had a rollout"),
        (HERE, {**hand, "state": "weighted", "weight": 1.005}, "at most two decimals"),
        (HERE, {**hand, "state": "weighted", "weight": "nan"}, "from 0 to 100"),
        (HERE, {**hand, "state": "weighted", "weight": "much"}, "unable to convert to float"),
        (HERE, {**hand, "state": "weighted"}, "missing: weight"),
        (HERE, {**hand, "state": "started"}, "missing: version"),
        (HERE, {**hand, "state": "reset"}, "missing: reason"),
    )
    for steps, says in (["fast"], "a step is WEIGHT:HOLD"), (["50%:1m", "10%:1m"], "step 2"), ([], "steps"):
        refused = call.one(HERE, **hand, state="started", version="2", steps=steps)
        assert refused["failed"] and refused["status"] == 422 and says in refused["msg"], refused
