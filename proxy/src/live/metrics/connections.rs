//! The metrics of clients' connections, and of the certificates that they are shown.

use super::{Live, Named, Scrape, counter, gauge};
use crate::model::time::Timestamp;

const CONNECTIONS: Named = gauge("serin_connections", "Open downstream connections.", &[]);
const HANDSHAKES_FAILED: Named =
    counter("serin_tls_handshakes_failed_total", "Downstream connections that never came to TLS.", &[]);
const FLOODS: Named =
    counter("serin_http2_floods_total", "Downstream connections of HTTP/2 that were ended as floods.", &[]);
const PREFACES_REFUSED: Named =
    counter("serin_proxy_headers_refused_total", "Downstream connections refused for their PROXY header.", &[]);
const CROWDED: Named =
    counter("serin_client_connections_refused_total", "Downstream connections beyond what one client may have.", &[]);
const CERTIFICATE_EXPIRY: Named = gauge(
    "serin_tls_certificate_expiry_timestamp_seconds",
    "When a certificate's time is over, in seconds since 1970.",
    &["listener", "certificate"],
);

pub(super) const ALL: &[&Named] =
    &[&CONNECTIONS, &HANDSHAKES_FAILED, &FLOODS, &PREFACES_REFUSED, &CROWDED, &CERTIFICATE_EXPIRY];

impl Scrape {
    pub(super) fn connections(&mut self, live: &Live) {
        self.number(&CONNECTIONS, &[], live.connections());
        self.number(&HANDSHAKES_FAILED, &[], live.failed_handshakes());
        self.number(&FLOODS, &[], live.floods());
        self.number(&PREFACES_REFUSED, &[], live.refused_prefaces());
        self.number(&CROWDED, &[], live.crowded());
        for (listener, certificates) in live.certificates() {
            for certificate in certificates {
                let name = certificate.names.first().map_or("", String::as_str);
                let expiry = certificate.expires.since(Timestamp::from_millis(0)).as_secs_f64();
                self.value(&CERTIFICATE_EXPIRY, &[&listener, name], expiry);
            }
        }
    }
}
