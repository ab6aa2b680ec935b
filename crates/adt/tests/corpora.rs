//! Another converter's opinion of real messages, field by field. Where we differ, `corpora_differences.md` says why: a
//! difference that it does not list fails, and so does a row that no difference needs any more. Skipped, with a word,
//! where the corpora are not there.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hilum_adt::settings::SourceSettings;
use serde_json::Value;

/// The environment is the test's own argument: where another copy of the corpora is.
#[allow(clippy::disallowed_methods)]
fn corpora() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let places = [
        std::env::var_os("HILUM_CORPORA").map(PathBuf::from),
        Some(root.join("../shared/corpora")),
        Some(root.join("../../shared/corpora")),
    ];
    places
        .into_iter()
        .flatten()
        .map(|place| place.join("hl7v2/ms-fhir-converter"))
        .find(|place| place.is_dir())
}

/// A view of one side: field → what it says, in an order of its own.
type View = BTreeMap<&'static str, BTreeSet<String>>;

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A FHIR time as an instant in UTC; a date as it is.
fn instant(raw: &str) -> String {
    raw.parse::<jiff::Timestamp>().map_or_else(|_| raw.to_owned(), |at| at.to_string())
}

fn joined(values: &[Value]) -> String {
    values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("+")
}

fn codes(concept: &Value) -> String {
    let codes: Vec<&str> = list(concept, "/coding").iter().map(|one| text(one, "/code")).collect();
    codes.into_iter().find(|code| !code.is_empty()).unwrap_or(text(concept, "/text")).to_owned()
}

fn name(value: &Value) -> String {
    format!("{} / {} / {}", text(value, "/family"), joined(list(value, "/given")), text(value, "/use"))
}

fn person(view: &mut View, of: &'static [&'static str; 7], person: &Value) {
    let [names, births, sexes, phones, addresses, phone_systems, phone_uses] = *of;
    view.entry(names).or_default().extend(list(person, "/name").iter().map(name));
    view.entry(births).or_default().extend([text(person, "/birthDate").to_owned()]);
    view.entry(sexes).or_default().extend([text(person, "/gender").to_owned()]);
    for one in list(person, "/telecom") {
        let number: String = text(one, "/value").chars().filter(|sign| !" ()-+".contains(*sign)).collect();
        let system = text(one, "/system");
        view.entry(phone_systems).or_default().insert(format!("{number} {system}"));
        view.entry(phone_uses).or_default().insert(format!("{number} {}", text(one, "/use")));
        view.entry(phones).or_default().insert(number);
    }
    let lines = list(person, "/address").iter().map(|one| {
        let part = |path| text(one, path).trim().to_owned();
        format!(
            "{} {} {} {} {}",
            joined(list(one, "/line")),
            part("/city"),
            part("/state"),
            part("/postalCode"),
            part("/country")
        )
    });
    view.entry(addresses).or_default().extend(lines);
}

const PATIENT: [&str; 7] = [
    "patient.name",
    "patient.birthDate",
    "patient.gender",
    "patient.telecom",
    "patient.address",
    "patient.telecom.system",
    "patient.telecom.use",
];
const KIN: [&str; 7] = [
    "kin.name",
    "kin.birthDate",
    "kin.gender",
    "kin.telecom",
    "kin.address",
    "kin.telecom.system",
    "kin.telecom.use",
];

