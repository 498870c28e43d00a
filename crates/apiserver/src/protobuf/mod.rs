//! Reading Kubernetes' protobuf: typed Go clients, `kubectl create` among them, send it and take no
//! refusal. Answers are JSON, which the same clients accept.

mod decode;
mod schema;
mod wire;

use serde_json::Value;

use decode::message;
use wire::Fields;

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every document begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin as it must.
    #[error("it does not begin with the Kubernetes protobuf prefix")]
    Prefix,
    /// It ends too early, or a number is too long.
    #[error("it is cut short or malformed")]
    Malformed,
    /// Text that is not UTF-8, or a time or embedded JSON that is none.
    #[error("field {0} has a value that cannot be read")]
    BadValue(String),
    /// Messages within messages, too deep.
    #[error("it is nested too deeply")]
    TooDeep,
    /// A message or field that this server does not know.
    #[error("{0} is not known")]
    Unknown(String),
}

/// Reads a document: an envelope with `apiVersion` and `kind`, and the object.
///
/// # Errors
/// Bytes that are no such document, kinds and fields that are not known.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(Error::Prefix)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields::new(envelope) {
        match field? {
            (1, value) => {
                for field in Fields::new(value.bytes()?) {
                    match field? {
                        (1, value) => api_version = value.text("apiVersion")?,
                        (2, value) => kind = value.text("kind")?,
                        _ => {}
                    }
                }
            }
            (2, value) => raw = value.bytes()?,
            (_, value) if value.bytes()?.is_empty() => {}
            _ => return Err(Error::Unknown("an encoding within the envelope".to_owned())),
        }
    }
    let mut object = message(&message_name(&api_version, &kind), raw, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

/// `networking.k8s.io/v1` NetworkPolicy is `networking.v1.NetworkPolicy`.
fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta.v1.DeleteOptions".to_owned();
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = group.split('.').next().unwrap_or_default();
    format!("{package}.{version}.{kind}")
}

#[cfg(test)]
mod tests;
