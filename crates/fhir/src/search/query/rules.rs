//! The one table of what a search parameter of a type may carry: refusals, CapabilityStatement and documentation are made
//! from it.

use crate::path::Path;
use crate::r4::{Parameter, ParameterType, r4};
use crate::search::values::texts;

/// What stands behind the colon of a parameter's name (<https://hl7.org/fhir/R4/search.html#modifiers>). `:[type]` of a
/// reference is no modifier here: it is part of the value, or of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modifier {
    /// Whether there is any value.
    Missing,
    /// Letter by letter.
    Exact,
    /// Anywhere within the text.
    Contains,
    /// Of several values none.
    Not,
    /// Text of a code, in place of the code.
    Text,
    /// A code of a value set.
    In,
    /// No code of a value set.
    NotIn,
    /// A code or address above this one.
    Above,
    /// A code or address below this one.
    Below,
    /// An identifier by the code of its type.
    OfType,
    /// A reference by identifier.
    Identifier,
}

impl Modifier {
    /// All modifiers of R4.
    pub const ALL: [Self; 11] = [
        Self::Missing,
        Self::Exact,
        Self::Contains,
        Self::Not,
        Self::Text,
        Self::In,
        Self::NotIn,
        Self::Above,
        Self::Below,
        Self::OfType,
        Self::Identifier,
    ];

    /// As it is written, without the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Exact => "exact",
            Self::Contains => "contains",
            Self::Not => "not",
            Self::Text => "text",
            Self::In => "in",
            Self::NotIn => "not-in",
            Self::Above => "above",
            Self::Below => "below",
            Self::OfType => "of-type",
            Self::Identifier => "identifier",
        }
    }

    /// By its name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|modifier| modifier.as_str() == raw)
    }
}

/// How a value is compared (<https://hl7.org/fhir/R4/search.html#prefix>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// The range of the value holds the stored one; what is meant where nothing is said.
    Equal,
    /// It does not.
    NotEqual,
    /// Something is greater.
    Greater,
    /// Something is less.
    Less,
    /// Greater or equal.
    GreaterOrEqual,
    /// Less or equal.
    LessOrEqual,
    /// All of it is after.
    StartsAfter,
    /// All of it is before.
    EndsBefore,
    /// About the same: within a tenth.
    About,
}

impl Prefix {
    /// All prefixes of R4.
    pub const ALL: [Self; 9] = [
        Self::Equal,
        Self::NotEqual,
        Self::Greater,
        Self::Less,
        Self::GreaterOrEqual,
        Self::LessOrEqual,
        Self::StartsAfter,
        Self::EndsBefore,
        Self::About,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "eq",
            Self::NotEqual => "ne",
            Self::Greater => "gt",
            Self::Less => "lt",
            Self::GreaterOrEqual => "ge",
            Self::LessOrEqual => "le",
            Self::StartsAfter => "sa",
            Self::EndsBefore => "eb",
            Self::About => "ap",
        }
    }

    /// What stands before a value, and the value.
    pub fn split(raw: &str) -> (Self, &str) {
        let found =
            Self::ALL.into_iter().find_map(|prefix| Some((prefix, raw.strip_prefix(prefix.as_str())?)));
        found.unwrap_or((Self::Equal, raw))
    }
}

/// What holds of all parameters of a type.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The type.
    pub ty: ParameterType,
    /// Its name.
    pub name: &'static str,
    /// Whether it is answered at all.
    pub is_answered: bool,
    /// The modifiers that are answered.
    pub modifiers: &'static [Modifier],
    /// Whether values have prefixes.
    pub has_prefixes: bool,
    /// Whether an answer may be sorted by it.
    pub sorts: bool,
    /// How a value is written, for whoever wrote it otherwise.
    pub wants: &'static str,
}

const fn rule(ty: ParameterType, name: &'static str, wants: &'static str) -> Rule {
    let modifiers = &[Modifier::Missing];
    Rule { ty, name, is_answered: true, modifiers, has_prefixes: false, sorts: true, wants }
}

