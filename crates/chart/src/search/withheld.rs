//! Whom no search may find, nor go through: what an answer leaves out is not told by a total, a chain, `_has` or an order
//! either. A room says it as checks, which are asked with all others, in the same statement, as things stand now.

use std::collections::BTreeSet;

use hilum_core::{Authority, Seq};
use hilum_engines::tables::query::{Check, Keep, Probe, Term, Test};
use hilum_engines::tables::{Read, Scan, Value};
use hilum_fhir::r4::r4;
use hilum_fhir::search::param::ParamNumber;
use hilum_fhir::search::query::{Criterion, Query};
use hilum_fhir::search::values::{kept, ties};

use super::rows::{At, is_to};
use crate::chart::{Chart, may_read};
use crate::error::ChartError;
use crate::index::tables::{REF, TOKEN};
use crate::port;
use crate::resources::RESOURCE;

/// What a room withholds. [`crate::Discretion`] has the last word on each resource that is shown; what can be said as a
/// check is said here too.
#[derive(Debug, Clone)]
pub struct Withheld {
    /// The owner of the resources that its labels count for.
    pub owner: &'static str,
    /// Of a Patient's id in the chart: whether the patient is withheld, and with them all in their compartment, whoever
    /// wrote it.
    pub patient: Check,
    /// Codes of `meta.security` that withhold a resource of the owner itself.
    pub labels: &'static [&'static str],
    /// Of a type, the parameter by which a resource of the owner leads to one that such a label withholds with it.
    pub through: &'static [(&'static str, &'static str)],
    /// Of a type the parameters by which the owner's resources are not indexed: whether they have a value is not
    /// known, and so who has none, or another one, cannot be asked.
    pub unsearched: &'static [(&'static str, &'static [&'static str])],
    /// Types of which no resource of the owner's is found.
    pub unfound: &'static [&'static str],
    /// What finds something as soon as the owner has made anything; absent where it makes nothing of these types.
    pub made: Option<Scan>,
}

/// What a search does not find of what is there: of a type by a parameter, or of a type whatever is asked.
pub type Unfound = BTreeSet<(&'static str, Option<&'static str>)>;

impl Withheld {
    /// Whether the owner's resources are not indexed by a parameter.
    pub(super) fn leaves_out(&self, resource_type: &str, code: &str) -> bool {
        let of_type = self.unsearched.iter().filter(|(ty, _)| *ty == resource_type);
        of_type.flat_map(|(_, codes)| *codes).any(|one| *one == code)
    }
}

/// What rooms have made that a search, its chains and `_has` among it, does not find.
pub fn unfound(query: &Query, rooms: &[Withheld]) -> Unfound {
    let mut unfound = Unfound::new();
    let whole = rooms.iter().any(|room| room.unfound.contains(&query.resource_type));
    unfound.extend(whole.then_some((query.resource_type, None)));
    for criterion in &query.criteria {
        unfound_by(query.resource_type, criterion, rooms, &mut unfound);
    }
    unfound
}

fn unfound_by(ty: &'static str, criterion: &Criterion, rooms: &[Withheld], out: &mut Unfound) {
    let mut by = |ty: &'static str, code: &'static str| {
        for room in rooms {
            if room.unfound.contains(&ty) {
                out.insert((ty, None));
            } else if room.leaves_out(ty, code) {
                out.insert((ty, Some(code)));
            }
        }
    };
    match criterion {
        Criterion::Filter(filter) => by(ty, filter.parameter.code),
        Criterion::Chain { reference, to } => {
            by(ty, reference.code);
            for (ty, criterion) in to {
                unfound_by(ty, criterion, rooms, out);
            }
        }
        Criterion::Has { resource_type, reference, holds } => {
            by(resource_type, reference.code);
            unfound_by(resource_type, holds, rooms, out);
        }
        Criterion::Listed(_) | Criterion::Within(_) => {}
    }
}

impl Chart {
    /// Whether any of these rooms has made anything.
    ///
    /// # Errors
    /// [`ChartError::NotFound`] when `authority` may not read; the engine's.
    pub async fn has_made(&self, authority: &Authority, rooms: &[Withheld]) -> Result<bool, ChartError> {
        may_read(authority)?;
        let reads = rooms.iter().filter_map(|room| room.made.clone());
        let reads: Vec<Read> = reads.map(|scan| Read::Scan(Scan { limit: 1, ..scan })).collect();
        Ok(port::read(self.tables(), &reads).await?.iter().any(|found| !found.is_empty()))
    }
}

