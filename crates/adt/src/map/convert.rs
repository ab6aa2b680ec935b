//! Data types of HL7 v2 as elements of FHIR, by HL7's v2-to-FHIR tables; where we differ, it says why.

use std::borrow::Cow;

use hilum_core::{Id, InstallationKey};

use super::element::{
    Address, Beside, Coding, Concept, ContactPoint, Extension, HumanName, Identifier, Meta, Period,
    Reference, Urn, Value,
};
use super::vocabulary::{
    ADDRESS_TYPE, BCP_47, IDENTIFIER_TYPE, LANGUAGE, NAME_TYPE, TELECOM_EQUIPMENT, TELECOM_USE, Table,
    V3_CONFIDENTIALITY, authority_system, coding_system, language, v2_table,
};
use super::{Notes, ids, summary};
use crate::content::datatypes as v2;
use crate::content::time::When;
use crate::state::{Mark, Standing};

/// Further codes for a code: what was sent where FHIR's own codes say less or nothing (HL7).
pub const ALTERNATE_CODES: &str = "http://hl7.org/fhir/StructureDefinition/alternate-codes";
/// Why something is absent (HL7).
pub const DATA_ABSENT: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";
/// Keyed hash of a national number whose value is masked (`valueUuid`).
pub const NATIONAL_HASH: &str = "urn:hilum:extension:national-number-hash";
/// Whether an item of a group still counts: `no-longer-sent`, `deleted` (`valueCode`).
pub const STANDING: &str = "urn:hilum:extension:standing";
/// The record that something was sent for, before a merge (`valueReference`).
pub const ORIGIN: &str = "urn:hilum:extension:origin";
/// The system of the tags that tell what a person should know ([`Mark::id`]).
pub const MARK_SYSTEM: &str = "urn:hilum:mark";

/// `Period` of two times.
pub fn period<'a>(from: Option<&'a When>, to: Option<&'a When>) -> Option<Period<'a>> {
    Period::of(from.map(When::as_str), to.map(When::as_str))
}

/// `meta` of a resource of the fold. Marks that count quarantined messages change without the chart: they stay out.
pub fn meta<'a>(message: Option<Id>, confidential: bool, marks: &'a [(String, &'a Mark)]) -> Meta<'a> {
    let security =
        if confidential { vec![Coding::of(V3_CONFIDENTIALITY, "R", "restricted")] } else { Vec::new() };
    let tag = marks
        .iter()
        .filter(|(_, mark)| !matches!(mark, Mark::NotApplied(_)))
        .map(|(id, _)| Coding::of(MARK_SYSTEM, id, ""))
        .collect();
    Meta { source: message.map(Urn), security, tag }
}

/// Marks with their ids, in order.
pub fn named(marks: &[Mark]) -> Vec<(String, &Mark)> {
    let mut named: Vec<(String, &Mark)> = marks.iter().map(|mark| (mark.id(), mark)).collect();
    named.sort();
    named
}

/// The extension that says that an item counts no more.
pub fn standing(standing: Standing) -> Option<Extension<'static>> {
    let code = match standing {
        Standing::Current => return None,
        Standing::NoLongerSent => "no-longer-sent",
        Standing::Deleted => "deleted",
    };
    Some(Extension { url: STANDING, value: Value::Code(code) })
}

/// The extension that names the record that an item came from, where it is another one.
pub fn origin(origin: Id, patient: Id) -> Option<Extension<'static>> {
    (origin != patient)
        .then(|| Extension { url: ORIGIN, value: Value::Reference(Reference::to("Patient", origin)) })
}

/// The system of a code that names none, or names the table itself, is the table's; absent where there is no table.
fn system_of<'a>(
    name: &'a str,
    table: &Table,
    path: &'static str,
    notes: &mut Notes,
) -> Option<Cow<'a, str>> {
    if name.is_empty() {
        return (!table.system.is_empty()).then_some(Cow::Borrowed(table.system));
    }
    let (uri, is_known) = coding_system(name);
    if !is_known {
        notes.unmapped("0396", path);
    }
    Some(uri)
}

/// Whether a code is of the table: its system is not said, or is the table's.
fn is_of(system: &str, table: &Table) -> bool {
    system.is_empty() || v2_table(system) == Some(table.number) || system == "HL7"
}

