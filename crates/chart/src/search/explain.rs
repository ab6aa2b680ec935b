//! A plan in words: what drives, what is asked of each resource that it gives, and how few those are thought to be.

use super::rows::rank;

/// What a criterion is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// An index leads to what it holds of.
    Drives,
    /// It is asked of each resource that what drives gives.
    Verifies,
    /// Whom nobody may find, and what who asks may not know, is asked of each.
    Guards,
    /// It makes the order.
    Orders,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub does: Does,
    /// By which criterion: names of parameters, never values. Empty: all of the type.
    pub criterion: String,
    /// How few resources it is thought to be of, from 0 (one) to 9 (all of a type).
    pub rank: u8,
}

impl Does {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drives => "drives",
            Self::Verifies => "verifies",
            Self::Guards => "guards",
            Self::Orders => "orders",
        }
    }
}

impl Step {
    /// The rank in words.
    pub const fn rank_said(&self) -> &'static str {
        match self.rank {
            rank::ID => "by id",
            rank::IDENTIFIER => "by an identifier, or by several values together",
            rank::REFERENCE => "by a reference or an address",
            3 => "through a reference, from what an id or identifier names",
            rank::NARROW => "by the beginning of a text, or a day",
            rank::CODE => "by a code, or through a reference",
            rank::WIDE => "by a range",
            7 | 8 => "through references, from a wide range",
            _ => "all of the type",
        }
    }
}
