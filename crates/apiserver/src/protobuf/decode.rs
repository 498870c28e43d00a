use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Error;
use super::schema::{self, Field, Mark};
use super::wire::{Fields, Wire, varint};
use crate::pki::base64;

/// As deep as JSON may be.
const DEPTH: usize = 100;

/// Reads a message into the fields of a JSON object.
pub fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Error> {
    if depth > DEPTH {
        return Err(Error::TooDeep);
    }
    let schema = schema::message(name).ok_or_else(|| Error::Unknown(format!("message {name}")))?;
    let mut out = Map::new();
    for field in Fields::new(bytes) {
        let (number, wire) = field?;
        let field = schema.get(&number).ok_or_else(|| Error::Unknown(format!("field {number} of {name}")))?;
        read(&mut out, field, wire, depth)?;
    }
    Ok(out)
}

fn read(out: &mut Map<String, Value>, field: &Field, wire: Wire<'_>, depth: usize) -> Result<(), Error> {
    match field.mark {
        Mark::Inline => out.extend(message(field.kind, wire.bytes()?, depth + 1)?),
        Mark::Repeated => {
            let values = list(field, wire, depth)?;
            match out.entry(field.json).or_insert_with(|| Value::Array(vec![])) {
                Value::Array(items) => items.extend(values),
                _ => return Err(Error::Malformed),
            }
        }
        Mark::Map => {
            let (key, value) = entry(field, wire, depth)?;
            match out.entry(field.json).or_insert_with(|| Value::Object(Map::new())) {
                Value::Object(map) => map.insert(key, value),
                _ => return Err(Error::Malformed),
            };
        }
        Mark::Pointer | Mark::Plain => {
            let value = value(field, wire, depth)?;
            let empty = match field.mark {
                Mark::Plain => is_zero(&value),
                _ => value.is_null(),
            };
            if !empty {
                out.insert(field.json.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// What a Go client writes although nobody has set it.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(it) => !it,
        Value::Number(it) => it.as_i64() == Some(0),
        Value::String(it) => it.is_empty(),
        Value::Array(it) => it.is_empty(),
        Value::Object(it) => it.is_empty(),
    }
}

/// One item of a list; or several, where numbers are packed.
fn list(field: &Field, wire: Wire<'_>, depth: usize) -> Result<Vec<Value>, Error> {
    match (field.kind, wire) {
        ("int32" | "int64" | "bool", Wire::Bytes(mut packed)) => {
            let mut values = Vec::new();
            while !packed.is_empty() {
                values.push(value(field, Wire::Varint(varint(&mut packed)?), depth)?);
            }
            Ok(values)
        }
        (_, wire) => Ok(vec![value(field, wire, depth)?]),
    }
}

fn entry(field: &Field, wire: Wire<'_>, depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut found) = (String::new(), None);
    for part in Fields::new(wire.bytes()?) {
        match part? {
            (1, wire) => key = wire.text(field.json)?,
            (2, wire) => found = Some(value(field, wire, depth)?),
            _ => return Err(Error::Malformed),
        }
    }
    Ok((key, found.unwrap_or_else(|| "".into())))
}

fn value(field: &Field, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    let bad = || Error::BadValue(field.json.to_owned());
    match (field.kind, wire) {
        ("string", wire) => Ok(wire.text(field.json)?.into()),
        ("bytes", wire) => Ok(base64(wire.bytes()?).into()),
        ("bool", Wire::Varint(it)) => Ok((it != 0).into()),
        // Negative numbers are sign-extended to 64 bits, so both read alike.
        ("int32" | "int64", Wire::Varint(it)) => Ok(it.cast_signed().into()),
        ("double", Wire::Fixed64(it)) => Ok(f64::from_bits(it).into()),
        ("meta.v1.Time", wire) => time(wire.bytes()?, false).ok_or_else(bad),
        ("meta.v1.MicroTime", wire) => time(wire.bytes()?, true).ok_or_else(bad),
        ("resource.Quantity", wire) => first(wire.bytes()?, field.json),
        ("intstr.IntOrString", wire) => int_or_string(wire.bytes()?, field.json),
        ("meta.v1.FieldsV1" | "runtime.RawExtension", wire) => embedded(wire.bytes()?).ok_or_else(bad),
        (name, Wire::Bytes(bytes)) => Ok(Value::Object(message(name, bytes, depth + 1)?)),
        _ => Err(Error::Malformed),
    }
}

/// Seconds and nanoseconds; an empty message is no time at all.
fn time(bytes: &[u8], micro: bool) -> Option<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for part in Fields::new(bytes) {
        match part.ok()? {
            (1, Wire::Varint(it)) => seconds = it.cast_signed(),
            (2, Wire::Varint(it)) => nanos = i32::try_from(it.cast_signed()).ok()?,
            _ => return None,
        }
    }
    if seconds == 0 && nanos == 0 {
        return Some(Value::Null);
    }
    let moment = Timestamp::new(seconds, nanos).ok()?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Some(moment.strftime(format).to_string().into())
}

/// The text in field 1.
fn first(bytes: &[u8], name: &str) -> Result<Value, Error> {
    match Fields::new(bytes).next() {
        None => Ok(Value::Null),
        Some(field) => match field? {
            (1, wire) => Ok(wire.text(name)?.into()),
            _ => Err(Error::Malformed),
        },
    }
}

fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, Error> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for part in Fields::new(bytes) {
        match part? {
            (1, Wire::Varint(it)) => is_text = it == 1,
            (2, Wire::Varint(it)) => number = it.cast_signed(),
            (3, wire) => text = wire.text(name)?,
            _ => return Err(Error::Malformed),
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// JSON in field 1.
fn embedded(bytes: &[u8]) -> Option<Value> {
    match Fields::new(bytes).next() {
        None => Some(Value::Null),
        Some(field) => match field.ok()? {
            (1, wire) => match wire.bytes().ok()? {
                [] => Some(Value::Null),
                json => serde_json::from_slice(json).ok(),
            },
            _ => None,
        },
    }
}
