//! What a request's body says: JSON, form-encoded or multipart.

use bytes::Bytes;
use serde_json::Value;

/// A file in a multipart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The file's name on the sender's side.
    pub name: String,
    /// What is in it.
    pub content: Bytes,
}

/// The fields of a body, in order; a field may come more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    fields: Vec<(String, String)>,
    /// The files of a multipart body.
    pub files: Vec<Upload>,
}

impl Form {
    /// Reads a body. A body of no known type has no fields; none is given for one that doesn't parse.
    pub fn parse(content_type: &str, body: &Bytes) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            "application/json" => Self::json(body),
            "application/x-www-form-urlencoded" => Some(Self::urlencoded(&String::from_utf8_lossy(body))),
            "multipart/form-data" => Self::multipart(content_type, body),
            _ => Some(Self::default()),
        }
    }

    /// Reads `a=1&b=2`, of a body or a query.
    pub fn urlencoded(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let fields = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self { fields: fields.map(|(name, value)| (unescape(name), unescape(value))).collect(), files: Vec::new() }
    }

    fn json(body: &Bytes) -> Option<Self> {
        let Value::Object(object) = serde_json::from_slice(body).ok()? else { return None };
        let mut form = Self::default();
        for (name, value) in object {
            match value {
                Value::Array(values) => form.fields.extend(values.into_iter().map(|value| (name.clone(), text(value)))),
                value => form.fields.push((name, text(value))),
            }
        }
        Some(form)
    }

    fn multipart(content_type: &str, body: &Bytes) -> Option<Self> {
        let boundary = parameter(content_type, "boundary")?;
        let delimiter = format!("--{boundary}").into_bytes();
        let mut form = Self::default();
        let mut from = find(body, &delimiter, 0)? + delimiter.len();
        while !body[from..].starts_with(b"--") {
            let headers = from + 2;
            let content = find(body, b"\r\n\r\n", headers)? + 4;
            let end = find(body, &[b"\r\n", delimiter.as_slice()].concat(), content)?;
            let disposition = disposition(&body[headers..content]);
            let name = parameter(&disposition, "name")?;
            match parameter(&disposition, "filename") {
                Some(file) => form.files.push(Upload { name: file, content: body.slice(content..end) }),
                None => form.fields.push((name, String::from_utf8_lossy(&body[content..end]).into_owned())),
            }
            from = end + 2 + delimiter.len();
        }
        Some(form)
    }

    /// The first value of a field, if it was given and isn't empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(field, _)| is_named(field, name))?;
        (!value.is_empty()).then_some(value)
    }

    /// The first value of a field, or nothing.
    pub fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// All values of a field, also written as `name[]`.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(field, _)| is_named(field, name)).map(|(_, value)| value.as_str())
    }
}

fn is_named(field: &str, name: &str) -> bool {
    field.strip_suffix("[]").unwrap_or(field) == name
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The line of a part that says what it is.
fn disposition(headers: &[u8]) -> String {
    let headers = String::from_utf8_lossy(headers);
    let line = headers.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"));
    line.unwrap_or_default().to_owned()
}

/// A parameter of a header value, with or without quotes.
fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"').to_owned())
    })
}

fn find(body: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let first = *what.first()?;
    let mut at = from;
    loop {
        at += body.get(at..)?.iter().position(|byte| *byte == first)?;
        if body[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
}

/// Undoes percent and plus signs. What isn't a proper escape stays as it is.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped =
            bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 2;
            }
            (b'+', _) => plain.push(b' '),
            (byte, _) => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_may_be_urlencoded_json_or_multipart() {
        let multipart = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1 ü\r\n\
                         --XX\r\nContent-Disposition: form-data; name=\"b[]\"\r\n\r\nx\r\n\
                         --XX\r\nContent-Disposition: form-data; name=\"b[]\"\r\n\r\ny\r\n--XX--\r\n";
        let bodies = [
            ("application/x-www-form-urlencoded; charset=UTF-8", "a=1+%C3%BC&b[]=x&b%5B%5D=y"),
            ("application/json", r#"{"a":"1 ü","b":["x","y"]}"#),
            ("multipart/form-data; boundary=XX", multipart),
        ];
        for (kind, body) in bodies {
            let form = Form::parse(kind, &Bytes::from(body)).unwrap();
            assert_eq!(form.get("a"), Some("1 ü"), "{kind}");
            assert_eq!(form.all("b").collect::<Vec<_>>(), ["x", "y"], "{kind}");
            assert_eq!(form.get("c"), None, "{kind}");
        }
    }

    #[test]
    fn a_multipart_file_keeps_its_bytes_even_if_they_look_like_a_boundary() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"files[]\"; filename=\"t.bin\"\r\n\
                     Content-Type: application/octet-stream\r\n\r\n\x00--XY\r\n\xff\r\n--XX--\r\n";
        let form = Form::parse("multipart/form-data; boundary=\"XX\"", &Bytes::from_static(body)).unwrap();
        let content = Bytes::from_static(b"\x00--XY\r\n\xff");
        assert_eq!(form.files, [Upload { name: "t.bin".to_owned(), content }]);
    }

    #[test]
    fn a_body_that_ends_too_early_is_no_form() {
        let whole = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XX--";
        for end in 0..whole.len() - 1 {
            let form = Form::parse("multipart/form-data; boundary=XX", &Bytes::from(whole[..end].to_owned()));
            assert_eq!(form, None, "cut at {end}");
        }
        assert_eq!(Form::parse("application/json", &Bytes::from_static(b"{\"a\":")), None);
    }
}
