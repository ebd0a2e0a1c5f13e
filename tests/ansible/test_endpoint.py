"""serin_endpoint: endpoints are registered, drained, readied and taken out, once and for all proxies."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import threading

import pytest
from processes import eventually, listening
from wishes import task, warned

HERE = "serin_endpoint"


@pytest.fixture
def shop(fleet):
    """The addresses of the applications of the service `shop`."""
    return [app.address for app in fleet.apps[:3]]


NEW = {"service": "shop", "endpoint": "extra", "address": "127.0.0.1:9"}


def test_a_playbook_registers_drains_and_takes_out_an_endpoint(play):
    registered, drained, gone = play.settle(
        (HERE, {**NEW, "version": "1.4"}),
        (HERE, {**NEW, "state": "drained"}),
        (HERE, {**NEW, "state": "absent"}),
    )
    assert registered["before"] == {"state": "absent"}
    assert registered["endpoint"]["id"] == "extra"
    assert drained["after"] == {**registered["after"], "state": "draining"}
    assert gone["after"] == {"state": "absent"}
    assert '+    "version": "1.4"' in play.said, "the difference is shown"
    play.refuse((HERE, {**NEW, "state": "ready"}, "`extra`; known: "))


def test_what_is_not_said_of_an_endpoint_stays(call):
    first, second, _, fourth, gone = call.settle(
        (HERE, {**NEW, "version": "1.4", "metadata": {"rack": 7}}),
        (HERE, {**NEW, "weight": 5, "zone": "b"}),
        (HERE, {**NEW, "state": "drained"}),
        (HERE, {**NEW, "version": ""}),
        (HERE, {**NEW, "state": "absent"}),
    )
    assert first["after"]["metadata"] == {"rack": "7"}
    assert second["after"] == {**first["after"], "weight": 5, "zone": "b"}
    assert fourth["after"] == {**second["after"], "state": "draining", "version": None}, "who drains goes on draining"
    assert gone["pool"] == "stable"


def test_what_is_so_already_is_not_written(call, shop):
    def revision():
        return call.one("serin_info", service="plain")["services"]["plain"]["revision"]

    before = revision()
    same = {"service": "plain", "endpoint": shop[0], "weight": 1}
    results = call.run(task(HERE, **same), task(HERE, **same, state="ready"))
    assert [result["changed"] for result in results] == [False, False]
    assert revision() == before, "a member of the configuration file stays one"


def test_a_play_for_haproxy_works_with_the_names_changed(call, shop):
    host = {"backend": "shop", "host": shop[0]}
    disabled, enabled, drained, _ = call.settle(
        (HERE, {**host, "state": "disabled", "wait": True, "drain": True}),
        (HERE, {**host, "state": "enabled", "wait": True, "weight": "7"}),
        (HERE, {**host, "state": "drain"}),
        (HERE, {**host, "state": "enabled", "weight": "1"}),
    )
    assert (disabled["after"]["state"], enabled["after"]["state"]) == ("draining", "ready")
    assert enabled["endpoint"]["weight"] == 7
    assert len(drained["proxies"]) == 2


def test_a_drain_waits_for_requests_through_any_proxy(fleet, call, shop):
    # Given a request that one proxy knows of, and the other is asked first.
    busy = fleet.apps[1]
    others = [{"service": "shop", "endpoint": shop[at], "state": "drained", "wait": False} for at in (0, 2)]
    call.run(*(task(HERE, **other) for other in others))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        request = pool.submit(fleet.proxies[1].get, "/held", "shop")
        eventually("the request is held", lambda: busy.held)
        wish = {"service": "shop", "endpoint": busy.address, "state": "drained", "min_ready": 0, "wait_timeout": 1}
        try:
            # When it is drained while the request is under way.
            failed, proceeded = call.run(task(HERE, **wish), task(HERE, **wish, on_timeout="proceed"))
        finally:
            busy.let_go.set()
        # Then that is said, and once the request is done so is the drain.
        assert failed["failed"] and "1 still in flight" in failed["msg"] and fleet.proxies[1].admin in failed["msg"]
        assert (proceeded["failed"], proceeded["changed"], proceeded["in_flight"]) == (False, False, 1)
        assert "1 still in flight" in warned(proceeded)
        drained = call.one(HERE, **wish)
        assert (drained["failed"], drained["changed"], drained["in_flight"]) == (False, False, 0)
        assert request.result() == 200
    ready = [{"service": "shop", "endpoint": address, "state": "ready"} for address in shop]
    assert [result["changed"] for result in call.run(*(task(HERE, **wish) for wish in ready))] == [True] * 3


@contextlib.contextmanager
def tunnels():
    """A server that agrees to whatever it is asked for, and then keeps the connection; its address, and those."""
    agreed = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection = stack.enter_context(server.accept()[0])
                    connection.recv(65536)
                    connection.sendall(agreed)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            # Wakes up `accept`, which a mere close would leave asleep.
            server.shutdown(socket.SHUT_RDWR)


def test_a_drain_that_kills_closes_the_tunnels_that_are_left(fleet, call):
    asks = (
        b"GET /chat HTTP/1.1\r\nHost: hand\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    entrance = ("127.0.0.1", int(fleet.proxies[1].http.rsplit(":", 1)[1]))
    usual = {"service": "hand", "pool": "stable", "endpoint": fleet.apps[0].address}
    with tunnels() as address, socket.create_connection(entrance, timeout=10) as client:
        # Given a tunnel through the proxy that is asked second.
        one = {"service": "hand", "pool": "stable", "endpoint": "chat"}
        call.run(task(HERE, **one, address=address), task(HERE, **usual, state="drained"))
        client.sendall(asks)
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        wish = {**one, "state": "drained", "min_ready": 0, "wait_timeout": 1}
        try:
            # When it is drained, and what is left is to be closed.
            failed, killed = call.run(task(HERE, **wish), task(HERE, **wish, on_timeout="kill"))
        finally:
            call.run(task(HERE, **usual, state="ready"), task(HERE, **one, state="absent", wait=False))
        # Then it is, and nothing is in flight.
        assert failed["failed"] and "1 of them tunnels" in failed["msg"], failed
        assert (killed["failed"], killed["in_flight"]) == (False, 0), killed
        assert client.recv(4096) == b""


def test_the_floor_holds(call, shop):
    last = {"service": "shop", "endpoint": shop[0], "state": "drained"}
    call.refuse((HERE, {**last, "min_ready": 3}, "3 must stay (min_ready)"))
    call.settle((HERE, {**last, "min_ready": 2}), (HERE, {**last, "state": "ready"}))


def test_a_proxy_that_has_not_heard_of_the_endpoint_has_nothing_in_flight_and_gives_it_no_work(fleet, call, shop):
    body = b'{"title":"Not Found","status":404,"detail":"there is no endpoint"}'
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    wish = {"service": "shop", "endpoint": shop[0]}
    with listening(answer) as (behind, _):
        drained, ready = call.run(
            task(HERE, **wish, state="drained"),
            task(HERE, **wish, state="ready", wait_timeout=0),
            admin=[fleet.proxies[0].admin, behind],
        )
    assert (drained["failed"], drained["in_flight"]) == (False, 0)
    assert ready["failed"] and f"gets no work from {behind}" in ready["msg"] and "not known there" in ready["msg"]


def test_ready_waits_for_the_health_check(fleet, call, shop):
    sick = fleet.apps[2]
    wish = {"service": "plain", "endpoint": sick.address, "wait_timeout": 1}
    call.one(HERE, **wish, state="drained")
    sick.well = False
    try:
        eventually("it is seen to be sick", lambda: "down" in states(call, "plain"))
        waited, left = call.run(task(HERE, **wish, state="ready"), task(HERE, **wish, state="ready", wait=False))
    finally:
        sick.well = True
    assert waited["failed"] and "gets no work" in waited["msg"] and "health check" in waited["msg"]
    assert (left["failed"], left["changed"]) == (False, False)
    assert call.one(HERE, **{**wish, "wait_timeout": 30}, state="ready")["endpoint"]["state"] == "ready"


def states(call, service):
    """The states of a service's endpoints, and their health."""
    found = call.one("serin_info", service=service, gather=["endpoints"])["endpoints"]
    return {endpoint[word] for endpoint in found for word in ("state", "health")}


