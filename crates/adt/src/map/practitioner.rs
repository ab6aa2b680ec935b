//! Practitioner, from XCN.

use hilum_core::{Id, InstallationKey};
use serde::Serialize;

use super::convert::{human_name, identifier};
use super::element::{HumanName, Identifier};
use super::{Mapped, Notes, ids};
use crate::content::datatypes::Provider;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Practitioner<'a> {
    resource_type: &'static str,
    id: Id,
    identifier: [Identifier<'a>; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    name: Vec<HumanName<'a>>,
}

/// Practitioner of a provider; absent for one without a number, who stands by name where he is referred to.
#[must_use]
pub fn resource(provider: &Provider, key: &InstallationKey) -> Option<Mapped> {
    let sent = provider.identifier.as_ref()?;
    let id = ids::practitioner(key, sent);
    let mut notes = Notes::default();
    let name = &provider.name;
    let has_name = [&name.family, &name.given].into_iter().any(|part| !part.is_empty());
    let name = if has_name { vec![human_name(name, "Practitioner.name", &mut notes)] } else { Vec::new() };
    let practitioner =
        Practitioner { resource_type: "Practitioner", id, identifier: [identifier(sent)], name };
    Some(notes.finish(id, &practitioner))
}
