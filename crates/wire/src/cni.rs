//! CNI 1.1 as JSON (<https://github.com/containernetworking/cni/blob/main/SPEC.md>): network
//! configuration in, result or error out.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Versions of the specification that Kilter speaks, oldest first.
pub const SUPPORTED_VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

/// The version used when a configuration names none (SPEC, section 1).
pub const CURRENT_VERSION: &str = "1.1.0";

/// The network configuration on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    /// The version of the specification to answer in.
    #[serde(default)]
    pub cni_version: String,
    /// The network's name.
    #[serde(default)]
    pub name: String,
    /// The plugin's name: `kilter-cni`.
    #[serde(rename = "type", default)]
    pub plugin: String,
    /// Where the node's agent listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_socket: Option<String>,
    /// The result of the plugin before this one in a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_result: Option<Value>,
    /// GC: the attachments of this network that live; all others are to go.
    #[serde(
        rename = "cni.dev/valid-attachments",
        default,
        deserialize_with = "null_is_none_of_them",
        skip_serializing_if = "Option::is_none"
    )]
    pub valid_attachments: Option<Vec<Attachment>>,
    /// Everything else, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A container's interface in a network, as GC names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// libcni writes a list of nothing as `null`; that there is no list at all is something else.
fn null_is_none_of_them<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Attachment>>, D::Error> {
    nullable(from).map(Some)
}

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The result of a successful ADD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CniResult {
    /// The version answered in.
    pub cni_version: String,
    /// Interfaces made, on the host and in the container.
    #[serde(default, deserialize_with = "nullable")]
    pub interfaces: Vec<Interface>,
    /// Addresses assigned.
    #[serde(default, deserialize_with = "nullable")]
    pub ips: Vec<IpConfig>,
    /// Routes set.
    #[serde(default, deserialize_with = "nullable")]
    pub routes: Vec<Route>,
    /// Name servers and search path; empty: the runtime decides.
    #[serde(default)]
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, `aa:bb:cc:dd:ee:ff`.
    #[serde(default)]
    pub mac: String,
    /// Its MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace it is in; empty on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Address and prefix length, `10.0.0.2/32`.
    pub address: String,
    /// The gateway of this address's subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index into `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination in CIDR form.
    pub dst: String,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

/// Name service of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
}

/// A failure, as the specification wants it printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CniError {
    /// The version answered in.
    pub cni_version: String,
    /// See [`code`].
    pub code: u32,
    /// One short sentence.
    pub msg: String,
    /// What to do about it, or what was underneath.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

/// Error codes of SPEC, "Error"; 100 and above are the plugin's own.
pub mod code {
    /// The version in the configuration is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or gone; the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// `CNI_*` variables are missing or wrong.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// I/O failed.
    pub const IO: u32 = 5;
    /// The configuration could not be decoded.
    pub const DECODE: u32 = 6;
    /// The configuration is wrong.
    pub const INVALID_CONFIG: u32 = 7;
    /// Try again later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: the plugin cannot service ADD.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: nor may the containers that run reach all they should.
    pub const LIMITED_CONNECTIVITY: u32 = 51;
    /// The agent refused for a reason of its own (no address left, a link in the way).
    pub const AGENT: u32 = 100;
    /// CHECK: something of the attachment is missing or different.
    pub const CHECK_FAILED: u32 = 101;
}
