"""What all tests share: a fleet of two proxies with one Redis, applications behind it, and playbooks to run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import types

import pytest
import redis
from processes import ROOT, application, redis_server, serin

# The collection as it lies in the repository.
sys.path.insert(0, str(ROOT / "ansible/.collections"))

from direct import Direct
from playbook import Playbook

from ansible_collections.serin.fleet.plugins.module_utils.admin_api import Fleet

TOKENS = {"operator": "the-operators", "deployer": "the-deployers", "viewer": "the-viewers"}
# Services with a canary; each test changes one of its own.
WITH_CANARY = ("hand", "rolled", "steered", "doomed", "pulled", "circuit", "deployed")


def configuration(redis_port, apps):
    """Services of which the tests know, over the same applications."""
    stable, canary = [app.address for app in apps[:3]], apps[3].address
    text = f'[store]\nurl = "redis://127.0.0.1:{redis_port}/0"\nstate_file = "@state@"\n'
    health = 'path = "/health"\ninterval = "100ms"\nrise = 1\nfall = 1\n'
    for name in ("shop", "plain"):
        text += f'[service.{name}]\nhosts = ["{name}"]\nstable = {stable}\n[service.{name}.health]\n{health}'
    for name in WITH_CANARY:
        text += f'[service.{name}]\nhosts = ["{name}"]\nstable = {stable[:1]}\ncanary = ["{canary}"]\n'
    return text


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """Two proxies on one Redis, and the applications behind them."""
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as stack:
        apps = [stack.enter_context(application()) for _ in range(4)]
        redis_port = stack.enter_context(redis_server(folder))
        lines = [f"{role}:{role}:{hashlib.sha256(token.encode()).hexdigest()}" for role, token in TOKENS.items()]
        config, tokens = configuration(redis_port, apps), "\n".join(lines) + "\n"
        proxies = [stack.enter_context(serin(folder / name, config, tokens)) for name in ("p1", "p2")]
        for role, token in TOKENS.items():
            (folder / role).write_text(token + "\n")
        yield types.SimpleNamespace(folder=folder, apps=apps, redis_port=redis_port, proxies=proxies)


@pytest.fixture(scope="session")
def defaults(fleet):
    """Who asks, and whom: an operator, both proxies."""
    return {"admin": [proxy.admin for proxy in fleet.proxies], "token_file": str(fleet.folder / "operator")}


@pytest.fixture
def play(defaults, tmp_path):
    """Runs tasks by a real ansible-playbook."""
    return Playbook(tmp_path, defaults)


@pytest.fixture
def call(defaults):
    """Runs tasks by calling the modules."""
    return Direct(defaults)


@pytest.fixture
def redis_client(fleet):
    """A client of the fleet's Redis."""
    with redis.Redis(port=fleet.redis_port, decode_responses=True) as client:
        yield client


@pytest.fixture
def beat(redis_client):
    """Registers an endpoint by a heartbeat that lasts as long as any test."""
    def register(service, pool, name, address, **more):
        member = {"state": "ready", "address": address, "ttl_ms": 60_000, **more}
        redis_client.set(f"serin:{{production}}:lease:{service}:{pool}:{name}", 1, px=60_000)
        redis_client.hset(f"serin:{{production}}:service:{service}:pool:{pool}", name, json.dumps(member))

    return register


@pytest.fixture
def api(defaults):
    """The admin API itself, as an operator."""
    return Fleet(defaults["admin"], TOKENS["operator"])
