//! Answers as Express 3 writes them: pretty-printed JSON, weak entity tags, HTML errors.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

use super::body::AppBody;
use super::zip::crc32;

/// What should become of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It is answered.
    Reply(Reply),
    /// It never is.
    Hang,
    /// The process ends, without an answer.
    Die,
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// An answer, before the headers that every answer has.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: AppBody,
}

impl Reply {
    /// An answer with a body of some type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: AppBody::Whole(body.into()) }
    }

    /// 200 with JSON, two spaces to the level.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(body) => Self::new(StatusCode::OK, "application/json; charset=utf-8", body),
            Err(error) => Self::stack_page(&format!("TypeError: {error}")),
        }
    }

    /// 200 with an error in its body, as this application reports most of them.
    pub fn error_body(problem: &str) -> Self {
        Self::json(&serde_json::json!({ "error": problem }))
    }

    /// 200 with no body.
    pub fn empty() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: AppBody::Whole(Bytes::new()) }
    }

    /// What Express says when no route matches.
    pub fn cannot(method: &Method, path: &str) -> Self {
        let body = format!("Cannot {method} {}\n", escape(path));
        Self::new(StatusCode::NOT_FOUND, "text/html; charset=utf-8", body)
    }

    /// 500 with the page of a stack trace, about 1.1 KB.
    pub fn stack_page(problem: &str) -> Self {
        let mut page =
            format!("<!DOCTYPE html>\n<html>\n<head><title>{0}</title></head>\n<body>\n<pre>{0}", escape(problem));
        for (call, place) in STACK {
            page.push_str(&format!("<br> &nbsp; &nbsp;at {call} ({place})"));
        }
        page.push_str("</pre>\n</body>\n</html>\n");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "text/html; charset=utf-8", page)
    }

    /// 200 with a body that leaves in parts, to be saved as a file.
    pub fn download(content_type: &'static str, disposition: &'static str, pieces: Vec<Bytes>) -> Self {
        let mut reply = Self::new(StatusCode::OK, content_type, Bytes::new());
        reply.body = AppBody::streamed(pieces);
        reply.with(http::header::CONTENT_DISPOSITION, HeaderValue::from_static(disposition))
    }

    /// The same answer with another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same answer with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same answer, but it breaks off half-way.
    #[must_use]
    pub fn cut(mut self) -> Self {
        if let AppBody::Whole(body) = &self.body {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        self.body = self.body.cut();
        self
    }

    /// The answer as it goes out: tagged if it is one to a GET, 304 if the client has it already.
    pub fn finish(mut self, method: &Method, request: &HeaderMap) -> Response<AppBody> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if let AppBody::Whole(body) = &self.body
            && reads
            && self.status == StatusCode::OK
            && !body.is_empty()
            && !self.headers.contains_key(ETAG)
        {
            let tag = format!("W/\"{:x}-{:x}\"", body.len(), crc32(body));
            if let Ok(tag) = HeaderValue::from_str(&tag) {
                self.headers.insert(ETAG, tag);
            }
        }
        let known = request.get(IF_NONE_MATCH).is_some_and(|tag| Some(tag) == self.headers.get(ETAG));
        if reads && known {
            self.status = StatusCode::NOT_MODIFIED;
            self.headers.remove(CONTENT_TYPE);
            self.body = AppBody::Whole(Bytes::new());
        }
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Lines under an error, made up but of the usual size.
const STACK: [(&str, &str); 10] = [
    ("exports.handler", "/srv/checkbox/server-side/site/routes/handlers.js:23:41"),
    ("callbacks", "/srv/checkbox/server-side/site/node_modules/express/lib/router/index.js:164:37"),
    ("param", "/srv/checkbox/server-side/site/node_modules/express/lib/router/index.js:138:11"),
    ("pass", "/srv/checkbox/server-side/site/node_modules/express/lib/router/index.js:145:5"),
    ("Router._dispatch", "/srv/checkbox/server-side/site/node_modules/express/lib/router/index.js:173:5"),
    ("Object.router", "/srv/checkbox/server-side/site/node_modules/express/lib/router/index.js:33:10"),
    ("next", "/srv/checkbox/server-side/site/node_modules/connect/lib/proto.js:174:15"),
    ("Object.expressInit", "/srv/checkbox/server-side/site/node_modules/express/lib/middleware.js:30:5"),
    ("IncomingMessage.onend", "/srv/checkbox/server-side/site/node_modules/body/index.js:64:9"),
    ("process._tickCallback", "internal/process/next_tick.js:68:7"),
];

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
