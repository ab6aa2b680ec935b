//! One search as it was drawn: what it should find by [`super::oracle`], and what it finds.

use std::collections::BTreeSet;

use hilum_chart::search::{Plan, Withheld};
use hilum_core::{Authority, Seq};
use hilum_fhir::FhirId;
use hilum_fhir::search::query::{Compartment, Criterion, Handling, Query};
use serde_json::Value as Json;

use super::draw::{Dice, PLACES, TYPES, ask, id_of, together};
use super::oracle::{Ask, Docs, Place};
use super::world::{Principal, World, authority, is_withheld, patients_of};

struct Search {
    ty: &'static str,
    asks: Vec<Ask>,
    /// At this commit, or now.
    t: Option<Seq>,
    /// In this compartment.
    whose: Option<Place>,
    sort: &'static str,
}

impl Search {
    fn draw(dice: &Dice, earlier: &[(Seq, Docs)]) -> Self {
        let ty = dice.one(&TYPES[..3]);
        let mut asks: Vec<Ask> = (0..=dice.below(3)).map(|_| ask(ty, dice, 2)).collect();
        if dice.is(2) {
            asks.truncate(1);
            asks.extend(together(ty, dice));
        }
        let t = match dice.below(3) {
            0 if !earlier.is_empty() => Some(earlier[dice.below(earlier.len() as u64) as usize].0),
            _ => None,
        };
        let whose = dice.is(1).then(|| (dice.one(&["Patient", "Encounter"]), id_of(dice.below(PLACES))));
        let sort = match ty {
            _ if dice.is(3) => dice.one(&["_lastUpdated", "-_lastUpdated", "-_lastUpdated,-_id", "-_id"]),
            "Patient" => {
                dice.one(&["", "", "family", "-birthdate", "gender,-family", "gender,-_lastUpdated"])
            }
            "Encounter" => dice.one(&["", "", "date", "-date,status", "status,_lastUpdated"]),
            _ => dice.one(&["", "", "-date", "code", "-value-quantity,_id", "-date,-_lastUpdated"]),
        };
        Self { ty, asks, t, whose, sort }
    }

    /// As an address has it.
    fn pairs(&self) -> Vec<(String, String)> {
        let sort = (!self.sort.is_empty()).then(|| ("_sort".to_owned(), self.sort.to_owned()));
        self.asks.iter().map(Ask::pair).chain(sort).collect()
    }

    fn query(&self) -> Result<Query, String> {
        let pairs = self.pairs();
        let borrowed = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let query = Query::parse(self.ty, borrowed, Handling::Strict);
        let (mut query, _) = query.map_err(|error| error.to_string())?;
        query.criteria.extend(self.whose.iter().map(|(resource_type, id)| {
            Criterion::Within(Compartment { resource_type, id: FhirId::parse(id).unwrap() })
        }));
        Ok(query)
    }

    /// Whether a resource lies in the compartment that is searched.
    fn is_within(&self, docs: &Docs, place: &Place) -> bool {
        let Some((whose, id)) = &self.whose else { return true };
        let at = if place.0 == "Encounter" { "/partOf" } else { "/encounter" };
        let refers = docs[place].pointer(&format!("{at}/reference")).and_then(Json::as_str);
        match (*whose, place.0) {
            ("Patient", _) => patients_of(place, &docs[place]).contains(&("Patient", id.clone())),
            (_, "Encounter") => place.1 == *id,
            (_, "Observation") => refers == Some(&format!("Encounter/{id}")),
            _ => false,
        }
    }

    /// What it should find.
    fn wanted(&self, docs: &Docs, may: &dyn Fn(&Place) -> bool) -> BTreeSet<Place> {
        let holds = |place: &&Place| {
            let is_meant = place.0 == self.ty && may(place) && self.is_within(docs, place);
            is_meant && self.asks.iter().all(|ask| ask.holds(docs, place, may))
        };
        docs.keys().filter(holds).cloned().collect()
    }
}

impl World {
    /// One random search, compared. Says what was asked where it differs.
    pub async fn compare(&self, withheld: &[Withheld]) -> Result<usize, String> {
        let who = if self.dice.is(2) { Principal::some(&self.dice) } else { Principal::all() };
        self.compare_as(&who, &who.authority, withheld).await
    }

