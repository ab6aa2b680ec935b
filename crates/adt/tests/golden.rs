//! Golden messages: each folder of `tests/golden` holds a message and what becomes of it. `BLESS=1` writes them anew.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use hilum_adt::settings::SourceSettings;
use hilum_hl7v2::trigger::Trigger;
use serde_json::{Value, json};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Those of the events are stories of several messages (events.rs).
    let is_event = |path: &PathBuf| path.file_name().and_then(|name| Trigger::find(name.to_str()?)).is_some();
    cases.retain(|path| !is_event(path));
    cases.sort();
    cases
}

/// The environment is the test's own argument: whether to write the golden files anew.
#[allow(clippy::disallowed_methods)]
fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

fn rendered(raw: &[u8]) -> (Value, Vec<String>) {
    let settings = SourceSettings { zone: "Asia/Seoul".into(), ..SourceSettings::default() };
    let folded = common::fold(raw, &settings);
    let mapped = common::resources(&folded);
    let again = common::resources(&common::fold(raw, &settings));
    assert!(mapped == again, "the same message gives the same bytes");
    let mut unmapped: Vec<String> = mapped
        .iter()
        .flat_map(|one| &one.unmapped)
        .map(|one| format!("{} {}", one.table, one.path))
        .collect();
    unmapped.sort();
    let findings: Vec<Value> =
        folded.content.findings.iter().map(|one| json!({"rule": one.rule, "path": one.path})).collect();
    let resources: Vec<Value> = mapped.iter().map(|one| serde_json::from_str(&one.body).unwrap()).collect();
    let bodies = mapped.into_iter().map(|one| one.body).collect();
    (json!({"findings": findings, "unmapped": unmapped, "resources": resources}), bodies)
}

/// FHIR knows no empty value and no null.
fn nothing_empty(value: &Value, path: &str) {
    match value {
        Value::Null => panic!("null at {path}"),
        Value::String(text) => assert!(!text.is_empty(), "empty text at {path}"),
        Value::Array(items) => {
            assert!(!items.is_empty(), "empty list at {path}");
            for (at, item) in items.iter().enumerate() {
                nothing_empty(item, &format!("{path}[{at}]"));
            }
        }
        Value::Object(fields) => {
            assert!(!fields.is_empty(), "empty object at {path}");
            for (name, field) in fields {
                nothing_empty(field, &format!("{path}.{name}"));
            }
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn golden_messages() {
    let cases = cases();
    assert!(cases.len() >= 12, "only {} cases found", cases.len());
    let bless = blessing();
    let mut differing = Vec::new();
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let files: Vec<String> = fs::read_dir(&case)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert!(
            files.iter().all(|file| file == "in.hl7" || file == "out.json"),
            "{name}: a file that nothing reads"
        );
        let raw = fs::read(case.join("in.hl7")).unwrap_or_else(|_| panic!("{name}: no in.hl7"));
        let (got, bodies) = rendered(&raw);
        for resource in got["resources"].as_array().unwrap() {
            nothing_empty(resource, &format!("{name}/{}", resource["resourceType"]));
        }
        for body in bodies {
            assert!(!body.contains("234567"), "{name}: a national number in clear");
        }
        let text = format!("{}\n", serde_json::to_string_pretty(&got).unwrap());
        let out = case.join("out.json");
        if bless {
            fs::write(&out, &text).unwrap();
            continue;
        }
        let want = fs::read_to_string(&out).unwrap_or_default();
        if want != text {
            let line = want.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(0);
            differing.push(format!("{name}, line {}: {:?}", line + 1, text.lines().nth(line)));
        }
    }
    assert!(differing.is_empty(), "BLESS=1 writes them anew:\n{}", differing.join("\n"));
}
