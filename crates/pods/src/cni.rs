//! Calls CNI plugins as a container runtime does (CNI 1.1, "Section 2: Execution Protocol" and
//! "Section 3: Execution of Network Configurations"): environment and standard input in, JSON out.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kilter_wire::cni::{CniError, CniResult, code};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A plugin that has not answered by then is killed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The interface made in every pod.
const INTERFACE: &str = "eth0";

/// Why a plugin call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not one that a runtime could use.
    #[error("network configuration: {0}")]
    Configuration(&'static str),
    /// The plugin could not be run.
    #[error("run CNI plugin {plugin}")]
    Run {
        /// The plugin's path.
        plugin: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The plugin took longer than a minute.
    #[error("CNI plugin {plugin} did not finish {command} within {}s", DEADLINE.as_secs())]
    Deadline {
        /// The plugin's type.
        plugin: String,
        /// `CNI_COMMAND`.
        command: &'static str,
    },
    /// The plugin answered with an error.
    #[error("plugin type=\"{plugin}\" failed ({command}): {}{}", error.msg, details(error))]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// `CNI_COMMAND`.
        command: &'static str,
        /// What it said.
        error: CniError,
    },
    /// The plugin ended badly and said nothing that can be read.
    #[error("plugin type=\"{plugin}\" failed ({command}) with {status}: {said}")]
    Unreadable {
        /// The plugin's type.
        plugin: String,
        /// `CNI_COMMAND`.
        command: &'static str,
        /// Its exit status.
        status: String,
        /// The beginning of what it printed.
        said: String,
    },
}

fn details(error: &CniError) -> String {
    if error.details.is_empty() { String::new() } else { format!("; {}", error.details) }
}

impl Error {
    /// Whether the plugin asks to be called again soon (code 11).
    pub fn try_again(&self) -> bool {
        matches!(self, Error::Plugin { error, .. } if error.code == code::TRY_AGAIN_LATER)
    }
}

/// The container that a call is about.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// `CNI_CONTAINERID`.
    pub container_id: &'a str,
    /// `CNI_NETNS`; `None` at a DEL after the namespace is gone.
    pub netns: Option<&'a Path>,
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// The pod's UID.
    pub uid: &'a str,
}

/// A network configuration and where its plugins are.
#[derive(Debug, Clone)]
pub struct Cni {
    directory: PathBuf,
    version: Value,
    name: Value,
    plugins: Vec<Value>,
}

/// What ADD achieved.
#[derive(Debug, Clone)]
pub struct Added {
    /// The pod's addresses, in the order in which the plugin gave them.
    pub addresses: Vec<IpAddr>,
    /// The result as it was printed, for DEL.
    pub result: Value,
}

impl Cni {
    /// A configuration (`.conf`: one plugin) or a list (`.conflist`: a chain), and the directory
    /// that holds the plugins' programs.
    pub fn new(directory: PathBuf, configuration: &Value) -> Result<Self, Error> {
        let name = configuration.get("name").filter(|name| name.is_string());
        let name = name.ok_or(Error::Configuration("it has no \"name\""))?.clone();
        let plugins = match configuration.get("plugins") {
            Some(Value::Array(list)) => list.clone(),
            Some(_) => return Err(Error::Configuration("\"plugins\" is not a list")),
            None => vec![configuration.clone()],
        };
        if plugins.is_empty() {
            return Err(Error::Configuration("\"plugins\" is empty"));
        }
        if plugins.iter().any(|plugin| plugin_type(plugin).is_none()) {
            return Err(Error::Configuration(
                "a plugin has no \"type\", or one that is not a plain file name",
            ));
        }
        let version = configuration.get("cniVersion").cloned().unwrap_or_else(|| json!("1.1.0"));
        Ok(Self { directory, version, name, plugins })
    }

