//! The published examples of R4 (`hl7.fhir.r4.examples` 4.0.1, CC0): all are accepted but those that break R4's own rules, come
//! back as they were sent, and are found by each parameter that they give a value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use hilum_fhir::json::Json;
use hilum_fhir::limits::RESOURCE_BYTES_MAX;
use hilum_fhir::r4::{ParameterType, r4};
use hilum_fhir::search::param::ParamNumber;
use hilum_fhir::search::values::{Settings, Value as Found, kept, values};
use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Server, Start};

/// Bytes of an example beyond which it is left to `HILUM_ALL_EXAMPLES=1`: a handful of definitions of megabytes.
const BYTES_MAX: u64 = 48 << 10;
/// Parameters by which one example is looked for.
const PARAMETERS_OF_ONE: usize = 2;

struct Example {
    name: String,
    ty: &'static str,
    id: String,
    text: String,
}

/// All of them, by name.
fn examples() -> Vec<Example> {
    let folder: PathBuf = hilum_testkit::installed("r4-examples-4.0.1").join("package");
    let all = std::env::var_os("HILUM_ALL_EXAMPLES").is_some();
    let mut examples = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let bytes_max = if all { RESOURCE_BYTES_MAX as u64 } else { BYTES_MAX };
        let is_small = entry.metadata().unwrap().len() <= bytes_max;
        let is_json = entry.path().extension().is_some_and(|end| end == "json");
        if !is_json || name == "package.json" || !is_small {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let ty = r4().resource_types().find(|ty| json["resourceType"] == *ty);
        if let Some((ty, id)) = ty.zip(json["id"].as_str()) {
            let id = id.to_owned();
            examples.push(Example { name, ty, id, text });
        }
    }
    examples.sort_by(|a, b| a.name.cmp(&b.name));
    examples
}

struct Client {
    agent: ureq::Agent,
    base: String,
    key: String,
}

impl Client {
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("x-api-key", &self.key)
            .header("content-type", "application/fhir+json")
            .body(body.to_owned())
            .unwrap();
        let mut answer = self.agent.run(request).unwrap();
        let status = answer.status().as_u16();
        (status, answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap())
    }

    /// How many match; 0 where the search is refused.
    fn count(&self, ty: &str, query: &str) -> u64 {
        let (_, text) = self.ask("GET", &format!("/{ty}?{query}&_summary=count"), "");
        serde_json::from_str::<Value>(&text).unwrap()["total"].as_u64().unwrap_or_default()
    }
}

/// A body without what the server sets, and without spaces: byte for byte what is to come back.
fn bare(text: &str) -> String {
    let mut bare: String = text.split_ascii_whitespace().collect();
    for name in ["versionId", "lastUpdated"] {
        let begin = format!("\"{name}\":\"");
        while let Some(at) = bare.find(&begin) {
            let value = at + begin.len();
            let end = value + bare.get(value..).unwrap().find('"').unwrap() + 1;
            bare.replace_range(at..end, "");
        }
    }
    for (from, to) in [(",,", ","), ("{,", "{"), (",}", "}"), ("\"meta\":{},", ""), (",\"meta\":{}", "")] {
        bare = bare.replace(from, to);
    }
    bare
}

/// Bytes of a text that may be asked.
const TEXT_BYTES_MAX: usize = 194;

/// What a value of a parameter is found by.
fn asked(value: &Found, ty: ParameterType) -> Option<String> {
    let urlencoded = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('$', "\\$").replace(',', "\\,").replace('|', "\\|");
        escaped.bytes().fold(String::new(), |out, byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                out + &char::from(byte).to_string()
            }
            _ => out + &format!("%{byte:02X}"),
        })
    };
    Some(match value {
        // A reference that says an identifier.
        Found::Token { code, .. } if ty == ParameterType::Reference => {
            format!(":identifier={}", urlencoded(code))
        }
        Found::Token { code, .. } => format!("={}", urlencoded(code)),
        Found::Reference { resource_type, id } => format!("={resource_type}/{}", id.as_str()),
        // Without a part of an address it is read as an id.
        Found::Uri(address) if !address.contains(['/', ':']) => return None,
        Found::Uri(address) => format!("={}", urlencoded(address)),
        // What is asked may not be as long as what is kept (docs/CONFORMANCE.md).
        Found::String { folded, .. } => {
            let (begins, _) = folded.split_at(folded.floor_char_boundary(TEXT_BYTES_MAX));
            format!("={}", urlencoded(begins))
        }
        Found::Date { low, high } => match (low.as_micros(), high.as_micros()) {
            (i64::MIN, i64::MAX) => return None,
            (i64::MIN, _) => format!("=le{}", urlencoded(&high.to_jiff().to_string())),
            _ => format!("=ge{}", urlencoded(&low.to_jiff().to_string())),
        },
        Found::Number { .. } | Found::Pair(_) => ":missing=false".to_owned(),
        Found::System(_) | Found::There { .. } | Found::Coded { .. } => return None,
    })
}