    /// The same by `who`, whose search is planned for somebody else where a leak is planted.
    pub async fn compare_as(
        &self,
        who: &Principal,
        planned_for: &Authority,
        withheld: &[Withheld],
    ) -> Result<usize, String> {
        let search = Search::draw(&self.dice, &self.earlier);
        let Search { ty, t, whose, .. } = &search;
        let said = format!("{ty}?{:?} in {whose:?} at {t:?} by {:?}", search.pairs(), who.limited);
        let compared = self.compare_one(&search, who, planned_for, withheld).await;
        compared.map_err(|why| format!("{said}: {why}"))
    }

    async fn compare_one(
        &self,
        search: &Search,
        who: &Principal,
        planned_for: &Authority,
        withheld: &[Withheld],
    ) -> Result<usize, String> {
        let docs =
            self.earlier.iter().find(|(t, _)| Some(*t) == search.t).map_or(&self.now, |(_, docs)| docs);
        let may = |place: &Place| !is_withheld(&self.now, place) && who.may_know(&self.now, place);
        let want = search.wanted(docs, &may);
        let plan = Self::plan(planned_for, &search.query()?, search.t, withheld);
        let rows = self.both_ways(&plan).await?;
        let found = self.found(search, docs, &rows).await?;
        let shown: BTreeSet<Place> =
            want.iter().filter(|place| self.now.contains_key(*place)).cloned().collect();
        let total = self.chart.search_count(&authority(), &plan, 10_000, Some(100_000)).await.unwrap();
        let total = total.ok_or("not counted")?;
        if found != shown || total != want.len() as u64 || rows.len() != want.len() {
            let more: Vec<_> = found.difference(&shown).map(|place| &docs[place]).collect();
            let less: Vec<_> = shown.difference(&found).map(|place| &docs[place]).collect();
            let (rows, wanted) = (rows.len(), want.len());
            return Err(format!(
                "total {total}, rows {rows}, wanted {wanted}; too much {more:?}; missing {less:?}"
            ));
        }
        Ok(want.len())
    }

    /// The rows of a walk, which are the same from its end.
    async fn both_ways(&self, plan: &Plan) -> Result<Vec<i64>, String> {
        let forward = self.walk(plan, 5, false).await;
        let mut backward = self.walk(plan, 7, true).await;
        backward.reverse();
        if forward != backward {
            return Err(format!("one way {forward:?}, the other {backward:?}"));
        }
        Ok(forward.into_iter().map(|(_, row)| row).collect())
    }

    /// What is shown of these rows: as it was, and in the order that was asked for.
    async fn found(&self, search: &Search, docs: &Docs, rows: &[i64]) -> Result<BTreeSet<Place>, String> {
        let at = search.t.unwrap_or(Seq(i64::MAX));
        let matches = self.chart.matches(&authority(), rows, at).await.unwrap();
        let (mut found, mut shown) = (BTreeSet::new(), Vec::new());
        for one in matches.iter().flatten() {
            let doc: Json = serde_json::from_str(one.then.text().unwrap()).unwrap();
            let place = (search.ty, doc["id"].as_str().unwrap().to_owned());
            if docs.get(&place) != Some(&doc) {
                return Err(format!("{place:?} is not shown as it was"));
            }
            found.insert(place);
            shown.push(serde_json::from_str(&one.then.json().unwrap()).unwrap());
        }
        if !is_in_order(&search.sort.split(',').collect::<Vec<_>>(), &shown) {
            return Err(format!("not in this order: {shown:?}"));
        }
        Ok(found)
    }
}

/// Whether what is shown is in this order, as far as it goes by one value that stands in each.
fn is_in_order(sort: &[&str], shown: &[Json]) -> bool {
    let mut pairs = shown.windows(2);
    pairs.all(|pair| {
        for key in sort {
            let (code, descending) = key.strip_prefix('-').map_or((*key, false), |code| (code, true));
            let path = match code {
                "_lastUpdated" => "/meta/lastUpdated",
                "_id" => "/id",
                "status" => "/status",
                _ => return true,
            };
            let [one, other] = [0, 1].map(|at| pair[at].pointer(path).and_then(Json::as_str).unwrap());
            let (one, other) = if descending { (other, one) } else { (one, other) };
            if one != other {
                return one < other;
            }
        }
        true
    })
}
