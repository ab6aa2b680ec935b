//! Location, from PL: one for each level that a place names, each part of the next wider one.

use std::borrow::Cow;

use hilum_core::{Id, InstallationKey};
use serde::Serialize;

use super::element::{Concept, Identifier, Reference};
use super::ids::{self, Level};
use super::vocabulary::{LOCATION_TYPE, authority_system};
use super::{Mapped, Notes};
use crate::content::datatypes::Place;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location<'a> {
    resource_type: &'static str,
    id: Id,
    identifier: [Identifier<'a>; 1],
    status: &'static str,
    name: &'a str,
    mode: &'static str,
    physical_type: Concept<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part_of: Option<Reference<'a>>,
}

const fn physical_type(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Facility => ("si", "Site"),
        Level::Building => ("bu", "Building"),
        Level::Floor => ("lvl", "Level"),
        Level::Unit => ("wa", "Ward"),
        Level::Room => ("ro", "Room"),
        Level::Bed => ("bd", "Bed"),
    }
}

/// The Locations of a place, from wide to narrow. Description and status are the patient's stay's, not the place's.
#[must_use]
pub fn resources(place: &Place, key: &InstallationKey) -> Vec<Mapped> {
    let mut wider = None;
    let mut all = Vec::with_capacity(4);
    for level in Level::ALL {
        let name = level.name_in(place);
        if name.is_empty() {
            continue;
        }
        let id = ids::location(key, place, level);
        let system = (!place.facility.is_empty()).then(|| Cow::Owned(authority_system(&place.facility)));
        let (code, display) = physical_type(level);
        let location = Location {
            resource_type: "Location",
            id,
            identifier: [Identifier { system, value: name, ..Identifier::default() }],
            status: "active",
            name,
            mode: "instance",
            physical_type: Concept::of(LOCATION_TYPE, code, display),
            part_of: wider.map(|wider| Reference::to("Location", wider)),
        };
        all.push(Notes::default().finish(id, &location));
        wider = Some(id);
    }
    all
}
