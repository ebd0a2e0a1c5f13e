//! `tls` of a `[[listener]]`.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use toml::Spanned;

use crate::config::findings::Findings;
use crate::config::raw::{RawCertificate, RawTls, Text};
use crate::config::{units, values};
use crate::model::tls::{CertificateSpec, ClientsSpec, FileContent, TlsSpec, TlsVersion};

/// TLS as a listener has it; none where a needed value is missing or has no meaning.
pub(super) fn tls(raw: &Spanned<RawTls>, findings: &mut Findings<'_>) -> Option<TlsSpec> {
    let (at, raw) = (raw.span(), raw.get_ref());
    if raw.certificates.is_empty() {
        let wanted = "TLS needs a certificate: tls.certificates = [{ cert_file = \"…\", key_file = \"…\" }]";
        findings.problem(at, wanted);
        return None;
    }
    let certificates: Vec<Option<CertificateSpec>> =
        raw.certificates.iter().map(|raw| certificate(raw, findings)).collect();
    let oldest = match &raw.min_version {
        Some(text) => findings.read(text, |text| version(text)),
        None => Some(TlsVersion::V1_2),
    };
    let clients = clients(raw, findings);
    let hsts = raw.hsts.as_ref().and_then(|raw| findings.read(raw, units::positive_duration)).map(strict_transport);
    Some(TlsSpec { certificates: certificates.into_iter().collect::<Option<_>>()?, oldest: oldest?, clients, hsts })
}

fn certificate(raw: &Spanned<RawCertificate>, findings: &mut Findings<'_>) -> Option<CertificateSpec> {
    let (at, raw) = (raw.span(), raw.get_ref());
    if let Some(missing) = match (&raw.cert_file, &raw.key_file) {
        (None, _) => Some("`cert_file`: the certificate and its chain, in PEM"),
        (_, None) => Some("`key_file`: the certificate's private key, in PEM"),
        _ => None,
    } {
        findings.problem(at, format!("this certificate lacks its {missing}"));
    }
    let (chain, key) = (file(&raw.cert_file, findings), file(&raw.key_file, findings));
    let ocsp = file(&raw.ocsp_file, findings);
    Some(CertificateSpec { chain: chain?, key: key?, ocsp })
}

fn clients(raw: &RawTls, findings: &mut Findings<'_>) -> Option<ClientsSpec> {
    let required = raw.client_certificate.as_ref().and_then(|wanted| {
        let required = findings.read(wanted, |text| match &**text {
            "required" => Ok(true),
            "optional" => Ok(false),
            _ => Err("`client_certificate` is \"required\" or \"optional\"".to_owned()),
        });
        if raw.client_ca_file.is_none() {
            findings.problem(wanted.span(), "`client_certificate` needs a `client_ca_file`: whose certificates count");
        }
        required
    });
    let authorities = file(&raw.client_ca_file, findings)?;
    Some(ClientsSpec { authorities, required: required.unwrap_or(true) })
}

fn version(text: &str) -> Result<TlsVersion, units::Reason> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err("`min_version` is \"1.2\" or \"1.3\": older ones are broken".to_owned()),
    }
}

/// RFC 6797, 6.1. Without `includeSubDomains`, which is for somebody to say who knows all of them.
fn strict_transport(age: Duration) -> HeaderValue {
    let text = format!("max-age={}", age.as_secs());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("max-age=0"))
}

fn file(raw: &Text, findings: &mut Findings<'_>) -> Option<FileContent> {
    let read = |raw: &Spanned<String>| findings.read(raw, |text| values::path(text));
    raw.as_ref().and_then(read).map(|path: PathBuf| FileContent::unread(path))
}
