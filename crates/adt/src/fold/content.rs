//! Registers: what was said of a person, field by field the latest, and of a group of items, item by item the latest.
//! Both are functions of the set of (stamp, content): a copy, or an older message, changes nothing that it must not.

use std::collections::BTreeMap;

use hilum_core::{Digest, Id};
use serde::{Deserialize, Serialize};

use crate::content::{Action, PersonContent, Said, Words};
use crate::limits::{FIRSTS_MAX, GROUP_KEPT_MAX};
use crate::order::Stamp;
use crate::settings::GroupMode;
use crate::state::{Item, Standing};

/// The first stamp at which each content was said: what names the message behind a state. Bounded by keeping the
/// smallest hashes, which depends on the set alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Firsts(BTreeMap<u64, Stamp>);

impl Firsts {
    fn say(&mut self, hash: u64, said: Stamp) {
        let first = self.0.entry(hash).or_insert(said);
        *first = (*first).min(said);
        while self.0.len() > FIRSTS_MAX {
            self.0.pop_last();
        }
    }

    fn of(&self, hash: u64, last: Stamp) -> Stamp {
        self.0.get(&hash).copied().unwrap_or(last)
    }
}

fn hash_of<T: Serialize>(content: &T) -> u64 {
    let text = serde_json::to_vec(content).unwrap_or_default();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Digest::of(&text).as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// What one message said of a person, as far as no later one said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Layer {
    #[serde(rename = "s")]
    said: Stamp,
    #[serde(rename = "o")]
    source: String,
    #[serde(rename = "h")]
    hash: u64,
    /// The source's settings call this name or birth date an unknown person's (rule 18).
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    unknown: bool,
    #[serde(rename = "c")]
    content: PersonContent,
}

/// All that messages naming one number say of the person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRegister {
    /// Newest first; each holds only the fields that no newer one speaks about.
    #[serde(rename = "l")]
    layers: Vec<Layer>,
    #[serde(rename = "f")]
    firsts: Firsts,
}

impl PersonRegister {
    /// Takes in what a message said.
    pub fn say(&mut self, said: Stamp, source: &str, unknown: bool, content: &PersonContent) {
        let hash = hash_of(content);
        self.firsts.say(hash, said);
        let mut layer = Layer { said, source: source.to_owned(), hash, unknown, content: content.clone() };
        if content.is_confidential() {
            let content = layer.content.take_protection();
            self.insert(Layer { said: said.asking(), content, ..layer.clone() });
        }
        self.insert(layer);
        let mut newer = PersonContent::default();
        self.layers.retain_mut(|layer| {
            layer.content.forget(&newer);
            newer.fill(&layer.content);
            !layer.content.is_silent()
        });
    }

    /// Puts a layer in its place, once.
    fn insert(&mut self, layer: Layer) {
        // One message may say two things of one number (two PIDs): the hash decides, as no order of segments is one of
        // time.
        let place = |layer: &Layer| (layer.said, layer.hash);
        let at = self.layers.partition_point(|other| place(other) > place(&layer));
        if self.layers.get(at).is_none_or(|other| place(other) != place(&layer)) {
            self.layers.insert(at, layer);
        }
    }

    /// All fields, each as it was said last.
    pub fn whole(&self) -> PersonContent {
        let mut whole = PersonContent::default();
        for layer in &self.layers {
            whole.fill(&layer.content);
        }
        whole
    }

    /// The first message that said what stands newest, the stamp of what was said last, and its source.
    pub fn newest(&self) -> Option<(Id, Stamp, &str)> {
        let layer = self.layers.iter().max_by_key(|layer| (layer.said.of_message(), layer.hash))?;
        let said = layer.said.of_message();
        Some((self.firsts.of(layer.hash, said).message(), said, &layer.source))
    }

    /// Whether the name or birth date that stands is an unknown person's.
    pub fn is_unknown(&self) -> bool {
        let named =
            self.layers.iter().find(|layer| layer.content.names.is_said() || layer.content.birth.is_said());
        named.is_some_and(|layer| layer.unknown)
    }
}