/// What is visible now: opened, and not closed yet.
pub fn visible_now() -> Vec<Keep> {
    vec![Keep { column: "to_t", test: Test::AbsentOrAbove(Value::Seq(Seq(i64::MAX))) }]
}

/// Whether a resource of this type, by its row, has one of these codes in `meta.security` now.
pub fn is_labelled(resource_type: &str, labels: &[&str]) -> Check {
    let Some(param) = ParamNumber::of(resource_type, "_security") else { return Check::Any(Vec::new()) };
    let mut keep = visible_now();
    let labels = labels.iter().map(|label| Value::Text((*label).to_owned())).collect();
    keep.push(Keep { column: "code", test: Test::In(labels) });
    // One look for all labels: most resources have none, of whichever code.
    let prefix = vec![Term::Is(Value::Int(param.get())), Term::Subject];
    Check::Has(Probe { keep, ..Probe::by_index(TOKEN.name, "by_subject", prefix) })
}

/// The same of a Patient of this owner by its id: what a client says of its own withholds nobody, in a search as in a read.
pub fn is_patient_labelled(owner: &str, labels: &[&str]) -> Check {
    is_owned_and_labelled("Patient", owner, labels)
}

fn is_owned_and_labelled(resource_type: &str, owner: &str, labels: &[&str]) -> Check {
    let prefix = vec![Term::Is(Value::Text(resource_type.to_owned())), Term::Subject];
    Check::Each {
        probe: Probe { keep: vec![is_of(owner)], ..Probe::by_key(RESOURCE.name, prefix) },
        subject: "row",
        check: Box::new(is_labelled(resource_type, labels)),
    }
}

fn is_of(owner: &str) -> Keep {
    Keep { column: "owner", test: Test::Is(Value::Text(owner.to_owned())) }
}

/// The resource of a row.
fn by_row() -> Probe {
    Probe::by_index(RESOURCE.name, "by_row", vec![Term::Subject])
}

/// Whether of a patient, in whose compartment a resource of this type, by its row, lies now, something holds; absent where
/// the type lies in none.
pub(super) fn of_a_patient(resource_type: &str, patient: Check) -> Option<Check> {
    let mut any = Vec::new();
    let ties: Vec<Value> = ties(resource_type).into_iter().map(|param| Value::Int(param.get())).collect();
    if !ties.is_empty() {
        let mut keep = visible_now();
        keep.push(is_to("type", "Patient"));
        let prefix = vec![Term::In(ties), Term::Subject];
        let probe = Probe { keep, ..Probe::by_index(REF.name, "by_subject", prefix) };
        any.push(Check::Each { probe, subject: "target", check: Box::new(patient.clone()) });
    }
    if resource_type == "Patient" {
        any.push(Check::Each { probe: by_row(), subject: "id", check: Box::new(patient) });
    }
    (!any.is_empty()).then_some(Check::Any(any))
}

/// Whether a resource of this type, by its row, is withheld by any room; absent where nothing withholds it.
pub fn is_withheld(resource_type: &str, rooms: &[Withheld]) -> Option<Check> {
    let mut any = Vec::new();
    for room in rooms {
        any.extend(of_a_patient(resource_type, room.patient.clone()));
        for (_, code) in room.through.iter().filter(|(ty, _)| *ty == resource_type) {
            let Some((kept, leads_to)) = kept(resource_type, code).zip(r4().parameter(resource_type, code))
            else {
                continue;
            };
            let at = At { kept, t: Value::Seq(Seq(i64::MAX)) };
            for ty in &leads_to.targets {
                let mut refers = at.refers();
                refers.keep.push(is_to("type", ty));
                any.push(Check::Each {
                    probe: refers,
                    subject: "target",
                    check: Box::new(is_owned_and_labelled(ty, room.owner, room.labels)),
                });
            }
        }
        if !room.labels.is_empty() {
            any.push(Check::All(vec![
                is_labelled(resource_type, room.labels),
                Check::Has(Probe { keep: vec![is_of(room.owner)], ..by_row() }),
            ]));
        }
    }
    (!any.is_empty()).then_some(Check::Any(any))
}
