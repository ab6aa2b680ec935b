//! The sources of messages: which one a message comes from, and how each does.
//!
//! A source is matched by listener, then client certificate, then API key, then peer; else it is `default`, which
//! works unconfigured.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hilum_core::{Digest, SourceName, Timestamp};
use hilum_hl7v2::CharsetSettings;
use serde::{Deserialize, Serialize};

use self::rate::{AckHistogram, Rate};
use self::state::Sum;
pub use self::state::{SourceHealth, SourceReport, SourceState, summed};
use crate::settings::SourceSettings;

mod rate;
mod state;

/// The name of the source that is there unconfigured.
pub const DEFAULT: &str = "default";

/// A range of peer addresses: `10.1.0.0/16`, `2001:db8::/32` or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no network: write 10.1.2.3 or 10.1.0.0/16")]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(raw: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(raw.to_owned());
        let (base, bits) = match raw.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (raw, None),
        };
        let base = base.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let bits_max = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(bits_max);
        if bits > bits_max { Err(wrong()) } else { Ok(Self { base, bits }) }
    }
}

impl Network {
    /// Whether both are the same network, however each is written: what stands behind the prefix does not count.
    fn is_same(&self, other: &Self) -> bool {
        self.bits == other.bits && self.contains(other.base)
    }

    /// Whether `address` lies in the network; an IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let cut = width - u32::from(self.bits);
            cut == width || (a >> cut) == (b >> cut)
        };
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                if self.bits == 0 {
                    return true;
                }
                same(u128::from(a), u128::from(b), 128)
            }
            _ => false,
        }
    }
}

/// By what a source is known. A client certificate gets its list here when the doors speak TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceMatch {
    /// Names of MLLP listeners.
    pub listeners: Vec<String>,
    /// Names of API keys.
    pub keys: Vec<String>,
    /// Peer addresses and networks.
    pub peers: Vec<String>,
}

/// What is known of a connection or request when its source is looked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Came<'a> {
    /// The MLLP listener; absent for HTTP and files.
    pub listener: Option<&'a str>,
    /// The API key's name.
    pub key: Option<&'a str>,
    /// The peer's address.
    pub peer: Option<IpAddr>,
}

/// What is wrong with the configured sources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourcesError {
    /// A name that no source can have.
    #[error("sources.{0}: a name has a-z, 0-9, '.', '_' and '-' only, at most 64 bytes")]
    Name(String),
    /// A peer that is no network.
    #[error("sources.{source_name}.match.peers: {why}")]
    Peer {
        /// The source.
        source_name: String,
        /// What is wrong.
        why: NetworkError,
    },
    /// Two sources claim the same listener, key or network.
    #[error("sources.{second}.match.{by}s: source `{first}` matches {by} `{value}` too: only one can")]
    Twice {
        /// The first source.
        first: String,
        /// The second.
        second: String,
        /// `listener`, `key` or `peer`.
        by: &'static str,
        /// What both match.
        value: String,
    },
    /// A setting that cannot be.
    #[error("sources.{source_name}.{why}")]
    Setting {
        /// The source.
        source_name: String,
        /// What is wrong.
        why: String,
    },
}

/// One source: its settings and how it does.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    settings: SourceSettings,
    settings_sha: Digest,
    configured: bool,
    /// Whether its silence means something: the configuration names it, or names no other.
    expected: bool,
    peers: Vec<Network>,
    /// Why nothing of it is taken.
    shut: OnceLock<String>,
    live: Live,
}

impl Source {
    /// Its name.
    pub const fn name(&self) -> &SourceName {
        &self.name
    }

    /// Its settings.
    pub const fn settings(&self) -> &SourceSettings {
        &self.settings
    }

    /// The digest of its settings, as envelopes carry it.
    pub const fn settings_sha(&self) -> Digest {
        self.settings_sha
    }

    /// Takes nothing of it until the process is started anew: each message is answered as its `on_transient` says.
    pub fn shut(&self, why: String) {
        self.shut.get_or_init(|| why);
    }

    /// Why nothing of it is taken; `None` while it is.
    pub fn is_shut(&self) -> Option<&str> {
        self.shut.get().map(String::as_str)
    }

    /// A message was kept and answered.
    pub fn told(&self, told: Told, received: Timestamp, acked: Timestamp) {
        self.live.told(told, received, acked);
    }

