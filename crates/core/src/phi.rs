//! Patient data as a type.

use std::fmt;

/// A value about a patient. It has no `Display`, and `Debug` prints `<phi>`, so that it cannot reach a log line,
/// an error text or a metric label by accident. [`Phi::expose`] is the place to audit.
///
/// ```
/// let name = hilum_core::Phi::new("홍길동");
/// assert_eq!(format!("{name:?}"), "<phi>");
/// assert_eq!(*name.expose(), "홍길동");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: the one way out.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, owned.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<phi>")
    }
}

impl<T> From<T> for Phi<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}
