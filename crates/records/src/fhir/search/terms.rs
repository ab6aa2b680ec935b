//! Codes in the place of value sets (`:in`, `:not-in`) and of what lies above or below a code: by the ValueSets and CodeSystems
//! that are on the server, as they were at the walk's commit.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use hilum_chart::search::{From, Match};
use hilum_core::{Authority, Seq, Timestamp};
use hilum_engines::tables::Value;
use hilum_fhir::json::Json;
use hilum_fhir::limits::{TERMS_CODES_MAX, TERMS_DEPTH_MAX, TERMS_PARTS_MAX};
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::{Criterion, Filter, Modifier, Operand, Query, Token, Total};
use hilum_fhir::search::terms::{Among, Coded, Composed, Hierarchy, Part, TermsError, composed, in_all};
use hilum_fhir::search::values::Settings;

use super::explain::planned;
use crate::Room;
use crate::fhir::answer::{self, Trouble};

const NO_VALUE_SET: &str =
    "no such value set is here: write it as a ValueSet, or give its codes with commas between them";
const NO_CODE_SYSTEM: &str =
    "no such code system is here: write it as a CodeSystem, or give the codes with commas between them";

/// Who looks, and from when on.
#[derive(Clone, Copy)]
pub(in crate::fhir) struct By<'a> {
    pub(in crate::fhir) room: &'a Room,
    pub(in crate::fhir) settings: &'a Settings,
    pub(in crate::fhir) authority: &'a Authority,
    pub(in crate::fhir) began: Timestamp,
}

/// What is looked up, at one commit.
struct Terms<'a> {
    by: By<'a>,
    t: Option<Seq>,
    /// What is in the value sets that were looked into, by address.
    value_sets: BTreeMap<String, Vec<Coded>>,
    /// The code systems that were looked into, by address.
    systems: BTreeMap<String, Hierarchy>,
    /// What those value sets are made of.
    parts: usize,
}

/// The codes of something, on their way.
type Codes<'f> = Pin<Box<dyn Future<Output = Result<Vec<Coded>, Trouble>> + Send + 'f>>;

/// The same queries with codes in the place of value sets, and the commit at which these stood.
///
/// # Errors
/// A value set or code system that is not here, or is no list.
pub(in crate::fhir) async fn expanded(
    by: By<'_>,
    mut queries: Vec<Query>,
    t: Option<Seq>,
) -> Result<(Vec<Query>, Option<Seq>), Trouble> {
    let mut terms = Terms { by, t, value_sets: BTreeMap::new(), systems: BTreeMap::new(), parts: 0 };
    for query in &mut queries {
        for filter in query.filters_mut() {
            terms.expand(filter).await?;
        }
    }
    Ok((queries, terms.t))
}

