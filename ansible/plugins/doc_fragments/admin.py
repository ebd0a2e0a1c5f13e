"""The options that all modules of serin have."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the admin API is, and who asks."""

    DOCUMENTATION = r"""
options:
  admin:
    description:
      - Addresses of admin APIs, as seen from the host where the module runs. C(http://HOST:PORT) or C(unix:/PATH).
      - Of several, which must be proxies that share a store, the first that can be reached is asked.
        A drain, and waiting for an endpoint to be ready, is about all of them that can be reached.
      - If unset, the environment variable E(SERIN_ADMIN), separated by commas.
    type: list
    elements: str
    default: [http://127.0.0.1:9901]
  token_file:
    description:
      - A file with the token of a caller, on the host where the module runs. One line and nothing else.
      - Changes need the role deployer, a reset the role operator. Over the unix socket, root and serin's own user
        need no token.
      - If unset, the environment variable E(SERIN_TOKEN_FILE).
    type: path
  timeout:
    description: Seconds that the admin API may take for an answer, beside what the module was told to wait for.
    type: int
    default: 15
"""

    REASON = r"""
options:
  reason:
    description: Why, for the audit log. One line.
    type: str
"""
