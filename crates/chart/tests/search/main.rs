//! Random searches by random principals, at random commits, against [`oracle`], on both engines. `SEARCH_QUERIES=100000`
//! asks for more than the sample.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod oracle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hilum_chart::Chart;
use hilum_chart::chart::Commit;
use hilum_chart::index::Indexer;
use hilum_chart::logical::chart_id;
use hilum_chart::projection::{Changes, ResourceChange};
use hilum_chart::resources;
use hilum_chart::search::withheld::is_patient_labelled;
use hilum_chart::search::{Asked, From, Plan, Withheld, plan};
use hilum_core::{Authority, Clock, Entropy, InstallationKey, PatientList, RecordId, Role, Seq, Timestamp};
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::sqlite::{self, Place as Where, Sqlite};
use hilum_engines::tables::{Tables, Value};
use hilum_fhir::FhirId;
use hilum_fhir::search::query::{Compartment, Criterion, Handling, Query};
use hilum_fhir::search::values::Settings;
use jiff::tz::TimeZone;
use oracle::{Ask, Docs, How, Place, TEXTS, UCUM};
use serde_json::{Value as Json, json};

const TYPES: [&str; 4] = ["Patient", "Encounter", "Observation", "Group"];
const PLACES: u64 = 24;

/// Draws.
struct Dice(Entropy);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        u64::from_le_bytes(self.0.bytes()) % n
    }

    fn one<T: Clone>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    fn is(&self, of_ten: u64) -> bool {
        self.below(10) < of_ten
    }
}

fn key() -> InstallationKey {
    InstallationKey::new([9; 32])
}

fn settings() -> Settings {
    Settings {
        zone: TimeZone::get("Asia/Seoul").unwrap(),
        bases: vec!["https://hilum.example/fhir".to_owned()],
    }
}

fn authority() -> Authority {
    Authority::new("kim", Role::Operator)
}

fn clock() -> Clock {
    let ticks = AtomicI64::new(1_700_000_000_000_000);
    Clock::new(move || Timestamp::from_micros(ticks.fetch_add(1_000, Ordering::Relaxed)))
}

/// The same ids for all types: a Group and a Patient are told apart by their type alone. Half are UUIDs.
fn id_of(n: u64) -> String {
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
fn resource((ty, id): &Place, dice: &Dice) -> Json {
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
                    one["type"] =
                        json!({ "coding": [{ "system": "urn:t", "code": dice.one(&["MR", "SS"]) }] });
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
            set("code", json!({ "coding": [coding(dice), coding(dice)] }));
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
            if dice.is(7) {
                set("valueQuantity", quantity(dice));
            }
            if dice.is(5) {
                let one = |dice: &Dice| json!({ "code": { "coding": [coding(dice)] }, "valueQuantity": quantity(dice) });
                set("component", json!([one(dice), one(dice)]));
            }
        }
        _ => {
            set("type", json!("person"));
            set("actual", json!(true));
            let member = |dice: &Dice| json!({ "entity": { "reference": format!("Patient/{}", id_of(dice.below(PLACES))) } });
            set("member", (0..dice.below(4)).map(|_| member(dice)).collect());
        }
    }
    doc
}

