use http::{Request, StatusCode};
use hyper::body::Incoming;
use kilter_objects::patch as objects;
use serde_json::Value;

use super::apply;
use super::write::{Writer, part};
use crate::api::Api;
use crate::body;
use crate::decode;
use crate::request::{Query, Target, WriteOptions};
use crate::respond::Answer;
use crate::status::{Cause, Status};
use crate::views;

/// The patch formats that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, which knows how lists merge.
    Strategic,
}

impl Format {
    /// By media type.
    ///
    /// # Errors
    /// 415.
    pub fn of(media_type: &str) -> Result<Self, Status> {
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            other => Err(Status::unsupported_media_type(
                other,
                &[
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                    apply::MEDIA_TYPE,
                ],
            )),
        }
    }

    /// Applies a patch.
    ///
    /// # Errors
    /// 400 for what is no patch, 422 for one that does not fit.
    pub fn apply(self, value: &mut Value, patch: &Value) -> Result<(), Status> {
        let result = match self {
            Self::Json => objects::json(value, patch),
            Self::Merge | Self::Strategic if !patch.is_object() => {
                return Err(Status::bad_request("a merge patch must be an object"));
            }
            Self::Merge => {
                objects::merge(value, patch);
                Ok(())
            }
            Self::Strategic => objects::strategic(value, patch),
        };
        result.map_err(|error| match error {
            objects::Error::Malformed { .. } => Status::bad_request(error.to_string()),
            objects::Error::DoesNotApply { .. } => Status::unprocessable(error.to_string()),
        })
    }
}

/// PATCH of an object or its status.
pub async fn patch(
    api: &Api,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let options = WriteOptions::parse("PatchOptions", query, request.headers())?;
    if body::media_type(request.headers()) == apply::MEDIA_TYPE {
        return apply::apply(api, target, query, options, request).await;
    }
    if options.force {
        let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::invalid_options("PatchOptions", cause));
    }
    let format = Format::of(body::media_type(request.headers()))?;
    if format == Format::Strategic && target.resource.custom.is_some() {
        // How lists merge in it is said by the built-in types, and by no definition.
        let instead = ["application/json-patch+json", "application/merge-patch+json", apply::MEDIA_TYPE];
        return Err(Status::unsupported_media_type(body::media_type(request.headers()), &instead));
    }
    let writer = Writer::new(target.resource, query, request.headers())?;
    let bytes = body::read(request.into_body()).await?;
    let (patch, duplicates) = decode::json(&bytes)?;
    let resource = target.resource;
    let mut warnings = Vec::new();
    let mut change = |before: Value| {
        let mut value = views::from_storage(resource, before);
        format.apply(&mut value, &patch)?;
        warnings = decode::object(resource, &mut value, &duplicates, options.field_validation)?;
        Ok(value)
    };
    let object = api.registry.modify(&target, part(&target), &options.intent(), &mut change)?;
    Ok(writer.answer(StatusCode::OK, &object, &warnings))
}
