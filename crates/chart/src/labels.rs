//! Which labels (`meta.profile`, `meta.security`, `meta.tag`) are in use, as the index has them. Each value is one step over an
//! index, however many resources have it.

use hilum_core::{Authority, Seq};
use hilum_engines::tables::{Read, Row, Scan, Value};
use hilum_fhir::search::param::ParamNumber;

use crate::chart::{Chart, may_read};
use crate::error::ChartError;
use crate::index::tables::{TOKEN, URI};
use crate::limits::LABELS_MAX;
use crate::port;

/// The parameters by which labels are found.
const PARAMETERS: [&str; 3] = ["_profile", "_security", "_tag"];

/// A label that resources of a type have, or had a while ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The type.
    pub resource_type: &'static str,
    /// `_profile`, `_security` or `_tag`.
    pub parameter: &'static str,
    /// A profile's address, or a code of whatever system; never empty.
    pub value: String,
}

/// The values of one parameter of a type, as far as they were walked.
struct Walk {
    resource_type: &'static str,
    parameter: &'static str,
    number: i64,
    last: Option<String>,
}

impl Walk {
    /// Behind all rows of the last value.
    fn read(&self) -> Read {
        let is_address = self.parameter == "_profile";
        let table = if is_address { URI.name } else { TOKEN.name };
        let prefix = vec![Value::Int(self.number)];
        let after = self.last.as_ref().map(|last| {
            let mut key = vec![Value::Int(self.number), Value::Text(last.clone())];
            key.extend(std::iter::repeat_n(Value::Int(i64::MAX), if is_address { 1 } else { 2 }));
            key.push(Value::Seq(Seq(i64::MAX)));
            key
        });
        Read::Scan(Scan { after, limit: 1, ..Scan::by_key(table, prefix) })
    }
}

fn value_of(rows: &[Row]) -> Option<String> {
    match rows.first()?.values.get(1) {
        Some(Value::Text(value)) => Some(value.clone()),
        _ => None,
    }
}

impl Chart {
    /// The labels of these types, whoever may know of what has them: that is for a search to say.
    ///
    /// # Errors
    /// [`ChartError::Bound`] for more than [`LABELS_MAX`]; [`ChartError::NotFound`] when `authority` may not read; the engine's.
    pub async fn labels(
        &self,
        authority: &Authority,
        types: &[&'static str],
    ) -> Result<Vec<Label>, ChartError> {
        may_read(authority)?;
        let each = types.iter().flat_map(|ty| PARAMETERS.iter().map(move |parameter| (*ty, *parameter)));
        let mut walks: Vec<Walk> = each
            .filter_map(|(resource_type, parameter)| {
                let number = ParamNumber::of(resource_type, parameter)?.get();
                Some(Walk { resource_type, parameter, number, last: None })
            })
            .collect();
        let mut labels = Vec::new();
        while !walks.is_empty() {
            let reads: Vec<Read> = walks.iter().map(Walk::read).collect();
            let found = port::read(self.tables(), &reads).await?;
            let mut next = Vec::new();
            for (mut walk, rows) in walks.into_iter().zip(found) {
                let Some(value) = value_of(&rows) else { continue };
                let (resource_type, parameter) = (walk.resource_type, walk.parameter);
                // A code that is empty stands for a system alone.
                if !value.is_empty() {
                    labels.push(Label { resource_type, parameter, value: value.clone() });
                }
                walk.last = Some(value);
                next.push(walk);
            }
            if labels.len() > LABELS_MAX {
                return Err(ChartError::Bound { what: "labels", asked: labels.len(), max: LABELS_MAX });
            }
            walks = next;
        }
        Ok(labels)
    }
}
