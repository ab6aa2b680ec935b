#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::r4::{ParameterType, r4};

fn parse(ty: &'static str, query: &str) -> Result<Query, QueryError> {
    let pairs: Vec<(&str, &str)> =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    Query::parse(ty, pairs, Handling::Strict).map(|(query, _)| query)
}

fn again(query: &Query) -> String {
    let pairs: Vec<String> = query.pairs().iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[test]
fn what_is_asked_is_said_again_in_one_way() {
    let cases = [
        ("a token", "Patient", "gender=female", "gender=female"),
        ("any of several", "Patient", "gender=female,male", "gender=female,male"),
        ("each for itself", "Patient", "given=a&given=b", "given=a&given=b"),
        ("system and code", "Patient", "identifier=urn:s|1", "identifier=urn:s|1"),
        ("no system", "Patient", "identifier=|1", "identifier=|1"),
        ("any of a system", "Patient", "identifier=urn:s|", "identifier=urn:s|"),
        ("escapes", "Patient", r"identifier=a\|b\,c\$d\\", r"identifier=a\|b\,c\$d\\"),
        ("a backslash before any other letter is one", "Patient", r"name=a\b", r"name=a\\b"),
        ("an empty one is as if it were not there", "Patient", "name=&gender=male", "gender=male"),
        ("a modifier", "Patient", "gender:not=male", "gender:not=male"),
        ("missing", "Patient", "gender:missing=true", "gender:missing=true"),
        ("eq is what is meant without", "Patient", "birthdate=eq2024-05", "birthdate=2024-05"),
        ("a prefix", "Patient", "birthdate=ge2024-05-01", "birthdate=ge2024-05-01"),
        ("a minute without a zone", "Encounter", "date=lt2024-05-01T10:00", "date=lt2024-05-01T10:00"),
        (
            "a plus sign that became a blank",
            "Encounter",
            "date=2024-05-01T10:00:00 09:00",
            "date=2024-05-01T10:00:00+09:00",
        ),
        ("a number", "RiskAssessment", "probability=gt0.80", "probability=gt0.80"),
        (
            "a quantity",
            "Observation",
            "value-quantity=le5.40|http://unitsofmeasure.org|mg",
            "value-quantity=le5.40|http://unitsofmeasure.org|mg",
        ),
        ("a unit alone", "Observation", "value-quantity=5.4||mg", "value-quantity=5.4||mg"),
        ("a number alone", "Observation", "value-quantity=5.4e-3", "value-quantity=5.4e-3"),
        (
            "a composite",
            "Observation",
            "component-code-value-quantity=http://loinc.org|8480-6$gt120||mm[Hg]",
            "component-code-value-quantity=http://loinc.org|8480-6$gt120||mm[Hg]",
        ),
        ("an id", "Observation", "subject=p1", "subject=p1"),
        ("an id and its type", "Observation", "subject:Patient=p1", "subject=Patient/p1"),
        (
            "a reference; its version is not asked for",
            "Observation",
            "subject=Patient/p1/_history/2",
            "subject=Patient/p1",
        ),
        (
            "elsewhere",
            "Observation",
            "subject=http://x.org/fhir/Patient/p1",
            "subject=http://x.org/fhir/Patient/p1",
        ),
        ("by identifier", "Observation", "subject:identifier=urn:s|1", "subject:identifier=urn:s|1"),
        ("a chain", "Observation", "subject:Patient.name=kim", "subject:Patient.name=kim"),
        ("a chain through one type", "Observation", "patient.name=kim", "patient:Patient.name=kim"),
        ("through any type that has it", "Observation", "subject.identifier=1", "subject.identifier=1"),
        (
            "over several steps",
            "Observation",
            "encounter.patient.name:exact=kim",
            "encounter.patient:Patient.name:exact=kim",
        ),
        ("reversed", "Patient", "_has:Observation:patient:code=1", "_has:Observation:patient:code=1"),
        (
            "reversed and behind it a chain",
            "Patient",
            "_has:Observation:patient:encounter.status=planned",
            "_has:Observation:patient:encounter.status=planned",
        ),
        (
            "reversed within reversed",
            "Patient",
            "_has:Observation:patient:_has:AuditEvent:entity:agent-name=x",
            "_has:Observation:patient:_has:AuditEvent:entity:agent-name=x",
        ),
        (
            "behind a chain reversed",
            "Encounter",
            "patient._has:Group:member:_id=g",
            "patient._has:Group:member:_id=g",
        ),
        ("of every resource", "Basic", "_id=a,b&_lastUpdated=gt2024", "_id=a,b&_lastUpdated=gt2024"),
        ("keys of the order", "Patient", "_sort=-birthdate,family", "_sort=-birthdate,family"),
        ("no matches are the count alone", "Patient", "_count=0", "_summary=count"),
        ("more than any bound", "Patient", "_count=99999999999", "_count=4294967295"),
        (
            "includes",
            "Encounter",
            "_include=Encounter:subject:Patient&_revinclude:iterate=Observation:encounter&_include=*&_revinclude=*",
            "_include=Encounter:subject:Patient&_revinclude:iterate=Observation:encounter&_include=*&_revinclude=*",
        ),
        (
            "by the type of an identifier",
            "Patient",
            "identifier:of-type=urn:t|MR|7",
            "identifier:of-type=urn:t|MR|7",
        ),
        ("in a value set", "Observation", "code:in=http://h/vs|1", r"code:in=http://h/vs\|1"),
        (
            "in none of several",
            "Observation",
            "code:not-in=http://h/a,ValueSet/b",
            "code:not-in=http://h/a,ValueSet/b",
        ),
        ("below a code", "Observation", "code:below=urn:s|a", "code:below=urn:s|a"),
        ("above an address", "ValueSet", "url:above=http://h/a/b", "url:above=http://h/a/b"),
        ("in a list", "Patient", "_list=1,2", "_list=1,2"),
        ("the total", "Patient", "_total=accurate", "_total=accurate"),
        ("nothing", "Patient", "", ""),
    ];
    for (why, ty, query, want) in cases {
        let parsed = parse(ty, query).unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(again(&parsed), want, "{why}");
        assert_eq!(again(&parse(ty, want).unwrap()), want, "{why}: again");
    }
}

#[test]
fn what_is_not_known_is_refused_with_the_way_out() {
    let many = vec!["x"; 1_001].join(",");
    let cases = [
        (
            "a slip",
            "Patient",
            "birthdat=2024",
            "parameter 1: Patient has no such parameter; the nearest is `birthdate`",
        ),
        (
            "nothing near",
            "Patient",
            "gender=male&qqqqqqqqqqqq=1",
            "parameter 2: Patient has no such parameter; /fhir/metadata lists them",
        ),
        ("a slip without a value", "Patient", "nmae=", "the nearest is `name`"),
        ("a value set of what is no code", "Patient", "_id:in=http://h/vs", "`_id` is a token parameter"),
        ("an identifier without its type", "Patient", "identifier:of-type=MR|7", "system|code|value"),
        ("below a code of nowhere", "Observation", "code:below=a", "system|code"),
        ("below a URN", "ValueSet", "url:below=urn:oid:1.2", "of URNs none"),
        ("a list that is a function", "Patient", "_list=$current-problems", "a value of `_list`"),
        (
            "a unit of UCUM that is none",
            "Observation",
            "value-quantity=5|http://unitsofmeasure.org|furlongs-per-fortnight",
            "in a unit that UCUM knows",
        ),
        ("of another type", "Patient", "subject=1", "parameter 1: Patient has no such parameter"),
        ("by no element", "Patient", "_text=1", "parameter 1: `_text` is not supported here"),
        (
            "a result parameter of R4",
            "Patient",
            "_elements=id",
            "parameter 1: `_elements` is not supported here",
        ),
        (
            "a composite that lacks a part",
            "Observation",
            "code-value-quantity=a",
            "a value of `code-value-quantity`",
        ),
        ("a part too few", "MolecularSequence", "chromosome-variant-coordinate=a$1", "a value of each part"),
        (
            "texts of what is called nothing, and what else it takes",
            "Patient",
            "gender:text=male",
            "`gender` is a token parameter and takes :missing, :not, :in, :not-in, :above, :below",
        ),
        (
            "types of what is no identifier",
            "Observation",
            "code:of-type=urn:t|MR|7",
            "`code` is a token parameter and takes :missing, :not, :text, :in, :not-in, :above, :below",
        ),
        ("an id has no system", "Patient", "_id:in=http://h/vs", "takes :missing, :not"),
        ("a special one", "Location", "near=1", "`near` is not supported"),
        (
            "a modifier of another type",
            "Patient",
            "gender:exact=male",
            "`gender` is a token parameter and takes :missing, :not",
        ),
        ("of references too", "Observation", "subject:Nobody=1", "takes :missing, :identifier, :[type]"),
        ("no modifier", "Patient", "name:=1", "`name` is a string parameter"),
        (
            "a date that there is not",
            "Patient",
            "birthdate=2023-02-29",
            "a value of `birthdate` is a date like",
        ),
        ("a number that is none", "RiskAssessment", "probability=1.", "a value of `probability` is a number"),
        ("an exponent beyond all", "RiskAssessment", "probability=1e999999999", "a value of `probability`"),
        ("one of several is empty", "Patient", "gender=male,", "a value of `gender`"),
        ("blanks, with which everything begins", "Patient", "family= ", "a value of `family`"),
        ("an accent without a letter", "Patient", "name:contains=\u{301}", "a value of `name`"),
        ("a bar alone", "Patient", "gender=|", "a value of `gender`"),
        ("neither yes nor no", "Patient", "gender:missing=1", "true or false"),
        ("both", "Patient", "gender:missing=true,false", "true or false"),
        ("another type than the name says", "Observation", "subject:Patient=Group/1", "a value of `subject`"),
        ("a chain through what is no reference", "Patient", "gender.name=1", "only a reference"),
        (
            "a chain to where it does not lead",
            "Observation",
            "subject:Basic.code=1",
            "to which the reference leads",
        ),
        ("a chain to anywhere", "Observation", "focus.name=1", "name one"),
        (
            "unknown behind a chain",
            "Observation",
            "patient.nam=1",
            "Patient has no such parameter; the nearest is `name`",
        ),
        ("_has without its parts", "Patient", "_has:Observation:patient=1", "_has is written"),
        ("_has by what leads elsewhere", "Patient", "_has:Observation:encounter:code=1", "leads to the type"),
        (
            "too many steps",
            "Observation",
            "part-of.part-of.part-of.part-of.part-of.part-of.code=1",
            "at most",
        ),
        ("too many values", "Patient", &format!("name={many}"), "a search has at most 1000 values"),
        ("twice", "Patient", "_count=1&_count=2", "`_count` stands twice"),
        ("no count", "Patient", "_count=-1", "a number from 0"),
        ("no order", "Observation", "_sort=subject", "can be sorted by"),
        ("an include by what is no reference", "Patient", "_include=Patient:name", "a value of `_include`"),
        ("an include of nothing", "Patient", "_include=Patient", "a value of `_include`"),
        ("NUL", "Patient", "name=a\0", "a value of `name`"),
    ];
    for (why, ty, query, want) in cases {
        let error = parse(ty, query).expect_err(why).to_string();
        assert!(error.contains(want), "{why}: {error}");
    }
}

#[test]
fn who_is_lenient_leaves_out_names_and_nothing_else() {
    let pairs = [("birthdat", "2024"), ("gender", "male"), ("_elements", "id")];
    let (query, left_out) = Query::parse("Patient", pairs, Handling::Lenient).unwrap();
    assert_eq!((again(&query).as_str(), left_out.len()), ("gender=male", 2));
    for pair in [("gender:exact", "x"), ("birthdate", "x"), ("_sort:x", "x")] {
        assert!(Query::parse("Patient", [pair], Handling::Lenient).is_err(), "{pair:?}");
    }
}

#[test]
fn a_number_is_written_as_in_json() {
    let not =
        ["", "-", ".5", "1.", "+1", "1e", "1e+", "1e+-2", "1e++2", "1e +2", "1e9999", "NaN", "0x1", "１"];
    for raw in not {
        assert!(Number::parse(raw).is_none(), "{raw}");
    }
    // A plus sign that the address did not escape comes as a blank; it is said again without.
    for raw in ["1e2", "1E+2", "1e+2", "1e 2"] {
        let number = Number::parse(raw).unwrap();
        assert_eq!(
            (number.as_str(), number.decimal()),
            ("1e2", Number::parse("1e2").unwrap().decimal()),
            "{raw}"
        );
    }
}

#[test]
fn every_parameter_type_has_a_line_and_says_what_it_takes() {
    for parameter in r4().parameters() {
        let rule = Rule::of(parameter.ty);
        assert!(!rule.documentation().is_empty());
        assert!(!rule.is_answered || rule.modifiers.contains(&Modifier::Missing), "{}", rule.name);
    }
    let composites = r4().parameters().iter().filter(|one| one.ty == ParameterType::Composite);
    assert_eq!(composites.filter(|one| Rule::answers(one)).count(), 46);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes is taken or refused, and what is taken is said again as what means the same.
    #[test]
    fn nothing_breaks_it_and_what_is_said_again_is_the_same(
        ty in prop::sample::select(vec!["Patient", "Observation", "Encounter", "RiskAssessment"]),
        name in prop_oneof![
            prop::sample::select(vec![
                "name", "gender", "identifier", "birthdate", "subject", "patient", "date", "value-quantity",
                "probability", "subject:Patient", "subject.name", "patient.birthdate", "gender:not", "name:exact",
                "subject:identifier", "_id", "_lastUpdated", "_sort", "_count", "_include", "_has:Observation:patient:code",
                "_profile:below", "subject.identifier", "encounter.subject.name:missing",
            ]).prop_map(str::to_owned),
            r"[a-z_:.\-]{0,24}",
            any::<String>(),
        ],
        value in prop_oneof![
            any::<String>(),
            r"[a-z]{0,2}[0-9T:.\-+ e|,$\\]{0,24}",
            r"[a-zA-Z/|,$\\:0-9]{0,24}",
            "(ge|le|ap|)20[0-9]{2}-0[1-9](-[012][1-8](T1[0-9]:[0-5][0-9](:[0-5][0-9])?(Z|.09:00)?)?)?",
        ],
    ) {
        if let Ok((query, _)) = Query::parse(ty, [(name.as_str(), value.as_str())], Handling::Strict) {
            let pairs = query.pairs();
            let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let (second, _) = Query::parse(ty, borrowed, Handling::Strict)
                .map_err(|error| TestCaseError::fail(format!("{pairs:?}: {error}")))?;
            prop_assert_eq!(second.pairs(), pairs);
            prop_assert_eq!(format!("{:?}", second.criteria), format!("{:?}", query.criteria));
        }
    }
}
