"""A push to production: which are taken, and what Jenkins hears of them. The repositories are real, and so is who
listens in the place of Jenkins."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading

import pytest
from processes import ROOT

HOOKS = ROOT / "ansible/roles/git_server/files"
WORD = "the-word-of-the-webhook"
NOBODY = "http://127.0.0.1:1/"


class Listener(http.server.ThreadingHTTPServer):
    """What stands for Jenkins: takes messages with the right token, and keeps them."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Message)
        self.url = f"http://127.0.0.1:{self.server_port}/generic-webhook-trigger/invoke"
        self.heard = []


class Message(http.server.BaseHTTPRequestHandler):
    """One call of the webhook."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.headers["Authorization"] == f"Bearer {WORD}"
        if allowed:
            self.server.heard.append(json.loads(body))
        self.send_response(200 if allowed else 403)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def jenkins():
    """A listener that is there."""
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Desk:
    """A bare repository with the hooks, and a clone to push from."""

    def __init__(self, folder, url):
        self.bare, self.clone, self.spool = folder / "shop.git", folder / "clone", folder / "spool"
        self.spool.mkdir()
        (folder / "token").write_text(WORD + "\n")
        self.git("init", "--quiet", "--bare", self.bare, cwd=folder)
        settings = {"webhook": url, "spool": self.spool, "tokenFile": folder / "token", "deliver": HOOKS / "deliver"}
        for name, value in settings.items():
            self.git("config", f"fleet.{name}", value, cwd=self.bare)
        for hook in ("update", "post-receive"):
            (self.bare / "hooks" / hook).symlink_to(HOOKS / hook)
        self.git("clone", "--quiet", self.bare, self.clone, cwd=folder)
        self.commit("first")

    def git(self, *words, cwd=None, check=True, **more):
        """Runs git apart from the settings of whoever runs the tests."""
        apart = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@shop.example"]
        done = subprocess.run(
            ["git", *who, *map(str, words)], cwd=cwd or self.clone, env={**os.environ, **apart, **more},
            capture_output=True, text=True, check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def commit(self, message):
        """Makes a commit, and returns its id."""
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD").stdout.strip()

    def push(self, *refs, releases="release", force=False, check=True):
        """Pushes as somebody who releases, unless told otherwise."""
        options = ["--force"] if force else []
        return self.git(
            "push", *options, "origin", *refs, check=check, FLEET_PUSHER="ada", FLEET_RELEASES=releases,
        )

    def waiting(self):
        """What is in the spool."""
        return sorted(path.name for path in self.spool.glob("*.json"))

    def deliver(self):
        """What the timer runs."""
        return subprocess.run([HOOKS / "deliver", self.bare], capture_output=True, text=True, check=False)

    def has(self, ref):
        """Whether the repository has this ref."""
        return self.git("rev-parse", "--verify", "--quiet", ref, cwd=self.bare, check=False).returncode == 0


@pytest.fixture
def desk(tmp_path, jenkins):
    """A repository whose Jenkins is there."""
    return Desk(tmp_path, jenkins.url)


def test_a_push_to_production_is_told_to_jenkins_and_to_who_pushed(desk, jenkins):
    commit = desk.commit("second")
    said = desk.push("HEAD:production").stderr
    assert jenkins.heard == [{
        "ref": "refs/heads/production", "before": "0" * 40, "after": commit, "repository": "shop", "pusher": "ada",
    }]
    assert f"production is at {commit}" in said
    assert "Jenkins knows" in said
    assert desk.waiting() == []


def test_other_branches_and_tags_are_kept_and_told_to_nobody(desk, jenkins):
    desk.push("HEAD:main", "HEAD:refs/tags/v1.0", "HEAD:feature/a+b", releases="develop")
    assert desk.has("refs/heads/feature/a+b")
    assert jenkins.heard == []


def test_only_who_releases_pushes_to_production(desk, jenkins):
    refused = desk.push("HEAD:production", releases="develop", check=False)
    assert refused.returncode != 0
    assert "ada may not release" in refused.stderr
    assert not desk.has("refs/heads/production")
    assert jenkins.heard == []


def test_production_only_goes_forward_and_is_never_deleted(desk, jenkins):
    desk.push("HEAD:production")
    desk.git("commit", "--quiet", "--amend", "--allow-empty", "--message", "another first")
    refused = desk.push("HEAD:production", force=True, check=False)
    assert "production only goes forward" in refused.stderr
    refused = desk.push(":production", check=False)
    assert "production is never deleted" in refused.stderr
    assert desk.has("refs/heads/production")
    assert len(jenkins.heard) == 1


@pytest.mark.parametrize("name", [
    "refs/heads/x;touch$IFS'pwned'", "refs/heads/$(touch${IFS}pwned)", 'refs/heads/"quoted"', "refs/heads/`id`",
    "refs/heads/ümlaut", "refs/heads/Production", "refs/heads/production/x", "refs/notes/commits", "refs/heads/a&b|c",
    "refs/heads/production'",
])
def test_hostile_names_are_refused(desk, jenkins, name):
    refused = desk.push(f"HEAD:{name}", check=False)
    assert refused.returncode != 0
    assert not desk.has(name)
    assert jenkins.heard == []
    assert not list(desk.bare.rglob("pwned"))


def test_what_jenkins_could_not_hear_is_told_later_in_order(tmp_path, jenkins):
    desk = Desk(tmp_path, NOBODY)
    commits = []
    for number in range(2):
        commits.append(desk.commit(f"while Jenkins is away, {number}"))
        done = desk.push("HEAD:production")
        assert "Jenkins can't be told now, and will be later" in done.stderr
    assert len(desk.waiting()) == 2
    assert desk.deliver().returncode != 0
    assert len(desk.waiting()) == 2
    desk.git("config", "fleet.webhook", jenkins.url, cwd=desk.bare)
    assert desk.deliver().returncode == 0
    assert [message["after"] for message in jenkins.heard] == commits
    assert desk.waiting() == []


def test_a_push_whose_message_cannot_be_kept_is_taken_and_says_so(desk, jenkins):
    commit = desk.commit("second")
    desk.spool.rmdir()
    said = desk.push("HEAD:production").stderr
    assert f"production is at {commit}, but Jenkins isn't told: {desk.spool} can't be written" in said
    assert "start the build by hand" in said
    assert "telling Jenkins" not in said
    assert desk.has("refs/heads/production")
    assert jenkins.heard == []
    assert desk.deliver().stderr == (
        f"deliver: {desk.spool} can't be written, and what waits there isn't told: make the folder again, "
        "with playbooks/site.yml\n"
    )
    desk.spool.mkdir()
    assert desk.deliver().returncode == 0
    assert desk.waiting() == []


def test_a_token_that_jenkins_refuses_keeps_the_push_and_is_never_shown(tmp_path, jenkins):
    desk = Desk(tmp_path, jenkins.url)
    (tmp_path / "token").write_text("another-token\n")
    done = desk.push("HEAD:production")
    assert "403" in done.stderr
    assert "another-token" not in done.stderr
    assert desk.has("refs/heads/production")
    assert len(desk.waiting()) == 1
    (tmp_path / "token").write_text("two\nlines")
    assert "holds no token" in desk.deliver().stderr
    (tmp_path / "token").unlink()
    said = desk.deliver().stderr
    assert said == f"deliver: the token's file {tmp_path}/token can't be read: run playbooks/site.yml\n"
    desk.git("config", "--unset", "fleet.webhook", cwd=desk.bare)
    assert desk.deliver().stderr == f"deliver: {desk.bare} says no fleet.webhook: run playbooks/site.yml\n"


def test_a_push_whose_message_cannot_be_kept_is_in_and_says_so(desk):
    desk.spool.rmdir()
    desk.spool.write_text("no folder")
    said = desk.push("HEAD:production").stderr
    assert "Jenkins isn't told" in said and f"{desk.spool} can't be written" in said
    assert "start the build by hand" in said
    assert desk.has("refs/heads/production")


def test_a_name_that_is_none_is_told_to_nobody(desk, jenkins):
    done = desk.git(
        "push", "origin", "HEAD:production", FLEET_PUSHER='ada","ref":"x', FLEET_RELEASES="release", check=False,
    )
    assert done.returncode == 0
    assert "can't be told by name" in done.stderr
    assert jenkins.heard == []
