//! What `hilum doctor` finds at engines on other machines: each look opens a connection of its own, changes nothing, and
//! ends in bounded time.

use std::time::Duration;

use hilum_core::Timestamp;

/// What is to be done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// Nothing.
    Fine,
    /// Somebody should look.
    Look,
    /// It must be mended.
    Mend,
}

/// One finding at an engine, without any row's or record's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// What is to be done.
    pub grade: Grade,
    /// Where it was found.
    pub about: String,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing is.
    pub remedy: String,
}

impl Noted {
    pub(crate) fn fine(about: &str, found: impl Into<String>) -> Self {
        Self { grade: Grade::Fine, about: about.to_owned(), found: found.into(), remedy: String::new() }
    }

    pub(crate) fn look(about: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Look, remedy: remedy.into(), ..Self::fine(about, found) }
    }

    pub(crate) fn mend(about: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Mend, remedy: remedy.into(), ..Self::fine(about, found) }
    }
}

/// How far two clocks may be apart: somebody should look beyond the first, and mend beyond the second.
const APART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What a clock of `who` says that was read between `asked` and `answered` of ours.
pub(crate) fn clocks(
    about: &str,
    who: &str,
    theirs: Timestamp,
    asked: Timestamp,
    answered: Timestamp,
) -> Noted {
    let unsure_us = answered.micros_since(asked).max(0) / 2;
    let ahead_us = theirs.micros_since(asked) - unsure_us;
    let apart = Duration::from_micros(ahead_us.unsigned_abs().saturating_sub(unsure_us.unsigned_abs()));
    let (ahead_s, unsure_s) = (ahead_us as f64 / 1e6, unsure_us as f64 / 1e6);
    let found = format!("the clock of {who} is {ahead_s:+.3} s from this machine's (± {unsure_s:.3} s)");
    let remedy = "keep the clocks of all machines by NTP";
    if apart > APART.1 {
        Noted::mend(about, found, remedy)
    } else if apart > APART.0 {
        Noted::look(about, found, remedy)
    } else {
        Noted::fine(about, found)
    }
}

/// What is free of a volume that can be seen from here.
pub(crate) fn volume(about: &str, what: &str, free_bytes: u64, size_bytes: u64) -> Noted {
    let found = format!("{} MiB free of {} MiB on the volume of {what}", free_bytes >> 20, size_bytes >> 20);
    let reserve = (size_bytes as f64 * crate::limits::DISK_RESERVE_RATIO) as u64;
    if free_bytes < reserve {
        Noted::mend(about, found, "make room: a server whose volume is full stops")
    } else if free_bytes < 2 * reserve {
        Noted::look(about, found, "make room soon")
    } else {
        Noted::fine(about, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_as_far_apart_as_can_be_known() {
        let at = |ms: i64| Timestamp::from_micros(1_800_000_000_000_000 + ms * 1_000);
        let cases = [
            ("the same", 0, 0, Grade::Fine),
            ("within a second", 900, 2, Grade::Fine),
            ("ahead", 1_500, 2, Grade::Look),
            ("behind", -1_500, 2, Grade::Look),
            ("far ahead", 6_000, 2, Grade::Mend),
            ("far behind", -3_600_000, 2, Grade::Mend),
            ("a slow answer says little", 3_000, 6_000, Grade::Fine),
        ];
        for (why, theirs, answered, want) in cases {
            assert_eq!(clocks("x", "x", at(theirs), at(0), at(answered)).grade, want, "{why}");
        }
    }

    #[test]
    fn a_volume_is_full_before_nothing_is_left() {
        for (free, want) in [(50, Grade::Fine), (8, Grade::Look), (4, Grade::Mend)] {
            assert_eq!(volume("x", "x", free << 20, 100 << 20).grade, want, "{free}");
        }
    }
}
