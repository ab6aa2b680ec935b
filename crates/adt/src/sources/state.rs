//! How a source does: what each gateway says of it, and the sum. It is silent only when no gateway heard from it, and
//! that is not known while one of them gives no sign of life.

use std::collections::BTreeMap;

use hilum_core::{SourceName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::view::as_optional_text;

/// Seconds for which a clock that was ahead is told of: what it sent stands in the chart in a wrong order.
pub(super) const CLOCK_ALARM_S: i64 = 24 * 3_600;
/// Seconds of which the rate is told one by one.
const SECONDS: usize = 60;

/// How a source does, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceHealth {
    /// Messages come in.
    Live,
    /// Nothing came for longer than its `silence_alarm_s`.
    Silent,
    /// The last thing that happened was a fault: a message could not be kept.
    Failing,
    /// No gateway that reports has heard from it, and one does not report.
    Unknown,
    /// Not in the configuration, and nothing came yet.
    Unused,
}

/// What one gateway knows of a source: counts since it started. Kept as JSON between processes: fields may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    /// Its name.
    pub name: SourceName,
    /// Whether that gateway's configuration names it.
    pub configured: bool,
    /// Whether its silence means something: the configuration names it, or names no other.
    #[serde(default)]
    pub expected: bool,
    /// Since when it listens.
    pub started: Timestamp,
    /// When it said so.
    pub at: Timestamp,
    /// Open MLLP connections.
    pub connections: u64,
    /// Messages acknowledged with AA or CA (or kept without an answer, as asked).
    pub accepted: u64,
    /// Messages kept and answered AR or CR.
    pub refused: u64,
    /// Messages that could not be kept for a reason of ours.
    pub faults: u64,
    /// When the last message was here.
    pub last_received: Option<Timestamp>,
    /// When the last message was kept and answered: one that waits is older than faults that came meanwhile.
    #[serde(default)]
    pub last_kept: Option<Timestamp>,
    /// When the last fault was.
    pub last_fault: Option<Timestamp>,
    /// Messages by second of the last minute, oldest first.
    pub by_second: Vec<u64>,
    /// Median time from the last byte to the answer, in microseconds; absent before the first.
    pub ack_p50_us: Option<u64>,
    /// 99th percentile of the same.
    pub ack_p99_us: Option<u64>,
    /// After how many seconds of silence it counts as silent; 0 = never.
    pub silence_alarm_s: u32,
    /// By how many seconds the own time of the last such message lay ahead of its receipt; absent when none did.
    #[serde(default)]
    pub clock_ahead_s: Option<i64>,
    /// When that was.
    #[serde(default)]
    pub last_clock_ahead: Option<Timestamp>,
}

/// How a source does: counts since each gateway started, over all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// Its name.
    pub name: SourceName,
    /// In one word.
    pub health: SourceHealth,
    /// Whether a configuration names it.
    pub configured: bool,
    /// Open MLLP connections.
    pub connections: u64,
    /// Messages acknowledged with AA or CA (or kept without an answer, as asked).
    pub accepted: u64,
    /// Messages kept and answered AR or CR.
    pub refused: u64,
    /// Messages that could not be kept for a reason of ours.
    pub faults: u64,
    /// When the last message was here.
    #[serde(serialize_with = "as_optional_text")]
    pub last_received: Option<Timestamp>,
    /// When the last fault was.
    #[serde(serialize_with = "as_optional_text")]
    pub last_fault: Option<Timestamp>,
    /// Messages in the last 60 seconds.
    pub per_minute: u64,
    /// Median time from the last byte to the answer, in microseconds, at the slowest gateway; absent before the first.
    pub ack_p50_us: Option<u64>,
    /// 99th percentile of the same.
    pub ack_p99_us: Option<u64>,
    /// After how many seconds of silence it counts as silent; 0 = never.
    pub silence_alarm_s: u32,
    /// By how many seconds its clock is ahead of ours, by a message of the last day; absent when it is right.
    pub clock_ahead_s: Option<i64>,
    /// Messages by second of the last minute, oldest first.
    #[serde(skip)]
    pub by_second: Vec<u64>,
}

