//! The form of an answer: laid out or not, whole or in part (`_format`, `_pretty`, `_summary`, `_elements`).

use axum::http::HeaderMap;
use hilum_fhir::subset::{Subset, SubsetError};

use super::answer::Trouble;
use super::ask;

/// Parameters of an address or a form, in their order.
pub(super) type Pairs = Vec<(String, String)>;

/// Reads them.
pub(super) fn pairs_of(raw: &[u8]) -> Pairs {
    form_urlencoded::parse(raw).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// What an answer looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// A line for each member and element.
    pub(super) is_pretty: bool,
    /// The part of each resource; absent: all of it, byte for byte.
    pub(super) subset: Option<Subset>,
}

impl Form {
    /// Of an address that says nothing else, about resources of this type, or of any.
    pub(super) fn of(
        query: Option<&str>,
        headers: &HeaderMap,
        resource_type: Option<&str>,
    ) -> Result<Self, Trouble> {
        let mut pairs = pairs_of(query.unwrap_or_default().as_bytes());
        let form = Self::take(&mut pairs, headers, resource_type)?;
        if pairs.iter().any(|(name, value)| name == "_summary" && value == "count") {
            return Err(SubsetError::Count.into());
        }
        if pairs.iter().any(|(_, value)| !value.is_empty()) {
            return Err(Trouble::Parameter { known: "_format, _pretty, _summary, _elements".to_owned() });
        }
        Ok(form)
    }

    /// Takes out of an address what is said of the form. That a search only counts is not said of the form.
    pub(super) fn take(
        pairs: &mut Pairs,
        headers: &HeaderMap,
        resource_type: Option<&str>,
    ) -> Result<Self, Trouble> {
        let mut take = |wanted: &str| -> Result<Option<String>, Trouble> {
            let is_form = |(name, value): &mut (String, String)| {
                name == wanted && !(name == "_summary" && value == "count")
            };
            let mut found = None;
            for (_, value) in pairs.extract_if(.., is_form).filter(|(_, value)| !value.is_empty()) {
                if found.replace(value).is_some() {
                    return Err(Trouble::Parameter { known: wanted.to_owned() });
                }
            }
            Ok(found)
        };
        let (format, pretty) = (take("_format")?, take("_pretty")?);
        let (summary, elements) = (take("_summary")?, take("_elements")?);
        ask::takes_json(headers, format.as_deref())?;
        let subset = Subset::parse(summary.as_deref(), elements.as_deref(), resource_type)?;
        Ok(Self { is_pretty: ask::is_pretty(pretty.as_deref())?, subset })
    }

    /// What the link of a page keeps of it.
    pub(super) fn kept(&self) -> Pairs {
        let subset = self.subset.iter().map(Subset::pair);
        let pretty = self.is_pretty.then(|| ("_pretty", "true".to_owned()));
        subset.chain(pretty).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The same form again, of a page whose link kept it.
    pub(super) fn again(self, kept: &Pairs) -> Self {
        let value = |wanted: &str| kept.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
        let subset = Subset::parse(value("_summary"), value("_elements"), None);
        let is_pretty = self.is_pretty || value("_pretty").is_some();
        Self { is_pretty, subset: subset.unwrap_or_default().or(self.subset) }
    }

    /// The part of a resource that is shown.
    pub(super) fn part(&self, body: String) -> Result<String, Trouble> {
        match &self.subset {
            None => Ok(body),
            Some(subset) => Ok(subset.of(&body)?),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_form_stays_and_a_page_has_the_form_of_the_first() {
        let headers = HeaderMap::new();
        let mut pairs = pairs_of(b"name=kim&_elements=name&_pretty=true&_format=json&_summary=");
        let form = Form::take(&mut pairs, &headers, Some("Patient")).unwrap();
        assert_eq!(pairs, [("name".to_owned(), "kim".to_owned())]);
        assert!(form.is_pretty);
        let page = Form::default().again(&form.kept());
        assert_eq!(page, form);

        let mut counts = pairs_of(b"_summary=count");
        assert_eq!(Form::take(&mut counts, &headers, None).unwrap(), Form::default());
        assert_eq!(counts.len(), 1);
        for refused in ["_summary=count", "name=kim", "_elements=nmae", "_summary=true&_summary=text"] {
            assert!(Form::of(Some(refused), &headers, Some("Patient")).is_err(), "{refused}");
        }
        assert_eq!(Form::of(Some("name=&_pretty="), &headers, None).unwrap(), Form::default());
    }
}
