//! Waiting for what a test expects, up to a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks again and again until `look` sees something, and returns it.
///
/// # Panics
/// At the deadline, saying `what` did not come.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// [`until`] for something that is or is not.
///
/// # Panics
/// At the deadline, saying `what` did not come.
#[track_caller]
pub fn until_true(what: &str, deadline: Duration, mut look: impl FnMut() -> bool) {
    until(what, deadline, || look().then_some(()));
}

/// How long `act` took, and what it returned.
pub fn timed<T>(act: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let result = act();
    (began.elapsed(), result)
}
