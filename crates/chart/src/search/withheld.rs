//! Whom no search may find, nor go through: what an answer leaves out is not told by a total, a chain, `_has` or an order
//! either. A room says it as checks, which are asked with all others, in the same statement, as things stand now.

use hilum_core::Seq;
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Keep, Probe, Term, Test};
use hilum_fhir::r4::r4;
use hilum_fhir::search::param::{ParamNumber, type_number};

use crate::index::tables::{REF, TOKEN};
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
}

/// What is visible now: opened, and not closed yet.
pub fn visible_now() -> Vec<Keep> {
    vec![Keep { column: "to_t", test: Test::AbsentOrAbove(Value::Seq(Seq(i64::MAX))) }]
}

/// Whether a resource of this type, by its row, has one of these codes in `meta.security` now.
pub fn is_labelled(resource_type: &str, labels: &[&str]) -> Check {
    let Some(param) = ParamNumber::of(resource_type, "_security") else { return Check::Any(Vec::new()) };
    let labelled = |label: &&str| {
        let code = Term::Is(Value::Text((*label).to_owned()));
        let prefix = vec![Term::Is(Value::Int(param.get())), code, Term::Subject];
        Check::Has(Probe { keep: visible_now(), ..Probe::by_key(TOKEN.name, prefix) })
    };
    Check::Any(labels.iter().map(labelled).collect())
}

/// The same of a Patient by its id.
pub fn is_patient_labelled(labels: &[&str]) -> Check {
    let prefix = vec![Term::Is(Value::Text("Patient".to_owned())), Term::Subject];
    Check::Each {
        probe: Probe::by_key(RESOURCE.name, prefix),
        subject: "row",
        check: Box::new(is_labelled("Patient", labels)),
    }
}

/// Whether a resource of this type, by its row, is withheld by any room; absent where nothing withholds it.
pub fn is_withheld(resource_type: &str, rooms: &[Withheld]) -> Option<Check> {
    let mut any = Vec::new();
    for room in rooms {
        if let Some(param) = ParamNumber::compartment(resource_type) {
            let prefix = vec![Term::Is(Value::Int(param.get())), Term::Subject];
            any.push(Check::Each {
                probe: Probe { keep: visible_now(), ..Probe::by_index(REF.name, "by_subject", prefix) },
                subject: "target",
                check: Box::new(room.patient.clone()),
            });
        }
        for (_, code) in room.through.iter().filter(|(ty, _)| *ty == resource_type) {
            let Some((param, leads_to)) =
                ParamNumber::of(resource_type, code).zip(r4().parameter(resource_type, code))
            else {
                continue;
            };
            for ty in &leads_to.targets {
                let number = Value::Int(type_number(ty).unwrap_or_default());
                let prefix = vec![Term::Is(Value::Int(param.get())), Term::Subject, Term::Is(number)];
                any.push(Check::Each {
                    probe: Probe { keep: visible_now(), ..Probe::by_index(REF.name, "by_subject", prefix) },
                    subject: "target",
                    check: Box::new(Check::Each {
                        probe: Probe::by_key(
                            RESOURCE.name,
                            vec![Term::Is(Value::Text((*ty).to_owned())), Term::Subject],
                        ),
                        subject: "row",
                        check: Box::new(is_labelled(ty, room.labels)),
                    }),
                });
            }
        }
        if !room.labels.is_empty() {
            let owned = Keep { column: "owner", test: Test::Is(Value::Text(room.owner.to_owned())) };
            let by_row = Probe::by_index(RESOURCE.name, "by_row", vec![Term::Subject]);
            any.push(Check::All(vec![
                is_labelled(resource_type, room.labels),
                Check::Has(Probe { keep: vec![owned], ..by_row }),
            ]));
        }
    }
    (!any.is_empty()).then_some(Check::Any(any))
}
