//! Visits: PV1, PV2, and ARV, which is about a person or a visit.

use hilum_hl7v2::{Path, Segment, Slot};

use super::Reader;
use super::field::Parts;
use super::groups::Groups;
use crate::content::Block;
use crate::content::datatypes::{Action, Coded, DischargeTo};
use crate::content::said::Said;
use crate::content::time::When;
use crate::content::visit::{Movement, VisitContent};
use crate::limits::REPETITIONS_MAX;

impl Reader<'_> {
    pub(super) fn pv1(&mut self, segment: Segment<'_>, at: Path, block: &mut Block, groups: &mut Groups<'_>) {
        let mut movement = Movement::default();
        let mut visit =
            VisitContent { account: std::mem::take(&mut groups.account), ..VisitContent::default() };
        for (number, field) in segment.fields() {
            if field.raw().is_empty() {
                continue;
            }
            let path = at.with_field(number);
            match number {
                2 => movement.class = self.coded(field, path),
                3 => movement.place = self.place(field, path),
                4 => visit.admission_type = self.coded(field, path),
                5 => visit.preadmit_number = self.one(field, path, |r, p, path| r.cx(p, path, "")),
                6 => movement.prior_place = self.place(field, path),
                7 => visit.attending = self.providers(field, path),
                8 => visit.referring = self.providers(field, path),
                9 => visit.consulting = self.providers(field, path),
                10 => visit.service = self.coded(field, path),
                11 => movement.temporary = self.place(field, path),
                13 => visit.readmission = self.coded(field, path),
                14 => visit.admit_source = self.coded(field, path),
                15 => visit.ambulatory = self.codeds(field, path),
                16 => visit.vip = self.coded(field, path),
                17 => visit.admitting = self.providers(field, path),
                18 => visit.patient_type = self.coded(field, path),
                19 => visit.number = self.one(field, path, |r, p, path| r.named(p, path, "VN")),
                36 => movement.disposition = self.coded(field, path),
                37 => movement.discharged_to = self.one(field, path, Self::discharge_to),
                38 => visit.diet = self.coded(field, path),
                39 => visit.servicing_facility = self.coded(field, path),
                40 => movement.bed_status = self.coded(field, path),
                42 => movement.pending = self.place(field, path),
                43 => movement.prior_temporary = self.place(field, path),
                44 => movement.admitted = self.moment(field, path),
                45 => movement.discharged = self.last_moment(field, path),
                50 => visit.alternate_number = self.one(field, path, |r, p, path| r.named(p, path, "VN")),
                52 => visit.other_providers = self.providers(field, path),
                _ => {}
            }
        }
        block.movement = Some(movement);
        block.visit = Some(visit);
    }

    /// The last of several times (PV1-45 repeated before v2.5).
    fn last_moment(&mut self, field: Slot<'_>, path: Path) -> Said<When> {
        match self.many(field, path, |reader, parts, path| reader.when(parts.get(1), path)) {
            Said::Value(all) => all.last().cloned().into(),
            Said::Deleted => Said::Deleted,
            Said::Nothing => Said::Nothing,
        }
    }

    /// DLD: the place has subcomponents where it is a code with a text, as it has from v2.6 on.
    fn discharge_to(&mut self, parts: &Parts<'_>, path: Path) -> Option<DischargeTo> {
        let place = parts.get(1).and_then(|slot| self.cwe(&Parts::of(slot.subcomponents()), path));
        let at = self.when(parts.get(2), path.with_component(2));
        let to = DischargeTo { place: place.unwrap_or_default(), at };
        (!to.place.is_empty() || to.at.is_some()).then_some(to)
    }

    pub(super) fn pv2(&mut self, segment: Segment<'_>, at: Path, block: &mut Block) {
        let (Some(movement), Some(visit)) = (block.movement.as_mut(), block.visit.as_mut()) else {
            self.find("segment-no-visit", at, "PV2 without PV1 is not read");
            return;
        };
        for (number, field) in segment.fields() {
            if field.raw().is_empty() {
                continue;
            }
            let path = at.with_field(number);
            match number {
                1 => movement.prior_pending = self.place(field, path),
                3 => visit.reason = self.coded(field, path),
                4 => visit.transfer_reason = self.coded(field, path),
                8 => visit.expected_admit = self.moment(field, path),
                9 => visit.expected_discharge = self.moment(field, path),
                12 => {
                    visit.description = self.one(field, path, |reader, parts, path| {
                        Some(reader.text(parts.get(1), path)).filter(|text| !text.is_empty())
                    });
                }
                13 => visit.referral_source = self.providers(field, path),
                22 => visit.protected = self.flag(field, path),
                25 => visit.priority = self.coded(field, path),
                36 => visit.newborn = self.flag(field, path),
                38 => visit.arrival_mode = self.coded(field, path),
                47 => movement.expected_return = self.moment(field, path),
                _ => {}
            }
        }
    }

    /// ARV: a restriction on the person, or behind PV1 on the visit. D takes one away; X says nothing new.
    pub(super) fn arv(&mut self, segment: Segment<'_>, at: Path, block: &mut Block) {
        let action = self.action(Some(segment.field(2)), at.with_field(2));
        let values = self.codeds(segment.field(3), at.with_field(3));
        let said = match &mut block.visit {
            Some(visit) => &mut visit.restrictions,
            None => &mut block.person.restrictions,
        };
        match action {
            Some(Action::Delete) => {
                if said.is_nothing() {
                    *said = Said::Deleted;
                }
            }
            Some(Action::Keep) => {}
            Some(Action::Add | Action::Update) | None => {
                let mut all = said.items().to_vec();
                all.extend(values.items().iter().cloned());
                if all.is_empty() {
                    all.push(Coded { code: "ALL".to_owned(), ..Coded::default() });
                }
                all.truncate(REPETITIONS_MAX);
                *said = Said::of(all);
            }
        }
    }
}
