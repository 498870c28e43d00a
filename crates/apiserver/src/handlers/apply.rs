//! Server-side apply (KEP-555): a PATCH whose body is all that its sender wants.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use kilter_objects::apply::{self, Applier, Conflict, Manager, Operation, Refusal};
use serde_json::{Map, Value};

use super::write::{Writer, part};
use crate::api::Api;
use crate::body;
use crate::decode;
use crate::meta;
use crate::registry::{Author, Intent, Part};
use crate::request::{Query, Target, WriteOptions};
use crate::respond::Answer;
use crate::status::{Cause, Status};

/// The media type of an apply. JSON is YAML too.
pub const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// PATCH with an apply configuration; makes the object where there is none.
pub async fn apply(
    api: &Api,
    target: Target,
    query: &Query,
    options: WriteOptions,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let resource = target.resource;
    if !resource.is_storage() && resource.custom.is_none() {
        let instead = ["application/json-patch+json", "application/merge-patch+json"];
        return Err(Status::unsupported_media_type(MEDIA_TYPE, &instead));
    }
    let Some(name) = options.manager else {
        let cause = Cause::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid_options("PatchOptions", cause));
    };
    let manager = Manager {
        name,
        operation: Operation::Apply,
        api_version: resource.kind.api_version(),
        subresource: target.subresource.clone().unwrap_or_default(),
    };
    let writer = Writer::new(resource, query, request.headers())?;
    let (mut config, duplicates) = decode::yaml(&body::read(request.into_body()).await?)?;
    let warnings = decode::object(resource, &mut config, &duplicates, options.field_validation)?;
    let part = part(&target);
    narrow(&target, part, &mut config)?;
    let merge = |live: Option<&Value>| {
        let now = meta::now();
        let applier = Applier { manager: &manager, now: &now, force: options.force };
        let applied = resource.with_type(|ty| apply::apply(live, &config, ty, applier));
        applied.map_err(|refusal| match refusal {
            Refusal::Conflicts(conflicts) => conflict(&conflicts),
            Refusal::Malformed(error) => {
                Status::bad_request(format!("failed to create typed patch object: {error}"))
            }
        })
    };
    let intent = Intent { author: Author::Recorded, dry_run: options.dry_run };
    loop {
        let modified = api.registry.modify(&target, part, &intent, &mut |live| merge(Some(&live)));
        let missing = matches!(&modified, Err(s) if s.reason == "NotFound") && api.registry.get(&target).is_err();
        if !missing || part == Part::Status {
            return Ok(writer.answer(StatusCode::OK, &*modified?, &warnings));
        }
        if !meta::text(&config, "uid").is_empty() {
            let why = "uid mismatch: the provided object specified a uid, and no existing object was found";
            return Err(Status::conflict(resource, target.name.as_deref().unwrap_or_default(), why));
        }
        match api.registry.create(&target, merge(None)?, &intent) {
            Err(status) if status.reason == "AlreadyExists" => {}
            created => return Ok(writer.answer(StatusCode::CREATED, &*created?, &warnings)),
        }
    }
}

/// Leaves in a configuration what this URL is about.
fn narrow(target: &Target, part: Part, config: &mut Value) -> Result<(), Status> {
    if config["metadata"]["managedFields"].as_array().is_some_and(|m| !m.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    if meta::text(config, "name").is_empty() {
        let name = target.name.as_deref().unwrap_or_default();
        meta::metadata(config).insert("name".into(), name.into());
    }
    meta::set_namespace(target, config)?;
    let Some(fields) = config.as_object_mut() else { return Ok(()) };
    match part {
        Part::Status => fields.retain(|k, _| matches!(k.as_str(), "apiVersion" | "kind" | "metadata" | "status")),
        _ if target.resource.kind.status => drop(fields.remove("status")),
        _ => {}
    }
    Ok(())
}

/// 409, worded as clients expect: `kubectl` shows the message and looks for the causes.
fn conflict(conflicts: &[Conflict]) -> Status {
    let who = |conflict: &Conflict| {
        let manager = &conflict.manager;
        let mut text = format!("{:?}", manager.name);
        if !manager.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", manager.subresource));
        }
        if manager.operation == Operation::Update {
            text.push_str(&format!(" using {}", manager.api_version));
            if let Some(time) = &conflict.time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    };
    let message = match conflicts {
        [only] => format!("Apply failed with 1 conflict: conflict with {}: {}", who(only), only.path),
        many => {
            let mut of: Map<String, Value> = Map::new();
            for conflict in many {
                let lines = of.entry(who(conflict)).or_insert_with(|| "".into());
                *lines = format!("{}\n- {}", lines.as_str().unwrap_or_default(), conflict.path).into();
            }
            let parts = of.iter().map(|(w, p)| format!("conflicts with {w}:{}", p.as_str().unwrap_or_default()));
            format!("Apply failed with {} conflicts: {}", many.len(), parts.collect::<Vec<_>>().join("\n"))
        }
    };
    let causes = conflicts.iter().map(|c| (format!("conflict with {}", who(c)), c.path.clone()));
    Status::apply_conflict(message, causes)
}
