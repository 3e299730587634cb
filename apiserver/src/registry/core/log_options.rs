//! What a client may ask of a log, checked before the pod is looked for.

use martello_api::{
    schema::canonical_time,
    status::{ApiError, Cause},
};
use serde_json::json;

use crate::{
    http::query::Query,
    registry::{options::number, validation::field::NOWHERE},
};

/// Checks what is asked of the log of the pod `name`.
pub(super) fn check(query: &Query, name: &str) -> Result<(), ApiError> {
    // What can't be read is told in the order of the fields.
    let since = number(query, "sinceSeconds")?;
    moment(query.get("sinceTime"))?;
    let (tail, limit) = (number(query, "tailLines")?, number(query, "limitBytes")?);
    let mut causes = Vec::new();
    let mut above = |key: &str, given: Option<i64>, least: i64, why: &str| {
        if let Some(own) = given.filter(|own| *own < least) {
            causes.push(Cause::invalid(key, &json!(own), why));
        }
    };
    above("tailLines", tail, 0, "must be greater than or equal to 0");
    above("limitBytes", limit, 1, "must be greater than 0");
    let both = since.is_some() && query.has("sinceTime");
    if !both {
        above("sinceSeconds", since, 1, "must be greater than 0");
    }
    if both {
        causes.push(Cause::forbidden(NOWHERE, "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    // It needs a feature that is off.
    if query.has("stream") {
        causes.push(Cause::forbidden("stream", "may not be specified"));
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid("", "PodLogOptions", name, causes)) }
}

/// Refuses what is no time. Old clients write `null` for none.
fn moment(text: &str) -> Result<(), ApiError> {
    if matches!(text, "" | "null") {
        return Ok(());
    }
    canonical_time(text, false).map(drop).map_err(ApiError::bad_request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_of_log_is_a_number_in_its_bounds() {
        let fault = |query: &str| check(&Query::parse(query), "p").err().map(|error| error.message);
        assert_eq!(fault("tailLines=0&limitBytes=1&sinceSeconds=1"), None);
        assert_eq!(
            fault("tailLines=-1&limitBytes=0&sinceSeconds=0").unwrap(),
            "PodLogOptions \"p\" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, \
             limitBytes: Invalid value: 0: must be greater than 0, sinceSeconds: Invalid value: 0: must be greater than 0]"
        );
        assert_eq!(
            fault("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z").unwrap(),
            "PodLogOptions \"p\" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        );
        assert_eq!(
            fault("stream=All").unwrap(),
            "PodLogOptions \"p\" is invalid: stream: Forbidden: may not be specified"
        );
        assert_eq!(fault("tailLines=x").unwrap(), "strconv.ParseInt: parsing \"x\": invalid syntax");
    }

    #[test]
    fn since_when_is_a_time_or_none() {
        let fault = |query: &str| check(&Query::parse(query), "p").err().map(|error| error.message);
        for fine in ["sinceTime=", "sinceTime=null", "sinceTime=2026-01-01T00:00:00.5%2B01:00"] {
            assert_eq!(fault(fine), None, "{fine}");
        }
        let no_time = "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"";
        assert_eq!(fault("tailLines=y&sinceTime=x").unwrap(), no_time);
        assert!(fault("sinceSeconds=1&sinceTime=").unwrap().contains("at most one of"));
    }
}
