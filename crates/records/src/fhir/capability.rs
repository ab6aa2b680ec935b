//! What the server says that it can (<https://hl7.org/fhir/R4/capabilitystatement.html>), made from the tables that answer.

use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::response::Response;
use hilum_fhir::r4::r4;
use hilum_web::visit::Visit;

use super::answer::{self, Trouble};
use super::ask;

/// The interactions that each type has.
const INTERACTIONS: [&str; 6] = ["read", "vread", "update", "delete", "history-instance", "create"];

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

fn statement(base: &str) -> String {
    let interactions: Vec<String> =
        INTERACTIONS.iter().map(|code| format!("{{\"code\":\"{code}\"}}")).collect();
    let resources: Vec<String> = r4()
        .resource_types()
        .map(|ty| {
            format!(
                "{{\"type\":\"{ty}\",\"interaction\":[{}],\"versioning\":\"versioned-update\",\"readHistory\":true,\
                 \"updateCreate\":true,\"conditionalRead\":\"full-support\",\"conditionalCreate\":false,\
                 \"conditionalUpdate\":false,\"conditionalDelete\":\"not-supported\",\"operation\":[{{\"name\":\
                 \"validate\",\"definition\":\"http://hl7.org/fhir/OperationDefinition/Resource-validate\"}}]}}",
                interactions.join(",")
            )
        })
        .collect();
    format!(
        "{{\"resourceType\":\"CapabilityStatement\",\"status\":\"active\",\"date\":\"2026-11-21\",\"kind\":\"instance\",\
         \"software\":{{\"name\":\"hilum\",\"version\":\"{}\"}},\"implementation\":{{\"description\":\"hilum\",\
         \"url\":\"{base}\"}},\"fhirVersion\":\"4.0.1\",\"format\":[\"json\"],\"rest\":[{{\"mode\":\"server\",\
         \"documentation\":\"Strict: a parameter that is not supported is refused. Resources that are made from messages \
         are read only: writes to them are answered with 409.\",\"resource\":[{}]}}]}}",
        env!("CARGO_PKG_VERSION"),
        resources.join(",")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hilum_fhir::check::check;
    use hilum_fhir::json::Json;

    use super::*;

    #[test]
    fn the_statement_is_a_resource_of_r4() {
        let text = statement("http://localhost/fhir");
        let json = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(check(&json), Vec::new());
        let resources = json.get("rest").unwrap().elements()[0].get("resource").unwrap().elements();
        assert_eq!(resources.len(), r4().resource_types().count());
    }
}
