"""A gRPC client that makes a call of each kind and says in a line how each ended.

    client.py ADDRESS [CA NAME]         every kind, by TLS if there is a CA
    client.py ADDRESS --users PORT      one call of each of 40 users, which the server at PORT fails
    client.py ADDRESS --silent          a call on which nothing moves for a second
"""

import queue
import sys

import grpc

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]


def open_channel(address, ca=None, name=None):
    if ca is None:
        return grpc.insecure_channel(address, options=OPTIONS)
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return grpc.secure_channel(address, credentials, options=[*OPTIONS, ("grpc.ssl_target_name_override", name)])


def method(kind, name):
    return getattr(channel, kind)(f"/suite.Echo/{name}")


def say(what, call):
    """`call` gives the text of the answer and the call itself."""
    try:
        text, ended = call()
        behind = dict(ended.trailing_metadata()).get("behind")
        print(f"{what}: {ended.code().name} {text}" + (f" behind={behind}" if behind else ""))
    except grpc.RpcError as error:
        print(f"{what}: {error.code().name} {error.details()}")


def unary(name, request, **more):
    answer, ended = method("unary_unary", name).with_call(request, timeout=more.get("timeout", 20))
    return answer, ended


def echoed():
    answer, ended = unary("Echo", b"hello")
    return answer.decode(), ended


def collected():
    answer, ended = method("stream_unary", "Collect").with_call(iter([b"a", b"b", b"c"]), timeout=20)
    return answer.decode(), ended


def counted():
    ended = method("unary_stream", "Count")(b"5", timeout=20)
    return ",".join(answer.decode() for answer in ended), ended


def talked():
    """Says the next word only when the last was answered."""
    words = queue.Queue()
    ended = method("stream_stream", "Talk")(iter(words.get, None), timeout=20)
    heard = []
    for word in (b"a", b"b", b"c"):
        words.put(word)
        heard.append(next(ended).decode())
    words.put(None)
    assert next(ended, None) is None
    return ">".join(heard), ended


def large():
    answer, ended = unary("Echo", b"x" * 3_000_000)
    return len(answer), ended


def failed_late():
    ended = method("unary_stream", "FailLate")(b"", timeout=20)
    return ",".join(answer.decode() for answer in ended), ended


def silent():
    ended = method("unary_stream", "Silent")(b"1.0", timeout=20)
    return ",".join(answer.decode() for answer in ended), ended


def every_kind():
    say("unary", echoed)
    say("client stream", collected)
    say("server stream", counted)
    say("both", talked)
    say("large", large)
    say("fails", lambda: unary("Fail", b""))
    say("fails late", failed_late)
    say("unknown", lambda: unary("Nothing", b""))
    say("deadline", lambda: unary("Sleep", b"", timeout=0.5))


def users(port):
    for user in range(40):
        metadata = [("x-user", str(user)), ("broken", port)]
        try:
            method("unary_unary", "Echo")(b"hello", metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INTERNAL, error


address, *arguments = sys.argv[1:]
if arguments[:1] == ["--users"]:
    channel = open_channel(address)
    users(arguments[1])
elif arguments == ["--silent"]:
    channel = open_channel(address)
    say("silent", silent)
else:
    channel = open_channel(address, *arguments)
    every_kind()
channel.close()