/// What both sides can be compared by.
fn view(resources: &[Value]) -> View {
    let mut view = View::new();
    let by_reference: BTreeMap<String, &Value> = resources
        .iter()
        .map(|one| (format!("{}/{}", text(one, "/resourceType"), text(one, "/id")), one))
        .collect();
    for resource in resources {
        match text(resource, "/resourceType") {
            "Patient" => patient(&mut view, resource),
            "Encounter" => encounter(&mut view, resource, &by_reference),
            "RelatedPerson" => {
                person(&mut view, &KIN, resource);
                let relations = list(resource, "/relationship").iter().map(codes);
                view.entry("kin.relationship").or_default().extend(relations);
            }
            "Condition" => {
                let onset = instant(text(resource, "/onsetDateTime"));
                let code = resource.pointer("/code").map(codes).unwrap_or_default();
                view.entry("condition").or_default().extend([format!("{code} {onset}")]);
                view.entry("condition.text")
                    .or_default()
                    .extend([text(resource, "/code/text").trim().to_owned()]);
                let systems =
                    list(resource, "/code/coding").iter().map(|one| text(one, "/system").to_owned());
                view.entry("condition.system").or_default().extend(systems.take(1));
            }
            "AllergyIntolerance" => {
                let code = resource.pointer("/code").map(codes).unwrap_or_default();
                view.entry("allergy")
                    .or_default()
                    .extend([format!("{code} {}", joined(list(resource, "/category")))]);
                view.entry("allergy.criticality")
                    .or_default()
                    .extend([text(resource, "/criticality").to_owned()]);
                let reactions =
                    list(resource, "/reaction").iter().flat_map(|one| list(one, "/manifestation"));
                view.entry("allergy.reaction").or_default().extend(reactions.map(codes));
            }
            _ => {}
        }
    }
    for said in view.values_mut() {
        said.retain(|one| !one.trim_matches([' ', '/', '+']).is_empty());
    }
    view
}

fn patient(view: &mut View, resource: &Value) {
    person(view, &PATIENT, resource);
    // A masked number cannot be compared; that it is masked is held elsewhere.
    for one in list(resource, "/identifier").iter().filter(|one| !text(one, "/value").contains('*')) {
        let (value, kind) = (text(one, "/value"), text(one, "/type/coding/0/code"));
        view.entry("patient.identifier").or_default().insert(value.to_owned());
        view.entry("patient.identifier.type").or_default().insert(format!("{value} {kind}"));
    }
    let birth_time =
        list(resource, "/_birthDate/extension").iter().map(|one| instant(text(one, "/valueDateTime")));
    view.entry("patient.birthTime").or_default().extend(birth_time);
    let deceased = resource.pointer("/deceasedBoolean").and_then(Value::as_bool).map(|dead| dead.to_string());
    let died = Some(instant(text(resource, "/deceasedDateTime")));
    view.entry("patient.deceased").or_default().extend(deceased.into_iter().chain(died));
    let order = resource.pointer("/multipleBirthInteger").map(ToString::to_string);
    view.entry("patient.multipleBirth").or_default().extend(order);
    let marital = resource.pointer("/maritalStatus").map(codes);
    view.entry("patient.maritalStatus").or_default().extend(marital);
    let languages = list(resource, "/communication").iter().filter_map(|one| one.get("language")).map(codes);
    view.entry("patient.language").or_default().extend(languages);
}

fn encounter(view: &mut View, resource: &Value, by_reference: &BTreeMap<String, &Value>) {
    let mut say = |field, said: String| {
        view.entry(field).or_default().insert(said);
    };
    say("encounter.class", text(resource, "/class/code").to_owned());
    say("encounter.start", instant(text(resource, "/period/start")));
    say("encounter.end", instant(text(resource, "/period/end")));
    for identifier in list(resource, "/identifier") {
        say("encounter.identifier", text(identifier, "/value").to_owned());
    }
    for location in list(resource, "/location") {
        let mut at = text(location, "/location/reference").to_owned();
        let mut names = Vec::new();
        // Theirs points to the unit, ours to the bed: up to the unit, where there is one.
        while let Some(place) = by_reference.get(&at) {
            names.push(text(place, "/name").to_owned());
            let is_unit = text(place, "/physicalType/coding/0/code") == "wa";
            at = if is_unit { String::new() } else { text(place, "/partOf/reference").to_owned() };
            if is_unit {
                names = vec![text(place, "/name").to_owned()];
            }
        }
        say("encounter.location", names.first().cloned().unwrap_or_default());
    }
    for participant in list(resource, "/participant") {
        let role = text(participant, "/type/0/coding/0/code");
        let who = by_reference.get(text(participant, "/individual/reference"));
        let number = who.map_or("", |who| text(who, "/identifier/0/value"));
        say("encounter.participant", format!("{role} {number}"));
    }
    for reason in list(resource, "/reasonCode") {
        say("encounter.reason", codes(reason));
    }
    say("encounter.service", resource.pointer("/serviceType").map(codes).unwrap_or_default());
    for kind in list(resource, "/type") {
        say("encounter.type", codes(kind));
    }
    let disposition = resource.pointer("/hospitalization/dischargeDisposition").map(codes);
    say("encounter.disposition", disposition.unwrap_or_default());
}

