//! Corrections of messages that were set aside (quarantined or refused). The log is never changed: a correction is a
//! new record that `replaces` the old one. One that changes who or where (PID, PV1, MRG, AL1) needs a reason and a
//! second person; until then it waits in a table of its own.

use bytes::Bytes;
use hilum_core::{ContentType, Digest, Envelope, Id, Kind, Position, RecordId, Timestamp};
use hilum_engines::log::Record;
use hilum_engines::tables::{Batch, Expect, Read, Row, Tables, Value, Write};
use hilum_hl7v2::{EditError, Message};

use crate::accept;
use crate::settings::SourceSettings;
use crate::tables::CORRECTION;
use crate::view::ViewError;
use crate::view::journey::lines_of;

/// The segments whose change needs a reason and a second person.
pub const WATCHED: [&str; 4] = ["PID", "PV1", "MRG", "AL1"];

/// What stands in the log, as an editor shows it.
#[derive(Debug)]
pub struct Original {
    /// The record.
    pub record: Record,
    /// The settings that its envelope names.
    pub settings: SourceSettings,
    /// Its text, one segment in a line.
    pub text: String,
    /// Whether all of its bytes could be decoded: else the text has U+FFFD in it.
    pub is_whole: bool,
    parsed: Option<Message>,
}

impl Original {
    /// Reads a record for an editor.
    pub fn of(record: Record, settings: SourceSettings) -> Self {
        let envelope = &record.envelope;
        let judgement = accept::judge(&envelope.body, envelope.content_type, &settings);
        let parsed = judgement.parsed.ok();
        let (text, is_whole) = match &parsed {
            Some(message) => (message.to_text().text.into_owned(), true),
            None => match std::str::from_utf8(&envelope.body) {
                Ok(text) => (text.to_owned(), true),
                Err(_) => (String::from_utf8_lossy(&envelope.body).into_owned(), false),
            },
        };
        let text = lines_of(&text);
        Self { record, settings, text, is_whole, parsed }
    }

    /// The watched segments that `text` changes, adds or takes away.
    pub fn watched(&self, text: &str) -> Vec<&'static str> {
        let text = lines_of(text);
        let of = |text: &str, name: &str| {
            text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<String>>()
        };
        let changed: Vec<_> =
            WATCHED.into_iter().filter(|name| of(&self.text, name) != of(&text, name)).collect();
        if !changed.is_empty() {
            return changed;
        }
        // Other delimiters, or another order, make the same lines say something else.
        let order = |text: &str| {
            text.lines()
                .filter_map(|line| line.get(..3))
                .filter(|name| WATCHED.contains(name))
                .collect::<String>()
        };
        let delimiters =
            |text: &str| text.lines().next().map(|line| line.chars().take(9).collect::<String>());
        let is_same = order(&self.text) == order(&text)
            && (self.parsed.is_none() || delimiters(&self.text) == delimiters(&text));
        if is_same { Vec::new() } else { WATCHED.to_vec() }
    }

    /// The bytes that `text` becomes: in the message's own charset where that can hold it, else as Unicode.
    ///
    /// # Errors
    /// [`Problem`]: nothing can be replayed.
    pub fn edited(&self, text: &str) -> Result<(Bytes, ContentType), Problem> {
        let envelope = &self.record.envelope;
        let text = lines_of(text);
        if text == self.text {
            return Ok((envelope.body.clone(), envelope.content_type));
        }
        if text.trim().is_empty() {
            return Err(Problem::Empty);
        }
        if text.contains('\u{FFFD}') && !self.is_whole {
            return Err(Problem::Undecoded);
        }
        if let Some(message) = &self.parsed {
            match message.with_text(&text) {
                Ok(message) => return Ok((message.bytes().clone(), envelope.content_type)),
                Err(EditError::Broken(error)) => return Err(Problem::Unreadable(error.rule())),
                Err(EditError::NotRepresentable | EditError::NoSegment | EditError::NotAField) => {}
            }
        }
        let body = Bytes::from(format!("{}\r", text.replace('\n', "\r")));
        let settings = accept::charset_settings(&self.settings, ContentType::Hl7v2Unicode);
        match Message::parse(body.clone(), &settings) {
            Ok(_) => Ok((body, ContentType::Hl7v2Unicode)),
            Err(error) => Err(Problem::Unreadable(error.rule())),
        }
    }
}

/// Why a text cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is nothing left.
    #[error("nothing is left of the message")]
    Empty,
    /// It still has signs that stand for bytes that could not be decoded.
    #[error("bytes that were not decoded are still in it")]
    Undecoded,
    /// It is no message.
    #[error("it cannot be read as a message: {0}")]
    Unreadable(&'static str),
}

/// A correction that waits, or that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Correction {
    /// The record to be corrected.
    pub message: Id,
    /// Whether it was made.
    pub is_released: bool,
    /// The text as written.
    pub draft: String,
    /// Why.
    pub reason: String,
    /// Who wrote it.
    pub editor: String,
    /// When.
    pub created: Timestamp,
    /// Who released it.
    pub released_by: Option<String>,
    /// The correction in the log.
    pub record: Option<Id>,
    /// The commit that wrote it.
    t: hilum_core::Seq,
}

