use http::{HeaderMap, StatusCode};

use crate::api::Api;
use crate::negotiate;
use crate::render::Renderer;
use crate::request::{Query, Target, revision};
use crate::respond::{self, Answer};
use crate::status::Status;

/// GET of one object.
pub fn get(api: &Api, target: &Target, query: &Query, headers: &HeaderMap) -> Result<Answer, Status> {
    let renderer = Renderer::new(target.resource, negotiate::form(headers)?, query)?;
    if let Some(asked) = revision(query.get("resourceVersion"))? {
        let current = api.registry.store.revision();
        if asked > current {
            return Err(Status::too_large_revision(asked, current));
        }
    }
    Ok(respond::json_bytes(StatusCode::OK, renderer.object(&*api.registry.get(target)?)))
}
