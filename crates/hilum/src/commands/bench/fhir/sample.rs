//! What is asked for: values of the population itself, read from the server under test.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::Value;

use super::load::Connection;

/// Resources of each type that are looked at.
const EACH_MAX: usize = 5_000;
/// Resources in a page.
const PAGE: usize = 1_000;
/// Types of which resources are read.
const TYPES: [&str; 8] = [
    "Observation",
    "Patient",
    "Encounter",
    "Condition",
    "Procedure",
    "Immunization",
    "Claim",
    "DiagnosticReport",
];

/// What was found.
#[derive(Debug, Default)]
pub struct Sample {
    /// Bodies, for the floors.
    pub bodies: Vec<Vec<u8>>,
    /// `/fhir/Type/id`.
    pub reads: Vec<String>,
    /// The five searches: name and paths.
    pub searches: [(&'static str, Vec<String>); 5],
}

impl Sample {
    /// Looks at the beginning of each type, by id.
    ///
    /// # Errors
    /// The server's.
    pub fn take(address: SocketAddr, key: &str) -> Result<Self> {
        let mut connection = Connection::open(address, key)?;
        let mut sample = Self::default();
        let [family, born, code, value, visit] = &mut sample.searches;
        (family.0, born.0) = ("family", "birthdate + gender");
        (code.0, value.0) = ("patient + code, _sort=-date, 50", "code + value-quantity, 50");
        visit.0 = "Encounter by patient + _include";
        for ty in TYPES {
            let mut next = Some(format!("/fhir/{ty}?_count={PAGE}&_total=none"));
            let mut seen = 0;
            while let Some(path) = next.take().filter(|_| seen < EACH_MAX) {
                let page: Value = serde_json::from_slice(connection.get(&path)?)?;
                for entry in page["entry"].as_array().into_iter().flatten() {
                    sample.see(ty, &entry["resource"]);
                    seen += 1;
                }
                next = next_of(&page);
            }
        }
        sample.mix();
        Ok(sample)
    }

    fn see(&mut self, ty: &str, resource: &Value) {
        let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
        let id = text(&resource["id"]);
        self.reads.push(format!("/fhir/{ty}/{id}"));
        self.bodies.push(resource.to_string().into_bytes());
        let [family, born, code, value, visit] = &mut self.searches;
        if ty == "Patient" {
            family.1.push(format!("/fhir/Patient?family={}", text(&resource["name"][0]["family"])));
            let (birthdate, gender) = (text(&resource["birthDate"]), text(&resource["gender"]));
            born.1.push(format!("/fhir/Patient?birthdate={birthdate}&gender={gender}"));
            visit.1.push(format!(
                "/fhir/Encounter?patient={id}&_include=Encounter:patient&_include=Encounter:practitioner"
            ));
        }
        if ty == "Observation" {
            let coding = &resource["code"]["coding"][0];
            let coded = format!("{}%7C{}", text(&coding["system"]), text(&coding["code"]));
            let subject = resource["subject"]["reference"].as_str().unwrap_or_default();
            let patient = escaped(subject.rsplit('/').next().unwrap_or_default());
            code.1.push(format!("/fhir/Observation?patient={patient}&code={coded}&_sort=-date&_count=50"));
            if let Some(number) = resource["valueQuantity"]["value"].as_f64() {
                value.1.push(format!("/fhir/Observation?code={coded}&value-quantity=ge{number}&_count=50"));
            }
        }
    }

    /// Each value once, in an order that is nobody's, and the same every time.
    fn mix(&mut self) {
        let order = |path: &String| *blake3::hash(path.as_bytes()).as_bytes();
        let lists = self.searches.iter_mut().map(|(_, paths)| paths).chain([&mut self.reads]);
        for paths in lists {
            paths.sort_unstable();
            paths.dedup();
            paths.sort_by_cached_key(order);
        }
    }

    /// The five in equal parts.
    pub fn mixed(&self) -> Vec<String> {
        let longest = self.searches.iter().map(|(_, paths)| paths.len()).max().unwrap_or_default();
        let five = |n: usize| {
            self.searches.iter().filter_map(move |(_, paths)| paths.get(n % paths.len().max(1)).cloned())
        };
        (0..longest).flat_map(five).collect()
    }
}

/// The path of the link to the next page.
pub fn next_of(page: &Value) -> Option<String> {
    let links = page["link"].as_array()?;
    let next = links.iter().find(|link| link["relation"] == "next")?;
    let (_, path) = next["url"].as_str()?.split_once("/fhir/")?;
    Some(format!("/fhir/{path}"))
}

/// A value as it stands in an address.
fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
