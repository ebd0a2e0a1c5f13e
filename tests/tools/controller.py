"""The machine that runs Ansible, as proxies see it: an ssh server that runs one command for whoever has the key, as
`command=` in authorized_keys does. It can be told to misbehave.

Prints a line once it listens.
"""

import argparse
import asyncio
import pathlib

import asyncssh


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host-key", required=True)
    parser.add_argument("--client-keys", required=True, help="as authorized_keys has them")
    parser.add_argument("--manner", type=pathlib.Path, required=True, help="a file: `fail`, `lie`, or it works")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


async def answer(options, said):
    """What the command answers to what was said, and how it ends; or what it answers in a bad mood."""
    match options.manner.read_text() if options.manner.exists() else "":
        case "fail":
            return b'{"done": false, "error": "no quota"}\n', b"", 1
        case "lie":
            return b'{"done": true}\n', b"", 0
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*options.command, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await child.communicate(said)
    return out, err, child.returncode


async def main():
    options = arguments()

    async def session(process):
        out, err, status = await answer(options, await process.stdin.read())
        process.stdout.write(out)
        process.stderr.write(err)
        process.exit(status)

    await asyncssh.listen(
        options.address, options.port, server_host_keys=[options.host_key], authorized_client_keys=options.client_keys,
        process_factory=session, encoding=None,
    )
    print("listening", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
