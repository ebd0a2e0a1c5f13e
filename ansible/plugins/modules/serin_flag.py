#!/usr/bin/python
"""The module serin_flag."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serin_flag
short_description: Feature flags of a fleet behind serin
version_added: 0.1.0
description:
  - Sets definitions of feature flags, in flagd's format; switches flags for everybody, and takes them out.
  - A definition that is set while somebody holds the flag by a switch takes effect when the switch is undone, so a
    play that runs again doesn't undo a kill switch.
author:
  - The serin authors (@serin)
extends_documentation_fragment:
  - serin.fleet.admin
  - serin.fleet.admin.reason
options:
  key:
    description: The flag.
    type: str
    required: true
    aliases: [name, flag]
  state:
    description:
      - V(present) sets O(definition).
      - V(absent) removes the flag, so that applications get their own default.
      - V(on) and V(off) give everybody V(true) or V(false). For boolean flags that are there.
      - V(back) undoes V(on) and V(off). State, default and rule are again what they were before.
    type: str
    default: present
    choices: [present, absent, "on", "off", back]
  definition:
    description:
      - The flag's definition, in flagd's format. Required for V(present).
      - YAML reads a bare C(on) and C(off) as true and false. Quote them where they are names of variants.
    type: dict
attributes:
  check_mode:
    description: >-
      Says what would change, and changes nothing. Whether a definition makes sense is said when it is set.
    support: full
  diff_mode:
    description: Shows the definition before and after.
    support: full
seealso:
  - module: serin.fleet.serin_info
"""

EXAMPLES = r"""
- name: A flag for a tenth of the users
  serin.fleet.serin_flag:
    key: new-editor
    definition:
      state: ENABLED
      variants: {"on": true, "off": false}
      defaultVariant: "off"
      targeting:
        fractional: [["on", 10], ["off", 90]]
      metadata: {owner: editor-team, expires: "2027-03-31"}

- name: Nobody gets it any more
  serin.fleet.serin_flag:
    key: new-editor
    state: "off"
    reason: answers get lost

- name: Its own rule decides again
  serin.fleet.serin_flag:
    key: new-editor
    state: back

- name: Everybody has the new editor
  serin.fleet.serin_flag:
    key: new-editor
    state: absent
"""

RETURN = r"""
before:
  description: The definition before; null if there was none.
  type: dict
  returned: success
  sample: {defaultVariant: "off", state: ENABLED, variants: {"off": false, "on": true}}
after:
  description: The definition after the module; in check mode what would be; null if there is none.
  type: dict
  returned: success
  sample: {defaultVariant: "on", state: ENABLED, variants: {"off": false, "on": true}}
switched:
  description: Whether the flag is held by a switch, after the module.
  type: bool
  returned: success
  sample: false
known:
  description: The names that exist, where one was asked for that doesn't.
  type: list
  elements: str
  returned: failure
  sample: [new-editor]
status:
  description: The status of the API's answer, where there was one.
  type: int
  returned: failure
  sample: 400
"""

import urllib.parse

from ansible_collections.serin.fleet.plugins.module_utils import flag_switch, module
from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError, segment, unknown

# How often a change is tried when other flags are changed at the same time.
TRIES = 5

OPTIONS = {
    "key": {"type": "str", "required": True, "aliases": ["name", "flag"], "no_log": False},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent", "on", "off", "back"]},
    "definition": {"type": "dict"},
    "reason": module.REASON,
}


def work(ansible, fleet):
    """Reads the definition, and makes of it what it shall be; again if another flag was changed meanwhile."""
    for tries in range(1, TRIES + 1):
        before, revision = read(fleet, ansible.params["key"])
        after = target(ansible, fleet, before)
        try:
            if before != after and not ansible.check_mode:
                write(ansible, fleet, after, revision)
            break
        except AdminError as error:
            if error.status != 412 or tries == TRIES:
                raise
    return module.outcome(before, after, switched=after is not None and flag_switch.is_switched(after))


def read(fleet, key):
    """The definition, or None, and the revision of all flags."""
    flags = fleet.get("/v1/flags")
    return flags["document"]["flags"].get(key), flags["revision"]


def target(ansible, fleet, before):
    """What the definition shall be."""
    key, state, wanted = (ansible.params[name] for name in ("key", "state", "definition"))
    if state == "absent":
        return None
    if state == "present":
        refuse_bare_words(key, wanted)
        if before is None or not flag_switch.is_switched(before):
            return wanted
        ansible.warn(f"{key} is held by a switch, which stays: `state: back` gives it back to its rule")
        return flag_switch.switch(key, wanted, flag_switch.held(before))
    if before is None:
        raise unknown("flag", key, fleet.get("/v1/flags")["document"]["flags"])
    if state == "back":
        return flag_switch.back(before)
    return flag_switch.switch(key, before, state == "on")


def refuse_bare_words(key, definition):
    """YAML has made a truth value of a variant's name."""
    words = {"true", "false", "True", "False"}
    if isinstance(definition.get("defaultVariant"), bool) or words & set(definition.get("variants") or ()):
        raise AdminError(
            f"in the definition of {key} a variant's name is a truth value: YAML reads a bare on, off, yes and no as "
            'one, so write "on" and "off" with quotes'
        )


def write(ansible, fleet, definition, revision):
    """Sets the definition, if nobody changed flags since the revision."""
    path = "/v1/flags/" + segment(ansible.params["key"])
    if ansible.params["reason"] is not None:
        path += "?" + urllib.parse.urlencode({"reason": ansible.params["reason"]})
    told = fleet.change("DELETE" if definition is None else "PUT", path, definition, if_match=revision)
    if told.get("note"):
        ansible.warn(told["note"])


def main():
    module.run(work, OPTIONS, required_if=[("state", "present", ("definition",))])


if __name__ == "__main__":
    main()