/// Prints no text.
impl std::fmt::Debug for Correction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correction").field("message", &self.message).finish_non_exhaustive()
    }
}

fn of_row(row: &Row) -> Option<Correction> {
    let [message, state, draft, reason, editor, created, released_by, record] = row.values.as_slice() else {
        return None;
    };
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let id = |value: &Value| match value {
        Value::Id(id) => Some(*id),
        _ => None,
    };
    Some(Correction {
        message: id(message)?,
        is_released: text(state)? == "released",
        draft: match draft {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => return None,
        },
        reason: text(reason)?,
        editor: text(editor)?,
        created: match created {
            Value::Time(at) => *at,
            _ => return None,
        },
        released_by: text(released_by),
        record: id(record),
        t: row.t,
    })
}

/// The correction of a message, if there is one.
///
/// # Errors
/// The engine's.
pub async fn find(tables: &Tables, message: Id) -> Result<Option<Correction>, ViewError> {
    let read = Read::Get { table: CORRECTION.name, key: vec![Value::Id(message)] };
    let found = tables.read(&[read]).await?;
    Ok(found.first().and_then(|rows| rows.first()).and_then(of_row))
}

/// Corrections that wait for a second person, oldest first.
///
/// # Errors
/// The engine's.
pub async fn pending(tables: &Tables, limit: u32) -> Result<Vec<Correction>, ViewError> {
    let prefix = vec![Value::Text("pending".to_owned())];
    let scan = hilum_engines::tables::Scan {
        limit,
        ..hilum_engines::tables::Scan::by_index(CORRECTION.name, "by_state", prefix)
    };
    let found = tables.read(&[Read::Scan(scan)]).await?;
    Ok(found.iter().flatten().filter_map(of_row).collect())
}

/// What stands under the message now: what a write is based on.
fn expects(message: Id, before: Option<&Correction>) -> Expect {
    Expect { table: CORRECTION.name, key: vec![Value::Id(message)], t: before.map(|before| before.t) }
}

fn put(correction: &Correction) -> Write {
    let optional = |text: &Option<String>| text.clone().map_or(Value::Null, Value::Text);
    let state = if correction.is_released { "released" } else { "pending" };
    Write::Put {
        table: CORRECTION.name,
        values: vec![
            Value::Id(correction.message),
            Value::Text(state.to_owned()),
            Value::Bytes(Bytes::from(correction.draft.clone())),
            Value::Text(correction.reason.clone()),
            Value::Text(correction.editor.clone()),
            Value::Time(correction.created),
            optional(&correction.released_by),
            correction.record.map_or(Value::Null, Value::Id),
        ],
    }
}

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The text.
    pub draft: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Keeps a correction until a second person releases it; one that waited before is replaced.
///
/// # Errors
/// [`Kind::Conflict`] when another was made meanwhile, else the engine's.
pub async fn keep(
    tables: &Tables,
    message: Id,
    before: Option<&Correction>,
    asked: Asked,
) -> Result<(), ViewError> {
    let correction = Correction {
        message,
        is_released: false,
        draft: asked.draft,
        reason: asked.reason,
        editor: asked.by,
        created: asked.at,
        released_by: None,
        record: None,
        t: hilum_core::Seq::default(),
    };
    let (expects, writes) = (vec![expects(message, before)], vec![put(&correction)]);
    tables.commit(Batch { expects, writes, ..Batch::default() }).await?;
    Ok(())
}

/// Drops a correction that waits.
///
/// # Errors
/// [`Kind::Conflict`] when it changed meanwhile, else the engine's.
pub async fn drop_pending(tables: &Tables, correction: &Correction) -> Result<(), ViewError> {
    let key = vec![Value::Id(correction.message)];
    let writes = vec![Write::Delete { table: CORRECTION.name, key }];
    let expects = vec![expects(correction.message, Some(correction))];
    tables.commit(Batch { expects, writes, ..Batch::default() }).await?;
    Ok(())
}

