//! `metav1.Status`: every refusal of the server is one of these, with the code, reason and wording
//! that Kubernetes clients act on.

use http::StatusCode;
use serde_json::{Value, json};

use crate::resources::Resource;

/// One refused field (`metav1.StatusCause`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The field's path, as in `spec.ports[0].nodePort`.
    pub field: String,
    /// What is wrong, without the field's name: `Invalid value: 3: must be even`.
    pub message: String,
}

impl Cause {
    /// `FIELD: Invalid value: VALUE: DETAIL`. The value is printed as JSON.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self { field: field.into(), message: format!("Invalid value: {value}: {detail}") }
    }

    /// `FIELD: Forbidden: DETAIL`.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { field: field.into(), message: format!("Forbidden: {detail}") }
    }

    /// `FIELD: Required value: DETAIL`.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        Self { field: field.into(), message: format!("Required value: {detail}") }
    }

    /// The machine-readable reason (`metav1.CauseType`), which goes with how the message begins.
    fn reason(&self) -> &'static str {
        const REASONS: [(&str, &str); 7] = [
            ("Required value", "FieldValueRequired"),
            ("Duplicate value", "FieldValueDuplicate"),
            ("Unsupported value", "FieldValueNotSupported"),
            ("Forbidden", "FieldValueForbidden"),
            ("Not found", "FieldValueNotFound"),
            ("Too long", "FieldValueTooLong"),
            ("Too many", "FieldValueTooMany"),
        ];
        REASONS
            .iter()
            .find(|(start, _)| self.message.starts_with(start))
            .map_or("FieldValueInvalid", |(_, r)| r)
    }

    fn to_value(&self) -> Value {
        json!({"reason": self.reason(), "message": self.message, "field": self.field})
    }
}

impl From<kilter_objects::FieldError> for Cause {
    fn from(error: kilter_objects::FieldError) -> Self {
        Self { field: error.field, message: error.message }
    }
}

/// A refusal, as the client sees it. Boxed parts keep `Result<_, Status>` small.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status code.
    pub code: StatusCode,
    /// The machine-readable reason (`metav1.StatusReason`).
    pub reason: &'static str,
    /// The sentence that people see.
    pub message: String,
    /// `details`, or null.
    pub details: Box<Value>,
}

impl Status {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Box::new(Value::Null) }
    }

    fn with_details(mut self, details: Value) -> Self {
        *self.details = details;
        self
    }

    /// The `metav1.Status` object.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        if !self.details.is_null() {
            value["details"] = (*self.details).clone();
        }
        value
    }

    /// 404 for an object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.group_resource());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).with_details(of(resource, name))
    }

    /// 404 for a path, a resource or a subresource that is not served.
    pub fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
            .with_details(json!({}))
    }

    /// 409 on create.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.group_resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).with_details(of(resource, name))
    }

    /// 409, with Kubernetes' frame around the reason.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.group_resource());
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(of(resource, name))
    }

    /// 409: an apply touches fields of other managers. Each cause is a message and a field.
    pub fn apply_conflict(message: String, causes: impl Iterator<Item = (String, String)>) -> Self {
        let causes: Vec<Value> = causes
            .map(|(message, field)| json!({"reason": "FieldManagerConflict", "message": message, "field": field}))
            .collect();
        Self::new(StatusCode::CONFLICT, "Conflict", message).with_details(json!({"causes": causes}))
    }

    /// 409: somebody else wrote in between.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403 for an object.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", resource.group_resource());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).with_details(of(resource, name))
    }

    /// 422 with the fields that are wrong.
    pub fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        let kind = match resource.kind.group {
            "" => resource.kind.kind.to_owned(),
            group => format!("{}.{group}", resource.kind.kind),
        };
        let list: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let list = if list.len() == 1 { list[0].clone() } else { format!("[{}]", list.join(", ")) };
        let causes: Vec<Value> = causes.iter().map(Cause::to_value).collect();
        let mut details = of(resource, name);
        details["kind"] = resource.kind.kind.into();
        details["causes"] = causes.into();
        let message = format!("{kind} \"{name}\" is invalid: {list}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 422 without a field to name: a patch that does not fit.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 422 for query options (`ListOptions`, `DeleteOptions`...).
    pub fn invalid_options(kind: &'static str, cause: Cause) -> Self {
        let message = format!("{kind}.meta.k8s.io \"\" is invalid: {}: {}", cause.field, cause.message);
        let causes = json!([cause.to_value()]);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            .with_details(json!({"group": "meta.k8s.io", "kind": kind, "causes": causes}))
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource is served, the verb is not.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_details(json!({}))
    }

    /// 406, with what could have been had.
    pub fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// 415, with what is understood.
    pub fn unsupported_media_type(sent: &str, accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {} (sent: {sent:?})",
            accepted.join(", ")
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 410: the client must list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 504: a revision that does not exist yet.
    pub fn too_large_revision(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .with_details(json!({"causes": causes, "retryAfterSeconds": 1}))
    }

    /// 408: the body did not arrive in time.
    pub fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", "the body of the request did not arrive in time")
    }

    /// 429: try again later.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
            .with_details(json!({"retryAfterSeconds": 10}))
    }

    /// The refusal of a server behind this one.
    pub fn from_upstream(code: StatusCode, message: String) -> Self {
        match code.as_u16() {
            400 => Self::bad_request(message),
            404 => Self::new(code, "NotFound", message),
            503 => Self::unavailable(message),
            402..500 => Self::new(code, "Unknown", message),
            _ => Self::internal(message),
        }
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = format!("Internal error occurred: {}", message.into());
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// 503: something behind this server cannot be reached.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Adds a cause to the details, as Kubernetes does for a namespace that is going away.
    pub fn with_cause(mut self, reason: &str, message: &str) -> Self {
        self.details["causes"] = json!([{"reason": reason, "message": message}]);
        self
    }
}

fn of(resource: &Resource, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource.kind.plural});
    if !resource.kind.group.is_empty() {
        details["group"] = resource.kind.group.into();
    }
    details
}
