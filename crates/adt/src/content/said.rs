//! What a message says about a field: nothing, that it is gone, or a value (clinical-rules 12).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What one message, or all of them together, say about one field. Serialized as a struct field it is left out
/// (nothing), `null` (deleted) or the value: declare it with `default` and `skip_serializing_if`, as [`words!`] does.
///
/// [`words!`]: crate::content::PersonContent
#[derive(PartialEq, Eq, Default)]
pub enum Said<T> {
    /// The field was absent or empty: what was said before stands.
    #[default]
    Nothing,
    /// The field was `""`: what was said before is gone.
    Deleted,
    /// The field's value; shared, since most fields say nothing and what they say is copied from register to
    /// register.
    Value(Arc<T>),
}

// Not derived: a shared value is cloned whatever it is of.
impl<T> Clone for Said<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Deleted => Self::Deleted,
            Self::Value(value) => Self::Value(Arc::clone(value)),
        }
    }
}

impl<T> Said<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::Deleted => None,
        }
    }

    /// Whether nothing was said.
    pub const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Whether a value or its deletion was said.
    pub const fn is_said(&self) -> bool {
        !self.is_nothing()
    }

    /// Says a value.
    pub fn of(value: T) -> Self {
        Self::Value(Arc::new(value))
    }

    /// Another value of the same presence.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Said<U>
    where
        T: Clone,
    {
        match self {
            Self::Nothing => Said::Nothing,
            Self::Deleted => Said::Deleted,
            Self::Value(value) => Said::of(change(Arc::unwrap_or_clone(value))),
        }
    }
}

impl<T> Said<T> {
    /// Takes over what `newer` says; nothing said changes nothing.
    pub fn overlay(&mut self, newer: &Self) {
        if newer.is_said() {
            self.clone_from(newer);
        }
    }
}

impl<T> Said<Vec<T>> {
    /// The items, none if nothing or a deletion was said.
    pub fn items(&self) -> &[T] {
        match self {
            Self::Value(items) => items,
            Self::Nothing | Self::Deleted => &[],
        }
    }
}

impl<T> From<Option<T>> for Said<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Self::of)
    }
}

impl<T> fmt::Debug for Said<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Deleted => "deleted",
            Self::Value(_) => "<phi>",
        })
    }
}

impl<T: Serialize> Serialize for Said<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing | Self::Deleted => serializer.serialize_none(),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Deleted, Self::of))
    }
}

/// A set of fields that messages speak about, each on its own: what one message says stands until a later one says
/// otherwise. With a total order of messages the sum is the same whatever came first: [`Words::overlay`] in that order.
/// A fold that keeps only what still counts walks from the newest message to the oldest, and lets each older one
/// [`Words::forget`] what a newer one says; one that is [`Words::is_silent`] then need not be kept.
pub trait Words: Default + Clone {
    /// Takes over what `newer` says, field by field.
    fn overlay(&mut self, newer: &Self);
    /// Takes over what `older` says where nothing, not even a deletion, is said here.
    fn fill(&mut self, older: &Self);
    /// Says nothing more about the fields that `newer` speaks about.
    fn forget(&mut self, newer: &Self);
    /// Whether nothing is said.
    fn is_silent(&self) -> bool;
    /// The names of the fields that are spoken about, in order of declaration.
    fn said(&self) -> Vec<&'static str>;
}

/// Declares a struct of [`Said`] fields: `/// doc` `name: Type = "key when stored"`.
macro_rules! words {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* $field:ident: $ty:ty = $key:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$doc])* #[serde(rename = $key, skip_serializing_if = "Said::is_nothing")] pub $field: Said<$ty>,)*
        }

        impl $crate::content::Words for $name {
            fn overlay(&mut self, newer: &Self) {
                $(self.$field.overlay(&newer.$field);)*
            }

            fn fill(&mut self, older: &Self) {
                $(if self.$field.is_nothing() { self.$field.clone_from(&older.$field); })*
            }

            fn forget(&mut self, newer: &Self) {
                $(if newer.$field.is_said() { self.$field = Said::Nothing; })*
            }

            fn is_silent(&self) -> bool {
                true $(&& self.$field.is_nothing())*
            }

            fn said(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field.is_said() { names.push(stringify!($field)); })*
                names
            }
        }

        $crate::content::said::phi_debug!($name);
    };
}

/// `Debug` that prints no patient data.
macro_rules! phi_debug {
    ($($name:ident),* $(,)?) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(<phi>)"))
            }
        })*
    };
}

pub(crate) use {phi_debug, words};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    words! {
        /// Two fields.
        pub struct Pair {
            /// One.
            one: String = "1",
            /// Two.
            two: Vec<u8> = "2",
        }
    }

    fn pair(raw: &str) -> Pair {
        serde_json::from_str(raw).unwrap()
    }

    #[test]
    fn presence_survives_storing() {
        let cases = [
            ("nothing said", "{}"),
            ("one deleted", r#"{"1":null}"#),
            ("a value and a deletion", r#"{"1":"a","2":null}"#),
            ("an empty list is a value", r#"{"2":[]}"#),
        ];
        for (why, raw) in cases {
            assert_eq!(serde_json::to_string(&pair(raw)).unwrap(), raw, "{why}");
        }
    }

    #[test]
    fn later_words_win_field_by_field() {
        let cases = [
            ("nothing changes nothing", r#"{"1":"a"}"#, "{}", r#"{"1":"a"}"#),
            ("a value replaces", r#"{"1":"a"}"#, r#"{"1":"b"}"#, r#"{"1":"b"}"#),
            (
                "a deletion deletes, and is remembered",
                r#"{"1":"a","2":[1]}"#,
                r#"{"1":null}"#,
                r#"{"1":null,"2":[1]}"#,
            ),
        ];
        for (why, older, newer, want) in cases {
            let (older, newer) = (pair(older), pair(newer));
            let mut sum = older.clone();
            sum.overlay(&newer);
            assert_eq!(serde_json::to_string(&sum).unwrap(), want, "{why}");
            let mut filled = newer.clone();
            filled.fill(&older);
            assert_eq!(filled, sum, "{why}: fill is overlay from the other side");
            let mut rest = older;
            rest.forget(&newer);
            rest.overlay(&newer);
            assert_eq!(rest, sum, "{why}: what was forgotten did not count");
        }
    }
}