/// What breaks R4's own rules: a required element is missing, mostly; two have ids of 65 characters.
fn is_refused_rightly(text: &str) -> bool {
    let outcome: Value = serde_json::from_str(text).unwrap();
    outcome["issue"][0]["expression"][0].is_string()
}

#[test]
fn published_examples_are_accepted_come_back_and_are_found() {
    let folder = tempdir().unwrap();
    let config = "[http]\nzone = \"Asia/Seoul\"\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_mins(2)))
        .build();
    let base = format!("http://{}/fhir", server.http.unwrap());
    let client = Client { agent: agent.into(), base, key: server.key("client", "admin") };
    let examples = examples();
    let mut kept_ones = Vec::new();
    let mut refused = Vec::new();
    for example in &examples {
        let Example { name, ty, id, text } = example;
        let path = format!("/{ty}/{id}");
        let (status, said) = client.ask("PUT", &path, text);
        let is_named_so = id.len() <= 64;
        if !is_named_so || status == 422 && is_refused_rightly(&said) {
            refused.push(name.as_str());
            continue;
        }
        assert!([200, 201].contains(&status), "{name}: {status} {said}");
        let (status, back) = client.ask("GET", &path, "");
        assert_eq!(status, 200, "{name}: {back}");
        assert!(bare(&back) == bare(text), "{name} comes back as something else");
        kept_ones.push(example);
    }
    assert!(kept_ones.len() > 4_000, "{} examples", kept_ones.len());
    let refused_max = examples.len() / 50;
    assert!(refused.len() <= refused_max, "{} are refused: {refused:?}", refused.len());

    // Each parameter by the first examples that give it a value.
    let settings = Settings { zone: jiff::tz::TimeZone::get("Asia/Seoul").unwrap(), bases: Vec::new() };
    let mut tried: BTreeMap<ParamNumber, usize> = BTreeMap::new();
    let (mut found_by, mut missed) = (BTreeSet::new(), Vec::new());
    for Example { name, ty, id, text } in kept_ones {
        let found = values(&Json::parse(text.as_bytes()).unwrap(), &settings, &[]).values;
        for parameter in r4().parameters_of(ty) {
            let Some(kept) = kept(ty, parameter.code) else { continue };
            let count = tried.entry(ParamNumber::of(ty, parameter.code).unwrap()).or_default();
            if *count >= PARAMETERS_OF_ONE || parameter.ty == ParameterType::Special {
                continue;
            }
            let is_of = |value: &Found, param: ParamNumber| match (value, kept.only) {
                (Found::Reference { resource_type, .. }, Some(only)) => {
                    param == kept.references && *resource_type == only
                }
                (Found::Reference { .. }, None) => param == kept.references,
                _ => param == kept.number,
            };
            let of = found.iter().find(|entry| {
                is_of(&entry.value, entry.param) && asked(&entry.value, parameter.ty).is_some()
            });
            let Some(asked) = of.and_then(|entry| asked(&entry.value, parameter.ty)) else { continue };
            *count += 1;
            let code = parameter.code;
            let by_id = client.count(ty, &format!("_id={id}&{code}{asked}"));
            if by_id == 1 && client.count(ty, &format!("{code}{asked}")) > 0 {
                found_by.insert((*ty, code));
            } else {
                missed.push(format!("{name}: {code}{asked}"));
            }
        }
    }
    assert!(missed.is_empty(), "{} are not found: {missed:#?}", missed.len());
    assert!(found_by.len() > 1_000, "{} parameters found something", found_by.len());
}
