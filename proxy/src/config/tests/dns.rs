//! `[dns]`, and endpoints that have names.

use std::time::Duration;

use super::refusals::refuses;
use super::*;

#[test]
fn an_endpoint_may_have_a_name_and_proves_it_unless_another_is_said() {
    let spec = parsed("[service.web]\nhosts = [\"a.io\"]\nstable = [\"App.internal:443\", \"10.0.0.1:443\"]\n").0;
    let shown: Vec<_> = spec.services[0].seeds.stable.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["app.internal:443", "10.0.0.1:443"]);
    let of = |stable: &str| format!("[service.web]\nhosts = [\"a.io\"]\nstable = [{stable}]\n[service.web.tls]\n");
    let spec = parsed(&of("\"app.internal:443\"")).0;
    assert_eq!(spec.services[0].tls.as_ref().expect("TLS").server_name, None);
    refuses(&of("\"app.internal:443\", \"10.0.0.1:443\""), "[service.web.tls]", "`server_name` is missing");
}

#[test]
fn what_dns_is_asked_and_how_often_has_defaults() {
    let usual = parsed("").0.naming;
    assert_eq!((usual.min_ttl, usual.servers.len()), (Duration::from_secs(5), 0));
    let text = "[dns]\nservers = [\"10.0.0.2\", \"[::1]:5353\"]\nmin_ttl = \"10m\"\nkeep_denied = \"0s\"\n";
    let naming = parsed(text).0.naming;
    let shown: Vec<_> = naming.servers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.2:53", "[::1]:5353"]);
    assert_eq!(naming.max_ttl, naming.min_ttl, "what was not said is below what was");
    assert!(naming.keep_denied.is_zero());
}

#[test]
fn how_names_are_looked_up_is_held_against_what_can_be() {
    for (part, culprit, reason) in [
        ("servers = [\"dns.example\"]", "\"dns.example\"", "a DNS server is an IP"),
        ("servers = [\"10.0.0.2\", \"10.0.0.2:53\"]", "\"10.0.0.2:53\"", "in the list already"),
        ("servers = [\"0.0.0.0\"]", "\"0.0.0.0\"", "a DNS server is an IP"),
        ("min_ttl = \"0s\"", "\"0s\"", ""),
        ("min_ttl = \"10s\"\nmax_ttl = \"5s\"", "\"5s\"", "less than `min_ttl`, which is 10s"),
        ("keep = \"1h\"", "keep", "did you mean `keep_denied`?"),
    ] {
        refuses(&format!("[dns]\n{part}\n"), culprit, reason);
    }
    refuses("min_ttl = \"1s\"\n", "min_ttl", "it belongs in [dns]");
}