/// Whose the surplus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// We say something that they do not.
    We,
    /// They say something that we do not.
    They,
}

/// A row of `corpora_differences.md`.
struct Row {
    field: String,
    side: Side,
    files: Vec<String>,
}

fn reviewed() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora_differences.md");
    let raw = fs::read_to_string(path).unwrap();
    let rows = raw.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [field, side, files, reason] = cells[..] else { panic!("not a row of four: {line}") };
        assert!(reason.len() > 20, "no reason: {line}");
        let side = match side {
            "we" => Side::We,
            "they" => Side::They,
            _ => panic!("neither we nor they: {line}"),
        };
        let files = files.split(',').map(|file| file.trim().to_owned()).collect();
        Row { field: field.trim_matches('`').to_owned(), side, files }
    })
    .collect()
}

#[test]
fn another_converters_opinion() {
    let Some(folder) = corpora() else {
        println!("skipped: the corpora are not there; HILUM_CORPORA names another place");
        return;
    };
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        let is_adt = path.file_name().unwrap().to_string_lossy().starts_with("ADT");
        is_adt && path.extension().is_some_and(|extension| extension == "hl7")
    });
    files.sort();
    assert!(files.len() >= 30, "{} files", files.len());

    let reviewed = reviewed();
    let mut used = vec![false; reviewed.len()];
    let mut open = Vec::new();
    let (mut compared, mut same) = (0, 0);
    for path in files {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let expected = folder.join(format!("expected/{file}-expected.json"));
        let expected: Value = serde_json::from_str(&fs::read_to_string(expected).unwrap()).unwrap();
        let theirs: Vec<Value> =
            list(&expected, "/entry").iter().map(|entry| entry["resource"].clone()).collect();
        let folded = common::fold(&fs::read(&path).unwrap(), &SourceSettings::default());
        let ours: Vec<Value> =
            common::resources(&folded).iter().map(|one| serde_json::from_str(&one.body).unwrap()).collect();
        let (ours, theirs) = (view(&ours), view(&theirs));
        let fields: BTreeSet<&str> = ours.keys().chain(theirs.keys()).copied().collect();
        let none = BTreeSet::new();
        for field in fields {
            let (we, they) = (ours.get(field).unwrap_or(&none), theirs.get(field).unwrap_or(&none));
            compared += 1;
            same += usize::from(we == they);
            for (side, one, other) in [(Side::We, we, they), (Side::They, they, we)] {
                let surplus: Vec<&String> = one.difference(other).collect();
                if surplus.is_empty() {
                    continue;
                }
                let fits = |row: &Row| {
                    row.field == field
                        && row.side == side
                        && row.files.iter().any(|one| one == "*" || *one == file)
                };
                match reviewed.iter().position(fits) {
                    Some(row) => used[row] = true,
                    None => open.push(format!("{file} {field} {side:?} {surplus:?}\n  other side {other:?}")),
                }
            }
        }
    }
    println!("{compared} fields compared, {same} alike, {} rows of reasons", reviewed.len());
    assert!(open.is_empty(), "{} differences without a reason:\n{}", open.len(), open.join("\n"));
    let idle: Vec<&str> =
        reviewed.iter().zip(&used).filter(|(_, used)| !**used).map(|(row, _)| row.field.as_str()).collect();
    assert!(idle.is_empty(), "rows that no difference needs: {idle:?}");
}
