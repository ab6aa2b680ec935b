//! Who and which visit a message speaks of (clinical-rules 14, 15, 17): ids that are a function of what they name.

use hilum_core::{Id, InstallationKey};

use crate::content::{Block, Identifier, Said};
use crate::settings::SourceSettings;
use crate::state::{VisitField, VisitNumber};

/// The id of a patient number: of its head row and of the Patient resource that it makes.
pub fn number_id(key: &InstallationKey, authority: &str, value: &str) -> Id {
    key.id("Patient", &[authority.as_bytes(), value.as_bytes()])
}

/// The id of the provisional patient of a visit whose messages name no primary identifier.
pub fn provisional_id(key: &InstallationKey, visit: Id) -> Id {
    key.id("Patient provisional", &[visit.as_bytes()])
}

/// The id of an encounter with a number.
pub fn encounter_id(key: &InstallationKey, authority: &str, value: &str) -> Id {
    key.id("Encounter", &[authority.as_bytes(), value.as_bytes()])
}

/// What gathers the facts of a number's visits that carry no visit number.
pub fn inferred_visit_id(key: &InstallationKey, number: Id) -> Id {
    key.id("Visit inferred", &[number.as_bytes()])
}

/// The id of one of those visits: patient, and the class and begin that its first message says.
pub fn inferred_encounter_id(key: &InstallationKey, patient: Id, class: &str, begin: &str) -> Id {
    key.id("Encounter inferred", &[patient.as_bytes(), class.as_bytes(), begin.as_bytes()])
}

/// The id of a message: the same for each copy of the same bytes from one source. MSH-3, MSH-4 and MSH-10 are part of
/// the bytes.
pub fn message_id(key: &InstallationKey, source: &str, digest: &[u8; 32]) -> Id {
    key.id("Message", &[source.as_bytes(), digest])
}

/// Whether a value stands for "none": it would make all who carry it one patient, or one visit.
pub fn is_placeholder(value: &str, settings: &SourceSettings) -> bool {
    let value = value.trim();
    let says_none = |none: &String| {
        none.trim().chars().flat_map(char::to_lowercase).eq(value.chars().flat_map(char::to_lowercase))
    };
    value.chars().all(|one| one == '0' || !one.is_alphanumeric())
        || settings.placeholder_values.iter().any(says_none)
}

/// An identifier that is a head: it names a patient, or could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// See [`number_id`].
    pub id: Id,
    /// As it was sent.
    pub identifier: Identifier,
}

impl Number {
    /// The number that `identifier` is.
    pub fn of(key: &InstallationKey, identifier: &Identifier) -> Self {
        Self { id: number_id(key, &identifier.authority, &identifier.value), identifier: identifier.clone() }
    }
}

/// The visit number of a block by the ladder of rule 17, and the further ones, in its order.
pub fn visit_numbers(block: &Block, settings: &SourceSettings) -> Vec<VisitNumber> {
    let Some(visit) = &block.visit else { return Vec::new() };
    let mut ladder =
        vec![(VisitField::Visit, &visit.number), (VisitField::Alternate, &visit.alternate_number)];
    if settings.account_is_visit {
        ladder.push((VisitField::Account, &visit.account));
    }
    ladder.into_iter().filter_map(|(field, said)| visit_number(field, said)).collect()
}

fn visit_number(field: VisitField, said: &Said<Identifier>) -> Option<VisitNumber> {
    let identifier = said.value().filter(|identifier| !identifier.value.is_empty())?;
    Some(VisitNumber { authority: identifier.authority.clone(), value: identifier.value.clone(), field })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let settings = SourceSettings {
            placeholder_values: vec!["n/a".into(), "TEMP".into()],
            ..SourceSettings::default()
        };
        let cases = [
            ("zero", "0", true),
            ("zeros", "0000000", true),
            ("a dash", "-", true),
            ("punctuation", "--/..", true),
            ("zeros and punctuation", "000-00", true),
            ("a word of the source, in any case", "N/A", true),
            ("another one, with blanks", " temp ", true),
            ("a number", "10", false),
            ("leading zeros", "00012", false),
            ("one digit", "1", false),
            ("letters", "V1", false),
            ("Hangul", "가", false),
        ];
        for (why, value, want) in cases {
            assert_eq!(is_placeholder(value, &settings), want, "{why}");
        }
    }
}
