//! What is named by a canonical address (<https://hl7.org/fhir/R4/references.html#canonical>).

use std::fmt;

use hilum_fhir::json::Json;

/// What a canonical address names: a resource by its `url`, and by its `version` where it says one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Canonical {
    pub(super) url: String,
    pub(super) version: Option<String>,
}

impl Canonical {
    /// Absent for what is within the resource itself.
    pub(super) fn parse(raw: &str) -> Option<Self> {
        let whole = raw.split_once('#').map_or(raw, |(whole, _)| whole);
        let (url, version) =
            whole.rsplit_once('|').map_or((whole, None), |(url, version)| (url, Some(version)));
        let version = version.filter(|version| !version.is_empty()).map(str::to_owned);
        (!url.is_empty()).then(|| Self { url: url.to_owned(), version })
    }

    /// What a resource is called, where it is.
    pub(super) fn of(resource: &Json<'_>) -> Option<Self> {
        let text = |name| resource.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        Some(Self { url: text("url")?.to_owned(), version: text("version").map(str::to_owned) })
    }

    /// The same whatever the version.
    pub(super) fn of_any_version(&self) -> Self {
        Self { url: self.url.clone(), version: None }
    }
}

impl fmt::Display for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        self.version.iter().try_for_each(|version| write!(f, "|{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_url_and_maybe_a_version() {
        for (raw, want) in [
            ("http://f/c", Some("http://f/c")),
            ("http://f/c|1", Some("http://f/c|1")),
            ("http://f/c|1#part", Some("http://f/c|1")),
            ("http://f/c#part", Some("http://f/c")),
            ("http://f/c|", Some("http://f/c")),
            ("http://f/a|b|2", Some("http://f/a|b|2")),
            ("#contained", None),
            ("", None),
        ] {
            assert_eq!(Canonical::parse(raw).map(|name| name.to_string()).as_deref(), want, "{raw}");
        }
    }
}
