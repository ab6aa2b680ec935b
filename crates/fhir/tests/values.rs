//! The values of random resources, of every type and every element, and of the published examples of R4.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use hilum_fhir::json::Json;
use hilum_fhir::r4::{Field, Kind, Shape, r4};
use hilum_fhir::search::values::{Settings, Value, kept, values};
use jiff::tz::TimeZone;

fn settings() -> Settings {
    Settings { zone: TimeZone::get("Asia/Seoul").unwrap(), bases: vec!["http://here/fhir".to_owned()] }
}

/// A generator of resources: each element of a type as the definitions say, with texts that hurt.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn text(&mut self) -> String {
        let choices = [
            "a",
            "José",
            "김",
            "\u{1100}\u{1161}",
            "x\0y",
            "http://here/fhir/Patient/1",
            "Patient/p",
            "Patient/p/_history/2",
            "urn:oid:1.2",
            "#c",
            "|",
            "http://x|1",
            "2024-02-29",
            "2024",
            "2024-05-01T00:00:00+09:00",
            "0001",
            "9999-12-31",
            "mg",
            "[degF]",
            "1 E U L -1e99999999999",
            "<",
            ">=",
            "%_'\"\\",
            "\u{202e}",
            " ",
        ];
        match self.below(12) {
            0 => "가".repeat(self.below(400) as usize),
            1 => "x\u{301}".repeat(self.below(400) as usize),
            2 if self.below(60) == 0 => "9".repeat(1 << 20),
            3 => "http://unitsofmeasure.org".to_owned(),
            _ => choices[self.below(choices.len() as u64) as usize].to_owned(),
        }
    }

    fn string(&mut self, out: &mut String) {
        let text = self.text();
        out.push_str(&serde_json::to_string(&text).unwrap());
    }

    fn primitive(&mut self, out: &mut String) {
        match self.below(6) {
            0 => out.push_str(["true", "false", "null"][self.below(3) as usize]),
            1 => out.push_str(
                ["0", "-1.50", "1e400", "1E-400", "99999999999999999999999999999", "5.40"]
                    [self.below(6) as usize],
            ),
            _ => self.string(out),
        }
    }

    fn value(&mut self, field: &Field, depth: u64, out: &mut String) {
        let shape = r4().shape(field.ty);
        match shape {
            Some(shape) if shape.kind == Kind::Complex && depth < 5 => self.object(shape, depth + 1, out),
            None if field.ty == "Resource" && depth < 3 => self.resource(depth + 1, out),
            _ => self.primitive(out),
        }
    }

    fn object(&mut self, shape: &'static Shape, depth: u64, out: &mut String) {
        out.push('{');
        let mut first = true;
        for field in shape.fields() {
            if self.below(2 + depth * 2) != 0 {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            write!(out, "\"{}\":", field.name).unwrap();
            // Now and then without the structure of R4.
            let is_odd = self.below(50) == 0;
            if field.repeats == is_odd {
                self.value(field, depth, out);
                continue;
            }
            out.push('[');
            for at in 0..=self.below(3) {
                if at > 0 {
                    out.push(',');
                }
                self.value(field, depth, out);
            }
            out.push(']');
        }
        out.push('}');
    }

    fn resource(&mut self, depth: u64, out: &mut String) {
        let types: Vec<&str> = r4().resource_types().collect();
        let ty = types[self.below(types.len() as u64) as usize];
        let mut body = String::new();
        self.object(r4().shape(ty).unwrap(), depth, &mut body);
        let rest = body.strip_prefix('{').unwrap();
        let comma = if rest == "}" { "" } else { "," };
        write!(out, "{{\"resourceType\":\"{ty}\"{comma}{rest}").unwrap();
    }
}