    /// Wires a container: every plugin in order, each with the result of the one before.
    pub async fn add(&self, attachment: Attachment<'_>) -> Result<Added, Error> {
        let mut result: Option<Value> = None;
        for plugin in &self.plugins {
            result = self.call("ADD", plugin, attachment, result.as_ref()).await?.or(result);
        }
        let result = result.unwrap_or_default();
        Ok(Added { addresses: addresses(&result), result })
    }

    /// Unwires it: every plugin in reverse order, each with the final result of ADD, if known.
    pub async fn del(&self, attachment: Attachment<'_>, result: Option<&Value>) -> Result<(), Error> {
        for plugin in self.plugins.iter().rev() {
            self.call("DEL", plugin, attachment, result).await?;
        }
        Ok(())
    }

    async fn call(
        &self,
        command: &'static str,
        plugin: &Value,
        attachment: Attachment<'_>,
        previous: Option<&Value>,
    ) -> Result<Option<Value>, Error> {
        let kind = plugin_type(plugin).unwrap_or_default().to_owned();
        let program = self.directory.join(&kind);
        let input = self.configuration_for(plugin, previous).to_string();
        let run = |source| Error::Run { plugin: program.display().to_string(), source };
        let mut child = self.command(command, &program, attachment).spawn().map_err(run)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that does not read its input has its own error to tell.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = match tokio::time::timeout(DEADLINE, child.wait_with_output()).await {
            Ok(output) => output.map_err(run)?,
            Err(_) => return Err(Error::Deadline { plugin: kind, command }),
        };
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).ok());
        }
        match serde_json::from_slice::<CniError>(&output.stdout) {
            Ok(error) => Err(Error::Plugin { plugin: kind, command, error }),
            Err(_) => Err(Error::Unreadable {
                plugin: kind,
                command,
                status: output.status.to_string(),
                said: beginning(&output.stdout, &output.stderr),
            }),
        }
    }

    fn command(&self, command: &str, program: &Path, attachment: Attachment<'_>) -> Command {
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            attachment.namespace, attachment.name, attachment.container_id, attachment.uid
        );
        let mut child = Command::new(program);
        child
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", attachment.container_id)
            .env("CNI_NETNS", attachment.netns.unwrap_or(Path::new("")))
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_ARGS", arguments)
            .env("CNI_PATH", &self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        child
    }

    fn configuration_for(&self, plugin: &Value, previous: Option<&Value>) -> Value {
        let mut configuration = plugin.clone();
        configuration["cniVersion"] = self.version.clone();
        configuration["name"] = self.name.clone();
        if let Some(previous) = previous {
            configuration["prevResult"] = previous.clone();
        }
        configuration
    }
}

/// The plugin's program name. One with a slash would leave the plugin directory.
fn plugin_type(plugin: &Value) -> Option<&str> {
    plugin.get("type")?.as_str().filter(|kind| !kind.is_empty() && !kind.contains('/'))
}

fn addresses(result: &Value) -> Vec<IpAddr> {
    let Ok(result) = serde_json::from_value::<CniResult>(result.clone()) else {
        // Results of other plugins may leave out lists that ours always has.
        let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
        return ips.filter_map(|ip| parse_address(ip.get("address")?.as_str()?)).collect();
    };
    result.ips.iter().filter_map(|ip| parse_address(&ip.address)).collect()
}

fn parse_address(cidr: &str) -> Option<IpAddr> {
    cidr.split('/').next()?.parse().ok()
}