    /// A message was kept whose own time lies that far ahead of its receipt: its sender's clock or zone is wrong.
    pub fn clock_ahead(&self, seconds: i64, received: Timestamp) {
        self.live.clock_ahead(seconds, received);
    }

    /// A message could not be kept for a reason of ours.
    pub fn failed(&self, at: Timestamp) {
        self.live.failed(at);
    }

    /// A message was refused that was not even read to its end.
    pub fn refused_unread(&self) {
        self.live.refused_unread();
    }

    /// What the tables know of the time before this process: the last message.
    pub fn seed(&self, last_received: Timestamp) {
        self.live.seed(last_received);
    }

    /// A connection was opened; it counts until the guard is dropped.
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.live.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    /// What this process knows of it at `now`.
    pub fn report(&self, now: Timestamp) -> SourceReport {
        let live = &self.live;
        SourceReport {
            name: self.name.clone(),
            configured: self.configured,
            expected: self.expected,
            started: live.started,
            at: now,
            connections: live.connections.load(Ordering::Relaxed),
            accepted: live.accepted.load(Ordering::Relaxed),
            refused: live.refused.load(Ordering::Relaxed),
            faults: live.faults.load(Ordering::Relaxed),
            last_received: live.last(&live.last_received),
            last_kept: live.last(&live.last_kept),
            last_fault: live.last(&live.last_fault),
            by_second: live.rate.by_second(now),
            ack_p50_us: live.ack_times.quantile(0.5),
            ack_p99_us: live.ack_times.quantile(0.99),
            silence_alarm_s: self.settings.silence_alarm_s,
            clock_ahead_s: live.last(&live.last_ahead).map(|_| live.ahead_s.load(Ordering::Relaxed)),
            last_clock_ahead: live.last(&live.last_ahead),
        }
    }

    /// How it does at `now`, as far as this process knows.
    pub fn state(&self, now: Timestamp) -> SourceState {
        let mut sum = Sum::default();
        sum.add(&self.report(now), true, now);
        sum.state(self.name.clone(), now)
    }
}

/// What a source's figures are told after each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Kept and taken.
    Accepted,
    /// Kept and refused.
    Refused,
}

/// Live figures of one source.
#[derive(Debug)]
struct Live {
    started: Timestamp,
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    faults: AtomicU64,
    last_received: AtomicI64,
    last_kept: AtomicI64,
    last_fault: AtomicI64,
    /// How far ahead the clock was in the last message of which it was.
    ahead_s: AtomicI64,
    last_ahead: AtomicI64,
    rate: Rate,
    ack_times: AckHistogram,
    accepted_total: metrics::Counter,
    refused_total: metrics::Counter,
    faults_total: metrics::Counter,
}

const NEVER: i64 = i64::MIN;

impl Live {
    fn new(name: &str, started: Timestamp) -> Self {
        let counter = |outcome: &'static str| metrics::counter!("hilum_messages_total", "source" => name.to_owned(), "outcome" => outcome);
        Self {
            accepted_total: counter("accepted"),
            refused_total: counter("refused"),
            faults_total: counter("not-kept"),
            started,
            connections: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            last_received: AtomicI64::new(NEVER),
            last_kept: AtomicI64::new(NEVER),
            last_fault: AtomicI64::new(NEVER),
            ahead_s: AtomicI64::new(0),
            last_ahead: AtomicI64::new(NEVER),
            rate: Rate::default(),
            ack_times: AckHistogram::default(),
        }
    }

    #[allow(clippy::unused_self)]
    fn last(&self, at: &AtomicI64) -> Option<Timestamp> {
        match at.load(Ordering::Relaxed) {
            NEVER => None,
            micros => Some(Timestamp::from_micros(micros)),
        }
    }

    /// A message was refused that was not even read to its end.
    fn refused_unread(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.refused_total.increment(1);
    }

