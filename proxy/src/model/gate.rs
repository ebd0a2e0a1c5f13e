//! Gates: routes of a service that a flag switches off.
//!
//! A gate must hold however a path is written. So it compares paths in a normal form that takes
//! together whatever some application may take for the same route: see [`NormalPath`].

use std::borrow::Cow;
use std::sync::Arc;

use http::header::HeaderValue;
use http::{Method, StatusCode};

use super::path::{hex, is_below};
use super::route::Methods;

/// A gate.
#[derive(Clone, Debug)]
pub struct GateSpec {
    /// The flag that must be on.
    pub flag: String,
    /// The methods that it stands before.
    pub methods: Methods,
    /// The paths that it stands before.
    pub path: GatePath,
    /// Whether it is open while the flag has no boolean to say: unknown, disabled, in error.
    pub default: bool,
    /// What is answered while it is closed.
    pub answer: GateAnswer,
}

/// The paths that a gate stands before, in their normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatePath {
    /// This one.
    Exact(Box<[u8]>),
    /// This one and all below.
    Prefix(Box<[u8]>),
}

/// What a closed gate answers.
#[derive(Clone, Debug)]
pub struct GateAnswer {
    /// The status.
    pub status: StatusCode,
    /// The type of the body.
    pub content_type: HeaderValue,
    /// The body; none = a sentence of serin's.
    pub body: Option<Arc<str>>,
    /// Where else to go, with a status that says so.
    pub location: Option<HeaderValue>,
}

impl GateSpec {
    /// Whether a request has to pass this gate.
    pub fn stands_before(&self, method: &Method, path: &NormalPath<'_>) -> bool {
        self.methods.hold(method) && self.path.holds(path)
    }
}

impl GatePath {
    /// Whether a path is among them.
    pub fn holds(&self, path: &NormalPath<'_>) -> bool {
        // Where `..` leads depends on who reads it, so it is taken to lead anywhere. No browser sends it.
        path.climbs
            || match self {
                Self::Exact(own) => *path.text == **own,
                Self::Prefix(own) => is_below(&path.text, own),
            }
    }
}

/// A path as gates compare it: every `%XX` decoded, as often as there is one; ASCII letters in lower case,
/// for Express compares so; `\` for `/`; no parameters behind `;`, which Tomcat takes off; no empty segment,
/// no `.`, no slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'p> {
    text: Cow<'p, [u8]>,
    climbs: bool,
}

impl<'p> NormalPath<'p> {
    /// The normal form of the path of a request, without its query.
    pub fn of(path: &'p str) -> Self {
        let path = path.as_bytes();
        if is_normal(path) {
            return Self { text: Cow::Borrowed(path), climbs: false };
        }
        let mut decoded = decode(path);
        for byte in &mut decoded {
            *byte = if *byte == b'\\' { b'/' } else { byte.to_ascii_lowercase() };
        }
        let (mut text, mut climbs) = (Vec::with_capacity(decoded.len()), false);
        for segment in decoded.split(|byte| *byte == b'/') {
            let segment = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            climbs |= segment == b"..";
            if !matches!(segment, b"" | b".") {
                text.push(b'/');
                text.extend_from_slice(segment);
            }
        }
        if text.is_empty() {
            text.push(b'/');
        }
        Self { text: Cow::Owned(text), climbs }
    }

    /// Whether it holds a `..`, however written.
    pub const fn climbs(&self) -> bool {
        self.climbs
    }

