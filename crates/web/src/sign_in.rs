//! How often somebody may try: failed sign-ins by account and peer, and by peer alone. In memory and bounded: a
//! restart forgets it, which costs an attacker nothing that the password's length does not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use hilum_core::Timestamp;

use crate::limits;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Peer(Option<IpAddr>),
    Both(Option<IpAddr>, String),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    last: Timestamp,
    /// The one before the last.
    before: Timestamp,
}

/// Failed sign-ins.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<Who, Count>>);

const WAIT_MAX_MICROS: i64 = limits::SIGN_IN_WAIT_MAX.as_micros() as i64;

fn wait_micros(count: Count, free: u32) -> i64 {
    if count.failures < free {
        return 0;
    }
    let doubled = (count.failures - free).min(16);
    let wait = (limits::SIGN_IN_WAIT_FIRST.as_micros() as i64).saturating_mul(1 << doubled);
    wait.min(WAIT_MAX_MICROS)
}

impl Failures {
    /// Seconds that this account from this peer must wait; `None` = it may try now.
    pub fn must_wait_s(&self, peer: Option<IpAddr>, account: &str, now: Timestamp) -> Option<u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = [
            (Who::Peer(peer), limits::SIGN_IN_PEER_FAILURES_FREE),
            (Who::Both(peer, account.to_owned()), limits::SIGN_IN_FAILURES_FREE),
        ];
        let left = entries
            .into_iter()
            .filter_map(|(who, free)| {
                let count = counts.get(&who)?;
                Some(wait_micros(*count, free) - now.micros_since(count.last))
            })
            .max()?;
        (left > 0).then(|| (left as u64).div_ceil(1_000_000))
    }

    /// Counts a failure.
    pub fn failed(&self, peer: Option<IpAddr>, account: &str, now: Timestamp) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() + 2 > limits::SIGN_IN_ENTRIES_MAX {
            counts.retain(|_, count| now.micros_since(count.last) < WAIT_MAX_MICROS);
        }
        if counts.len() + 2 > limits::SIGN_IN_ENTRIES_MAX {
            let mut last: Vec<_> = counts.values().map(|count| count.last).collect();
            last.sort_unstable();
            let middle = last.get(last.len() / 2).copied().unwrap_or(now);
            counts.retain(|_, count| count.last > middle);
        }
        for who in [Who::Peer(peer), Who::Both(peer, account.to_owned())] {
            let count = counts.entry(who).or_insert(Count { failures: 0, last: now, before: now });
            // After a long rest it begins again.
            if now.micros_since(count.last) > 2 * WAIT_MAX_MICROS {
                count.failures = 0;
            }
            count.failures = count.failures.saturating_add(1);
            count.before = count.last;
            count.last = now;
        }
    }

    /// Forgets an account's failures after it signed in, and of its peer's the one that was counted beforehand: many
    /// people may come from one address.
    pub fn succeeded(&self, peer: Option<IpAddr>, account: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&Who::Both(peer, account.to_owned()));
        if let Some(count) = counts.get_mut(&Who::Peer(peer)) {
            count.failures = count.failures.saturating_sub(1);
            count.last = count.before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_signs_in_rightly_holds_up_nobody() {
        let (failures, now) = (Failures::default(), Timestamp::from_micros(1_000_000_000_000));
        for n in 0..limits::SIGN_IN_PEER_FAILURES_FREE + 10 {
            let account = format!("nurse{n}");
            assert_eq!(failures.must_wait_s(None, &account, now), None, "after {n} good ones");
            failures.failed(None, &account, now);
            failures.succeeded(None, &account);
        }
        assert_eq!(failures.must_wait_s(None, "nurse", now), None);
    }

    #[test]
    fn a_right_one_between_them_does_not_pardon_the_wrong_ones() {
        let (failures, start) = (Failures::default(), Timestamp::from_micros(1_000_000_000_000));
        for n in 0..limits::SIGN_IN_PEER_FAILURES_FREE {
            failures.failed(None, &format!("guess{n}"), start);
            failures.failed(None, "own", start);
            failures.succeeded(None, "own");
        }
        let first = limits::SIGN_IN_WAIT_FIRST.as_secs();
        assert_eq!(failures.must_wait_s(None, "own", start), Some(first));
        // Nor does it begin the wait anew.
        let later = start.plus_micros(limits::SIGN_IN_WAIT_FIRST.as_micros() as i64);
        failures.failed(None, "own", later);
        failures.succeeded(None, "own");
        assert_eq!(failures.must_wait_s(None, "own", later), None);
    }
}