/// Makes a correction: claims the message, so that two people cannot correct it twice, then appends.
///
/// # Errors
/// [`Kind::Conflict`] when somebody else was first; the log's: then nothing was made.
pub async fn make(
    room: &crate::routes::Room,
    original: &Original,
    before: Option<&Correction>,
    asked: Asked,
    (body, content_type): (Bytes, ContentType),
) -> Result<(RecordId, Position), ViewError> {
    let old = &original.record.envelope;
    let record = room.entropy.record_id(asked.at);
    let message = old.id.as_id();
    let waited = before.filter(|before| !before.is_released && before.draft == asked.draft);
    let correction = Correction {
        message,
        is_released: true,
        draft: asked.draft,
        reason: asked.reason,
        editor: waited.map_or_else(|| asked.by.clone(), |waited| waited.editor.clone()),
        created: asked.at,
        released_by: waited.map(|_| asked.by.clone()),
        record: Some(record.as_id()),
        t: hilum_core::Seq::default(),
    };
    let (claim, writes) = (vec![expects(message, before)], vec![put(&correction)]);
    let t = room.tables.commit(Batch { expects: claim, writes, ..Batch::default() }).await?;
    // A source's settings as they apply now: a message is replayed because they were wrong, often.
    let source = room.sources.get(old.source.as_str());
    let settings_sha = source.map_or(old.settings_sha, |source| source.settings_sha());
    let settings = source.map_or(&original.settings, |source| source.settings());
    let charset_rule = accept::judge(&body, content_type, settings).charset_rule().map(str::to_owned);
    let envelope = Envelope {
        v: Envelope::VERSION,
        id: record,
        stream: old.stream,
        source: old.source.clone(),
        settings_sha,
        received: asked.at,
        peer: None,
        digest: Digest::of(&body),
        key: old.key,
        content_type,
        charset_rule,
        replaces: Some(old.id),
        cipher_key: None,
        trace: None,
        body,
    };
    // Both stand in one partition, whatever topic the source has by now.
    match room.log.append_beside(original.record.position, envelope).await {
        Ok(position) => Ok((record, position)),
        Err(error) => {
            // Nothing was kept: the claim is taken back, so that it can be tried again.
            let key = vec![Value::Id(message)];
            let expects = vec![Expect { table: CORRECTION.name, key: key.clone(), t: Some(t) }];
            let writes = vec![match before {
                Some(before) => put(before),
                None => Write::Delete { table: CORRECTION.name, key },
            }];
            room.tables.commit(Batch { expects, writes, ..Batch::default() }).await?;
            Err(error.into())
        }
    }
}

/// Whether an error says that somebody else was first.
pub fn is_conflict(error: &ViewError) -> bool {
    error.kind() == Kind::Conflict
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use hilum_core::{SourceName, Stream};

    use super::*;

    fn original(body: &[u8]) -> Original {
        let envelope = Envelope {
            v: Envelope::VERSION,
            id: RecordId::new(Timestamp::from_micros(0), [1; 10]),
            stream: Stream::Hl7In,
            source: SourceName::parse("default").unwrap(),
            settings_sha: SourceSettings::default().sha(),
            received: Timestamp::from_micros(0),
            peer: None,
            digest: Digest::of(body),
            key: Id::from_bytes([1; 16]),
            content_type: ContentType::Hl7v2,
            charset_rule: None,
            replaces: None,
            cipher_key: None,
            trace: None,
            body: Bytes::copy_from_slice(body),
        };
        let position = Position { stream: Stream::Hl7In, partition: 0, offset: 0 };
        let record = Record { position, durable: None, envelope: Arc::new(envelope) };
        Original::of(record, SourceSettings::default())
    }

    const RAW: &str =
        "MSH|^~\\&|A|B|C|D|20260301||ADT^A01|1|P|2.5\rEVN|A01|20260301\rPID|1||1^^^H^MR||Kim^Min\r";

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let one = original(RAW.as_bytes());
        assert_eq!(one.edited(&one.text).unwrap().0, RAW.as_bytes());
        // A browser sends CRLF.
        assert_eq!(one.edited(&one.text.replace('\n', "\r\n")).unwrap().0, RAW.as_bytes());
        assert!(one.watched(&one.text).is_empty());
    }

    #[test]
    fn an_edit_changes_its_own_bytes_alone() {
        let one = original(RAW.as_bytes());
        let (body, kind) = one.edited(&one.text.replace("EVN|A01|20260301", "EVN|A01|20260302")).unwrap();
        assert_eq!(body, RAW.replace("EVN|A01|20260301", "EVN|A01|20260302").as_bytes());
        assert_eq!(kind, ContentType::Hl7v2);
    }

    #[test]
    fn who_and_where_need_a_second_person() {
        let one = original(RAW.as_bytes());
        let cases = [
            ("event", one.text.replace("EVN|A01", "EVN|A02"), vec![]),
            ("name", one.text.replace("Kim", "Lim"), vec!["PID"]),
            ("delimiters", one.text.replace("^~\\&", "~^\\&"), WATCHED.to_vec()),
            ("added", format!("{}\nAL1|1||X", one.text), vec!["AL1"]),
            ("taken away", one.text.lines().take(2).collect::<Vec<_>>().join("\n"), vec!["PID"]),
        ];
        for (why, text, want) in cases {
            assert_eq!(one.watched(&text), want, "{why}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let one = original(RAW.as_bytes());
        assert_eq!(one.edited(" \n"), Err(Problem::Empty));
        assert!(matches!(one.edited("PID|1"), Err(Problem::Unreadable(_))));
        let broken =
            original(b"MSH|^~\\&|A|B|C|D|20260301||ADT^A01|1|P|2.5||||||8859/9999\rPID|1||1||\xff\xfe\r");
        if !broken.is_whole {
            let text = broken.text.replace("A01", "A02");
            assert_eq!(broken.edited(&text), Err(Problem::Undecoded));
            assert_eq!(broken.edited(&broken.text).unwrap().0, broken.record.envelope.body);
        }
    }
}
