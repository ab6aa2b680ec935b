//! What a process is there for: all of it, or one part of a house of many processes.

use std::fmt;
use std::str::FromStr;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessRole {
    /// Takes messages in: MLLP and `POST /hl7v2`. Needs the log alone.
    Gateway,
    /// Applies what came in.
    Worker,
    /// Shows it: pages, JSON, live updates.
    Reader,
}

impl ProcessRole {
    const ALL: [Self; 3] = [Self::Gateway, Self::Worker, Self::Reader];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Reader => "reader",
        }
    }
}

impl FromStr for ProcessRole {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == raw);
        found.ok_or_else(|| format!("`{raw}` is no part of the work; there are gateway, worker, reader"))
    }
}

/// The parts that one process does; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessRoles([bool; 3]);

impl ProcessRoles {
    /// All of it.
    pub const ALL: Self = Self([true; 3]);

    fn of(roles: impl IntoIterator<Item = ProcessRole>) -> Result<Self, String> {
        let mut has = [false; 3];
        for role in roles {
            has[role as usize] = true;
        }
        if has == [false; 3] {
            return Err("none is named: take gateway, worker, reader, or some of them".to_owned());
        }
        Ok(Self(has))
    }

    /// Whether it does `role`.
    pub const fn has(self, role: ProcessRole) -> bool {
        self.0[role as usize]
    }

    /// Whether it does all there is.
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }

    /// Their names, in order.
    pub fn names(self) -> Vec<&'static str> {
        ProcessRole::ALL.into_iter().filter(|&role| self.has(role)).map(ProcessRole::as_str).collect()
    }
}

impl Default for ProcessRoles {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for ProcessRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

/// `gateway,worker`.
impl FromStr for ProcessRoles {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, String> {
        let named = raw.split(',').map(str::trim).filter(|name| !name.is_empty());
        Self::of(named.map(str::parse).collect::<Result<Vec<ProcessRole>, _>>()?)
    }
}

impl Serialize for ProcessRoles {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.names())
    }
}

/// A list, or one text with commas, as a variable of the environment has it.
impl<'de> Deserialize<'de> for ProcessRoles {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = ProcessRoles;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of gateway, worker, reader")
            }

            fn visit_str<E: serde::de::Error>(self, raw: &str) -> Result<ProcessRoles, E> {
                raw.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ProcessRoles, A::Error> {
                let mut roles = Vec::new();
                while let Some(raw) = list.next_element::<String>()? {
                    roles.push(raw.parse().map_err(serde::de::Error::custom)?);
                }
                ProcessRoles::of(roles).map_err(serde::de::Error::custom)
            }
        }
        from.deserialize_any(Named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_and_never_none() {
        let cases: [(&str, &str, Result<&str, &str>); 5] = [
            ("one", "gateway", Ok("gateway")),
            ("several, in any order", "reader, gateway", Ok("gateway,reader")),
            ("all", "gateway,worker,reader", Ok("gateway,worker,reader")),
            ("none", "", Err("none is named")),
            ("another", "writer", Err("`writer` is no part")),
        ];
        for (why, raw, want) in cases {
            match (raw.parse::<ProcessRoles>(), want) {
                (Ok(got), Ok(want)) => assert_eq!(got.to_string(), want, "{why}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{why}: {got}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
        assert!("reader,worker,gateway".parse::<ProcessRoles>().unwrap().is_all());
    }
}
