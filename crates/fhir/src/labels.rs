//! Profiles, security labels and tags, added and taken away one by one
//! (<https://hl7.org/fhir/R4/resource-operation-meta-add.html>).

use crate::json::Json;
use crate::resource::{ResourceError, with_whole_meta};

/// What happens to labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// They come to those that are there, each once.
    Added,
    /// They go, where they are there.
    Removed,
}

/// The members of `meta` that are lists of labels.
const LISTS: [&str; 3] = ["profile", "security", "tag"];

impl Labels {
    /// `body` with the labels of `meta` added or taken away; all of it but `meta` keeps its bytes, and nothing moves where
    /// nothing changes. A profile is told by its address, a label by system and code.
    ///
    /// ```
    /// use hilum_fhir::labels::Labels;
    /// let body = r#"{"resourceType":"Patient","id":"p","x":1.50}"#;
    /// let tagged = Labels::Added.of(body, r#"{"tag":[{"code":"t"}]}"#).unwrap();
    /// assert_eq!(tagged, r#"{"resourceType":"Patient","id":"p","meta":{"tag":[{"code":"t"}]},"x":1.50}"#);
    /// assert_eq!(Labels::Removed.of(&tagged, r#"{"tag":[{"code":"t"}]}"#).unwrap(), body);
    /// ```
    ///
    /// # Errors
    /// [`ResourceError::Meta`] where one of them is no JSON.
    pub fn of(self, body: &str, meta: &str) -> Result<String, ResourceError> {
        let read = |raw| Json::parse(raw).map_err(|_| ResourceError::Meta);
        let (resource, changes) = (read(body.as_bytes())?, read(meta.as_bytes())?);
        let mut members = resource.get("meta").map(|meta| meta.members().to_vec()).unwrap_or_default();
        let before = members.clone();
        for list in LISTS {
            let asked = changes.get(list).map_or(&[][..], Json::elements);
            let at = members.iter().position(|(name, _)| name == list);
            let standing = at.and_then(|at| members.get(at)).map_or(&[][..], |(_, all)| all.elements());
            let mut all = standing.to_vec();
            for label in asked {
                let is_there = all.iter().any(|one| is_same(one, label));
                match self {
                    Self::Added if !is_there => all.push(label.clone()),
                    Self::Removed => all.retain(|one| !is_same(one, label)),
                    Self::Added => {}
                }
            }
            match (at.and_then(|at| members.get_mut(at)), all.is_empty()) {
                (Some((_, standing)), _) => *standing = Json::Array(all),
                (None, false) => members.push((list.into(), Json::Array(all))),
                (None, true) => {}
            }
        }
        members.retain(|(_, value)| *value != Json::Array(Vec::new()));
        if members == before {
            return Ok(body.to_owned());
        }
        let meta = (!members.is_empty()).then(|| Json::Object(members).to_text());
        with_whole_meta(body, meta.as_deref())
    }
}

fn is_same(one: &Json<'_>, other: &Json<'_>) -> bool {
    match (one, other) {
        (Json::Object(_), Json::Object(_)) => {
            one.get("system") == other.get("system") && one.get("code") == other.get("code")
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_come_once_and_go_by_system_and_code() {
        let body = r#"{"resourceType":"P","id":"a","meta":{"source":"s","tag":[{"system":"x","code":"t","display":"T"}]},"d":1.10}"#;
        let whole = |meta: &str| format!(r#"{{"resourceType":"P","id":"a","meta":{meta},"d":1.10}}"#);
        let tag = r#"{"system":"x","code":"t","display":"T"}"#;
        let cases = [
            ("there already", Labels::Added, r#"{"tag":[{"system":"x","code":"t"}]}"#, body.to_owned()),
            (
                "of another system",
                Labels::Added,
                r#"{"tag":[{"system":"y","code":"t"}]}"#,
                whole(&format!(r#"{{"source":"s","tag":[{tag},{{"system":"y","code":"t"}}]}}"#)),
            ),
            (
                "a profile and a label",
                Labels::Added,
                r#"{"profile":["p","p"],"security":[{"code":"R"}],"source":"other"}"#,
                whole(&format!(
                    r#"{{"source":"s","tag":[{tag}],"profile":["p"],"security":[{{"code":"R"}}]}}"#
                )),
            ),
            (
                "gone",
                Labels::Removed,
                r#"{"tag":[{"system":"x","code":"t"}],"profile":["p"]}"#,
                whole(r#"{"source":"s"}"#),
            ),
            ("not there", Labels::Removed, r#"{"tag":[{"code":"t"}]}"#, body.to_owned()),
        ];
        for (why, labels, meta, want) in cases {
            assert_eq!(labels.of(body, meta).unwrap(), want, "{why}");
        }
    }
}
