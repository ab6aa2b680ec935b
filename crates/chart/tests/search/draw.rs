//! What is drawn: resources as a client might write them, and what may be asked of them.

use hilum_core::Entropy;
use serde_json::{Value as Json, json};

use super::oracle::{self, Ask, How, Place, TEXTS, UCUM};

pub const TYPES: [&str; 4] = ["Patient", "Encounter", "Observation", "Group"];
pub const PLACES: u64 = 24;

/// Draws.
pub struct Dice(pub Entropy);

impl Dice {
    pub fn below(&self, n: u64) -> u64 {
        u64::from_le_bytes(self.0.bytes()) % n
    }

    pub fn one<T: Clone>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    pub fn is(&self, of_ten: u64) -> bool {
        self.below(10) < of_ten
    }
}

/// The same ids for all types: a Group and a Patient are told apart by their type alone. Half are UUIDs.
pub fn id_of(n: u64) -> String {
    if n.is_multiple_of(2) { format!("0190a7c2-5b7e-8f31-9c0d-{n:012x}") } else { format!("no.{n}") }
}

fn date(dice: &Dice) -> String {
    let day = dice.one(&["2023", "2024", "2024-05", "2024-02", "2024-05-01", "2024-05-02", "2024-12-31"]);
    if day.len() < 10 || dice.is(5) {
        return day.to_owned();
    }
    let clock = dice.one(&["00:00:00", "08:59:59", "10:00:00", "10:00:00.5", "23:59:59"]);
    format!("{day}T{clock}Z")
}

fn period(dice: &Dice) -> Json {
    let (one, other) = (date(dice), date(dice));
    let (start, end) = if one <= other { (one, other) } else { (other, one) };
    match dice.below(3) {
        0 => json!({ "start": start }),
        1 => json!({ "end": end }),
        _ => json!({ "start": start, "end": end }),
    }
}

fn quantity(dice: &Dice) -> Json {
    let value: Json = serde_json::from_str(dice.one(&["5", "5.4", "0.0054", "5400", "-1", "100"])).unwrap();
    let mut quantity = json!({ "value": value });
    match dice.below(4) {
        0 => {}
        1 => quantity["unit"] = json!("mg"),
        2 => {
            quantity["system"] = json!("http://other");
            quantity["code"] = json!("mg");
        }
        _ => {
            quantity["system"] = json!(UCUM);
            quantity["code"] = json!(dice.one(&["mg", "g"]));
        }
    }
    quantity
}

/// A resource as a client might write it.
pub fn resource((ty, id): &Place, dice: &Dice) -> Json {
    let mut doc = json!({ "resourceType": ty, "id": id });
    let mut set = |name: &str, value: Json| {
        doc[name] = value;
    };
    if dice.is(1) {
        set("meta", json!({ "security": [{ "code": "R" }] }));
    }
    let subject = |dice: &Dice| {
        let ty = if dice.is(8) { "Patient" } else { "Group" };
        json!({ "reference": format!("{ty}/{}", id_of(dice.below(PLACES))) })
    };
    let coding = |dice: &Dice| {
        let mut coding = json!({ "code": dice.one(&["A", "B", "a", "AMB"]) });
        if dice.is(7) {
            coding["system"] = json!(dice.one(&["http://s/1", "http://s/2"]));
        }
        if dice.is(4) {
            coding["display"] = json!(dice.one(&TEXTS).0);
        }
        coding
    };
    match *ty {
        "Patient" => {
            if dice.is(8) {
                let mut one = json!({ "value": dice.below(6).to_string() });
                if dice.is(6) {
                    one["system"] = json!(dice.one(&["urn:s:1", "urn:s:2"]));
                }
                if dice.is(5) {
                    one["type"] = json!({ "coding": [{ "system": "urn:t", "code": dice.one(&["MR", "SS"]) }], "text": dice.one(&TEXTS).0 });
                }
                set("identifier", json!([one]));
            }
            if dice.is(8) {
                let texts = |dice: &Dice| dice.one(&TEXTS).0;
                set(
                    "name",
                    json!([{ "family": texts(dice), "given": [texts(dice), texts(dice)] }, { "family": texts(dice) }]),
                );
            }
            if dice.is(7) {
                set("gender", json!(dice.one(&["male", "female"])));
            }
            if dice.is(7) {
                set(
                    "birthDate",
                    json!(date(dice).get(..10).map_or_else(|| "2024-05".to_owned(), str::to_owned)),
                );
            }
        }
        "Encounter" => {
            set("status", json!(dice.one(&["planned", "finished"])));
            set("class", coding(dice));
            if dice.is(8) {
                set("subject", subject(dice));
            }
            if dice.is(7) {
                set("period", period(dice));
            }
            if dice.is(3) {
                set("partOf", json!({ "reference": format!("Encounter/{}", id_of(dice.below(PLACES))) }));
            }
        }
        "Observation" => {
            set("status", json!(dice.one(&["final", "preliminary"])));
            let mut code = json!({ "coding": [coding(dice), coding(dice)] });
            if dice.is(3) {
                code["text"] = json!(dice.one(&TEXTS).0);
            }
            set("code", code);
            if dice.is(8) {
                set("subject", subject(dice));
            }
            if dice.is(6) {
                set("encounter", json!({ "reference": format!("Encounter/{}", id_of(dice.below(PLACES))) }));
            }
            match dice.below(3) {
                0 => set("effectiveDateTime", json!(date(dice))),
                1 => set("effectivePeriod", period(dice)),
                _ => {}
            }
            match dice.below(10) {
                0..=5 => set("valueQuantity", quantity(dice)),
                6 | 7 => set("valueDateTime", json!(date(dice))),
                8 => set("valuePeriod", period(dice)),
                _ => {}
            }
            if dice.is(5) {
                let one = |dice: &Dice| json!({ "code": { "coding": [coding(dice)] }, "valueQuantity": quantity(dice) });
                set("component", json!([one(dice), one(dice)]));
            }
        }
        _ => {
            set("type", json!("person"));
            set("actual", json!(true));
            let member = |dice: &Dice| {
                let mut member =
                    json!({ "entity": { "reference": format!("Patient/{}", id_of(dice.below(PLACES))) } });
                if dice.is(4) {
                    member["inactive"] = json!(dice.is(5));
                }
                member
            };
            set("member", (0..dice.below(4)).map(|_| member(dice)).collect());
        }
    }
    doc
}

