//! The records of one person, merged ones too, and those that a source linked.

use std::collections::BTreeMap;

use hilum_core::Id;
use serde_json::Value as Json;

use super::Record;
use super::encounters::resources;
use super::fhir::{items, referred, source_of, text};
use super::person::Person;
use crate::map::summary::{NameDisplay, identifier_summary, shown_name};
use crate::view::ViewError;
use crate::view::journey::Sight;

pub(super) async fn records(
    sight: Sight<'_>,
    person: &Person,
    own: &Json,
    confidential: bool,
) -> Result<(Vec<Record>, Vec<Record>), ViewError> {
    let linked = |resource: &Json, kind: &str| {
        let links = items(resource, "/link").iter();
        let links = links.filter(|link| text(link, "/type") == Some(kind));
        links.filter_map(|link| referred(link.get("other")?, "Patient")).collect::<Vec<Id>>()
    };
    let ids: Vec<Id> = person.members.iter().map(|member| member.number).collect();
    let found: BTreeMap<Id, Json> = resources(sight, "Patient", &ids).await?.into_iter().collect();
    let mut all = Vec::new();
    for member in &person.members {
        let Some(resource) = found.get(&member.number) else { continue };
        let said = person.said_of(member.number)?;
        let name = shown_name(said.names.items()).map(|name| NameDisplay(name).to_string());
        let identifier = member.identifier.as_ref().map(|one| identifier_summary(one).into());
        all.push(Record {
            id: member.number,
            identifier: identifier.filter(|_| !confidential),
            name: name.filter(|_| !confidential),
            merged_into: linked(resource, "replaced-by").first().copied(),
            message: source_of(resource),
        });
    }
    let see_also = linked(own, "seealso").into_iter().map(|id| Record {
        id,
        identifier: None,
        name: None,
        merged_into: None,
        message: None,
    });
    Ok((all, see_also.collect()))
}
