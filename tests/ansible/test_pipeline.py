"""The stages from a commit to production, with real repositories. In place of Ansible is a program that writes down
what it was asked for; `tests/run --fleet` has the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from processes import ROOT, eventually

PIPELINE = ROOT / "ansible/bin/pipeline"
SETTINGS = """
repository={repository}
way={way}
build_it() {{ echo built >>{folder}/built; [ -z "${{PIPELINE_INVENTORY:-}}" ]; {build}; }}
test_it() {{ grep -q good page; }}
package_it() {{ echo packed >>{folder}/built; cp page "$1"; }}
smoke_it() {{ echo smoked >>{folder}/played; {smoke}; }}
"""
# Plays what it is told to: fails, or waits until it is killed.
PLAYBOOK = """#!/bin/sh
for playbook; do :; done
playbook=$(basename "$playbook" .yml)
echo "$playbook" >>{folder}/played
echo "$@" >{folder}/words-$playbook
env >{folder}/seen-$playbook
[ ! -e {folder}/fail-before-$playbook ] || exit 2
[ "$playbook" != canary ] || : >"$(dirname "$(cat {folder}/report)")/canary.begun"
[ ! -e {folder}/hang-$playbook ] || {{ : >{folder}/hangs-$playbook; sleep 60; }}
[ ! -e {folder}/pull-$playbook ] || {{ echo '{{"phase": "pulled"}}' >"$(cat {folder}/report)"; exit 2; }}
[ ! -e {folder}/fail-$playbook ] || exit 2
"""


class Desk:
    """A repository with a branch `production`, and the pipeline that deploys it."""

    def __init__(self, folder, way="canary", build=":", smoke=":"):
        self.folder, self.source = folder, folder / "shop"
        self.git("init", "--quiet", "--initial-branch", "production", self.source, cwd=folder)
        (folder / "inventory/pipelines").mkdir(parents=True)
        settings = SETTINGS.format(repository=self.source, way=way, folder=folder, build=build, smoke=smoke)
        (folder / "inventory/pipelines/shop.sh").write_text(settings)
        playbook = folder / "playbook"
        playbook.write_text(PLAYBOOK.format(folder=folder))
        playbook.chmod(0o755)

    def git(self, *words, cwd=None):
        """Runs git; what it said."""
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@shop.example"]
        done = subprocess.run(
            ["git", *who, *map(str, words)], cwd=cwd or self.source, capture_output=True, text=True, check=True,
        )
        return done.stdout.strip()

    def commit(self, content):
        """A commit of this page."""
        (self.source / "page").write_text(content)
        self.git("add", "page")
        self.git("commit", "--quiet", "--message", content)
        return self.git("rev-parse", "HEAD")

    def start(self, verb, commit, app="shop", **more):
        """Begins to run the pipeline, in a group of its own."""
        places = {
            "PIPELINE_INVENTORY": str(self.folder / "inventory"),
            "PIPELINE_WORK": str(self.folder / "work"),
            "PIPELINE_PLAYBOOK": str(self.folder / "playbook"),
        }
        (self.folder / "report").write_text(str(self.folder / "work/shop" / commit / "canary.json"))
        return subprocess.Popen(
            [PIPELINE, verb, app, commit], env={**os.environ, **places, **more}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )

    def run(self, verb, commit, app="shop", **more):
        """Runs the pipeline; with what it ended and what it said."""
        child = self.start(verb, commit, app, **more)
        said, _ = child.communicate(timeout=60)
        return child.returncode, said

    def mark(self, what):
        """Tells the program in Ansible's place how to behave."""
        (self.folder / what).touch()

    def lines(self, name):
        """What was written down."""
        path = self.folder / name
        return path.read_text().split() if path.exists() else []