/// What is asked together, so that a compound leads to it: now and then a part of it, or as no compound has it.
pub fn together(ty: &str, dice: &Dice) -> Vec<Ask> {
    let token = |code: &'static str, systems: &[&str], codes: &[&str]| {
        let one =
            |dice: &Dice| (dice.is(3).then(|| dice.one(systems).to_owned()), dice.one(codes).to_owned());
        Ask::Token {
            code,
            values: (0..=dice.below(2)).map(|_| one(dice)).collect(),
            not: dice.below(12) == 0,
        }
    };
    match ty {
        "Patient" => {
            let text = dice.one(&["2024-05-01", "2024-12-31", "2024-05", "2024"]).to_owned();
            let born = Ask::Date { code: "birthdate", prefix: dice.one(&["", "eq", "", "ge"]), text };
            let text = dice.one(&TEXTS).1;
            let begin = text.chars().take(dice.below(4) as usize + 1).collect::<String>().trim().to_owned();
            let family = Ask::Text { code: "family", how: How::Begins, values: vec![begin] };
            let family = (dice.is(5)).then_some(family);
            let asks = [born, token("gender", &[oracle::GENDER], &["male", "female"])];
            asks.into_iter()
                .chain(family.filter(|ask| !matches!(ask, Ask::Text { values, .. } if values[0].is_empty())))
                .collect()
        }
        "Observation" => {
            let to = (0..=dice.below(2)).map(|_| format!("Patient/{}", id_of(dice.below(PLACES)))).collect();
            let refers = Ask::Refers { code: dice.one(&["patient", "subject"]), to };
            vec![refers, token("code", &["http://s/1", "http://s/2"], &["A", "B", "a", "AMB"])]
        }
        _ => Vec::new(),
    }
}

