"""A user by the library `websockets`.

    python client.py URL PART

Plays one part, prints what came of it as a line of JSON, and fails where the library isn't content.
"""

import asyncio
import json
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

LARGEST = 64 << 20


def opened(path, **more):
    url = sys.argv[1]
    context = None
    if url.startswith("wss:"):
        context = ssl.create_default_context(cafile=os.environ["CA_FILE"])
    return connect(url + path, max_size=LARGEST, ssl=context, proxy=None, **more)


async def echo():
    """Large and small messages, whole and in fragments, each way; many at once."""
    sizes = []
    async with opened("/", compression=None) as connection:
        for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000, 8 << 20):
            message = os.urandom(size)
            await connection.send(message)
            assert await connection.recv() == message, size
            sizes.append(size)
        text = "ö" * 100_000
        await connection.send(piece for piece in (text[:10], text[10:50_000], text[50_000:]))
        assert await connection.recv() == text
        for number in range(1_000):
            await connection.send(str(number))
        for number in range(1_000):
            assert await connection.recv() == str(number)
    async with opened("/fragments", compression=None) as connection:
        message = os.urandom(300_000)
        await connection.send(message)
        pieces = [piece async for piece in connection.recv_streaming()]
        assert b"".join(pieces) == message
        # The library ends a message in fragments by an empty one.
        assert [len(piece) for piece in pieces] == [150_000, 150_000, 0], pieces
    return sizes


async def ping():
    """Pings are answered by the other side."""
    async with opened("/") as connection:
        latencies = [await (await connection.ping()) for _ in range(10)]
    return len(latencies)


async def close():
    """Each side may close, and the other is told why."""
    codes = []
    for code in (1000, 1001, 3000, 4999):
        async with opened(f"/close/{code}") as connection:
            await connection.send("close, please")
            try:
                await connection.recv()
            except ConnectionClosed as closed:
                codes.append([closed.rcvd.code, closed.rcvd.reason])
    async with opened("/") as connection:
        await connection.close(4000, "enough")
        codes.append([connection.close_code, connection.close_reason])
    return codes


async def who():
    """Which version new users are on, and whether they stay on it with their cookie."""
    versions = {}
    for _ in range(200):
        async with opened("/who") as connection:
            version = await connection.recv()
            cookie = connection.response.headers["Set-Cookie"].partition(";")[0]
        versions[version] = versions.get(version, 0) + 1
        async with opened("/who", additional_headers={"Cookie": cookie}) as connection:
            assert await connection.recv() == version
            assert "Set-Cookie" not in connection.response.headers
    return versions


PARTS = {"echo": echo, "ping": ping, "close": close, "who": who}
print(json.dumps(asyncio.run(PARTS[sys.argv[2]]())))
