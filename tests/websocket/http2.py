"""A user of WebSockets by HTTP/2 (RFC 8441), by the libraries `h2` and `websockets`.

    python http2.py URL

Opens two on one connection, talks by both, closes them, prints what came of it as JSON, and fails where a library isn't
content.
"""

import json
import os
import socket
import ssl
import sys
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

LARGEST = 64 << 20


class User:
    """A connection by HTTP/2, and the WebSockets on it."""

    def __init__(self, url):
        self.url = urlsplit(url)
        context = ssl.create_default_context(cafile=os.environ["CA_FILE"])
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((self.url.hostname, self.url.port), timeout=20)
        self.socket = context.wrap_socket(plain, server_hostname=self.url.hostname)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.streams = {}
        self.offered = False
        while not self.offered:
            self.turn()

    def turn(self):
        """Sends what is to be sent, and takes in what comes."""
        self.socket.sendall(self.http.data_to_send())
        data = self.socket.recv(65536)
        assert data, "serin closed the connection"
        for event in self.http.receive_data(data):
            if isinstance(event, RemoteSettingsChanged):
                setting = event.changed_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
                self.offered |= setting is not None and setting.new_value == 1
            elif isinstance(event, ResponseReceived):
                self.streams[event.stream_id].headers = dict(event.headers)
            elif isinstance(event, DataReceived):
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.streams[event.stream_id].take_in(event.data)
            elif isinstance(event, StreamEnded):
                self.streams[event.stream_id].ended = True
            elif isinstance(event, StreamReset):
                # By NO_ERROR a refusal ends that needs nothing more from the client.
                assert event.error_code == ErrorCodes.NO_ERROR, event
                self.streams[event.stream_id].ended = True


class WebSocket:
    """One stream of it."""

    def __init__(self, user, path, **more):
        self.user, self.ended, self.headers, self.messages, self.frames = user, False, None, [], []
        self.frame_kinds = []
        self.id = user.http.get_next_available_stream_id()
        user.streams[self.id] = self
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", user.url.netloc),
            (":path", path),
            ("sec-websocket-version", "13"),
            *more.items(),
        ]
        self.protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=LARGEST)
        user.http.send_headers(self.id, fields)
        while self.headers is None:
            user.turn()

    def take_in(self, data):
        if self.headers[":status"] != "200":
            return
        self.protocol.receive_data(data)
        for frame in self.protocol.events_received():
            self.frame_kinds.append(frame.opcode)
            if frame.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                self.frames.append(bytes(frame.data))
                if frame.fin:
                    self.messages.append(b"".join(self.frames))
                    self.frames = []
        self.flush()

    def flush(self):
        """Sends what the WebSocket wants to say, as fast as there is room for it."""
        http = self.user.http
        for data in self.protocol.data_to_send():
            while data:
                room = min(http.local_flow_control_window(self.id), http.max_outbound_frame_size)
                if room <= 0:
                    self.user.turn()
                    continue
                http.send_data(self.id, data[:room])
                data = data[room:]
        self.user.socket.sendall(http.data_to_send())

    def echo(self, message):
        self.protocol.send_binary(message)
        self.flush()
        while not self.messages:
            self.user.turn()
        assert self.messages.pop(0) == message, len(message)


def main():
    user = User(sys.argv[1])
    one, two = WebSocket(user, "/"), WebSocket(user, "/")
    for opened in (one, two):
        assert opened.headers[":status"] == "200", opened.headers
        assert "sec-websocket-accept" not in opened.headers and "upgrade" not in opened.headers, opened.headers
    sizes = []
    for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000, 4 << 20):
        for opened in (one, two):
            opened.echo(os.urandom(size))
        sizes.append(size)
    one.protocol.send_ping(b"still there?")
    one.flush()
    while Opcode.PONG not in one.frame_kinds:
        user.turn()
    for opened in (one, two):
        opened.protocol.send_close(4000, "enough")
        opened.flush()
        while not opened.ended:
            user.turn()
        user.http.end_stream(opened.id)
        said = opened.protocol.close_rcvd
        assert (said.code, said.reason) == (4000, "enough"), said
    refused = WebSocket(user, "/page")
    print(json.dumps({"sizes": sizes, "from": one.headers.get("x-from"), "refused": refused.headers[":status"]}))


main()
