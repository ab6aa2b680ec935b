//! A chart with resources that were drawn, what stood in it at some commits, and who may know of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hilum_chart::Chart;
use hilum_chart::chart::Commit;
use hilum_chart::index::Indexer;
use hilum_chart::logical::chart_id;
use hilum_chart::projection::{Changes, ResourceChange};
use hilum_chart::search::withheld::is_patient_labelled;
use hilum_chart::search::{Asked, From, Plan, PlanError, Withheld, plan};
use hilum_core::{Authority, Clock, Entropy, InstallationKey, PatientList, RecordId, Role, Seq, Timestamp};
use hilum_engines::tables::{Tables, Value};
use hilum_fhir::FhirId;
use hilum_fhir::search::query::Query;
use hilum_fhir::search::values::Settings;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::draw::{Dice, PLACES, TYPES, id_of, resource};
use super::oracle::{Docs, Place};

fn key() -> InstallationKey {
    InstallationKey::new([9; 32])
}

fn settings() -> Settings {
    Settings {
        zone: TimeZone::get("Asia/Seoul").unwrap(),
        bases: vec!["https://hilum.example/fhir".to_owned()],
    }
}

pub fn authority() -> Authority {
    Authority::new("kim", Role::Operator)
}

fn clock() -> Clock {
    let ticks = AtomicI64::new(1_700_000_000_000_000);
    // Some versions are of the same instant.
    let instant = move || ticks.fetch_add(1_000, Ordering::Relaxed) / 5_000 * 5_000;
    Clock::new(move || Timestamp::from_micros(instant()))
}

/// The patients in whose compartment something lies.
pub fn patients_of((ty, id): &Place, doc: &Json) -> Vec<Place> {
    let patient = |to: &str| to.strip_prefix("Patient/").map(|id| ("Patient", id.to_owned()));
    let subject = doc.pointer("/subject/reference").and_then(Json::as_str).and_then(patient);
    let members = doc.get("member").and_then(Json::as_array).into_iter().flatten();
    let members = members.filter_map(|member| patient(member.pointer("/entity/reference")?.as_str()?));
    let own = (*ty == "Patient").then(|| ("Patient", id.clone()));
    subject.into_iter().chain(members).chain(own).collect()
}

/// Whether a Group has a patient, and not only had.
fn is_member((_, id): &Place, group: &Json) -> bool {
    let (of_it, left) = (json!(format!("Patient/{id}")), json!(true));
    let mut all = group.get("member").and_then(Json::as_array).into_iter().flatten();
    all.any(|one| one.pointer("/entity/reference") == Some(&of_it) && one.get("inactive") != Some(&left))
}

/// What may not be found: who has the label, and with a patient all that refers to them.
pub fn is_withheld(now: &Docs, place: &Place) -> bool {
    let is_labelled =
        |place: &Place| now.get(place).is_some_and(|doc| doc.pointer("/meta/security").is_some());
    let Some(doc) = now.get(place) else { return false };
    is_labelled(place) || patients_of(place, doc).iter().any(is_labelled)
}

/// Who asks: somebody who may know of all, or of some patients alone.
pub struct Principal {
    pub authority: Authority,
    /// Ids of patients and of groups.
    pub limited: Option<(BTreeSet<String>, BTreeSet<String>)>,
}

impl Principal {
    pub fn all() -> Self {
        Self { authority: authority(), limited: None }
    }

    pub fn some(dice: &Dice) -> Self {
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

    pub fn may_know(&self, now: &Docs, place: &Place) -> bool {
        let Some((patients, groups)) = &self.limited else { return true };
        // A group names its other members.
        if place.0 == "Group" {
            return false;
        }
        // A patient is themselves, whether there or not; of what is deleted nobody knows any more whose it was.
        let whose = match (place.0, now.get(place)) {
            ("Patient", _) => vec![place.clone()],
            (_, Some(doc)) => patients_of(place, doc),
            (_, None) => return false,
        };
        let in_groups = |patient: &Place| {
            groups.iter().any(|id| {
                let group = ("Group", id.clone());
                now.get(&group).is_some_and(|doc| is_member(patient, doc))
            })
        };
        whose.iter().any(|patient| patients.contains(&patient.1) || in_groups(patient))
    }
}

pub fn withheld() -> Vec<Withheld> {
    let labels: &[&str] = &["R"];
    vec![Withheld {
        owner: "fhir",
        patient: is_patient_labelled("fhir", labels),
        labels,
        through: &[],
        unsearched: &[],
        unfound: &[],
        made: None,
    }]
}

pub struct World {
    pub chart: Chart,
    pub dice: Dice,
    pub now: Docs,
    /// What stood at some commits.
    pub earlier: Vec<(Seq, Docs)>,
}

impl World {
    pub async fn new(tables: Tables, seed: u64, writes: u32) -> Self {
        let chart = Chart::open(tables, clock()).with_indexer(Arc::new(Indexer::new(key(), settings())));
        let mut world =
            Self { chart, dice: Dice(Entropy::seeded(seed)), now: Docs::new(), earlier: Vec::new() };
        for _ in 0..writes {
            world.write().await;
        }
        world
    }

    pub async fn write(&mut self) {
        let dice = &self.dice;
        let place = (dice.one(&TYPES), id_of(dice.below(PLACES)));
        let doc = (!dice.is(1)).then(|| resource(&place, dice));
        let t = self.put(place, doc).await;
        if self.dice.is(1) {
            self.earlier.push((t, self.now.clone()));
        }
    }

    pub async fn put(&mut self, place: Place, doc: Option<Json>) -> Seq {
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
        done.t
    }

    pub fn plan(authority: &Authority, query: &Query, t: Option<Seq>, withheld: &[Withheld]) -> Plan {
        Self::planned(authority, query, t, withheld).unwrap()
    }

    pub fn planned(
        authority: &Authority,
        query: &Query,
        t: Option<Seq>,
        withheld: &[Withheld],
    ) -> Result<Plan, PlanError> {
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
        plan(&asked)
    }

    /// All rows of a walk in pages of `limit`.
    pub async fn walk(&self, plan: &Plan, limit: u32, reversed: bool) -> Vec<(Vec<Value>, i64)> {
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
}