def test_a_good_commit_goes_through_all_stages_with_one_artifact(tmp_path):
    desk = Desk(tmp_path)
    commit = desk.commit("good")
    status, said = desk.run("run", commit)
    assert status == 0, said
    assert desk.lines("played") == ["preflight", "canary", "promote", "smoked"]
    words = {name: (tmp_path / f"words-{name}").read_text() for name in ("canary", "promote")}
    assert words["canary"].replace("canary.yml", "promote.yml") == words["promote"]
    artifact = tmp_path / f"work/shop/{commit}/shop-{commit}.tar.gz"
    assert artifact.read_text() == "good"
    assert str(artifact) in words["canary"]
    assert (artifact.parent / (artifact.name + ".sha256")).read_text().split()[0] in words["canary"]
    # Once more: what is packed stays as it is.
    assert desk.run("run", commit)[0] == 0
    assert desk.lines("built") == ["built", "packed"]
    assert artifact.read_text() == "good"


def test_a_rolling_update_has_no_canary_to_decide(tmp_path):
    desk = Desk(tmp_path, way="rolling")
    desk.mark("fail-rolling")
    assert desk.run("run", desk.commit("good"))[0] == 1
    assert desk.lines("played") == ["preflight", "rolling"]


def test_a_canary_that_is_pulled_is_never_promoted_and_the_end_says_so(tmp_path):
    desk = Desk(tmp_path)
    desk.mark("pull-canary")
    status, said = desk.run("run", desk.commit("good"))
    assert status == 3, said
    assert desk.lines("played") == ["preflight", "canary", "abort"]
    assert "stable is as it was" in said


def test_who_comes_second_does_not_end_the_canary_of_who_came_first(tmp_path):
    desk = Desk(tmp_path)
    desk.mark("fail-before-canary")
    commit = desk.commit("good")
    status, said = desk.run("run", commit)
    assert (status, desk.lines("played")) == (1, ["preflight", "canary"]), said
    status, said = desk.run("decide", commit)
    assert (status, desk.lines("played")) == (0, ["preflight", "canary"]), said
    assert "nothing was begun" in said


def test_what_is_to_be_analysed_is_or_it_is_said_that_nothing_is(tmp_path):
    desk = Desk(tmp_path)
    commit = desk.commit("good")
    status, said = desk.run("run", commit)
    assert status == 0 and "shop.sh has no analyse_it" in said, said
    settings = tmp_path / "inventory/pipelines/shop.sh"
    settings.write_text(settings.read_text() + "analyse_it() { grep -q flawless page; }\n")
    commit = desk.commit("good, nearly")
    assert desk.run("run", commit)[0] == 1
    assert desk.lines("played").count("canary") == 1
    assert desk.run("run", desk.commit("good and flawless"))[0] == 0


def test_what_the_application_runs_has_no_keys_to_the_fleet(tmp_path):
    desk = Desk(tmp_path, build=f"env >{tmp_path}/seen-build", smoke=f"env >{tmp_path}/seen-smoke")
    names = ["ANSIBLE_PRIVATE_KEY_FILE", "ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_BECOME_PASS", "PIPELINE_OPTIONS"]
    status, said = desk.run("run", desk.commit("good"), **dict.fromkeys(names, "/secret"))
    assert status == 0, said
    for stage in ("build", "smoke"):
        seen = (tmp_path / f"seen-{stage}").read_text()
        assert "PATH=" in seen and "/secret" not in seen and "ANSIBLE_" not in seen and "PIPELINE_" not in seen
    assert "/secret" in (tmp_path / "seen-canary").read_text()


def test_whatever_ends_it_after_the_canary_began_the_canary_is_decided(tmp_path):
    desk = Desk(tmp_path)
    desk.mark("fail-promote")
    assert desk.run("run", desk.commit("good"))[0] == 1
    assert desk.lines("played") == ["preflight", "canary", "promote", "abort"]


def test_a_pipeline_that_is_stopped_decides_its_canary(tmp_path):
    desk = Desk(tmp_path)
    desk.mark("hang-canary")
    child = desk.start("run", desk.commit("good"))
    eventually("the canary is at work", (tmp_path / "hangs-canary").exists)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(timeout=30) == 143
    assert desk.lines("played") == ["preflight", "canary", "abort"]
    child.stdout.close()


