//! What an update from one state of the sources to another would be refused for.

use std::collections::BTreeMap;
use std::fmt;

use kilter_model::Origin;
use kilter_objects::FieldError;
use serde_json::Value;

use crate::merge::title;
use crate::{Loaded, Object};

/// An object that may not become what the newer sources say: the API refuses the update, and it must
/// be deleted and made anew.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedUpdate {
    /// `Kind namespace/name`.
    pub object: String,
    /// Where the newer declaration is.
    pub origin: Origin,
    /// The fields that may not change.
    pub faults: Vec<FieldError>,
}

impl fmt::Display for RefusedUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): the API would refuse this update; delete the object first", self.object, self.origin)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// The updates between two states that the API would refuse, by the rules that it has itself.
pub fn refused_updates(old: &Loaded, new: &Loaded) -> Vec<RefusedUpdate> {
    let defaulted = |object: &Object| {
        let mut value = object.value.clone();
        kilter_objects::default(&mut value);
        value
    };
    let key = |value: &Value| (value["apiVersion"].to_string(), title(value));
    let before: BTreeMap<_, _> = old.objects.iter().map(|object| (key(&object.value), object)).collect();
    let refused = new.objects.iter().filter_map(|object| {
        let before = before.get(&key(&object.value))?;
        let faults = kilter_objects::changed(&defaulted(before), &defaulted(object));
        if faults.is_empty() {
            return None;
        }
        Some(RefusedUpdate { object: title(&object.value), origin: object.origin.clone(), faults })
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Source, load};

    fn deployment(app: &str, replicas: u32) -> Loaded {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{replicas: {replicas}, \
             selector: {{matchLabels: {{app: {app}}}}}, template: {{metadata: {{labels: {{app: {app}}}}}, \
             spec: {{containers: [{{name: a, image: b}}]}}}}}}\n"
        );
        load(&[Source::Text { name: "web.yaml".into(), text }], &Options::default()).expect("loaded")
    }

    #[test]
    fn an_update_that_the_api_refuses_is_told_beforehand() {
        assert_eq!(refused_updates(&deployment("a", 1), &deployment("a", 2)), []);
        let refused = refused_updates(&deployment("a", 1), &deployment("b", 1));
        let text = refused.iter().map(ToString::to_string).collect::<String>();
        assert!(text.starts_with("Deployment default/web (web.yaml:1): the API would refuse"), "{text}");
        assert!(text.contains("spec.selector: Invalid value") && text.contains("field is immutable"), "{text}");
    }
}
