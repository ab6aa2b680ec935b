//! Which code means which: HL7's v2-to-FHIR concept maps (CC0), and what they lack. A code that no row maps keeps its
//! v2 coding, `http://terminology.hl7.org/CodeSystem/v2-NNNN`, and is counted.

use std::borrow::Cow;
use std::fmt::Write as _;

/// An HL7 table: its codes in FHIR's terms.
#[derive(Debug)]
pub struct Table {
    /// Its number in HL7 v2, four digits.
    pub number: &'static str,
    /// Its code system in FHIR.
    pub system: &'static str,
    /// Code, target system, target code, display.
    pub rows: &'static [(&'static str, &'static str, &'static str, &'static str)],
    /// Codes of the standard that FHIR uses as they are.
    pub kept: &'static [&'static str],
}

impl Table {
    /// What FHIR says for `code`: system, code, display.
    pub fn target(&self, code: &str) -> Option<(&'static str, &'static str, &'static str)> {
        self.rows.iter().find(|row| row.0 == code).map(|row| (row.1, row.2, row.3))
    }

    /// Whether `code` is one that FHIR has no word for.
    pub fn is_unmapped(&self, code: &str) -> bool {
        let is_open = self.rows.is_empty() && self.kept.is_empty();
        !is_open && self.target(code).is_none() && !self.kept.contains(&code)
    }
}

/// A table whose codes each hospital makes: nothing to map, nothing to count.
macro_rules! open_table {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Table = Table {
            number: $number,
            system: concat!("http://terminology.hl7.org/CodeSystem/v2-", $number),
            rows: &[],
            kept: &[],
        };)*
    };
}

open_table! {
    /// Diagnosis codes: the field names the system.
    DIAGNOSIS_CODE = "0051";
    /// Patient type.
    PATIENT_TYPE = "0018";
    /// Admit source.
    ADMIT_SOURCE = "0023";
    /// Hospital service.
    HOSPITAL_SERVICE = "0069";
    /// VIP indicator.
    VIP = "0099";
    /// Discharge disposition.
    DISCHARGE_DISPOSITION = "0112";
    /// Discharged to location.
    DISCHARGED_TO = "0113";
    /// Diet type.
    DIET = "0114";
    /// Citizenship.
    CITIZENSHIP = "0171";
    /// Nationality.
    NATIONALITY = "0212";
    /// Primary language, where no tag is known for it.
    LANGUAGE = "0296";
    /// Identifier type: `NNxxx` and local types stand as sent.
    IDENTIFIER_TYPE = "0203";
    /// Access restriction value.
    ACCESS_RESTRICTION = "0717";
}

/// A field whose codes are of no table of HL7 (PV2-3, AL1-3): the field itself names the system, or nobody does.
pub const NO_TABLE: Table = Table { number: "", system: "", rows: &[], kept: &[] };

/// FHIR's v3 code systems.
pub const V3_ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// Act priority.
pub const V3_ACT_PRIORITY: &str = "http://terminology.hl7.org/CodeSystem/v3-ActPriority";
/// Confidentiality.
pub const V3_CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
/// Marital status.
pub const V3_MARITAL_STATUS: &str = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus";
/// Null flavor.
pub const V3_NULL_FLAVOR: &str = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor";
/// Participation type.
pub const V3_PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
/// Religious affiliation.
pub const V3_RELIGION: &str = "http://terminology.hl7.org/CodeSystem/v3-ReligiousAffiliation";
/// Role code.
pub const V3_ROLE: &str = "http://terminology.hl7.org/CodeSystem/v3-RoleCode";
/// Contact role.
pub const V2_CONTACT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/v2-0131";
/// Diagnosis role.
pub const DIAGNOSIS_ROLE: &str = "http://terminology.hl7.org/CodeSystem/diagnosis-role";
/// Special arrangements.
pub const SPECIAL_ARRANGEMENTS: &str = "http://terminology.hl7.org/CodeSystem/encounter-special-arrangements";
/// Clinical status of an allergy.
pub const ALLERGY_CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical";
/// Verification status of an allergy.
pub const ALLERGY_VERIFICATION: &str =
    "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification";
