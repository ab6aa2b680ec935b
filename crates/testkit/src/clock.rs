//! The machine's clock, for tests beside real servers that have their own.

use std::time::{SystemTime, UNIX_EPOCH};

use hilum_core::{Clock, Timestamp};

/// The machine's clock.
#[allow(clippy::disallowed_methods)] // the wiring of a test
pub fn system() -> Clock {
    Clock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    })
}