@pytest.mark.parametrize(("content", "build"), [("bad", ":"), ("good", "false"), ("good", "exit 7")])
def test_what_does_not_build_or_pass_its_tests_touches_no_host(tmp_path, content, build):
    desk = Desk(tmp_path, build=build)
    status, said = desk.run("run", desk.commit(content))
    assert status == 1, said
    assert desk.lines("played") == []


def test_a_preflight_that_fails_stops_before_the_canary(tmp_path):
    desk = Desk(tmp_path)
    desk.mark("fail-preflight")
    assert desk.run("run", desk.commit("good"))[0] == 1
    assert desk.lines("played") == ["preflight"]


def test_smoke_that_fails_is_a_failure(tmp_path):
    desk = Desk(tmp_path, smoke="false")
    assert desk.run("run", desk.commit("good"))[0] == 1


def test_a_push_that_is_superseded_stops_and_the_way_back_is_asked_for(tmp_path):
    desk = Desk(tmp_path)
    old = desk.commit("good, old")
    new = desk.commit("good, new")
    status, said = desk.run("run", old)
    assert (status, f"{old} is superseded by {new}" in said) == (4, True), said
    assert desk.lines("played") == []
    assert desk.run("again", old)[0] == 0


def test_a_commit_of_another_branch_is_no_release(tmp_path):
    desk = Desk(tmp_path)
    desk.commit("good")
    desk.git("checkout", "--quiet", "-b", "side")
    status, said = desk.run("run", desk.commit("good, aside"))
    assert (status, "isn't on the branch production" in said) == (1, True), said


def test_two_at_once_are_one_and_a_refusal(tmp_path):
    desk = Desk(tmp_path)
    desk.mark("hang-preflight")
    commit = desk.commit("good")
    child = desk.start("run", commit)
    eventually("the first is at work", lambda: desk.lines("played"))
    status, said = desk.run("run", commit)
    assert (status, "another pipeline of shop is at work" in said) == (5, True), said
    os.killpg(child.pid, signal.SIGTERM)
    child.communicate(timeout=30)


@pytest.mark.parametrize(("verb", "app", "commit"), [
    ("run", "shop", "HEAD"), ("run", "shop", "--upload-pack=touch /tmp/x"), ("run", "../shop", "0" * 40),
    ("run", "shop; id", "0" * 40), ("destroy", "shop", "0" * 40), ("run", "nothing", "0" * 40),
    ("run", "shop", "0" * 39 + "\n"), ("run", "shop", "A" * 40),
])
def test_what_makes_no_sense_is_refused(tmp_path, verb, app, commit):
    desk = Desk(tmp_path)
    desk.commit("good")
    status, said = desk.run(verb, commit, app)
    assert status == 2, said
    assert desk.lines("played") == []


def test_stages_can_be_called_one_by_one(tmp_path):
    desk = Desk(tmp_path)
    commit = desk.commit("good")
    for stage in ("checkout", "build", "test", "analysis", "package", "preflight", "deploy", "smoke", "decide"):
        status, said = desk.run(stage, commit)
        assert status == 0, said
    assert desk.lines("played") == ["preflight", "canary", "promote", "smoked", "abort"]


def test_an_artifact_that_was_changed_is_not_deployed(tmp_path):
    desk = Desk(tmp_path)
    commit = desk.commit("good")
    for stage in ("checkout", "build", "test", "package"):
        assert desk.run(stage, commit)[0] == 0
    (tmp_path / f"work/shop/{commit}/shop-{commit}.tar.gz").write_text("something else")
    status, said = desk.run("deploy", commit)
    assert (status, desk.lines("played")) == (1, []), said


def test_sources_and_artifacts_of_long_ago_are_forgotten(tmp_path):
    desk = Desk(tmp_path)
    commits = [desk.commit(f"good {number}") for number in range(12)]
    for commit in commits:
        assert desk.run("again", commit)[0] == 0
    kept = {path.name for path in (tmp_path / "work/shop").iterdir() if path.is_dir()}
    assert kept == set(commits[-10:])
    words = (tmp_path / "words-canary").read_text().split("--extra-vars ")
    assert json.loads(words[1])["version"] == commits[-1]