/// Clinical status of a condition.
pub const CONDITION_CLINICAL: &str = "http://terminology.hl7.org/CodeSystem/condition-clinical";
/// Verification status of a condition.
pub const CONDITION_VERIFICATION: &str = "http://terminology.hl7.org/CodeSystem/condition-ver-status";
/// Category of a condition.
pub const CONDITION_CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/condition-category";
/// Physical type of a location.
pub const LOCATION_TYPE: &str = "http://terminology.hl7.org/CodeSystem/location-physical-type";
/// Language tags.
pub const BCP_47: &str = "urn:ietf:bcp:47";

/// Administrative sex, to FHIR's `administrative-gender`.
pub const SEX: Table = Table {
    number: "0001",
    system: "http://terminology.hl7.org/CodeSystem/v2-0001",
    rows: &[
        ("F", GENDER, "female", "Female"),
        ("M", GENDER, "male", "Male"),
        ("O", GENDER, "other", "Other"),
        ("U", GENDER, "unknown", "Unknown"),
        ("A", GENDER, "other", "Other"),
        ("N", GENDER, "other", "Other"),
    ],
    kept: &[],
};
const GENDER: &str = "http://hl7.org/fhir/administrative-gender";

/// Patient class.
pub const PATIENT_CLASS: Table = Table {
    number: "0004",
    system: "http://terminology.hl7.org/CodeSystem/v2-0004",
    rows: &[
        ("E", V3_ACT_CODE, "EMER", "emergency"),
        ("I", V3_ACT_CODE, "IMP", "inpatient encounter"),
        ("O", V3_ACT_CODE, "AMB", "ambulatory"),
        ("P", V3_ACT_CODE, "PRENC", "pre-admission"),
    ],
    kept: &["R", "B", "C", "N", "U"],
};

/// Admission type.
pub const ADMISSION_TYPE: Table = Table {
    number: "0007",
    system: "http://terminology.hl7.org/CodeSystem/v2-0007",
    rows: &[],
    kept: &["A", "E", "L", "R", "N", "U", "C"],
};

/// Ambulatory status.
pub const AMBULATORY_STATUS: Table = Table {
    number: "0009",
    system: "http://terminology.hl7.org/CodeSystem/v2-0009",
    rows: &[("A2", SPECIAL_ARRANGEMENTS, "wheel", "Wheelchair")],
    kept: &["A0", "A1", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "B1", "B2", "B3", "B4", "B5", "B6"],
};

/// Diagnosis type.
pub const DIAGNOSIS_TYPE: Table = Table {
    number: "0052",
    system: "http://terminology.hl7.org/CodeSystem/v2-0052",
    rows: &[("A", DIAGNOSIS_ROLE, "AD", "Admission diagnosis")],
    kept: &["W", "F"],
};

/// Re-admission indicator.
pub const READMISSION: Table = Table {
    number: "0092",
    system: "http://terminology.hl7.org/CodeSystem/v2-0092",
    rows: &[],
    kept: &["R"],
};

/// Contact role.
pub const CONTACT_ROLE: Table = Table {
    number: "0131",
    system: V2_CONTACT_ROLE,
    rows: &[],
    kept: &["E", "C", "F", "I", "N", "S", "O", "U"],
};

/// Mode of arrival.
pub const ARRIVAL_MODE: Table = Table {
    number: "0430",
    system: "http://terminology.hl7.org/CodeSystem/v2-0430",
    rows: &[],
    kept: &["A", "C", "F", "H", "O", "P", "U"],
};

/// Allergen type, to FHIR's `AllergyIntolerance.category`.
pub const ALLERGEN_TYPE: Table = Table {
    number: "0127",
    system: "http://terminology.hl7.org/CodeSystem/v2-0127",
    rows: &[
        ("DA", ALLERGY_CATEGORY, "medication", "Medication"),
        ("FA", ALLERGY_CATEGORY, "food", "Food"),
        ("EA", ALLERGY_CATEGORY, "environment", "Environment"),
        ("AA", ALLERGY_CATEGORY, "biologic", "Biologic"),
        ("PA", ALLERGY_CATEGORY, "environment", "Environment"),
        ("LA", ALLERGY_CATEGORY, "environment", "Environment"),
    ],
    kept: &["MA", "MC"],
};
const ALLERGY_CATEGORY: &str = "http://hl7.org/fhir/allergy-intolerance-category";

