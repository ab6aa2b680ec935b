//! What the log keeps.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{Digest, Id, RecordId};
use crate::limits::{SOURCE_NAME_BYTES_MAX, STREAM_NAME_BYTES_MAX};
use crate::time::Timestamp;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or longer than its bound.
    #[error("name must have 1 to 64 bytes")]
    Length,
    /// A byte that a name may not have.
    #[error("name may have a-z, 0-9, '.', '_' and '-' only")]
    Byte,
}

fn check_name(raw: &str, bytes_max: usize) -> Result<(), NameError> {
    if raw.is_empty() || raw.len() > bytes_max {
        return Err(NameError::Length);
    }
    if raw.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)) {
        Ok(())
    } else {
        Err(NameError::Byte)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks `raw`: a-z, 0-9, `.`, `_`, `-`, at most 64 bytes.
            ///
            /// # Errors
            /// [`NameError`] says which rule it breaks.
            pub fn parse(raw: &str) -> Result<Self, NameError> {
                check_name(raw, $max)?;
                Ok(Self(raw.into()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(raw: &str) -> Result<Self, NameError> {
                Self::parse(raw)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(raw: String) -> Result<Self, NameError> {
                Self::parse(&raw)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name! {
    /// The name of a source of messages, as the configuration gives it.
    SourceName, SOURCE_NAME_BYTES_MAX
}

/// A stream of the log. Closed: a new stream is a new promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// HL7 v2 messages as they came in.
    #[serde(rename = "hl7.in")]
    Hl7In,
    /// Operators' decisions: merges, unmerges, identity decisions, corrections, source settings.
    #[serde(rename = "decisions")]
    Decisions,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 2] = [Self::Hl7In, Self::Decisions];

    /// The stream's name, at most [`STREAM_NAME_BYTES_MAX`] bytes.
    pub const fn as_str(self) -> &'static str {
        const { assert!(STREAM_NAME_BYTES_MAX >= 9) };
        match self {
            Self::Hl7In => "hl7.in",
            Self::Decisions => "decisions",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One life of a log: a new log under an old name has another epoch, and no projection reads on across it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub Uuid);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record's place in the log: offsets grow by one within (stream, partition), from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The stream.
    pub stream: Stream,
    /// The partition, from 0.
    pub partition: u16,
    /// The offset within the partition, from 0.
    pub offset: u64,
}

/// Prints `stream/partition/offset`, the form of `?applied=`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stream, self.partition, self.offset)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position: take stream/partition/offset as it was returned")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(raw: &str) -> Result<Self, PositionError> {
        let mut parts = raw.split('/');
        let (Some(stream), Some(partition), Some(offset), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PositionError);
        };
        Ok(Self {
            stream: Stream::ALL.into_iter().find(|s| s.as_str() == stream).ok_or(PositionError)?,
            partition: partition.parse().map_err(|_| PositionError)?,
            offset: offset.parse().map_err(|_| PositionError)?,
        })
    }
}

/// What the bytes of a record are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContentType {
    /// One HL7 v2 message in the bytes that came in, in the sender's charset.
    #[serde(rename = "application/hl7-v2")]
    Hl7v2,
    /// One HL7 v2 message that came as JSON text: UTF-8 whatever MSH-18 says.
    #[serde(rename = "application/hl7-v2; charset=utf-8")]
    Hl7v2Unicode,
    /// One operator's decision as JSON, its `type` inside.
    #[serde(rename = "application/vnd.hilum.decision+json")]
    Decision,
}

/// One record of the log, version 1: the bytes and everything that was known when they came in. Its stored form is
/// the header as JSON (this struct without `body`) beside the bytes; all versions are read for ever.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The version of this form: 1.
    pub v: u8,
    /// The record's id, by the time of receipt.
    pub id: RecordId,
    /// The stream.
    pub stream: Stream,
    /// The source it came from.
    pub source: SourceName,
    /// The digest of the source's settings that applied; the settings themselves stand in the table of settings.
    pub settings_sha: Digest,
    /// When the last byte was here.
    pub received: Timestamp,
    /// The peer's address; absent for files and decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The digest of `body`.
    pub digest: Digest,
    /// The partition key: keyed hash of facility and patient, never the number itself.
    pub key: Id,
    /// What `body` is.
    pub content_type: ContentType,
    /// The rule that decided the charset, as `hl7v2::charset` names it; absent for what is no HL7 v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset_rule: Option<String>,
    /// The record that this one corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<RecordId>,
    /// The key that `body` is encrypted with; absent while bodies stand in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_key: Option<u32>,
    /// W3C trace context (`traceparent`): of the step that put it into the log where traces are told, else what the
    /// sender said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The bytes as they came in.
    #[serde(skip)]
    pub body: Bytes,
}

impl Envelope {
    /// The current version of the stored form.
    pub const VERSION: u8 = 1;
}

/// Prints no byte of the body and no peer.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("id", &self.id)
            .field("stream", &self.stream)
            .field("source", &self.source)
            .field("size_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