/// CWE. What the table maps comes first, then what was sent, so that nothing is lost and nothing is guessed.
pub fn concept<'a>(
    coded: &'a v2::Coded,
    table: &Table,
    path: &'static str,
    notes: &mut Notes,
) -> Concept<'a> {
    let mut coding = Vec::with_capacity(2);
    let sent = [
        (&coded.code, &coded.text, &coded.system, &coded.version),
        (&coded.alternate_code, &coded.alternate_text, &coded.alternate_system, &coded.alternate_version),
    ];
    for (at, (code, text, system, version)) in sent.into_iter().enumerate() {
        if code.is_empty() {
            continue;
        }
        if is_of(system, table) {
            match table.target(code) {
                Some((target, mapped, display)) => coding.push(Coding::of(target, mapped, display)),
                None if at == 0 && table.is_unmapped(code) => notes.unmapped(table.number, path),
                None => {}
            }
        }
        coding.push(Coding {
            system: system_of(system, table, path, notes),
            version,
            code,
            display: text,
            ..Coding::default()
        });
    }
    let text = if !coded.original.is_empty() {
        &coded.original
    } else if coding.is_empty() {
        coded.words()
    } else {
        ""
    };
    Concept { coding, text }
}

/// A text that may be a code (AL1-5): without text and system it is words.
pub fn words_or_concept<'a>(
    coded: &'a v2::Coded,
    table: &Table,
    path: &'static str,
    notes: &mut Notes,
) -> Concept<'a> {
    if coded.text.is_empty() && coded.system.is_empty() && coded.alternate_code.is_empty() {
        return Concept::text(coded.words());
    }
    concept(coded, table, path, notes)
}

/// PID-15: the language tag first where we know it.
pub fn language_concept<'a>(coded: &'a v2::Coded, path: &'static str, notes: &mut Notes) -> Concept<'a> {
    let mut concept = concept(coded, &LANGUAGE, path, notes);
    match language(&coded.code).or_else(|| language(&coded.alternate_code)) {
        Some((tag, name)) => concept.coding.insert(0, Coding::of(BCP_47, tag, name)),
        None => notes.unmapped(LANGUAGE.number, path),
    }
    concept
}

/// What was sent for a code that FHIR has no word for, to stand beside the element.
pub fn original<'a>(code: &'a str, text: &'a str, table: &Table) -> Beside<'a> {
    let coding =
        Coding { system: Some(Cow::Borrowed(table.system)), code, display: text, ..Coding::default() };
    Beside::one(ALTERNATE_CODES, Value::Concept(Concept { coding: vec![coding], text: "" }))
}

/// A code that must be one of FHIR's: mapped, or absent with what was sent beside it.
pub fn required<'a>(
    code: &'a str,
    table: &Table,
    path: &'static str,
    notes: &mut Notes,
) -> (Option<&'static str>, Option<Beside<'a>>) {
    if code.is_empty() {
        return (None, None);
    }
    if let Some((_, mapped, _)) = table.target(code) {
        return (Some(mapped), None);
    }
    if table.is_unmapped(code) {
        notes.unmapped(table.number, path);
    }
    (None, Some(original(code, "", table)))
}

/// CX, EI. The primary identifier is the usual one; the system is the authority's by [`authority_system`].
pub fn identifier(sent: &v2::Identifier) -> Identifier<'_> {
    let mut extension = Vec::new();
    if let Some(hash) = sent.hash {
        extension.push(Extension { url: NATIONAL_HASH, value: Value::Uuid(hash) });
    }
    if !sent.check.is_empty() {
        let url = "http://hl7.org/fhir/StructureDefinition/identifier-checkDigit";
        extension.push(Extension { url, value: Value::Text(&sent.check) });
    }
    let kind = (!sent.kind.is_empty()).then(|| Concept::of(IDENTIFIER_TYPE.system, &sent.kind, ""));
    let assigner =
        (!sent.namespace.is_empty()).then(|| Reference::default().shown_as(sent.namespace.as_str()));
    Identifier {
        extension,
        usage: (sent.usage == v2::Usage::Primary).then_some("usual"),
        kind,
        system: (!sent.authority.is_empty()).then(|| Cow::Owned(authority_system(&sent.authority))),
        value: &sent.value,
        period: period(sent.from.as_ref(), sent.to.as_ref()),
        assigner,
    }
}

