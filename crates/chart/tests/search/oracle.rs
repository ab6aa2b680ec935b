//! What a search should find, by looking at every resource's JSON with the naked eye: no definitions, no extraction, no
//! folding and no dates of the program are used.
#![allow(clippy::nonminimal_bool)] // comparisons stand as R4 says them

use std::collections::BTreeMap;

use serde_json::Value as Json;

/// Type and id.
pub type Place = (&'static str, String);
/// What stands.
pub type Docs = BTreeMap<Place, Json>;

/// What is stored in names, and how it is compared.
pub const TEXTS: [(&str, &str); 9] = [
    ("José", "jose"),
    ("JOSE", "jose"),
    ("Kim", "kim"),
    ("KIMURA", "kimura"),
    ("김", "김"),
    ("김철수", "김철수"),
    ("O'Neil, Ann", "o'neil, ann"),
    ("100%", "100%"),
    ("a_b\\c", "a_b\\c"),
];
/// The system that `Patient.gender` implies.
pub const GENDER: &str = "http://hl7.org/fhir/administrative-gender";
pub const UCUM: &str = "http://unitsofmeasure.org";

#[derive(Debug, Clone, PartialEq)]
enum Val {
    Token(Option<String>, String),
    Text(String),
    /// First and last microsecond.
    Date(i64, i64),
    Refers(String),
    /// In units of 10^-12, and the unit.
    Quantity(i128, Option<String>, String),
}

#[derive(Debug, Clone)]
pub enum How {
    Begins,
    Exact,
    Contains,
    /// What a code is called.
    Called,
}

/// One thing that is asked.
#[derive(Debug, Clone)]
pub enum Ask {
    /// What one element says side by side: a code and a quantity or date.
    Pair {
        code: &'static str,
        token: Box<Ask>,
        beside: Box<Ask>,
    },
    Token {
        code: &'static str,
        values: Vec<(Option<String>, String)>,
        not: bool,
    },
    /// An identifier by the code of its type, of `urn:t`.
    OfType {
        code: &'static str,
        value: String,
    },
    Text {
        code: &'static str,
        how: How,
        values: Vec<String>,
    },
    Date {
        code: &'static str,
        prefix: &'static str,
        text: String,
    },
    Refers {
        code: &'static str,
        to: Vec<String>,
    },
    Quantity {
        code: &'static str,
        prefix: &'static str,
        number: String,
        unit: Option<(&'static str, &'static str)>,
    },
    Missing {
        code: &'static str,
        is_missing: bool,
    },
    Id {
        ids: Vec<String>,
        not: bool,
    },
    Chain {
        code: &'static str,
        ty: &'static str,
        ask: Box<Ask>,
    },
    Has {
        ty: &'static str,
        code: &'static str,
        ask: Box<Ask>,
    },
}

fn escaped(text: &str) -> String {
    text.chars().flat_map(|sign| ",$|\\".contains(sign).then_some('\\').into_iter().chain([sign])).collect()
}

impl Ask {
    fn name(&self) -> String {
        match self {
            Self::OfType { .. } => "identifier:of-type".to_owned(),
            Self::Token { code, not, .. } => format!("{code}{}", if *not { ":not" } else { "" }),
            Self::Text { code, how, .. } => match how {
                How::Begins => (*code).to_owned(),
                How::Exact => format!("{code}:exact"),
                How::Contains => format!("{code}:contains"),
                How::Called => format!("{code}:text"),
            },
            Self::Date { code, .. } | Self::Refers { code, .. } | Self::Quantity { code, .. } => {
                (*code).to_owned()
            }
            Self::Pair { code, .. } => (*code).to_owned(),
            Self::Missing { code, .. } => format!("{code}:missing"),
            Self::Id { not, .. } => format!("_id{}", if *not { ":not" } else { "" }),
            Self::Chain { code, ty, ask } => format!("{code}:{ty}.{}", ask.name()),
            Self::Has { ty, code, ask } => format!("_has:{ty}:{code}:{}", ask.name()),
        }
    }

    fn value(&self) -> String {
        match self {
            Self::Token { values, .. } => {
                let one = |(system, code): &(Option<String>, String)| match system {
                    None => escaped(code),
                    Some(system) => format!("{}|{}", escaped(system), escaped(code)),
                };
                values.iter().map(one).collect::<Vec<_>>().join(",")
            }
            Self::OfType { code, value } => format!("urn:t|{code}|{value}"),
            Self::Text { values, .. } => {
                values.iter().map(|text| escaped(text)).collect::<Vec<_>>().join(",")
            }
            Self::Date { prefix, text, .. } => format!("{prefix}{text}"),
            Self::Refers { to, .. } => to.join(","),
            Self::Quantity { prefix, number, unit, .. } => match unit {
                None => format!("{prefix}{number}"),
                Some((system, code)) => format!("{prefix}{number}|{system}|{code}"),
            },
            Self::Pair { token, beside, .. } => format!("{}${}", token.value(), beside.value()),
            Self::Missing { is_missing, .. } => is_missing.to_string(),
            Self::Id { ids, .. } => ids.join(","),
            Self::Chain { ask, .. } | Self::Has { ask, .. } => ask.value(),
        }
    }

    /// As it stands in an address, without its encoding.
    pub fn pair(&self) -> (String, String) {
        (self.name(), self.value())
    }

    /// Whether it holds of what stands at `place`. `may` says which resources a search may go through.
    pub fn holds(&self, docs: &Docs, place: &Place, may: &dyn Fn(&Place) -> bool) -> bool {
        let doc = &docs[place];
        let all = |code: &str| values(doc, place.0, code);
        match self {
            Self::Token { code, values, not } => {
                let fits = |val: &Val| {
                    let Val::Token(system, own) = val else { return false };
                    values.iter().any(|(wanted, code)| {
                        (code.is_empty() || code == own)
                            && wanted.as_ref().is_none_or(|wanted| {
                                if wanted.is_empty() {
                                    system.is_none()
                                } else {
                                    system.as_ref() == Some(wanted)
                                }
                            })
                    })
                };
                all(code).iter().any(fits) != *not
            }
            Self::OfType { code, value } => each(doc, "/identifier").any(|one| {
                let is_it = text(one, "/type/coding/0/code").as_deref() == Some(code);
                is_it && text(one, "/value").as_ref() == Some(value)
            }),
            Self::Text { code, how, values } => {
                called(doc, code, how).unwrap_or_else(|| all(code)).iter().any(|val| {
                    let Val::Text(own) = val else { return false };
                    values.iter().any(|wanted| match how {
                        How::Begins | How::Called => folded(own).starts_with(folded(wanted)),
                        How::Exact => own == wanted,
                        How::Contains => folded(own).contains(folded(wanted)),
                    })
                })
            }
            Self::Date { code, prefix, text } => {
                let zone_h = if *code == "birthdate" { 0 } else { 9 };
                let (low, high) = period(text, zone_h);
                all(code).iter().any(|val| {
                    let Val::Date(first, last) = *val else { return false };
                    match *prefix {
                        "" | "eq" => low <= first && last <= high,
                        "ne" => first < low || high < last,
                        "gt" => last > high,
                        "lt" => first < low,
                        "ge" => last > high || (low <= first && last <= high),
                        "le" => first < low || (low <= first && last <= high),
                        "sa" => first > high,
                        "eb" => last < low,
                        other => panic!("{other}"),
                    }
                })
            }
            Self::Refers { code, to } => {
                all(code).iter().any(|val| matches!(val, Val::Refers(own) if to.contains(own)))
            }
            Self::Quantity { code, prefix, number, unit } => {
                let (exactly, half) = decimal(number);
                let is_ucum = unit.is_some_and(|(system, _)| system == UCUM);
                let factor = |code: &str| match code {
                    "g" => 1_000,
                    _ => 1, // of a mg
                };
                let scale = unit.filter(|_| is_ucum).map_or(1, |(_, code)| factor(code));
                all(code).iter().any(|val| {
                    let Val::Quantity(own, system, own_unit) = val else { return false };
                    let is_own_ucum = system.as_deref() == Some(UCUM);
                    let fits = match unit {
                        None => true,
                        Some(_) if is_ucum => is_own_ucum,
                        Some((system_wanted, code)) => {
                            (system_wanted.is_empty() || system.as_deref() == Some(system_wanted))
                                && own_unit == code
                        }
                    };
                    let own = if is_ucum { own * factor(own_unit) } else { *own };
                    let (exactly, half) = (exactly * scale, half * scale);
                    fits && match *prefix {
                        "" => exactly - half <= own && own < exactly + half,
                        "ne" => own < exactly - half || exactly + half <= own,
                        "gt" | "sa" => own > exactly,
                        "lt" | "eb" => own < exactly,
                        "ge" => own >= exactly,
                        "le" => own <= exactly,
                        other => panic!("{other}"),
                    }
                })
            }
            Self::Pair { code, token, beside } => {
                let own = (*code != "component-code-value-quantity").then_some(doc);
                let components = each(doc, "/component").filter(|_| !code.starts_with("code-"));
                own.into_iter().chain(components).any(|element| {
                    let alone = Docs::from([(place.clone(), element.clone())]);
                    token.holds(&alone, place, may) && beside.holds(&alone, place, may)
                })
            }
            Self::Missing { code, is_missing } => all(code).is_empty() == *is_missing,
            Self::Id { ids, not } => ids.contains(&place.1) != *not,
            Self::Chain { code, ty, ask } => all(code).iter().any(|val| {
                let Val::Refers(to) = val else { return false };
                let there =
                    (*ty, to.strip_prefix(ty).and_then(|id| id.strip_prefix('/')).unwrap_or("").to_owned());
                docs.contains_key(&there) && may(&there) && ask.holds(docs, &there, may)
            }),
            Self::Has { ty, code, ask } => {
                let here = Val::Refers(format!("{}/{}", place.0, place.1));
                docs.iter().filter(|(other, _)| other.0 == *ty).any(|(other, doc)| {
                    values(doc, ty, code).contains(&here) && may(other) && ask.holds(docs, other, may)
                })
            }
        }
    }
}

/// What the codes of an element are called.
fn called(doc: &Json, code: &str, how: &How) -> Option<Vec<Val>> {
    if !matches!(how, How::Called) {
        return None;
    }
    let of_concept = |concept: &Json| {
        let codings = each(concept, "/coding").filter_map(|coding| text(coding, "/display"));
        codings.chain(text(concept, "/text")).collect::<Vec<_>>()
    };
    let components = || each(doc, "/component").flat_map(|component| of_concept(&component["code"]));
    let texts: Vec<String> = match code {
        "identifier" => each(doc, "/identifier").filter_map(|one| text(one, "/type/text")).collect(),
        "class" => text(doc, "/class/display").into_iter().collect(),
        "code" => of_concept(&doc["code"]),
        "component-code" => components().collect(),
        "combo-code" => of_concept(&doc["code"]).into_iter().chain(components()).collect(),
        other => panic!("{other}"),
    };
    Some(texts.into_iter().map(Val::Text).collect())
}

fn folded(text: &str) -> &str {
    TEXTS.iter().find(|(own, _)| *own == text).map_or(text, |(_, folded)| folded)
}

fn text(doc: &Json, path: &str) -> Option<String> {
    doc.pointer(path).and_then(Json::as_str).map(str::to_owned)
}

fn each<'d>(doc: &'d Json, path: &str) -> impl Iterator<Item = &'d Json> {
    doc.pointer(path).and_then(Json::as_array).into_iter().flatten()
}

