//! What is odd about a message that is nevertheless taken.

use std::fmt;

use crate::path::Path;

macro_rules! flaws {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal;)*) => {
        /// One way in which a message may be odd. Closed; the names go to the journey of a message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Flaw { $($(#[$doc])* $name,)* }

        impl Flaw {
            /// All flaws.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The flaw's name, as stored.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What it means, in English, without patient data.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

flaws! {
    /// Bytes that the charset does not have: shown as U+FFFD.
    CharsetUndecodable = "charset-undecodable", "bytes that the charset does not have";
    /// The sender itself sent U+FFFD: something was lost before us.
    ReplacementSent = "replacement-sent", "the sender had lost a character already (U+FFFD)";
    /// MSH-18 says one charset, the bytes are another.
    CharsetDiffers = "charset-differs", "the bytes are not in the charset that MSH-18 names";
    /// The bytes fit the charset that was taken, and another one as well or better: UTF-8, or Korean.
    CharsetDoubtful = "charset-doubtful", "the bytes fit the charset that was taken, and another as well: see charset_fallback";
    /// MSH-18 names no charset that we know.
    CharsetUnknown = "charset-unknown", "MSH-18 names an unknown charset";
    /// MSH-18 names a charset that we do not read, and nothing beyond ASCII came that would need it: the first letter
    /// that does is set aside.
    CharsetUnsupported = "charset-unsupported", "MSH-18 names a charset that is not read: only ASCII came, so nothing is lost yet";
    /// An escape sequence that the standard does not have: kept as it stands.
    EscapeUnknown = "escape-unknown", "unknown escape sequence, kept as it stands";
    /// An escape character without its partner: kept as it stands.
    EscapeOpen = "escape-open", "an escape sequence that does not end, kept as it stands";
    /// `\X..\` without an even number of hexadecimal digits, or with bytes that the charset does not have: kept as
    /// it stands.
    EscapeHex = "escape-hex", "an \\X escape that is no text, kept as it stands";
    /// `\C..\` or `\M..\`, a change of charset inside a value: kept as it stands.
    EscapeCharset = "escape-charset", "a charset escape, kept as it stands";
    /// `\Z..\`, agreed on locally: kept as it stands.
    EscapeLocal = "escape-local", "a local escape sequence, kept as it stands";
    /// A line that does not begin with a segment name.
    SegmentName = "segment-name", "a line that does not begin with a segment name";
    /// EVN-1 is not MSH-9.2, which decides.
    EventDiffers = "event-differs", "EVN-1 differs from MSH-9.2, which decides";
    /// MSH-9.2 is empty, EVN-1 was taken.
    EventFromEvn = "event-from-evn", "MSH-9.2 is empty, EVN-1 was taken";
    /// A local time that the change to summer time skips: the offset before it was taken.
    TimeGap = "time-gap", "a local time that daylight saving skips: the earlier offset was taken";
    /// A local time that occurs twice: the offset before the change was taken.
    TimeOverlap = "time-overlap", "a local time that occurs twice: the earlier offset was taken";
    /// No date, or one that does not exist.
    TimeInvalid = "time-invalid", "not a date or time of HL7";
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of [`Flaw`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flaws(u32);

impl Flaws {
    /// No flaw.
    pub const NONE: Self = Self(0);

    /// Adds `flaw`.
    pub const fn insert(&mut self, flaw: Flaw) {
        self.0 |= 1 << flaw as u32;
    }

    /// Adds all of `other`.
    pub const fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether `flaw` is in it.
    pub const fn contains(self, flaw: Flaw) -> bool {
        self.0 & (1 << flaw as u32) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flaws, in order of declaration.
    pub fn iter(self) -> impl Iterator<Item = Flaw> {
        Flaw::ALL.iter().copied().filter(move |flaw| self.contains(*flaw))
    }
}

/// A flaw and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// What is odd.
    pub flaw: Flaw,
    /// Where; absent = the message as a whole.
    pub path: Option<Path>,
}

impl Finding {
    /// A finding at `path`.
    pub const fn at(flaw: Flaw, path: Path) -> Self {
        Self { flaw, path: Some(path) }
    }

    /// A finding about the whole message.
    pub const fn whole(flaw: Flaw) -> Self {
        Self { flaw, path: None }
    }
}
