"""Real servers of a test: Redis, serin, and applications behind it. Each is gone when its `with` ends."""

from __future__ import annotations

import contextlib
import http.server
import os
import pathlib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The daemon under test.
SERIN = pathlib.Path(os.environ.get("SERIN_BIN", ROOT / "target/debug/serin"))
# Seconds that anything may take that a test waits for.
PATIENCE = 30
# How often other ports are tried.
TRIES = 5
# Seconds between two looks.
LOOK = 0.02


def eventually(what, probe, patience=PATIENCE):
    """What `probe` returns once that is something; fails with `what` when it isn't in time."""
    end = time.monotonic() + patience
    while not (found := probe()):
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        time.sleep(LOOK)
    return found


def free_ports(count):
    """So many ports of loopback that were free a moment ago."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class PortTaken(Exception):
    """Somebody took a port between the choice and its use."""


@contextlib.contextmanager
def on_free_ports(count, start):
    """What `start(*ports)` starts, on other ports if somebody took these first."""
    for left in reversed(range(TRIES)):
        with contextlib.ExitStack() as stack:
            try:
                started = stack.enter_context(start(*free_ports(count)))
            except PortTaken:
                if not left:
                    raise
                continue
            yield started
            return


@contextlib.contextmanager
def running(name, command, log, is_there):
    """A child process that is there; its log is shown if it doesn't come."""
    with open(log, "wb") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        def look():
            if child.poll() is not None:
                said = log.read_text()
                raise (PortTaken if "Address already in use" in said else AssertionError)(f"{name} ended:\n{said}")
            return is_there()

        eventually(f"{name} is there; its log is {log}", look)
        yield child
    finally:
        child.kill()
        child.wait()


def accepts(port, address="127.0.0.1"):
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def redis_server(folder, *words, option="--port"):
    """A Redis that keeps nothing; its port."""
    @contextlib.contextmanager
    def start(port):
        command = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", folder, *words, option, str(port)]
        with running("redis-server", command, folder / "redis.log", lambda: accepts(port)):
            yield port

    return on_free_ports(1, start)


def redis_sentinel(folder, name, watched):
    """A sentinel that watches the server on a port under this name; its port."""
    @contextlib.contextmanager
    def start(port):
        conf = folder / "sentinel.conf"
        conf.write_text(f"bind 127.0.0.1\nport {port}\nsentinel monitor {name} 127.0.0.1 {watched} 1\n")
        command = ["redis-server", conf, "--sentinel"]
        with running("redis-sentinel", command, folder / "sentinel.log", lambda: accepts(port)):
            yield port

    return on_free_ports(1, start)


class Serin:
    """A running daemon."""

    def __init__(self, http_port, admin_port, child):
        self.http = f"http://127.0.0.1:{http_port}"
        self.admin = f"http://127.0.0.1:{admin_port}"
        self.child = child

    def get(self, path, host):
        """The status of a user's request."""
        request = urllib.request.Request(self.http + path, headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code


def serin(folder, config, tokens):
    """A daemon with this configuration, to which the folder, its addresses and its tokens are added."""
    folder.mkdir()
    (folder / "tokens").write_text(tokens)

    @contextlib.contextmanager
    def start(http_port, admin_port):
        (folder / "serin.toml").write_text(f"""
[[listener]]
name = "http"
address = "127.0.0.1:{http_port}"
[admin]
listen = "127.0.0.1:{admin_port}"
tokens_file = "{folder}/tokens"
{config.replace("@state@", str(folder / "state.json"))}
""")
        command = [SERIN, "serve", "--config", folder / "serin.toml"]
        with running("serin", command, folder / "serin.log", lambda: is_ready(admin_port)) as child:
            yield Serin(http_port, admin_port, child)

    return on_free_ports(2, start)


def is_ready(admin_port):
    """Whether a daemon is ready."""
    url = f"http://127.0.0.1:{admin_port}/readyz"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return response.status == 200
    return False


class Application(http.server.ThreadingHTTPServer):
    """An application that answers 200; `/held` only once it is let go, `/health` only while it is well."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"127.0.0.1:{self.server_port}"
        self.well = True
        self.held = 0
        self.let_go = threading.Event()


class Answer(http.server.BaseHTTPRequestHandler):
    """One request of an application."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = 200
        if self.path == "/health" and not self.server.well:
            status = 503
        if self.path == "/held":
            self.server.held += 1
            self.server.let_go.wait(PATIENCE)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def application():
    """A running application."""
    with Application() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": LOOK})
        thread.start()
        try:
            yield server
        finally:
            server.let_go.set()
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def listening(answer):
    """A server that accepts, reads what comes, and answers with these bytes; with none, never. Its address, and how
    often it was connected to."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.append(connection)
                    if answer is not None:
                        connection.recv(65536)
                        connection.sendall(answer)
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", connections
        finally:
            # Wakes up `accept`, which a mere close would leave asleep.
            server.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                connection.close()
