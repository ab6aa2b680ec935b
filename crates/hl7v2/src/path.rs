//! Where in a message: `PID-5.1`, `PID-3[2].4.1`, `OBX[3]-5`.

use std::fmt;
use std::str::FromStr;

/// A place in a message: segment and its occurrence, field, repetition, component, subcomponent.
///
/// Numbers are HL7's, from 1. What a path does not say is 0: no component means the whole repetition, no
/// repetition means the first one (or the whole field, where nothing finer is asked), no field means the segment.
///
/// ```
/// use hilum_hl7v2::Path;
/// const NAME: Path = Path::of("PID-5.1");
/// assert_eq!(NAME.to_string(), "PID-5.1");
/// let path = Path::parse("OBX[3]-5[2].4.1")?;
/// assert_eq!((path.occurrence(), path.field(), path.repetition()), (3, 5, 2));
/// assert!(Path::parse("PID-").is_err());
/// # Ok::<(), hilum_hl7v2::PathError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    segment: [u8; 3],
    occurrence: u32,
    field: u16,
    repetition: u16,
    component: u16,
    subcomponent: u16,
}

/// Why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a path at byte {at}: write it like PID-3[2].4.1 or OBX[3]-5")]
pub struct PathError {
    /// The byte where it stops being one.
    pub at: usize,
}

const fn number(raw: &[u8], from: usize, max: u32) -> Result<(u32, usize), PathError> {
    let mut at = from;
    let mut value: u32 = 0;
    while at < raw.len() && raw[at].is_ascii_digit() {
        value = value * 10 + (raw[at] - b'0') as u32;
        if value > max {
            return Err(PathError { at });
        }
        at += 1;
    }
    if at == from || value == 0 { Err(PathError { at: from }) } else { Ok((value, at)) }
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// [`PathError`] with the place where it stops being one.
    pub const fn parse(raw: &str) -> Result<Self, PathError> {
        let raw = raw.as_bytes();
        let mut at = 0;
        while at < 3 {
            if at >= raw.len() || !(raw[at].is_ascii_uppercase() || at > 0 && raw[at].is_ascii_digit()) {
                return Err(PathError { at });
            }
            at += 1;
        }
        let mut path = Self::segment_only([raw[0], raw[1], raw[2]]);
        if at < raw.len() && raw[at] == b'[' {
            match bracketed(raw, at, u32::MAX / 16) {
                Ok((n, next)) => (path.occurrence, at) = (n, next),
                Err(error) => return Err(error),
            }
        }
        if at == raw.len() {
            return Ok(path);
        }
        if raw[at] != b'-' {
            return Err(PathError { at });
        }
        match number(raw, at + 1, 9_999) {
            Ok((n, next)) => (path.field, at) = (n as u16, next),
            Err(error) => return Err(error),
        }
        if at < raw.len() && raw[at] == b'[' {
            match bracketed(raw, at, u16::MAX as u32) {
                Ok((n, next)) => (path.repetition, at) = (n as u16, next),
                Err(error) => return Err(error),
            }
        }
        if at < raw.len() && raw[at] == b'.' {
            match number(raw, at + 1, 9_999) {
                Ok((n, next)) => (path.component, at) = (n as u16, next),
                Err(error) => return Err(error),
            }
            if at < raw.len() && raw[at] == b'.' {
                match number(raw, at + 1, 9_999) {
                    Ok((n, next)) => (path.subcomponent, at) = (n as u16, next),
                    Err(error) => return Err(error),
                }
            }
        }
        if at == raw.len() { Ok(path) } else { Err(PathError { at }) }
    }

    /// A path written in the source: for `const` items, where a wrong one does not compile.
    ///
    /// # Panics
    /// When `raw` is no path.
    #[must_use]
    pub const fn of(raw: &'static str) -> Self {
        match Self::parse(raw) {
            Ok(path) => path,
            Err(_) => panic!("not a path: write it like PID-3[2].4.1 or OBX[3]-5"),
        }
    }

    /// The first segment of this name.
    pub const fn segment_only(segment: [u8; 3]) -> Self {
        Self { segment, occurrence: 1, field: 0, repetition: 0, component: 0, subcomponent: 0 }
    }

    /// The same place in the `n`th segment of that name, from 1.
    #[must_use]
    pub const fn with_occurrence(mut self, n: u32) -> Self {
        self.occurrence = if n == 0 { 1 } else { n };
        self
    }

    /// The `n`th field, from 1, and nothing finer.
    #[must_use]
    pub const fn with_field(self, n: u16) -> Self {
        Self { field: n, repetition: 0, component: 0, subcomponent: 0, ..self }
    }

    /// The same place in the `n`th repetition, from 1.
    #[must_use]
    pub const fn with_repetition(mut self, n: u16) -> Self {
        self.repetition = n;
        self
    }

    /// The `n`th component, from 1.
    #[must_use]
    pub const fn with_component(mut self, n: u16) -> Self {
        self.component = n;
        self.subcomponent = 0;
        self
    }

    /// The segment's name.
    pub fn segment(&self) -> &str {
        str::from_utf8(&self.segment).unwrap_or("???")
    }

    /// The segment's name as bytes.
    pub const fn segment_bytes(&self) -> [u8; 3] {
        self.segment
    }

    /// Which of the segments of that name, from 1.
    pub const fn occurrence(&self) -> u32 {
        self.occurrence
    }

    /// The field, from 1; 0 = the segment.
    pub const fn field(&self) -> u16 {
        self.field
    }

    /// The repetition, from 1; 0 = not said.
    pub const fn repetition(&self) -> u16 {
        self.repetition
    }

    /// The component, from 1; 0 = not said.
    pub const fn component(&self) -> u16 {
        self.component
    }

    /// The subcomponent, from 1; 0 = not said.
    pub const fn subcomponent(&self) -> u16 {
        self.subcomponent
    }
}

