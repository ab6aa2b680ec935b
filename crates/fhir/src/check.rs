//! Whether a resource has the structure that R4 gives it (<https://hl7.org/fhir/R4/validation.html>): known elements, as
//! often as they may stand, primitives of their form, codes of required bindings. Invariants, profiles, other
//! bindings and what references point to are not asked here.

use crate::date::{DateTime, Precision, Time};
use crate::json::Json;
use crate::limits::{DECIMAL_EXPONENT_MAX, FINDINGS_MAX, ID_BYTES_MAX};
use crate::outcome::IssueType;
use crate::r4::{Definitions, Field, Kind, Shape, r4};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub code: IssueType,
    /// Where: `Patient.name[0].family`.
    pub expression: String,
    /// What it is, and what would be right; no content.
    pub text: String,
}

/// Checks a resource. At most [`FINDINGS_MAX`] findings, in the order of the document.
pub fn check(resource: &Json<'_>) -> Vec<Finding> {
    let mut check = Check { r4: r4(), findings: Vec::new(), path: String::new() };
    check.resource(resource, None);
    check.findings
}

struct Check {
    r4: &'static Definitions,
    findings: Vec<Finding>,
    path: String,
}

impl Check {
    fn find(&mut self, code: IssueType, text: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { code, expression: self.path.clone(), text: text.into() });
        }
    }

    /// Looks at something below, at `step` of where it is.
    fn below(&mut self, step: &str, look: impl FnOnce(&mut Self)) {
        let whole = self.path.len();
        if !self.path.is_empty() && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        look(self);
        self.path.truncate(whole);
    }

    /// A resource, alone or where `field` holds one.
    fn resource(&mut self, json: &Json<'_>, field: Option<&Field>) {
        let Json::Object(_) = json else {
            return self.find(IssueType::Structure, format!("an object belongs here, not {}", json.kind()));
        };
        let Some(name) = json.get("resourceType").and_then(Json::as_str) else {
            return self.find(IssueType::Structure, "`resourceType` is missing");
        };
        let Some(shape) = self.r4.is_resource_type(name).then(|| self.r4.shape(name)).flatten() else {
            let nearest = nearest(name, self.r4.resource_types());
            return self.find(IssueType::Structure, format!("no resource type of R4{nearest}"));
        };
        if field.is_some_and(|field| field.element == "contained") && json.get("contained").is_some() {
            self.find(IssueType::Structure, "a contained resource contains no others");
        }
        if self.path.is_empty() {
            self.below(shape.path, |check| check.object(json, shape));
        } else {
            self.object(json, shape);
        }
    }

    fn object(&mut self, json: &Json<'_>, shape: &'static Shape) {
        let Json::Object(members) = json else {
            return self.find(IssueType::Structure, format!("an object belongs here, not {}", json.kind()));
        };
        if members.is_empty() {
            return self.find(IssueType::Structure, "an object is never empty: leave it out");
        }
        for (name, value) in members {
            if name == "resourceType" && shape.kind == Kind::Resource && !shape.path.contains('.') {
                continue;
            }
            let field = match name.strip_prefix('_') {
                Some(name) => shape.field(name).filter(|field| self.is_primitive(field)),
                None => shape.field(name),
            };
            let Some(field) = field else {
                let nearest = nearest(name, shape.fields().iter().map(|field| &*field.name));
                self.find(IssueType::Structure, format!("unknown element `{}`{nearest}", shown(name)));
                continue;
            };
            self.below(field.element, |check| check.field(value, field, name.starts_with('_')));
        }
        self.presence(json, shape);
    }

    /// What must be there, is; and of a choice one type.
    fn presence(&mut self, json: &Json<'_>, shape: &'static Shape) {
        let mut last = "";
        for field in shape.fields() {
            if field.element == last || !(field.is_required || field.is_choice) {
                continue;
            }
            last = field.element;
            let stands = |field: &&Field| {
                let beside = self.is_primitive(field) && json.get(&format!("_{}", field.name)).is_some();
                beside || json.get(&field.name).is_some()
            };
            let count = shape.fields_of(field.element).filter(stands).count();
            let choice = if field.is_choice { "[x]" } else { "" };
            if count == 0 && field.is_required {
                self.find(IssueType::Required, format!("`{}{choice}` is missing", field.element));
            } else if count > 1 {
                self.find(
                    IssueType::Structure,
                    format!("`{}[x]` may stand once, of one type", field.element),
                );
            }
        }
    }

    fn is_primitive(&self, field: &Field) -> bool {
        self.r4.shape(field.ty).is_some_and(|shape| shape.kind == Kind::Primitive)
    }

    fn field(&mut self, json: &Json<'_>, field: &'static Field, is_beside: bool) {
        match (json, field.repeats) {
            (Json::Array(elements), true) => {
                if elements.is_empty() {
                    self.find(IssueType::Structure, "an array is never empty: leave it out");
                }
                for (at, element) in elements.iter().enumerate() {
                    self.below(&format!("[{at}]"), |check| check.one(element, field, is_beside, true));
                }
            }
            (Json::Array(_), false) => self.find(IssueType::Structure, "stands once: no array belongs here"),
            (_, true) => self.find(IssueType::Structure, "may repeat: an array belongs here, also for one"),
            (_, false) => self.one(json, field, is_beside, false),
        }
    }

    fn one(&mut self, json: &Json<'_>, field: &'static Field, is_beside: bool, in_array: bool) {
        let primitive = self.r4.shape(field.ty).filter(|shape| shape.kind == Kind::Primitive);
        match (json, primitive) {
            // Arrays of primitives and of what is beside them fill each other's gaps.
            (Json::Null, Some(_)) if in_array => {}
            (Json::Null, _) => self.find(IssueType::Structure, "null is no value: leave it out"),
            (_, Some(_)) if is_beside => {
                if let Some(element) = self.r4.shape("Element") {
                    self.object(json, element);
                }
            }
            (_, Some(_)) => self.primitive(json, field),
            (_, None) if field.ty == "Resource" => self.resource(json, Some(field)),
            (_, None) => {
                if let Some(shape) = self.r4.shape(field.ty) {
                    self.object(json, shape);
                    self.coded(json, field);
                }
            }
        }
    }

    fn primitive(&mut self, json: &Json<'_>, field: &Field) {
        if let Err(want) = is_of(json, field.ty) {
            return self.find(IssueType::Value, format!("no {}: {want}", field.ty));
        }
        if let Json::Number(number) = json
            && !is_held(number)
        {
            let text = format!(
                "a number is one that a double holds, with an exponent from -{DECIMAL_EXPONENT_MAX} to {DECIMAL_EXPONENT_MAX}, here"
            );
            return self.find(IssueType::TooLong, text);
        }
        if let (Some(codes), Some(code)) = (field.codes, json.as_str())
            && !codes.contains(code)
        {
            self.find(IssueType::CodeInvalid, format!("no code of {}", codes.value_set));
        }
    }

    /// A Coding or CodeableConcept where a value set is required: one of its codes is there.
    fn coded(&mut self, json: &Json<'_>, field: &Field) {
        let Some(codes) = field.codes else { return };
        let codings = match field.ty {
            "Coding" => json.elements(),
            "CodeableConcept" => json.get("coding").map_or(&[][..], Json::elements),
            _ => return,
        };
        let mut given = codings.iter().filter_map(|coding| coding.get("code")?.as_str()).peekable();
        if given.peek().is_some() && !given.any(|code| codes.contains(code)) {
            self.find(IssueType::CodeInvalid, format!("no code of {}", codes.value_set));
        }
    }
}

