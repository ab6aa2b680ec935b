//! Bundles (<https://hl7.org/fhir/R4/bundle.html>) written around raw bodies: no body is parsed on the way out.

use serde_json::Value;

/// What the Bundle is for (<http://hl7.org/fhir/bundle-type>): those that hilum writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleType {
    /// Answer to a search.
    Searchset,
    /// A collection.
    Collection,
    /// Versions of a resource, newest first.
    History,
    /// What came of a batch, entry by entry.
    BatchResponse,
    /// What came of a transaction, entry by entry.
    TransactionResponse,
}

impl BundleType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Searchset => "searchset",
            Self::Collection => "collection",
            Self::History => "history",
            Self::BatchResponse => "batch-response",
            Self::TransactionResponse => "transaction-response",
        }
    }
}

/// Why an entry is in a searchset (<http://hl7.org/fhir/search-entry-mode>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchMode {
    /// It matches.
    Match,
    /// Something that matches refers to it.
    Include,
    /// An OperationOutcome about the search.
    Outcome,
}

impl SearchMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Include => "include",
            Self::Outcome => "outcome",
        }
    }
}

/// What made a version, for a history's entry.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    /// `POST`, `PUT` or `DELETE`.
    pub method: &'a str,
    /// `Type/id`.
    pub url: &'a str,
    /// `201`, `200`, `204`.
    pub status: &'a str,
    /// The version.
    pub version: i64,
    /// `meta.lastUpdated`.
    pub updated: &'a str,
}

/// What came of an entry of a batch or transaction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered<'a> {
    /// `201 Created`.
    pub status: &'a str,
    /// Where the version is that was made.
    pub location: Option<&'a str>,
    /// The version that stands, and since when.
    pub version: Option<(i64, &'a str)>,
    /// What went wrong, an OperationOutcome as JSON.
    pub outcome: Option<&'a str>,
}

/// Writes a Bundle: links and total first, then the entries in the order given.
///
/// ```
/// use hilum_fhir::{Bundle, BundleType, SearchMode};
/// let mut bundle = Bundle::new(BundleType::Searchset).total(1).link("self", "http://h/fhir/Patient");
/// bundle.entry(Some("http://h/fhir/Patient/a"), r#"{"resourceType":"Patient","id":"a"}"#, Some(SearchMode::Match));
/// assert_eq!(
///     bundle.finish(),
///     concat!(
///         r#"{"resourceType":"Bundle","type":"searchset","total":1,"#,
///         r#""link":[{"relation":"self","url":"http://h/fhir/Patient"}],"#,
///         r#""entry":[{"fullUrl":"http://h/fhir/Patient/a","#,
///         r#""resource":{"resourceType":"Patient","id":"a"},"search":{"mode":"match"}}]}"#
///     )
/// );
/// ```
#[derive(Clone)]
pub struct Bundle {
    kind: BundleType,
    total: Option<u64>,
    links: Vec<(String, String)>,
    entries: String,
}

impl Bundle {
    /// An empty Bundle.
    pub fn new(bundle_type: BundleType) -> Self {
        Self { kind: bundle_type, total: None, links: Vec::new(), entries: String::new() }
    }

    /// The number of matches, of a searchset or history only: included resources do not count.
    #[must_use]
    pub fn total(mut self, total: u64) -> Self {
        self.total = Some(total);
        self
    }

    /// Adds a link (`self`, `next`, …).
    #[must_use]
    pub fn link(mut self, relation: &str, url: &str) -> Self {
        self.links.push((relation.to_owned(), url.to_owned()));
        self
    }

    /// Adds an entry around `resource`, which is JSON already and goes out as it is.
    pub fn entry(&mut self, full_url: Option<&str>, resource: &str, mode: Option<SearchMode>) {
        let out = &mut self.entries;
        out.push_str(if out.is_empty() { "{" } else { ",{" });
        if let Some(url) = full_url {
            push(out, &["\"fullUrl\":", &text(url), ","]);
        }
        push(out, &["\"resource\":", resource]);
        if let Some(mode) = mode {
            push(out, &[",\"search\":{\"mode\":", &text(mode.as_str()), "}"]);
        }
        out.push('}');
    }

