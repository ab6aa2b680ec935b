//! Where a line of the census stands among the others of its list: the order of the page, and what a page begins behind.

use std::cmp::Ordering;

use hilum_core::{Id, InstallationKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::census::Line;

/// A line's place. A page begins behind one, whoever comes or leaves meanwhile: counted rows would move under it, and
/// somebody would stand on no page (clinical-rules 27).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    confidential: bool,
    facility: Option<String>,
    unit: Option<String>,
    room: Option<String>,
    bed: Option<String>,
    since: Option<Timestamp>,
    encounter: Id,
}

impl Place {
    /// Where `line` stands.
    pub fn of(line: &Line) -> Self {
        Self {
            confidential: line.confidential,
            facility: line.facility.clone(),
            unit: line.unit.clone(),
            room: line.room.clone(),
            bed: line.bed.clone(),
            since: line.since,
            encounter: line.encounter,
        }
    }

    /// What names it in an address: the same as long as the line stands where it stands, and nothing of who or where.
    pub fn token(&self, key: &InstallationKey) -> Id {
        key.id("CensusPlace", &[self.to_text().as_bytes()])
    }

    /// As a form carries it.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What [`Place::to_text`] wrote; absent for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// By place, numbers by their value, withheld places last.
    fn order(&self) -> impl Ord + '_ {
        let natural = |text: &'_ Option<String>| {
            let text = text.clone().unwrap_or_default();
            let number: u64 =
                text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(u64::MAX);
            (text.is_empty(), number, text)
        };
        (
            self.confidential,
            self.facility.as_deref(),
            self.unit.as_deref(),
            natural(&self.room),
            natural(&self.bed),
            self.since,
            self.encounter,
        )
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}
