//! What other processes say.

use kilter_wire::{control, decode, encode, loaded, plugin, read_message};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A CNI invocation: lines `VARIABLE=VALUE`, an empty line, and standard input.
pub fn cni(bytes: &[u8]) {
    let end = bytes.windows(2).position(|it| it == b"\n\n");
    let (environment, input) = end.map_or((&[][..], bytes), |at| (&bytes[..at], &bytes[at + 2..]));
    let environment = String::from_utf8_lossy(environment);
    let variable = |name: &str| {
        environment
            .lines()
            .filter_map(|it| it.split_once('='))
            .find(|it| it.0 == name)
            .map(|it| it.1.to_owned())
    };
    let output = kilter_cni::run(variable, &without_agent(input));
    // What a runtime reads is JSON, whatever it sent.
    if let Some(text) = output.to_json() {
        serde_json::from_str::<Value>(&text).expect("the plugin prints JSON");
    }
}

/// The input with the agent's socket where there is none.
fn without_agent(input: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(input) {
        Ok(Value::Object(mut fields)) => {
            if let Some(socket) = fields.get_mut("agentSocket").filter(|it| it.is_string()) {
                *socket = "/nowhere/kilter".into();
            }
            Value::Object(fields).to_string().into_bytes()
        }
        _ => input.to_vec(),
    }
}

/// Every message between Kilter's processes: what is read can be written, and is then the same.
pub fn wire(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(_)) = read_message::<Value>(&mut rest) {}
    there_and_back::<control::Request>(bytes);
    there_and_back::<control::Reply>(bytes);
    there_and_back::<plugin::Request>(bytes);
    there_and_back::<plugin::Reply>(bytes);
    there_and_back::<loaded::Loaded>(bytes);
}

fn there_and_back<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = decode::<T>(bytes) else { return };
    let once = encode(&message).expect("what was read can be written");
    let again: T = decode(&once).expect("what was written can be read");
    assert_eq!(encode(&again).expect("what was read can be written"), once);
}
