"""What serin's modules have in common: the options that say where the admin API is, and how a module ends."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ansible_collections.serin.fleet.plugins.module_utils.admin_api import (
    DEFAULT_ADMIN,
    AdminError,
    Fleet,
    read_token,
)

ADMIN_OPTIONS = {
    "admin": {
        "type": "list",
        "elements": "str",
        "default": [DEFAULT_ADMIN],
        "fallback": (env_fallback, ["SERIN_ADMIN"]),
    },
    "token_file": {"type": "path", "no_log": False, "fallback": (env_fallback, ["SERIN_TOKEN_FILE"])},
    "timeout": {"type": "int", "default": 15},
}

REASON = {"type": "str"}


def run(work, options, **rules):
    """Runs a module: `work` gets it and the fleet, and returns what it ends with. What serin refuses is its failure."""
    module = AnsibleModule(argument_spec={**ADMIN_OPTIONS, **options}, supports_check_mode=True, **rules)
    try:
        result = work(module, connect(module))
    except AdminError as error:
        module.fail_json(msg=str(error), status=error.status, known=error.known, **error.facts)
    module.exit_json(**result)


def connect(module):
    """The fleet that the options name. The token is never shown, whatever is shown of the answer."""
    path, token = module.params["token_file"], None
    if path is not None:
        token = read_token(path)
        module.no_log_values.add(token)
    return Fleet(module.params["admin"], token, module.params["timeout"])


def outcome(before, after, **more):
    """What a module returns: `changed` and the diff come from the desired state alone."""
    changed = before != after
    return {"changed": changed, "before": before, "after": after, "diff": {"before": before, "after": after}, **more}


def with_reason(module, body=None):
    """A body with the reason that was given, if there is one."""
    reason = module.params["reason"]
    return {**(body or {}), **({} if reason is None else {"reason": reason})}
