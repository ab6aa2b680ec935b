//! A patient number's record, and what a person should know about it.

use std::collections::BTreeSet;

use hilum_core::Id;

use super::{Kin, Part, work_id};
use crate::content::{Said, Words};
use crate::fold::ties::{Refusal, Survivors, Tie, TieKind};
use crate::order::Stamp;
use crate::state::{Mark, PatientState, Standing};

impl Kin<'_> {
    /// A number's record; `None` for an identifier that makes no patient.
    pub(super) fn patient(
        &mut self,
        number: Id,
        ties: &[Tie],
        survivors: &Survivors,
        circled: &BTreeSet<Id>,
    ) -> Option<PatientState> {
        let row = self.number(number).clone();
        let register = self.person(number).clone();
        if row.identifier.is_none() && row.visit.is_none() {
            return None;
        }
        let survivor = survivors.survivor(number);
        let person = register.whole();
        let newest = register.newest().map(|(message, last, source)| (message, last, source.to_owned()));
        let (message, last, source) = newest.unwrap_or_else(|| {
            // Named by ties alone: the first of them.
            let first =
                ties.iter().filter(|tie| tie.old == number || tie.new == number).min_by_key(|tie| tie.said);
            let first = first.map(|tie| (tie.said.message(), tie.said, tie.source.clone()));
            first.unwrap_or((number, Stamp::ZERO, String::new()))
        });
        // A merged record stands alone: what it has goes to the survivor.
        let members = if survivor == number { survivors.members(number, ties) } else { vec![number] };
        let mut known = person.clone();
        let mut filled = Vec::new();
        for &member in members.iter().skip(1) {
            let mut more = self.person(member).whole();
            more.forget(&known);
            known.fill(&more);
            if !more.is_silent() {
                filled.push((member, more));
            }
        }
        // Each of its records, of whichever of them this is: what the survivor says of it takes nothing back.
        let confidential = survivors
            .members(survivor, ties)
            .into_iter()
            .any(|member| self.person(member).whole().is_confidential());
        let is_read = |kin: &Self, parts: &[Part]| {
            kin.whole
                || members.iter().any(|member| parts.iter().any(|part| kin.parts.contains(&(*member, *part))))
        };
        let (mut next_of_kin, mut allergies) = (Vec::new(), Vec::new());
        if survivor == number && is_read(self, &[Part::NextOfKin]) {
            let items = members.iter().flat_map(|&member| self.kin_register(member).items(member));
            next_of_kin.extend(items);
        }
        if survivor == number && is_read(self, &[Part::Allergies, Part::Reactions]) {
            for &member in &members {
                let mut own = self.allergy_register(member, Part::Allergies).items(member);
                own.extend(self.allergy_register(member, Part::Reactions).items(member));
                // AL1 and IAM may tell of one thing: what still counts stands, then what was sent last.
                own.sort_by_key(|item| {
                    (item.key, std::cmp::Reverse((item.standing == Standing::Current, item.last_sent)))
                });
                own.dedup_by_key(|item| item.key);
                allergies.extend(own);
            }
        }
        let mut marks = BTreeSet::new();
        if row.identifier.is_none() && survivor == number {
            marks.insert(Mark::IdentityUndecided);
        }
        if register.is_unknown() {
            marks.insert(Mark::UnknownPerson);
        }
        if row.deleted.is_some_and(|deleted| deleted >= last) {
            marks.insert(Mark::Withdrawn);
        }
        let not_applied: usize = members.iter().map(|member| self.number(*member).not_applied.len()).sum();
        if not_applied > 0 {
            marks.insert(Mark::NotApplied(u32::try_from(not_applied).unwrap_or(u32::MAX)));
        }
        self.unread.set(false);
        let shared = self.is_shared(&members, survivors);
        let stood = self.unread.get() && row.marks.contains(&Mark::SharedIdentifier.id());
        if shared || stood {
            marks.insert(Mark::SharedIdentifier);
        }
        let merges: Vec<usize> = survivors
            .applied()
            .filter(|(at, old, new)| ties[*at].kind == TieKind::Merge && (*new == number || *old == number))
            .map(|(at, _, _)| at)
            .collect();
        if merges.into_iter().any(|at| !self.doubts(&ties[at]).is_empty()) {
            marks.insert(Mark::MergeImplausible);
        }
        if circled.contains(&number) {
            marks.insert(Mark::MergeCycle);
        }
        Some(PatientState {
            id: number,
            number: row.identifier,
            provisional_for: row.visit,
            merged_into: survivors.merged_into(number),
            survivor,
            replaces: survivors.replaces(number),
            see_also: survivors.see_also(number),
            person,
            filled,
            confidential,
            next_of_kin,
            allergies,
            marks: marks.into_iter().collect(),
            message,
            last,
            source,
        })
    }

    /// The numbers in circles of merges, but those of which an operator said that nothing more is needed: a source that
    /// takes a merge back by sending it the other way round makes one for ever. Which message closes a circle depends on
    /// the others: none of them can say it, whoever is in it does.
    pub(super) fn circled(&self, ties: &[Tie], survivors: &Survivors) -> BTreeSet<Id> {
        let cycles = survivors.refused.iter().filter(|(_, refusal)| *refusal == Refusal::Cycle);
        let refused = cycles.filter_map(|(at, _)| ties.get(*at));
        let open = refused.filter(|tie| !self.is_decided(work_id(self.sight.key, "merge", &[tie.id])));
        open.flat_map(|tie| survivors.circle(tie).0).collect()
    }

    /// Whether another person carries an identifying number of this one, whose records are `members` (rule 14).
    pub(super) fn is_shared(&mut self, members: &[Id], survivors: &Survivors) -> bool {
        let mut identifiers: BTreeSet<Id> = members.iter().copied().collect();
        for member in members {
            let carries = self.number(*member).carries.clone();
            identifiers.extend(carries);
        }
        let own = members.first().map(|number| survivors.survivor(*number));
        identifiers.into_iter().any(|identifier| {
            let is_primary = self.number(identifier).identifier.is_some();
            let carriers = self.carriers(identifier).clone();
            let mut others = carriers.into_iter().chain(is_primary.then_some(identifier));
            others.any(|other| Some(survivors.survivor(other)) != own)
        })
    }

    /// What speaks against a merge (rule 16).
    pub(super) fn doubts(&mut self, tie: &Tie) -> Vec<&'static str> {
        let mut doubts = Vec::new();
        let (old, new) = (self.person(tie.old).whole(), self.person(tie.new).whole());
        if let (Said::Value(old), Said::Value(new)) = (&old.birth, &new.birth)
            && old.date() != new.date()
        {
            doubts.push("birth-date-differs");
        }
        let is_known = |code: &str| !matches!(code, "" | "U");
        if let (Said::Value(old), Said::Value(new)) = (&old.sex, &new.sex)
            && old.code != new.code
            && is_known(&old.code)
            && is_known(&new.code)
        {
            doubts.push("sex-differs");
        }
        let in_bed =
            |number: Id| self.encounters.values().flatten().any(|row| row.number == number && row.in_bed);
        if in_bed(tie.old) && in_bed(tie.new) {
            doubts.push("both-in-bed");
        }
        doubts
    }
}
