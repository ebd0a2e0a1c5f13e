//! What became of a playbook.

use std::collections::BTreeMap;

use anyhow::Context;

/// A playbook's end.
#[derive(Debug)]
pub struct Played {
    /// Whether it ended well.
    pub ok: bool,
    /// All that it said.
    pub said: String,
    /// By host, what was counted there: `ok`, `changed`, `failed`, `unreachable`, ….
    pub recap: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Played {
    /// Reads what a playbook said.
    ///
    /// # Errors
    /// When its recap makes no sense.
    pub fn read(ok: bool, said: String) -> anyhow::Result<Self> {
        let mut recap = BTreeMap::new();
        for line in said.lines().skip_while(|line| !line.starts_with("PLAY RECAP")).skip(1) {
            let Some((host, counts)) = line.split_once(':') else { continue };
            let counts = counts.split_whitespace().filter_map(|count| count.split_once('='));
            let counts = counts.map(|(name, count)| Ok((name.to_owned(), count.parse()?)));
            let counts: anyhow::Result<BTreeMap<String, u64>> = counts.collect();
            recap.insert(host.trim().to_owned(), counts.with_context(|| format!("no counts: {line}"))?);
        }
        Ok(Self { ok, said, recap })
    }

    /// The sum of a count over all hosts.
    pub fn sum(&self, count: &str) -> u64 {
        self.recap.values().filter_map(|counts| counts.get(count)).sum()
    }

    /// Holds that it ended well.
    ///
    /// # Panics
    /// With the end of what it said.
    pub fn expect_well(&self) {
        assert!(self.ok, "the playbook failed:\n{}", self.tail());
    }

    /// Holds that it ended ill, and said all of this.
    ///
    /// # Panics
    /// With the end of what it said.
    pub fn expect_refusal(&self, why: &[&str]) {
        assert!(!self.ok, "the playbook went well:\n{}", self.tail());
        for text in why {
            assert!(self.said.contains(text), "it doesn't say {text:?}:\n{}", self.tail());
        }
    }

    /// The tasks that changed something: name and host.
    pub fn changes(&self) -> Vec<String> {
        let mut task = "";
        let mut found = Vec::new();
        for line in self.said.lines() {
            if let Some(name) = line.strip_prefix("TASK [").or_else(|| line.strip_prefix("RUNNING HANDLER [")) {
                task = name.split(']').next().unwrap_or_default();
            } else if line.starts_with("changed: ") {
                found.push(format!("{task} {line}"));
            }
        }
        found
    }

    fn tail(&self) -> String {
        let lines: Vec<&str> = self.said.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recap_is_read_and_changes_are_found() {
        let said = "TASK [serin.fleet.common : Configure sshd] ****\nchanged: [a]\nok: [b]\n\nPLAY RECAP ****\n\
                    a   : ok=2    changed=1    unreachable=0\nb : ok=2 changed=0 unreachable=0\n";
        let played = Played::read(true, said.to_owned()).unwrap();
        assert_eq!((played.sum("ok"), played.sum("changed")), (4, 1));
        assert_eq!(played.changes(), ["serin.fleet.common : Configure sshd changed: [a]"]);
    }
}