/// Reports of one source, added up.
#[derive(Debug, Default)]
pub(super) struct Sum {
    configured: bool,
    expected: bool,
    clock_ahead: Option<(Timestamp, i64)>,
    connections: u64,
    accepted: u64,
    refused: u64,
    faults: u64,
    last_received: Option<Timestamp>,
    last_kept: Option<Timestamp>,
    last_fault: Option<Timestamp>,
    /// Of gateways that report.
    last_heard: Option<Timestamp>,
    /// Since when the first of them listens.
    listening: Option<Timestamp>,
    by_second: Vec<u64>,
    ack_p50_us: Option<u64>,
    ack_p99_us: Option<u64>,
    silence_alarm_s: u32,
    /// Whether a gateway does not report.
    is_missing: bool,
}

impl Sum {
    /// Adds what a gateway says, or said last when it `reports` no more.
    pub(super) fn add(&mut self, report: &SourceReport, reports: bool, now: Timestamp) {
        self.configured |= report.configured;
        self.expected |= report.expected;
        self.clock_ahead = self.clock_ahead.max(report.last_clock_ahead.zip(report.clock_ahead_s));
        self.accepted += report.accepted;
        self.refused += report.refused;
        self.faults += report.faults;
        self.last_received = self.last_received.max(report.last_received);
        // What a process knew before it was started anew is its receipt alone.
        self.last_kept = self.last_kept.max(report.last_kept).max(report.last_received);
        self.last_fault = self.last_fault.max(report.last_fault);
        self.silence_alarm_s = self.silence_alarm_s.max(report.silence_alarm_s);
        if reports {
            self.connections += report.connections;
            self.last_heard = self.last_heard.max(report.last_received);
            self.listening = Some(self.listening.map_or(report.started, |before| before.min(report.started)));
            self.ack_p50_us = self.ack_p50_us.max(report.ack_p50_us);
            self.ack_p99_us = self.ack_p99_us.max(report.ack_p99_us);
        }
        // What was said some seconds ago is older by as much.
        let ago_s = usize::try_from(now.micros_since(report.at).max(0) / 1_000_000).unwrap_or(SECONDS);
        self.by_second.resize(SECONDS, 0);
        for (slot, count) in self.by_second.iter_mut().zip(report.by_second.iter().skip(ago_s)) {
            *slot += count;
        }
    }

    fn health(&self, now: Timestamp) -> SourceHealth {
        let is_after = |fault| self.last_kept.is_none_or(|kept| fault >= kept);
        if self.last_fault.is_some_and(is_after) {
            return SourceHealth::Failing;
        }
        if self.last_received.is_none() && !self.configured && !self.expected {
            return SourceHealth::Unused;
        }
        let alarm_us = i64::from(self.silence_alarm_s) * 1_000_000;
        match self.last_heard.or(self.listening) {
            None => SourceHealth::Unknown,
            Some(since) if alarm_us == 0 || now.micros_since(since) <= alarm_us => SourceHealth::Live,
            Some(_) if self.is_missing => SourceHealth::Unknown,
            Some(_) => SourceHealth::Silent,
        }
    }

    pub(super) fn state(self, name: SourceName, now: Timestamp) -> SourceState {
        SourceState {
            name,
            health: self.health(now),
            configured: self.configured,
            connections: self.connections,
            accepted: self.accepted,
            refused: self.refused,
            faults: self.faults,
            last_received: self.last_received,
            last_fault: self.last_fault,
            per_minute: self.by_second.iter().sum(),
            ack_p50_us: self.ack_p50_us,
            ack_p99_us: self.ack_p99_us,
            silence_alarm_s: self.silence_alarm_s,
            clock_ahead_s: self
                .clock_ahead
                .filter(|(at, _)| now.micros_since(*at) <= CLOCK_ALARM_S * 1_000_000)
                .map(|(_, seconds)| seconds),
            by_second: self.by_second,
        }
    }
}

