//! Groups of segments: NK1, AL1, IAM with IAR, DG1 (rule 12).

use hilum_core::Id;
use hilum_hl7v2::{Path, Presence, Segment};

use super::Reader;
use crate::content::Block;
use crate::content::datatypes::{Coded, Identifier};
use crate::content::items::{Allergy, Diagnosis, Item, NextOfKin};
use crate::content::said::Said;
use crate::limits::{GROUP_ITEMS_MAX, REPETITIONS_MAX};

/// What waits until its block ends.
#[derive(Default)]
pub(super) struct Groups<'m> {
    pub(super) account: Said<Identifier>,
    pub(super) has_pv2: bool,
    pub(super) next_of_kin: Vec<(Segment<'m>, Path)>,
    pub(super) allergies: Vec<(Segment<'m>, Path)>,
    pub(super) adverse_reactions: Vec<(Segment<'m>, Path)>,
    /// IAR, with the occurrence of its IAM.
    pub(super) reactions: Vec<(u32, Segment<'m>, Path)>,
    pub(super) diagnoses: Vec<(Segment<'m>, Path)>,
}

impl Reader<'_> {
    /// Reads the groups of a block that ends.
    pub(super) fn close(&mut self, block: &mut Block, groups: &mut Groups<'_>) {
        let groups = std::mem::take(groups);
        block.next_of_kin = self.group(&groups.next_of_kin, Self::nk1, |_, _| {});
        block.allergies = self.group(&groups.allergies, Self::al1, unite);
        let reactions = &groups.reactions;
        block.adverse_reactions =
            self.group(&groups.adverse_reactions, |reader, iam, at| reader.iam(iam, at, reactions), unite);
        block.diagnoses = self.group(&groups.diagnoses, Self::dg1, |_, _| {});
        if let Some(visit) = block.visit.as_mut()
            && visit.account.is_nothing()
        {
            visit.account = groups.account;
        }
    }

    /// A group of segments: absent changes nothing; one alone with `""` in all its fields empties it.
    fn group<'m, T: Item>(
        &mut self,
        segments: &[(Segment<'m>, Path)],
        read: impl Fn(&mut Self, Segment<'m>, Path) -> Option<T>,
        unite: impl Fn(&mut T, T),
    ) -> Said<Vec<T>> {
        match segments {
            [] => return Said::Nothing,
            [(only, _)] if is_null_segment(*only) => return Said::Deleted,
            _ => {}
        }
        let mut items: Vec<T> = Vec::with_capacity(segments.len().min(GROUP_ITEMS_MAX));
        for (at, &(segment, path)) in segments.iter().enumerate() {
            if at == GROUP_ITEMS_MAX {
                self.find("group-too-many", path, "more segments of this group than are read");
                break;
            }
            let Some(item) = read(self, segment, path) else {
                self.find("group-empty-item", path, "says nothing");
                continue;
            };
            match items.iter_mut().find(|known| known.key() == item.key() && known.action() == item.action())
            {
                Some(known) => {
                    self.find("group-same-item", path, "names the same as an earlier segment");
                    unite(known, item);
                }
                None => items.push(item),
            }
        }
        if items.is_empty() { Said::Nothing } else { Said::of(items) }
    }

    fn item_key(&self, parts: &[&str]) -> Id {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.key.id("item", &parts)
    }

    fn nk1(&mut self, segment: Segment<'_>, at: Path) -> Option<NextOfKin> {
        let mut telecoms = Vec::new();
        for (n, usage) in [(5, ""), (6, "WPN"), (40, ""), (31, ""), (41, "")] {
            let said = self.many(segment.field(n), at.with_field(n), |r, p, path| r.telecom(p, path, usage));
            telecoms.extend_from_slice(said.items());
        }
        let mut addresses = Vec::new();
        for n in [4, 32] {
            let said = self.many(segment.field(n), at.with_field(n), Self::address);
            addresses.extend_from_slice(said.items());
        }
        let mut identifiers = Vec::new();
        for n in [33, 12] {
            let said = self.many(segment.field(n), at.with_field(n), |r, p, path| r.cx(p, path, ""));
            identifiers.extend_from_slice(said.items());
        }
        let has_own_number = segment.field(33).has_value();
        let national = self.one(segment.field(37), at.with_field(37), Self::national);
        identifiers.extend(national.value().cloned());
        let names = self.many(segment.field(2), at.with_field(2), Self::name);
        let contacts = self.many(segment.field(30), at.with_field(30), Self::name);
        let organization = segment.field(13);
        let organization = self.text(Some(organization), at.with_field(13));
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (relationship, role, sex, language) = (code(3), code(7), code(15), code(20));
        let mut time = |n: u16| self.moment(segment.field(n), at.with_field(n)).value().cloned();
        let (from, to, birth) = (time(8), time(9), time(16));
        let names = names.items().to_vec();
        let key = match (names.first(), identifiers.first()) {
            (_, Some(own)) if has_own_number => {
                let (authority, value) = own.key();
                self.item_key(&["NK1", "id", &authority, &value])
            }
            (Some(name), _) => {
                let kin = if relationship.code.is_empty() { &relationship.text } else { &relationship.code };
                self.item_key(&["NK1", "name", &name.family, &name.given, &name.middle, kin])
            }
            (None, _) if !organization.is_empty() => self.item_key(&["NK1", "organization", &organization]),
            (None, _) => return None,
        };
        Some(NextOfKin {
            key,
            names,
            relationship,
            role,
            addresses,
            telecoms,
            from,
            to,
            identifiers,
            organization,
            sex,
            birth,
            language,
            contacts: contacts.items().to_vec(),
        })
    }

    fn al1(&mut self, segment: Segment<'_>, at: Path) -> Option<Allergy> {
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (kind, substance, severity) = (code(2), code(3), code(4));
        if substance.is_empty() {
            return None;
        }
        let reactions = self.codeds(segment.field(5), at.with_field(5));
        let onset = self.moment(segment.field(6), at.with_field(6));
        Some(Allergy {
            key: self.allergy_key(None, &substance),
            action: None,
            identifier: None,
            kind,
            code: substance,
            severity,
            reactions: reactions.items().to_vec(),
            reaction_severity: Coded::default(),
            onset: onset.value().cloned(),
            onset_text: String::new(),
            reported: None,
            status: Coded::default(),
        })
    }

    fn allergy_key(&self, identifier: Option<&Identifier>, substance: &Coded) -> Id {
        if let Some(identifier) = identifier {
            let (authority, value) = identifier.key();
            return self.item_key(&["allergy", "id", &authority, &value]);
        }
        if substance.code.is_empty() {
            return self.item_key(&["allergy", "text", substance.words()]);
        }
        self.item_key(&["allergy", "code", &substance.system, &substance.code])
    }

    fn iam(
        &mut self,
        segment: Segment<'_>,
        at: Path,
        reactions: &[(u32, Segment<'_>, Path)],
    ) -> Option<Allergy> {
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (kind, substance, severity, status) = (code(2), code(3), code(4), code(17));
        let action = self.action(Some(segment.field(6)), at.with_field(6));
        let identifier = self.one(segment.field(7), at.with_field(7), Self::ei).value().cloned();
        if substance.is_empty() && identifier.is_none() {
            return None;
        }
        let mut reaction_severity = Coded::default();
        let mut known = self.codeds(segment.field(5), at.with_field(5)).items().to_vec();
        for &(_, iar, path) in reactions.iter().filter(|(iam, ..)| *iam == at.occurrence()) {
            known.extend(self.coded(iar.field(1), path.with_field(1)).value().cloned());
            let said = self.coded(iar.field(2), path.with_field(2));
            if let (true, Some(said)) = (reaction_severity.is_empty(), said.value()) {
                reaction_severity = said.clone();
            }
        }
        known.truncate(REPETITIONS_MAX);
        let mut time = |n: u16| self.moment(segment.field(n), at.with_field(n)).value().cloned();
        let (onset, reported) = (time(11), time(13));
        let onset_text = self.text(Some(segment.field(12)), at.with_field(12));
        Some(Allergy {
            key: self.allergy_key(identifier.as_ref(), &substance),
            action,
            identifier,
            kind,
            code: substance,
            severity,
            reactions: known,
            reaction_severity,
            onset,
            onset_text,
            reported,
            status,
        })
    }

    fn dg1(&mut self, segment: Segment<'_>, at: Path) -> Option<Diagnosis> {
        let mut code =
            |n: u16| self.coded(segment.field(n), at.with_field(n)).value().cloned().unwrap_or_default();
        let (method, mut diagnosis, kind) = (code(2), code(3), code(6));
        if diagnosis.system.is_empty() && !diagnosis.code.is_empty() {
            diagnosis.system = method.code;
        }
        let description = self.text(Some(segment.field(4)), at.with_field(4));
        let identifier = self.one(segment.field(20), at.with_field(20), Self::ei).value().cloned();
        let action = self.action(Some(segment.field(21)), at.with_field(21));
        let mut time = |n: u16| self.moment(segment.field(n), at.with_field(n)).value().cloned();
        let (happened, attested) = (time(5), time(19));
        let place = self.positive(Some(segment.field(1)), at.with_field(1));
        let rank = self.positive(Some(segment.field(15)), at.with_field(15));
        let clinicians = self.providers(segment.field(16), at.with_field(16));
        let confidential = self.flag(segment.field(18), at.with_field(18));
        let key = if let Some(identifier) = &identifier {
            let (authority, value) = identifier.key();
            self.item_key(&["DG1", "id", &authority, &value])
        } else if diagnosis.code.is_empty() {
            let words = if description.is_empty() { diagnosis.words() } else { &description };
            if words.is_empty() {
                return None;
            }
            self.item_key(&["DG1", "text", words, &kind.code])
        } else {
            self.item_key(&["DG1", "code", &diagnosis.system, &diagnosis.code, &kind.code])
        };
        Some(Diagnosis {
            key,
            action,
            identifier,
            place,
            code: diagnosis,
            description,
            at: happened,
            kind,
            rank,
            clinician: clinicians.items().first().cloned(),
            confidential: confidential.value() == Some(&true),
            attested,
        })
    }
}

/// Two segments for one substance: both reactions are known.
fn unite(known: &mut Allergy, other: Allergy) {
    for reaction in other.reactions {
        if !known.reactions.contains(&reaction) && known.reactions.len() < REPETITIONS_MAX {
            known.reactions.push(reaction);
        }
    }
    if known.severity.is_empty() {
        known.severity = other.severity;
    }
}

/// Whether all that a segment says is `""`, its set id aside.
fn is_null_segment(segment: Segment<'_>) -> bool {
    let mut has_null = false;
    for (number, field) in segment.fields() {
        match field.presence() {
            Presence::Value if number > 1 => return false,
            Presence::Null => has_null = true,
            Presence::Value | Presence::Absent | Presence::Empty => {}
        }
    }
    has_null
}
