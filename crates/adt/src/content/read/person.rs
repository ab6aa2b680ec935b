//! Persons: PID, PD1, MRG.

use std::sync::Arc;

use hilum_hl7v2::{Path, Segment};

use super::Reader;
use super::groups::Groups;
use crate::content::Block;
use crate::content::person::{PersonContent, Prior};
use crate::content::said::Said;

impl Reader<'_> {
    pub(super) fn pid(&mut self, segment: Segment<'_>, at: Path, block: &mut Block, groups: &mut Groups<'_>) {
        let person = &mut block.person;
        let mut older = [None, None];
        let mut county = Said::Nothing;
        for (number, field) in segment.fields() {
            if field.raw().is_empty() {
                continue;
            }
            let path = at.with_field(number);
            match number {
                2 => older[0] = Some((field, path)),
                3 => person.identifiers = self.patient_numbers(field, path),
                4 => older[1] = Some((field, path)),
                5 => person.names = self.many(field, path, Self::name),
                6 => person.mothers_maiden = self.many(field, path, Self::name),
                7 => person.birth = self.moment(field, path),
                8 => person.sex = self.coded(field, path),
                9 => person.aliases = self.many(field, path, Self::name),
                11 => person.addresses = self.many(field, path, Self::address),
                12 => {
                    county =
                        self.one(field, path, |reader, parts, path| Some(reader.text(parts.get(1), path)));
                }
                13 => person.home_phones = self.many(field, path, |r, p, path| r.telecom(p, path, "PRN")),
                14 => person.work_phones = self.many(field, path, |r, p, path| r.telecom(p, path, "WPN")),
                15 => person.language = self.coded(field, path),
                16 => person.marital_status = self.coded(field, path),
                17 => person.religion = self.coded(field, path),
                18 => groups.account = self.one(field, path, |r, p, path| r.named(p, path, "AN")),
                19 => person.national = self.one(field, path, Self::national),
                20 => person.licence = self.one(field, path, Self::licence),
                21 => {
                    person.mother =
                        self.many(field, path, |r, p, path| r.cx(p, path, &r.settings.blank_type));
                }
                23 => {
                    person.birth_place = self.one(field, path, |reader, parts, path| {
                        Some(reader.text(parts.get(1), path)).filter(|text| !text.is_empty())
                    });
                }
                24 => person.multiple_birth = self.flag(field, path),
                25 => person.birth_order = self.one(field, path, |r, p, path| r.positive(p.get(1), path)),
                26 => person.citizenships = self.codeds(field, path),
                28 => person.nationality = self.coded(field, path),
                29 => person.died = self.moment(field, path),
                30 => person.dead = self.flag(field, path),
                31 => person.identity_unknown = self.flag(field, path),
                32 => person.reliability = self.codeds(field, path),
                40 => person.telecoms = self.many(field, path, |r, p, path| r.telecom(p, path, "")),
                _ => {}
            }
        }
        if self.settings.use_pid2_pid4 {
            for (field, path) in older.into_iter().flatten() {
                self.add_numbers(&mut person.identifiers, field, path);
            }
        }
        if let (Said::Value(county), Said::Value(addresses)) = (county, &mut person.addresses)
            && let Some(address) =
                Arc::make_mut(addresses).iter_mut().find(|address| address.district.is_empty())
        {
            address.district = Arc::unwrap_or_clone(county);
        }
        if person.died.value().is_some() && person.dead.value() == Some(&false) {
            self.find("death-contradictory", at.with_field(30), "a time of death, and not dead");
        }
    }

    pub(super) fn pd1(&mut self, segment: Segment<'_>, at: Path, person: &mut PersonContent) {
        person.primary_care = self.providers(segment.field(4), at.with_field(4));
        person.protected = self.flag(segment.field(12), at.with_field(12));
    }

    pub(super) fn mrg(&mut self, segment: Segment<'_>, at: Path) -> Prior {
        let mut numbers = self.patient_numbers(segment.field(1), at.with_field(1));
        if self.settings.use_pid2_pid4 {
            self.add_numbers(&mut numbers, segment.field(4), at.with_field(4));
        }
        let mut one = |n: u16, blank: &str| {
            let said = self.one(segment.field(n), at.with_field(n), |r, p, path| r.named(p, path, blank));
            said.value().cloned()
        };
        let (account, visit, alternate_visit) = (one(3, "AN"), one(5, "VN"), one(6, "VN"));
        let names = self.many(segment.field(7), at.with_field(7), Self::name);
        Prior {
            identifiers: numbers.items().to_vec(),
            account,
            visit,
            alternate_visit,
            names: names.items().to_vec(),
        }
    }
}