/// Allergy severity, to FHIR's `AllergyIntolerance.criticality`; `MO` and `U` say nothing of the risk.
pub const ALLERGY_CRITICALITY: Table = Table {
    number: "0128",
    system: "http://terminology.hl7.org/CodeSystem/v2-0128",
    rows: &[("SV", CRITICALITY, "high", "High Risk"), ("MI", CRITICALITY, "low", "Low Risk")],
    kept: &["MO", "U"],
};
const CRITICALITY: &str = "http://hl7.org/fhir/allergy-intolerance-criticality";

/// Allergy severity, to FHIR's `AllergyIntolerance.reaction.severity`.
pub const REACTION_SEVERITY: Table = Table {
    number: "0128",
    system: "http://terminology.hl7.org/CodeSystem/v2-0128",
    rows: &[
        ("SV", SEVERITY, "severe", "Severe"),
        ("MO", SEVERITY, "moderate", "Moderate"),
        ("MI", SEVERITY, "mild", "Mild"),
    ],
    kept: &["U"],
};
const SEVERITY: &str = "http://hl7.org/fhir/reaction-event-severity";

/// Allergy clinical status (it says in v2 how sure one is), to FHIR's verification status. Not in HL7's guide: from
/// the table's own texts.
pub const ALLERGY_STATUS: Table = Table {
    number: "0438",
    system: "http://terminology.hl7.org/CodeSystem/v2-0438",
    rows: &[
        ("U", ALLERGY_VERIFICATION, "unconfirmed", "Unconfirmed"),
        ("P", ALLERGY_VERIFICATION, "unconfirmed", "Unconfirmed"),
        ("S", ALLERGY_VERIFICATION, "unconfirmed", "Unconfirmed"),
        ("D", ALLERGY_VERIFICATION, "unconfirmed", "Unconfirmed"),
        ("C", ALLERGY_VERIFICATION, "confirmed", "Confirmed"),
        ("I", ALLERGY_VERIFICATION, "confirmed", "Confirmed"),
        ("E", ALLERGY_VERIFICATION, "entered-in-error", "Entered in Error"),
    ],
    kept: &[],
};

/// Name type, to FHIR's `name-use`.
pub const NAME_TYPE: Table = Table {
    number: "0200",
    system: "http://terminology.hl7.org/CodeSystem/v2-0200",
    rows: &[
        ("BAD", NAME_USE, "old", "Old"),
        ("D", NAME_USE, "usual", "Usual"),
        ("L", NAME_USE, "official", "Official"),
        ("M", NAME_USE, "maiden", "Name changed for Marriage"),
        ("MSK", NAME_USE, "anonymous", "Anonymous"),
        ("N", NAME_USE, "nickname", "Nickname"),
        ("NAV", NAME_USE, "temp", "Temp"),
        ("R", NAME_USE, "official", "Official"),
        ("TEMP", NAME_USE, "temp", "Temp"),
    ],
    kept: &["U"],
};
const NAME_USE: &str = "http://hl7.org/fhir/name-use";

/// Address type, to FHIR's `address-use`.
pub const ADDRESS_TYPE: Table = Table {
    number: "0190",
    system: "http://terminology.hl7.org/CodeSystem/v2-0190",
    rows: &[
        ("BA", ADDRESS_USE, "old", "Old / Incorrect"),
        ("BI", ADDRESS_USE, "billing", "Billing"),
        ("C", ADDRESS_USE, "temp", "Temporary"),
        ("B", ADDRESS_USE, "work", "Work"),
        ("H", ADDRESS_USE, "home", "Home"),
        ("O", ADDRESS_USE, "work", "Work"),
    ],
    // Mailing and shipping go to `Address.type`.
    kept: &["M", "SH"],
};
const ADDRESS_USE: &str = "http://hl7.org/fhir/address-use";

