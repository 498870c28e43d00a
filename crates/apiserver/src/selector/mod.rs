//! Selectors as they come in a query, and what of a collection a client has asked for.

mod field;
mod label;

use kilter_model::NamespacedName;

pub use field::FieldSelector;
pub use label::LabelSelector;

use crate::store::Object;

/// Which objects of a resource a list, a watch or a deletion is about.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// `labelSelector`.
    pub labels: LabelSelector,
    /// `fieldSelector`.
    pub fields: FieldSelector,
}

impl Selection {
    /// Whether an object is among them.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|n| *object.key.namespace == *n)
            && self.fields.matches(object)
            && self.labels.matches(&object.labels)
    }

    /// Whether it selects by nothing but namespace.
    pub fn is_plain(&self) -> bool {
        self.fields.is_empty() && self.labels.is_empty()
    }

    /// The only object that it can match, when the selector names it; without a
    /// namespace where none is asked for.
    pub fn single(&self) -> Option<NamespacedName> {
        let name = self.fields.name()?;
        let namespace = self.namespace.as_deref().or(self.fields.namespace()).unwrap_or_default();
        Some(NamespacedName::new(namespace, name))
    }
}
