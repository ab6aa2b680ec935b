//! What the encounter is: PV1 and PV2.

use super::datatypes::{Coded, DischargeTo, Identifier, Place, Provider};
use super::said::{Said, words};
use super::time::When;

words! {
    /// Where and as what the patient is: the fields of PV1 and PV2 that follow the clock of movements (EVN-6).
    pub struct Movement {
        /// PV1-2 (table 0004).
        class: Coded = "c",
        /// PV1-3.
        place: Place = "p",
        /// PV1-6.
        prior_place: Place = "pp",
        /// PV1-11: where the patient is for a while; the bed stays.
        temporary: Place = "t",
        /// PV1-42.
        pending: Place = "n",
        /// PV1-43.
        prior_temporary: Place = "pt",
        /// PV2-1.
        prior_pending: Place = "pn",
        /// PV1-40 (table 0116).
        bed_status: Coded = "bs",
        /// PV1-44.
        admitted: When = "a",
        /// PV1-45, the last repetition.
        discharged: When = "d",
        /// PV1-36.
        disposition: Coded = "dd",
        /// PV1-37.
        discharged_to: DischargeTo = "dt",
        /// PV2-47: expected return from a leave of absence.
        expected_return: When = "er",
    }
}

words! {
    /// What else PV1 and PV2 say of the encounter: the fields that follow the clock of content (EVN-2).
    pub struct VisitContent {
        /// PV1-19.
        number: Identifier = "n",
        /// PV1-50.
        alternate_number: Identifier = "an",
        /// PID-18.
        account: Identifier = "ac",
        /// PV1-5.
        preadmit_number: Identifier = "pn",
        /// PV1-4 (table 0007).
        admission_type: Coded = "at",
        /// PV1-7.
        attending: Vec<Provider> = "pa",
        /// PV1-8.
        referring: Vec<Provider> = "pr",
        /// PV1-9.
        consulting: Vec<Provider> = "pc",
        /// PV1-17.
        admitting: Vec<Provider> = "pd",
        /// PV1-52.
        other_providers: Vec<Provider> = "po",
        /// PV2-13.
        referral_source: Vec<Provider> = "ps",
        /// PV1-10 (table 0069).
        service: Coded = "s",
        /// PV1-13 (table 0092).
        readmission: Coded = "ra",
        /// PV1-14 (table 0023).
        admit_source: Coded = "as",
        /// PV1-15 (table 0009).
        ambulatory: Vec<Coded> = "am",
        /// PV1-16 (table 0099).
        vip: Coded = "v",
        /// PV1-18 (table 0018).
        patient_type: Coded = "pt",
        /// PV1-38 (table 0114).
        diet: Coded = "d",
        /// PV1-39.
        servicing_facility: Coded = "sf",
        /// PV2-3.
        reason: Coded = "r",
        /// PV2-4.
        transfer_reason: Coded = "tr",
        /// PV2-8.
        expected_admit: When = "ea",
        /// PV2-9.
        expected_discharge: When = "ed",
        /// PV2-12.
        description: String = "ds",
        /// PV2-22: the visit is protected.
        protected: bool = "p",
        /// PV2-25 (table 0217).
        priority: Coded = "y",
        /// PV2-36.
        newborn: bool = "nb",
        /// PV2-38 (table 0430).
        arrival_mode: Coded = "ma",
        /// ARV-3 of restrictions on the visit that stand.
        restrictions: Vec<Coded> = "x",
    }
}

impl VisitContent {
    /// Whether what is known of the visit asks for confidentiality (clinical-rules 20): a VIP indicator other than no,
    /// PV2-22, or an access restriction.
    pub fn is_confidential(&self) -> bool {
        let vip =
            self.vip.value().is_some_and(|vip| !matches!(vip.code.as_str(), "" | "N" | "NO" | "0" | "F"));
        vip || self.protected.value() == Some(&true) || !self.restrictions.items().is_empty()
    }

    /// What [`VisitContent::is_confidential`] asks about.
    #[must_use]
    pub fn protection(&self) -> Self {
        let (vip, protected, restrictions) =
            (self.vip.clone(), self.protected.clone(), self.restrictions.clone());
        Self { vip, protected, restrictions, ..Self::default() }
    }
}