/// Something that may be asked of a type.
fn ask(ty: &'static str, dice: &Dice, steps: u32) -> Ask {
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
    let text = |code: &'static str| {
        let how = dice.one(&[How::Begins, How::Begins, How::Exact, How::Contains]);
        let one = |dice: &Dice| {
            let (raw, folded) = dice.one(&TEXTS);
            let part = |from: usize| {
                let signs: Vec<char> = folded.chars().skip(from).collect();
                let take = 1 + dice.below(signs.len() as u64) as usize;
                signs.into_iter().take(take).collect::<String>().trim().to_owned()
            };
            let part = match how {
                How::Exact => return raw.to_owned(),
                How::Begins => part(0),
                How::Contains => part(dice.below(folded.chars().count() as u64) as usize),
            };
            if part.is_empty() { raw.to_owned() } else { part }
        };
        let values = (0..=dice.below(2)).map(|_| one(dice)).collect();
        Ask::Text { code, how, values }
    };
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
        ("Patient", 0) => token("identifier", &["urn:s:1", "urn:s:2"], &["0", "1", "2", "3"]),
        ("Patient", 1) => text("family"),
        ("Patient", 2) => text("given"),
        ("Patient", 3) => text("name"),
        ("Patient", 4) => token("gender", &[oracle::GENDER, "http://s/1"], &["male", "female"]),
        ("Patient", 5) => missing(dice.one(&["identifier", "family", "gender", "birthdate"])),
        ("Patient", _) => day("birthdate"),
        ("Encounter", 0) => token("status", &systems, &["planned", "finished"]),
        ("Encounter", 1) => token("class", &systems, &codes),
        ("Encounter", 2) => refers("subject", dice.one(&["Patient", "Group"])),
        ("Encounter", 3) => refers("patient", "Patient"),
        ("Encounter", 4) => refers("part-of", "Encounter"),
        ("Encounter", 5) => missing(dice.one(&["class", "subject", "part-of", "date"])),
        ("Encounter", _) | ("Observation", 5) => day("date"),
        (_, 0) => token("status", &systems, &["final", "preliminary"]),
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
            let code = dice.one(&[
                "code-value-quantity",
                "component-code-value-quantity",
                "combo-code-value-quantity",
            ]);
            Ask::Pair { code, token: Box::new(token), quantity: Box::new(quantity) }
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

/// The patients in whose compartment something lies.
fn patients_of((ty, id): &Place, doc: &Json) -> Vec<Place> {
    let patient = |to: &str| to.strip_prefix("Patient/").map(|id| ("Patient", id.to_owned()));
    let subject = doc.pointer("/subject/reference").and_then(Json::as_str).and_then(patient);
    let members = doc.get("member").and_then(Json::as_array).into_iter().flatten();
    let members = members.filter_map(|member| patient(member.pointer("/entity/reference")?.as_str()?));
    let own = (*ty == "Patient").then(|| ("Patient", id.clone()));
    subject.into_iter().chain(members).chain(own).collect()
}

/// What may not be found: who has the label, and with a patient all that refers to them.
fn is_withheld(now: &Docs, place: &Place) -> bool {
    let is_labelled =
        |place: &Place| now.get(place).is_some_and(|doc| doc.pointer("/meta/security").is_some());
    let Some(doc) = now.get(place) else { return false };
    is_labelled(place) || patients_of(place, doc).iter().any(is_labelled)
}

/// Who asks: somebody who may know of all, or of some patients alone.
struct Principal {
    authority: Authority,
    /// Ids of patients and of groups.
    limited: Option<(BTreeSet<String>, BTreeSet<String>)>,
}

impl Principal {
    fn all() -> Self {
        Self { authority: authority(), limited: None }
    }

    fn some(dice: &Dice) -> Self {
        let some = |dice: &Dice, n: u64| -> BTreeSet<String> {
            (0..dice.below(n)).map(|_| id_of(dice.below(PLACES))).collect()
        };
        let (patients, groups) = (some(dice, 24), some(dice, 4));
        let ids = |ty: &str, ids: &BTreeSet<String>| {
            ids.iter().map(|id| chart_id(&key(), ty, &FhirId::parse(id).unwrap())).collect()
        };
        let list = PatientList { patients: ids("Patient", &patients), groups: ids("Group", &groups) };
        Self { authority: authority().limited_to(Arc::new(list)), limited: Some((patients, groups)) }
    }

