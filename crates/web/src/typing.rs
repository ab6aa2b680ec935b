//! A search that is typed letter by letter is one look at each patient that it shows, not one a letter.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use hilum_core::{Id, Phi, Timestamp};

use crate::limits;

/// Whose typing: session or key, and the route.
pub(crate) type Typist = ([u8; 32], &'static str);

/// One search as it grows, or is taken back.
#[derive(Debug)]
struct Series {
    text: Phi<String>,
    began: Timestamp,
    last: Timestamp,
    /// Who was written down already; `None` = that nobody was found.
    told: HashSet<Option<Id>>,
}

/// The searches that are being typed. In memory alone: what is typed may be a name.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    series: Mutex<HashMap<Typist, Series>>,
    /// Searches that were written down, by the hash of their text, whose pages may stand open.
    left_open: Mutex<HashMap<(Typist, [u8; 32]), Timestamp>>,
}

impl Typing {
    /// Of `about`, what the audit log does not say yet of the search that `typed` goes on with. A search goes on while
    /// its text grows or shrinks without a long pause, and not for ever; each patient that any of its letters showed is
    /// written down once, that nobody was found only where it is all there is to say.
    pub(crate) fn news(
        &self,
        typist: Typist,
        typed: &str,
        about: Vec<Option<Id>>,
        now: Timestamp,
    ) -> Vec<Option<Id>> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |at: Timestamp| now.micros_since(at).unsigned_abs();
        let (pause, longest) =
            (limits::AUDIT_TYPING_PAUSE.as_micros() as u64, limits::AUDIT_TYPING_LONGEST.as_micros() as u64);
        if all.len() >= limits::AUDIT_TYPING_MAX {
            all.retain(|_, series| since(series.last) < pause);
        }
        if all.len() >= limits::AUDIT_TYPING_MAX && !all.contains_key(&typist) {
            return about; // rather twice than never
        }
        let new = || Series { text: Phi::new(String::new()), began: now, last: now, told: HashSet::new() };
        let series = all.entry(typist).or_insert_with(new);
        let before = series.text.expose();
        let grows = typed.starts_with(before.as_str()) || before.starts_with(typed);
        if !grows || since(series.last) >= pause || since(series.began) >= longest {
            *series = new();
        }
        series.text = Phi::new(typed.to_owned());
        series.last = now;
        let told = &series.told;
        let is_news = |one: &Option<Id>| match one {
            None => told.is_empty(),
            Some(_) => !told.contains(one),
        };
        about.into_iter().filter(is_news).collect()
    }

    /// What was written down. Not before it is: two letters on their way at once may then say it twice, none is lost.
    pub(crate) fn told(&self, typist: Typist, about: impl Iterator<Item = Option<Id>>) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(series) = all.get_mut(&typist) else { return };
        let room = limits::AUDIT_TYPING_PATIENTS_MAX.saturating_sub(series.told.len());
        series.told.extend(about.take(room));
    }

    /// Whether this search was written down, and its page goes on to show what it finds.
    pub(crate) fn is_left_open(&self, typist: Typist, text: &str, now: Timestamp) -> bool {
        let all = self.left_open.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(typist, hash_of(text))).is_some_and(|last| is_open(*last, now))
    }

    /// This search, or a refresh of its page, was written down.
    pub(crate) fn left_open(&self, typist: Typist, text: &str, now: Timestamp) {
        let mut all = self.left_open.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= limits::AUDIT_LEFT_OPEN_MAX {
            all.retain(|_, last| is_open(*last, now));
        }
        // One that finds no room counts as a search each time: rather twice than never.
        if all.len() < limits::AUDIT_LEFT_OPEN_MAX {
            all.insert((typist, hash_of(text)), now);
        }
    }
}

fn hash_of(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn is_open(last: Timestamp, now: Timestamp) -> bool {
    now.micros_since(last).unsigned_abs() < limits::AUDIT_LEFT_OPEN.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_down_is_said_again() {
        let typing = Typing::default();
        let typist = ([0; 32], "/census");
        let (now, one) = (Timestamp::from_micros(0), Some(Id::from_bytes([1; 16])));
        assert_eq!(typing.news(typist, "KI", vec![one], now), [one]);
        // The audit log failed, and the answer did not leave.
        assert_eq!(typing.news(typist, "KIM", vec![one], now), [one]);
        typing.told(typist, [one].into_iter());
        assert_eq!(typing.news(typist, "KIM", vec![one], now), []);
    }
}
