//! What is named by a canonical address (<https://hl7.org/fhir/R4/references.html#canonical>).

use hilum_fhir::json::Json;

/// What a canonical address names: a resource by its `url`, and by its `version` where it says one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Canonical {
    pub(super) url: String,
    version: Option<String>,
}

impl Canonical {
    /// Absent for what is within the resource itself.
    pub(super) fn parse(raw: &str) -> Option<Self> {
        let whole = raw.split_once('#').map_or(raw, |(whole, _)| whole);
        let (url, version) =
            whole.split_once('|').map_or((whole, None), |(url, version)| (url, Some(version)));
        let version = version.filter(|version| !version.is_empty()).map(str::to_owned);
        (!url.is_empty()).then(|| Self { url: url.to_owned(), version })
    }

    /// What a resource is called, where it is.
    pub(super) fn of(resource: &Json<'_>) -> Option<Self> {
        let text = |name| resource.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        Some(Self { url: text("url")?.to_owned(), version: text("version").map(str::to_owned) })
    }

    /// Whether it means one that is called so: one without a version means each.
    pub(super) fn means(&self, called: &Self) -> bool {
        self.url == called.url && (self.version.is_none() || self.version == called.version)
    }
}