/// Something that may be asked of a type.
pub fn ask(ty: &'static str, dice: &Dice, steps: u32) -> Ask {
    let token = |code: &'static str, systems: &[&str], codes: &[&str]| {
        let one = |dice: &Dice| {
            let system = match dice.below(4) {
                0 => Some(String::new()),
                1 => Some(dice.one(systems).to_owned()),
                _ => None,
            };
            let is_system = system.as_deref().is_some_and(|system| !system.is_empty());
            let code = if is_system && dice.is(3) { "" } else { dice.one(codes) };
            (system, code.to_owned())
        };
        let values = (0..=dice.below(3)).map(|_| one(dice)).collect();
        Ask::Token { code, values, not: dice.is(2) }
    };
    let text_of = |code: &'static str, hows: &[How]| {
        let how = dice.one(hows);
        let one = |dice: &Dice| {
            let (raw, folded) = dice.one(&TEXTS);
            let part = |from: usize| {
                let signs: Vec<char> = folded.chars().skip(from).collect();
                let take = 1 + dice.below(signs.len() as u64) as usize;
                signs.into_iter().take(take).collect::<String>().trim().to_owned()
            };
            let part = match how {
                How::Exact => return raw.to_owned(),
                How::Begins | How::Called => part(0),
                How::Contains => part(dice.below(folded.chars().count() as u64) as usize),
            };
            if part.is_empty() { raw.to_owned() } else { part }
        };
        let values = (0..=dice.below(2)).map(|_| one(dice)).collect();
        Ask::Text { code, how, values }
    };
    let text = |code| text_of(code, &[How::Begins, How::Begins, How::Exact, How::Contains]);
    let called = |code| text_of(code, &[How::Called]);
    let day = |code: &'static str| {
        let prefix = dice.one(&["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]);
        let mut text = date(dice);
        if text.len() > 10 && dice.is(3) {
            text = text.get(..16).unwrap().to_owned(); // a minute, without a zone
        }
        if code == "birthdate" {
            text.truncate(10);
        }
        Ask::Date { code, prefix, text }
    };
    let refers = |code: &'static str, ty: &str| {
        let to = (0..=dice.below(2)).map(|_| format!("{ty}/{}", id_of(dice.below(PLACES)))).collect();
        Ask::Refers { code, to }
    };
    let missing = |code: &'static str| Ask::Missing { code, is_missing: dice.is(5) };
    let codes = ["A", "B", "a", "AMB"];
    let systems = ["http://s/1", "http://s/2"];
    if steps > 0 && dice.is(3) {
        let chain = |code: &'static str, to: &'static str| Ask::Chain {
            code,
            ty: to,
            ask: Box::new(ask(to, dice, steps - 1)),
        };
        let has = |of: &'static str, code: &'static str| Ask::Has {
            ty: of,
            code,
            ask: Box::new(ask(of, dice, steps - 1)),
        };
        return match (ty, dice.below(4)) {
            ("Patient", 0) => has("Encounter", "patient"),
            ("Patient", 1) => has("Observation", "subject"),
            ("Patient", _) => has("Observation", "patient"),
            ("Encounter", 0) => has("Observation", "encounter"),
            ("Encounter", 1) => chain("part-of", "Encounter"),
            ("Encounter", _) => chain("patient", "Patient"),
            (_, 0) => chain("encounter", "Encounter"),
            (_, 1) => chain("subject", "Patient"),
            _ => chain("patient", "Patient"),
        };
    }
    if dice.below(12) == 0 {
        let ids = (0..=dice.below(3)).map(|_| id_of(dice.below(PLACES))).collect();
        return Ask::Id { ids, not: dice.is(3) };
    }
    match (ty, dice.below(8)) {
        ("Patient", 0) if dice.is(4) => {
            Ask::OfType { code: dice.one(&["MR", "SS"]), value: dice.below(4).to_string() }
        }
        ("Patient", 0) if dice.is(2) => called("identifier"),
        ("Patient", 0) => token("identifier", &["urn:s:1", "urn:s:2"], &["0", "1", "2", "3"]),
        ("Patient", 1) => text("family"),
        ("Patient", 2) => text("given"),
        ("Patient", 3) => text("name"),
        ("Patient", 4) => token("gender", &[oracle::GENDER, "http://s/1"], &["male", "female"]),
        ("Patient", 5) => missing(dice.one(&["identifier", "family", "gender", "birthdate"])),
        ("Patient", _) => day("birthdate"),
        ("Encounter", 0) => token("status", &systems, &["planned", "finished"]),
        ("Encounter", 1) if dice.is(3) => called("class"),
        ("Encounter", 1) => token("class", &systems, &codes),
        ("Encounter", 2) => refers("subject", dice.one(&["Patient", "Group"])),
        ("Encounter", 3) => refers("patient", "Patient"),
        ("Encounter", 4) => refers("part-of", "Encounter"),
        ("Encounter", 5) => missing(dice.one(&["class", "subject", "part-of", "date"])),
        ("Encounter", _) | ("Observation", 5) => day("date"),
        (_, 0) => token("status", &systems, &["final", "preliminary"]),
        (_, 1) if dice.is(5) => called(dice.one(&["code", "component-code", "combo-code"])),
        (_, 1) => token("code", &systems, &codes),
        (_, 2) => refers("subject", dice.one(&["Patient", "Group"])),
        (_, 3) => refers("encounter", "Encounter"),
        (_, 4) => missing(dice.one(&["code", "subject", "encounter", "date", "value-quantity"])),
        (_, 6) => {
            let token = Ask::Token {
                code: "code",
                values: vec![(dice.one(&[None, Some("http://s/1".to_owned())]), dice.one(&codes).to_owned())],
                not: false,
            };
            let quantity = Ask::Quantity {
                code: "value-quantity",
                prefix: dice.one(&["", "ne", "gt", "lt", "ge", "le"]),
                number: dice.one(&["5", "5.4", "0.0054", "100", "-1"]).to_owned(),
                unit: dice.one(&[None, Some((UCUM, "mg")), Some((UCUM, "g")), Some(("", "mg"))]),
            };
            if dice.is(3) {
                let date = Box::new(day("value-date"));
                return Ask::Pair { code: "code-value-date", token: Box::new(token), beside: date };
            }
            let code = dice.one(&[
                "code-value-quantity",
                "component-code-value-quantity",
                "combo-code-value-quantity",
            ]);
            Ask::Pair { code, token: Box::new(token), beside: Box::new(quantity) }
        }
        _ => Ask::Quantity {
            code: "value-quantity",
            prefix: dice.one(&["", "", "ne", "gt", "lt", "ge", "le", "sa", "eb"]),
            number: dice.one(&["5", "5.4", "5.40", "0.0054", "5400", "100", "-1", "1.0"]).to_owned(),
            unit: dice.one(&[
                None,
                Some((UCUM, "mg")),
                Some((UCUM, "g")),
                Some(("", "mg")),
                Some(("http://other", "mg")),
            ]),
        },
    }
}
