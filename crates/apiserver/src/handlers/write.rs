use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;

use crate::api::Api;
use crate::body;
use crate::decode;
use crate::negotiate;
use crate::registry::Part;
use crate::render::Renderer;
use crate::request::{FieldValidation, Query, Target, WriteOptions};
use crate::resources::Resource;
use crate::respond::{self, Answer};
use crate::status::Status;
use crate::store::Object;

/// POST to a collection.
pub async fn create(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let options = WriteOptions::parse("CreateOptions", query, request.headers())?;
    let writer = Writer::new(target.resource, query, request.headers())?;
    let (value, warnings) = read_object(target.resource, options.field_validation, request).await?;
    let object = api.registry.create(&target, value, &options.intent())?;
    Ok(writer.answer(StatusCode::CREATED, &object, &warnings))
}

/// PUT of an object or its status.
pub async fn replace(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let options = WriteOptions::parse("UpdateOptions", query, request.headers())?;
    let writer = Writer::new(target.resource, query, request.headers())?;
    let (value, warnings) = read_object(target.resource, options.field_validation, request).await?;
    let object = api.registry.replace(&target, part(&target), value, &options.intent())?;
    Ok(writer.answer(StatusCode::OK, &object, &warnings))
}

/// Which half of the object a URL is about.
pub fn part(target: &Target) -> Part {
    if target.subresource.as_deref() == Some("status") { Part::Status } else { Part::Main }
}

/// The object that a client sent, in its stored form, and what it should be warned of.
async fn read_object(
    resource: &Resource,
    validation: FieldValidation,
    request: Request<Incoming>,
) -> Result<(Value, Vec<String>), Status> {
    let (mut value, duplicates) = body::document(request).await?;
    let warnings = decode::object(resource, &mut value, &duplicates, validation)?;
    Ok((value, warnings))
}

/// How the answer to a write is shown.
pub struct Writer {
    renderer: Renderer,
}

impl Writer {
    /// As the request's headers ask. Decided before anything is written.
    pub fn new(resource: &'static Resource, query: &Query, headers: &HeaderMap) -> Result<Self, Status> {
        Ok(Self { renderer: Renderer::new(resource, negotiate::form(headers)?, query)? })
    }

    /// The object as it is now, with warnings.
    pub fn answer(&self, code: StatusCode, object: &Object, warnings: &[String]) -> Answer {
        let mut answer = respond::json_bytes(code, self.renderer.object(object));
        respond::warn(&mut answer, warnings);
        answer
    }
}