    /// A message was kept and answered.
    fn told(&self, told: Told, received: Timestamp, acked: Timestamp) {
        match told {
            Told::Accepted => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                self.accepted_total.increment(1);
            }
            Told::Refused => self.refused_unread(),
        }
        self.last_received.fetch_max(received.as_micros(), Ordering::Relaxed);
        self.last_kept.fetch_max(acked.as_micros(), Ordering::Relaxed);
        self.rate.count(received);
        self.ack_times.count(acked.micros_since(received).max(0).unsigned_abs());
    }

    /// A message could not be kept for a reason of ours.
    fn failed(&self, at: Timestamp) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        self.faults_total.increment(1);
        self.last_fault.fetch_max(at.as_micros(), Ordering::Relaxed);
    }

    fn clock_ahead(&self, seconds: i64, received: Timestamp) {
        let before = self.last_ahead.fetch_max(received.as_micros(), Ordering::Relaxed);
        // The most of the day: a little later does not make it less.
        if before == NEVER || received.as_micros().saturating_sub(before) > state::CLOCK_ALARM_S * 1_000_000 {
            self.ahead_s.store(seconds, Ordering::Relaxed);
        } else {
            self.ahead_s.fetch_max(seconds, Ordering::Relaxed);
        }
    }

    /// What the tables know of the time before this process: the last message.
    fn seed(&self, last_received: Timestamp) {
        self.last_received.fetch_max(last_received.as_micros(), Ordering::Relaxed);
    }
}

/// One open connection of a source.
#[derive(Debug)]
pub struct Connected(Arc<Source>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.live.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All sources of the installation.
#[derive(Debug)]
pub struct Sources {
    by_name: BTreeMap<SourceName, Arc<Source>>,
    by_listener: BTreeMap<String, Arc<Source>>,
    by_key: BTreeMap<String, Arc<Source>>,
    by_peer: Vec<(Network, Arc<Source>)>,
    default: Arc<Source>,
}

impl Sources {
    /// The sources that the configuration names, and `default`. Of networks that lie in one another the narrowest counts
    /// (a hospital's 10.0.0.0/8, one machine of it another source); the same network of two sources is refused.
    ///
    /// # Errors
    /// [`SourcesError`] names the source and what is wrong with it.
    pub fn new(
        configured: impl IntoIterator<Item = (String, SourceMatch, SourceSettings)>,
        started: Timestamp,
    ) -> Result<Self, SourcesError> {
        let mut by_name = BTreeMap::new();
        let mut by_listener: BTreeMap<String, Arc<Source>> = BTreeMap::new();
        let mut by_key: BTreeMap<String, Arc<Source>> = BTreeMap::new();
        let mut by_peer: Vec<(Network, Arc<Source>)> = Vec::new();
        for (raw_name, rules, settings) in configured {
            let name = SourceName::parse(&raw_name).map_err(|_| SourcesError::Name(raw_name.clone()))?;
            check(&settings).map_err(|why| SourcesError::Setting { source_name: raw_name.clone(), why })?;
            let mut peers = Vec::new();
            for peer in &rules.peers {
                let network = peer
                    .parse::<Network>()
                    .map_err(|why| SourcesError::Peer { source_name: raw_name.clone(), why })?;
                peers.push(network);
            }
            let source = Arc::new(Source {
                name: name.clone(),
                settings_sha: settings.sha(),
                settings,
                configured: true,
                expected: true,
                peers,
                shut: OnceLock::new(),
                live: Live::new(&raw_name, started),
            });
            for (by, values, index) in
                [("listener", &rules.listeners, &mut by_listener), ("key", &rules.keys, &mut by_key)]
            {
                for value in values {
                    if let Some(first) = index.insert(value.clone(), Arc::clone(&source)) {
                        return Err(SourcesError::Twice {
                            first: first.name.to_string(),
                            second: raw_name,
                            by,
                            value: value.clone(),
                        });
                    }
                }
            }
            for (network, value) in source.peers.iter().zip(&rules.peers) {
                let same = by_peer.iter().find(|(other, first)| other.is_same(network) && first.name != name);
                if let Some((_, first)) = same {
                    return Err(SourcesError::Twice {
                        first: first.name.to_string(),
                        second: raw_name,
                        by: "peer",
                        value: value.clone(),
                    });
                }
                by_peer.push((*network, Arc::clone(&source)));
            }
            by_name.insert(name, source);
        }
        by_peer.sort_by_key(|(network, _)| std::cmp::Reverse(network.bits));
        let default_name = SourceName::parse(DEFAULT).expect("a constant that keeps the rule");
        let is_alone = by_name.is_empty();
        let default = by_name
            .entry(default_name.clone())
            .or_insert_with(|| {
                let settings = SourceSettings::default();
                Arc::new(Source {
                    name: default_name,
                    settings_sha: settings.sha(),
                    settings,
                    configured: false,
                    expected: is_alone,
                    peers: Vec::new(),
                    shut: OnceLock::new(),
                    live: Live::new(DEFAULT, started),
                })
            })
            .clone();
        Ok(Self { by_name, by_listener, by_key, by_peer, default })
    }

    /// The source that a message comes from.
    pub fn find(&self, came: &Came<'_>) -> &Arc<Source> {
        came.listener
            .and_then(|listener| self.by_listener.get(listener))
            .or_else(|| came.key.and_then(|key| self.by_key.get(key)))
            .or_else(|| {
                let peer = came.peer?;
                self.by_peer.iter().find(|(network, _)| network.contains(peer)).map(|(_, source)| source)
            })
            .unwrap_or(&self.default)
    }

    /// A source by name.
    pub fn get(&self, name: &str) -> Option<&Arc<Source>> {
        SourceName::parse(name).ok().and_then(|name| self.by_name.get(&name))
    }

    /// The source that takes what no other one does.
    pub const fn default_source(&self) -> &Arc<Source> {
        &self.default
    }

    /// All sources, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.by_name.values()
    }

    /// What this process knows of all sources at `now`, by name.
    pub fn reports(&self, now: Timestamp) -> Vec<SourceReport> {
        self.all().map(|source| source.report(now)).collect()
    }

    /// How all sources do, by name, as far as this process knows.
    pub fn states(&self, now: Timestamp) -> Vec<SourceState> {
        self.all().map(|source| source.state(now)).collect()
    }
}