/// XPN, and the name part of XCN. A full name in XPN.1 alone stands whole in `text`; parts only where they were sent.
pub fn human_name<'a>(name: &'a v2::Name, path: &'static str, notes: &mut Notes) -> HumanName<'a> {
    let mut extension = Vec::new();
    if let Some(representation) = name.representation {
        let code = match representation {
            v2::Representation::Alphabetic => "ABC",
            v2::Representation::Ideographic => "IDE",
            v2::Representation::Phonetic => "SYL",
        };
        let url = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation";
        extension.push(Extension { url, value: Value::Code(code) });
    }
    if matches!(name.assembly.as_str(), "F" | "G") {
        let url = "http://hl7.org/fhir/StructureDefinition/humanname-assembly-order";
        extension.push(Extension { url, value: Value::Code(&name.assembly) });
    }
    let (usage, usage_beside) = required(&name.kind, &NAME_TYPE, path, notes);
    let is_east_asian = summary::is_east_asian(name);
    let text =
        if is_east_asian { Cow::Owned(summary::NameDisplay(name).to_string()) } else { Cow::Borrowed("") };
    let valued = |parts: [&'a String; 3]| -> Vec<&'a str> {
        parts.into_iter().filter(|part| !part.is_empty()).map(String::as_str).collect()
    };
    const NONE: &String = &String::new();
    HumanName {
        extension,
        usage,
        usage_beside,
        text,
        family: if summary::is_whole(name) { "" } else { &name.family },
        given: valued([&name.given, &name.middle, NONE]),
        prefix: valued([&name.prefix, NONE, NONE]),
        suffix: valued([&name.suffix, &name.degree, &name.professional]),
        period: period(name.from.as_ref(), name.to.as_ref()),
    }
}

/// XPN.15, "called by", as a name of its own.
pub fn called(name: &v2::Name) -> Option<HumanName<'_>> {
    (!name.called.is_empty()).then(|| HumanName {
        usage: Some("nickname"),
        given: vec![&name.called],
        ..HumanName::default()
    })
}

/// XAD.
pub fn address<'a>(sent: &'a v2::Address, path: &'static str, notes: &mut Notes) -> Address<'a> {
    let kind = matches!(sent.kind.as_str(), "M" | "SH").then_some("postal");
    let (usage, usage_beside) =
        if kind.is_some() { (None, None) } else { required(&sent.kind, &ADDRESS_TYPE, path, notes) };
    Address {
        usage,
        usage_beside,
        kind,
        text: "",
        line: &sent.lines,
        city: &sent.city,
        district: &sent.district,
        state: &sent.state,
        postal_code: &sent.postal_code,
        country: &sent.country,
        period: period(sent.from.as_ref(), sent.to.as_ref()),
    }
}

/// XTN. A mobile phone's use is mobile (CP); where no equipment is said, an address with an at sign is mail, anything
/// else a phone number, for the fields are phone fields.
pub fn contact_point<'a>(sent: &'a v2::Telecom, path: &'static str, notes: &mut Notes) -> ContactPoint<'a> {
    let mut extension = Vec::new();
    if !sent.extension.is_empty() {
        let url = "http://hl7.org/fhir/StructureDefinition/contactpoint-extension";
        extension.push(Extension { url, value: Value::Text(&sent.extension) });
    }
    let (system, _) = required(&sent.kind, &TELECOM_EQUIPMENT, path, notes);
    let by_form = match sent.usage.as_str() {
        "NET" => "email",
        "BPN" => "pager",
        _ if sent.value.contains('@') => "email",
        _ => "phone",
    };
    let (usage, usage_beside) = match (sent.kind.as_str(), sent.usage.as_str()) {
        ("CP", "" | "PRN" | "PRS") => (Some("mobile"), None),
        (_, "NET" | "BPN") => (None, None),
        (_, usage) => required(usage, &TELECOM_USE, path, notes),
    };
    ContactPoint {
        extension,
        system: system.unwrap_or(by_form),
        value: &sent.value,
        usage,
        usage_beside,
        rank: sent.rank,
        period: period(sent.from.as_ref(), sent.to.as_ref()),
    }
}

/// A reference to a practitioner: by words alone where no number was sent.
pub fn practitioner<'a>(key: &InstallationKey, provider: &'a v2::Provider) -> Reference<'a> {
    let display = summary::provider_name(provider);
    match &provider.identifier {
        Some(identifier) => {
            Reference::to("Practitioner", ids::practitioner(key, identifier)).shown_as(display)
        }
        None => Reference::default().shown_as(display),
    }
}

/// A reference to the narrowest Location of a place.
pub fn location<'a>(key: &InstallationKey, place: &v2::Place) -> Reference<'a> {
    let display = summary::place_text(place);
    match ids::narrowest(place) {
        Some(level) => Reference::to("Location", ids::location(key, place, level)).shown_as(display),
        None => Reference::default().shown_as(display),
    }
}
