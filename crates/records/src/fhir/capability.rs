//! What the server says that it can (<https://hl7.org/fhir/R4/capabilitystatement.html>), made from the tables that answer.

use std::sync::LazyLock;

use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::response::Response;
use hilum_fhir::r4::{Parameter, ParameterType, r4};
use hilum_fhir::search::query::{RULES, Rule};
use hilum_web::visit::Visit;

use super::answer::{self, Trouble};
use super::ask::{self, JSON_PATCH};

/// The interactions that each type has.
const INTERACTIONS: [&str; 9] = [
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
];
/// The interactions of all types at once.
const OF_ALL: [&str; 4] = ["transaction", "batch", "search-system", "history-system"];
/// The operations on one resource, with the types that have them; none = all.
const OPERATIONS: [(&str, Option<&str>); 5] = [
    ("validate", None),
    ("meta", None),
    ("meta-add", None),
    ("meta-delete", None),
    ("everything", Some("Patient")),
];

fn interactions(codes: &[&str]) -> String {
    codes.iter().map(|code| format!("{{\"code\":\"{code}\"}}")).collect::<Vec<_>>().join(",")
}

fn operation(name: &str, base: &str) -> String {
    format!(
        "{{\"name\":\"{name}\",\"definition\":\"http://hl7.org/fhir/OperationDefinition/{base}-{name}\"}}"
    )
}

/// The operations that a type has.
fn operations(ty: &str) -> String {
    let of_type = OPERATIONS.iter().filter(|(_, of)| of.is_none_or(|of| of == ty));
    let said = of_type.map(|(name, of)| operation(name, of.unwrap_or("Resource")));
    said.collect::<Vec<_>>().join(",")
}

/// The parameters of a type that are answered.
fn search_parameters(ty: &str) -> String {
    let answered = r4().parameters_of(ty).filter(|parameter| Rule::answers(parameter));
    let said = answered.map(|parameter| {
        format!(
            "{{\"name\":\"{}\",\"definition\":\"http://hl7.org/fhir/SearchParameter/{}\",\"type\":\"{}\"}}",
            parameter.code,
            parameter.id,
            Rule::of(parameter.ty).name
        )
    });
    said.collect::<Vec<_>>().join(",")
}

/// What may be included with a type: what it refers to.
fn includes(ty: &str) -> String {
    listed(references_of(ty).map(|parameter| format!("{ty}:{}", parameter.code)))
}

/// What refers to a type.
fn reverse_includes(ty: &str) -> String {
    let named = |source| {
        let leading = references_of(source).filter(|parameter| parameter.leads_to(ty));
        leading.map(move |parameter| format!("{source}:{}", parameter.code))
    };
    listed(r4().resource_types().flat_map(named))
}

/// The references of a type that are answered.
fn references_of(ty: &str) -> impl Iterator<Item = &'static Parameter> {
    r4().parameters_of(ty).filter(|one| one.ty == ParameterType::Reference && Rule::answers(one))
}

fn listed(named: impl Iterator<Item = String>) -> String {
    let all = std::iter::once("*".to_owned()).chain(named);
    all.map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(",")
}

/// The compartments that are searched.
fn compartments() -> String {
    let address =
        |name: &str| format!("\"http://hl7.org/fhir/CompartmentDefinition/{}\"", name.to_lowercase());
    r4().compartments().map(address).collect::<Vec<_>>().join(",")
}

/// What holds of all parameters of a type, from the table that refuses what is not in it.
fn documentation() -> String {
    let answered = RULES.iter().filter(|rule| rule.is_answered);
    let said = answered.map(|rule| format!("{}: {}", rule.name, rule.documentation()));
    format!(
        "Strict: a parameter, modifier or value that is not supported is refused; with Prefer: handling=lenient unknown \
         parameters are left out, and the answer says so. {} Codes and identifiers are compared letter by letter. \
         _list, and _type of a search over several types. Pages: sealed links, with Prefer: hilum-paging=offset (_offset, which is not of the \
         standard) or getpages others. \
         Resources that are made from messages are read only: writes to them are answered with 409.",
        said.collect::<Vec<_>>().join(" ")
    )
}

