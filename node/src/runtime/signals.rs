//! Names of signals, as specs and images write them.

use nix::sys::signal::Signal;

/// What asks a container to stop where neither its spec nor its image say.
pub const DEFAULT: i32 = Signal::SIGTERM as i32;

/// The first and the last real-time signal, as the C library that programs are built with counts them.
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

/// The number of `SIGUSR1`, `USR1`, `10`, `SIGRTMIN+3`, `SIGRTMAX-1`; nothing if that's no signal.
#[must_use]
pub fn number(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=LAST_REAL_TIME).contains(&number).then_some(number);
    }
    let bare = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(FIRST_REAL_TIME),
        (_, Some("")) => Some(LAST_REAL_TIME),
        (Some(more), _) => FIRST_REAL_TIME.checked_add(digits(more.strip_prefix('+')?)?),
        (_, Some(less)) => LAST_REAL_TIME.checked_sub(digits(less.strip_prefix('-')?)?),
        (None, None) => None,
    };
    if let Some(number) = real_time {
        return (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number).then_some(number);
    }
    // Second names of some.
    let bare = match bare {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    format!("SIG{bare}").parse::<Signal>().ok().map(|signal| signal as i32)
}

fn digits(text: &str) -> Option<i32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_each_of_their_names() {
        for (name, expected) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("SIGQUIT", 3),
            ("SIGWINCH", 28),
            ("SIGPOLL", 29),
            ("SIGIOT", 6),
            ("SIGCLD", 17),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-14", 50),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        for name in ["", "0", "65", "-1", "SIG", "SIGNONE", "SIGRTMIN+31", "SIGRTMIN+-1", "SIGRTMAX+1", "SIGRTMINX"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