const fn bracketed(raw: &[u8], open: usize, max: u32) -> Result<(u32, usize), PathError> {
    match number(raw, open + 1, max) {
        Ok((n, next)) if next < raw.len() && raw[next] == b']' => Ok((n, next + 1)),
        Ok((_, next)) => Err(PathError { at: next }),
        Err(error) => Err(error),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.segment())?;
        if self.occurrence > 1 {
            write!(f, "[{}]", self.occurrence)?;
        }
        if self.field > 0 {
            write!(f, "-{}", self.field)?;
        }
        if self.repetition > 0 {
            write!(f, "[{}]", self.repetition)?;
        }
        if self.component > 0 {
            write!(f, ".{}", self.component)?;
        }
        if self.subcomponent > 0 {
            write!(f, ".{}", self.subcomponent)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(raw: &str) -> Result<Self, PathError> {
        Self::parse(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_they_are_read() {
        for raw in ["PID", "PID-5", "PID-5.1", "PID-3[2].4.1", "OBX[3]-5", "ZX1-9999", "OBX[70000]-5"] {
            assert_eq!(Path::parse(raw).map(|path| path.to_string()).as_deref(), Ok(raw));
        }
        assert_eq!(Path::parse("OBX[1]-5").map(|path| path.to_string()).as_deref(), Ok("OBX-5"));
    }

    #[test]
    fn what_is_no_path() {
        let cases = [
            ("empty", "", 0),
            ("short name", "PI", 2),
            ("lower case", "pid-3", 0),
            ("digit first", "1ID-3", 0),
            ("no field number", "PID-", 4),
            ("field 0", "PID-0", 4),
            ("no dash", "PID3", 3),
            ("open bracket", "PID-3[2", 7),
            ("trailing text", "PID-3.1.1.1", 9),
            ("number too large", "PID-99999", 8),
            ("multibyte", "PID-3é", 5),
        ];
        for (why, raw, at) in cases {
            assert_eq!(Path::parse(raw), Err(PathError { at }), "{why}");
        }
    }
}