/// One item of one source's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept<T> {
    #[serde(rename = "s")]
    said: Stamp,
    #[serde(rename = "h")]
    hash: u64,
    #[serde(rename = "c")]
    content: T,
    #[serde(rename = "f")]
    firsts: Firsts,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Stamp>,
    /// When it asked for confidentiality last.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    asked: Option<Stamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Group<T> {
    /// When a whole set was sent last: what was sent before it only is no longer sent.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    whole: Option<Stamp>,
    /// When the group was emptied last.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    emptied: Option<Stamp>,
    #[serde(rename = "i")]
    /// Boxed: a tree's node has room for eleven, and most groups have one or two.
    items: BTreeMap<Id, Box<Kept<T>>>,
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self { whole: None, emptied: None, items: BTreeMap::new() }
    }
}

/// All that was said of one group (next of kin, allergies, diagnoses) of one number or encounter, by source: what one
/// source leaves out says nothing about what another sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"), transparent)]
pub struct GroupRegister<T>(BTreeMap<String, Group<T>>);

impl<T> Default for GroupRegister<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: crate::content::Item + Serialize> GroupRegister<T> {
    /// Takes in what a message said of the group. Nothing said changes nothing (clinical-rules 12).
    pub fn say(&mut self, said: Stamp, source: &str, mode: GroupMode, group: &Said<Vec<T>>) {
        let items = match group {
            Said::Nothing => return,
            Said::Deleted => {
                let group = self.0.entry(source.to_owned()).or_default();
                group.emptied = group.emptied.max(Some(said));
                return;
            }
            Said::Value(items) if items.is_empty() => return,
            Said::Value(items) => items,
        };
        let group = self.0.entry(source.to_owned()).or_default();
        // Items with action codes are told one by one; only a set without any is a snapshot.
        if mode == GroupMode::Replace && items.iter().all(|item| item.action().is_none()) {
            group.whole = group.whole.max(Some(said));
        }
        for item in items.iter() {
            group.say(said, item);
        }
        while group.items.len() > GROUP_KEPT_MAX {
            let oldest = group.items.iter().min_by_key(|(key, kept)| (kept.said, **key)).map(|(key, _)| *key);
            oldest.and_then(|key| group.items.remove(&key));
        }
    }

    /// The items in order of (origin, key), with `origin` the number or encounter whose register this is. An item that
    /// two sources sent stands as the one that still counts, then the one sent last.
    pub fn items(&self, origin: Id) -> Vec<Item<T>> {
        let mut best: BTreeMap<Id, Item<T>> = BTreeMap::new();
        for (source, group) in &self.0 {
            for (key, kept) in &group.items {
                let item = group.item(*key, kept, origin, source);
                let weight = |item: &Item<T>| (item.standing == Standing::Current, item.last_sent);
                match best.get(key) {
                    Some(other) if weight(other) >= weight(&item) => {}
                    _ => {
                        best.insert(*key, item);
                    }
                }
            }
        }
        // Of one time one source's message is the last by a convention: another's may have asked.
        for (key, kept) in self.0.values().flat_map(|group| &group.items) {
            if let Some(item) = best.get_mut(key)
                && kept.asked.is_some_and(|asked| asked.ties_with(&item.last_sent))
            {
                item.content.protect();
            }
        }
        best.into_values().collect()
    }
}

impl<T: crate::content::Item + Serialize> Group<T> {
    fn say(&mut self, said: Stamp, item: &T) {
        let hash = hash_of(item);
        let kept = self.items.entry(item.key()).or_insert_with(|| {
            let firsts = Firsts::default();
            Box::new(Kept { said, hash, content: item.clone(), firsts, deleted: None, asked: None })
        });
        kept.firsts.say(hash, said);
        if item.action() == Some(Action::Delete) {
            kept.deleted = kept.deleted.max(Some(said));
        }
        if item.is_confidential() {
            kept.asked = kept.asked.max(Some(said));
        }
        // Twice in one message: the greater hash, for the order of segments is no order of time.
        if (said, hash) > (kept.said, kept.hash) {
            (kept.said, kept.hash, kept.content) = (said, hash, item.clone());
        }
    }

    fn item(&self, key: Id, kept: &Kept<T>, origin: Id, source: &str) -> Item<T> {
        let standing =
            if kept.deleted.is_some_and(|deleted| deleted >= kept.said) || self.emptied > Some(kept.said) {
                Standing::Deleted
            } else if self.whole > Some(kept.said) {
                Standing::NoLongerSent
            } else {
                Standing::Current
            };
        Item {
            key,
            content: kept.content.clone(),
            origin,
            source: source.to_owned(),
            message: kept.firsts.of(kept.hash, kept.said).message(),
            last_sent: kept.said,
            standing,
        }
    }
}
