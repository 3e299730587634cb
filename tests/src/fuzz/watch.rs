//! Runs a target on many inputs and tells on which it panicked or took too long.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use super::{
    Target, corpus,
    mutate::{Numbers, mutate},
};

/// An input of a few kilobytes that takes longer than this would stop a server's thread when it is sent often.
const SLOW: Duration = Duration::from_secs(5);

/// How much is run.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// So many mutations of each example.
    Each(usize),
    /// Until this time has passed.
    For(Duration),
}

/// An input that a target doesn't bear.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// Which target.
    pub target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// It panicked, or was slow.
    pub what: String,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} on b\"{}\"", self.target, self.what, self.input.escape_ascii())
    }
}

/// Runs the examples of `target` and mutations of them by `seed`; how many inputs that were, or the first that failed.
///
/// # Errors
/// The input on which the target panicked or was slow.
pub fn run(target: Target, amount: Amount, seed: u64) -> Result<usize, Found> {
    let examples: Vec<Vec<u8>> = corpus(target).unwrap_or_default().into_iter().map(|(_, bytes)| bytes).collect();
    let fail = |input: &[u8], what: String| Found { target: target.name, input: input.to_vec(), what };
    if examples.is_empty() {
        return Err(fail(b"", "has no examples".to_owned()));
    }
    let current = Arc::new(Mutex::new((Vec::new(), Instant::now())));
    let (done, ended) = mpsc::channel();
    let shared = Arc::clone(&current);
    std::thread::spawn(move || {
        let result = all(target, &examples, amount, seed, &shared);
        // Nobody listens any more when an input before was slow.
        done.send(result).ok();
    });
    loop {
        match ended.recv_timeout(Duration::from_millis(500)) {
            Ok(Ok(count)) => return Ok(count),
            Ok(Err(what)) => {
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                return Err(fail(&current.0, what));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(fail(b"", "ended without a word".to_owned())),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                if current.1.elapsed() > SLOW {
                    return Err(fail(&current.0, format!("took longer than {SLOW:?}")));
                }
            }
        }
    }
}

type Current = Mutex<(Vec<u8>, Instant)>;

fn all(target: Target, examples: &[Vec<u8>], amount: Amount, seed: u64, current: &Current) -> Result<usize, String> {
    let mut numbers = Numbers::new(seed);
    let (begun, mut count) = (Instant::now(), 0);
    for example in examples {
        one(target, example.clone(), current)?;
        count += 1;
    }
    loop {
        for (at, example) in examples.iter().enumerate() {
            let other = examples.get((at + count) % examples.len().max(1)).map(Vec::as_slice).unwrap_or_default();
            one(target, mutate(example, other, &mut numbers), current)?;
            count += 1;
        }
        let enough = match amount {
            Amount::Each(times) => count >= examples.len() * (times + 1),
            Amount::For(time) => begun.elapsed() >= time,
        };
        if enough {
            return Ok(count);
        }
    }
}

fn one(target: Target, input: Vec<u8>, current: &Current) -> Result<(), String> {
    *current.lock().unwrap_or_else(PoisonError::into_inner) = (input.clone(), Instant::now());
    catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).map_err(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("panicked: {why}")
    })
}
