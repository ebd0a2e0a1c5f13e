//! `[alert.email]`.

use super::file;
use crate::config::findings::Findings;
use crate::config::raw::RawEmail;
use crate::config::values;
use crate::model::spec::{EmailSpec, SmtpTls};

/// Where mail goes; none where a needed value has no meaning.
pub(super) fn email(raw: &RawEmail, findings: &mut Findings<'_>) -> Option<EmailSpec> {
    let server = findings.read(&raw.smtp, |text| values::smtp(text));
    let from = findings.read(&raw.from, |text| values::mailbox(text));
    let to = findings.read_distinct(raw.to.get_ref(), values::mailbox);
    if raw.to.get_ref().is_empty() {
        findings.problem(raw.to.span(), "nobody would get this mail: give at least one address");
    }
    let username_file = file(&raw.username_file, findings);
    let password_file = file(&raw.password_file, findings);
    let ca_file = file(&raw.ca_file, findings);
    match (&raw.username_file, &raw.password_file) {
        (Some(alone), None) => findings.problem(alone.span(), "`username_file` needs a `password_file` beside it"),
        (None, Some(alone)) => findings.problem(alone.span(), "`password_file` needs a `username_file` beside it"),
        _ => {}
    }
    let plain = server.as_ref().is_some_and(|server| server.tls == SmtpTls::None);
    if plain && password_file.is_some() {
        findings.note_at(&raw.smtp.span(), "smtp:// sends the password unprotected: use smtp+starttls:// or smtps://");
    }
    let admin_url = raw.admin_url.as_ref().and_then(|raw| findings.read(raw, |text| values::web_url(text)));
    Some(EmailSpec {
        server: server?,
        from: from?,
        to: to.into_iter().map(|(_, address)| address).collect(),
        username_file,
        password_file,
        ca_file,
        admin_url,
    })
}
