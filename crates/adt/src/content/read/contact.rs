//! Where somebody is and how to reach them: addresses (XAD), numbers (XTN), places (PL).

use hilum_hl7v2::{Path, Slot};

use super::Reader;
use super::field::Parts;
use crate::content::datatypes::{Address, Place, Telecom};
use crate::content::said::Said;

impl Reader<'_> {
    pub(super) fn address(&mut self, parts: &Parts<'_>, path: Path) -> Option<Address> {
        let mut lines = Vec::new();
        if let Some(street) = parts.get(1) {
            for part in street.subcomponents().take(3) {
                lines.push(self.text(Some(part), path.with_component(1)));
            }
        }
        for n in [2, 19] {
            lines.push(self.text(parts.get(usize::from(n)), path.with_component(n)));
        }
        lines.retain(|line| !line.is_empty());
        let mut get = |n: u16| self.text(parts.get(usize::from(n)), path.with_component(n));
        let mut address = Address {
            lines,
            city: get(3),
            state: get(4),
            postal_code: get(5),
            country: get(6),
            kind: get(7),
            district: get(9),
            from: None,
            to: None,
        };
        (address.from, address.to) = self.range(parts, path, 12, 13);
        let is_empty = address.lines.is_empty()
            && [&address.city, &address.state, &address.postal_code, &address.country, &address.district]
                .into_iter()
                .all(String::is_empty);
        (!is_empty).then_some(address)
    }

    /// XTN; `usage` is what the field says where XTN.2 says nothing.
    pub(super) fn telecom(&mut self, parts: &Parts<'_>, path: Path, usage: &str) -> Option<Telecom> {
        let mut get = |n: u16| self.text(parts.get(usize::from(n)), path.with_component(n));
        let mut telecom = Telecom { usage: get(2), kind: get(3), extension: get(8), ..Telecom::default() };
        let mail = get(4);
        let is_mail = matches!(telecom.kind.as_str(), "Internet" | "X.400") || telecom.usage == "NET";
        let (country, area, local) = (get(5), get(6), get(7));
        let unformatted = get(12);
        let first = get(1);
        let composed = if local.is_empty() || area.is_empty() {
            String::new()
        } else {
            let country = country.trim_start_matches('+');
            if country.is_empty() { format!("{area} {local}") } else { format!("+{country} {area} {local}") }
        };
        // What newer versions of the standard say stands before what they withdrew: whole, in parts, then XTN.1. A local
        // part alone is no number where XTN.1 has a whole one.
        let numbers = [&unformatted, &composed, &first, &local];
        let number = numbers.into_iter().find(|number| !number.is_empty());
        telecom.value = match (is_mail && !mail.is_empty(), number) {
            (true, _) | (false, None) => mail,
            (false, Some(number)) => number.clone(),
        };
        if telecom.usage.is_empty() {
            usage.clone_into(&mut telecom.usage);
        }
        if telecom.value.is_empty() {
            return None;
        }
        telecom.rank = self.positive(parts.get(18), path.with_component(18)).filter(|&rank| rank > 0);
        telecom.from = self.when(parts.get(13), path.with_component(13));
        telecom.to = self.when(parts.get(14), path.with_component(14));
        Some(telecom)
    }

    pub(super) fn place(&mut self, field: Slot<'_>, path: Path) -> Said<Place> {
        self.one(field, path, |reader, parts, path| {
            let mut get = |n: u16| reader.text(parts.get(usize::from(n)), path.with_component(n));
            let mut place = Place {
                unit: get(1),
                room: get(2),
                bed: get(3),
                status: get(5),
                kind: get(6),
                building: get(7),
                floor: get(8),
                description: get(9),
                ..Place::default()
            };
            if let Some(slot) = parts.get(4) {
                let facility = reader.authority(slot.subcomponents(), path.with_component(4));
                place.facility = reader.facility_name(&facility);
            }
            let named =
                [&place.facility, &place.unit, &place.room, &place.bed, &place.building, &place.floor];
            if named.into_iter().all(String::is_empty) {
                return None;
            }
            if place.facility.is_empty() {
                place.facility.clone_from(&reader.assumed_facility);
                place.facility_assumed = true;
            }
            Some(place)
        })
    }
}