def test_what_beats_by_itself_is_not_taken_over(fleet, call, beat):
    beat("shop", "stable", "i-0a1b", "127.0.0.1:7")
    eventually("it is there", lambda: "steady" in leases(call))
    wish = {"service": "shop", "endpoint": "i-0a1b", "address": "127.0.0.1:7"}
    call.refuse((HERE, {**wish, "weight": 9}, "change weight where it beats"))
    unchanged, drained = call.run(task(HERE, **wish), task(HERE, **wish, state="drained"))
    assert (unchanged["changed"], drained["changed"]) == (False, True)
    assert call.one(HERE, **wish, state="absent")["changed"]


def leases(call):
    """How the leases of `shop` stand."""
    found = call.one("serin_info", service="shop", gather=["endpoints"])["endpoints"]
    return {endpoint.get("lease") for endpoint in found}


def test_names_that_do_not_exist_and_values_that_make_no_sense_are_refused(call, shop):
    stable = {"service": "shop", "endpoint": "extra"}
    call.refuse(
        (HERE, {"service": "shp", "endpoint": shop[0]}, "there is no service `shp`; known: circuit"),
        (HERE, {"service": "shop", "endpoint": "10.9.9.9:1", "state": "ready"}, "`10.9.9.9:1`; known: "),
        (HERE, {"endpoint": shop[0], "state": "drained"}, "more than one such endpoint"),
        (HERE, {"service": "shop", "endpoint": shop[0], "pool": "canary", "state": "ready"}, "there is none"),
        (HERE, {"endpoint": shop[0]}, "state is present but all of the following are missing: service"),
        (HERE, stable, "`extra` is no IP:PORT"),
        (HERE, {**stable, "address": "localhost:80"}, "this module registers no names"),
        (HERE, {**stable, "address": "127.0.0.1:80", "weight": 0}, "from 1 to 1000"),
        (HERE, {**stable, "state": "gone"}, "value of state must be one of"),
    )
    for refused in call.run(
        task(HERE, service="shop", endpoint="a/b", address="127.0.0.1:80"),
        task(HERE, service="shop", endpoint=shop[0], version="two\nlines"),
    ):
        assert refused["failed"] and refused["status"] == 422, refused