pub(super) async fn metadata(
    visit: Visit,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let [format, pretty, _mode] = ask::parameters(query.as_deref(), ["_format", "_pretty", "mode"])?;
    ask::takes_json(&headers, format.as_deref())?;
    let pretty = ask::is_pretty(pretty.as_deref())?;
    Ok(answer::json(statement(&answer::base(visit.shell(), &headers)), pretty))
}

/// What each type can, as the program was built: it does not change.
static RESOURCES: LazyLock<String> = LazyLock::new(|| {
    let resources: Vec<String> = r4()
        .resource_types()
        .map(|ty| {
            format!(
                "{{\"type\":\"{ty}\",\"interaction\":[{}],\"versioning\":\"versioned-update\",\"readHistory\":true,\
                 \"updateCreate\":true,\"conditionalRead\":\"full-support\",\"conditionalCreate\":true,\
                 \"conditionalUpdate\":true,\"conditionalDelete\":\"single\",\"searchInclude\":[{}],\
                 \"searchRevInclude\":[{}],\"searchParam\":[{}],\"operation\":[{}]}}",
                interactions(&INTERACTIONS),
                includes(ty),
                reverse_includes(ty),
                search_parameters(ty),
                operations(ty)
            )
        })
        .collect();
    resources.join(",")
});

fn statement(base: &str) -> String {
    format!(
        "{{\"resourceType\":\"CapabilityStatement\",\"status\":\"active\",\"date\":\"2026-11-21\",\"kind\":\"instance\",\
         \"software\":{{\"name\":\"hilum\",\"version\":\"{}\"}},\"implementation\":{{\"description\":\"hilum\",\
         \"url\":\"{base}\"}},\"fhirVersion\":\"4.0.1\",\"format\":[\"json\"],\"patchFormat\":[\"{JSON_PATCH}\"],\"rest\":[{{\"mode\":\"server\",\
         \"documentation\":\"{}\",\"resource\":[{}],\"interaction\":[{}],\"operation\":[{}],\"compartment\":[{}]}}]}}",
        env!("CARGO_PKG_VERSION"),
        documentation(),
        *RESOURCES,
        interactions(&OF_ALL),
        operation("meta", "Resource"),
        compartments()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hilum_fhir::check::check;
    use hilum_fhir::json::Json;
    use hilum_fhir::search::query::{Handling, Query};

    use super::*;

    #[test]
    fn the_statement_is_a_resource_of_r4() {
        let text = statement("http://localhost/fhir");
        let json = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(check(&json), Vec::new());
        let resources = json.get("rest").unwrap().elements()[0].get("resource").unwrap().elements();
        assert_eq!(resources.len(), r4().resource_types().count());
        // What it says is answered is what the grammar takes, and nothing else.
        for (resource, ty) in resources.iter().zip(r4().resource_types()) {
            let said: Vec<&str> = resource
                .get("searchParam")
                .map_or(&[][..], Json::elements)
                .iter()
                .map(|one| one.get("name").and_then(Json::as_str).unwrap())
                .collect();
            for parameter in r4().parameters_of(ty) {
                let missing = format!("{}:missing", parameter.code);
                let taken = Query::parse(ty, [(missing.as_str(), "true")], Handling::Strict).is_ok();
                assert_eq!(said.contains(&parameter.code), taken, "{ty} {}", parameter.code);
            }
            for (member, name) in [("searchInclude", "_include"), ("searchRevInclude", "_revinclude")] {
                let said = resource.get(member).unwrap().elements();
                let said: Vec<&str> = said.iter().map(|one| one.as_str().unwrap()).collect();
                for one in &said {
                    assert!(Query::parse(ty, [(name, *one)], Handling::Strict).is_ok(), "{ty} {name}={one}");
                }
                // What refers to a type is among what comes with who does.
                let target = if name == "_include" { "Patient:link" } else { "Observation:patient" };
                assert!(said.contains(&target) || ty != "Patient", "{ty} {name}");
                assert!(!said.contains(&target) || ty != "Medication", "{ty} {name}");
            }
        }
    }
}