/// Telecommunication use, to FHIR's `contact-point-use`; `NET` and `BPN` say the system.
pub const TELECOM_USE: Table = Table {
    number: "0201",
    system: "http://terminology.hl7.org/CodeSystem/v2-0201",
    rows: &[
        ("PRN", CONTACT_USE, "home", "Home"),
        ("WPN", CONTACT_USE, "work", "Work"),
        ("PRS", CONTACT_USE, "mobile", "Mobile"),
    ],
    kept: &["NET", "BPN"],
};
const CONTACT_USE: &str = "http://hl7.org/fhir/contact-point-use";

/// Telecommunication equipment, to FHIR's `contact-point-system`; `CP` also says `use` mobile.
pub const TELECOM_EQUIPMENT: Table = Table {
    number: "0202",
    system: "http://terminology.hl7.org/CodeSystem/v2-0202",
    rows: &[
        ("PH", CONTACT_SYSTEM, "phone", "Phone"),
        ("CP", CONTACT_SYSTEM, "phone", "Phone"),
        ("FX", CONTACT_SYSTEM, "fax", "Fax"),
        ("BP", CONTACT_SYSTEM, "pager", "Pager"),
        ("Internet", CONTACT_SYSTEM, "email", "Email"),
        ("X.400", CONTACT_SYSTEM, "email", "Email"),
        ("MD", CONTACT_SYSTEM, "other", "Other"),
        ("SAT", CONTACT_SYSTEM, "other", "Other"),
        ("TDD", CONTACT_SYSTEM, "other", "Other"),
        ("TTY", CONTACT_SYSTEM, "other", "Other"),
    ],
    kept: &[],
};
const CONTACT_SYSTEM: &str = "http://hl7.org/fhir/contact-point-system";

/// Marital status.
pub const MARITAL_STATUS: Table = Table {
    number: "0002",
    system: "http://terminology.hl7.org/CodeSystem/v2-0002",
    rows: &[
        ("A", V3_MARITAL_STATUS, "L", "Legally Separated"),
        ("D", V3_MARITAL_STATUS, "D", "Divorced"),
        ("M", V3_MARITAL_STATUS, "M", "Married"),
        ("S", V3_MARITAL_STATUS, "S", "Never Married"),
        ("W", V3_MARITAL_STATUS, "W", "Widowed"),
        ("C", V3_MARITAL_STATUS, "C", "Common Law"),
        ("G", V3_MARITAL_STATUS, "T", "Domestic partner"),
        ("P", V3_MARITAL_STATUS, "T", "Domestic partner"),
        ("R", V3_MARITAL_STATUS, "T", "Domestic partner"),
        ("E", V3_MARITAL_STATUS, "L", "Legally Separated"),
        ("N", V3_MARITAL_STATUS, "A", "Annulled"),
        ("I", V3_MARITAL_STATUS, "I", "Interlocutory"),
        ("B", V3_MARITAL_STATUS, "U", "unmarried"),
        ("U", V3_NULL_FLAVOR, "UNK", "Unknown"),
        ("O", V3_NULL_FLAVOR, "OTH", "Other"),
        ("T", V3_NULL_FLAVOR, "NAVU", "Not available"),
    ],
    kept: &[],
};