fn beginning(stdout: &[u8], stderr: &[u8]) -> String {
    let said = if stderr.is_empty() { stdout } else { stderr };
    String::from_utf8_lossy(&said[..said.len().min(500)]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment<'static> {
        let netns = Some(Path::new("/proc/1/ns/net"));
        Attachment { container_id: "c1", netns, namespace: "shop", name: "web-0", uid: "u1" }
    }

    /// A directory with a plugin, a shell script, of this name. Another process writes it: while
    /// this one had it open for writing, a concurrent test's fork would make it "text file busy".
    fn with_plugin(name: &str, script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display());
        let written = std::process::Command::new("/bin/sh")
            .args(["-c", r#"printf %s "$1" > "$0" && chmod 755 "$0""#])
            .arg(dir.path().join(name))
            .arg(text)
            .status();
        assert!(written.unwrap().success());
        dir
    }

    fn chain(dir: &tempfile::TempDir, plugins: Value) -> Cni {
        let list = json!({"cniVersion": "1.1.0", "name": "net", "plugins": plugins});
        Cni::new(dir.path().to_path_buf(), &list).unwrap()
    }

    #[tokio::test]
    async fn a_plugin_gets_environment_and_configuration_and_its_addresses_are_read() {
        let dir = with_plugin(
            "fake",
            r#"cat > stdin; env | grep CNI_ | sort > env
            echo '{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.7/32"}]}'"#,
        );
        let added =
            chain(&dir, json!([{"type": "fake", "agentSocket": "/run/x"}])).add(attachment()).await.unwrap();
        assert_eq!(added.addresses, ["10.244.1.7".parse::<IpAddr>().unwrap()]);
        let stdin: Value = serde_json::from_slice(&std::fs::read(dir.path().join("stdin")).unwrap()).unwrap();
        assert_eq!(
            stdin,
            json!({"type": "fake", "agentSocket": "/run/x", "cniVersion": "1.1.0", "name": "net"})
        );
        let env = std::fs::read_to_string(dir.path().join("env")).unwrap();
        assert!(
            env.contains("CNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\nCNI_NETNS=/proc/1/ns/net")
        );
        assert!(env.contains("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;") && env.contains("K8S_POD_UID=u1"));
    }

    #[tokio::test]
    async fn a_chain_passes_results_on_and_is_undone_backwards() {
        let dir = with_plugin(
            "fake",
            r#"stdin=$(cat); echo "$CNI_COMMAND $stdin" >> calls
            echo '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.1/24"}],"interfaces":[],"routes":[],"dns":{}}'"#,
        );
        let cni = chain(&dir, json!([{"type": "fake", "n": 1}, {"type": "fake", "n": 2}]));
        let added = cni.add(attachment()).await.unwrap();
        cni.del(attachment(), Some(&added.result)).await.unwrap();
        let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
        let seen: Vec<_> = calls
            .lines()
            .map(|line| {
                let (command, stdin) = line.split_once(' ').unwrap();
                let stdin: Value = serde_json::from_str(stdin).unwrap();
                (command.to_owned(), stdin["n"].as_u64().unwrap(), stdin.get("prevResult").is_some())
            })
            .collect();
        let expected = [("ADD", 1, false), ("ADD", 2, true), ("DEL", 2, true), ("DEL", 1, true)];
        assert_eq!(seen, expected.map(|(command, n, previous)| (command.to_owned(), n, previous)));
    }

    #[tokio::test]
    async fn errors_are_the_plugins_own_words_and_code_11_asks_for_a_retry() {
        let dir = with_plugin(
            "fake",
            r#"echo '{"cniVersion":"1.1.0","code":11,"msg":"policy is not loaded yet","details":"pods"}'; exit 1"#,
        );
        let error = chain(&dir, json!([{"type": "fake"}])).add(attachment()).await.unwrap_err();
        assert!(error.try_again());
        assert_eq!(error.to_string(), "plugin type=\"fake\" failed (ADD): policy is not loaded yet; pods");

        let dir = with_plugin("fake", "echo broken >&2; exit 3");
        let error = chain(&dir, json!([{"type": "fake"}])).add(attachment()).await.unwrap_err();
        assert!(!error.try_again());
        assert_eq!(error.to_string(), "plugin type=\"fake\" failed (ADD) with exit status: 3: broken");
    }

    #[test]
    fn configurations_that_name_no_plugin_are_refused() {
        for bad in [
            json!({}),
            json!({"name": "n"}),
            json!({"name": "n", "plugins": []}),
            json!({"name": "n", "type": "../sh"}),
        ] {
            assert!(Cni::new(PathBuf::from("/opt/cni/bin"), &bad).is_err(), "{bad}");
        }
    }
}
