//! What belongs to a person: allergies and next of kin, from the fold's groups.

use hilum_core::Id;

use super::{AllergyLine, KinLine};
use crate::content::{Allergy, Coded, NextOfKin};
use crate::map::ids;
use crate::map::summary::{NameDisplay, shown_name};
use crate::state::Item;
use crate::view::journey::Sight;

/// Whether an allergy's code says that there is none.
pub(super) fn says_none(code: &Coded) -> bool {
    let words = code.words().trim().to_uppercase();
    matches!(
        words.as_str(),
        "NKA"
            | "NKDA"
            | "NONE"
            | "NO KNOWN ALLERGIES"
            | "NO KNOWN ALLERGY"
            | "NO KNOWN DRUG ALLERGIES"
            | "없음"
    ) || matches!(code.code.as_str(), "716186003" | "409137002" | "NKA" | "NKDA")
}

pub(super) fn words(coded: &Coded) -> Option<String> {
    Some(coded.words().to_owned()).filter(|words| !words.is_empty())
}

impl AllergyLine {
    pub(super) fn of(item: &Item<Allergy>, patient: Id, sight: Sight<'_>) -> Self {
        let allergy = &item.content;
        let what = words(&allergy.code).unwrap_or_default();
        let severity =
            if allergy.reaction_severity.is_empty() { &allergy.severity } else { &allergy.reaction_severity };
        Self {
            id: ids::allergy_intolerance(sight.key, item.origin, item.key),
            code: Some(allergy.code.code.clone()).filter(|code| !code.is_empty() && *code != what),
            what,
            kind: Some(allergy.kind.code.clone()).filter(|code| !code.is_empty()),
            severity: Some(severity.code.clone()).filter(|code| !code.is_empty()),
            reactions: allergy.reactions.iter().filter_map(words).collect(),
            standing: item.standing,
            origin: Some(item.origin).filter(|origin| *origin != patient),
            source: item.source.clone(),
            message: Some(item.message),
        }
    }
}

impl KinLine {
    pub(super) fn of(item: &Item<NextOfKin>, patient: Id, sight: Sight<'_>) -> Self {
        let kin = &item.content;
        let name = shown_name(&kin.names).map(|name| NameDisplay(name).to_string());
        let organization = Some(kin.organization.clone());
        Self {
            id: ids::related_person(sight.key, item.origin, item.key),
            name: name.or(organization).filter(|name| !name.is_empty()),
            relationship: words(&kin.relationship).or_else(|| words(&kin.role)),
            telecoms: kin.telecoms.iter().map(|telecom| telecom.value.clone()).collect(),
            standing: item.standing,
            origin: Some(item.origin).filter(|origin| *origin != patient),
            message: item.message,
        }
    }
}
