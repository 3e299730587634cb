//! Kinds that are asked and not kept: who is this, may they do that.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::{resource::Resource, status::ApiError};
use serde_json::{Value, json};

use super::{
    call::Call,
    kind::{Kind, Strategy},
    object,
};
use crate::server::Core;

pub mod access;
pub mod rules;
pub mod token;
pub mod whoami;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        asked(access::Reviews::Local),
        asked(access::Reviews::Own),
        asked(access::Reviews::Any),
        asked(rules::Rules),
        asked(token::Tokens),
        asked(whoami::WhoAmI),
    ]
}

/// The rules of a kind that can only be created, and whose creation is a question: nothing is stored.
pub trait Review: Send + Sync + 'static {
    /// Its names; the only verb is `create`.
    fn resource(&self) -> Resource;

    /// Refuses a question that can't be answered.
    fn check(&self, _call: &Call, _review: &Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// The object, which was checked, with its answer filled in.
    fn review(
        &self,
        core: &Arc<Core>,
        call: &Call,
        review: Value,
    ) -> impl Future<Output = Result<Value, ApiError>> + Send;
}

/// An object of the kind of `review` in which nothing is left of what was asked: with it upstream answers who asks of themselves.
fn blank(review: &Value) -> Value {
    let of = |key: &str| object::text(review, &[key]);
    json!({"kind": of("kind"), "apiVersion": of("apiVersion"), "metadata": {}})
}

/// The kind that `review` answers.
#[must_use]
pub fn asked(review: impl Review) -> Kind {
    Kind::new(Asked(review))
}

struct Asked<R>(R);

impl<R: Review> Strategy for Asked<R> {
    fn resource(&self) -> Resource {
        self.0.resource()
    }

    fn check_question(&self, call: &Call, object: &Value) -> Result<(), ApiError> {
        self.0.check(call, object)
    }

    fn answer<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        object: Value,
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        Some(Box::pin(self.0.review(core, call, object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_was_asked_nothing_is_left() {
        let review = json!({"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "n"}, "spec": {"namespace": "x"}});
        assert_eq!(blank(&review), json!({"kind": "K", "apiVersion": "g/v1", "metadata": {}}));
    }
}
