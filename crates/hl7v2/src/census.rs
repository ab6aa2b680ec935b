//! The nine values that a census row needs, read in two passes: what `hilum bench parse` measures.

use std::borrow::Cow;

use crate::message::{Message, Slot};

/// The nine values of a census row; `None` where the message has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CensusFields<'m> {
    /// PID-3.1 of the first repetition.
    pub patient_identifier: Option<Cow<'m, str>>,
    /// PID-5.1 of the first repetition.
    pub family_name: Option<Cow<'m, str>>,
    /// PID-7.
    pub birth_date: Option<Cow<'m, str>>,
    /// PID-8.
    pub sex: Option<Cow<'m, str>>,
    /// PV1-2.
    pub class: Option<Cow<'m, str>>,
    /// PV1-3.1: the unit.
    pub unit: Option<Cow<'m, str>>,
    /// PV1-7.2, else PV1-7.1: the attending doctor.
    pub attending: Option<Cow<'m, str>>,
    /// PV1-19.1.
    pub visit_number: Option<Cow<'m, str>>,
    /// PV1-44.
    pub admitted: Option<Cow<'m, str>>,
}

/// Reads them from the first PID and the first PV1.
pub fn census_fields(message: &Message) -> CensusFields<'_> {
    let mut found = CensusFields::default();
    if let Some(pid) = message.segment("PID") {
        let [identifier, name, birth, sex] = pid.pick([3, 5, 7, 8]);
        found.patient_identifier = identifier.value();
        found.family_name = name.value();
        found.birth_date = birth.value();
        found.sex = sex.value();
    }
    if let Some(pv1) = message.segment("PV1") {
        let [class, place, attending, visit, admitted] = pv1.pick([2, 3, 7, 19, 44]);
        found.class = class.value();
        found.unit = place.value();
        found.attending = doctor(attending);
        found.visit_number = visit.value();
        found.admitted = admitted.value();
    }
    found
}

fn doctor(slot: Slot<'_>) -> Option<Cow<'_, str>> {
    slot.component(2).value().or_else(|| slot.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CharsetSettings;

    #[test]
    fn nine_values() {
        let raw = "MSH|^~\\&|A|B|C|D|1||ADT^A01|1|P|2.5\rPID|1||7^^^X~8||김&x^철수||19800101|M\r\
                   PV1|1|I|W1^101^A||||D7^Lee\\T\\Co^Ann||||||||||||V1|||||||||||||||||||||||||20260714\r";
        let message = Message::parse(raw.into(), &CharsetSettings::default()).expect("parses");
        let found = census_fields(&message);
        let values = [
            &found.patient_identifier,
            &found.family_name,
            &found.birth_date,
            &found.sex,
            &found.class,
            &found.unit,
            &found.attending,
            &found.visit_number,
            &found.admitted,
        ];
        let values: Vec<&str> = values.into_iter().flatten().map(Cow::as_ref).collect();
        assert_eq!(values, ["7", "김", "19800101", "M", "I", "W1", "Lee&Co", "V1", "20260714"]);
        let bare = Message::parse("MSH|^~\\&|A\r".into(), &CharsetSettings::default()).expect("parses");
        assert_eq!(census_fields(&bare), CensusFields::default());
    }
}