/// Religion.
pub const RELIGION: Table = Table {
    number: "0006",
    system: "http://terminology.hl7.org/CodeSystem/v2-0006",
    rows: &[
        ("A", V3_RELIGION, "1007", "Atheism"),
        ("B", V3_RELIGION, "1009", "Baptist"),
        ("E", V3_RELIGION, "1069", "Episcopalian"),
        ("J", V3_RELIGION, "1026", "Judaism"),
        ("L", V3_RELIGION, "1028", "Lutheran"),
        ("M", V3_RELIGION, "1027", "Latter Day Saints"),
        ("N", V3_RELIGION, "1020", "Hinduism"),
        ("P", V3_RELIGION, "1077", "Protestant"),
        ("AGN", V3_RELIGION, "1004", "Agnosticism"),
        ("ATH", V3_RELIGION, "1007", "Atheism"),
        ("BAH", V3_RELIGION, "1008", "Babi & Baha'I faiths"),
        ("BRE", V3_RELIGION, "1062", "Brethren"),
        ("BMA", V3_RELIGION, "1029", "Mahayana"),
        ("BTH", V3_RELIGION, "1051", "Theravada"),
        ("CHR", V3_RELIGION, "1013", "Christian (non-Catholic, non-specific)"),
        ("ANG", V3_RELIGION, "1005", "Anglican"),
        ("AOG", V3_RELIGION, "1061", "Assembly of God"),
        ("BAP", V3_RELIGION, "1009", "Baptist"),
        ("CRR", V3_RELIGION, "1079", "Reformed"),
        ("CHS", V3_RELIGION, "1063", "Christian Scientist"),
        ("COC", V3_RELIGION, "1064", "Church of Christ"),
        ("COG", V3_RELIGION, "1065", "Church of God"),
        ("COL", V3_RELIGION, "1066", "Congregational"),
        ("EOT", V3_RELIGION, "1068", "Eastern Orthodox"),
        ("EPI", V3_RELIGION, "1069", "Episcopalian"),
        ("FRQ", V3_RELIGION, "1071", "Friends"),
        ("FUL", V3_RELIGION, "1072", "Full Gospel"),
        ("JWN", V3_RELIGION, "1025", "Jehovah's Witnesses"),
        ("MOM", V3_RELIGION, "1027", "Latter Day Saints"),
        ("LUT", V3_RELIGION, "1028", "Lutheran"),
        ("MET", V3_RELIGION, "1073", "Methodist"),
        ("NAZ", V3_RELIGION, "1075", "Nazarene"),
        ("ORT", V3_RELIGION, "1036", "Orthodox"),
        ("PEN", V3_RELIGION, "1038", "Pentecostal"),
        ("PRE", V3_RELIGION, "1076", "Presbyterian"),
        ("PRO", V3_RELIGION, "1077", "Protestant"),
        ("PRC", V3_RELIGION, "1078", "Protestant, No Denomination"),
        ("QUA", V3_RELIGION, "1071", "Friends"),
        ("REC", V3_RELIGION, "1079", "Reformed"),
        ("CAT", V3_RELIGION, "1041", "Roman Catholic Church"),
        ("SAA", V3_RELIGION, "1080", "Salvation Army"),
        ("SEV", V3_RELIGION, "1001", "Adventist"),
        ("UCC", V3_RELIGION, "1082", "United Church of Christ"),
        ("UNI", V3_RELIGION, "1052", "Unitarian-Universalism"),
        ("UNU", V3_RELIGION, "1081", "Unitarian Universalist"),
        ("CNF", V3_RELIGION, "1014", "Confucianism"),
        ("DOC", V3_RELIGION, "1067", "Disciples of Christ"),
        ("HSH", V3_RELIGION, "1020", "Hinduism"),
        ("HVA", V3_RELIGION, "1020", "Hinduism"),
        ("HOT", V3_RELIGION, "1020", "Hinduism"),
        ("JAI", V3_RELIGION, "1024", "Jainism"),
        ("MOS", V3_RELIGION, "1023", "Islam"),
        ("MSH", V3_RELIGION, "1045", "Shiite (Islam)"),
        ("MSU", V3_RELIGION, "1049", "Sunni (Islam)"),
        ("NAM", V3_RELIGION, "1074", "Native American"),
        ("SHN", V3_RELIGION, "1046", "Shinto"),
        ("SIK", V3_RELIGION, "1047", "Sikism"),
        ("SPI", V3_RELIGION, "1048", "Spiritualism"),
    ],
    kept: &[],
};

