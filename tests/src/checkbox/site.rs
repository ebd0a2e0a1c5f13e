//! The application's own nginx: static pages in front, and index.html for every path it doesn't know.

use http::header::{ETAG, SERVER};
use http::{HeaderValue, StatusCode};

use super::reply::Reply;
use super::zip::crc32;

/// How long nginx keeps an idle connection, in milliseconds.
pub const KEEP_ALIVE_MS: u64 = 65_000;

const HTML: &str = "text/html";
const CSS: &str = "text/css";
const SCRIPT: &str = "application/javascript";
const IMAGE: &str = "image/png";

/// The static files: path, type, size in bytes.
pub const FILES: [(&str, &str, usize); 14] = [
    ("/index.html", HTML, 9_000),
    ("/studies.html", HTML, 6_500),
    ("/studies/index.html", HTML, 7_200),
    ("/researchers.html", HTML, 8_100),
    ("/css/bootstrap.css", CSS, 120_000),
    ("/css/site.css", CSS, 4_300),
    ("/js/jquery.js", SCRIPT, 93_000),
    ("/js/bootstrap.js", SCRIPT, 36_000),
    ("/js/knockout.js", SCRIPT, 47_000),
    ("/js/survey.js", SCRIPT, 11_000),
    ("/js/studies.js", SCRIPT, 5_400),
    ("/js/fingerprint.js", SCRIPT, 3_900),
    ("/img/logo.png", IMAGE, 14_000),
    ("/img/checked.png", IMAGE, 2_100),
];

/// A page or file, or index.html.
pub fn serve(path: &str) -> Reply {
    let page = match path {
        "/studies/" => "/studies/index.html",
        other => other,
    };
    let (name, kind, size) = FILES.iter().find(|(name, ..)| *name == page).unwrap_or(&FILES[0]);
    let content = content(name, kind, *size);
    let tag = format!("\"{:x}-{size:x}\"", crc32(name.as_bytes()));
    let reply = Reply::new(StatusCode::OK, kind, content).with(SERVER, HeaderValue::from_static("nginx"));
    match HeaderValue::from_str(&tag) {
        Ok(tag) => reply.with(ETAG, tag),
        Err(_) => reply,
    }
}

/// Filler of the file's size that tells which file it is.
fn content(name: &str, kind: &str, size: usize) -> Vec<u8> {
    let line = match kind {
        HTML => format!("<p>checkbox {name}</p>\n"),
        _ => format!("/* checkbox {name} */\n"),
    };
    line.bytes().cycle().take(size).collect()
}
