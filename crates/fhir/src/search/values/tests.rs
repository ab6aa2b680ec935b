#![allow(clippy::unwrap_used)]
use super::*;

fn settings() -> Settings {
    Settings {
        zone: TimeZone::get("Asia/Seoul").unwrap(),
        bases: vec!["https://hilum.example/fhir".to_owned()],
    }
}

/// The values of one parameter, as text.
fn of(resource: &str, code: &str) -> Vec<String> {
    let json = Json::parse(resource.as_bytes()).unwrap();
    let ty = json.get("resourceType").and_then(Json::as_str).unwrap();
    let number = ParamNumber::of(ty, code).unwrap();
    let found = values(&json, &settings(), &[]).values.into_iter();
    let found = found.filter(|entry| entry.param.itself() == number);
    found.map(|Entry { param, value }| shown(&value, param != number)).collect()
}

fn shown(value: &Value, is_typed: bool) -> String {
    let named = |system: &System| {
        let known = ["http://a", "http://b", "urn:iso:std:iso:4217", "http://unitsofmeasure.org"];
        match known.into_iter().find(|known| System::of(known) == *system) {
            _ if *system == System::NONE => "-".to_owned(),
            Some(known) => known.rsplit(['/', ':']).next().unwrap().to_owned(),
            None => "?".to_owned(),
        }
    };
    let at = |at: &Timestamp| match at.as_micros() {
        i64::MIN | i64::MAX => "…".to_owned(),
        _ => at.to_jiff().to_string(),
    };
    match value {
        Value::Token { code, system } if is_typed => format!("of type {} {code}", named(system)),
        Value::Token { code, system } => format!("{}|{code}", named(system)),
        Value::System(system) => format!("any {}", named(system)),
        Value::There { id } => format!("there {id:?}"),
        Value::Reference { resource_type, id } => format!("{resource_type}/{}", id.as_str()),
        Value::Coded { code, patient } => format!("{code} of {}", patient.as_str()),
        Value::Pair(Pair { code, system, second, low, high, third, .. }) => {
            let bytes =
                |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            format!("{}|{code} ${second} {} {} {}", named(system), bytes(low), bytes(high), bytes(third))
        }
        Value::Uri(address) => format!("uri {address}"),
        Value::String { folded, exact: 0 } if is_typed => format!("called {folded}"),
        Value::String { folded, .. } => folded.clone(),
        Value::Date { low, high } => format!("{} {}", at(low), at(high)),
        Value::Number { unit, low, high, system, code } => {
            let bytes = |end: &Ordered| {
                end.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
            };
            format!("{unit} {} {} {}|{code}", bytes(low), bytes(high), named(system))
        }
    }
}

