use http::HeaderMap;
use serde_json::Value;

use super::Query;
use crate::registry::{Author, Intent};
use crate::resources::Resource;
use crate::selector::{FieldSelector, LabelSelector, Selection};
use crate::status::{Cause, Status};

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionMatch {
    /// The state now is new enough.
    NotOlderThan,
    /// The state at exactly that revision.
    Exact,
}

/// `metav1.ListOptions`, for lists, watches and deletions of collections.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// Which objects.
    pub selection: Selection,
    /// `resourceVersion`; `None` when absent, 0 for "any".
    pub revision: Option<u64>,
    /// `resourceVersionMatch`.
    pub revision_match: Option<RevisionMatch>,
    /// `limit`; `None` for no limit.
    pub limit: Option<usize>,
    /// `continue`.
    pub token: Option<String>,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub initial_events: Option<bool>,
    /// `timeoutSeconds`.
    pub timeout: Option<u64>,
}

impl ListOptions {
    /// Reads the options of a request about a collection.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for combinations that Kubernetes forbids.
    pub fn parse(resource: &Resource, namespace: Option<&str>, query: &Query) -> Result<Self, Status> {
        let revision_match = match query.get("resourceVersionMatch") {
            None => None,
            Some("NotOlderThan") => Some(RevisionMatch::NotOlderThan),
            Some("Exact") => Some(RevisionMatch::Exact),
            Some(other) => {
                let detail = "supported values: \"Exact\", \"NotOlderThan\"";
                let cause = Cause {
                    field: "resourceVersionMatch".into(),
                    message: format!("Unsupported value: {other:?}: {detail}"),
                };
                return Err(Status::invalid_options("ListOptions", cause));
            }
        };
        let options = Self {
            selection: Selection {
                namespace: namespace.map(str::to_owned),
                labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?,
                fields: FieldSelector::parse(resource, query.get("fieldSelector").unwrap_or_default())?,
            },
            revision: revision(query.get("resourceVersion"))?,
            revision_match,
            limit: number(query, "limit")?.filter(|n| *n > 0).map(|n| n as usize),
            token: query.get("continue").map(str::to_owned),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents")),
            timeout: number(query, "timeoutSeconds")?,
        };
        options.check(query)?;
        Ok(options)
    }

