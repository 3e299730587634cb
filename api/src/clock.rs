//! The one place where the wall clock is read; everything else takes the time as a parameter.

use jiff::Timestamp;

/// The current time.
#[allow(clippy::disallowed_methods, reason = "this is the clock module")]
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// `time` as Kubernetes writes `metav1.Time`: RFC 3339, UTC, whole seconds.
#[must_use]
pub fn rfc3339_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `time` as Kubernetes writes `metav1.MicroTime`: RFC 3339, UTC, six digits of microseconds.
#[must_use]
pub fn rfc3339_micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_kubernetes_writes_them() {
        let time: Timestamp = "2026-03-04T05:06:07.891234Z".parse().unwrap();
        assert_eq!(rfc3339_seconds(time), "2026-03-04T05:06:07Z");
        assert_eq!(rfc3339_micros(time), "2026-03-04T05:06:07.891234Z");
    }
}
