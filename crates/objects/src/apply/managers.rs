use serde_json::{Value, json};

use super::Conflict;
use super::fields::Fields;

/// How a manager writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply: it says all that it wants.
    Apply,
    /// Any other write: it wants what it changed.
    Update,
}

/// Somebody who manages fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// `fieldManager`, or what the client calls itself.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version that it writes.
    pub api_version: String,
    /// The subresource through which it writes; empty for the object itself.
    pub subresource: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: Manager,
    time: Option<String>,
    fields: Fields,
}

/// `metadata.managedFields`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Managed(Vec<Entry>);

/// Whether a client asks to forget all managers: by one entry with nothing in it.
pub(super) fn is_reset(object: &Value) -> bool {
    let entries = object["metadata"]["managedFields"].as_array();
    entries.is_some_and(|e| !e.is_empty() && e.iter().all(|e| e.as_object().is_none_or(|e| e.is_empty())))
}

/// Leaves out what belongs to nobody: what an object is, and what only the server writes.
pub(super) fn without_identity(mut fields: Fields) -> Fields {
    fields.here = false;
    for path in ["f:apiVersion", "f:kind"] {
        fields.remove(&[path]);
    }
    for field in [
        "name",
        "namespace",
        "generateName",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "uid",
        "resourceVersion",
        "selfLink",
        "managedFields",
    ] {
        fields.remove(&["f:metadata", &format!("f:{field}")]);
    }
    let leftover = fields.below.get_mut("f:metadata");
    if leftover.is_some_and(|metadata| std::mem::take(&mut metadata.here) && metadata.below.is_empty()) {
        fields.below.remove("f:metadata");
    }
    fields
}

impl Managed {
    /// As an object has it; what cannot be read is left out.
    pub fn of(object: Option<&Value>) -> Self {
        let entries = object.and_then(|o| o.get("metadata")?.get("managedFields")?.as_array());
        let entries = entries.into_iter().flatten().filter_map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let operation = match entry["operation"].as_str()? {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            };
            let manager = Manager {
                name: text("manager"),
                operation,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            };
            let time = entry["time"].as_str().map(str::to_owned);
            Some(Entry { manager, time, fields: Fields::read(&entry["fieldsV1"]) })
        });
        Self(entries.collect())
    }

    /// Writes the record into an object.
    pub(super) fn write(mut self, object: &mut Value) {
        self.0.retain(|e| !e.fields.is_empty());
        let order = |e: &Entry| (e.manager.operation, e.time.clone(), e.manager.name.clone());
        self.0.sort_by_key(order);
        let entries: Vec<Value> = self.0.iter().map(Entry::write).collect();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        match entries.is_empty() {
            true => metadata.remove("managedFields"),
            false => metadata.insert("managedFields".into(), entries.into()),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives all fields of an object that nobody manages to a manager of the past, so that a first
    /// apply meets conflicts rather than taking them silently.
    pub(super) fn adopt(&mut self, fields: Fields, live: &Value) {
        let manager = Manager {
            name: "before-first-apply".into(),
            operation: Operation::Update,
            api_version: live["apiVersion"].as_str().unwrap_or_default().to_owned(),
            subresource: String::new(),
        };
        let time = live["metadata"]["creationTimestamp"].as_str().map(str::to_owned);
        self.0.push(Entry { manager, time, fields });
    }

    pub(super) fn fields(&self, manager: &Manager) -> Fields {
        self.0.iter().find(|e| e.manager == *manager).map(|e| e.fields.clone()).unwrap_or_default()
    }

    pub(super) fn fields_of_others(&self, manager: &Manager) -> Fields {
        let mut all = Fields::default();
        for entry in self.0.iter().filter(|e| e.manager != *manager) {
            all.merge(entry.fields.clone());
        }
        all
    }

    /// Which of these changes others would object to.
    pub(super) fn conflicts(&self, manager: &Manager, changed: &Fields) -> Vec<Conflict> {
        let others = self.0.iter().filter(|e| e.manager != *manager);
        let of = |entry: &Entry| -> Vec<Conflict> {
            let paths = entry.fields.common(changed).paths().into_iter();
            paths.map(|path| Conflict { manager: entry.manager.clone(), time: entry.time.clone(), path }).collect()
        };
        others.flat_map(of).collect()
    }

    /// Takes fields from everybody but one.
    pub(super) fn release(&mut self, except: &Manager, fields: &Fields) {
        for entry in self.0.iter_mut().filter(|e| e.manager != *except) {
            entry.fields = entry.fields.without(fields);
        }
    }

    /// Takes fields from everybody.
    pub(super) fn release_all(&mut self, fields: &Fields) {
        for entry in &mut self.0 {
            entry.fields = entry.fields.without(fields);
        }
    }

    /// Says what a manager manages; its time stays where that is nothing new.
    pub(super) fn set(&mut self, manager: &Manager, fields: Fields, now: &str) {
        match self.0.iter_mut().find(|e| e.manager == *manager) {
            Some(entry) if entry.fields == fields => {}
            Some(entry) => (entry.fields, entry.time) = (fields, Some(now.to_owned())),
            None => {
                self.0.push(Entry { manager: manager.clone(), time: Some(now.to_owned()), fields });
            }
        }
    }
}

impl Entry {
    fn write(&self) -> Value {
        let operation = match self.manager.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut entry = json!({
            "manager": self.manager.name, "operation": operation, "apiVersion": self.manager.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.write(),
        });
        if let Some(time) = &self.time {
            entry["time"] = time.as_str().into();
        }
        if !self.manager.subresource.is_empty() {
            entry["subresource"] = self.manager.subresource.as_str().into();
        }
        entry
    }
}