    /// Adds a version of a history: what was asked for, and what came of it. Without `resource` it was deleted.
    pub fn version(&mut self, full_url: &str, resource: Option<&str>, done: &Done<'_>) {
        let out = &mut self.entries;
        out.push_str(if out.is_empty() { "{" } else { ",{" });
        push(out, &["\"fullUrl\":", &text(full_url), ","]);
        if let Some(resource) = resource {
            push(out, &["\"resource\":", resource, ","]);
        }
        let Done { method, url, status, version, updated } = done;
        push(out, &["\"request\":{\"method\":", &text(method), ",\"url\":", &text(url), "},"]);
        let etag = text(&format!("W/\"{version}\""));
        push(out, &["\"response\":{\"status\":", &text(status), ",\"etag\":", &etag]);
        push(out, &[",\"lastModified\":", &text(updated), "}}"]);
    }

    /// Adds what came of an entry of a batch or transaction, with the resource where it is wanted.
    pub fn answered(&mut self, full_url: Option<&str>, resource: Option<&str>, answered: &Answered<'_>) {
        let out = &mut self.entries;
        out.push_str(if out.is_empty() { "{" } else { ",{" });
        if let Some(url) = full_url {
            push(out, &["\"fullUrl\":", &text(url), ","]);
        }
        if let Some(resource) = resource {
            push(out, &["\"resource\":", resource, ","]);
        }
        let Answered { status, location, version, outcome } = answered;
        push(out, &["\"response\":{\"status\":", &text(status)]);
        if let Some(location) = location {
            push(out, &[",\"location\":", &text(location)]);
        }
        if let Some((version, updated)) = version {
            let etag = text(&format!("W/\"{version}\""));
            push(out, &[",\"etag\":", &etag, ",\"lastModified\":", &text(updated)]);
        }
        if let Some(outcome) = outcome {
            push(out, &[",\"outcome\":", outcome]);
        }
        out.push_str("}}");
    }

    /// The Bundle as JSON. Members that would be empty are left out, as R4 demands.
    pub fn finish(self) -> String {
        let mut out = String::with_capacity(self.entries.len() + 256);
        push(&mut out, &["{\"resourceType\":\"Bundle\",\"type\":", &text(self.kind.as_str())]);
        if let Some(total) = self.total {
            push(&mut out, &[",\"total\":", &total.to_string()]);
        }
        for (at, (relation, url)) in self.links.iter().enumerate() {
            let open = if at == 0 { ",\"link\":[" } else { "," };
            push(&mut out, &[open, "{\"relation\":", &text(relation), ",\"url\":", &text(url), "}"]);
        }
        if !self.links.is_empty() {
            out.push(']');
        }
        if !self.entries.is_empty() {
            push(&mut out, &[",\"entry\":[", &self.entries, "]"]);
        }
        out.push('}');
        out
    }
}

fn push(out: &mut String, parts: &[&str]) {
    out.extend(parts.iter().copied());
}

/// A JSON string.
fn text(raw: &str) -> String {
    Value::from(raw).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn leaves_out_what_is_empty_and_escapes_urls() {
        assert_eq!(
            Bundle::new(BundleType::Collection).finish(),
            r#"{"resourceType":"Bundle","type":"collection"}"#
        );
        let mut bundle = Bundle::new(BundleType::Searchset).total(2).link("next", "http://h/?a=\"b\"");
        bundle.entry(None, r#"{"resourceType":"Patient","id":"a"}"#, Some(SearchMode::Match));
        bundle.entry(Some("x"), r#"{"resourceType":"Patient","id":"b"}"#, Some(SearchMode::Include));
        let parsed: Value = serde_json::from_str(&bundle.finish()).unwrap();
        assert_eq!(parsed["link"][0]["url"], "http://h/?a=\"b\"");
        assert_eq!(parsed["entry"][1]["search"]["mode"], "include");
        assert_eq!(parsed["entry"][0]["resource"]["id"], "a");
    }
}
