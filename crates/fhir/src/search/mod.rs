//! What a search asks of a resource. Pure: the index rows of a resource are a function of its body and of [`values::Settings`].
//!
//! | module | what lives there |
//! |---|---|
//! | [`fold`] | texts as they are compared: without case and accents, cut where they are too long for a key |
//! | [`implied`] | the system that a code implies |
//! | [`number`] | decimals in an order that bytes keep |
//! | [`param`] | the numbers that stand for parameters in stored rows |
//! | [`query`] | what a query says: names and values become criteria |
//! | [`terms`] | value sets and code systems as lists of codes |
//! | [`unit`] | quantities in the canonical unit of what they measure |
//! | [`values`] | the values of a resource's parameters |

pub mod fold;
pub mod implied;
pub mod number;
pub mod param;
pub mod query;
pub mod terms;
pub mod unit;
pub mod values;
