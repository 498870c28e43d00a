//! In which form a client wants its answer.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::status::Status;

/// The forms of an object or a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    Object,
    /// `meta.k8s.io/v1` Table: what `kubectl get` prints.
    Table,
    /// Only the metadata.
    Metadata,
}

/// The forms of discovery documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// One document per group and version.
    Legacy,
    /// Everything at once: `apidiscovery.k8s.io/v2`.
    Aggregated,
}

/// One clause of an Accept header: its media type and the parameters that matter here.
struct Clause<'a> {
    media_type: &'a str,
    r#as: &'a str,
    group: &'a str,
    version: &'a str,
}

impl Clause<'_> {
    fn is_json(&self) -> bool {
        matches!(self.media_type, "application/json" | "*/*" | "application/*" | "")
    }
}

fn clauses(headers: &HeaderMap) -> impl Iterator<Item = Clause<'_>> {
    let values = headers.get_all(ACCEPT).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(|text| {
        let mut parts = text.split(';').map(str::trim);
        let mut clause =
            Clause { media_type: parts.next().unwrap_or_default(), r#as: "", group: "", version: "" };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key {
                "as" => clause.r#as = value,
                "g" => clause.group = value,
                "v" => clause.version = value,
                _ => {}
            }
        }
        clause
    })
}

/// The first form in the client's order that exists here: a client that prefers protobuf and also
/// takes JSON gets JSON.
///
/// # Errors
/// 406 where nothing of what the client takes exists.
pub fn form(headers: &HeaderMap) -> Result<Form, Status> {
    let mut asked = false;
    for clause in clauses(headers) {
        asked = true;
        if !clause.is_json() {
            continue;
        }
        match (clause.r#as, clause.group, clause.version) {
            ("", ..) => return Ok(Form::Object),
            ("Table", "meta.k8s.io", "v1") => return Ok(Form::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                return Ok(Form::Metadata);
            }
            _ => {}
        }
    }
    if asked { Err(Status::not_acceptable("application/json")) } else { Ok(Form::Object) }
}

/// Which discovery document a client wants.
///
/// # Errors
/// 406 where nothing of what the client takes exists.
pub fn discovery(headers: &HeaderMap) -> Result<Discovery, Status> {
    let mut asked = false;
    for clause in clauses(headers) {
        asked = true;
        if !clause.is_json() {
            continue;
        }
        match (clause.r#as, clause.group, clause.version) {
            ("", ..) => return Ok(Discovery::Legacy),
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => return Ok(Discovery::Aggregated),
            _ => {}
        }
    }
    if asked { Err(Status::not_acceptable("application/json")) } else { Ok(Discovery::Legacy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, accept.parse().expect("a header value"))])
    }

    #[test]
    fn the_first_form_that_exists_wins() {
        let cases = [
            ("application/vnd.kubernetes.protobuf, application/json", Form::Object),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Form::Table,
            ),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Form::Object),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Form::Metadata),
            ("*/*", Form::Object),
        ];
        for (accept, expected) in cases {
            assert_eq!(form(&headers(accept)).expect(accept), expected, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()).expect("no header"), Form::Object);
        assert_eq!(form(&headers("application/vnd.kubernetes.protobuf")).expect_err("protobuf").code, 406);
    }

    #[test]
    fn aggregated_discovery_is_asked_for_by_parameters() {
        let aggregated =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(discovery(&headers(aggregated)).expect("ok"), Discovery::Aggregated);
        assert_eq!(discovery(&headers("application/json")).expect("ok"), Discovery::Legacy);
    }
}
