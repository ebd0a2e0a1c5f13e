"""What is documented is what there is: options, examples, and the page of the manual."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess

import pytest
import yaml
from playbook import BIN, environment
from processes import ROOT

from ansible_collections.serin.fleet.plugins.doc_fragments.admin import ModuleDocFragment
from ansible_collections.serin.fleet.plugins.module_utils.module import ADMIN_OPTIONS

MODULES = ["serin_canary", "serin_endpoint", "serin_flag", "serin_info"]
PLUGIN = "ansible_collections.serin.fleet.plugins."


def module(name):
    """A module, to be looked at."""
    return importlib.import_module(f"{PLUGIN}modules.{name}")


def run(folder, program, *words, **more):
    """What one of Ansible's programs says, if it is content. `more` is of its environment."""
    command, env = [BIN / program, *words], {**environment(folder), **more}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_options_are_documented_as_they_are_declared(name):
    documentation = yaml.safe_load(module(name).DOCUMENTATION)
    documented = {**documentation["options"], **yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]}
    if "serin.fleet.admin.reason" in documentation["extends_documentation_fragment"]:
        documented.update(yaml.safe_load(ModuleDocFragment.REASON)["options"])
    declared = {**module(name).OPTIONS, **ADMIN_OPTIONS}
    assert set(documented) == set(declared)
    for option, told in documented.items():
        for word in ("type", "elements", "default", "choices", "required", "aliases"):
            assert told.get(word) == declared[option].get(word), f"{option}: {word}"


def test_ansible_doc_shows_all_of_it(tmp_path):
    names = [f"serin.fleet.{name}" for name in MODULES]
    shown = json.loads(run(tmp_path, "ansible-doc", "--json", *names))
    assert set(shown) == set(names)
    assert all(plugin["examples"] and plugin["return"] for plugin in shown.values())
    assert "redis_url" in run(tmp_path, "ansible-doc", "-t", "inventory", "serin.fleet.serin")


def test_the_collection_can_be_installed_and_holds_nothing_that_is_only_of_the_repository(tmp_path):
    words = ["collection", "install", "--offline", ROOT / "ansible"]
    run(tmp_path, "ansible-galaxy", *words, ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "there"))
    there = tmp_path / "there/ansible_collections/serin/fleet"
    assert {f"{name}.py" for name in MODULES} == {path.name for path in (there / "plugins/modules").iterdir()}
    assert not [path.name for path in there.iterdir() if path.name.startswith(".") or path.name == "ansible.cfg"]


def test_examples_are_playbooks(tmp_path):
    tasks = [task for name in MODULES for task in yaml.safe_load(module(name).EXAMPLES)]
    plays = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    manual = (ROOT / "docs/ansible.md").read_text()
    for block in re.findall(r"^```yaml\n(.*?)^```", manual, re.MULTILINE | re.DOTALL):
        read = yaml.safe_load(block)
        if isinstance(read, list):
            plays += read if "hosts" in read[0] else [{**plays[0], "tasks": read}]
    assert len(plays) > 4, "the manual has examples"
    (tmp_path / "examples.yml").write_text(yaml.safe_dump(plays))
    run(tmp_path, "ansible-playbook", "--syntax-check", tmp_path / "examples.yml")


def test_an_option_of_an_example_exists():
    manual = (ROOT / "docs/ansible.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", manual, re.MULTILINE | re.DOTALL)
    found = list(used([yaml.safe_load(block) for block in blocks])) + [
        pair for name in MODULES for pair in used(yaml.safe_load(module(name).EXAMPLES))
    ]
    assert {name for name, _ in found} == set(MODULES)
    for name, options in found:
        declared = {**module(name).OPTIONS, **ADMIN_OPTIONS}
        names = {*declared, *(alias for told in declared.values() for alias in told.get("aliases", ()))}
        assert set(options) <= names, f"{name}: {set(options) - names}"


def used(tree):
    """Each use of a module in a tree of YAML, with its options."""
    if isinstance(tree, list):
        for branch in tree:
            yield from used(branch)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(key, str) and key.startswith("serin.fleet.serin_"):
                yield key.removeprefix("serin.fleet."), value
            else:
                yield from used(value)


def test_a_folder_with_an_inventory_names_no_host_by_what_else_is_in_it(tmp_path):
    folder = shutil.copytree(ROOT / "ansible/inventory/example", tmp_path / "inventory")
    for name in ("secrets/redis-serin", "backups/20261122T031500Z", "serin", "iTrust.war"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("hunter2\n")
    config = {"ANSIBLE_CONFIG": ROOT / "ansible/ansible.cfg"}
    sources = [folder, folder / "hosts.yml"]
    graph = [run(tmp_path, "ansible-inventory", "-i", source, "--graph", **config) for source in sources]
    assert graph[0] == graph[1] and "proxy-1" in graph[0]
