use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kilter_model::{Labels, Operator, Requirement, Selector};

use crate::FieldError;

pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>) -> Labels {
    labels.into_iter().flatten().map(|(k, v)| (Arc::from(k.as_str()), Arc::from(v.as_str()))).collect()
}

/// A label selector as the model has it.
///
/// # Errors
/// An operator that is none, or values where the operator takes none (and the reverse); the field
/// is relative to the selector.
pub fn selector(selector: &LabelSelector) -> Result<Selector, FieldError> {
    let equalities = selector.match_labels.iter().flatten().map(|(key, value)| {
        Ok(Requirement {
            key: key.as_str().into(),
            operator: Operator::In(BTreeSet::from([value.as_str().into()])),
        })
    });
    let expressions = selector.match_expressions.iter().flatten().enumerate().map(|(i, r)| {
        let operator = operator(r)
            .map_err(|(field, message)| FieldError::new(format!("matchExpressions[{i}].{field}"), message))?;
        Ok(Requirement { key: r.key.as_str().into(), operator })
    });
    Ok(Selector::new(equalities.chain(expressions).collect::<Result<Vec<_>, _>>()?))
}

fn operator(requirement: &LabelSelectorRequirement) -> Result<Operator, (&'static str, String)> {
    let values: BTreeSet<Arc<str>> =
        requirement.values.iter().flatten().map(|v| Arc::from(v.as_str())).collect();
    let name = requirement.operator.as_str();
    match (name, values.is_empty()) {
        ("In", false) => Ok(Operator::In(values)),
        ("NotIn", false) => Ok(Operator::NotIn(values)),
        ("Exists", true) => Ok(Operator::Exists),
        ("DoesNotExist", true) => Ok(Operator::DoesNotExist),
        ("In" | "NotIn", true) => Err(("values", format!("Required value: {name} needs at least one value"))),
        ("Exists" | "DoesNotExist", false) => Err(("values", format!("Forbidden: {name} takes no values"))),
        _ => Err(("operator", format!("Unsupported value: {name:?}: In, NotIn, Exists or DoesNotExist"))),
    }
}