#[test]
fn every_kind_of_element_becomes_what_is_searched() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (
            "codings, one without a system, one without a code",
            r#"{"resourceType":"Condition","code":{"coding":[{"system":"http://a","code":"x"},{"system":"http://a","code":"z"},{"code":"y"},{"system":"http://b","display":"T"}],"text":" Téxt "}}"#,
            "code",
            &["-|y", "a|x", "a|z", "any b", "called t", "called text"],
        ),
        (
            "a Coding",
            r#"{"resourceType":"Encounter","class":{"system":"http://a","code":"IMP"}}"#,
            "class",
            &["a|IMP"],
        ),
        (
            "what a type of an identifier is called",
            r#"{"resourceType":"Patient","identifier":[{"value":"7","type":{"text":"MRN","coding":[{"display":"Medical record"}]}},{"type":{"text":"mrn"}}]}"#,
            "identifier",
            &["-|7", "called mrn"],
        ),
        ("a code", r#"{"resourceType":"Patient","gender":"male"}"#, "gender", &["-|male"]),
        ("a truth", r#"{"resourceType":"Patient","active":false}"#, "active", &["-|false"]),
        ("what is said", r#"{"resourceType":"Patient"}"#, "deceased", &["-|false"]),
        (
            "a phone",
            r#"{"resourceType":"Patient","telecom":[{"system":"phone","value":"1"}]}"#,
            "phone",
            &["-|1"],
        ),
        (
            "an identifier with its type",
            r#"{"resourceType":"Patient","identifier":[{"type":{"coding":[{"system":"http://a","code":"MR"}]},"system":"http://b","value":"7"}]}"#,
            "identifier",
            &["b|7", "of type ? 7"],
        ),
        (
            "a name's parts, each once",
            r#"{"resourceType":"Patient","name":[{"family":"Núñez","given":["Ana","ANA"]},{"text":"Ana Núñez"}]}"#,
            "name",
            &["ana", "ana", "ana nunez", "nunez"],
        ),
        (
            "an address",
            r#"{"resourceType":"Patient","address":[{"line":["1 A","2 B"],"city":"C"}]}"#,
            "address",
            &["1 a", "2 b", "c"],
        ),
        (
            "a date has no zone",
            r#"{"resourceType":"Patient","birthDate":"1974-12-25"}"#,
            "birthdate",
            &["1974-12-25T00:00:00Z 1974-12-25T23:59:59.999999Z"],
        ),
        (
            "a day of a time is of the zone",
            r#"{"resourceType":"Patient","deceasedDateTime":"2024-05-01"}"#,
            "death-date",
            &["2024-04-30T15:00:00Z 2024-05-01T14:59:59.999999Z"],
        ),
        (
            "a period",
            r#"{"resourceType":"Encounter","period":{"start":"2024-05-01T00:00:00Z"}}"#,
            "date",
            &["2024-05-01T00:00:00Z …"],
        ),
        (
            "one that ended",
            r#"{"resourceType":"Encounter","period":{"end":"2024-05-01T00:00:00Z"}}"#,
            "date",
            &["… 2024-05-01T00:00:00.999999Z"],
        ),
        ("one without ends", r#"{"resourceType":"Encounter","period":{"id":"x"}}"#, "date", &[]),
        (
            "a timing's events and bounds",
            r#"{"resourceType":"ServiceRequest","occurrenceTiming":{"event":["2024-01-01T00:00:00Z"],"repeat":{"boundsPeriod":{"start":"2024-02-01T00:00:00Z"}}}}"#,
            "occurrence",
            &["2024-01-01T00:00:00Z 2024-01-01T00:00:00.999999Z", "2024-02-01T00:00:00Z …"],
        ),
        (
            "a quantity as written and as UCUM has it",
            r#"{"resourceType":"Observation","valueQuantity":{"value":5.40,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}}"#,
            "value-quantity",
            &[" 034e1f36 034e1f36 unitsofmeasure.org|mg", "ucum:g 034e1c36 034e1c36 -|"],
        ),
        (
            "without a code",
            r#"{"resourceType":"Observation","valueQuantity":{"value":5.4,"unit":"mg"}}"#,
            "value-quantity",
            &[" 034e1f36 034e1f36 -|mg"],
        ),
        (
            "less than",
            r#"{"resourceType":"Observation","valueQuantity":{"value":5.4,"comparator":"<"}}"#,
            "value-quantity",
            &[" 00 034e1f36 -|"],
        ),
        (
            "without a value",
            r#"{"resourceType":"Observation","valueQuantity":{"unit":"mg"}}"#,
            "value-quantity",
            &[],
        ),
        (
            "samples",
            r#"{"resourceType":"Observation","valueSampledData":{"origin":{"value":0},"period":1,"factor":2,"dimensions":1,"data":"1 E 3 U","upperLimit":4}}"#,
            "value-quantity",
            &[" 034e1f14 034e1f50 -|"],
        ),
        (
            "money",
            r#"{"resourceType":"Invoice","totalGross":{"value":5.4,"currency":"KRW"}}"#,
            "totalgross",
            &[" 034e1f36 034e1f36 4217|KRW"],
        ),
        (
            "a number",
            r#"{"resourceType":"RiskAssessment","prediction":[{"probabilityDecimal":0.5}]}"#,
            "probability",
            &[" 034e1e32 034e1e32 -|"],
        ),
        (
            "a range of numbers",
            r#"{"resourceType":"RiskAssessment","prediction":[{"probabilityRange":{"low":{"value":0.5}}}]}"#,
            "probability",
            &[" 034e1e32 04 -|"],
        ),
        (
            "references, versions taken off",
            r#"{"resourceType":"Encounter","participant":[{"individual":{"reference":"Practitioner/1/_history/3"}},{"individual":{"reference":"https://hilum.example/fhir/Practitioner/2"}},
            {"individual":{"reference":"https://other.example/fhir/Practitioner/2/_history/1"}},{"individual":{"reference":"urn:uuid:x"}},{"individual":{"reference":"\u0023c"}},{"individual":{"display":"d"}}]}"#,
            "participant",
            &[
                "Practitioner/1",
                "Practitioner/2",
                "uri #",
                "uri https://other.example/fhir/Practitioner/2",
                "uri urn:uuid:x",
            ],
        ),
        (
            "by identifier",
            r#"{"resourceType":"Encounter","subject":{"identifier":{"system":"http://a","value":"7"}}}"#,
            "subject",
            &["a|7"],
        ),
        (
            "a canonical address",
            r#"{"resourceType":"QuestionnaireResponse","questionnaire":"http://q|1"}"#,
            "questionnaire",
            &["uri http://q", "uri http://q|1"],
        ),
        (
            "a relative one",
            r#"{"resourceType":"QuestionnaireResponse","questionnaire":"Questionnaire/q|1"}"#,
            "questionnaire",
            &["Questionnaire/q", "uri Questionnaire/q", "uri Questionnaire/q|1"],
        ),
        (
            "an address of its own",
            r#"{"resourceType":"ValueSet","url":"http://v"}"#,
            "url",
            &["uri http://v"],
        ),
        (
            "a code and a quantity of one element",
            r#"{"resourceType":"Observation","component":[{"code":{"coding":[{"system":"http://a","code":"d"}]},"valueQuantity":{"value":80}},
            {"code":{"coding":[{"code":"s"}]},"valueQuantity":{"value":120,"system":"http://unitsofmeasure.org","code":"mg"}}]}"#,
            "component-code-value-quantity",
            &["-|s $ 034e210c 034e210c ", "-|s $ucum:g 034e1e0c 034e1e0c ", "a|d $ 034e2050 034e2050 "],
        ),
        (
            "two codes, of the resource too",
            r#"{"resourceType":"Observation","code":{"coding":[{"code":"x"}]},"valueCodeableConcept":{"coding":[{"code":"y"}]}}"#,
            "combo-code-value-concept",
            &["-|x $y   "],
        ),
        (
            "a code and a date",
            r#"{"resourceType":"Observation","code":{"coding":[{"code":"x"}]},"valueDateTime":"1970-01-01T00:00:00Z"}"#,
            "code-value-date",
            &["-|x $ 8000000000000000 80000000000f423f "],
        ),
        (
            "a code and a reference",
            r#"{"resourceType":"DocumentReference","relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/1"}}]}"#,
            "relationship",
            &["-|replaces $DocumentReference/1   "],
        ),
        (
            "three, of which one stands elsewhere",
            r#"{"resourceType":"MolecularSequence","referenceSeq":{"chromosome":{"coding":[{"code":"1"}]}},"variant":[{"start":128,"end":130}]}"#,
            "chromosome-variant-coordinate",
            &["-|1 $ 034e210c50 034e210c50 034e210d"],
        ),
        (
            "nothing with the structure of something",
            r#"{"resourceType":"Patient","name":7,"birthDate":"7","link":[[]]}"#,
            "birthdate",
            &[],
        ),
    ];
    for (why, resource, code, want) in cases {
        let (mut got, mut want) = (of(resource, code), want.to_vec());
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want, "{why}");
    }
}

