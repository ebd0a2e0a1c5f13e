"""Writes what each task of a playbook came to, a line of JSON each, into the file that RESULTS names."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: results
type: notification
short_description: Results of tasks as lines of JSON
description: Results of tasks as lines of JSON.
"""


class CallbackModule(CallbackBase):
    """Tells a test what its tasks came to."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "results"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result):
        self._write(result, failed=False)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write(result, failed=True)

    @staticmethod
    def _write(result, failed):
        with open(os.environ["RESULTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps({**result._result, "failed": failed}, default=str) + "\n")
