//! `$meta` of a type and of all (<https://hl7.org/fhir/R4/resource-operation-meta.html>): the profiles, security labels and tags
//! that are in use among what the asker may see. The index says which there may be; a search, by whom it is asked, whether
//! there is any.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use hilum_chart::ChartError;
use hilum_chart::labels::Label;
use hilum_fhir::json::Json;
use hilum_fhir::r4::r4;
use hilum_fhir::search::query::{Escaped, QueryError};
use hilum_web::visit::Caller;

use super::answer::{self, Trouble};
use super::ask;
use super::form::Pairs;
use super::search;
use crate::Room;
use crate::limits::LABEL_SYSTEMS_MAX;

/// `GET` or `POST /fhir/Type/$meta`.
pub(super) async fn of_type(
    State(room): State<Room>,
    caller: Caller,
    Path(ty): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let is_pretty = ask::form(query.as_deref(), &headers)?;
    let used = used(&room, &caller, &[ask::type_of(&ty)?]).await?;
    Ok(answer::json(used.parameters(), is_pretty))
}

/// `GET` or `POST /fhir/$meta`.
pub(super) async fn of_all(
    State(room): State<Room>,
    caller: Caller,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let is_pretty = ask::form(query.as_deref(), &headers)?;
    let types: Vec<&'static str> = r4().resource_types().collect();
    let used = used(&room, &caller, &types).await?;
    Ok(answer::json(used.parameters(), is_pretty))
}

/// Codings by system and code, as the first resource has them.
type Codings = BTreeMap<(String, String), String>;

/// What is in use.
#[derive(Default)]
struct Used {
    profiles: BTreeSet<String>,
    security: Codings,
    tags: Codings,
}

impl Used {
    fn take(&mut self, meta: &Json<'_>) {
        let all = |name| meta.get(name).map_or(&[][..], Json::elements);
        self.profiles.extend(all("profile").iter().filter_map(Json::as_str).map(str::to_owned));
        for (name, codings) in [("security", &mut self.security), ("tag", &mut self.tags)] {
            for coding in all(name) {
                let text = |name| coding.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
                codings.entry((text("system"), text("code"))).or_insert_with(|| coding.to_text());
            }
        }
    }

    /// What finds resources with the label, beside those that are known to have it; absent where nothing else could.
    fn criteria(&self, label: &Label) -> Result<Option<Pairs>, QueryError> {
        let Label { parameter, value, .. } = label;
        let known = match *parameter {
            "_profile" if self.profiles.contains(value) => return Ok(None),
            "_profile" => None,
            "_security" => Some(&self.security),
            _ => Some(&self.tags),
        };
        let mut pairs = vec![((*parameter).to_owned(), Escaped(value).to_string())];
        let same = known.into_iter().flat_map(BTreeMap::keys).filter(|(_, code)| code == value);
        let others: Vec<String> =
            same.map(|(system, code)| format!("{}|{}", Escaped(system), Escaped(code))).collect();
        if others.len() > LABEL_SYSTEMS_MAX {
            return Err(QueryError::Bound { what: "systems of one label's code", max: LABEL_SYSTEMS_MAX });
        }
        if !others.is_empty() {
            pairs.push((format!("{parameter}:not"), others.join(",")));
        }
        Ok(Some(pairs))
    }

    fn parameters(&self) -> String {
        let profiles: Vec<String> = self
            .profiles
            .iter()
            .map(|profile| serde_json::Value::from(profile.as_str()).to_string())
            .collect();
        let codings = |codings: &Codings| codings.values().cloned().collect::<Vec<_>>();
        let lists =
            [("profile", profiles), ("security", codings(&self.security)), ("tag", codings(&self.tags))];
        let said = lists.iter().filter(|(_, values)| !values.is_empty());
        let meta: Vec<String> =
            said.map(|(name, values)| format!("\"{name}\":[{}]", values.join(","))).collect();
        format!(
            "{{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"return\",\"valueMeta\":{{{}}}}}]}}",
            meta.join(",")
        )
    }
}

async fn used(room: &Room, caller: &Caller, types: &[&'static str]) -> Result<Used, Trouble> {
    search::settings(room).await?;
    let labels = room.chart.labels(&caller.authority, types).await.map_err(|error| match error {
        ChartError::Bound { max, .. } => {
            QueryError::Bound { what: "labels to look for: ask type by type", max }.into()
        }
        other => Trouble::from(other),
    })?;
    let mut used = Used::default();
    for label in &labels {
        while let Some(criteria) = used.criteria(label)? {
            let Some(body) = search::any(room, caller, label.resource_type, criteria).await? else { break };
            let json = Json::parse(body.as_bytes())?;
            let before = (used.profiles.len(), used.security.len(), used.tags.len());
            json.get("meta").into_iter().for_each(|meta| used.take(meta));
            // What is found by a value that it does not show is not found anew.
            if before == (used.profiles.len(), used.security.len(), used.tags.len()) {
                break;
            }
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_told_once_and_others_of_the_same_code_are_looked_for() {
        let mut used = Used::default();
        let none = r#"{"resourceType":"Parameters","parameter":[{"name":"return","valueMeta":{}}]}"#;
        assert_eq!(used.parameters(), none, "`return` is 1..1");
        let meta =
            r#"{"profile":["http://h/p"],"tag":[{"system":"a|b","code":"x,y","display":"1"},{"code":"t"}]}"#;
        used.take(&Json::parse(meta.as_bytes()).unwrap());
        used.take(&Json::parse(meta.replace("\"1\"", "\"2\"").as_bytes()).unwrap());
        assert_eq!(
            used.parameters(),
            r#"{"resourceType":"Parameters","parameter":[{"name":"return","valueMeta":{"profile":["http://h/p"],"#
                .to_owned()
                + r#""tag":[{"code":"t"},{"system":"a|b","code":"x,y","display":"1"}]}}]}"#
        );
        let of =
            |parameter, value: &str| Label { resource_type: "Basic", parameter, value: value.to_owned() };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(used.criteria(&of("_profile", "http://h/p")), Ok(None));
        assert_eq!(used.criteria(&of("_security", "t")), Ok(Some(vec![pair("_security", "t")])));
        assert_eq!(
            used.criteria(&of("_tag", "x,y")),
            Ok(Some(vec![pair("_tag", "x\\,y"), pair("_tag:not", "a\\|b|x\\,y")]))
        );
    }
}
