//! When the version that stood at a commit was written: of the current one, or of an earlier one where that is newer. No row
//! of the index says it, since each version would close and open one.

use hilum_core::Timestamp;
use hilum_engines::tables::Value;
use hilum_engines::tables::query::{Check, Keep, Key, Probe, Term, Test};
use hilum_fhir::search::query::Prefix;

use super::plan::by_row;
use crate::resources::HISTORY;

/// When a resource of this type, by its row, was written, as an answer of commit `t` shows it.
pub(super) fn key(resource_type: &str, t: &Value) -> Key {
    let current = Probe { keep: vec![made_by(t)], ..by_row() };
    let earlier = Key::Of { probe: earlier(resource_type, t), column: "updated" };
    Key::First(vec![
        Key::Of { probe: current, column: "updated" },
        Key::Through { probe: by_row(), subject: "id", key: Box::new(earlier) },
    ])
}

/// Whether it was, as a prefix compares it with `low..=high`.
pub(super) fn check(
    resource_type: &str,
    t: &Value,
    prefix: Prefix,
    (low, high): (Timestamp, Timestamp),
) -> Check {
    let time = Value::Time;
    let before = Timestamp::from_micros(low.as_micros().saturating_sub(1));
    let any = match prefix {
        Prefix::Equal | Prefix::About => vec![vec![Test::Above(time(before)), Test::AtMost(time(high))]],
        Prefix::NotEqual => vec![vec![Test::AtMost(time(before))], vec![Test::Above(time(high))]],
        Prefix::Greater | Prefix::StartsAfter => vec![vec![Test::Above(time(high))]],
        Prefix::Less | Prefix::EndsBefore => vec![vec![Test::AtMost(time(before))]],
        Prefix::GreaterOrEqual => vec![vec![Test::Above(time(before))]],
        Prefix::LessOrEqual => vec![vec![Test::AtMost(time(high))]],
    };
    Check::Any(any.into_iter().map(|tests| passes(resource_type, t, tests)).collect())
}

fn passes(resource_type: &str, t: &Value, tests: Vec<Test>) -> Check {
    let updated = tests.into_iter().map(|test| Keep { column: "updated", test });
    let mut earlier = earlier(resource_type, t);
    earlier.keep.extend(updated.clone());
    let current = Probe { keep: updated.chain([made_by(t)]).collect(), ..by_row() };
    Check::Any(vec![
        Check::Has(current),
        Check::Each { probe: by_row(), subject: "id", check: Box::new(Check::Has(earlier)) },
    ])
}

fn made_by(t: &Value) -> Keep {
    Keep { column: "t_from", test: Test::AtMost(t.clone()) }
}

/// The version that stood at `t` and is replaced, of the resource with this id.
fn earlier(resource_type: &str, t: &Value) -> Probe {
    let of = vec![Term::Is(Value::Text(resource_type.to_owned())), Term::Subject];
    let replaced = Keep { column: "t_to", test: Test::Above(t.clone()) };
    Probe { keep: vec![made_by(t), replaced], ..Probe::by_key(HISTORY.name, of) }
}
