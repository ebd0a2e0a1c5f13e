//! Reads back what serin mails: the subject and the plain part.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A header's value of a message or a part, unfolded.
pub(super) fn header(message: &str, name: &str) -> Option<String> {
    let (head, _) = split(message);
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    head.split("\r\n").find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// The plain part as text; none where there is none.
pub(super) fn plain_part(message: &str) -> Option<String> {
    let content_type = header(message, "content-type")?;
    let (_, boundary) = content_type.split_once("boundary=")?;
    let boundary = boundary.split(';').next()?.trim_matches('"');
    let (_, body) = split(message);
    let part = body.split(&format!("--{boundary}")).find(|part| {
        let kind = header(part.trim_start(), "content-type");
        kind.is_some_and(|kind| kind.starts_with("text/plain"))
    })?;
    let part = part.trim_start();
    let encoding = header(part, "content-transfer-encoding").unwrap_or_default().to_ascii_lowercase();
    let (_, body) = split(part);
    let bytes = match encoding.as_str() {
        "base64" => STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?,
        "quoted-printable" => unquote(body),
        _ => body.as_bytes().to_vec(),
    };
    Some(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim_end().to_owned())
}

/// Head and body.
fn split(message: &str) -> (&str, &str) {
    message.split_once("\r\n\r\n").unwrap_or((message, ""))
}

/// Undoes quoted-printable (RFC 2045 section 6.7). What is no escape stays as it is.
fn unquote(text: &str) -> Vec<u8> {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after.get(..2).filter(|_| *first == b'=').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use lettre::message::{Message, MultiPart};

    use super::*;

    #[test]
    fn what_lettre_writes_is_read_back() {
        let long = format!("Weight  10 % → 0 %\n{}\n.", "E = 1000 ".repeat(20).trim_end());
        for text in ["plain words", "ümläute ☃ everywhere: ☃☃☃☃☃☃☃☃☃☃☃☃", long.as_str()] {
            let mail = Message::builder()
                .from("a@shop.example".parse().expect("an address"))
                .to("b@shop.example".parse().expect("an address"))
                .subject("[serin] shop: canary pulled (evidence)")
                .multipart(MultiPart::alternative_plain_html(text.to_owned(), "<p>no</p>".to_owned()))
                .expect("a mail");
            let mail = String::from_utf8(mail.formatted()).expect("ASCII");
            assert_eq!(header(&mail, "Subject").as_deref(), Some("[serin] shop: canary pulled (evidence)"));
            assert_eq!(plain_part(&mail).as_deref(), Some(text), "{mail}");
        }
    }

    #[test]
    fn a_mail_without_a_plain_part_has_none() {
        assert_eq!(plain_part("Subject: x\r\nContent-Type: text/html\r\n\r\n<p>"), None);
        assert_eq!(plain_part(""), None);
    }
}
