//! References to nothing (`fhir.references = "exist"`): what a client writes leads to resources that are there, and that who
//! writes may see, or it is refused.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::Id;
use hilum_fhir::FhirId;
use hilum_fhir::IssueType;
use hilum_fhir::check::Finding;
use hilum_fhir::exchange::referring;
use hilum_fhir::json::Json;
use hilum_fhir::search::query::{Criterion, Operand, Query, Target as Asked};
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask::{Place, type_of};
use super::read::visible_all;
use crate::limits::REFERENCES_MAX;
use crate::{References, Room, logical};

/// A client's body with references to this server made relative, where no `fhir.bases` says how we are called: what begins with
/// the address that this very request was sent to is ours, as the links of our own Bundles say it.
///
/// `Host` is what the client says. Who forges it changes how their own body refers, to what they might have referred to by
/// relative references as well; nothing is kept of it, and no other request is read by it. What stood elsewhere stays
/// elsewhere, and so does what stands in `before`: a configured base is recognised in what is stored, this one only in what
/// comes by it.
pub(super) fn local<'t>(caller: &Caller, text: &'t str, before: &str) -> Cow<'t, str> {
    if !caller.shell().fhir_bases().is_empty() {
        return Cow::Borrowed(text);
    }
    let base = answer::base_of(caller.shell(), caller.host());
    // What a Bundle that is kept refers to by full addresses stands in it.
    let is_bundle = || {
        let json = Json::parse(text.as_bytes());
        json.is_ok_and(|json| json.get("resourceType").and_then(Json::as_str) == Some("Bundle"))
    };
    // An address may be written with its signs escaped.
    if !["\\/", "\\u", base.as_str()].iter().any(|sign| text.contains(sign)) || is_bundle() {
        return Cow::Borrowed(text);
    }
    referring(text, |link| below(&base, link).filter(|_| !before.contains(link)).map(str::to_owned))
}

/// `Type/id`, and what may follow it, of an address below `base`.
fn below<'l>(base: &str, link: &'l str) -> Option<&'l str> {
    let own = link.strip_prefix(base)?.strip_prefix('/')?;
    let (ty, rest) = own.split_once('/')?;
    let id = rest.split(['/', '#']).next()?;
    (type_of(ty).is_ok() && FhirId::parse(id).is_ok()).then_some(own)
}

/// A search in which a reference by the address that the request was sent to also means what is written relative, by the rule
/// of [`local`]: wherever it stands in a criterion, a condition's too.
pub(super) fn also_local(caller: &Caller, mut query: Query) -> Query {
    if caller.shell().fhir_bases().is_empty() {
        let base = answer::base_of(caller.shell(), caller.host());
        query.criteria.iter_mut().for_each(|criterion| add_local(&base, criterion));
    }
    query
}

fn add_local(base: &str, criterion: &mut Criterion) {
    match criterion {
        Criterion::Filter(filter) => {
            let own: Vec<Operand> = filter.values.iter().filter_map(|value| own_of(base, value)).collect();
            filter.values.extend(own);
        }
        Criterion::Chain { to, .. } => to.iter_mut().for_each(|(_, criterion)| add_local(base, criterion)),
        Criterion::Has { holds, .. } | Criterion::Listed(holds) => add_local(base, holds),
        Criterion::Within(_) => {}
    }
}

fn own_of(base: &str, value: &Operand) -> Option<Operand> {
    let Operand::Reference(Asked::Address(address)) = value else { return None };
    let (ty, rest) = below(base, address)?.split_once('/')?;
    let resource_type = type_of(ty).ok()?;
    let id = FhirId::parse(rest.split(['/', '#']).next()?).ok()?;
    Some(Operand::Reference(Asked::Local { resource_type, id }))
}

/// A resource by its type and its id in the chart.
type Target = (&'static str, Id);

/// What is written, or deleted, in the same commit.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) written: BTreeSet<Target>,
    pub(super) deleted: BTreeSet<Target>,
}

impl Beside {
    /// A resource alone, which may refer to itself.
    pub(super) fn of(place: &Place) -> Self {
        Self { written: BTreeSet::from([(place.resource_type, place.id)]), ..Self::default() }
    }
}

