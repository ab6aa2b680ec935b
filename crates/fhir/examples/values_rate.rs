//! What the values of a resource cost: `cargo run --release -p hilum-fhir --example values_rate -- FILE…`, each file one
//! resource or a Bundle of some. Prints microseconds a resource, by type: parsing, and extraction.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hilum_fhir::json::Json;
use hilum_fhir::search::values::{Settings, values};
use jiff::tz::TimeZone;

#[derive(Default)]
struct Cost {
    resources: u32,
    bytes: usize,
    values: usize,
    parsed: Duration,
    extracted: Duration,
}

fn main() {
    let settings = Settings { zone: TimeZone::UTC, bases: Vec::new() };
    let mut bodies: Vec<String> = Vec::new();
    for path in std::env::args().skip(1) {
        let one: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        match one["entry"].as_array() {
            Some(entries) => bodies.extend(entries.iter().map(|entry| entry["resource"].to_string())),
            None => bodies.push(one.to_string()),
        }
    }
    let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
    for round in 0..6 {
        for body in &bodies {
            let begun = Instant::now();
            let Ok(json) = Json::parse(body.as_bytes()) else { continue };
            let parsed = begun.elapsed();
            let found = values(&json, &settings, &[]).values;
            let extracted = begun.elapsed().saturating_sub(parsed);
            // The first round reads the definitions.
            if round > 0 {
                let ty = json.get("resourceType").and_then(Json::as_str).unwrap_or_default();
                let cost = costs.entry(ty.to_owned()).or_default();
                cost.resources += 1;
                cost.bytes += body.len();
                cost.values += found.len();
                cost.parsed += parsed;
                cost.extracted += extracted;
            }
        }
    }
    println!("type resources bytes values parse_us extract_us");
    for (ty, cost) in costs {
        let each = |of: f64| of / f64::from(cost.resources);
        println!(
            "{ty} {} {:.0} {:.1} {:.1} {:.1}",
            cost.resources,
            each(cost.bytes as f64),
            each(cost.values as f64),
            each(cost.parsed.as_secs_f64() * 1e6),
            each(cost.extracted.as_secs_f64() * 1e6),
        );
    }
}
