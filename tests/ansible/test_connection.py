"""Which proxy is asked, who asks, and what is said when that goes wrong."""

from __future__ import annotations

import contextlib
import json

import pytest
from processes import SERIN, free_ports, listening, running
from wishes import task, warned

from ansible_collections.serin.fleet.plugins.module_utils import admin_api

INFO = task("serin_info", gather=["endpoints"])
WEIGHT = task("serin_canary", service="hand", state="weighted", weight=3)


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def test_the_first_proxy_that_answers_is_asked(fleet, call, nobody):
    admin = [nobody, fleet.proxies[1].admin]
    read, set_, drained, ready = call.run(
        INFO,
        WEIGHT,
        task("serin_endpoint", service="shop", endpoint=fleet.apps[0].address, state="drained"),
        task("serin_endpoint", service="shop", endpoint=fleet.apps[0].address, state="ready"),
        admin=admin,
    )
    assert not read["failed"] and set_["changed"]
    for waited in drained, ready:
        assert waited["changed"] and waited["proxies"] == admin[1:]
        assert "left out: cannot reach" in warned(waited)
    assert call.one("serin_canary", service="hand", state="weighted", weight=0)["changed"]


def test_a_proxy_that_comes_back_in_a_moment_is_waited_for_and_one_that_does_not_is_named(call, nobody, monkeypatch):
    pauses = []
    monkeypatch.setattr(admin_api.time, "sleep", pauses.append)
    (read,) = call.run(INFO, admin=[nobody, "unix:/nowhere/admin.sock"])
    assert read["failed"] and "is serin running there" in read["msg"]
    assert nobody in read["msg"] and "unix:/nowhere/admin.sock" in read["msg"]
    assert pauses == [admin_api.PAUSE] * 2


def test_a_change_that_got_no_answer_is_not_made_again_and_a_read_goes_on_to_the_next(fleet, call):
    with listening(None) as (silent, connections):
        read, change = call.run(INFO, WEIGHT, admin=[silent, fleet.proxies[0].admin], timeout=1)
        # The change reads first, too.
        assert not read["failed"] and change["failed"] and len(connections) == 3
    assert "gave no answer in 1 s; the change may have been made all the same" in change["msg"]


def test_what_is_not_serin_is_said_to_be_something_else(call):
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    ):
        with listening(answer) as (address, _):
            (read,) = call.run(INFO, admin=[address])
        assert read["failed"] and "is it serin's admin API?" in read["msg"], read
    with listening(b"220 mail.example ESMTP\r\n") as (address, _):
        (read,) = call.run(INFO, admin=[address])
    assert read["failed"] and "broke off" in read["msg"] and "Traceback" not in json.dumps(read), read


def test_who_may_not_is_told_what_is_needed(fleet, call, tmp_path):
    viewer = str(fleet.folder / "viewer")
    (tmp_path / "wrong").write_text("not-known-here\n")
    (tmp_path / "two").write_text("one two\n")
    (tmp_path / "empty").write_text("\n")
    read, refused = call.run(INFO, WEIGHT, token_file=viewer)
    assert not read["failed"] and refused["status"] == 403 and "deployer" in refused["msg"]
    for token_file, says in (
        (None, "name the file that holds it in `token_file`"),
        (tmp_path / "wrong", "the token is not in the tokens file"),
        (tmp_path / "two", "must hold one token and nothing else"),
        (tmp_path / "empty", "must hold one token and nothing else"),
        (tmp_path / "missing", "No such file or directory"),
    ):
        (refused,) = call.run(INFO, token_file=token_file and str(token_file))
        assert refused["failed"] and says in refused["msg"], refused
        assert "not-known-here" not in json.dumps(refused)


def test_a_token_is_never_shown(fleet, play):
    play.run(INFO, WEIGHT, task("serin_canary", service="hand", state="weighted", weight=0), words=["-vvvv"])
    assert str(fleet.folder / "operator") in play.said, "the file's name is no secret"
    assert "the-operators" not in play.said


def test_a_word_of_the_answer_that_is_the_token_is_not_shown(fleet, call):
    shown = call.one("serin_canary", service="hand", state="aborted", reason="the-operators")
    assert "the-operators" not in json.dumps(shown)


def test_addresses_that_are_none_are_refused(call):
    for address in "localhost:9901", "https://h:1", "http://u:p@h:1", "http://h:1/v1", "unix:admin.sock", "http://", "":
        (refused,) = call.run(INFO, admin=[address])
        assert refused["failed"] and "http://HOST:PORT or unix:/PATH" in refused["msg"], refused
    assert "names no address" in call.run(INFO, admin=[])[0]["msg"]


def test_root_needs_no_token_at_the_unix_socket(call, tmp_path):
    socket_path = tmp_path / "admin.sock"
    (port,) = free_ports(1)
    (tmp_path / "serin.toml").write_text(f"""
[[listener]]
name = "http"
address = "127.0.0.1:{port}"
[admin]
listen = "unix:{socket_path}"
[store]
url = "embedded"
state_file = "{tmp_path}/state.json"
[service.web]
hosts = ["*"]
stable = ["127.0.0.1:9"]
""")
    admin = f"unix:{socket_path}"
    there = task("serin_endpoint", service="web", endpoint="127.0.0.1:10")

    def is_there():
        with contextlib.suppress(admin_api.AdminError):
            return admin_api.Proxy(admin).call("GET", "/readyz")
        return None

    command = [SERIN, "serve", "--config", tmp_path / "serin.toml"]
    with running("serin", command, tmp_path / "serin.log", is_there):
        made, again = call.run(there, there, admin=[admin], token_file=None)
    assert (made["changed"], again["changed"]) == (True, False)
