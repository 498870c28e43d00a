//! What is beyond a twin's nodes: its fabric and its internet.

use std::process::{Command, Output};

use kilter_twin::Layout;

use super::Twin;

impl Twin {
    /// Runs a command in one of the twin's namespaces.
    pub fn inside(&self, namespace: &str, command: &str) -> Output {
        let netns = format!("--net={}", Layout::new(&self.name).node_namespace(namespace).display());
        Command::new("nsenter").arg(netns).args(["sh", "-c", command]).output().expect("nsenter runs")
    }

    /// Whether an address answers the internet.
    pub fn answers(&self, address: &str) -> bool {
        self.inside("internet", &format!("curl -sg --max-time 2 http://{address}/")).status.success()
    }

    /// The node whose hardware address the fabric knows an address under.
    pub fn answering(&self, address: &str) -> Option<String> {
        let known = text(&self.inside("fabric", &format!("ip neigh show {address} dev br0")));
        let mac = known.split_whitespace().skip_while(|word| *word != "lladdr").nth(1)?.to_owned();
        let nodes = self.kubectl(&["get", "nodes", "-o", "name"]);
        let mut names = nodes.lines().map(|line| line.trim_start_matches("node/").to_owned());
        names.find(|node| text(&self.inside(node, "ip -o link show eth0")).contains(&mac))
    }
}

/// What a command has printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
