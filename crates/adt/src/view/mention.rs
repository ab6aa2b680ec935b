//! Numbers that a message's text may name somebody by, wherever they stand: a guarantor, an insured person, an account,
//! a segment of the source's own. Nothing is folded from them; who looks must not learn by them who is confidential.

use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::family::HEAD;
use hilum_core::Id;
use hilum_engines::tables::{Read, Scan, Value};
use hilum_hl7v2::{Message, Slot};

use super::ViewError;
use super::journey::Sight;
use super::row::Columns;
use crate::content::Identifier;
use crate::identity::number_id;
use crate::limits::{MENTION_CHARS_MIN, MENTION_ROWS_MAX, MENTIONS_MAX};
use crate::settings::SourceSettings;
use crate::tables::{CARRIER, NUMBER, indexed};

/// A value that may be somebody's number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    value: String,
    /// Names of its authority as they are sent and known; empty = the value stands alone.
    authorities: BTreeSet<String>,
}

/// Whether a value is looked up without an authority.
fn counts_alone(value: &str) -> bool {
    value.chars().count() >= MENTION_CHARS_MIN && value.chars().any(|sign| sign.is_ascii_digit())
}

fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}

impl Mention {
    /// An identifier as it was read.
    pub fn of(identifier: &Identifier) -> Self {
        let names = [&identifier.authority, &identifier.namespace];
        let authorities = names.into_iter().filter(|name| !name.is_empty()).cloned();
        Self { value: identifier.value.clone(), authorities: authorities.collect() }
    }

    /// The value by itself, where no authority was sent with it: what stands for one is the sender, not whoever numbered.
    pub fn alone(identifier: &Identifier) -> Option<Self> {
        let value = identifier.value.trim();
        let counts = identifier.authority_assumed && counts_alone(value);
        counts.then(|| Self { value: value.to_owned(), authorities: BTreeSet::new() })
    }

    /// Whether it is this number: the same value, and the same authority, in any case of letters, where it says one.
    fn is(&self, identifier: &Identifier) -> bool {
        let is_said = |name: &str| self.authorities.iter().any(|said| folded(said) == folded(name));
        let same = |name: &String| !name.is_empty() && is_said(name);
        identifier.value == self.value
            && (self.authorities.is_empty() || same(&identifier.authority) || same(&identifier.namespace))
    }
}

/// What a message mentions, authorities also by the names that its source gives them; `None` when that is more than is
/// looked up.
pub fn mentions(message: &Message, settings: &SourceSettings) -> Option<BTreeSet<Mention>> {
    let mut all = BTreeSet::new();
    for segment in message.all_segments() {
        let is_header = segment.is("MSH");
        for (number, field) in segment.fields() {
            if (is_header && number <= 2) || !field.has_value() {
                continue;
            }
            for repetition in field.repetitions() {
                mention(&repetition, settings, &mut all);
                if all.len() > MENTIONS_MAX {
                    return None;
                }
            }
        }
    }
    Some(all)
}

/// The first component with the fourth as its authority, and each part that is long enough by itself.
fn mention(repetition: &Slot<'_>, settings: &SourceSettings, all: &mut BTreeSet<Mention>) {
    // An HD has three parts: who sends more of them says nothing with them.
    let authority = repetition.component(4);
    let sent: Vec<String> =
        authority.subcomponents().take(3).map(|part| part.text().trim().to_owned()).collect();
    let mut whole = sent.clone();
    whole.resize(3, String::new());
    let aliases = [whole.join("^")].into_iter().chain(sent.iter().cloned());
    let aliases = aliases.filter_map(|name| settings.authority_aliases.get(&name).cloned());
    let authorities: BTreeSet<String> =
        aliases.chain(sent.iter().cloned()).filter(|name| !name.is_empty()).collect();
    let value = repetition.component(1).text().into_owned();
    let is_number = !authorities.is_empty() && !value.trim().is_empty();
    if is_number {
        // As sent, as numbers are kept; and without the blanks that only one of two senders writes.
        for value in [value.trim(), &value] {
            all.insert(Mention { value: value.to_owned(), authorities: authorities.clone() });
        }
    }
    // The fourth component is an authority where the second is no name, as it is of a doctor or in a list of parts.
    let is_identifier = is_number && !repetition.component(2).text().chars().any(char::is_alphabetic);
    for (at, component) in repetition.components().enumerate() {
        for part in component.subcomponents() {
            let text = part.text();
            let is_sign = |sign: char| !sign.is_alphanumeric();
            // A number with its authority is that one alone.
            let whole = [text.trim(), &text].into_iter().filter(|_| !(is_identifier && at == 0));
            // `12-345678, see there`: as it is written, and by its parts.
            let written = text.split_whitespace().map(|word| word.trim_matches(is_sign));
            let words = written.chain(text.split(is_sign)).filter(|word| *word != text.trim());
            for bare in whole.chain(words) {
                if counts_alone(bare) {
                    all.insert(Mention { value: bare.to_owned(), authorities: BTreeSet::new() });
                }
            }
        }
    }
}

/// The patients whose number is mentioned, or who came with it beside their own: one reading for all, and another where one
/// is known. A further number (clinical-rules 14) is known by its authority as it was sent alone. `None` when one value
/// is the number of so many that not all of them were looked at.
///
/// # Errors
/// The engines'.
pub async fn named(
    sight: Sight<'_>,
    mentions: &BTreeSet<Mention>,
) -> Result<Option<BTreeSet<Id>>, ViewError> {
    let mut said: BTreeMap<&str, Vec<&Mention>> = BTreeMap::new();
    for one in mentions {
        said.entry(&one.value).or_default().push(one);
    }
    let values: Vec<&str> = said.keys().copied().collect();
    let by_value = |value: &&str| {
        let prefix = vec![indexed(value)];
        Read::Scan(Scan { limit: MENTION_ROWS_MAX, ..Scan::by_index(NUMBER.name, "by_value", prefix) })
    };
    let heads = mentions.iter().flat_map(|one| {
        let id = |authority: &String| number_id(sight.key, authority, &one.value);
        one.authorities.iter().map(id)
    });
    let heads: BTreeSet<Id> = heads.collect();
    let head = |id: &Id| Read::Get { table: HEAD.name, key: vec![Value::Id(*id)] };
    let reads: Vec<Read> = values.iter().map(by_value).chain(heads.iter().map(head)).collect();
    let found = sight.tables.read(&reads).await?;
    let (numbers, heads) = found.split_at(values.len().min(found.len()));
    let mut patients = BTreeSet::new();
    for (rows, said) in numbers.iter().zip(said.values()) {
        if rows.len() >= MENTION_ROWS_MAX as usize {
            return Ok(None);
        }
        for row in rows {
            let columns = Columns { table: &NUMBER, row };
            // Whose it is that cannot be read may be anybody's of this value.
            let is_named = columns
                .json::<Identifier>("identifier")
                .map_or(true, |identifier| said.iter().any(|one| one.is(&identifier)));
            if is_named {
                patients.insert(columns.id("number")?);
            }
        }
    }
    let mut carriers = Vec::new();
    for row in heads.iter().flatten() {
        let columns = Columns { table: &HEAD, row };
        let prefix = vec![Value::Id(columns.id("family")?), Value::Id(columns.id("head")?)];
        carriers.push(Read::Scan(Scan::by_key(CARRIER.name, prefix)));
    }
    for row in sight.tables.read(&carriers).await?.iter().flatten() {
        patients.insert(Columns { table: &CARRIER, row }.id("number")?);
    }
    Ok(Some(patients))
}
