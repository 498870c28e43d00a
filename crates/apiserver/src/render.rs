//! Objects, lists and rows in the form that a client asked for.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::negotiate::Form;
use crate::request::Query;
use crate::resources::Resource;
use crate::status::{Cause, Status};
use crate::store::Object;
use crate::table::{self, Include};
use crate::views;

/// How objects of one resource are shown to one client.
#[derive(Debug, Clone, Copy)]
pub struct Renderer {
    /// The resource that was asked for.
    pub resource: &'static Resource,
    form: Form,
    include: Include,
}

impl Renderer {
    /// In this form; `includeObject` comes from the query.
    ///
    /// # Errors
    /// 400 for an `includeObject` that does not exist.
    pub fn new(resource: &'static Resource, form: Form, query: &Query) -> Result<Self, Status> {
        let include = match query.get("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                let message = format!(
                    "Unsupported value: {other:?}: supported values: \"None\", \"Metadata\", \"Object\""
                );
                return Err(Status::invalid_options(
                    "TableOptions",
                    Cause { field: "includeObject".into(), message },
                ));
            }
        };
        Ok(Self { resource, form, include })
    }

    /// An object parsed, under the version that was asked for.
    pub fn value(&self, object: &Object) -> Value {
        views::from_storage(self.resource, object.value())
    }

    /// One object.
    pub fn object(&self, object: &Object) -> Bytes {
        self.event_object(object, true)
    }

    /// One object of a watch; later tables leave the columns out.
    pub fn event_object(&self, object: &Object, with_columns: bool) -> Bytes {
        match self.form {
            Form::Object if self.resource.is_storage() => object.json.clone(),
            Form::Object => self.value(object).to_string().into(),
            Form::Metadata => table::metadata_only(&self.value(object)).to_string().into(),
            Form::Table => {
                let row = table::row(self.resource, self.value(object), self.include, Timestamp::now());
                let columns = with_columns.then(|| table::columns(self.resource));
                let metadata = json!({"resourceVersion": object.revision.to_string()});
                table::table(columns, vec![row], metadata).to_string().into()
            }
        }
    }

    /// A bookmark: nothing but a revision.
    pub fn bookmark(&self, revision: u64, initial_events_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let kind = self.resource.kind;
        match self.form {
            Form::Object => {
                json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata})
            }
            Form::Metadata => table::metadata_only(&json!({"metadata": metadata})),
            Form::Table => {
                let mut row = json!({"cells": []});
                row["object"] = table::metadata_only(&json!({"metadata": metadata}));
                table::table(None, vec![row], json!({"resourceVersion": revision.to_string()}))
            }
        }
    }

    /// A list, in pieces, so that a long one is not copied as a whole.
    pub fn list(&self, objects: &[std::sync::Arc<Object>], metadata: Value) -> Vec<Bytes> {
        if self.form == Form::Table {
            let now = Timestamp::now();
            let rows =
                objects.iter().map(|o| table::row(self.resource, self.value(o), self.include, now)).collect();
            return vec![
                table::table(Some(table::columns(self.resource)), rows, metadata).to_string().into(),
            ];
        }
        let (kind, api_version) = match self.form {
            Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.resource.list_kind(), self.resource.kind.api_version()),
        };
        let head = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata}).to_string();
        let head = format!("{},\"items\":[", &head[..head.len() - 1]);
        let mut pieces = vec![Bytes::from(head)];
        for (i, object) in objects.iter().enumerate() {
            if i > 0 {
                pieces.push(Bytes::from_static(b","));
            }
            pieces.push(self.object(object));
        }
        pieces.push(Bytes::from_static(b"]}"));
        pieces
    }
}
