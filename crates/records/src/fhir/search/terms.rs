//! Codes in the place of value sets (`:in`, `:not-in`) and of what lies above or below a code: by the ValueSets and CodeSystems
//! that are on the server, as they were at the walk's commit.

use std::collections::BTreeMap;
use std::pin::Pin;

use hilum_chart::search::From;
use hilum_core::{Seq, Timestamp};
use hilum_fhir::json::Json;
use hilum_fhir::limits::{TERMS_CODES_MAX, TERMS_DEPTH_MAX};
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::{Criterion, Filter, Modifier, Operand, Query, Token, Total};
use hilum_fhir::search::terms::{Coded, Part, TermsError, beside, composed, in_all};

use super::walk::Ask;
use crate::fhir::answer::{self, Trouble};

const NO_VALUE_SET: &str =
    "no such value set is here: write it as a ValueSet, or give its codes with commas between them";
const NO_CODE_SYSTEM: &str =
    "no such code system is here: write it as a CodeSystem, or give the codes with commas between them";

/// What is looked up, at one commit.
struct Terms<'a> {
    ask: Ask<'a>,
    t: Option<Seq>,
    began: Timestamp,
    /// What was found already: by type and address.
    read: BTreeMap<(&'static str, String), Option<String>>,
}

/// The codes of something, on their way.
type Codes<'f> = Pin<Box<dyn Future<Output = Result<Vec<Coded>, Trouble>> + Send + 'f>>;

/// The same queries with codes in the place of value sets, and the commit at which these stood.
///
/// # Errors
/// A value set or code system that is not here, or is no list.
pub(super) async fn expanded(
    ask: Ask<'_>,
    mut queries: Vec<Query>,
    t: Option<Seq>,
    began: Timestamp,
) -> Result<(Vec<Query>, Option<Seq>), Trouble> {
    let mut terms = Terms { ask, t, began, read: BTreeMap::new() };
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
            if depth > TERMS_DEPTH_MAX {
                return Err(refused(TermsError::TooMany));
            }
            let body = self.read("ValueSet", &address).await?.ok_or(Trouble::Unsupported(NO_VALUE_SET))?;
            let composed = {
                let json = Json::parse(body.as_bytes())
                    .map_err(|_| answer::broken("a stored body is no resource"))?;
                composed(&json).map_err(refused)?
            };
            let excluded = self.any_of(composed.exclude, depth).await?;
            let mut codes = self.any_of(composed.include, depth).await?;
            // Of all of a system nothing can be left out by listing the rest.
            let is_open = |one: &Coded| one.1.is_empty() && excluded.iter().any(|other| other.0 == one.0);
            if codes.iter().any(is_open) {
                return Err(refused(TermsError::Filter));
            }
            let is_out = |one: &Coded| {
                excluded.iter().any(|(system, code)| *system == one.0 && (*code == one.1 || code.is_empty()))
            };
            codes.retain(|one| !is_out(one));
            Ok(codes)
        })
    }

    /// What is in any of these: in all parts of it.
    async fn any_of(&mut self, all: Vec<Vec<Part>>, depth: usize) -> Result<Vec<Coded>, Trouble> {
        let mut codes = Vec::new();
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
        Ok(codes)
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
        let body = self.read("CodeSystem", system).await?.ok_or(Trouble::Unsupported(NO_CODE_SYSTEM))?;
        let json =
            Json::parse(body.as_bytes()).map_err(|_| answer::broken("a stored body is no resource"))?;
        let codes = beside(&json, code, above).map_err(refused)?;
        Ok(codes.into_iter().map(|code| (system.to_owned(), code)).collect())
    }

    /// The newest resource of this address, `Type/id` or `url|version`.
    async fn read(&mut self, ty: &'static str, address: &str) -> Result<Option<String>, Trouble> {
        let key = (ty, address.to_owned());
        if let Some(found) = self.read.get(&key) {
            return Ok(found.clone());
        }
        let found = self.look(ty, address).await?;
        self.read.insert(key, found.clone());
        Ok(found)
    }

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
        let answer = self.ask.search(&query, self.t, self.began, from).await?;
        let t = self.t.unwrap_or(answer.t);
        self.t = Some(t);
        let shown = self.ask.resolved(ty, &answer.found, t).await?;
        Ok(shown.into_iter().flatten().next().map(|shown| shown.body))
    }
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