/// Relationship.
pub const RELATIONSHIP: Table = Table {
    number: "0063",
    system: "http://terminology.hl7.org/CodeSystem/v2-0063",
    rows: &[
        ("SEL", V3_ROLE, "ONESELF", "self"),
        ("SPO", V3_ROLE, "SPS", "spouse"),
        ("DOM", V3_ROLE, "SIGOTHR", "significant other"),
        ("CHD", V3_ROLE, "CHILD", "child"),
        ("GCH", V3_ROLE, "GRNDCHILD", "grandchild"),
        ("NCH", V3_ROLE, "NCHILD", "natural child"),
        ("SCH", V3_ROLE, "STPCHLD", "step child"),
        ("FCH", V3_ROLE, "CHLDFOST", "foster child"),
        ("PAR", V3_ROLE, "PRN", "parent"),
        ("MTH", V3_ROLE, "MTH", "mother"),
        ("FTH", V3_ROLE, "FTH", "father"),
        ("GRP", V3_ROLE, "GRPRN", "grandparent"),
        ("EXF", V3_ROLE, "EXT", "extended family member"),
        ("SIB", V3_ROLE, "SIB", "sibling"),
        ("BRO", V3_ROLE, "BRO", "brother"),
        ("SIS", V3_ROLE, "SIS", "sister"),
        ("FND", V3_ROLE, "FRND", "unrelated friend"),
        ("EMR", V2_CONTACT_ROLE, "E", "Employer"),
        ("EMC", V2_CONTACT_ROLE, "C", "Emergency Contact"),
        ("UNK", V2_CONTACT_ROLE, "U", "Unknown"),
        ("OTH", V2_CONTACT_ROLE, "O", "Other"),
    ],
    kept: &["DEP", "WRD", "CGV", "GRD", "OAD", "EME", "ASC", "OWN", "TRA", "MGR", "NON"],
};

/// Visit priority.
pub const VISIT_PRIORITY: Table = Table {
    number: "0217",
    system: "http://terminology.hl7.org/CodeSystem/v2-0217",
    rows: &[
        ("1", V3_ACT_PRIORITY, "EM", "emergency"),
        ("2", V3_ACT_PRIORITY, "UR", "urgent"),
        ("3", V3_ACT_PRIORITY, "EL", "elective"),
    ],
    kept: &[],
};

/// Language codes of ISO 639-2 and 639-1 as hospitals send them, with their tag and English name.
const LANGUAGES: &[(&str, &str, &str)] = &[
    ("ara", "ar", "Arabic"),
    ("ben", "bn", "Bengali"),
    ("bur", "my", "Burmese"),
    ("chi", "zh", "Chinese"),
    ("deu", "de", "German"),
    ("dut", "nl", "Dutch"),
    ("eng", "en", "English"),
    ("fil", "fil", "Filipino"),
    ("fra", "fr", "French"),
    ("fre", "fr", "French"),
    ("ger", "de", "German"),
    ("hin", "hi", "Hindi"),
    ("ind", "id", "Indonesian"),
    ("ita", "it", "Italian"),
    ("jpn", "ja", "Japanese"),
    ("kaz", "kk", "Kazakh"),
    ("khm", "km", "Khmer"),
    ("kir", "ky", "Kyrgyz"),
    ("kor", "ko", "Korean"),
    ("kvk", "kvk", "Korean Sign Language"),
    ("lao", "lo", "Lao"),
    ("mon", "mn", "Mongolian"),
    ("mya", "my", "Burmese"),
    ("nep", "ne", "Nepali"),
    ("nld", "nl", "Dutch"),
    ("pol", "pl", "Polish"),
    ("por", "pt", "Portuguese"),
    ("rus", "ru", "Russian"),
    ("sin", "si", "Sinhala"),
    ("spa", "es", "Spanish"),
    ("swe", "sv", "Swedish"),
    ("tam", "ta", "Tamil"),
    ("tgl", "tl", "Tagalog"),
    ("tha", "th", "Thai"),
    ("tur", "tr", "Turkish"),
    ("ukr", "uk", "Ukrainian"),
    ("urd", "ur", "Urdu"),
    ("uzb", "uz", "Uzbek"),
    ("vie", "vi", "Vietnamese"),
    ("zho", "zh", "Chinese"),
];

/// The language tag (BCP 47) of `code`, which may be of ISO 639-1 or 639-2, in any case, and its English name.
pub fn language(code: &str) -> Option<(&'static str, &'static str)> {
    let is = |known: &str| known.eq_ignore_ascii_case(code);
    LANGUAGES.iter().find(|row| is(row.0) || is(row.1)).map(|row| (row.1, row.2))
}

