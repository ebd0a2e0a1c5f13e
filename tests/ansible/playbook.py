"""Running tasks by a real ansible-playbook on this machine, and what they came to."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from processes import ROOT
from wishes import Runner

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent
COLLECTION = "serin.fleet."


def entry(task):
    """A task as a playbook has it: it shows its difference, and its failure doesn't end the playbook."""
    return {COLLECTION + task.module: task.options, "check_mode": task.check, "diff": True, "ignore_errors": True}


def environment(folder):
    """Of Ansible, with nothing of this machine's in it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {
        "LC_ALL": "C.UTF-8",
        **kept,
        "HOME": str(folder),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "results",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
        "RESULTS": str(folder / "results"),
    }


class Playbook(Runner):
    """Tasks are run in this folder, with these options for all of serin's modules."""

    # A task takes a third of a second here.
    times = Runner.times[:3]

    def __init__(self, folder, defaults):
        self.folder = folder
        self.defaults = defaults
        self.said = ""

    def run(self, *tasks, words=(), **defaults):
        """What each of the tasks came to. `words` are of the command line."""
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "module_defaults": {f"group/{COLLECTION}serin": {**self.defaults, **defaults}},
            "tasks": [entry(task) for task in tasks],
        }
        env = environment(self.folder)
        pathlib.Path(env["RESULTS"]).unlink(missing_ok=True)
        (self.folder / "play.yml").write_text(json.dumps([play]))
        command = [BIN / "ansible-playbook", *words, self.folder / "play.yml"]
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)
        self.said = done.stdout + done.stderr
        results = pathlib.Path(env["RESULTS"])
        found = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        assert len(found) == len(tasks), f"not all tasks were run:\n{self.said}"
        return found
