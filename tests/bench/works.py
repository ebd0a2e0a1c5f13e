"""The works, and what serin is to reach in each.

A work names its load generator, its path at the upstream (tools/backend.c) and, if it has one, its
goal: how many times the CPU per request of the cheapest peer serin may cost.
"""

# Keep-alive connections of HTTP/1.1 unless it says otherwise; as many as --connections says.
WORKS = {
    "W1": dict(tool="wrk", path="/b/1024", goal=0.90, about="GET 1 KiB, 64 connections"),
    "W1r": dict(tool="h2load", path="/b/1024", h1=True, clients=32, streams=1, rps=125, goal=0.95,
                about="as W1 at a fixed 4,000 req/s (32 connections): cost and latency when not saturated"),
    "W1s": dict(tool="wrk", path="/b/1024", lua="cookies.lua", goal=1.0,
                about="as W1, each request with the cookie of one of 1,000 users"),
    "W2": dict(tool="wrk", path="/b/65536", goal=0.85, about="GET 64 KiB, 64 connections"),
    "W3": dict(tool="wrk", path="/up", lua="post.lua", body=16 << 10, goal=0.90, about="POST 16 KiB, 64 connections"),
    "W4h1": dict(tool="wrk", path="/b/1024", tls=True, goal=1.0, about="TLS 1.3, HTTP/1.1, GET 1 KiB, 64 connections"),
    "W4h2": dict(tool="h2load", path="/b/1024", tls=True, clients=16, streams=8, goal=1.0,
                 about="TLS 1.3, HTTP/2, GET 1 KiB, 16 connections x 8 streams"),
    "W4h2b": dict(tool="h2load", path="/b/65536", tls=True, clients=16, streams=8, goal=1.0,
                  about="TLS 1.3, HTTP/2, GET 64 KiB, 16 connections x 8 streams"),
    "W4hs": dict(tool="h2load", path="/b/1024", tls=True, h1=True, handshakes=3000, goal=0.90,
                 about="TLS 1.3 full handshake + one GET per connection"),
    "W5c": dict(tool="wrk", path="/b/1024", lua="close.lua", goal=0.98, about="new connection per request, 64 at a time"),
    "W5m": dict(tool="idle", conns=5000, goal=1.0, beside=("haproxy3", "haproxy"), about="idle memory, plain keep-alive connections after one GET each"),
    "W5t": dict(tool="idle", conns=2000, tls=True, goal=1.0, about="idle memory, TLS keep-alive connections after one GET each"),
    "W6chunked": dict(tool="wrk", path="/c/16384", goal=1.0, about="GET 16 KiB answered in four chunks, 64 connections"),
    "W6chunkup": dict(tool="wrk", path="/up", lua="chunkup.lua", body=16 << 10, goal=1.0,
                      about="POST 16 KiB in four chunks, 64 connections"),
    "W6upload": dict(tool="wrk", path="/stream/up", lua="post.lua", body=1 << 20, goal=1.0, grows=16.0,
                     about="POST 1 MiB, 64 connections; held memory must not follow the bodies"),
    "W6head": dict(tool="wrk", path="/b/0", lua="head.lua", goal=1.0, about="HEAD, 64 connections"),
    "W6304": dict(tool="wrk", path="/b/1024", lua="conditional.lua", goal=1.0, about="conditional GET answered 304, 64 connections"),
    "W6pipe": dict(tool="wrk", path="/b/1024", lua="pipe.lua", goal=1.0, latency=False,
                   about="GET 1 KiB, 64 connections, each 8 requests ahead of its answers"),
    "W7": dict(tool="wrk", path="/b/1024", lua="hosts.lua", warm=3,
               about="as W1, over the hosts of all services of the configuration"),
}

# What `--table` measures, by which peers.
PEERS = ["serin", "haproxy3", "nginx126", "envoy", "pingora", "sozu"]
TABLE = [w for w in WORKS if w != "W7"]
# Goals are against the cheapest of these, but for works that say `beside` whom.
MEASURE = ("haproxy3", "nginx126", "envoy", "pingora", "sozu", "haproxy", "nginx")
# In user mode alone serin may cost as much as this one.
IN_USER_MODE = {"W1": "nginx126"}
# Works whose slowest hundredth may be no slower than the best peer's.
UNHURRIED = ("W1r",)

# serin beside itself: what one row may cost of another.
STICKY = 1.03       # a cookie on every request, of a split per request
SCALE = 1.05        # any size of the configuration, of the smallest
THREADS = 1.10      # two workers, of one

# Sizes of the configuration: SERVICESxENDPOINTS, the first is what the others are held against.
SCALES = ["1x10", "1x100", "1x1000", "1x10000", "10x10", "100x10", "1000x10"]
