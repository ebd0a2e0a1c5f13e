//! Tests of the room as a whole: bad files and what is said of them, shipped files, mutated files.

mod agent;
mod autoscale;
mod balance;
mod dns;
mod endpoint_tls;
mod examples;
mod limits;
mod meaning;
mod mutation;
mod refusals;
mod routes;
mod values;

use std::path::Path;

use super::*;

/// A valid file to add to.
const BASE: &str = r#"
[[listener]]
name = "http"
address = "127.0.0.1:8080"

[service.web]
hosts = ["example.com"]
stable = ["10.0.0.1:80"]
"#;

fn parsed(text: &str) -> (Spec, Vec<Note>) {
    parse_below(text, "f.toml", None).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn refused(text: &str) -> String {
    match parse_below(text, "f.toml", None) {
        Ok(_) => panic!("this was accepted:\n{text}"),
        Err(error) => error.to_string(),
    }
}
