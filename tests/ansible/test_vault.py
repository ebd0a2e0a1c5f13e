"""Secrets in a vault whose password is another by now."""

from __future__ import annotations

import json
import subprocess
import sys

from playbook import BIN, environment
from processes import ROOT

WORD = "the-mail-relays-own"
HOSTS = {"all": {"children": {"checkbox": {"hosts": {"checkbox-1": {
    "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
}}}}}}


def test_a_password_that_is_not_the_vaults_any_more_ends_a_playbook_before_it_touches_anything(tmp_path):
    (tmp_path / "hosts.yml").write_text(json.dumps(HOSTS))
    vault = tmp_path / "group_vars/all/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_text(json.dumps({"mail_password": WORD}))
    for name in ("today", "last-year"):
        (tmp_path / name).write_text(name + "\n")
    env = environment(tmp_path)
    words = [BIN / "ansible-vault", "encrypt", "--vault-password-file", tmp_path / "today", vault]
    subprocess.run(words, env=env, check=True, capture_output=True)

    def play(password):
        # A version that makes no sense: whoever comes so far is refused by the first task.
        words = ["-i", tmp_path / "hosts.yml", "--vault-password-file", tmp_path / password, "playbooks/preflight.yml"]
        done = subprocess.run(
            [BIN / "ansible-playbook", *words, "-e", "ansible_become=false"], env=env, cwd=ROOT / "ansible",
            capture_output=True, text=True, check=False,
        )
        assert done.returncode != 0 and WORD not in done.stdout + done.stderr
        return done.stdout + done.stderr

    expired = play("last-year")
    assert "Decryption failed" in expired and "TASK [" not in expired, expired
    assert "Say which version" in play("today")
