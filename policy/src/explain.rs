//! Why a request is decided as it is: every policy that could concern it, and what each says.

use martello_api::attributes::Attributes;
use serde::Serialize;

use crate::{Authorizer, Decision, authorizer::Answer};

/// A decision and how it came about.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// What decided, or the refusal's message.
    pub reason: String,
    /// What would have allowed a request that is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The policies that speak of the user in that scope, in the order in which they are asked.
    pub considered: Vec<Considered>,
}

/// A policy that was looked at.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// Its identifier.
    pub policy: String,
    /// Its text in Cedar.
    pub text: String,
    /// `allows`, `forbids`, `says nothing`, or the error that makes the request denied.
    pub answer: String,
}

impl Authorizer {
    /// Decides a request and says how. Slower than [`Authorizer::authorize`]: every policy that speaks of the user is asked.
    #[must_use]
    pub fn explain(&self, attributes: &Attributes) -> Explanation {
        let considered = self.ask_all(attributes).into_iter().map(|(policy, text, answer)| {
            let answer = match answer {
                Answer::Allows(_) => "allows".to_owned(),
                Answer::Forbids(_) => "forbids".to_owned(),
                Answer::Silent => "says nothing".to_owned(),
                Answer::Broken(what) => format!("fails, which denies: {what}"),
            };
            Considered { policy, text, answer }
        });
        let considered = considered.collect();
        match self.authorize(attributes) {
            Decision::Allow(permit) => {
                let reason = format!("{} (policy {:?})", permit.reason(), permit.reason().policy_id());
                Explanation { allowed: true, reason, hint: None, considered }
            }
            Decision::Deny(denial) => {
                Explanation { allowed: false, reason: denial.message(), hint: Some(denial.hint()), considered }
            }
        }
    }
}