/// Names of coding systems (table 0396 and what hospitals write) and their URIs.
const SYSTEMS: &[(&str, &str)] = &[
    ("SCT", "http://snomed.info/sct"),
    ("SNOMED", "http://snomed.info/sct"),
    ("SNOMED-CT", "http://snomed.info/sct"),
    ("SNOMEDCT", "http://snomed.info/sct"),
    ("LN", "http://loinc.org"),
    ("LOINC", "http://loinc.org"),
    ("I9", "http://hl7.org/fhir/sid/icd-9"),
    ("ICD9", "http://hl7.org/fhir/sid/icd-9"),
    ("ICD-9", "http://hl7.org/fhir/sid/icd-9"),
    ("I9C", "http://hl7.org/fhir/sid/icd-9-cm"),
    ("I9CDX", "http://hl7.org/fhir/sid/icd-9-cm"),
    ("ICD9CM", "http://hl7.org/fhir/sid/icd-9-cm"),
    ("ICD-9-CM", "http://hl7.org/fhir/sid/icd-9-cm"),
    ("I10", "http://hl7.org/fhir/sid/icd-10"),
    ("ICD10", "http://hl7.org/fhir/sid/icd-10"),
    ("ICD-10", "http://hl7.org/fhir/sid/icd-10"),
    ("I10C", "http://hl7.org/fhir/sid/icd-10-cm"),
    ("ICD10CM", "http://hl7.org/fhir/sid/icd-10-cm"),
    ("ICD-10-CM", "http://hl7.org/fhir/sid/icd-10-cm"),
    ("KCD", "http://www.hl7korea.or.kr/CodeSystem/kostat-kcd-8"),
    ("KCD8", "http://www.hl7korea.or.kr/CodeSystem/kostat-kcd-8"),
    ("KCD-8", "http://www.hl7korea.or.kr/CodeSystem/kostat-kcd-8"),
    ("ICDO", "http://terminology.hl7.org/CodeSystem/icd-o-3"),
    ("RXNORM", "http://www.nlm.nih.gov/research/umls/rxnorm"),
    ("NDC", "http://hl7.org/fhir/sid/ndc"),
    ("UNII", "http://fdasis.nlm.nih.gov"),
    ("CVX", "http://hl7.org/fhir/sid/cvx"),
    ("C4", "http://www.ama-assn.org/go/cpt"),
    ("CPT4", "http://www.ama-assn.org/go/cpt"),
    ("WC", "http://www.whocc.no/atc"),
    ("ATC", "http://www.whocc.no/atc"),
    ("ISO3166_1", "urn:iso:std:iso:3166"),
    ("ISO3166-1", "urn:iso:std:iso:3166"),
    ("ISO639", "urn:oid:2.16.840.1.113883.6.100"),
    ("ISO639-1", "urn:oid:2.16.840.1.113883.6.99"),
    ("ISO639-2", "urn:oid:2.16.840.1.113883.6.100"),
    ("NULLFL", "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"),
];

/// The URI of a coding system named `name`, and whether it is a known one. What we do not know is `urn:oid:` for an
/// OID, `urn:uuid:` for a UUID, a URI as it is, else `urn:id:` and the name.
pub fn coding_system(name: &str) -> (Cow<'static, str>, bool) {
    if let Some((_, uri)) = SYSTEMS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return (Cow::Borrowed(uri), true);
    }
    if let Some(number) = v2_table(name) {
        return (Cow::Owned(format!("http://terminology.hl7.org/CodeSystem/v2-{number}")), true);
    }
    let uri = authority_system(name);
    let is_known = !uri.starts_with("urn:id:");
    (Cow::Owned(uri), is_known)
}

