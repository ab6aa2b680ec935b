//! Components as values: a room fills one in and puts it into its template as `{{ banner }}`; it renders escaped.
//! The rest of the dozen are classes of `hilum.css`; `/gallery` shows them all.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::words::Words;

/// How a tag or notice sounds. Colour is never its only cue: each has its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A fact.
    Neutral,
    /// Worth knowing.
    Info,
    /// As it should be.
    Ok,
    /// To be looked at.
    Warn,
    /// Somebody must act now: the only red.
    Act,
}

impl Tone {
    /// Its class.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Neutral => "neutral",
            Self::Info => "info",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Act => "act",
        }
    }
}

/// A word in a frame.
#[derive(Debug, Clone, Template)]
#[template(source = r#"<span class="tag tag-{{ tone.as_str() }}">{{ text }}</span>"#, ext = "html")]
pub struct Tag {
    /// How it sounds.
    pub tone: Tone,
    /// What it says.
    pub text: String,
}

impl Tag {
    /// A tag.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

/// What is known of allergies: nothing recorded is not the same as not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allergies {
    /// These.
    Listed(Vec<String>),
    /// Somebody recorded that there are none.
    None,
    /// Nothing was said.
    NotKnown,
}

/// The banner of every page about one patient (NHS Common User Interface): it never scrolls away.
#[derive(Debug, Clone, Template)]
#[template(path = "ui/banner.html")]
pub struct PatientBanner {
    /// Words.
    pub w: Words,
    /// The name as it is said first: `FAMILY, Given`, or 홍길동.
    pub name: String,
    /// The name in another script (Latin beside Hangul).
    pub name_beside: Option<String>,
    /// Formatted date of birth; `None` = not known.
    pub born: Option<String>,
    /// Age with its unit (`47 y`), at death where there is one.
    pub age: Option<String>,
    /// The word for the sex.
    pub sex: String,
    /// Identifiers as (authority, value), the primary one first. Never cut.
    pub identifiers: Vec<(String, String)>,
    /// Where the patient is now.
    pub location: Option<String>,
    /// Allergies.
    pub allergies: Allergies,
    /// Formatted time of death, or the word for *deceased* without a time; `None` = not known to be dead.
    pub deceased: Option<String>,
    /// The record that replaced this one: path and name.
    pub merged_into: Option<(String, String)>,
    /// Marks (not applied messages, identity undecided, confidential).
    pub marks: Vec<Tag>,
}

/// The states of a data surface that is not simply full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// Nothing there, and why.
    Empty,
    /// Some of it is missing.
    Partial,
    /// It failed; nothing was lost.
    Error,
    /// It is older than it should be.
    Stale,
    /// It worked.
    Done,
}

impl NoticeKind {
    /// Its class.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Partial => "partial",
            Self::Error => "error",
            Self::Stale => "stale",
            Self::Done => "done",
        }
    }

    /// Whether a screen reader should say it at once.
    const fn role(self) -> &'static str {
        match self {
            Self::Error => "alert",
            Self::Empty | Self::Partial | Self::Stale | Self::Done => "status",
        }
    }
}

/// Says why a surface is empty, partial, stale or failed, and what to do.
#[derive(Debug, Clone, Template)]
#[template(path = "ui/notice.html")]
pub struct Notice {
    /// Which state.
    pub kind: NoticeKind,
    /// What is the case.
    pub title: String,
    /// Why, and what that means.
    pub text: String,
    /// What to do: path and words.
    pub action: Option<(String, String)>,
}

impl Notice {
    /// A notice without an action.
    pub fn new(kind: NoticeKind, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, title: title.into(), text: text.into(), action: None }
    }

    /// With something to do.
    #[must_use]
    pub fn action(mut self, path: impl Into<String>, words: impl Into<String>) -> Self {
        self.action = Some((path.into(), words.into()));
        self
    }
}

/// One line of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffLine {
    /// On both sides.
    Same(String),
    /// On the left only.
    Removed(String),
    /// On the right only.
    Added(String),
}

impl DiffLine {
    const fn class(&self) -> &'static str {
        match self {
            Self::Same(_) => "same",
            Self::Removed(_) => "removed",
            Self::Added(_) => "added",
        }
    }

    const fn sign(&self) -> &'static str {
        match self {
            Self::Same(_) => " ",
            Self::Removed(_) => "−",
            Self::Added(_) => "+",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Same(text) | Self::Removed(text) | Self::Added(text) => text,
        }
    }
}

/// Two texts, line by line.
#[derive(Debug, Clone, Template)]
#[template(path = "ui/diff.html")]
pub struct Diff {
    /// The lines.
    pub lines: Vec<DiffLine>,
}

impl Diff {
    /// The shortest way from `before` to `after` in whole lines. Longer texts than 2,000 lines are shown as replaced.
    pub fn of(before: &[&str], after: &[&str]) -> Self {
        let (n, m) = (before.len(), after.len());
        if n > 2_000 || m > 2_000 {
            let removed = before.iter().map(|line| DiffLine::Removed((*line).to_owned()));
            let added = after.iter().map(|line| DiffLine::Added((*line).to_owned()));
            return Self { lines: removed.chain(added).collect() };
        }
        // common[i][j] = longest common subsequence of before[i..] and after[j..].
        let mut common = vec![vec![0_u16; m + 1]; n + 1];
        for i in (0..n).rev() {
            for j in (0..m).rev() {
                common[i][j] = if before[i] == after[j] {
                    common[i + 1][j + 1] + 1
                } else {
                    common[i + 1][j].max(common[i][j + 1])
                };
            }
        }
        let (mut i, mut j, mut lines) = (0, 0, Vec::with_capacity(n.max(m)));
        while i < n || j < m {
            if i < n && j < m && before[i] == after[j] {
                lines.push(DiffLine::Same(before[i].to_owned()));
                (i, j) = (i + 1, j + 1);
            } else if i < n && (j == m || common[i + 1][j] >= common[i][j + 1]) {
                lines.push(DiffLine::Removed(before[i].to_owned()));
                i += 1;
            } else {
                lines.push(DiffLine::Added(after[j].to_owned()));
                j += 1;
            }
        }
        Self { lines }
    }
}

/// A small line chart of equally spaced values, oldest first, with its scale beside it.
#[derive(Debug, Clone, Template)]
#[template(path = "ui/spark.html")]
pub struct Spark {
    /// What it shows, with its unit, for those who do not see it.
    pub label: String,
    /// The largest value with its unit, shown at the top.
    pub top: String,
    points: String,
    area: String,
}

impl Spark {
    /// A chart 160 × 36.
    pub fn new(label: impl Into<String>, top: impl Into<String>, values: &[f64]) -> Self {
        let max = values.iter().copied().fold(0.0_f64, f64::max).max(f64::MIN_POSITIVE);
        let step = if values.len() > 1 { 160.0 / (values.len() - 1) as f64 } else { 0.0 };
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(i, value)| format!("{:.1},{:.1}", i as f64 * step, 34.0 - 32.0 * value.max(0.0) / max))
            .collect();
        let points = points.join(" ");
        let area = format!("0,36 {points} 160,36");
        Self { label: label.into(), top: top.into(), points, area }
    }
}

impl HtmlSafe for Tag {}
impl HtmlSafe for PatientBanner {}
impl HtmlSafe for Notice {}
impl HtmlSafe for Diff {}
impl HtmlSafe for Spark {}