/// Whether `json` is a primitive of type `ty`; else what would be one.
fn is_of(json: &Json<'_>, ty: &str) -> Result<(), &'static str> {
    let want = match (ty, json) {
        ("boolean", Json::Bool(_)) | ("decimal", Json::Number(_)) => return Ok(()),
        ("boolean", _) => "true or false, without quotes",
        ("integer" | "positiveInt" | "unsignedInt", Json::Number(number)) => {
            let least = match ty {
                "positiveInt" => 1,
                "unsignedInt" => 0,
                _ => i32::MIN,
            };
            if number.parse::<i32>().is_ok_and(|number| number >= least) {
                return Ok(());
            }
            "a whole number of 32 bits, not negative where its name says so"
        }
        ("decimal" | "integer" | "positiveInt" | "unsignedInt", _) => "a number, without quotes",
        (_, Json::String(text)) => return is_text_of(text, ty),
        (_, _) => "a string",
    };
    Err(want)
}

/// Whether a number, as JSON writes it, is no larger and no smaller than is taken.
fn is_held(number: &str) -> bool {
    let is_finite = number.parse::<f64>().is_ok_and(f64::is_finite);
    let exponent = number.split_once(['e', 'E']).map_or("0", |(_, exponent)| exponent);
    exponent
        .trim_start_matches(['+', '-'])
        .parse::<u32>()
        .is_ok_and(|exponent| is_finite && exponent <= DECIMAL_EXPONENT_MAX)
}

fn is_text_of(text: &str, ty: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("a string is never empty: leave it out");
    }
    let date = || DateTime::parse(text).map(|date| date.precision());
    let (fits, want) = match ty {
        "code" => (
            !text.starts_with(' ')
                && !text.ends_with(' ')
                && !text.contains("  ")
                && !text.contains(char::is_control),
            "no white space but single spaces within",
        ),
        "id" => (
            text.len() <= ID_BYTES_MAX
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')),
            "1 to 64 of A-Z a-z 0-9 - .",
        ),
        "uri" | "url" | "canonical" => {
            (!text.contains(|sign: char| sign.is_whitespace() || sign.is_control()), "no white space")
        }
        "oid" => {
            (text.strip_prefix("urn:oid:").is_some_and(is_oid), "urn:oid: and numbers with dots between")
        }
        "uuid" => (text.strip_prefix("urn:uuid:").is_some_and(is_uuid), "urn:uuid: and a UUID in lower case"),
        "date" => (date().is_some_and(|date| date < Precision::Second), "YYYY, YYYY-MM or YYYY-MM-DD"),
        "dateTime" => (date().is_some(), "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone"),
        "instant" => (date() == Some(Precision::Second), "YYYY-MM-DDThh:mm:ss with a zone"),
        "time" => (Time::parse(text).is_some(), "hh:mm:ss"),
        "base64Binary" => (is_base64(text), "base64 as of RFC 4648"),
        "xhtml" => (text.trim_start().starts_with("<div"), "a <div> with its content"),
        _ => (
            text.chars().all(|sign| sign >= ' ' || matches!(sign, '\t' | '\n' | '\r'))
                && !text.trim().is_empty(),
            "no control characters, and more than white space",
        ),
    };
    if fits { Ok(()) } else { Err(want) }
}