/// The texts and bytes that stand in a row's key.
fn key_bytes(value: &Value) -> usize {
    match value {
        Value::Token { code, .. } => code.len(),
        Value::System(_)
        | Value::There { .. }
        | Value::Date { .. }
        | Value::Reference { .. }
        | Value::Coded { .. } => 0,
        Value::Uri(address) => address.len(),
        Value::Pair(pair) => {
            pair.code.len() + pair.second.len() + pair.low.len() + pair.high.len() + pair.third.len()
        }
        Value::String { folded, .. } => folded.len(),
        Value::Number { unit, low, high, code, .. } => {
            unit.len() + low.as_bytes().len() + high.as_bytes().len() + code.len()
        }
    }
}

#[test]
fn values_of_anything_fit_into_rows_and_are_a_function_of_the_body() {
    let (mut random, settings, mut all) = (Random(20_261_121), settings(), 0);
    for _ in 0..1_500 {
        let mut raw = String::new();
        random.resource(0, &mut raw);
        let Ok(json) = Json::parse(raw.as_bytes()) else { continue };
        let found = values(&json, &settings, &[]);
        assert_eq!(values(&json, &settings, &[]), found);
        for entry in &found.values {
            assert!(key_bytes(&entry.value) < 1_024);
            if let Value::Token { code, .. } | Value::Uri(code) | Value::String { folded: code, .. } =
                &entry.value
            {
                assert!(!code.is_empty() && !code.contains('\0'));
            }
        }
        all += found.values.len();
    }
    assert!(all > 4_000, "{all} values: the generator makes too little");
}

/// Parameters that no published example gives a value.
const NEVER: &str = include_str!("never_exercised.tsv");

#[allow(clippy::disallowed_methods)] // where a test's data lies is said by whoever runs it
fn environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// `hl7.fhir.r4.examples` 4.0.1 (CC0; npm), where `scripts/install-tools` puts it.
fn examples() -> Option<PathBuf> {
    let cache = environment("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(environment("HOME")?).join(".cache")))?;
    let folder = cache.join("hilum/tools/r4-examples-4.0.1/package");
    folder.is_dir().then_some(folder)
}

#[test]
fn published_examples_give_values_or_their_parameter_is_listed() {
    let folder = examples().expect("the published examples are there: run scripts/install-tools");
    let (settings, mut found) = (settings(), BTreeSet::new());
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let raw = std::fs::read(&path).unwrap();
        let Ok(json) = Json::parse(&raw) else { continue };
        if json.get("resourceType").is_none() {
            continue;
        }
        count += 1;
        // What is within the resource is there, and nothing finds it.
        let is_within = |value: &Value| matches!(value, Value::Uri(address) if address == "#");
        let of = values(&json, &settings, &[]).values.into_iter().filter(|entry| !is_within(&entry.value));
        found.extend(of.map(|entry| match entry.value {
            Value::Reference { resource_type, .. } => (entry.param.itself(), Some(resource_type)),
            _ => (entry.param.itself(), None),
        }));
    }
    assert!(count > 5_000, "{count} examples");
    let own = ["_id", "_lastUpdated"];
    let mut never = String::new();
    for ty in r4().resource_types() {
        for parameter in r4().parameters_of(ty).filter(|parameter| !own.contains(&parameter.code)) {
            let kept = kept(ty, parameter.code).unwrap();
            let is_found = found.iter().any(|(number, to)| {
                let refers = to.is_some() && (kept.only.is_none() || kept.only == *to);
                *number == if to.is_some() { kept.references } else { kept.number }
                    && (to.is_none() || refers)
            });
            if !is_found {
                writeln!(never, "{ty}\t{}\t{:?}", parameter.code, parameter.ty).unwrap();
            }
        }
    }
    if environment("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/never_exercised.tsv"), &never).unwrap();
        return;
    }
    let (now, before): (BTreeSet<_>, BTreeSet<_>) = (never.lines().collect(), NEVER.lines().collect());
    let differ: Vec<_> = now.symmetric_difference(&before).collect();
    assert!(differ.is_empty(), "{differ:?}: BLESS=1 writes the list anew");
}
