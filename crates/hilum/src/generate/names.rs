//! Names, units and diagnoses of the simulated hospital. Nobody here exists.

/// A Korean family name with its Latin and Han form.
pub const FAMILIES: &[(&str, &str)] = &[
    ("김", "KIM"),
    ("이", "LEE"),
    ("박", "PARK"),
    ("최", "CHOI"),
    ("정", "JUNG"),
    ("강", "KANG"),
    ("조", "CHO"),
    ("윤", "YOON"),
    ("장", "JANG"),
    ("임", "LIM"),
    ("한", "HAN"),
    ("오", "OH"),
    ("서", "SEO"),
    ("신", "SHIN"),
    ("권", "KWON"),
    ("황", "HWANG"),
    ("남궁", "NAMGUNG"),
    ("황보", "HWANGBO"),
    ("제갈", "JEGAL"),
    ("선우", "SUNWOO"),
];

/// A Korean given name with its Latin form, first the usual for men, then for women.
pub const GIVEN: [&[(&str, &str)]; 2] = [
    &[
        ("민수", "Minsu"),
        ("영호", "Yeongho"),
        ("서준", "Seojun"),
        ("도윤", "Doyun"),
        ("지훈", "Jihun"),
        ("현우", "Hyeonu"),
        ("준", "Jun"),
        ("태양", "Taeyang"),
    ],
    &[
        ("서연", "Seoyeon"),
        ("지우", "Jiu"),
        ("하은", "Haeun"),
        ("수빈", "Subin"),
        ("영희", "Yeonghui"),
        ("순자", "Sunja"),
        ("뷁", "Bwelk"),
        ("별", "Byeol"),
    ],
];

/// Latin family names.
pub const LATIN_FAMILIES: &[&str] = &[
    "Okonkwo",
    "Müller",
    "García",
    "O'Brien",
    "van der Berg",
    "Nguyen",
    "Kowalska",
    "Smith",
    "Ivanova",
    "Silva",
    "Haddad",
    "Johansson",
    "Featherstonehaugh-Cholmondeley",
    "Dubois",
    "Rossi",
    "Yamamoto",
];

/// Latin given names, men's and women's.
pub const LATIN_GIVEN: [&[&str]; 2] = [
    &["James", "Ahmed", "Lukas", "Diego", "Björn", "Chidi", "Paul", "Kenji"],
    &["Maria", "Anna", "Aisha", "Zoë", "Chloé", "Grace", "Ingrid", "Ama"],
];

/// One unit: code, name, beds per room, rooms, class of who lies there.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// PV1-3.1.
    pub code: &'static str,
    /// Number of rooms.
    pub rooms: usize,
    /// Beds in a room.
    pub beds: usize,
    /// PV1-10.
    pub service: &'static str,
}

/// The wards.
pub const WARDS: &[Unit] = &[
    Unit { code: "3W", rooms: 10, beds: 4, service: "MED" },
    Unit { code: "4E", rooms: 8, beds: 4, service: "SUR" },
    Unit { code: "5N", rooms: 8, beds: 2, service: "CAR" },
    Unit { code: "ICU", rooms: 12, beds: 1, service: "MED" },
    Unit { code: "OBG", rooms: 6, beds: 2, service: "OBS" },
];

/// The emergency department.
pub const EMERGENCY: Unit = Unit { code: "ED", rooms: 1, beds: 20, service: "EMR" };

/// The outpatient clinic.
pub const CLINIC: Unit = Unit { code: "OPD", rooms: 6, beds: 0, service: "MED" };

/// Attending doctors: id, family, given.
pub const DOCTORS: &[(&str, &str, &str)] = &[
    ("D1001", "이", "은주"),
    ("D1002", "Brandt", "Ulrike"),
    ("D1003", "박", "성훈"),
    ("D1004", "Mensah", "Kofi"),
    ("D1005", "최", "유진"),
    ("D1006", "Larsen", "Nils"),
    ("D1007", "한", "지민"),
    ("D1008", "Costa", "Inês"),
];

/// Diagnoses: ICD-10 code and text.
pub const DIAGNOSES: &[(&str, &str)] = &[
    ("I21.9", "Acute myocardial infarction, unspecified"),
    ("J18.9", "Pneumonia, unspecified organism"),
    ("K35.8", "Acute appendicitis"),
    ("S72.0", "Fracture of neck of femur"),
    ("N39.0", "Urinary tract infection"),
    ("O80", "Single spontaneous delivery"),
    ("I63.9", "Cerebral infarction, unspecified"),
    ("R07.4", "Chest pain, unspecified"),
    ("A41.9", "Sepsis, unspecified organism"),
    ("E11.9", "Type 2 diabetes mellitus without complications"),
];

/// Allergies: type (table 0127), code, text, severity (table 0128), reaction.
pub const ALLERGIES: &[(&str, &str, &str, &str, &str)] = &[
    ("DA", "7980", "Penicillin", "SV", "Anaphylaxis"),
    ("DA", "1191", "Aspirin", "MO", "Urticaria"),
    ("FA", "256349002", "Peanut", "SV", "Anaphylaxis"),
    ("EA", "111088007", "Latex", "MI", "Rash"),
    ("DA", "2670", "Codeine", "MO", "Nausea"),
    ("LA", "256277009", "Grass pollen", "MI", "Rhinitis"),
];
