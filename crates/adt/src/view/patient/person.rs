//! The numbers of one person with everything that was said of them, as the room's tables keep it.

use std::collections::{BTreeMap, BTreeSet};

use hilum_core::Id;
use hilum_engines::tables::{Read, Row, Scan, Value};
use serde::de::DeserializeOwned;

use crate::content::{Allergy, Identifier, NextOfKin, PersonContent, Words as _};
use crate::fold::content::{GroupRegister, PersonRegister};
use crate::fold::ties::Survivors;
use crate::kin::{Part, tie_of};
use crate::limits::PATIENT_RECORDS_MAX;
use crate::state::{Item, Standing};
use crate::tables::{CONTENT, NUMBER, TIE};
use crate::view::ViewError;
use crate::view::census::UNREADABLE;
use crate::view::journey::Sight;
use crate::view::row::Columns;

/// Whether a register holds what this program writes.
fn is_readable(part: &str, body: &str) -> bool {
    match part {
        _ if part == Part::Person.as_str() => serde_json::from_str::<PersonRegister>(body).is_ok(),
        _ if part == Part::NextOfKin.as_str() => {
            serde_json::from_str::<GroupRegister<NextOfKin>>(body).is_ok()
        }
        _ => serde_json::from_str::<GroupRegister<Allergy>>(body).is_ok(),
    }
}

/// A row of [`NUMBER`].
pub(super) struct NumberRow {
    pub(super) family: Id,
    pub(super) number: Id,
    pub(super) survivor: Id,
    pub(super) identifier: Option<Identifier>,
    pub(super) marks: Vec<String>,
}

impl NumberRow {
    fn of(row: &Row) -> Result<Self, ViewError> {
        let columns = Columns { table: &NUMBER, row };
        Ok(Self {
            family: columns.id("family")?,
            number: columns.id("number")?,
            survivor: columns.id("survivor")?,
            identifier: serde_json::from_str(columns.text("identifier")?).ok(),
            marks: columns.json("marks").unwrap_or_else(|_| vec![UNREADABLE.to_owned()]),
        })
    }
}

