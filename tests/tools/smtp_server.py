"""A real SMTP server for the suite, made of aiosmtpd, that can be told to misbehave.

Prints the port it listens on as its first line, then writes each mail it takes
as one JSON file into a folder: the envelope, how the session was protected, and
the mail as Python's own parser reads it.
"""

import argparse
import asyncio
import email
import email.policy
import itertools
import json
import os
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where mails are written")
    parser.add_argument("--host", default="127.0.0.1", help="the address it listens on")
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    parser.add_argument("--cert", help="certificate, PEM")
    parser.add_argument("--key", help="its key, PEM")
    parser.add_argument("--login", help="NAME:PASSWORD to demand")
    parser.add_argument("--defer-first", type=int, default=0, help="answer 451 to this many mails")
    parser.add_argument("--refuse-receiver", action="append", default=[], help="answer 550 to this receiver")
    parser.add_argument("--tarpit", type=float, default=0, help="seconds before a message is taken")
    return parser.parse_args()


class Handler:
    """Decides on each mail, and writes down those it takes."""

    def __init__(self, options):
        self.options = options
        self.numbers = itertools.count(len(list(options.folder.glob("*.json"))))
        self.deferred = 0

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address in self.options.refuse_receiver:
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.deferred < self.options.defer_first:
            self.deferred += 1
            return "451 4.7.1 Try again later"
        await asyncio.sleep(self.options.tarpit)
        self.write(self.describe(session, envelope))
        return "250 OK"

    def describe(self, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        return {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or self.options.tls == "implicit",
            "authenticated": bool(session.authenticated),
            "content_type": mail.get_content_type(),
            "headers": [[name.lower(), str(value)] for name, value in mail.items()],
            "parts": {part.get_content_type(): part.get_content() for part in mail.iter_parts()},
            "defects": [str(defect) for part in mail.walk() for defect in part.defects],
        }

    def write(self, description):
        path = self.options.folder / f"{next(self.numbers):06}.json"
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(description), encoding="utf-8")
        os.rename(unfinished, path)


def authenticator(login):
    name, password = login.split(":", 1)

    def check(server, session, envelope, mechanism, data):
        welcome = (data.login, data.password) == (name.encode(), password.encode())
        # Not handled: the server says 535 by itself.
        return AuthResult(success=welcome, handled=False)

    return check


async def main():
    options = arguments()
    handler = Handler(options)
    tls = None
    if options.tls != "none":
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.cert, options.key)
    starttls = options.tls == "starttls"
    settings = {
        "hostname": "suite.invalid",
        "tls_context": tls if starttls else None,
        "require_starttls": starttls,
        "auth_require_tls": starttls,
        "auth_required": options.login is not None,
        "authenticator": authenticator(options.login) if options.login else None,
    }
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: SMTP(handler, **settings),
        host=options.host,
        port=options.port,
        ssl=tls if options.tls == "implicit" else None,
    )
    print(listener.sockets[0].getsockname()[1], flush=True)
    # The suite holds the other end of stdin: when it is gone, so is this.
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
