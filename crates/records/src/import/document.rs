//! What a document of an import asks for: which resources, and where each is to stand. Pure.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use hilum_chart::import::Draft;
use hilum_chart::logical::chart_id;
use hilum_core::InstallationKey;
use hilum_fhir::FhirId;
use hilum_fhir::exchange::{Entry, Exchange, Method, base_of, is_search, referring, relinked, resolved};
use hilum_fhir::resource::{compact, with_id, without_server_meta};
use serde::Deserialize;

use super::work::checked;
use super::{At, Refusal};
use crate::fhir::ask::type_of;

/// One resource.
pub(super) struct Asked {
    pub at: At,
    /// Where in the text.
    pub body: Range<usize>,
    pub resource_type: &'static str,
    pub logical: FhirId,
    /// Whether the body gets its id.
    pub names: bool,
    /// The search that is asked before: `Type?criteria`.
    pub condition: Option<Condition>,
    /// What others of the document call it by.
    pub full_url: Option<String>,
}

/// What is written goes by a search.
pub(super) struct Condition {
    pub search: String,
    /// What meets it stays as it is (`If-None-Exist`); else it is updated.
    pub keeps: bool,
}

/// What one document asks for.
#[derive(Default)]
pub(super) struct Document {
    /// Its number in the file.
    pub number: u64,
    pub asked: Vec<Asked>,
    pub links: Links,
    /// References by searches.
    pub searches: BTreeSet<String>,
}

/// What a document's references lead to.
#[derive(Default)]
pub(super) struct Links {
    pub known: HashMap<String, String>,
    /// Those that lead nowhere, and why.
    pub lost: HashMap<String, String>,
    /// Whether a `urn:uuid:` that names no entry is refused.
    pub is_whole: bool,
    /// Whether all stay as they are.
    pub is_bulk: bool,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "resourceType")]
    resource_type: String,
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<serde::de::IgnoredAny>,
}

/// Reads a document: a Bundle of resources, or a resource.
pub(super) fn read(
    (text, part): (&str, Range<usize>),
    at: At,
    is_bulk: bool,
    key: &InstallationKey,
) -> (Document, Vec<Refusal>) {
    let mut refused = Vec::new();
    let number = at.line.unwrap_or_default();
    let mut document =
        Document { number, links: Links { is_bulk, ..Links::default() }, ..Document::default() };
    let body = text.get(part).unwrap_or_default().trim();
    let mut reading = Reading { text, key, document: &mut document };
    let done = match head(body) {
        Err(why) => Err(at.refuse(why)),
        Ok(head) if head.resource_type == "Bundle" && !is_bulk && head.kind.is_some() => {
            reading.bundle(body, at, &mut refused)
        }
        Ok(head) => reading.resource(body, at, &head, Wish::default()),
    };
    refused.extend(done.err());
    (document, refused)
}

fn head(body: &str) -> Result<Head, String> {
    // The reason may quote content: only the place is told.
    serde_json::from_str(body).map_err(|why| {
        format!(
            "no resource in JSON at line {}, column {}: an object with resourceType belongs there",
            why.line(),
            why.column()
        )
    })
}

/// What an entry's request adds to its resource.
#[derive(Default)]
struct Wish {
    full_url: Option<String>,
    /// By the address of an update.
    id: Option<String>,
    condition: Option<Condition>,
}

struct Reading<'a> {
    text: &'a str,
    key: &'a InstallationKey,
    document: &'a mut Document,
}