#[test]
fn what_several_parameters_say_is_kept_once() {
    let encounter = r#"{"resourceType":"Encounter","subject":{"reference":"Patient/p"}}"#;
    assert_eq!(of(encounter, "subject"), ["Patient/p"]);
    assert_eq!(of(encounter, "patient"), [""; 0], "subject tells it");
    let foreign = r#"{"resourceType":"Encounter","subject":{"reference":"https://b/Patient/p"}}"#;
    assert_eq!(of(foreign, "patient"), ["uri https://b/Patient/p"]);
    let group = r#"{"resourceType":"Encounter","subject":{"reference":"https://b/Group/p"}}"#;
    assert_eq!(of(group, "patient"), [""; 0]);
    let patient = r#"{"resourceType":"Patient","name":[{"text":"Lee"}]}"#;
    assert_eq!((of(patient, "name").len(), of(patient, "phonetic").len()), (1, 0));
    let json = Json::parse(patient.as_bytes()).unwrap();
    assert!(
        values(&json, &settings(), &["phonetic"])
            .values
            .iter()
            .all(|one| { ParamNumber::of("Patient", "name") != Some(one.param) }),
        "what may not be found by one is found by none"
    );
}

#[test]
fn a_patients_compartment_is_told_by_references() {
    let number = |ty, code| ParamNumber::of(ty, code).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("Patient", &["link"]),
        ("Encounter", &["subject"]),
        ("Observation", &["performer", "subject"]),
        ("Appointment", &["actor"]),
        ("Practitioner", &[]),
    ];
    for (ty, want) in cases {
        let want: BTreeSet<_> = want.iter().map(|code| number(ty, code)).collect();
        assert_eq!(ties(ty), want, "{ty}");
    }
}

