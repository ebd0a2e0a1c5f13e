"""Calling serin's modules as Ansible does on the host, without the half second that a playbook takes for each."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from unittest import mock

from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from wishes import Runner

PACKAGE = "ansible_collections.serin.fleet.plugins.modules."


class Direct(Runner):
    """Modules are called in this process."""

    def __init__(self, defaults):
        self.defaults = defaults

    def run(self, *tasks, **defaults):
        """What each of the tasks came to."""
        return [self._call(task, {**self.defaults, **defaults}) for task in tasks]

    @staticmethod
    def _call(task, defaults):
        arguments = {**defaults, **task.options, "_ansible_check_mode": task.check, "_ansible_diff": True}
        said = io.StringIO()
        with (
            patch_module_args(arguments),
            mock.patch.object(warnings, "_global_warnings", {}),
            mock.patch.dict(os.environ),
            contextlib.redirect_stdout(said),
            contextlib.suppress(SystemExit),
        ):
            importlib.import_module(PACKAGE + task.module).main()
        result = json.loads(said.getvalue())
        return {**result, "failed": result.get("failed", False)}