/// Refuses a body that refers to nothing, where that is the policy. References within the resource, and to elsewhere, are
/// not asked for.
pub(super) async fn must_lead(
    room: &Room,
    caller: &Caller,
    body: &str,
    beside: &Beside,
) -> Result<(), Trouble> {
    if room.policy.references == References::Any {
        return Ok(());
    }
    let json = Json::parse(body.as_bytes())?;
    let (mut asked, mut findings) = (BTreeMap::new(), Vec::new());
    for (expression, place) in led(room, &json) {
        match place {
            Some(place) if beside.written.contains(&(place.resource_type, place.id)) => {}
            Some(place) => {
                asked.entry((place.resource_type, place.id)).or_insert((expression, place));
            }
            None => findings.push(nothing(expression)),
        }
    }
    if asked.len() > REFERENCES_MAX {
        return Err(Trouble::References(REFERENCES_MAX));
    }
    let targets: Vec<Target> = asked.keys().copied().collect();
    for some in targets.chunks(READ_RESOURCES_MAX) {
        let standing = room.chart.read_all(&caller.authority, some).await?;
        let alive: Vec<_> = standing.iter().flatten().filter(|stored| !stored.deleted).collect();
        let shown = visible_all(room, caller, &alive).await?;
        for (stored, _) in alive.iter().zip(shown).filter(|(_, body)| body.is_some()) {
            let target = (type_of(&stored.resource_type)?, stored.id);
            let is_it = |(_, place): &(String, Place)| logical::is_of(stored, &place.logical);
            if !beside.deleted.contains(&target) && asked.get(&target).is_some_and(is_it) {
                asked.remove(&target);
            }
        }
    }
    findings.extend(asked.into_values().map(|(expression, _)| nothing(expression)));
    if findings.is_empty() { Ok(()) } else { Err(Trouble::Findings(findings)) }
}

/// Where the references of a resource lead, with their expressions; absent: to nothing that could be. Those within it, and to
/// elsewhere, are left out.
pub(crate) fn led(room: &Room, json: &Json<'_>) -> Vec<(String, Option<Place>)> {
    let mut found = Vec::new();
    let name = json.get("resourceType").and_then(Json::as_str).unwrap_or_default();
    references(json, &mut name.to_owned(), &mut found);
    let bases = room.chart.indexer().map_or(&[][..], |indexer| &indexer.settings().bases);
    let lead = |(expression, raw): (String, &str)| {
        let own = bases.iter().find_map(|base| raw.strip_prefix(base.as_str())?.strip_prefix('/'));
        let raw = own.unwrap_or(raw);
        // The entry of a Bundle that it is not in; a Bundle that is kept has its own entries.
        if raw.starts_with("urn:uuid:") && name != "Bundle" {
            return Some((expression, None));
        }
        let is_elsewhere = raw.starts_with('#') || raw.contains(':');
        (!is_elsewhere).then(|| (expression, place_of(room, raw)))
    };
    found.into_iter().filter_map(lead).collect()
}

fn nothing(expression: String) -> Finding {
    let text =
        "the reference leads to nothing here: write what it leads to before, or in the same transaction";
    Finding { code: IssueType::NotFound, expression, text: text.to_owned() }
}

/// Where a relative reference leads, whatever version it names.
fn place_of(room: &Room, raw: &str) -> Option<Place> {
    let path = raw.split_once("/_history/").map_or(raw, |(path, _)| path);
    Place::parse(room, path.split_once('/')?).ok()
}

/// Each `reference` below `json`, with the expression of what it stands in.
fn references<'j>(json: &'j Json<'_>, path: &mut String, found: &mut Vec<(String, &'j str)>) {
    let whole = path.len();
    match json {
        Json::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                path.extend(["[", &at.to_string(), "]"]);
                references(element, path, found);
                path.truncate(whole);
            }
        }
        Json::Object(members) => {
            for (name, value) in members {
                if let ("reference", Json::String(raw)) = (name.as_ref(), value) {
                    found.push((path.clone(), raw));
                    continue;
                }
                path.push('.');
                path.push_str(name);
                references(value, path, found);
                path.truncate(whole);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_reference_is_found_where_it_stands() {
        let body = r##"{"resourceType":"Observation","subject":{"reference":"Patient/p"},
            "performer":[{"display":"x"},{"reference":"#d"}],"contained":[{"resourceType":"Practitioner","id":"d"}]}"##;
        let json = Json::parse(body.as_bytes()).unwrap();
        let mut found = Vec::new();
        references(&json, &mut "Observation".to_owned(), &mut found);
        let want =
            [("Observation.subject".to_owned(), "Patient/p"), ("Observation.performer[1]".to_owned(), "#d")];
        assert_eq!(found, want);
    }
}