    /// Its text.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

/// Whether a path is its own normal form, as almost all are.
fn is_normal(path: &[u8]) -> bool {
    let strange = |byte: &u8| matches!(byte, b'%' | b'\\' | b';' | b'A'..=b'Z');
    let meets = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
    let ends = path.len() > 1 && path.ends_with(b"/");
    path.starts_with(b"/") && !ends && !path.iter().any(strange) && !path.windows(2).any(meets)
}

/// Decodes every `%XX`, and those that come of it, in one go.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path {
        out.push(*byte);
        while let [.., b'%', high, low] = *out.as_slice()
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            out.truncate(out.len() - 3);
            out.push(high << 4 | low);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(path: GatePath, methods: &[Method]) -> GateSpec {
        let answer = GateAnswer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            content_type: HeaderValue::from_static("text/plain"),
            body: None,
            location: None,
        };
        GateSpec { flag: "study.create".into(), methods: Methods::of(methods.to_vec()), path, default: true, answer }
    }

    fn exact(path: &str) -> GatePath {
        GatePath::Exact(NormalPath::of(path).text().into())
    }

    fn prefix(path: &str) -> GatePath {
        GatePath::Prefix(NormalPath::of(path).text().into())
    }

    fn text(path: &str) -> String {
        String::from_utf8_lossy(NormalPath::of(path).text()).into_owned()
    }

    #[test]
    fn no_way_of_writing_a_path_leads_around_a_gate() {
        let gate = exact("/api/study/create");
        for path in [
            "/api/study/create",
            "/api/study/create/",
            "/API/Study/CREATE",
            "/api/study/%63reate",
            "/api/study/%2563reate",
            "/api/study/%25%36%33reate",
            "/api%2Fstudy%2fcreate",
            "//api///study//create//",
            "/./api/study/./create/.",
            "/api/study/%2e/create",
            "/api\\study\\create",
            "/api/study;jsessionid=1/create;a=b",
            "/api/%3b/study/create",
            "/api/study/create%3Bx",
            // where these lead, not every application agrees
            "/api/study/x/../create",
            "/api/study/x%2f..%2fcreate",
            "/api/study/a%2fb/../create",
            "/api/study/..;/study/create",
            "/api/study/create/%2E%2e",
            "/..",
        ] {
            assert!(gate.holds(&NormalPath::of(path)), "{path} walks around, as {}", text(path));
        }
    }

    #[test]
    fn other_paths_pass_by() {
        let gate = exact("/api/study/create");
        for path in
            ["/", "*", "", "/api/study", "/api/study/create/x", "/api/study/created", "/api/study/cr%65at", "/api/%zz"]
        {
            assert!(!gate.holds(&NormalPath::of(path)), "{path}");
        }
        let gate = prefix("/api/study/");
        for (path, holds) in [
            ("/api/study", true),
            ("/api/study/", true),
            ("/api/study/create/x", true),
            ("/api/%73tudy/load", true),
            ("/api/study-2", false),
            ("/api/studyx/create", false),
            ("/api", false),
        ] {
            assert_eq!(gate.holds(&NormalPath::of(path)), holds, "{path}");
        }
        assert!(prefix("/").holds(&NormalPath::of("/anything")));
    }

    #[test]
    fn a_normal_path_is_not_copied_and_stays_what_it_is() {
        for path in ["/", "/api/study/create", "/a.b/c~d", "/api/v1.2/x_y-z"] {
            let normal = NormalPath::of(path);
            assert!(matches!(normal.text, Cow::Borrowed(_)), "{path}");
        }
        for path in ["/A%2fb//c;d/./e/", "/%2525", "/%", "/%4", "/%g1", "/a%00b", "/%ff"] {
            let once = text(path);
            assert_eq!(text(&once), once, "{path}");
        }
    }

    #[test]
    fn decoding_what_was_encoded_often_takes_no_longer_than_the_path_is_long() {
        let path = format!("/%{}41", "25".repeat(20_000));
        assert_eq!(decode(path.as_bytes()), b"/A");
    }

    #[test]
    fn a_gate_stands_before_its_methods() {
        let path = NormalPath::of("/api/study/create");
        for (methods, met, passed) in [
            (&[][..], vec![Method::GET, Method::POST, Method::OPTIONS], vec![]),
            (&[Method::POST][..], vec![Method::POST], vec![Method::GET, Method::HEAD, Method::OPTIONS]),
            (&[Method::GET][..], vec![Method::GET, Method::HEAD], vec![Method::POST]),
        ] {
            let gate = gate(exact("/api/study/create"), methods);
            assert!(met.iter().all(|method| gate.stands_before(method, &path)), "{methods:?}");
            assert!(!passed.iter().any(|method| gate.stands_before(method, &path)), "{methods:?}");
        }
    }
}