#[test]
fn compounds_hold_what_is_asked_together() {
    use super::compound::{Coded, Named};
    let rows = |resource: &str| -> Vec<Value> {
        let json = Json::parse(resource.as_bytes()).unwrap();
        let numbers = [Coded::of("Observation").unwrap().number, Named::of("Patient").unwrap().number];
        let found = values(&json, &settings(), &[]).values.into_iter();
        found.filter(|entry| numbers.contains(&entry.param)).map(|entry| entry.value).collect()
    };
    let observation = |subject: &str| {
        format!(
            r#"{{"resourceType":"Observation","subject":{{"reference":"{subject}"}},
            "code":{{"coding":[{{"system":"http://a","code":"8480-6"}},{{"system":"http://b","code":"8480-6"}},{{"code":"sys"}}]}}}}"#
        )
    };
    let id = FhirId::parse("1").unwrap();
    let coded = |code| Value::Coded { code: Coded::code(code), patient: id.clone() };
    let found = rows(&observation("Patient/1"));
    assert_eq!(found.len(), 2, "a code once, whatever its systems");
    assert!(found.contains(&coded("8480-6")) && found.contains(&coded("sys")));
    assert_eq!(rows(&observation("Group/1")), [], "of nobody");

    let patient = |rest: &str| rows(&format!(r#"{{"resourceType":"Patient","gender":"male"{rest}}}"#));
    let text = |family: &str| {
        let day = 86_400_000_000;
        let of_day = (Timestamp::from_micros(day), Timestamp::from_micros(2 * day - 1));
        Value::String { folded: Named::text(of_day, "male", family).unwrap(), exact: 0 }
    };
    let born = r#","birthDate":"1970-01-02""#;
    let named = format!(r#"{born},"name":[{{"family":"José"}},{{"family":"Kim","given":["Ann"]}}]"#);
    assert_eq!(patient(&named), [text("jose"), text("kim")]);
    assert_eq!(patient(born), [text("")], "who has no family name is found by the others");
    assert_eq!(patient(r#","birthDate":"1970-01""#), [], "a month is no day");
    let long = format!(r#"{born},"name":[{{"family":"{}"}}]"#, "가".repeat(300));
    let found = patient(&long);
    let [Value::String { folded, .. }] = found.as_slice() else { panic!("{found:?}") };
    assert!(folded.len() <= crate::search::fold::FOLDED_BYTES_MAX);
}

#[test]
fn members_are_those_who_did_not_leave() {
    let group = |all: &[String]| {
        let json = format!(r#"{{"resourceType":"Group","member":[{}]}}"#, all.join(","));
        let json = Json::parse(json.as_bytes()).unwrap();
        let found = values(&json, &settings(), &[]);
        let of = |number| found.values.iter().filter(|entry| entry.param == number).count();
        (of(members("Group").unwrap().itself()), of(members("Group").unwrap()), found.too_many)
    };
    let member = |to: &str, rest: &str| format!(r#"{{"entity":{{"reference":"{to}"}}{rest}}}"#);
    let some = [
        member("Patient/1", ""),
        member("Patient/2", r#","inactive":true"#),
        member("Patient/3", r#","inactive":false"#),
        member("urn:x:4", ""),
    ];
    assert_eq!(group(&some), (4, 2, false), "of this server, and still in it");
    let list = r#"{"resourceType":"List","entry":[{"item":{"reference":"Patient/1"}},{"deleted":true,"item":{"reference":"Patient/2"}}]}"#;
    let found = values(&Json::parse(list.as_bytes()).unwrap(), &settings(), &[]);
    let of = |number| found.values.iter().filter(|entry| entry.param == number).count();
    assert_eq!(
        (of(members("List").unwrap().itself()), of(members("List").unwrap())),
        (2, 1),
        "struck off a list"
    );
    // A Group may have as many as its parameter holds.
    let most: Vec<String> = (0..INDEX_ROWS_MAX - 10).map(|n| member(&format!("Patient/{n}"), "")).collect();
    assert_eq!(group(&most), (most.len(), most.len(), false));
}

#[test]
fn values_have_a_bound() {
    let many: Vec<String> = (0..=INDEX_ROWS_MAX).map(|n| format!(r#"{{"value":"{n}"}}"#)).collect();
    let patient = format!(r#"{{"resourceType":"Patient","identifier":[{}]}}"#, many.join(","));
    let found = values(&Json::parse(patient.as_bytes()).unwrap(), &settings(), &[]);
    assert!(found.too_many && found.values.len() <= INDEX_ROWS_MAX + 100);
}
