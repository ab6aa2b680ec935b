//! The ids of what the map refers to: functions of what they name, so that whoever writes a resource and whoever
//! points to it agree without asking.

use hilum_core::{Id, InstallationKey};

use crate::content::datatypes::{Identifier, Place};

/// A level of a place, from wide to narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// PL.4.
    Facility,
    /// PL.7.
    Building,
    /// PL.8.
    Floor,
    /// PL.1.
    Unit,
    /// PL.2.
    Room,
    /// PL.3.
    Bed,
}

impl Level {
    /// All levels, from wide to narrow.
    pub const ALL: [Self; 6] =
        [Self::Facility, Self::Building, Self::Floor, Self::Unit, Self::Room, Self::Bed];

    /// The component of the place that names this level; empty = the place does not say it.
    pub fn name_in(self, place: &Place) -> &str {
        match self {
            Self::Facility => &place.facility,
            Self::Building => &place.building,
            Self::Floor => &place.floor,
            Self::Unit => &place.unit,
            Self::Room => &place.room,
            Self::Bed => &place.bed,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Facility => "facility",
            Self::Building => "building",
            Self::Floor => "floor",
            Self::Unit => "unit",
            Self::Room => "room",
            Self::Bed => "bed",
        }
    }
}

/// The Location of a place at a level. A unit is known by facility and name, a room by its unit, a bed by its room:
/// building and floor are sent now and then, and change no identity.
pub fn location(key: &InstallationKey, place: &Place, level: Level) -> Id {
    let parts: [&str; 3] = match level {
        Level::Facility => ["", "", ""],
        Level::Building => [&place.building, "", ""],
        Level::Floor => [&place.building, &place.floor, ""],
        Level::Unit => [&place.unit, "", ""],
        Level::Room => [&place.unit, &place.room, ""],
        Level::Bed => [&place.unit, &place.room, &place.bed],
    };
    let [one, two, three] = parts.map(str::as_bytes);
    key.id("Location", &[place.facility.as_bytes(), level.word().as_bytes(), one, two, three])
}

/// The narrowest level that a place names.
pub fn narrowest(place: &Place) -> Option<Level> {
    Level::ALL.into_iter().rev().find(|level| !level.name_in(place).is_empty())
}

/// The Practitioner of an identifier.
pub fn practitioner(key: &InstallationKey, identifier: &Identifier) -> Id {
    let (authority, value) = identifier.key();
    key.id("Practitioner", &[authority.as_bytes(), value.as_bytes()])
}

/// The RelatedPerson of an item of NK1: of the number that it was sent for.
pub fn related_person(key: &InstallationKey, origin: Id, item: Id) -> Id {
    key.id("RelatedPerson", &[origin.as_bytes(), item.as_bytes()])
}

/// The AllergyIntolerance of an item of AL1 or IAM: of the number that it was sent for.
pub fn allergy_intolerance(key: &InstallationKey, origin: Id, item: Id) -> Id {
    key.id("AllergyIntolerance", &[origin.as_bytes(), item.as_bytes()])
}

/// The Condition of an item of DG1: of its encounter.
pub fn condition(key: &InstallationKey, encounter: Id, item: Id) -> Id {
    key.id("Condition", &[encounter.as_bytes(), item.as_bytes()])
}