fn is_oid(text: &str) -> bool {
    text.split('.').all(|arc| {
        arc == "0" || (!arc.starts_with('0') && !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.split('-').count() == lengths.len()
        && text.split('-').zip(lengths).all(|(part, length)| part.len() == length && is_hex(part))
}

fn is_base64(text: &str) -> bool {
    let mut count = 0_usize;
    let mut padding = 0;
    for byte in text.bytes().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        match byte {
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return false,
        }
        count += 1;
    }
    count.is_multiple_of(4) && padding <= 2
}

/// A member's name for a message: a long one may be anything.
fn shown(name: &str) -> String {
    if name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        name.to_owned()
    } else {
        "…".to_owned()
    }
}

/// `; did you mean …?` where a name is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known.filter(|known| known.eq_ignore_ascii_case(name) || one_apart(known, name)).min();
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Whether one letter more, less or other makes the one name of the other.
fn one_apart(one: &str, other: &str) -> bool {
    let (long, short) = if one.len() >= other.len() { (one, other) } else { (other, one) };
    let (long, short) = (long.as_bytes(), short.as_bytes());
    if long.len() - short.len() > 1 {
        return false;
    }
    let same = long.iter().zip(short).take_while(|(one, other)| one == other).count();
    let rest = |bytes: &'_ [u8], from: usize| bytes.get(from..).map(<[u8]>::to_vec);
    rest(long, same + 1) == rest(short, if long.len() == short.len() { same + 1 } else { same })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(raw: &str) -> Vec<(String, String)> {
        let json = Json::parse(raw.as_bytes()).unwrap();
        check(&json).into_iter().map(|finding| (finding.expression, finding.text)).collect()
    }

    #[test]
    fn what_is_right_is_silent() {
        let cases = [
            ("little", r#"{"resourceType":"Patient","active":true}"#),
            (
                "much",
                r#"{"resourceType":"Patient","id":"p.1","meta":{"versionId":"1","lastUpdated":"2026-01-02T03:04:05Z"},
                "text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"},
                "name":[{"use":"official","family":"홍","given":["길동",null],"_given":[null,{"extension":[{"url":"u","valueString":"x"}]}]}],
                "gender":"female","birthDate":"1974-12","_birthDate":{"id":"b"},"deceasedBoolean":false,"multipleBirthInteger":2,
                "contact":[{"relationship":[{"text":"mother"}]}],"generalPractitioner":[{"reference":"Practitioner/1"}],
                "contained":[{"resourceType":"Organization","id":"o","name":"x"}]}"#,
            ),
            (
                "a primitive that is absent for a reason",
                r#"{"resourceType":"Observation","_status":{"extension":[{"url":"u","valueCode":"unknown"}]},"code":{"text":"x"}}"#,
            ),
            (
                "numbers with all their digits",
                r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"component":[
                {"code":{"text":"x"},"valueQuantity":{"value":-1.50e+200}},{"code":{"text":"x"},"valueQuantity":{"value":1E-0200}}]}"#,
            ),
            (
                "items within items",
                r#"{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","item":[{"linkId":"2","type":"choice"}]}]}"#,
            ),
            (
                "a resource within a bundle",
                r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Basic","code":{"text":"x"}}}]}"#,
            ),
        ];
        for (why, raw) in cases {
            assert_eq!(found(raw), [], "{why}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("no resource", "[]", "", "an object belongs here, not an array"),
            ("no type", "{}", "", "`resourceType` is missing"),
            ("an abstract type", r#"{"resourceType":"Resource"}"#, "", "no resource type of R4"),
            (
                "a near type",
                r#"{"resourceType":"Patien"}"#,
                "",
                "no resource type of R4; did you mean `Patient`?",
            ),
            (
                "an unknown element",
                r#"{"resourceType":"Patient","birthdate":"1974"}"#,
                "Patient",
                "unknown element `birthdate`; did you mean `birthDate`?",
            ),
            (
                "a choice without its type",
                r#"{"resourceType":"Patient","deceased":true}"#,
                "Patient",
                "unknown element `deceased`",
            ),
            (
                "two of a choice",
                r#"{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2020"}"#,
                "Patient",
                "`deceased[x]` may stand once, of one type",
            ),
            (
                "no array",
                r#"{"resourceType":"Patient","name":{"family":"x"}}"#,
                "Patient.name",
                "may repeat: an array belongs here, also for one",
            ),
            (
                "an array",
                r#"{"resourceType":"Patient","gender":["male"]}"#,
                "Patient.gender",
                "stands once: no array belongs here",
            ),
            (
                "an empty array",
                r#"{"resourceType":"Patient","name":[]}"#,
                "Patient.name",
                "an array is never empty: leave it out",
            ),
            (
                "an empty object",
                r#"{"resourceType":"Patient","name":[{}]}"#,
                "Patient.name[0]",
                "an object is never empty: leave it out",
            ),
            (
                "null",
                r#"{"resourceType":"Patient","gender":null}"#,
                "Patient.gender",
                "null is no value: leave it out",
            ),
            (
                "an empty text",
                r#"{"resourceType":"Patient","name":[{"family":""}]}"#,
                "Patient.name[0].family",
                "no string: a string is never empty: leave it out",
            ),
            (
                "a truth value as text",
                r#"{"resourceType":"Patient","active":"true"}"#,
                "Patient.active",
                "no boolean: true or false, without quotes",
            ),
            (
                "another code",
                r#"{"resourceType":"Patient","gender":"f"}"#,
                "Patient.gender",
                "no code of administrative-gender",
            ),
            (
                "a control sign in a code",
                r#"{"resourceType":"Patient","link":[{"other":{"reference":"Patient/1"},"type":"see\u0000also"}]}"#,
                "Patient.link[0].type",
                "no code: no white space but single spaces within",
            ),
            (
                "a control sign in an address",
                r#"{"resourceType":"Patient","implicitRules":"http://x/\u0000"}"#,
                "Patient.implicitRules",
                "no uri: no white space",
            ),
            (
                "no date",
                r#"{"resourceType":"Patient","birthDate":"1974-13"}"#,
                "Patient.birthDate",
                "no date: YYYY, YYYY-MM or YYYY-MM-DD",
            ),
            (
                "a number too large",
                r#"{"resourceType":"Patient","multipleBirthInteger":2147483648}"#,
                "Patient.multipleBirth",
                "no integer: a whole number of 32 bits, not negative where its name says so",
            ),
            (
                "a number that few programs hold",
                r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":-1e309}}"#,
                "Observation.value.value",
                "a number is one that a double holds, with an exponent from -308 to 308, here",
            ),
            (
                "one that is nothing to them",
                r#"{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.5E-99999999999}}"#,
                "Observation.value.value",
                "a number is one that a double holds, with an exponent from -308 to 308, here",
            ),
            (
                "what must be there",
                r#"{"resourceType":"Observation","status":"final"}"#,
                "Observation",
                "`code` is missing",
            ),
            (
                "a choice that must be there",
                r#"{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/1"}}"#,
                "MedicationRequest",
                "`medication[x]` is missing",
            ),
            (
                "beside what is no primitive",
                r#"{"resourceType":"Patient","_name":[{"id":"x"}]}"#,
                "Patient",
                "unknown element `_name`; did you mean `name`?",
            ),
            (
                "contained in contained",
                r#"{"resourceType":"Patient","contained":[{"resourceType":"Patient","contained":[{"resourceType":"Patient","active":true}]}]}"#,
                "Patient.contained[0]",
                "a contained resource contains no others",
            ),
        ];
        for (why, raw, expression, text) in cases {
            assert_eq!(found(raw), [(expression.to_owned(), text.to_owned())], "{why}");
        }
        let long = format!(r#"{{"resourceType":"Patient","{}":1}}"#, "홍길동 ".repeat(9));
        assert_eq!(found(&long), [("Patient".to_owned(), "unknown element `…`".to_owned())], "no content");
    }

    #[test]
    fn findings_have_a_bound() {
        let many = format!(r#"{{"resourceType":"Patient","name":[{}{{}}]}}"#, "{},".repeat(FINDINGS_MAX * 2));
        assert_eq!(found(&many).len(), FINDINGS_MAX);
    }
}
