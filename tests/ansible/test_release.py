"""What handles releases on a host: which of them stay, and what is done to one before it is used. And what knows
whether a configuration is in force."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess

import pytest
import yaml
from processes import ROOT

SCRIPT = ROOT / "ansible/roles/release/files/release"


class Host:
    """A host whose `/srv` is a folder."""

    def __init__(self, folder):
        self.srv, self.script = folder / "srv", folder / "release"
        self.script.write_text(SCRIPT.read_text().replace("/srv/", f"{self.srv}/"))
        self.script.chmod(0o755)
        (self.srv / "shop/artifacts").mkdir(parents=True)
        self.time = 1_000_000_000

    def run(self, verb, *words):
        """How it ended, and what was said."""
        done = subprocess.run([self.script, verb, "shop", *words], capture_output=True, text=True, check=False)
        return done.returncode == 0, (done.stdout + done.stderr).split()

    def bring(self, text):
        """What the role brings before it is staged, and its checksum."""
        artifact = self.srv / "shop/artifacts/.brought.war"
        artifact.write_text(text)
        return str(artifact), hashlib.sha256(text.encode()).hexdigest()

    def stage(self, version):
        """Stages a version, a day after the one before."""
        assert self.run("stage", version, *self.bring(version)) == (True, ["staged"])
        self.time += 86400
        os.utime(self.srv / "shop/releases" / version, (self.time, self.time))

    def kept(self):
        """The releases and the artifacts that are there."""
        releases = {path.name for path in (self.srv / "shop/releases").iterdir()}
        artifacts = {path.stem for path in (self.srv / "shop/artifacts").iterdir()}
        assert releases == artifacts
        return releases


@pytest.fixture
def host(tmp_path):
    """A host with ten releases, of which the oldest run."""
    host = Host(tmp_path)
    for number in range(10):
        host.stage(f"1.{number}")
    for version in ("1.0", "1.1"):
        assert host.run("point", version) == (True, ["moved"])
    return host


def test_the_last_ones_stay_and_those_that_run_or_ran_before(host):
    well, said = host.run("forget", "3")
    assert well and set(said) == {f"1.{number}" for number in range(2, 7)}
    assert host.kept() == {"1.0", "1.1", "1.7", "1.8", "1.9"}
    assert host.run("forget", "3") == (True, [])
    assert host.run("current") == (True, ["1.1"])
    assert host.run("previous") == (True, ["1.0"])


def test_what_is_staged_again_is_one_of_the_last(host):
    assert host.run("stage", "1.2", *host.bring("1.2")) == (True, ["there"])
    assert host.run("forget", "1")[0]
    assert host.kept() == {"1.0", "1.1", "1.2"}


@pytest.mark.parametrize(("text", "known", "why"), [
    ("another", None, "a version is given once"),
    ("1.2", "0" * 64, "has not the checksum"),
])
def test_what_is_refused_is_gone_and_what_was_staged_is_lent_on(host, text, known, why):
    # Given a version that is staged, when it comes again and isn't what it was
    artifact, right = host.bring(text)
    well, said = host.run("stage", "1.2", artifact, known or right)
    assert not well and why in " ".join(said), said
    # Then another host gets what runs here
    well, (lent, where) = host.run("lend", "1.2")
    assert well and pathlib.Path(where).read_text() == "1.2"
    assert lent == hashlib.sha256(b"1.2").hexdigest()
    assert len(host.kept()) == 10


def test_an_artifact_that_was_lost_comes_back_by_staging_it_again(host):
    (host.srv / "shop/artifacts/1.2.war").unlink()
    assert host.run("stage", "1.2", *host.bring("1.2")) == (True, ["there"])
    assert host.run("lend", "1.2")[0]


def test_the_role_stages_nothing_from_where_it_is_kept():
    bring, stage, _ = yaml.safe_load((ROOT / "ansible/roles/release/tasks/stage.yml").read_text())
    name = bring["ansible.builtin.copy"]["dest"].rpartition("/")[2]
    assert name == ".brought{{ release_suffix }}" and "{{ release_brought.dest }}" in str(stage)


def test_what_was_never_pointed_to_has_no_current_one_and_is_forgotten_all_the_same(tmp_path):
    host = Host(tmp_path)
    for number in range(3):
        host.stage(f"1.{number}")
    assert host.run("forget", "2") == (True, ["1.0"])


@pytest.mark.parametrize("keep", ["0", "-1", "", "many", "1;id", "08"])
def test_how_many_stay_is_a_number(host, keep):
    well, said = host.run("forget", keep)
    assert not well and "KEEP" in " ".join(said)
    assert len(host.kept()) == 10


@pytest.fixture
def converting(tmp_path, monkeypatch):
    """A host that has WARs converted, by a converter that can't convert one with `torn` in it, and notes each call."""
    host = Host(tmp_path)
    prepare = host.srv / "shop/prepare"
    prepare.write_text((ROOT / "ansible/roles/itrust/files/prepare").read_text())
    converter = tmp_path / "bin/javax2jakarta"
    converter.parent.mkdir()
    converter.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n: >"$3"\n'
        'if grep -q torn "$2"; then echo "no archive" >&2; exit 1; fi\nsed s/javax/jakarta/ "$2" >"$3"\n'
    )
    for program in (prepare, converter):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{converter.parent}:{os.environ['PATH']}")
    host.calls = tmp_path / "calls"
    return host