impl Terms<'_> {
    async fn expand(&mut self, filter: &mut Filter) -> Result<(), Trouble> {
        let modifier = match filter.modifier {
            Some(Modifier::In) => None,
            Some(Modifier::NotIn) => Some(Modifier::Not),
            Some(Modifier::Above | Modifier::Below)
                if filter.values.iter().any(|value| matches!(value, Operand::Token(_))) =>
            {
                None
            }
            _ => return Ok(()),
        };
        let is_above = filter.modifier == Some(Modifier::Above);
        let mut codes = Vec::new();
        for value in &filter.values {
            codes.extend(match value {
                Operand::ValueSet(address) => self.value_set(address.clone(), 0).await?,
                Operand::Token(token) => {
                    let system = token.system.clone().unwrap_or_default();
                    self.beside(&system, &token.code, is_above).await?
                }
                _ => Vec::new(),
            });
            if codes.len() > TERMS_CODES_MAX {
                return Err(refused(TermsError::TooMany));
            }
        }
        codes.sort_unstable();
        codes.dedup();
        let token = |(system, code): Coded| {
            let system = Some(system).filter(|system| !system.is_empty());
            Operand::Token(Token { system, code })
        };
        *filter = Filter { modifier, values: codes.into_iter().map(token).collect(), ..filter.clone() };
        Ok(())
    }

    fn value_set(&mut self, address: String, depth: usize) -> Codes<'_> {
        Box::pin(async move {
            if let Some(codes) = self.value_sets.get(&address) {
                return Ok(codes.clone());
            }
            let body = self.look("ValueSet", &address).await?.ok_or(Trouble::Unsupported(NO_VALUE_SET))?;
            let Composed { include, exclude } = understood(body, composed).await?;
            self.parts += 1 + include.iter().chain(&exclude).map(|all| 1 + all.len()).sum::<usize>();
            if depth > TERMS_DEPTH_MAX || self.parts > TERMS_PARTS_MAX {
                return Err(refused(TermsError::TooMany));
            }
            let excluded = self.any_of(exclude, depth).await?;
            let mut codes = self.any_of(include, depth).await?;
            // Of all of a system nothing can be left out by listing the rest.
            let systems: BTreeSet<&str> = excluded.iter().map(|(system, _)| system.as_str()).collect();
            if codes.iter().any(|(system, code)| code.is_empty() && systems.contains(system.as_str())) {
                return Err(refused(TermsError::Filter));
            }
            let out = Among::of(&excluded);
            codes.retain(|one| !out.has(one));
            self.value_sets.insert(address, codes.clone());
            Ok(codes)
        })
    }

    /// What is in any of these: in all parts of it.
    async fn any_of(&mut self, all: Vec<Vec<Part>>, depth: usize) -> Result<Vec<Coded>, Trouble> {
        let mut codes = BTreeSet::new();
        for parts in all {
            let mut lists = Vec::new();
            for part in parts {
                lists.push(self.part(part, depth).await?);
            }
            codes.extend(in_all(lists));
            if codes.len() > TERMS_CODES_MAX {
                return Err(refused(TermsError::TooMany));
            }
        }
        Ok(codes.into_iter().collect())
    }

    async fn part(&mut self, part: Part, depth: usize) -> Result<Vec<Coded>, Trouble> {
        match part {
            Part::Codes(codes) => Ok(codes),
            Part::ValueSet(address) => self.value_set(address, depth + 1).await,
            Part::Below { system, code, itself } => {
                let mut codes = self.beside(&system, &code, false).await?;
                codes.retain(|(_, own)| itself || *own != code);
                Ok(codes)
            }
        }
    }

    /// A code and those above or below it.
    async fn beside(&mut self, system: &str, code: &str, above: bool) -> Result<Vec<Coded>, Trouble> {
        if !self.systems.contains_key(system) {
            let body = self.look("CodeSystem", system).await?.ok_or(Trouble::Unsupported(NO_CODE_SYSTEM))?;
            self.systems.insert(system.to_owned(), understood(body, Hierarchy::of).await?);
        }
        let codes = self.systems.get(system).map_or(Ok(Vec::new()), |all| all.beside(code, above));
        Ok(codes.map_err(refused)?.into_iter().map(|code| (system.to_owned(), code)).collect())
    }

    /// The newest resource of this address, `Type/id` or `url|version`.
    async fn look(&mut self, ty: &'static str, address: &str) -> Result<Option<String>, Trouble> {
        let id = address.strip_prefix(ty).and_then(|rest| rest.strip_prefix('/'));
        let (url, version) =
            address.split_once('|').map_or((address, None), |(url, version)| (url, Some(version)));
        let wanted = match id {
            Some(id) => vec![equal(ty, "_id", token(id))],
            None => vec![
                equal(ty, "url", Operand::Text(url.to_owned())),
                version.and_then(|version| equal(ty, "version", token(version))),
            ],
        };
        let query = Query {
            resource_type: ty,
            criteria: wanted.into_iter().flatten().map(Criterion::Filter).collect(),
            total: Total::None,
            ..Query::of(ty)
        };
        // The newest first.
        let from = From { reversed: true, limit: 1, ..From::default() };
        let By { room, settings, authority, began } = self.by;
        let plan = planned(room, settings, authority, &query, (self.t, began))?;
        let answer = room.chart.search(authority, &plan, from).await?;
        let t = self.t.unwrap_or(answer.t);
        self.t = Some(t);
        let Some(Value::Int(row)) = answer.found.first().map(|found| found.subject.clone()) else {
            return Ok(None);
        };
        let Some(Match { then, now }) = room.chart.matches(authority, &[row], t).await?.pop().flatten()
        else {
            return Ok(None);
        };
        // They lie in nobody's compartment: what the plan let through is asked of its room alone.
        if let Some(now) = &now
            && room.discretions.show(authority, now).await?.is_none()
        {
            return Ok(None);
        }
        Ok(room.discretions.show(authority, &then).await?)
    }
}

/// What a body says, read where it keeps nobody waiting: there are large ones.
async fn understood<T: Send + 'static>(
    body: String,
    read: fn(&Json<'_>) -> Result<T, TermsError>,
) -> Result<T, Trouble> {
    let broken = || answer::broken("a stored body is no resource");
    let read = move || Json::parse(body.as_bytes()).map(|json| read(&json)).map_err(drop);
    let read = tokio::task::spawn_blocking(read).await.map_err(|_| broken())?;
    read.map_err(|()| broken())?.map_err(refused)
}

fn token(code: &str) -> Operand {
    Operand::Token(Token { system: None, code: code.to_owned() })
}

fn equal(ty: &str, code: &str, value: Operand) -> Option<Filter> {
    Some(Filter { parameter: r4().parameter(ty, code)?, modifier: None, values: vec![value] })
}

fn refused(error: TermsError) -> Trouble {
    Trouble::Unsupported(match error {
        TermsError::Filter => {
            "the value set says what is in it by filters that are not evaluated here: give it an expansion"
        }
        TermsError::TooMany => "the value set has more codes than a search takes (1,000), or lies too deep",
    })
}
