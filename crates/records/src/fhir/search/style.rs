//! How the pages of a search are linked: the house's way, a client's own, or what a request prefers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{PAGE_MATCHES, PAGE_MATCHES_MAX, TOTALS_MAX};

/// By what a link names its page. All of them show what matched when the walk began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// By the match before it, sealed: nothing is kept, and any page costs the same.
    #[default]
    Sealed,
    /// By how many matches are before it (`_offset`): nothing is kept, and a client may go to any page.
    Offset,
    /// By the name of a search that is kept, and how many matches are before it (`_getpages`).
    GetPages,
}

impl Style {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sealed, Self::Offset, Self::GetPages];

    /// Its name in configuration and in `Prefer`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Offset => "offset",
            Self::GetPages => "getpages",
        }
    }

    /// By its name.
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|style| style.as_str() == raw)
    }
}

/// How pages of searches are made.
#[derive(Debug, Clone)]
pub struct Paging {
    /// How they are linked.
    pub style: Style,
    /// How they are linked for some accounts and API keys, by name.
    pub of: BTreeMap<String, Style>,
    /// Matches in a page where the client does not say.
    pub matches: u32,
    /// Matches in a page at most, itself at most [`PAGE_MATCHES_MAX`].
    pub matches_max: u32,
    /// Matches that are counted where nobody asks for an exact number, at most [`TOTALS_BOUND`]; beyond it none is told.
    ///
    /// [`TOTALS_BOUND`]: crate::limits::TOTALS_BOUND
    pub totals_max: u64,
}

impl Default for Paging {
    fn default() -> Self {
        Self {
            style: Style::default(),
            of: BTreeMap::new(),
            matches: PAGE_MATCHES,
            matches_max: PAGE_MATCHES_MAX,
            totals_max: TOTALS_MAX,
        }
    }
}

impl Paging {
    /// How pages are linked for somebody who does not say.
    pub fn style_of(&self, principal: &str) -> Style {
        self.of.get(principal).copied().unwrap_or(self.style)
    }
}