    fn may_know(&self, now: &Docs, place: &Place) -> bool {
        let Some((patients, groups)) = &self.limited else { return true };
        // A patient is themselves, whether there or not; of what is deleted nobody knows any more whose it was.
        let whose = match (place.0, now.get(place)) {
            ("Patient", _) => vec![place.clone()],
            (_, Some(doc)) => patients_of(place, doc),
            (_, None) => return false,
        };
        let in_groups = |patient: &Place| {
            groups.iter().any(|id| {
                let group = ("Group", id.clone());
                now.get(&group).is_some_and(|doc| patients_of(&group, doc).contains(patient))
            })
        };
        whose.iter().any(|patient| patients.contains(&patient.1) || in_groups(patient))
    }
}

fn withheld() -> Vec<Withheld> {
    let labels: &[&str] = &["R"];
    vec![Withheld {
        owner: "fhir",
        patient: is_patient_labelled(labels),
        labels,
        through: &[],
        unsearched: &[],
    }]
}

struct World {
    chart: Chart,
    dice: Dice,
    now: Docs,
    /// What stood at some commits.
    earlier: Vec<(Seq, Docs)>,
}

impl World {
    async fn new(tables: Tables, seed: u64, writes: u32) -> Self {
        let chart = Chart::open(tables, clock()).with_indexer(Arc::new(Indexer::new(key(), settings())));
        let mut world =
            Self { chart, dice: Dice(Entropy::seeded(seed)), now: Docs::new(), earlier: Vec::new() };
        for _ in 0..writes {
            world.write().await;
        }
        world
    }

    async fn write(&mut self) {
        let dice = &self.dice;
        let place = (dice.one(&TYPES), id_of(dice.below(PLACES)));
        let doc = (!dice.is(1)).then(|| resource(&place, dice));
        let id = FhirId::parse(&place.1).unwrap();
        let at = (place.0, chart_id(&key(), place.0, &id));
        let source = RecordId::new(Timestamp::from_micros(1), [0; 10]);
        let body = doc.as_ref().map(Json::to_string);
        let change = ResourceChange { resource_type: at.0, id: at.1, body, source };
        let commit = Commit {
            door: "fhir",
            changes: Changes { resources: BTreeMap::from([(at, change)]), ..Changes::default() },
            logical_ids: BTreeMap::from([(at, id)]),
            ..Commit::default()
        };
        let done = self.chart.commit(&authority(), commit).await.unwrap();
        match doc {
            Some(doc) => self.now.insert(place, doc),
            None => self.now.remove(&place),
        };
        if self.dice.is(1) {
            self.earlier.push((done.t, self.now.clone()));
        }
    }

    fn plan(authority: &Authority, query: &Query, t: Option<Seq>, withheld: &[Withheld]) -> Plan {
        let chart_id = |ty: &str, id: &FhirId| chart_id(&key(), ty, id);
        let asked = Asked {
            authority,
            query,
            t,
            began: Timestamp::from_micros(1_714_500_000_000_000),
            settings: &settings(),
            chart_id: &chart_id,
            withheld,
        };
        plan(&asked).unwrap()
    }