/// The number of an HL7 table that a coding system's name gives: `HL70005`, `HL7 0005`, `v2-0005`.
pub fn v2_table(name: &str) -> Option<&str> {
    let number =
        name.strip_prefix("HL7").or_else(|| name.strip_prefix("v2-"))?.trim_start_matches([' ', '-']);
    (number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

/// The `Identifier.system` of an authority: the one place for this rule. An OID is `urn:oid:`, a UUID is `urn:uuid:` in
/// lower case, a URI stands as it is; any other name is `urn:id:` and the name, percent-encoded.
///
/// ```
/// use hilum_adt::map::vocabulary::authority_system;
/// assert_eq!(authority_system("1.2.410.100110"), "urn:oid:1.2.410.100110");
/// assert_eq!(authority_system("SNUH"), "urn:id:SNUH");
/// assert_eq!(authority_system("서울 병원"), "urn:id:%EC%84%9C%EC%9A%B8%20%EB%B3%91%EC%9B%90");
/// ```
pub fn authority_system(authority: &str) -> String {
    if is_oid(authority) {
        return format!("urn:oid:{authority}");
    }
    if authority.parse::<hilum_core::Id>().is_ok() && authority.len() == 36 {
        return format!("urn:uuid:{}", authority.to_ascii_lowercase());
    }
    let is_uri = ["http://", "https://", "urn:"].iter().any(|scheme| authority.starts_with(scheme));
    if is_uri && authority.bytes().all(|byte| byte.is_ascii_graphic()) {
        return authority.to_owned();
    }
    let mut uri = String::with_capacity(7 + authority.len());
    uri.push_str("urn:id:");
    for byte in authority.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("a String takes every write");
        }
    }
    uri
}

/// Whether `text` is an object identifier: arcs of digits, the first one 0, 1 or 2.
pub fn is_oid(text: &str) -> bool {
    let mut arcs = text.split('.');
    let is_first = arcs.next().is_some_and(|arc| matches!(arc, "0" | "1" | "2"));
    let mut count = 0;
    let rest = arcs.all(|arc| {
        count += 1;
        !arc.is_empty()
            && arc.bytes().all(|byte| byte.is_ascii_digit())
            && (arc.len() == 1 || !arc.starts_with('0'))
    });
    is_first && rest && count > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_follow_one_rule() {
        let cases = [
            ("OID", "2.16.840.1.113883.19", "urn:oid:2.16.840.1.113883.19"),
            ("no OID: first arc", "9.8", "urn:id:9.8"),
            ("no OID: leading zero", "1.02", "urn:id:1.02"),
            ("no OID: one arc", "2", "urn:id:2"),
            (
                "UUID in capitals",
                "426D2726-51FC-89FE-A946-8596E80A80EB",
                "urn:uuid:426d2726-51fc-89fe-a946-8596e80a80eb",
            ),
            ("a URI", "http://example.org/mrn", "http://example.org/mrn"),
            (
                "a URI with a space is a name",
                "http://example.org/m rn",
                "urn:id:http%3A%2F%2Fexample.org%2Fm%20rn",
            ),
            ("a name", "SNUH-1_x.y~z", "urn:id:SNUH-1_x.y~z"),
        ];
        for (why, authority, want) in cases {
            assert_eq!(authority_system(authority), want, "{why}");
        }
    }

    #[test]
    fn coding_systems_by_name() {
        let cases = [
            ("SNOMED CT", "SCT", "http://snomed.info/sct", true),
            ("any case", "icd-10", "http://hl7.org/fhir/sid/icd-10", true),
            ("a table of HL7", "HL70005", "http://terminology.hl7.org/CodeSystem/v2-0005", true),
            ("KCD 8", "KCD8", "http://www.hl7korea.or.kr/CodeSystem/kostat-kcd-8", true),
            ("KCD 7 is another edition: not guessed", "KCD7", "urn:id:KCD7", false),
            ("an OID", "1.2.840.113619", "urn:oid:1.2.840.113619", true),
            ("a local one", "99HOSP", "urn:id:99HOSP", false),
        ];
        for (why, name, want, known) in cases {
            assert_eq!(coding_system(name), (Cow::Borrowed(want), known), "{why}");
        }
    }

    #[test]
    fn language_tags() {
        let cases =
            [("kor", Some("ko")), ("KO", Some("ko")), ("en", Some("en")), ("klingon", None), ("", None)];
        for (code, want) in cases {
            assert_eq!(language(code).map(|(tag, _)| tag), want, "{code}");
        }
    }

    #[test]
    fn a_code_of_an_open_table_is_never_unmapped() {
        assert!(!HOSPITAL_SERVICE.is_unmapped("XYZ"));
        assert!(SEX.is_unmapped("X"));
        assert!(!PATIENT_CLASS.is_unmapped("R"));
    }
}