/// The table, one line a type.
pub const RULES: [Rule; 9] = [
    Rule { has_prefixes: true, ..rule(ParameterType::Number, "number", "a number like 100 or le0.5") },
    Rule {
        has_prefixes: true,
        ..rule(
            ParameterType::Date,
            "date",
            "a date like 2024, 2024-02-29, ge2024-02-29T10:00:00Z or 2024-02-29T10:00+09:00",
        )
    },
    Rule {
        modifiers: &[Modifier::Missing, Modifier::Exact, Modifier::Contains],
        ..rule(ParameterType::String, "string", "a text")
    },
    Rule {
        modifiers: &[
            Modifier::Missing,
            Modifier::Not,
            Modifier::Text,
            Modifier::OfType,
            Modifier::In,
            Modifier::NotIn,
            Modifier::Above,
            Modifier::Below,
        ],
        ..rule(ParameterType::Token, "token", "code, system|code, |code or system|")
    },
    Rule {
        modifiers: &[Modifier::Missing, Modifier::Identifier],
        sorts: false,
        ..rule(
            ParameterType::Reference,
            "reference",
            "an id, Type/id or an address; with :identifier system|value",
        )
    },
    Rule {
        sorts: false,
        ..rule(ParameterType::Composite, "composite", "a value of each part, with $ between them")
    },
    Rule {
        has_prefixes: true,
        ..rule(
            ParameterType::Quantity,
            "quantity",
            "a number like le5.4, 5.4|http://unitsofmeasure.org|mg or 5.4||mg",
        )
    },
    Rule {
        modifiers: &[Modifier::Missing, Modifier::Above, Modifier::Below],
        ..rule(ParameterType::Uri, "uri", "an address")
    },
    Rule {
        is_answered: false,
        modifiers: &[],
        sorts: false,
        ..rule(ParameterType::Special, "special", "a value")
    },
];

impl Rule {
    /// The line of a type.
    pub fn of(ty: ParameterType) -> &'static Self {
        RULES.iter().find(|rule| rule.ty == ty).expect("the table has a line for every type")
    }

    /// Whether a parameter is answered: its type is, and some element holds its values.
    pub fn answers(parameter: &Parameter) -> bool {
        Self::of(parameter.ty).is_answered && !parameter.expression.is_empty()
    }

    /// Whether a parameter of a type takes a modifier: types of identifiers are asked of identifiers alone, value sets of what
    /// has a system, texts of what is called something.
    pub fn takes(resource_type: &str, parameter: &Parameter, modifier: Modifier) -> bool {
        let is_listed = Self::of(parameter.ty).modifiers.contains(&modifier);
        let needs_system = matches!(
            modifier,
            Modifier::In | Modifier::NotIn | Modifier::Above | Modifier::Below | Modifier::OfType
        );
        let is_row = parameter.code == "_id" && parameter.ty == ParameterType::Token;
        let is_called = modifier != Modifier::Text || !texts(resource_type, parameter.code).is_empty();
        let is_typed = modifier != Modifier::OfType || has_identifiers(resource_type, parameter);
        is_listed && !(needs_system && is_row) && is_called && is_typed
    }

    /// The modifiers that a parameter of a type takes, as they are written, for a text.
    pub fn modifiers_of(resource_type: &str, parameter: &Parameter) -> String {
        let listed = Self::of(parameter.ty).modifiers.iter();
        let taken = listed.filter(|modifier| Self::takes(resource_type, parameter, **modifier));
        said(taken)
    }

    /// The modifiers as they are written, for a text.
    pub fn modifiers_said(&self) -> String {
        said(self.modifiers.iter())
    }

    /// What the CapabilityStatement says of a parameter of this type.
    pub fn documentation(&self) -> String {
        let mut said = format!("Modifiers: {}", self.modifiers_said());
        if self.ty == ParameterType::Reference {
            said.push_str(", :[type]; chains, also reversed (_has)");
        }
        if self.has_prefixes {
            let all: Vec<&str> = Prefix::ALL.iter().map(|prefix| prefix.as_str()).collect();
            said.push_str("; prefixes: ");
            said.push_str(&all.join(", "));
        }
        said.push_str(if self.sorts { "; sorts." } else { "." });
        said
    }
}

fn said<'m>(modifiers: impl Iterator<Item = &'m Modifier>) -> String {
    let all: Vec<String> = modifiers.map(|one| format!(":{}", one.as_str())).collect();
    all.join(", ")
}

/// Whether any element of a parameter is an identifier.
fn has_identifiers(resource_type: &str, parameter: &Parameter) -> bool {
    let path = r4().shape(resource_type).zip(Path::of(parameter, resource_type).ok());
    path.is_some_and(|(shape, path)| path.types(r4(), shape).contains(&"Identifier"))
}
