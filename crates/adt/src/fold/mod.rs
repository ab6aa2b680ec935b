//! The fold: pure functions from sets of facts to states (`docs/adr/0002-fold.md`).
//!
//! | module | what it folds |
//! |---|---|
//! | [`encounter`] | one visit's facts, sorted by the movement clock, to encounters (clinical-rules 5, 6, 9–11) |
//! | `stays` | the facts of one person's visits without a number, cut into stays (rules 10, 17) |
//! | [`content`] | what was said of a person or a group of items, field by field and item by item (rules 1, 12) |
//! | [`ties`] | merges, links and decisions of one family, to survivors (rules 7, 15, 16) |

pub mod content;
pub mod encounter;
pub(crate) mod stays;
pub mod ties;