/// How the sources do by what all gateways say: `(reports, whether it still reports)` of each. A source that is only
/// `known` by its name, because nobody says anything of it, is listed too.
pub fn summed<'a>(
    gateways: impl IntoIterator<Item = (&'a [SourceReport], bool)>,
    known: impl IntoIterator<Item = (SourceName, bool)>,
    now: Timestamp,
) -> Vec<SourceState> {
    let mut sums: BTreeMap<SourceName, Sum> = BTreeMap::new();
    for (name, configured) in known {
        sums.entry(name).or_default().configured = configured;
    }
    let mut is_missing = false;
    for (said, reports) in gateways {
        is_missing |= !reports;
        for report in said {
            sums.entry(report.name.clone()).or_default().add(report, reports, now);
        }
    }
    let states = sums.into_iter().map(|(name, sum)| Sum { is_missing, ..sum }.state(name, now));
    states.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// What one gateway says, and whether it still reports.
    type Gateway<'a> = (&'a [SourceReport], bool);

    fn said(last: Option<i64>, started: i64, when: i64) -> Vec<SourceReport> {
        let mut by_second = vec![0; SECONDS];
        by_second[SECONDS - 1] = 3;
        vec![SourceReport {
            name: SourceName::parse("ed").unwrap(),
            configured: true,
            expected: true,
            started: at(started),
            at: at(when),
            connections: 2,
            accepted: 10,
            refused: 1,
            faults: 0,
            last_received: last.map(at),
            last_kept: None,
            last_fault: None,
            by_second,
            ack_p50_us: Some(100),
            ack_p99_us: Some(200),
            silence_alarm_s: 600,
            clock_ahead_s: None,
            last_clock_ahead: None,
        }]
    }

    #[test]
    fn a_source_is_silent_when_no_gateway_hears_it_and_unknown_when_one_is_missing() {
        use SourceHealth::{Failing, Live, Silent, Unknown};
        let (fresh, old, never) =
            (said(Some(9_900), 0, 9_998), said(Some(9_000), 0, 9_998), said(None, 0, 9_998));
        let young = said(None, 9_990, 9_998);
        let mut failed = fresh.clone();
        failed[0].last_fault = Some(at(9_950));
        let cases: [(&str, Vec<Gateway<'_>>, SourceHealth); 10] = [
            ("one hears it", vec![(&fresh, true), (&old, true)], Live),
            ("nobody hears it", vec![(&old, true), (&never, true)], Silent),
            ("one just began, the other heard it long ago", vec![(&old, true), (&young, true)], Silent),
            ("nobody ever heard it, one listens for long", vec![(&never, true), (&young, true)], Silent),
            ("just begun", vec![(&young, true)], Live),
            ("one hears it, another is missing", vec![(&fresh, true), (&old, false)], Live),
            ("nobody hears it, another is missing", vec![(&old, true), (&never, false)], Unknown),
            ("who heard it is missing", vec![(&never, true), (&fresh, false)], Unknown),
            ("nobody reports", vec![(&fresh, false)], Unknown),
            ("the last thing was a fault", vec![(&failed, true), (&old, true)], Failing),
        ];
        for (why, gateways, want) in cases {
            let states = summed(gateways, [], at(10_000));
            assert_eq!(states.iter().map(|one| one.health).collect::<Vec<_>>(), [want], "{why}");
        }
        let alone = summed([], [(SourceName::parse("ed").unwrap(), true)], at(10_000));
        assert_eq!(alone[0].health, Unknown, "no gateway at all");
    }

    #[test]
    fn figures_add_up_and_seconds_stay_where_they_were() {
        let (one, other) = (said(Some(9_999), 0, 10_000), said(Some(9_990), 0, 9_990));
        let state = summed([(&one[..], true), (&other[..], true)], [], at(10_000)).remove(0);
        assert_eq!((state.accepted, state.refused, state.connections, state.per_minute), (20, 2, 4, 6));
        assert_eq!((state.by_second[SECONDS - 1], state.by_second[SECONDS - 11]), (3, 3));
        assert_eq!(state.last_received, Some(at(9_999)));
        let gone = summed([(&one[..], true), (&other[..], false)], [], at(10_000)).remove(0);
        assert_eq!(
            (gone.accepted, gone.connections),
            (20, 2),
            "what was is counted, what is open is not known"
        );
    }
}
