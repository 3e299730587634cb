//! Schedules against the calendar.

use proptest::prelude::*;

use super::*;

fn why(text: &str) -> String {
    Schedule::parse(text).unwrap_err().to_string()
}

fn next(text: &str, after: &str, zone: &str) -> String {
    let zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::get(zone).unwrap() };
    Schedule::parse(text).unwrap().next(after.parse().unwrap(), &zone).map_or_else(String::new, |at| at.to_string())
}

#[test]
fn what_is_no_schedule_is_refused_in_upstreams_words() {
    assert_eq!(why("* * *"), "expected exactly 5 fields, found 3: [* * *]");
    assert_eq!(why("61 * * * *"), "end of range (61) above maximum (59): 61");
    assert_eq!(why("* * 0 * *"), "beginning of range (0) below minimum (1): 0");
    assert_eq!(why("5-1 * * * *"), "beginning of range (5) beyond end of range (1): 5-1");
    assert_eq!(why("1-2-3 * * * *"), "too many hyphens: 1-2-3");
    assert_eq!(why("*/2/3 * * * *"), "too many slashes: */2/3");
    assert_eq!(why("*/0 * * * *"), "step of range should be a positive number: */0");
    assert_eq!(why("a * * * *"), "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax");
    assert_eq!(why("@often"), "unrecognized descriptor: @often");
    assert_eq!(why("@every x"), "failed to parse duration @every x: time: invalid duration \"x\"");
    assert_eq!(why("TZ=Mars/Base 0 0 * * *"), "provided bad location Mars/Base: unknown time zone Mars/Base");
    assert_eq!(why("* * * * 7"), "end of range (7) above maximum (6): 7");
}

#[test]
fn the_next_time_is_found() {
    let at = "2026-01-01T10:00:00Z";
    assert_eq!(next("*/15 * * * *", at, "UTC"), "2026-01-01T10:15:00Z");
    assert_eq!(next("0 0 1 * *", at, "UTC"), "2026-02-01T00:00:00Z");
    assert_eq!(next("30 4 * * mon-fri", "2026-01-02T05:00:00Z", "UTC"), "2026-01-05T04:30:00Z");
    assert_eq!(next("0 0 29 2 *", at, "UTC"), "2028-02-29T00:00:00Z");
    assert_eq!(next("0 0 30 2 *", at, "UTC"), "");
    assert_eq!(next("@every 90m", "2026-01-01T10:00:00.5Z", "UTC"), "2026-01-01T11:30:00Z");
    assert_eq!(next("0 0 1 * sun", "2026-01-02T00:00:00Z", "UTC"), "2026-01-04T00:00:00Z");
    assert_eq!(next("TZ=Asia/Tokyo 0 9 * * *", at, "UTC"), "2026-01-02T00:00:00Z");
}

#[test]
fn clocks_that_jump_are_followed() {
    // In Berlin the hour from 2 to 3 is skipped on 29 March 2026 and repeated on 25 October 2026.
    let berlin = "Europe/Berlin";
    assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z", berlin), "2026-03-30T00:30:00Z");
    assert_eq!(next("30 2 * * *", "2026-10-24T12:00:00Z", berlin), "2026-10-25T00:30:00Z");
    assert_eq!(next("30 * * * *", "2026-10-25T00:30:00Z", berlin), "2026-10-25T01:30:00Z");
}

proptest! {
    #[test]
    fn the_next_time_is_later_and_matches(start in 1_700_000_000i64..1_900_000_000, minute in 0i8..60, hour in 0i8..24) {
        let after = Timestamp::from_second(start).unwrap();
        let schedule = Schedule::parse(&format!("{minute} {hour} * * *")).unwrap();
        let found = schedule.next(after, &TimeZone::UTC).unwrap();
        prop_assert!(found > after && found.as_second() - after.as_second() <= 86_400);
        let clock = TimeZone::UTC.to_datetime(found);
        prop_assert_eq!((clock.minute(), clock.hour(), clock.second()), (minute, hour, 0));
    }

    #[test]
    fn nothing_makes_the_parser_fall(text in "[0-9*/,a-z @=TZ-]{0,24}") {
        drop(Schedule::parse(&text));
    }
}
