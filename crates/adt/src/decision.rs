//! Operators' decisions: what changes the fold and came by no message is logged like one, in the `decisions` stream,
//! as JSON with its `type` inside. A rebuild reads them again.

use hilum_chart::family::HEAD;
use hilum_core::{Id, Timestamp};
use hilum_engines::tables::{Read, Scan, Tables, TablesError, Value};
use serde::{Deserialize, Serialize};

use crate::order::Stamp;
use crate::settings::SourceSettings;
use crate::tables::TIE;

/// The time that [`Decision::Unmerge`] must name to undo all merges of `old` into `new` that are known: the newest of
/// their own times. `None` = there is none.
///
/// # Errors
/// The engine's.
pub async fn unmerge_until(tables: &Tables, old: Id, new: Id) -> Result<Option<Timestamp>, TablesError> {
    let head = Read::Get { table: HEAD.name, key: vec![Value::Id(old)] };
    let rows = tables.read(&[head]).await?.pop().unwrap_or_default();
    let Some(family) = rows.first().and_then(|row| row.values.get(1)).cloned() else { return Ok(None) };
    let ties =
        tables.read(&[Read::Scan(Scan::by_key(TIE.name, vec![family]))]).await?.pop().unwrap_or_default();
    let said = ties.iter().filter_map(|row| match row.values.as_slice() {
        [_, _, _, Value::Id(one), Value::Id(other), _, Value::Bytes(said), ..]
            if (*one, *other) == (old, new) =>
        {
            Stamp::from_slice(said)?.at()
        }
        _ => None,
    });
    Ok(said.max())
}

/// One decision. Numbers are the ids of Patient resources ([`crate::identity::number_id`]); no patient data in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Decision {
    /// `old` is the same person as `new`, and ends.
    Merge {
        /// The record that ends.
        old: Id,
        /// The record that stays.
        new: Id,
        /// Who decided.
        by: String,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// What merged `old` into `new` before is undone.
    Unmerge {
        /// The record that comes back.
        old: Id,
        /// The record that it had been merged into.
        new: Id,
        /// Who decided.
        by: String,
        /// Why.
        #[serde(default)]
        reason: String,
        /// Merges that were said up to then are undone ([`unmerge_until`]): a sender's clock may be ahead of ours.
        /// Absent = up to the decision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// A provisional patient is this number's person (clinical-rules 15). Undone by [`Decision::Unmerge`].
    Identify {
        /// The provisional patient.
        provisional: Id,
        /// The number.
        number: Id,
        /// Who decided.
        by: String,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// An item of the work queue needs nothing more.
    Settle {
        /// The item.
        work: Id,
        /// Who decided.
        by: String,
        /// What was found.
        #[serde(default)]
        note: String,
    },
    /// From now on envelopes may name these settings by their digest.
    Settings {
        /// The source that uses them.
        source: String,
        /// The settings.
        settings: Box<SourceSettings>,
    },
}

impl Decision {
    /// The bytes of its envelope.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data with string keys serializes")
    }

    /// Reads the bytes of an envelope.
    ///
    /// # Errors
    /// What is no decision of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Golden: the stored form, read for ever.
    #[test]
    fn the_stored_form_stands() {
        let id = |n| Id::from_bytes([n; 16]);
        let (old, new) = (id(1), id(2));
        let (one, two) = ("01010101-0101-0101-0101-010101010101", "02020202-0202-0202-0202-020202020202");
        let cases = [
            (
                Decision::Merge { old, new, by: "kim".into(), reason: "same person".into() },
                format!(
                    r#"{{"type":"merge","old":"{one}","new":"{two}","by":"kim","reason":"same person"}}"#
                ),
            ),
            (
                Decision::Unmerge { old, new, by: "kim".into(), reason: String::new(), until: None },
                format!(r#"{{"type":"unmerge","old":"{one}","new":"{two}","by":"kim","reason":""}}"#),
            ),
            (
                Decision::Identify { provisional: old, number: new, by: "kim".into(), reason: String::new() },
                format!(
                    r#"{{"type":"identify","provisional":"{one}","number":"{two}","by":"kim","reason":""}}"#
                ),
            ),
            (
                Decision::Settle { work: old, by: "kim".into(), note: "seen".into() },
                format!(r#"{{"type":"settle","work":"{one}","by":"kim","note":"seen"}}"#),
            ),
        ];
        for (decision, want) in cases {
            assert_eq!(String::from_utf8(decision.to_bytes()).unwrap(), want);
            assert_eq!(Decision::parse(want.as_bytes()).unwrap(), decision);
        }
        let settings = Decision::Settings { source: "default".into(), settings: Box::default() };
        assert_eq!(Decision::parse(&settings.to_bytes()).unwrap(), settings);
        assert!(Decision::parse(br#"{"type":"forget"}"#).is_err());
    }
}
