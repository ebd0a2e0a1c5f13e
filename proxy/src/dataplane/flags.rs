//! What flags say of a request: whether a gate of its service is closed, and what the application is told.
//!
//! Only services that have gates or tell of flags come here.

use std::net::IpAddr;

use http::request::Parts;
use http::uri::PathAndQuery;
use serde_json::{Map, Value};

use super::authority;
use super::core::{Core, ServiceRef};
use super::sticky;
use crate::live::{AskedFlag, ServiceFlags, ToldFlag};
use crate::model::flag::Context;
use crate::model::gate::NormalPath;
use crate::telemetry;

/// The longest `X-Serin-Flags`, in bytes. A flag that doesn't fit any more is left out.
const MOST_BYTES: usize = 4096;

/// What flags say of a request.
#[derive(Debug)]
pub(crate) enum Said {
    /// It may pass, with this as its `X-Serin-Flags`; none where the application isn't told.
    Open(Option<String>),
    /// The gate at this place in the service's list is closed.
    Closed(usize),
}

/// Who asks: what of a request a targeting rule may want to know.
#[derive(Debug)]
pub(crate) struct Asker<'r> {
    pub(crate) parts: &'r Parts,
    pub(crate) client: IpAddr,
    /// The key that is given to a new client.
    pub(crate) new_key: Option<[u8; 16]>,
    /// What the endpoint is asked for, if that is another target.
    pub(crate) rewritten: Option<&'r PathAndQuery>,
}

/// Asks the flags of a service about a request.
pub(crate) fn ask(core: &Core, service: &ServiceRef, flags: &ServiceFlags, asker: &Asker<'_>) -> Said {
    // A gate holds for what is asked for, and for what becomes of it.
    let paths = [Some(asker.parts.uri.path()), asker.rewritten.map(PathAndQuery::path)].map(|p| p.map(NormalPath::of));
    let stands = |place: &usize| {
        let gate = &service.spec.gates[*place];
        paths.iter().flatten().any(|path| gate.stands_before(&asker.parts.method, path))
    };
    let met: Vec<usize> = (0..flags.gates.len()).filter(stands).collect();
    if met.is_empty() && service.spec.told_flags.is_empty() {
        return Said::Open(None);
    }
    let now = telemetry::now();
    let asks_more = met.iter().filter_map(|place| flags.gates[*place].as_ref()).any(AskedFlag::has_targeting)
        || flags.told.iter().any(ToldFlag::has_targeting);
    let (data, key) = if asks_more { (asker.data(), asker.key(service)) } else { (Value::Null, None) };
    let context = Context::new(&data, now).unwrap_or(Context::empty(now));
    let context = key.as_deref().map_or(context, |key| context.with_targeting_key(key));
    for place in met {
        let asked = flags.gates[place].as_ref().and_then(|flag| flag.ask(core.id, &context, now).as_bool());
        if !asked.unwrap_or(service.spec.gates[place].default) {
            return Said::Closed(place);
        }
    }
    let told = flags.told.iter().filter_map(|flag| flag.ask(core.id, &context, now));
    Said::Open((!service.spec.told_flags.is_empty()).then(|| object(told)))
}

impl Asker<'_> {
    fn data(&self) -> Value {
        let Parts { uri, headers, version, method, .. } = self.parts;
        let mut data = Map::new();
        let host = authority::host(uri, headers, *version).unwrap_or_default();
        for (name, text) in [("host", &*host), ("path", uri.path()), ("method", method.as_str())] {
            data.insert(name.to_owned(), Value::from(text));
        }
        Value::Object(data)
    }

    fn key(&self, service: &ServiceRef) -> Option<String> {
        sticky::key_text(service.spec.split.as_ref()?, &self.parts.headers, self.client, self.new_key)
    }
}

/// The JSON object of these members, as far as they fit.
fn object<'m>(members: impl Iterator<Item = &'m str>) -> String {
    let mut text = String::from("{");
    for member in members {
        if text.len() + member.len() + ",}".len() <= MOST_BYTES {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(member);
        }
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests;
