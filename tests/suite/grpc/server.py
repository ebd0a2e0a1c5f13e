"""A gRPC server with a method of each kind. Messages are plain bytes. Says its port in a line."""

import sys
import threading
import time
from concurrent import futures

import grpc


def behind(context, n):
    """What stands behind the answer."""
    context.set_trailing_metadata([("behind", f"sum-{n}")])


def echo(request, context):
    if ("broken", str(PORT)) in context.invocation_metadata():
        context.abort(grpc.StatusCode.INTERNAL, "it broke")
    behind(context, len(request))
    return request


def collect(requests, context):
    parts = list(requests)
    behind(context, len(parts))
    return b"".join(parts)


def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()
    behind(context, int(request))


def talk(requests, context):
    n = 0
    for request in requests:
        n += 1
        yield request
    behind(context, n)


def fail(request, context):
    context.abort(grpc.StatusCode.INTERNAL, "it broke")


def fail_late(request, context):
    yield b"something"
    context.abort(grpc.StatusCode.DATA_LOSS, "it broke late")


def sleep(request, context):
    # Until the client has left, which is soon.
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(20)
    return b""


def silent(request, context):
    yield b"before"
    time.sleep(float(request))
    yield b"after"


handlers = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
    "Silent": grpc.unary_stream_rpc_method_handler(silent),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("suite.Echo", handlers)])
PORT = server.add_insecure_port("127.0.0.1:0")
server.start()
print(PORT, flush=True)
try:
    server.wait_for_termination()
except KeyboardInterrupt:
    sys.exit(0)
