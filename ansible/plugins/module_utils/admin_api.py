"""A client of serin's admin API, for the modules and the inventory plugin.

Knows addresses, tokens and HTTP, and nothing of what is asked. It speaks through http.client, because
only there "the connection failed" (nothing was sent: another proxy may be asked) is told apart from
"no answer came" (the change may have been made). Python's standard library alone.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.parse

DEFAULT_ADMIN = "http://127.0.0.1:9901"

# Seconds that a connection may take.
CONNECT = 5
# How often all addresses are tried when none can be connected to, and the seconds between: a proxy that
# restarts is back within that time.
ROUNDS = 3
PAUSE = 0.5
# The largest answer that is read, in bytes.
LARGEST = 32 << 20


class AdminError(Exception):
    """The API said no, or nobody answered. The message names the next step.

    `status` is that of the answer, `known` are the names that exist where one was asked for that doesn't, `facts`
    is what else somebody may want to look at.
    """

    def __init__(self, message, status=None, known=(), facts=None):
        super().__init__(message)
        self.status = status
        self.known = list(known)
        self.facts = facts or {}


class Unreachable(AdminError):
    """No connection, so nothing was sent."""


class NoAnswer(AdminError):
    """The connection was there, and the answer wasn't: what was asked may have been done."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Proxy:
    """The admin API of one proxy."""

    def __init__(self, address, token=None, patience=15):
        self.address = address
        self._open = opener(address)
        self._token = token
        self._patience = patience

    def call(self, method, path, body=None, if_match=None, wait=0):
        """What it answers, from its JSON. `wait` are seconds that the call itself takes, beside the usual patience."""
        patience = self._patience + wait
        connection = self._open()
        try:
            self._connect(connection)
            connection.sock.settimeout(patience)
            connection.request(method, path, *encode(body, self._token, if_match))
            response = connection.getresponse()
            text = response.read(LARGEST)
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(method, error, patience) from error
        finally:
            connection.close()
        return self._read(response.status, text)

    def _connect(self, connection):
        try:
            connection.connect()
        except OSError as error:
            raise Unreachable(
                f"cannot reach the admin API at {self.address} ({describe(error)}): is serin running there, and is "
                "that its `[admin] listen`?"
            ) from error

    def _no_answer(self, method, error, patience):
        if isinstance(error, socket.timeout):
            what = f"gave no answer in {patience:g} s"
        else:
            what = f"broke off ({describe(error)})"
        doubt = "" if method == "GET" else "; the change may have been made all the same: look before you repeat it"
        return NoAnswer(f"the admin API at {self.address} {what}{doubt}")

    def _read(self, status, text):
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise AdminError(f"what {self.address} answers (status {status}) makes no sense: is it serin's admin API?")
        if status >= 400:
            detail = answer.get("detail") or answer.get("title") or f"status {status}"
            raise AdminError(f"{self.address} says: {detail}{self._hint(status)}", status, answer.get("known", ()))
        return answer

    def _hint(self, status):
        if status in (401, 403) and self._token is None:
            return " (name the file that holds it in `token_file`)"
        return ""


class Fleet:
    """Proxies that share a store, so that a change by one is a change of all: the first that answers is asked."""

    def __init__(self, addresses, token=None, patience=15):
        if not addresses:
            raise AdminError("`admin` names no address: give it at least one, such as " + DEFAULT_ADMIN)
        self.proxies = [Proxy(address, token, patience) for address in addresses]

    def get(self, path, wait=0):
        """What the first that answers says to a GET."""
        return self.ask("GET", path, wait=wait)[1]

    def change(self, method, path, body=None, if_match=None, wait=0):
        """What the first that can be connected to says to a change."""
        return self.ask(method, path, body, if_match, wait)[1]

    def ask(self, method, path, body=None, if_match=None, wait=0):
        """Who answered, and what. Only what is sure not to have been done, or to do nothing, is asked of another."""
        failures = []
        for turn in range(ROUNDS):
            if turn:
                time.sleep(PAUSE)
            failures = []
            for proxy in self.proxies:
                try:
                    return proxy, proxy.call(method, path, body, if_match, wait)
                except Unreachable as error:
                    failures.append(error)
                except NoAnswer as error:
                    if method != "GET":
                        raise
                    failures.append(error)
        raise Unreachable("; ".join(str(error) for error in failures))

    def others(self, proxy):
        """All but this one."""
        return [other for other in self.proxies if other is not proxy]


def opener(address):
    """What opens connections to `http://HOST[:PORT]` or `unix:/PATH`."""
    wrong = AdminError(f"`{address}` is no address of an admin API: write http://HOST:PORT or unix:/PATH")
    if address.startswith("unix:"):
        path = address[len("unix:"):]
        if not path.startswith("/"):
            raise wrong
        return lambda: UnixConnection(path, CONNECT)
    url = urllib.parse.urlsplit(address)
    try:
        host, port = url.hostname, url.port or 80
    except ValueError:
        raise wrong from None
    if url.scheme != "http" or not host or "@" in url.netloc or url.path not in ("", "/") or url.query or url.fragment:
        raise wrong
    return lambda: http.client.HTTPConnection(host, port, timeout=CONNECT)


def encode(body, token, if_match):
    """A body and its headers, as http.client takes them."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = "Bearer " + token
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    return (None if body is None else json.dumps(body).encode(), headers)


def read_token(path):
    """The token that a file holds: one line, and nothing else."""
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds more than a token"
        raise AdminError(f"cannot read the token file {path}: {why}") from None
    if not token or len(token.split()) != 1:
        raise AdminError(f"the token file {path} must hold one token and nothing else")
    return token


def describe(error):
    """What went wrong on a connection, in words."""
    if isinstance(error, socket.timeout):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def segment(name):
    """A name as one segment of a path."""
    return urllib.parse.quote(name, safe="")


def unknown(what, name, known):
    """The failure that something of this name isn't there, but these are."""
    names = sorted(known)
    shown = f"known: {', '.join(names)}" if names else "there is none"
    return AdminError(f"there is no {what} `{name}`; {shown}", 404, names)


def pick(things, *names):
    """Of a dict the entries with these names, as far as they hold something."""
    return {name: things[name] for name in names if things.get(name) is not None}