/// Settings that are well formed but cannot be: found at the start, not with the first message.
fn check(settings: &SourceSettings) -> Result<(), String> {
    if jiff::tz::TimeZone::get(&settings.zone).is_err() {
        return Err(format!("zone: `{}` is no IANA time zone (write Asia/Seoul)", settings.zone));
    }
    CharsetSettings::new(settings.charset.as_deref(), None).map_err(|why| format!("charset: {why}"))?;
    CharsetSettings::new(None, settings.charset_fallback.as_deref())
        .map_err(|why| format!("charset_fallback: {why}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    fn three() -> Sources {
        let source = |name: &str, listeners: &[&str], keys: &[&str], peers: &[&str]| {
            let rules = SourceMatch { listeners: words(listeners), keys: words(keys), peers: words(peers) };
            (name.to_owned(), rules, SourceSettings::default())
        };
        Sources::new(
            [
                source("ed", &["ed"], &[], &["10.1.0.0/16"]),
                source("lab", &[], &["lab-feed"], &["10.1.2.0/24", "2001:db8::/32"]),
                source("icu", &[], &[], &["0.0.0.0/0"]),
            ],
            at(0),
        )
        .expect("valid")
    }

    #[test]
    fn a_source_is_matched_in_the_order_listener_key_peer() {
        let sources = three();
        let ip = |raw: &str| raw.parse().ok();
        let cases = [
            ("listener before peer", Came { listener: Some("ed"), key: None, peer: ip("10.1.2.3") }, "ed"),
            ("key before peer", Came { listener: None, key: Some("lab-feed"), peer: ip("9.9.9.9") }, "lab"),
            ("longest prefix", Came { peer: ip("10.1.2.3"), ..Came::default() }, "lab"),
            ("shorter prefix", Came { peer: ip("10.1.3.3"), ..Came::default() }, "ed"),
            ("mapped IPv4", Came { peer: ip("::ffff:10.1.3.3"), ..Came::default() }, "ed"),
            ("IPv6", Came { peer: ip("2001:db8::5"), ..Came::default() }, "lab"),
            ("IPv6 elsewhere", Came { peer: ip("2001:db9::5"), ..Came::default() }, "default"),
            ("everything", Came { peer: ip("192.0.2.1"), ..Came::default() }, "icu"),
            ("another listener", Came { listener: Some("x"), ..Came::default() }, "default"),
            ("nothing known", Came::default(), "default"),
        ];
        for (why, came, want) in cases {
            assert_eq!(sources.find(&came).name().as_str(), want, "{why}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let cases = [
            ("name", "ED", SourceMatch::default(), SourceSettings::default(), "sources.ED: "),
            (
                "peer",
                "ed",
                SourceMatch { peers: words(&["10.1.0.0/33"]), ..SourceMatch::default() },
                SourceSettings::default(),
                "`10.1.0.0/33` is no address",
            ),
            (
                "zone",
                "ed",
                SourceMatch::default(),
                SourceSettings { zone: "Asia/Soul".to_owned(), ..SourceSettings::default() },
                "sources.ed.zone: `Asia/Soul`",
            ),
        ];
        for (why, name, rules, settings, want) in cases {
            let error = Sources::new([(name.to_owned(), rules, settings)], at(0)).expect_err(why).to_string();
            assert!(error.contains(want), "{why}: {error}");
        }
        let source = |name: &str, keys: &[&str], peers: &[&str]| {
            let rules = SourceMatch { keys: words(keys), peers: words(peers), ..SourceMatch::default() };
            (name.to_owned(), rules, SourceSettings::default())
        };
        let twice = [
            (
                "key",
                [source("a", &["k"], &[]), source("b", &["k"], &[])],
                "keys: source `a` matches key `k` too",
            ),
            (
                "network",
                [source("a", &[], &["10.1.0.0/16"]), source("b", &[], &["192.0.2.1", "10.1.0.0/16"])],
                "peers: source `a` matches peer `10.1.0.0/16` too",
            ),
            (
                "the same network in other words",
                [source("a", &[], &["10.1.0.0/16"]), source("b", &[], &["10.1.7.7/16"])],
                "peers: source `a` matches peer `10.1.7.7/16` too",
            ),
            (
                "one address, mapped",
                [source("a", &[], &["192.0.2.1"]), source("b", &[], &["::ffff:192.0.2.1"])],
                "peers: source `a` matches peer `::ffff:192.0.2.1` too",
            ),
            (
                "everything",
                [source("a", &[], &["::/0"]), source("b", &[], &["2001:db8::/0"])],
                "peers: source `a` matches peer `2001:db8::/0` too",
            ),
        ];
        for (why, two, want) in twice {
            let error = Sources::new(two, at(0)).expect_err(why).to_string();
            assert!(error.contains(&format!("sources.b.match.{want}")), "{why}: {error}");
        }
        let one = source("a", &[], &["10.1.0.0/16", "10.1.2.0/16"]);
        assert!(Sources::new([one], at(0)).is_ok(), "twice in one source says nothing new");
    }

    #[test]
    fn health_tells_silence_from_faults_from_no_use() {
        let sources = three();
        let ed = sources.get("ed").expect("configured");
        assert_eq!(ed.state(at(10)).health, SourceHealth::Live, "just started");
        assert_eq!(ed.state(at(601)).health, SourceHealth::Silent, "configured and never heard of");
        assert_eq!(sources.default_source().state(at(9_999)).health, SourceHealth::Unused);
        let alone = Sources::new([], at(0)).expect("nothing configured");
        assert_eq!(alone.default_source().state(at(9_999)).health, SourceHealth::Silent, "it is the feed");
        ed.told(Told::Accepted, at(700), at(700).plus_micros(900));
        assert_eq!(ed.state(at(1_300)).health, SourceHealth::Live);
        assert_eq!(ed.state(at(1_301)).health, SourceHealth::Silent);
        ed.failed(at(1_302));
        assert_eq!(ed.state(at(1_302)).health, SourceHealth::Failing);
        ed.told(Told::Refused, at(1_303), at(1_303).plus_micros(900));
        let state = ed.state(at(1_303));
        assert_eq!(
            (state.health, state.accepted, state.refused, state.faults),
            (SourceHealth::Live, 1, 1, 1)
        );
        assert_eq!(state.per_minute, 1);
        ed.failed(at(1_303).plus_micros(500));
        assert_eq!(
            ed.state(at(1_304)).health,
            SourceHealth::Live,
            "it waited, and was kept behind the fault"
        );
        assert!((900..=1_100).contains(&state.ack_p50_us.expect("two answers")), "{state:?}");
        assert_eq!(state.clock_ahead_s, None);
        ed.clock_ahead(3_600, at(1_304));
        assert_eq!(ed.state(at(1_305)).clock_ahead_s, Some(3_600));
        ed.clock_ahead(1_200, at(1_306));
        assert_eq!(ed.state(at(1_307)).clock_ahead_s, Some(3_600), "the most of the day");
        assert_eq!(ed.state(at(1_307 + 24 * 3_600)).clock_ahead_s, None, "a day later it is right again");
    }
}
