//! What the topics of a log are called.

use hilum_core::Stream;
use rdkafka::error::RDKafkaErrorCode;

use super::promise::Holds;
use super::{LogError, trouble};
use crate::limits;

/// What a topic is called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    hl7_in: String,
    decisions: String,
    /// What stands in it: see `list`.
    pub(super) identity: String,
    pub(super) changes: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, LogError> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if prefix.is_empty() || prefix.len() > limits::KAFKA_PREFIX_BYTES_MAX || !prefix.bytes().all(is_name)
        {
            return Err(LogError::Engine(format!(
                "the topics' prefix must have 1 to {} letters, digits, `.`, `_` or `-`",
                limits::KAFKA_PREFIX_BYTES_MAX
            )));
        }
        let of = |stream: Stream| format!("{prefix}.{stream}");
        Ok(Self {
            prefix: prefix.to_owned(),
            hl7_in: of(Stream::Hl7In),
            decisions: of(Stream::Decisions),
            identity: format!("{prefix}.log"),
            changes: format!("{prefix}.chart.changes"),
        })
    }

    pub(super) fn topic(&self, stream: Stream) -> &str {
        match stream {
            Stream::Hl7In => &self.hl7_in,
            Stream::Decisions => &self.decisions,
        }
    }

    /// All of them, for people.
    pub(super) fn all(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// Which right is missing, when a broker does not let us: `right` on `topic`, or the one that every consumer needs.
    pub(super) fn denied(&self, code: Option<RDKafkaErrorCode>, right: &str, topic: &str) -> Option<String> {
        let of_group = format!("Describe on group {}", self.prefix);
        trouble::denied(code, &format!("{right} on topic {topic}"), &of_group)
    }

    /// The topic of a source that has one of its own.
    pub(super) fn of_source(&self, source: &str) -> String {
        format!("{}.{source}", self.hl7_in)
    }

    /// Whether a topic is called as one of a source.
    pub(super) fn is_of_source(&self, topic: &str) -> bool {
        let source = topic.strip_prefix(&self.hl7_in).and_then(|rest| rest.strip_prefix('.'));
        source.is_some_and(|source| !source.is_empty())
    }

    /// What stands in a topic that is called so; absent for one that is no part of the log.
    pub(super) fn holds(&self, topic: &str) -> Option<Holds> {
        if topic == self.identity {
            return Some(Holds::List);
        }
        let is_of_stream = self.of_streams().any(|one| one == topic) || self.is_of_source(topic);
        is_of_stream.then_some(Holds::Messages)
    }

    pub(super) fn of_streams(&self) -> impl Iterator<Item = &str> {
        Stream::ALL.into_iter().map(|stream| self.topic(stream))
    }
}
