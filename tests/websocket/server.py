"""A WebSocket application by the library `websockets`: sends back what it is sent.

    python server.py NAME

Prints its port as soon as it listens. `/page` is no WebSocket but a page that says NAME. `/who` is told NAME, `/close/CODE` is closed with that code after its first
message, all else is echoed: a text as a text, bytes as bytes, and a message in fragments in as many.
"""

import asyncio
import http
import sys

from websockets.asyncio.server import serve

# No message of the tests is larger.
LARGEST = 64 << 20


async def talk(connection):
    path = connection.request.path
    if path == "/who":
        await connection.send(sys.argv[1])
    async for message in connection:
        if path.startswith("/close/"):
            await connection.close(int(path.rpartition("/")[2]), "as asked")
        elif path == "/fragments":
            middle = len(message) // 2
            await connection.send(piece for piece in (message[:middle], message[middle:]))
        else:
            await connection.send(message)


def page(connection, request):
    if request.path == "/page":
        return connection.respond(http.HTTPStatus.OK, sys.argv[1])
    return None


async def main():
    settings = {"max_size": LARGEST, "compression": None, "process_request": page}
    async with serve(talk, "127.0.0.1", 0, **settings) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
