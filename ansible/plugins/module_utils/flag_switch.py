"""Switching a boolean flag for everybody, and giving it back to its rule.

The same as `serin flag on`, `off` and `back`: what a definition said before stays inside it, under a key that no
evaluation looks at, so that the command, this module and the dashboard can undo each other's switches.
"""

from __future__ import annotations

from ansible_collections.serin.fleet.plugins.module_utils.admin_api import AdminError

# Where a switched definition keeps what it said before.
KEPT = "$switched"
# What decides who gets what: all that switching touches.
DECIDING = ("state", "defaultVariant", "targeting")


def is_switched(definition):
    """Whether a definition is switched, and so has a way back."""
    return isinstance(definition.get(KEPT), dict)


def switch(key, definition, value):
    """The definition with this value for everybody; of one that is so already, the same."""
    kept = definition[KEPT] if is_switched(definition) else deciding(definition)
    fixed = {"state": "ENABLED", "defaultVariant": only_variant(key, definition, value)}
    switched = decided_by(definition, fixed)
    # A flag that says so by itself isn't held by a switch.
    return switched if kept == fixed else {**switched, KEPT: kept}


def back(definition):
    """The definition as its own rule has it; of one that isn't switched, the same."""
    return decided_by(definition, definition[KEPT]) if is_switched(definition) else definition


def held(definition):
    """The value that a switch holds it at."""
    return definition["variants"][definition["defaultVariant"]]


def only_variant(key, definition, value):
    """The name of the one variant with this value."""
    variants = definition.get("variants")
    found = [name for name, given in variants.items() if given is value] if isinstance(variants, dict) else []
    word = "true" if value else "false"
    if len(found) > 1:
        both = " and ".join(f"`{name}`" for name in found)
        raise AdminError(f"of {key}, {both} are both {word}: set the flag's defaultVariant by `state: present` instead")
    if not found:
        raise AdminError(f"of {key}, no variant is {word}: only a boolean flag can be switched on and off")
    return found[0]


def deciding(definition):
    """The fields that decide, as far as they are there."""
    return {name: definition[name] for name in DECIDING if name in definition}


def decided_by(definition, others):
    """The definition with others in place of the fields that decide, and without what was kept."""
    stays = {name: value for name, value in definition.items() if name not in (*DECIDING, KEPT)}
    return {**stays, **deciding(others)}
