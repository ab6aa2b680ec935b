//! What the settings of a topic must be, said once for the start and for `hilum doctor`.

use rdkafka::admin::ConfigResource;

use super::client::topic_bytes_max;
use super::{Durability, LogError};

/// A setting that a topic must have.
#[derive(Debug)]
pub(super) struct Demand {
    pub(super) setting: &'static str,
    wanted: Wanted,
    /// What happens otherwise.
    pub(super) or: &'static str,
}

#[derive(Debug)]
enum Wanted {
    Is(&'static str),
    AtLeast(usize),
    /// A broker that does not show it has it so.
    NotTrue,
}

impl Demand {
    const fn is(setting: &'static str, value: &'static str, or: &'static str) -> Self {
        Self { setting, wanted: Wanted::Is(value), or }
    }

    /// Whether `value` will do.
    pub(super) fn holds(&self, value: &str) -> bool {
        match self.wanted {
            Wanted::Is(wanted) => value == wanted,
            Wanted::AtLeast(least) => value.parse().is_ok_and(|has: usize| has >= least),
            Wanted::NotTrue => value != "true",
        }
    }

    /// The value to give it.
    pub(super) fn value(&self) -> String {
        match self.wanted {
            Wanted::Is(wanted) => wanted.to_owned(),
            Wanted::AtLeast(least) => least.to_string(),
            Wanted::NotTrue => "false".to_owned(),
        }
    }

    /// What it must be, for people.
    fn in_words(&self) -> String {
        let least = if matches!(self.wanted, Wanted::AtLeast(_)) { "at least " } else { "" };
        format!("{least}{}", self.value())
    }
}

/// What stands in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Records of a stream.
    Messages,
    /// Which log this is and which topics it has: see `list`.
    List,
    /// What `feed` publishes: how long it stays is for whoever reads it to say.
    Changes,
}

/// What the settings of a topic must be.
pub(super) fn demands(holds: Holds, durability: Durability) -> Vec<Demand> {
    let mut all = match holds {
        Holds::Messages => {
            let forgets = "acknowledged messages are dropped by age or size";
            let large = Wanted::AtLeast(topic_bytes_max());
            vec![
                Demand::is("cleanup.policy", "delete", "older messages of a patient are dropped"),
                Demand::is("retention.ms", "-1", forgets),
                Demand::is("retention.bytes", "-1", forgets),
                Demand { setting: "max.message.bytes", wanted: large, or: "large messages cannot be kept" },
            ]
        }
        Holds::List => {
            let forgets =
                "which log this is, and which topics it has, is dropped, and no process starts any more";
            vec![
                Demand::is("cleanup.policy", "delete", forgets),
                Demand::is("retention.ms", "-1", forgets),
                Demand::is("retention.bytes", "-1", forgets),
            ]
        }
        Holds::Changes => {
            vec![Demand::is("cleanup.policy", "delete", "of each key the last entry alone is kept")]
        }
    };
    all.extend(acknowledging(durability));
    all
}

/// An acknowledgment must mean what `durability` says.
fn acknowledging(durability: Durability) -> Vec<Demand> {
    match durability {
        Durability::Replicated => {
            let alone = "an acknowledged record may stand on one machine alone";
            let lacks = "a broker that lacks acknowledged records may lead";
            let (two, clean) = (Wanted::AtLeast(2), Wanted::NotTrue);
            vec![
                Demand { setting: "min.insync.replicas", wanted: two, or: alone },
                Demand { setting: "unclean.leader.election.enable", wanted: clean, or: lacks },
            ]
        }
        Durability::Fsync => {
            vec![Demand::is("flush.messages", "1", "an acknowledged record may stand in memory alone")]
        }
        Durability::Any => Vec::new(),
    }
}

/// A topic with its settings.
pub(super) struct Topic<'a> {
    pub(super) name: &'a str,
    pub(super) found: ConfigResource,
}

impl Topic<'_> {
    pub(super) fn value(&self, setting: &str) -> &str {
        self.found.get(setting).and_then(|entry| entry.value.as_deref()).unwrap_or_default()
    }

    /// Brokers that must have a record before it is acknowledged.
    pub(super) fn in_sync(&self) -> usize {
        self.value("min.insync.replicas").parse().unwrap_or(1)
    }

    /// # Errors
    /// [`LogError::Engine`] names the first of `demands` that it does not meet.
    pub(super) fn must(&self, demands: &[Demand]) -> Result<(), LogError> {
        let Some(missed) = demands.iter().find(|demand| !demand.holds(self.value(demand.setting))) else {
            return Ok(());
        };
        let Demand { setting, or, .. } = missed;
        let (has, wanted) = (self.value(setting), missed.in_words());
        let is_level =
            ["min.insync.replicas", "unclean.leader.election.enable", "flush.messages"].contains(setting);
        let other = if is_level {
            " (another log.durability, or for a trial --allow-weak-log, takes it as it is)"
        } else {
            ""
        };
        Err(LogError::Engine(format!(
            "topic {} has {setting}={has}; it must be {wanted}, or {or}{other}",
            self.name
        )))
    }
}

/// What an acknowledgment means when all `topics` hold the record, as [`LogHealth`](super::LogHealth) shows it; and the
/// brokers that must have one.
pub(super) fn level(topics: &[Topic<'_>]) -> (&'static str, usize) {
    let all_keep = |durability| {
        let demands = acknowledging(durability);
        topics.iter().all(|topic| topic.must(&demands).is_ok())
    };
    let level = if all_keep(Durability::Replicated) {
        "replicated"
    } else if all_keep(Durability::Fsync) {
        "fsync"
    } else {
        "one broker's memory"
    };
    (level, topics.iter().map(Topic::in_sync).max().unwrap_or(1))
}
