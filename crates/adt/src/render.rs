//! What follows from a batch, as FHIR resources in the changes that it commits.

use std::collections::BTreeSet;

use hilum_chart::projection::{Changes, ResourceChange};
use hilum_core::{Id, InstallationKey, RecordId};

use crate::content::{Place, Provider};
use crate::facts::read::Person;
use crate::kin::Settled;
use crate::map::{
    Mapped, Unmapped, allergy_intolerance, condition, encounter, location, patient, practitioner,
    related_person,
};
use crate::order::Stamp;

fn put(out: &mut Changes, resource_type: &'static str, mapped: Mapped, message: Id) {
    count(&mapped.unmapped);
    out.resource(ResourceChange {
        resource_type,
        id: mapped.id,
        body: Some(mapped.body),
        source: RecordId::from_uuid(message.as_uuid()),
    });
}

fn count(unmapped: &[Unmapped]) {
    for one in unmapped {
        metrics::counter!("hilum_adt_unmapped_codes_total", "table" => one.table, "path" => one.path)
            .increment(1);
    }
}

/// Patients and encounters that changed, and what hangs on them.
pub fn settled(key: &InstallationKey, settled: &Settled, out: &mut Changes) {
    for state in &settled.patients {
        put(out, "Patient", patient::resource(state, key), state.message);
        for item in &state.next_of_kin {
            put(out, "RelatedPerson", related_person::resource(item, state, key), item.message);
        }
        for item in &state.allergies {
            put(out, "AllergyIntolerance", allergy_intolerance::resource(item, state, key), item.message);
        }
    }
    for state in &settled.encounters {
        let confidential = settled.confidential.contains(&state.patient);
        put(out, "Encounter", encounter::resource(state, confidential, key), state.message);
        for item in &state.diagnoses {
            put(out, "Condition", condition::resource(item, state, confidential, key), item.message);
        }
    }
    let gone = settled.gone.iter().map(|id| ("Encounter", id));
    for (resource_type, id) in gone.chain(settled.gone_conditions.iter().map(|id| ("Condition", id))) {
        // A stay of this batch may have it again.
        if out.resources.get(&(resource_type, *id)).is_none_or(|change| change.body.is_none()) {
            let source = RecordId::from_uuid(id.as_uuid());
            out.resource(ResourceChange { resource_type, id: *id, body: None, source });
        }
    }
}

/// Places and providers that a message names. They come from messages, not from states: a state that another message
/// takes back would else leave them behind in one order of arrival and not in another.
pub fn named(key: &InstallationKey, person: &Person, message: Id, out: &mut Changes) {
    let mut places: Vec<&Place> = Vec::new();
    let mut providers: Vec<&Provider> = person.content.primary_care.items().iter().collect();
    for (_, fact) in &person.facts {
        let movement = &fact.body.movement;
        for said in [&movement.place, &movement.temporary, &movement.pending] {
            places.extend(said.value());
        }
        let visit = &fact.body.visit;
        for said in [
            &visit.attending,
            &visit.referring,
            &visit.consulting,
            &visit.admitting,
            &visit.other_providers,
            &visit.referral_source,
        ] {
            providers.extend(said.items());
        }
    }
    providers.extend(person.diagnoses.1.items().iter().filter_map(|diagnosis| diagnosis.clinician.as_ref()));
    let stamp = day_of(person.said);
    let source = RecordId::from_uuid(message.as_uuid());
    let mut seen = BTreeSet::new();
    let mut register = |resource_type: &'static str, mapped: Mapped, out: &mut Changes| {
        if seen.insert((resource_type, mapped.id)) {
            let change = ResourceChange { resource_type, id: mapped.id, body: Some(mapped.body), source };
            out.register_resource(stamp.clone(), change);
        }
    };
    for place in places {
        for mapped in location::resources(place, key) {
            register("Location", mapped, out);
        }
    }
    for provider in providers {
        if let Some(mapped) = practitioner::resource(provider, key) {
            register("Practitioner", mapped, out);
        }
    }
}

/// The day of what was said: a place or provider that every message names is written once a day, not once a message.
fn day_of(said: Stamp) -> Vec<u8> {
    let days = said.at().map_or(0, |at| at.as_micros().div_euclid(86_400_000_000));
    (days.cast_unsigned() ^ (1 << 63)).to_be_bytes().to_vec()
}
