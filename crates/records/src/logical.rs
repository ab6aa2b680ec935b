//! Ids of clients.

use hilum_chart::Stored;
pub use hilum_chart::logical::chart_id;
use hilum_fhir::{FhirId, ResourceBody};

/// Whether `stored` is the resource of this logical id. A deletion has no body to ask; a UUID stands for itself, and no keyed
/// hash of another text is one that somebody named.
pub fn is_of(stored: &Stored, id: &FhirId) -> bool {
    let is_itself = || id.as_id() == Some(stored.id) && stored.id.to_string() == id.as_str();
    stored.deleted
        || is_itself()
        || ResourceBody::parse(stored.body.clone()).is_ok_and(|body| body.id() == id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hilum_core::{Id, InstallationKey};

    use super::*;

    #[test]
    fn a_uuid_is_itself_and_other_texts_are_hashes_by_type() {
        let key = InstallationKey::new([7; 32]);
        let id = |raw: &str| FhirId::parse(raw).unwrap();
        let ours = "0190a7c2-5b7e-8f31-9c0d-2a41f3b7e655";
        assert_eq!(chart_id(&key, "Patient", &id(ours)).to_string(), ours);
        let cases = ["a", "0190A7C2-5B7E-8F31-9C0D-2A41F3B7E655", "0190a7c25b7e8f319c0d2a41f3b7e655"];
        let mut all: Vec<Id> = cases.iter().map(|raw| chart_id(&key, "Patient", &id(raw))).collect();
        all.push(chart_id(&key, "Goal", &id("a")));
        all.push(ours.parse().unwrap());
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "two ids became one");
    }
}