    /// All rows of a walk in pages of `limit`.
    async fn walk(&self, plan: &Plan, limit: u32, reversed: bool) -> Vec<(Vec<Value>, i64)> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let from = From { after: after.clone(), reversed, limit };
            let found = self.chart.search(&authority(), plan, from).await.unwrap().found;
            let is_last = found.len() < limit as usize;
            for one in found {
                let Value::Int(row) = one.subject else { panic!("{:?}", one.subject) };
                after = Some(one.keys.iter().cloned().chain([Value::Int(row)]).collect());
                all.push((one.keys, row));
            }
            if is_last {
                return all;
            }
        }
    }

    /// One random search, compared. Says what was asked where it differs.
    async fn compare(&self, withheld: &[Withheld]) -> Result<usize, String> {
        let who = if self.dice.is(2) { Principal::some(&self.dice) } else { Principal::all() };
        self.compare_as(&who, &who.authority, withheld).await
    }

    /// The same by `who`, whose search is planned for somebody else where a leak is planted.
    async fn compare_as(
        &self,
        who: &Principal,
        planned_for: &Authority,
        withheld: &[Withheld],
    ) -> Result<usize, String> {
        let dice = &self.dice;
        let ty = dice.one(&TYPES[..3]);
        let asks: Vec<Ask> = (0..=dice.below(3)).map(|_| ask(ty, dice, 2)).collect();
        let (t, docs) = match dice.below(3) {
            0 if !self.earlier.is_empty() => {
                let (t, docs) = &self.earlier[dice.below(self.earlier.len() as u64) as usize];
                (Some(*t), docs)
            }
            _ => (None, &self.now),
        };
        let may = |place: &Place| !is_withheld(&self.now, place) && who.may_know(&self.now, place);
        let whose = dice.is(1).then(|| (dice.one(&["Patient", "Encounter"]), id_of(dice.below(PLACES))));
        let lies = |place: &Place| {
            let Some((whose, id)) = &whose else { return true };
            let at = if place.0 == "Encounter" { "/partOf" } else { "/encounter" };
            let refers = docs[place].pointer(&format!("{at}/reference")).and_then(Json::as_str);
            match (*whose, place.0) {
                ("Patient", _) => patients_of(place, &docs[place]).contains(&("Patient", id.clone())),
                (_, "Encounter") => place.1 == *id,
                (_, "Observation") => refers == Some(&format!("Encounter/{id}")),
                _ => false,
            }
        };
        let holds = |place: &&Place| {
            place.0 == ty && may(place) && lies(place) && asks.iter().all(|ask| ask.holds(docs, place, &may))
        };
        let want: BTreeSet<Place> = docs.keys().filter(holds).cloned().collect();

        let mut pairs: Vec<(String, String)> = asks.iter().map(Ask::pair).collect();
        let sort = match ty {
            "Patient" => dice.one(&["", "", "family", "-birthdate", "gender,-family"]),
            "Encounter" => dice.one(&["", "", "date", "-date,status"]),
            _ => dice.one(&["", "", "-date", "code", "-value-quantity,_id"]),
        };
        if !sort.is_empty() {
            pairs.push(("_sort".to_owned(), sort.to_owned()));
        }
        let said = format!("{ty}?{pairs:?} in {whose:?} at {t:?} by {:?}", who.limited);
        let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let (mut query, _) =
            Query::parse(ty, borrowed, Handling::Strict).map_err(|error| format!("{said}: {error}"))?;
        let within = |(resource_type, id): (&'static str, String)| {
            Criterion::Within(Compartment { resource_type, id: FhirId::parse(&id).unwrap() })
        };
        query.criteria.extend(whose.clone().map(within));
        let plan = Self::plan(planned_for, &query, t, withheld);
        let forward = self.walk(&plan, 5, false).await;
        let mut backward = self.walk(&plan, 7, true).await;
        backward.reverse();
        if forward != backward {
            return Err(format!("{said}: one way {forward:?}, the other {backward:?}"));
        }
        let rows: Vec<i64> = forward.iter().map(|(_, row)| *row).collect();
        let at = t.unwrap_or(Seq(i64::MAX));
        let matches = self.chart.matches(&authority(), &rows, at).await.unwrap();
        let mut found = BTreeSet::new();
        for one in matches.iter().flatten() {
            let doc: Json = serde_json::from_str(one.then.text().unwrap()).unwrap();
            let place = (ty, doc["id"].as_str().unwrap().to_owned());
            if docs.get(&place) != Some(&doc) {
                return Err(format!("{said}: {place:?} is not shown as it was"));
            }
            found.insert(place);
        }
        let shown: BTreeSet<Place> =
            want.iter().filter(|place| self.now.contains_key(*place)).cloned().collect();
        let total = self.chart.search_count(&authority(), &plan, 10_000, Some(100_000)).await.unwrap();
        let total = total.ok_or_else(|| format!("{said}: not counted"))?;
        if found != shown || total != want.len() as u64 || rows.len() != want.len() {
            let more: Vec<_> = found.difference(&shown).map(|place| &docs[place]).collect();
            let less: Vec<_> = shown.difference(&found).map(|place| &docs[place]).collect();
            return Err(format!(
                "{said}: total {total}, rows {}, wanted {}; too much {more:?}; missing {less:?}",
                rows.len(),
                want.len()
            ));
        }
        Ok(want.len())
    }
}

