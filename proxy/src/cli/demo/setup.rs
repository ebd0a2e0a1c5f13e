//! The demo's configuration, as a person would write it.

use std::net::SocketAddr;
use std::path::Path;

use super::mailbox::Mailbox;
use super::shop::Shop;
use crate::model::split::Arm;

/// The service's name.
pub(super) const SERVICE: &str = "shop";

/// What the configuration speaks of.
pub(super) struct Setup<'a> {
    pub(super) shops: [(Arm, &'a Shop); 3],
    pub(super) mailbox: &'a Mailbox,
    pub(super) admin: SocketAddr,
    pub(super) folder: &'a Path,
    /// Whoever wants to change something needs one of these.
    pub(super) tokens: Option<&'a Path>,
}

impl Setup<'_> {
    /// The configuration as TOML.
    pub(super) fn toml(&self) -> String {
        let (stable, canary) = (self.members(Arm::Stable), self.members(Arm::Canary));
        let state = quoted(self.folder.join("state.json").display());
        let tokens = self.tokens.map_or_else(String::new, |path| format!("tokens_file = {}\n", quoted(path.display())));
        let admin = self.admin;
        let smtp = self.mailbox.address();
        format!(
            r#"[[listener]]
name = "http"
address = "127.0.0.1:0"              # any free port
trusted = ["127.0.0.1/32"]           # the load may say whom it plays

[service.{SERVICE}]
hosts = ["*"]
stable = [{stable}]
canary = [{canary}]
[service.{SERVICE}.split]
weight = 10                          # percent of the users
[service.{SERVICE}.verdict]
false_pull_rate = 0.001              # E must reach 1 / 0.001 = 1000

[alert.email]
smtp = "smtp://{smtp}"
from = "serin@shop.example"
to = ["you@shop.example"]
admin_url = "http://{admin}"

[admin]
listen = "{admin}"
{tokens}[store]                              # no Redis: a file will do
state_file = {state}
[runtime]
threads = 2
drain = "2s"
"#
        )
    }

    fn members(&self, arm: Arm) -> String {
        let members = self.shops.iter().filter(|(of, _)| *of == arm).map(|(_, shop)| quoted(shop.address()));
        members.collect::<Vec<_>>().join(", ")
    }
}

/// A value as a TOML string.
fn quoted(value: impl std::fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[tokio::test]
    async fn the_configuration_is_valid_in_any_folder() {
        let directory = tempfile::Builder::new().prefix("a \"folder\" \\ ").tempdir().expect("a directory");
        let folder = directory.path();
        let tokens = folder.join("tokens");
        let mailbox = Mailbox::open(&folder.join("mails")).await.expect("a server");
        let [one, two, three] =
            [Shop::open(1).await, Shop::open(1).await, Shop::open(2).await].map(|shop| shop.expect("a shop"));
        let shops = [(Arm::Stable, &one), (Arm::Stable, &two), (Arm::Canary, &three)];
        let admin = "127.0.0.1:9901".parse().expect("an address");
        let text = Setup { shops, mailbox: &mailbox, admin, folder, tokens: Some(&tokens) }.toml();
        let (spec, _) = config::parse(&text, "demo").expect("valid");
        assert_eq!(spec.services[0].seeds.stable, [one.address(), two.address()].map(Into::into));
        assert_eq!(spec.services[0].seeds.canary, [three.address()].map(Into::into));
        assert_eq!(spec.store.state_file, folder.join("state.json"));
        assert_eq!(spec.admin.tokens_file, Some(tokens));
        assert!(spec.outbox.starts_with(folder));
    }
}