impl Reading<'_> {
    fn bundle(&mut self, body: &str, at: At, refused: &mut Vec<Refusal>) -> Result<(), Refusal> {
        let bundle =
            Exchange::parse(body).ok_or_else(|| at.refuse("a Bundle whose entries cannot be read"))?;
        match bundle.kind.as_str() {
            "transaction" => self.document.links.is_whole = true,
            "batch" | "collection" | "searchset" => {}
            // One resource: what is in it is not there by itself.
            "document" | "message" => {
                return self.resource(body, at, &head(body).map_err(|why| at.refuse(why))?, Wish::default());
            }
            _ => {
                return Err(at.refuse(
                    "Bundle.type is transaction, batch, collection or searchset here; document and message are kept whole",
                ));
            }
        }
        let mut urls = BTreeSet::new();
        for (number, entry) in bundle.entries.iter().enumerate().filter(|(_, entry)| !entry.is_outcome()) {
            let at = At { entry: Some(number), ..at };
            // Two that are called the same would become one; of a search, versions are.
            let is_new = entry.full_url.as_ref().is_none_or(|url| urls.insert(url.as_str()));
            if !is_new && entry.request.is_some() {
                refused.push(at.refuse("another entry of the Bundle has the same fullUrl"));
                continue;
            }
            if let Err(why) = self.entry(entry, at) {
                refused.push(why);
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry<'_>, at: At) -> Result<(), Refusal> {
        let Some(resource) = entry.resource() else {
            return Err(at.refuse("the entry has no resource: an import writes, and does nothing else"));
        };
        let head = head(resource).map_err(|why| at.refuse(why))?;
        let mut wish = Wish { full_url: entry.full_url.clone(), ..Wish::default() };
        if let Some(request) = &entry.request {
            let url = request.url.strip_prefix('/').unwrap_or(&request.url);
            match (request.method, url.split_once('?'), url.split_once('/')) {
                (Method::Put, Some((ty, _)), _) if ty == head.resource_type => {
                    wish.condition = Some(Condition { search: url.to_owned(), keeps: false });
                }
                (Method::Put, None, Some((ty, id))) if ty == head.resource_type => {
                    wish.id = Some(id.to_owned());
                }
                (Method::Post, None, None) if url == head.resource_type => {
                    wish.condition = request.if_none_exist.as_deref().map(|raw| {
                        let ours = is_search(raw);
                        let search = if ours {
                            raw.to_owned()
                        } else {
                            format!("{url}?{}", raw.trim_start_matches('?'))
                        };
                        Condition { search, keeps: true }
                    });
                }
                _ => {
                    return Err(at.refuse(
                        "an import does POST Type, PUT Type/id and PUT Type?criteria, of the type of the resource",
                    ));
                }
            }
        }
        self.resource(resource, at, &head, wish)
    }

    fn resource(&mut self, body: &str, at: At, head: &Head, wish: Wish) -> Result<(), Refusal> {
        let resource_type = type_of(&head.resource_type).map_err(|_| at.refuse("no resource type of R4"))?;
        if wish.id.is_some() && head.id.is_some() && wish.id != head.id {
            return Err(at.refuse("id of the resource is not the id in request.url"));
        }
        let own = head.id.as_deref().or(wish.id.as_deref());
        let of_url = wish.full_url.as_deref().and_then(|url| url.strip_prefix("urn:uuid:"));
        let logical = match own.or(of_url) {
            Some(id) => FhirId::parse(id).map_err(|why| at.refuse(why.to_string()))?,
            // A function of what it says, so that the same file again is the same resource.
            None => FhirId::from(self.key.id("fhir-import", &[resource_type.as_bytes(), body.as_bytes()])),
        };
        if wish.condition.is_some() {
            // What is asked for by the same search is taken for it from here on: it must be one that can stand.
            checked(body)
                .map_err(|(expression, text)| Refusal { expression, ..at.refuse_in(resource_type, text) })?;
        }
        let begin = body.as_ptr().addr() - self.text.as_ptr().addr();
        if !self.document.links.is_bulk && resource_type != "Bundle" {
            let found = RefCell::new(BTreeSet::new());
            relinked(body, |link| {
                if is_search(link) {
                    found.borrow_mut().insert(link.to_owned());
                }
                None
            });
            self.document.searches.append(&mut found.into_inner());
        }
        if let Some(url) = &wish.full_url {
            self.document.links.known.insert(url.clone(), format!("{resource_type}/{logical}"));
        }
        self.document.asked.push(Asked {
            at,
            body: begin..begin + body.len(),
            resource_type,
            names: head.id.is_none(),
            logical,
            condition: wish.condition,
            full_url: wish.full_url,
        });
        Ok(())
    }
}

/// The resource as it will be stored: in one line, with its id, its references leading to what they name.
pub(super) fn draft(
    text: &str,
    asked: &Asked,
    links: &Links,
    key: &InstallationKey,
) -> Result<Draft, Refusal> {
    let refuse = |why: String| asked.at.refuse_in(asked.resource_type, why);
    let fault = |why: hilum_fhir::ResourceError| refuse(why.to_string());
    let mut body = compact(text.get(asked.body.clone()).unwrap_or_default());
    // What a Bundle that is kept says, it says to itself.
    if !links.is_bulk && asked.resource_type != "Bundle" {
        let full_url = asked.full_url.as_deref();
        body = linked(&body, full_url, links).map_err(|why| refuse(why.to_owned()))?.into();
    }
    if asked.names {
        body = with_id(&body, &asked.logical).map_err(fault)?.into();
    }
    // Seldom there: not worth a look at each member.
    if body.contains("\"versionId\"") || body.contains("\"lastUpdated\"") {
        body = without_server_meta(&body).map_err(fault)?.into_owned().into();
    }
    let id = chart_id(key, asked.resource_type, &asked.logical);
    Ok(Draft::new(asked.resource_type, id, asked.logical.clone(), body.into_owned()))
}

/// The body with its references leading to what they name.
fn linked<'l>(body: &str, full_url: Option<&str>, links: &'l Links) -> Result<String, &'l str> {
    let lost = Cell::new(None);
    // What another entry is called where they both come from. All else that is relative is of the population that comes in.
    let base = full_url.and_then(base_of);
    let beside = |link: &str| links.known.get(&resolved(base?, link)?).cloned();
    let body = referring(body, beside);
    let linked = relinked(&body, |link| {
        let known = links.known.get(link);
        if known.is_none() {
            let unnamed = links.is_whole && link.starts_with("urn:uuid:");
            let unnamed = unnamed.then_some("a reference by urn:uuid names no entry of the Bundle");
            lost.set(lost.get().or_else(|| links.lost.get(link).map(String::as_str)).or(unnamed));
        }
        known.cloned()
    });
    lost.get().map_or(Ok(linked.into_owned()), Err)
}
