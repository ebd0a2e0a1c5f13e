//! `[service.NAME.tls]`: how connections to endpoints are kept private.

use rustls::pki_types::ServerName;

use super::{file, identity};
use crate::config::findings::Findings;
use crate::config::raw::RawService;
use crate::config::units::Reason;
use crate::model::place::Place;
use crate::model::spec::Protocol;
use crate::model::split::PerArm;
use crate::model::tls::{CertificateSpec, EndpointTlsSpec, FileContent};

/// TLS as a service has it with its endpoints; none where it has none.
pub(super) fn tls(
    service: &str,
    raw: &RawService,
    seeds: &PerArm<Vec<Place>>,
    protocol: Protocol,
    findings: &mut Findings<'_>,
) -> Option<EndpointTlsSpec> {
    check_protocol(raw, protocol, findings);
    let table = raw.tls.as_ref()?;
    let raw = table.get_ref();
    let verify = raw.verify.as_ref().is_none_or(|verify| *verify.get_ref());
    let server_name = raw.server_name.as_ref().and_then(|name| findings.read(name, |text| self::server_name(text)));
    // Who is known by a name proves that name.
    let mut places = seeds.stable.iter().chain(&seeds.canary).peekable();
    let all_named = places.peek().is_some() && places.all(|place| place.host().is_some());
    if verify && raw.server_name.is_none() && !all_named {
        let text = "`server_name` is missing: the name that the certificate of its endpoints holds, such as \
                    \"app.internal\". They are known by address, which tells nothing of it";
        findings.problem(table.span(), text);
    }
    if let (false, Some(off)) = (verify, &raw.verify) {
        let text = format!(
            "service `{service}` does NOT verify its endpoints: whoever answers at their addresses gets its users' \
             requests, with passwords and cookies. Name their CA in `ca_file` instead"
        );
        findings.note_at(&off.span(), text);
    }
    if let (false, Some(authorities)) = (verify, &raw.ca_file) {
        findings.problem(authorities.span(), "with `verify = false` nobody is held against this: remove one of both");
    }
    let authorities = file(&raw.ca_file, findings).map(FileContent::unread);
    let identity = identity(&raw.certificate_file, &raw.key_file, findings).map(|(chain, key)| CertificateSpec {
        chain: FileContent::unread(chain),
        key: FileContent::unread(key),
        ocsp: None,
    });
    Some(EndpointTlsSpec { server_name, authorities, identity, verify })
}

/// HTTP/2 is agreed on in a handshake, or known before there is one.
fn check_protocol(raw: &RawService, protocol: Protocol, findings: &mut Findings<'_>) {
    let Some(written) = &raw.protocol else { return };
    match (protocol, &raw.tls) {
        (Protocol::H2, None) => findings.problem(
            written.span(),
            "\"h2\" is HTTP/2 by TLS: give the service `tls`, such as tls.server_name = \"app.internal\", or say \"h2c\"",
        ),
        (Protocol::H2c, Some(_)) => {
            findings.problem(written.span(), "\"h2c\" is HTTP/2 without TLS: with `tls` it is \"h2\"");
        }
        _ => {}
    }
}

/// What a certificate may hold: a DNS name or an address.
fn server_name(text: &str) -> Result<String, Reason> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a name as it stands in a certificate, without port, such as \"app.internal\"".to_owned()),
    }
}
