use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Labels of one object, ordered so that equal sets compare and print equal.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A label selector: all requirements must hold. The empty selector matches everything
/// (`metav1.LabelSelector`); "no selector at all" is an `Option` around this type.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// Sorted, so that equal selectors are equal values and can be interned.
    requirements: Vec<Requirement>,
}

/// One requirement of a selector. `matchLabels` becomes `In` with one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: Arc<str>,
    /// How its value is judged.
    pub operator: Operator,
}

/// The operators of `metav1.LabelSelectorRequirement`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The key is present and its value is one of these.
    In(BTreeSet<Arc<str>>),
    /// The key is absent, or its value is none of these (apimachinery `Requirement.Matches`).
    NotIn(BTreeSet<Arc<str>>),
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
}

impl Requirement {
    /// Whether `labels` satisfy this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Selector {
    /// A selector of these requirements, in any order.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<_> = requirements.into_iter().collect();
        requirements.sort();
        requirements.dedup();
        Self { requirements }
    }

    /// A selector of `key=value` pairs, as a Service or `matchLabels` has them.
    pub fn from_labels<K: Into<Arc<str>>, V: Into<Arc<str>>>(labels: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(labels.into_iter().map(|(key, value)| Requirement {
            key: key.into(),
            operator: Operator::In(BTreeSet::from([value.into()])),
        }))
    }

    /// Whether `labels` satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether this selector matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, sorted.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for Selector {
    /// In the form that `kubectl -l` takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let key = &requirement.key;
            match &requirement.operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", join(values))?,
                Operator::In(values) => write!(f, "{key} in ({})", join(values))?,
                Operator::NotIn(values) => write!(f, "{key} notin ({})", join(values))?,
                Operator::Exists => write!(f, "{key}")?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

fn join(values: &BTreeSet<Arc<str>>) -> String {
    values.iter().map(|v| v.as_ref()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
    }

    fn requirement(operator: Operator) -> Selector {
        Selector::new([Requirement { key: "tier".into(), operator }])
    }

    #[test]
    fn the_empty_selector_matches_everything() {
        assert!(Selector::default().matches(&labels(&[])));
        assert!(Selector::default().matches(&labels(&[("tier", "db")])));
    }

    #[test]
    fn trap_4_not_in_and_does_not_exist_match_a_missing_key() {
        let db = BTreeSet::from([Arc::from("db")]);
        assert!(requirement(Operator::NotIn(db.clone())).matches(&labels(&[])));
        assert!(!requirement(Operator::NotIn(db.clone())).matches(&labels(&[("tier", "db")])));
        assert!(requirement(Operator::DoesNotExist).matches(&labels(&[])));
        assert!(!requirement(Operator::In(db)).matches(&labels(&[])));
    }

    #[test]
    fn an_empty_value_is_not_a_missing_key() {
        let selector = Selector::from_labels([("tier", "")]);
        assert!(!selector.matches(&labels(&[])));
        assert!(selector.matches(&labels(&[("tier", "")])));
    }

    #[test]
    fn equal_selectors_are_equal_values_whatever_the_order() {
        let a = Selector::from_labels([("a", "1"), ("b", "2")]);
        let b = Selector::from_labels([("b", "2"), ("a", "1")]);
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "a=1,b=2");
    }
}