/// The numbers of one person with everything that was said of them.
pub(super) struct Person {
    pub(super) own: NumberRow,
    /// Surviving one first, then in the order in which they fill in.
    pub(super) members: Vec<NumberRow>,
    registers: BTreeMap<(Id, &'static str), String>,
    /// What of it cannot be read.
    unreadable: BTreeSet<&'static str>,
    pub(super) is_cut: bool,
}

impl Person {
    pub(super) async fn read(sight: Sight<'_>, id: Id) -> Result<Self, ViewError> {
        let scan = |index, id| {
            let limit = PATIENT_RECORDS_MAX;
            Read::Scan(Scan { limit, ..Scan::by_index(NUMBER.name, index, vec![Value::Id(id)]) })
        };
        let found = sight.tables.read(&[scan("by_number", id)]).await?;
        let own = found.iter().flatten().next().map(NumberRow::of).ok_or(ViewError::NotFound)??;
        let ties = Scan::by_key(TIE.name, vec![Value::Id(own.family)]);
        let found = sight.tables.read(&[scan("by_survivor", own.survivor), Read::Scan(ties)]).await?;
        let [numbers, ties] = found.as_slice() else { return Err(ViewError::NotFound) };
        let is_cut = numbers.len() >= PATIENT_RECORDS_MAX as usize;
        let mut members: Vec<NumberRow> = numbers.iter().map(NumberRow::of).collect::<Result<_, _>>()?;
        let ties: Vec<_> = ties.iter().filter_map(|row| tie_of(&row.values)).collect();
        let order = Survivors::fold(&ties).members(own.survivor, &ties);
        members.sort_by_key(|member| order.iter().position(|id| *id == member.number).unwrap_or(usize::MAX));
        let parts = [Part::Person, Part::NextOfKin, Part::Allergies, Part::Reactions];
        let wanted: Vec<(Id, &'static str)> = members
            .iter()
            .flat_map(|member| parts.iter().map(|part| (member.number, part.as_str())))
            .collect();
        let family = own.family;
        let reads: Vec<Read> = wanted
            .iter()
            .map(|(owner, part)| Read::Get {
                table: CONTENT.name,
                key: vec![Value::Id(family), Value::Id(*owner), Value::Text((*part).to_owned())],
            })
            .collect();
        let (mut registers, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for (key, rows) in wanted.into_iter().zip(sight.tables.read(&reads).await?) {
            let Some(row) = rows.first() else { continue };
            let body = Columns { table: &CONTENT, row }.text("body")?;
            if is_readable(key.1, body) {
                registers.insert(key, body.to_owned());
            } else {
                unreadable.insert(key.1);
            }
        }
        Ok(Self { own, members, registers, unreadable, is_cut })
    }

    /// Whether what was said of the person, and so whether confidence was asked for, cannot be read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable.contains(Part::Person.as_str())
    }

    /// Whether allergies cannot be read: what is left tells neither which there are nor that there are none.
    pub(super) fn lacks_allergies(&self) -> bool {
        [Part::Allergies, Part::Reactions].iter().any(|part| self.unreadable.contains(part.as_str()))
    }

    /// The marks of its own number, and one when anything of the person cannot be read.
    pub(super) fn marks(&self) -> Vec<String> {
        let mut marks = self.own.marks.clone();
        if !self.unreadable.is_empty() && !marks.iter().any(|mark| mark == UNREADABLE) {
            marks.insert(0, UNREADABLE.to_owned());
        }
        marks
    }

    fn register<T: DeserializeOwned + Default>(&self, owner: Id, part: Part) -> Result<T, ViewError> {
        let Some(body) = self.registers.get(&(owner, part.as_str())) else { return Ok(T::default()) };
        serde_json::from_str(body).map_err(|_| ViewError::Row { table: CONTENT.name, column: "body" })
    }

    pub(super) fn said_of(&self, number: Id) -> Result<PersonContent, ViewError> {
        Ok(self.register::<PersonRegister>(number, Part::Person)?.whole())
    }

    /// What is known of the person: own words, then what merged records fill in. A merged record stands alone.
    pub(super) fn whole(&self) -> Result<PersonContent, ViewError> {
        let mut whole = self.said_of(self.own.number)?;
        if self.own.number == self.own.survivor {
            for member in self.members.iter().filter(|member| member.number != self.own.number) {
                whole.fill(&self.said_of(member.number)?);
            }
        }
        Ok(whole)
    }

    pub(super) fn allergies(&self) -> Result<(Vec<Item<Allergy>>, bool), ViewError> {
        let (mut all, mut is_said) = (Vec::new(), false);
        for member in &self.members {
            let mut own = Vec::new();
            for part in [Part::Allergies, Part::Reactions] {
                is_said |= self.registers.contains_key(&(member.number, part.as_str()));
                own.extend(
                    self.register::<GroupRegister<Allergy>>(member.number, part)?.items(member.number),
                );
            }
            // AL1 and IAM may tell of one thing: what still counts stands, then what was sent last.
            own.sort_by_key(|item| {
                (item.key, std::cmp::Reverse((item.standing == Standing::Current, item.last_sent)))
            });
            own.dedup_by_key(|item| item.key);
            all.extend(own);
        }
        all.sort_by_key(|item| (item.standing != Standing::Current, item.standing == Standing::Deleted));
        Ok((all, is_said))
    }

    pub(super) fn next_of_kin(&self) -> Result<Vec<Item<NextOfKin>>, ViewError> {
        let mut all = Vec::new();
        for member in &self.members {
            let register: GroupRegister<NextOfKin> = self.register(member.number, Part::NextOfKin)?;
            all.extend(register.items(member.number));
        }
        all.sort_by_key(|item| item.standing != Standing::Current);
        Ok(all)
    }
}