fn values(doc: &Json, ty: &str, code: &str) -> Vec<Val> {
    let code_of = |path: &str| text(doc, path).map(|code| Val::Token(None, code)).into_iter().collect();
    let coded = |coding: &Json| text(coding, "/code").map(|code| Val::Token(text(coding, "/system"), code));
    let refers = |path: &str, ty: &str| -> Vec<Val> {
        text(doc, path).filter(|to| to.starts_with(ty)).map(Val::Refers).into_iter().collect()
    };
    let names = |parts: &[&str]| -> Vec<Val> {
        let mut all = Vec::new();
        for name in each(doc, "/name") {
            if parts.contains(&"family") {
                all.extend(text(name, "/family").map(Val::Text));
            }
            if parts.contains(&"given") {
                all.extend(
                    each(name, "/given").filter_map(Json::as_str).map(|one| Val::Text(one.to_owned())),
                );
            }
        }
        all
    };
    match (ty, code) {
        ("Patient", "identifier") => each(doc, "/identifier")
            .filter_map(|one| Some(Val::Token(text(one, "/system"), text(one, "/value")?)))
            .collect(),
        ("Patient", "family") => names(&["family"]),
        ("Patient", "given") => names(&["given"]),
        ("Patient", "name") => names(&["family", "given"]),
        // Asked with the system that it implies, or without one.
        ("Patient", "gender") => text(doc, "/gender").map_or_else(Vec::new, |code| {
            vec![Val::Token(None, code.clone()), Val::Token(Some(GENDER.to_owned()), code)]
        }),
        ("Patient", "birthdate") => {
            text(doc, "/birthDate").map(|day| of(period(&day, 0))).into_iter().collect()
        }
        ("Encounter" | "Observation", "status") => code_of("/status"),
        ("Encounter", "class") => doc.pointer("/class").and_then(coded).into_iter().collect(),
        ("Encounter", "part-of") => refers("/partOf/reference", "Encounter/"),
        ("Encounter", "date") => doc.get("period").map(ends).into_iter().collect(),
        ("Encounter" | "Observation", "patient") => refers("/subject/reference", "Patient/"),
        ("Encounter" | "Observation", "subject") => refers("/subject/reference", ""),
        ("Observation", "encounter") => refers("/encounter/reference", "Encounter/"),
        ("Observation", "code") => each(doc, "/code/coding").filter_map(coded).collect(),
        ("Observation", "date") => {
            let at = text(doc, "/effectiveDateTime").map(|at| of(period(&at, 9)));
            at.into_iter().chain(doc.get("effectivePeriod").map(ends)).collect()
        }
        ("Observation", "value-date") => {
            let at = text(doc, "/valueDateTime").map(|at| of(period(&at, 9)));
            at.into_iter().chain(doc.get("valuePeriod").map(ends)).collect()
        }
        ("Observation", "value-quantity") => {
            let Some(quantity) = doc.get("valueQuantity") else { return Vec::new() };
            let (value, _) = decimal(&quantity["value"].to_string());
            let unit = text(quantity, "/code").or_else(|| text(quantity, "/unit")).unwrap_or_default();
            vec![Val::Quantity(value, text(quantity, "/system"), unit)]
        }
        other => panic!("{other:?}"),
    }
}