def test_a_release_is_converted_once_and_its_artifact_and_checksum_are_those_that_came(converting):
    artifact, known = converting.bring("1.0-javax")
    assert converting.run("stage", "1.0-javax", artifact, known) == (True, ["staged"])
    release = converting.srv / "shop/releases/1.0-javax"
    assert (release / "app.war").read_text() == "1.0-jakarta"
    assert {path.name for path in release.iterdir()} == {"app.war", ".sha256", ".version"}
    assert (release / "app.war").stat().st_mode & 0o777 == 0o644
    # Another host that borrows it verifies and converts what was built.
    kept = converting.srv / "shop/artifacts/1.0-javax.war"
    assert converting.run("lend", "1.0-javax") == (True, [known, str(kept)]) and kept.read_text() == "1.0-javax"
    assert converting.run("stage", "1.0-javax", *converting.bring("1.0-javax")) == (True, ["there"])
    assert converting.calls.read_text().splitlines() == ["-zipInMemory app.war .jakarta.war"]


def test_what_has_another_checksum_is_not_even_converted(converting):
    artifact, _ = converting.bring("1.0-javax")
    well, said = converting.run("stage", "1.0-javax", artifact, "0" * 64)
    assert not well and "checksum" in said
    assert not converting.calls.exists()


def test_what_cannot_be_converted_is_not_staged_until_another_artifact_can(converting):
    converting.stage("1.0-javax")
    assert converting.run("point", "1.0-javax") == (True, ["moved"])
    artifact, _ = converting.bring("1.2")
    for content, wanted in (("torn", False), ("javax", True)):
        with open(artifact, "w", encoding="utf-8") as file:
            file.write(content)
        well, said = converting.run("stage", "1.2", artifact, hashlib.sha256(content.encode()).hexdigest())
        assert well == wanted, said
        assert wanted or "can't be converted to jakarta.*: no archive" in " ".join(said), said
        releases = {path.name for path in (converting.srv / "shop/releases").iterdir()}
        assert releases == {"1.0-javax"} | ({"1.2"} if wanted else set())
        assert converting.run("point", "1.2")[0] == wanted
        used = (converting.srv / "shop/current/app.war").read_text()
        assert used == ("jakarta" if wanted else "1.0-jakarta")


def test_what_was_written_and_not_noted_is_due_until_it_is(tmp_path):
    script = tmp_path / "applied"
    text = (ROOT / "ansible/roles/common/files/applied").read_text()
    assert "/var/lib/fleet-applied" in text
    script.write_text(text.replace("/var/lib/fleet-applied", str(tmp_path / "noted")))
    script.chmod(0o755)
    folder, file = tmp_path / "conf.d", tmp_path / "conf"

    def run(verb):
        command = [script, verb, "shop", folder, file]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def is_due():
        return {"differs": True, "same": False}[run("differs")]

    # Nothing was noted, then nothing is there, and then something is.
    assert is_due()
    run("note")
    assert not is_due()
    for change in (folder.mkdir, lambda: (folder / "one").write_text("1"), lambda: file.write_text("2")):
        change()
    assert is_due() and is_due(), "looking is no noting"
    run("note")
    assert not is_due()
    # A name counts as what is in it does.
    (folder / "one").rename(folder / "another")
    assert is_due()