    fn check(&self, query: &Query) -> Result<(), Status> {
        let refuse = |field: &str, why: &str| {
            Err(Status::invalid_options("ListOptions", Cause::forbidden(field, why)))
        };
        let watch = query.flag("watch");
        if self.initial_events.is_some() {
            if !watch {
                return refuse("sendInitialEvents", "sendInitialEvents is forbidden for list");
            }
            if self.revision_match != Some(RevisionMatch::NotOlderThan) {
                return refuse(
                    "sendInitialEvents",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
        }
        if self.revision_match.is_some() && watch && self.initial_events.is_none() {
            return refuse(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if self.revision_match.is_some() && !watch && self.token.is_some() {
            return refuse(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if self.revision_match.is_some() && !watch && self.revision.is_none() {
            return refuse(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if self.revision_match == Some(RevisionMatch::Exact) && matches!(self.revision, Some(0)) {
            return refuse(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
        Ok(())
    }
}

/// A `resourceVersion` as a client sends it; `None` when absent.
pub(crate) fn revision(text: Option<&str>) -> Result<Option<u64>, Status> {
    text.map(str::parse).transpose().map_err(|_| {
        Status::bad_request(format!(
            "Invalid value: {:?}: resourceVersion must be a number",
            text.unwrap_or_default()
        ))
    })
}

fn number(query: &Query, key: &str) -> Result<Option<u64>, Status> {
    let read = |text: &str| {
        text.parse()
            .map_err(|_| Status::bad_request(format!("{key}: {text:?} is not a number that is 0 or more")))
    };
    query.get(key).map(read).transpose()
}

/// What to do with fields that the kind does not have, or that appear twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them with a warning.
    Warn,
    /// Refuse.
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldValidation`; without it Kubernetes warns.
    pub field_validation: FieldValidation,
    /// `fieldManager`.
    pub manager: Option<String>,
    /// What the client calls itself: the first word of its `User-Agent`.
    pub client: String,
    /// `force`: an apply takes over the fields of others.
    pub force: bool,
}

impl WriteOptions {
    /// Reads the options of a write.
    ///
    /// # Errors
    /// 422 for values that do not exist.
    pub fn parse(kind: &'static str, query: &Query, headers: &HeaderMap) -> Result<Self, Status> {
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let message = format!(
                    "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                );
                return Err(Status::invalid_options(
                    kind,
                    Cause { field: "fieldValidation".into(), message },
                ));
            }
        };
        Ok(Self {
            dry_run: dry_run(kind, query.all("dryRun"))?,
            field_validation,
            manager: manager(kind, query)?,
            client: client(headers),
            force: query.flag("force"),
        })
    }

    /// As the registry takes them, for any write but an apply.
    pub fn intent(&self) -> Intent {
        let name = self.manager.clone().unwrap_or_else(|| self.client.clone());
        Intent { author: Author::Client(name), dry_run: self.dry_run }
    }
}

/// How long the name of a manager may be (apimachinery `FieldManagerMaxLength`).
const LONGEST_MANAGER: usize = 128;

fn manager(kind: &'static str, query: &Query) -> Result<Option<String>, Status> {
    let Some(name) = query.get("fieldManager") else { return Ok(None) };
    let message = if name.len() > LONGEST_MANAGER {
        format!("Too long: may not be more than {LONGEST_MANAGER} bytes")
    } else if name.chars().any(char::is_control) {
        format!("Invalid value: {name:?}: should only contain printable characters")
    } else {
        return Ok(Some(name.to_owned()));
    };
    Err(Status::invalid_options(kind, Cause { field: "fieldManager".into(), message }))
}

fn client(headers: &HeaderMap) -> String {
    let agent = headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name: String = agent.split('/').next().unwrap_or_default().chars().take(LONGEST_MANAGER).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

fn dry_run<'a>(kind: &'static str, values: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut found = false;
    for value in values {
        if value != "All" {
            let message = format!("Unsupported value: {value:?}: supported values: \"All\"");
            return Err(Status::invalid_options(kind, Cause { field: "dryRun".into(), message }));
        }
        found = true;
    }
    Ok(found)
}

/// `propagationPolicy`: what becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after their owner.
    Background,
    /// They are deleted before their owner.
    Foreground,
    /// They stay and forget their owner.
    Orphan,
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Copy)]
pub struct DeleteOptions<'a> {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `gracePeriodSeconds`.
    pub grace: Option<i64>,
    /// `propagationPolicy`, or the older `orphanDependents`.
    pub propagation: Option<Propagation>,
    /// `preconditions.uid`.
    pub uid: Option<&'a str>,
    /// `preconditions.resourceVersion`.
    pub revision: Option<&'a str>,
}

impl<'a> DeleteOptions<'a> {
    /// Reads the options from the body, or from the query where there is no body.
    ///
    /// # Errors
    /// 400 or 422 for what cannot be read.
    pub fn parse(query: &Query, body: &'a Value) -> Result<Self, Status> {
        const KIND: &str = "DeleteOptions";
        let from_body = body.is_object();
        let grace = match &body["gracePeriodSeconds"] {
            Value::Null if !from_body => query.get("gracePeriodSeconds").map(str::parse).transpose().ok(),
            Value::Null => Some(None),
            number => number.as_i64().map(Some),
        };
        let grace = grace.ok_or_else(|| Status::bad_request("gracePeriodSeconds must be a whole number"))?;
        let policy =
            if from_body { body["propagationPolicy"].as_str() } else { query.get("propagationPolicy") };
        let propagation = match policy {
            None if body["orphanDependents"] == true || query.flag("orphanDependents") => {
                Some(Propagation::Orphan)
            }
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let message = format!(
                    "Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                );
                return Err(Status::invalid_options(
                    KIND,
                    Cause { field: "propagationPolicy".into(), message },
                ));
            }
        };
        let in_body = body["dryRun"].as_array().into_iter().flatten().map(|v| v.as_str().unwrap_or_default());
        let dry_run = dry_run(KIND, in_body)? | dry_run(KIND, query.all("dryRun"))?;
        let preconditions = &body["preconditions"];
        Ok(Self {
            dry_run,
            grace,
            propagation,
            uid: preconditions["uid"].as_str(),
            revision: preconditions["resourceVersion"].as_str(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(query: &str) -> Result<ListOptions, Status> {
        ListOptions::parse(Resource::core("pods"), None, &Query::parse(Some(query)))
    }

    #[test]
    fn combinations_that_kubernetes_forbids_are_refused() {
        for query in [
            "resourceVersionMatch=Exact",
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch=Newest&resourceVersion=1",
            "resourceVersionMatch=NotOlderThan&resourceVersion=1&watch=1",
            "sendInitialEvents=true",
            "sendInitialEvents=true&watch=true",
        ] {
            assert_eq!(list(query).expect_err(query).code, 422, "{query}");
        }
        for query in ["resourceVersion=x", "limit=-1", "timeoutSeconds=soon"] {
            assert_eq!(list(query).expect_err(query).code, 400, "{query}");
        }
        assert!(list("sendInitialEvents=true&watch=true&resourceVersionMatch=NotOlderThan").is_ok());
        assert_eq!(list("limit=0").expect("readable").limit, None);
    }

    #[test]
    fn delete_options_come_from_the_body_or_the_query() {
        let query = Query::parse(Some("gracePeriodSeconds=5&propagationPolicy=Orphan"));
        let options = DeleteOptions::parse(&query, &Value::Null).expect("readable");
        assert_eq!((options.grace, options.propagation), (Some(5), Some(Propagation::Orphan)));
        let body = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background", "dryRun": ["All"],
            "preconditions": {"uid": "u"}});
        let options = DeleteOptions::parse(&Query::default(), &body).expect("readable");
        assert_eq!((options.grace, options.propagation), (Some(0), Some(Propagation::Background)));
        assert!(options.dry_run && options.uid == Some("u"));
        let bad = json!({"gracePeriodSeconds": "x"});
        assert_eq!(DeleteOptions::parse(&Query::default(), &bad).expect_err("bad").code, 400);
    }

    #[test]
    fn a_dry_run_of_anything_but_all_is_refused() {
        let parse = |q| WriteOptions::parse("CreateOptions", &Query::parse(Some(q)), &HeaderMap::new());
        assert!(parse("dryRun=All").expect("readable").dry_run);
        assert_eq!(parse("dryRun=Some").expect_err("unknown").code, 422);
        assert_eq!(parse("fieldValidation=Loose").expect_err("unknown").code, 422);
    }

    #[test]
    fn a_manager_has_a_printable_name_or_that_of_its_program() {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static("kubectl/v1.37.0 (linux)"));
        let parse = |q| WriteOptions::parse("PatchOptions", &Query::parse(Some(q)), &headers);
        let author = |q| parse(q).expect("readable").intent().author;
        assert_eq!(author(""), Author::Client("kubectl".into()));
        assert_eq!(author("fieldManager=me"), Author::Client("me".into()));
        let long = format!("fieldManager={}", "x".repeat(129));
        for query in ["fieldManager=a%0ab", &long] {
            assert_eq!(parse(query).expect_err("refused").code, 422, "{query}");
        }
    }
}
