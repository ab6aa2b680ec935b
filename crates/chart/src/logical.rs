//! Ids of clients. A FHIR id is up to 64 letters, digits, `-` and `.`; the chart's are 16 bytes.

use hilum_core::{Id, InstallationKey};
use hilum_fhir::FhirId;

/// What stands for a logical id in the chart: a UUID as it is written by us stands for itself, any other text is a keyed
/// hash of it and its type. Whether a stored resource is the one that was asked for is seen by its body: a hash alone
/// decides nothing.
pub fn chart_id(key: &InstallationKey, resource_type: &str, id: &FhirId) -> Id {
    let itself = id.as_id().filter(|parsed| parsed.to_string() == id.as_str());
    itself.unwrap_or_else(|| key.id("fhir-id", &[resource_type.as_bytes(), id.as_str().as_bytes()]))
}
