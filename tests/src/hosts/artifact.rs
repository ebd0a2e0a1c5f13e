//! Releases of the stand-in applications, packed as their builds would pack them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use bytes::Bytes;

use crate::checkbox::zip::archive;
use crate::process::own_binary;

/// The pages of the stand-in iTrust.
const ITRUST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fleet/itrust");
/// Where the deployment descriptor has room for a listener.
const ROOM: &str = "<!-- listener -->";
/// A listener that isn't there, so that the application never starts.
const MISSING: &str = "<listener><listener-class>no.such.Listener</listener-class></listener>";

/// An archive of the stand-in checkbox.io of this version, started with these further arguments. Made once: another
/// archive of the same content would have another checksum.
///
/// # Errors
/// When a file can't be written, or a program that packs is missing.
pub fn checkbox(folder: &Path, version: &str, arguments: &str) -> anyhow::Result<PathBuf> {
    let packed = folder.join(format!("checkbox-{version}.tar.gz"));
    if packed.exists() {
        return Ok(packed);
    }
    let tree = folder.join(format!("checkbox-{version}"));
    let site = tree.join("server-side/site");
    fs::create_dir_all(&site)?;
    fs::create_dir_all(tree.join("public_html"))?;
    fs::write(tree.join("VERSION"), format!("{version}\n"))?;
    fs::write(tree.join("public_html/index.html"), "<!DOCTYPE html><title>checkbox.io</title>\n")?;
    // What tells a debugger where things are is most of it, and no host has one.
    let program = own_binary("checkbox")?;
    run_to_end(Command::new("strip").arg("-o").arg(site.join("checkbox")).arg(program))?;
    let listen = "--listen \"127.0.0.1:$APP_PORT\"";
    let script = format!("#!/bin/sh\nexec ./checkbox {listen} --version-name {version} {arguments}\n");
    fs::write(site.join("start"), script)?;
    run_to_end(Command::new("chmod").arg("0755").arg(site.join("start")))?;
    run_to_end(
        Command::new("tar").arg("--directory").arg(&tree).args(["--create", "--gzip", "--file"]).arg(&packed).arg("."),
    )?;
    Ok(packed)
}

/// A WAR of the stand-in iTrust of this version. One that doesn't start asks for a class that isn't there.
///
/// # Errors
/// When a file can't be read or written.
pub fn itrust(folder: &Path, version: &str, starts: bool) -> anyhow::Result<PathBuf> {
    let mut files = vec![("VERSION".to_owned(), Bytes::from(format!("{version}\n")))];
    add(Path::new(ITRUST), Path::new(""), &mut files)?;
    if !starts {
        for (_, content) in files.iter_mut().filter(|(name, _)| name == "WEB-INF/web.xml") {
            *content = String::from_utf8(content.to_vec())?.replace(ROOM, MISSING).into();
        }
    }
    let packed = folder.join(format!("iTrust-{version}.war"));
    fs::write(&packed, archive(&files).concat())?;
    Ok(packed)
}

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// When it can't be read.
pub fn sha256(file: &Path) -> anyhow::Result<String> {
    let said = run_to_end(Command::new("sha256sum").arg(file))?;
    Ok(said.split_whitespace().next().context("a checksum")?.to_owned())
}

fn add(root: &Path, below: &Path, files: &mut Vec<(String, Bytes)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            add(root, &path, files)?;
        } else {
            let name = path.to_str().context("names are text")?.to_owned();
            files.push((name, fs::read(entry.path())?.into()));
        }
    }
    Ok(())
}

/// Runs a program to its end.
pub(super) fn run_to_end(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("can't run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