async fn postgres(server: &hilum_testkit::postgres::Postgres) -> Tables {
    let url = server.url();
    let config = PostgresConfig { allow_weak: true, ..PostgresConfig::new(url, server.fresh_schema()) };
    Tables::Postgres(Postgres::open(config, resources::TABLES).await.unwrap())
}

fn in_memory() -> Tables {
    Tables::Sqlite(Sqlite::open(Where::Memory, resources::TABLES, sqlite::Options::default()).unwrap())
}

async fn compare_all(tables: Tables, seed: u64) {
    let queries = std::env::var("SEARCH_QUERIES").map_or(400, |raw| raw.parse().unwrap());
    let mut world = World::new(tables, seed, 260).await;
    let mut hits = 0;
    for n in 0..queries {
        if n % 40 == 39 {
            world.write().await;
        }
        hits += usize::from(
            world.compare(&withheld()).await.unwrap_or_else(|why| panic!("seed {seed}: {why}")) > 0,
        );
    }
    assert!(hits * 4 > queries, "only {hits} of {queries} found anything");
}

#[tokio::test]
async fn searches_find_what_the_naked_eye_finds() {
    compare_all(in_memory(), 41).await;
}

#[tokio::test]
async fn searches_find_what_the_naked_eye_finds_on_postgresql() {
    let server = hilum_testkit::postgres::Postgres::shared();
    compare_all(postgres(server).await, 42).await;
}

/// Who only leaves out of an answer what may not be shown tells of it by totals, chains and `_has`: that is seen.
#[tokio::test]
async fn a_leak_is_seen() {
    let world = World::new(in_memory(), 43, 260).await;
    let (mut leaks, who) = (Vec::new(), Principal::all());
    for _ in 0..300 {
        leaks.extend(world.compare_as(&who, &who.authority, &[]).await.err());
    }
    let through = |what: &str| leaks.iter().filter(|leak| leak.contains(what)).count();
    assert!(leaks.len() > 20 && through("_has:") > 2 && through(":Patient.") > 2, "{leaks:#?}");
}

/// The same of who may know of some patients alone.
#[tokio::test]
async fn a_leak_to_who_is_limited_is_seen() {
    let world = World::new(in_memory(), 45, 260).await;
    let mut leaks = Vec::new();
    for _ in 0..200 {
        let who = Principal::some(&world.dice);
        leaks.extend(world.compare_as(&who, &authority(), &withheld()).await.err());
    }
    let through = |what: &str| leaks.iter().filter(|leak| leak.contains(what)).count();
    assert!(leaks.len() > 20 && through("_has:") > 2 && through("total") > 20, "{leaks:#?}");
}

#[tokio::test]
async fn who_may_not_read_finds_nothing() {
    let world = World::new(in_memory(), 44, 20).await;
    let (query, _) = Query::parse("Patient", [("gender:missing", "false")], Handling::Strict).unwrap();
    let plan = World::plan(&authority(), &query, None, &[]);
    let feed = Authority::new("feed", Role::Feed);
    assert!(world.chart.search(&feed, &plan, From { limit: 5, ..From::default() }).await.is_err());
    assert!(world.chart.search_count(&feed, &plan, 5, None).await.is_err());
    assert!(world.chart.matches(&feed, &[1], Seq(1)).await.is_err());
}