fn of((first, last): (i64, i64)) -> Val {
    Val::Date(first, last)
}

fn ends(period_of: &Json) -> Val {
    let first = text(period_of, "/start").map_or(i64::MIN, |at| period(&at, 9).0);
    Val::Date(first, text(period_of, "/end").map_or(i64::MAX, |at| period(&at, 9).1))
}

/// A decimal in units of 10^-12, and half a unit of its last digit.
fn decimal(text: &str) -> (i128, i128) {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = 10_i128.pow(12 - fraction.len() as u32);
    (format!("{whole}{fraction}").parse::<i128>().unwrap() * scale, scale / 2)
}

/// Days since 1970.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut days: i64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += lengths.iter().take(month as usize - 1).sum::<i64>();
    days + day - 1
}

/// The first and the last microsecond of `2024`, `2024-05`, `2024-05-01`, `2024-05-01T10:00` and finer, all but the last
/// with `Z` or without; without it they are so many hours east of UTC.
fn period(text: &str, zone_h: i64) -> (i64, i64) {
    const HOUR: i64 = 3_600_000_000;
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let parts: Vec<i64> = date.split('-').map(|part| part.parse().unwrap()).collect();
    let midnight = |days: i64| days * 24 * HOUR - zone_h * HOUR;
    let (first, last) = match parts[..] {
        [year] => (days(year, 1, 1), days(year + 1, 1, 1)),
        [year, 12] => (days(year, 12, 1), days(year + 1, 1, 1)),
        [year, month] => (days(year, month, 1), days(year, month + 1, 1)),
        [year, month, day] => (days(year, month, day), days(year, month, day) + 1),
        _ => panic!("{text}"),
    };
    let Some(time) = time else { return (midnight(first), midnight(last) - 1) };
    let (clock, zone_h) = time.strip_suffix('Z').map_or((time, zone_h), |clock| (clock, 0));
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let parts: Vec<i64> = whole.split(':').map(|part| part.parse().unwrap()).collect();
    let seconds = parts.iter().zip([3_600, 60, 1]).map(|(part, unit)| part * unit).sum::<i64>();
    let tenths = fraction.parse::<i64>().unwrap_or_default() * 100_000;
    let first = first * 24 * HOUR - zone_h * HOUR + seconds * 1_000_000 + tenths;
    let lasts = match (parts.len(), fraction.is_empty()) {
        (2, _) => 60_000_000,
        (_, true) => 1_000_000,
        (_, false) => 100_000,
    };
    (first, first + lasts - 1)
}
