//! What an application asks: the body of an evaluation, read and checked.

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

use super::super::Admin;
use super::super::body::{self, LIMIT};
use super::super::problem::Problem;
use super::answer::Wrong;
use crate::model::flag::{Context, ErrorCode};
use crate::model::time::Timestamp;

/// About whom an application asks, or what is wrong with its question. Whoever asks too often, or
/// can't be read at all, doesn't come this far.
#[derive(Debug)]
pub(in super::super) struct Question(Result<Value, Wrong>);

impl Question {
    /// The context of the evaluation.
    pub(super) fn context(&self, now: Timestamp) -> Result<Context<'_>, Wrong> {
        let data = self.0.as_ref().map_err(Wrong::clone)?;
        Context::new(data, now).map_err(Wrong::from)
    }

    /// Reads a body. What newer versions of the protocol add is passed over, and no context at all is an
    /// empty one: nothing is known of whom it is about.
    fn parse(body: &[u8]) -> Self {
        let asked = serde_json::from_slice::<Map<String, Value>>(body);
        let wrong = |error| Wrong::new(ErrorCode::ParseError, format!("in the body: {error}"));
        Self(asked.map(|mut asked| asked.remove("context").unwrap_or_default()).map_err(wrong))
    }
}

impl FromRequest<Admin> for Question {
    type Rejection = Problem;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, Problem> {
        // Before the body is read: who asks too often shall cost nothing.
        admin.ofrep.admit(1)?;
        Ok(Self::parse(&body::read(request, LIMIT).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(0);

    #[test]
    fn a_question_without_a_context_is_about_nobody() {
        for body in ["{}", r#"{"context":null}"#, r#"{"context":{},"cache":true}"#] {
            let question = Question::parse(body.as_bytes());
            assert_eq!(question.context(NOW).expect(body).targeting_key(), None, "{body}");
        }
    }

    #[test]
    fn a_question_that_makes_no_sense_says_where_or_why() {
        let deep = format!(r#"{{"context":{{"a":{}1{}}}}}"#, "[".repeat(200), "]".repeat(200));
        for (body, code, says) in [
            ("", ErrorCode::ParseError, "EOF"),
            ("[]", ErrorCode::ParseError, "in the body"),
            (r#"{"context":{"a":}"#, ErrorCode::ParseError, "line 1 column 17"),
            (r#"{"context":{"a":1e999}}"#, ErrorCode::ParseError, "out of range"),
            (deep.as_str(), ErrorCode::ParseError, "recursion limit"),
            (r#"{"context":[]}"#, ErrorCode::InvalidContext, "no JSON object"),
            (r#"{"context":{"targetingKey":7}}"#, ErrorCode::InvalidContext, "targetingKey"),
        ] {
            let question = Question::parse(body.as_bytes());
            let wrong = question.context(NOW).expect_err(body);
            assert_eq!(wrong.code, code, "{wrong:?}");
            assert!(wrong.details.contains(says), "{wrong:?}");
        }
    }
}
