//! Looking at a twin that runs, and breaking it on purpose.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Twin, describe, example};

/// `kilter flows --follow -o json`, line by line.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Follower {
    fn start(twin: &Twin, args: &[&str]) -> Self {
        let mut command = twin.command(&["flows", "--follow", "-o", "json"]);
        let mut child = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).expect("one JSON object a line"));
            }
        });
        Self { child, lines }
    }

    /// Does `act` until something that `wanted` recognises is told: following begins some time after
    /// the program has started.
    fn sees(&self, act: impl Fn(), wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            act();
            let until = Instant::now() + Duration::from_millis(500);
            while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                if wanted(&line) {
                    return line;
                }
            }
        }
        panic!("it was never told");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_between(line: &Value, from: &str, to: &str) -> bool {
    let is = |party: &Value, workload: &str| {
        party["name"].as_str().is_some_and(|name| name.starts_with(&format!("shop/{workload}-")))
    };
    is(&line["from"], from) && is(&line["to"], to)
}

#[test]
fn flows_tell_what_is_open_what_opens_and_what_was_refused_by_which_rule() {
    let twin = Twin::named("flows");
    twin.up(&[&example("shop")]);
    let curl = |workload: &str| {
        let (target, seconds) = (format!("deploy/{workload}"), "0.3");
        twin.try_kubectl(&["exec", "-n", "shop", &target, "--", "curl", "-sm", seconds, "http://payments/"]);
    };

    let follower = Follower::start(&twin, &["--to", "payments"]);
    let opened = follower.sees(
        || curl("cart"),
        |line| line["what"] == "opened" && line["direction"] == "ingress" && is_between(line, "cart", "payments"),
    );
    assert!(opened["rule"].as_str().unwrap().contains("ingress rule 1 of NetworkPolicy shop/payments"), "{opened}");
    let dropped = follower.sees(
        || curl("storefront"),
        |line| line["what"] == "dropped" && is_between(line, "storefront", "payments"),
    );
    assert!(dropped["rule"].as_str().unwrap().contains("isolated for egress by"), "{dropped}");
    drop(follower);

    let recent = twin.kilter(&["flows", "--drops", "--from", "shop/storefront", "--to", "payments"]);
    assert!(recent.status.success(), "{}", describe(&recent));
    let text = String::from_utf8_lossy(&recent.stdout);
    assert!(text.lines().count() > 0 && text.lines().all(|line| line.contains("NetworkPolicy shop/storefront")), "{text}");

    let open = twin.kilter(&["flows", "--from", "cart", "--to", "payments", "--protocol", "tcp", "-o", "json"]);
    let open: Value = serde_json::from_slice(&open.stdout).unwrap();
    let joined = &open.as_array().unwrap()[0];
    assert!(joined["egress"].is_string() && joined["ingress"].is_string(), "both sides' rules: {joined}");

    let unknown = twin.kilter(&["flows", "--node", "node-9"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("node-1, node-2, node-3"));
}

#[test]
fn what_is_broken_on_purpose_shows_and_heals() {
    let twin = Twin::named("chaos");
    twin.up(&[&example("shop")]);
    let chaos = |args: &[&str]| {
        let output = twin.kilter(&[&["chaos"], args].concat());
        assert!(output.status.success(), "kilter chaos {args:?}: {}", describe(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let disagreements = || {
        let output = twin.kilter(&["verify", "-o", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        report["disagreements"].as_u64().unwrap()
    };

    chaos(&["cut-link", "node-1", "node-2"]);
    assert!(disagreements() > 0, "packets between two nodes are lost");
    assert_eq!(chaos(&["list"]), "node-1 and node-2 do not reach each other\n");
    assert!(chaos(&["heal"]).contains("all is well again"));
    assert_eq!(chaos(&["list"]), "nothing is broken on purpose\n");

    assert!(chaos(&["cut-node", "node-3", "--for", "0.5"]).contains("all is well again"));
    assert!(chaos(&["kill-pod", "shop/database-0"]).contains("all is well again"));
    assert!(chaos(&["fail-probe", "shop/database-0", "readiness", "--for", "0.5"]).contains("all is well again"));
    let delayed = twin.kilter(&["chaos", "delay", "node-1", "50"]);
    if delayed.status.success() {
        assert_eq!(chaos(&["list"]), "node-1 is 50 ms away, each way\n");
        assert!(chaos(&["heal"]).contains("all is well again"));
    } else {
        // Not every kernel can; then nothing is broken.
        let said = String::from_utf8_lossy(&delayed.stderr).into_owned();
        assert_eq!((delayed.status.code(), said.contains("CONFIG_NET_SCH_NETEM")), (Some(3), true), "{said}");
    }
    assert_eq!(chaos(&["list"]), "nothing is broken on purpose\n");
    let missing = twin.kilter(&["chaos", "kill-pod", "shop/nobody"]);
    assert_eq!(missing.status.code(), Some(2), "{}", describe(&missing));
}

#[test]
fn nodes_come_and_go_and_packets_follow() {
    let twin = Twin::named("nodes");
    twin.up(&[&example("shop")]);
    let node = |args: &[&str]| {
        let output = twin.kilter(&[&["node"], args].concat());
        assert!(output.status.success(), "kilter node {args:?}: {}", describe(&output));
    };
    let settle = || {
        let output = twin.kilter(&["chaos", "heal"]);
        assert!(output.status.success(), "packets and model agree again: {}", describe(&output));
    };
    let pods_of = |node: &str| {
        let selector = format!("spec.nodeName={node}");
        twin.kubectl(&["get", "pods", "-A", "--field-selector", &selector, "-o", "name"]).lines().count()
    };

    node(&["add"]);
    settle();
    assert_eq!(pods_of("node-4"), 1, "the DaemonSet's pod runs there, and was tried");
    node(&["remove", "node-2"]);
    settle();
    let names = twin.kubectl(&["get", "nodes", "-o", "name"]);
    assert_eq!(names.lines().collect::<Vec<_>>(), ["node/node-1", "node/node-3", "node/node-4"]);
    assert_eq!(pods_of("node-2"), 0);
    node(&["add"]);
    settle();
    assert_eq!(pods_of("node-2"), 1, "a removed node comes back");
    let unknown = twin.kilter(&["node", "remove", "node-9"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", describe(&unknown));
}

/// `kilter up --watch`, line by line, from both of its outputs.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn start(twin: &Twin, directory: &Path) -> Self {
        let directory = directory.to_str().unwrap();
        let mut command = twin.command(&["up", "--nodes", "1", "-f", directory, "--watch"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let pump = |from: Box<dyn std::io::Read + Send>, tell: mpsc::Sender<String>| {
            std::thread::spawn(move || {
                BufReader::new(from).lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)));
            });
        };
        pump(Box::new(out), tell.clone());
        pump(Box::new(err), tell);
        Self { child, lines }
    }

    fn says(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut seen = vec![];
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("it never said {text:?}:\n{}", seen.join("\n"));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_twin_follows_its_files() {
    let twin = Twin::named("follow");
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
    let map = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: notes, namespace: demo}}\ndata: {{k: '{value}'}}\n")
    };
    write("web.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: demo}\nspec: {containers: [{name: a, image: web}]}\n");
    let mut watch = Watch::start(&twin, files.path());
    watch.says("following the files");
    write("notes.yaml", &map("1"));
    watch.says("ConfigMap demo/notes created");
    write("notes.yaml", &map("2"));
    watch.says("ConfigMap demo/notes configured");
    assert_eq!(twin.kubectl(&["get", "cm", "notes", "-n", "demo", "-o", "jsonpath={.data.k}"]), "2");
    // A fault is told, and changes nothing until it is mended; what the API refuses stops nothing else.
    write("notes.yaml", "apiVersion: v1\nkind: [");
    watch.says("the twin stays as it is until this is mended");
    assert_eq!(twin.kubectl(&["get", "cm", "notes", "-n", "demo", "-o", "jsonpath={.data.k}"]), "2");
    write("web.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: demo}\nspec: {containers: [{name: b, image: web}]}\n");
    write("notes.yaml", &map("3"));
    watch.says("Pod demo/web REFUSED");
    assert_eq!(twin.kubectl(&["get", "cm", "notes", "-n", "demo", "-o", "jsonpath={.data.k}"]), "3");
    std::fs::remove_file(files.path().join("notes.yaml")).unwrap();
    watch.says("ConfigMap demo/notes pruned");
    assert!(!twin.try_kubectl(&["get", "cm", "notes", "-n", "demo"]).status.success());
    let interrupt = nix::sys::signal::Signal::SIGINT;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(watch.child.id() as i32), interrupt).unwrap();
    assert!(watch.child.wait().unwrap().success(), "it ends when told to");
    assert!(twin.kubectl(&["get", "pods", "-n", "demo"]).contains("web"), "and the twin stays");
}

/// As a user who has nothing to do with the twin: output of a program.
fn as_stranger(args: &[&str]) -> std::process::Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]).args(args);
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").output().expect("setpriv (util-linux) runs")
}

/// Every path below a directory.
fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
        }
    }
}

#[test]
fn another_user_of_the_machine_gets_in_nowhere() {
    let twin = Twin::named("stranger");
    twin.up(&[&example("shop")]);
    let root = Path::new("/run/kilter").join(&twin.name);
    let mut paths = vec![root.clone(), twin.kubeconfig()];
    below(&root, &mut paths);
    let is = |suffix: &str| paths.iter().any(|p| p.to_string_lossy().ends_with(suffix));
    assert!(is("admin.kubeconfig") && is(".sock"), "secrets and sockets are among them: {paths:?}");
    let script = r#"for path in "$@"; do if [ -r "$path" ] || [ -w "$path" ]; then echo "$path"; fi; done; id -u"#;
    let mut args = vec!["sh", "-c", script, "sh"];
    args.extend(paths.iter().filter_map(|p| p.to_str()));
    let open = as_stranger(&args);
    assert_eq!(String::from_utf8_lossy(&open.stdout), "65534\n", "open to anybody: {}", describe(&open));

    // The API listens for everybody on the machine, and knows only who has a token.
    let kubeconfig = std::fs::read_to_string(root.join("admin.kubeconfig")).unwrap();
    let kubeconfig: Value = serde_json::from_str(&kubeconfig).unwrap();
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    let code = |headers: &[&str], path: &str| {
        let url = format!("{server}{path}");
        let args = [&["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}"], headers, &[&url]].concat();
        String::from_utf8_lossy(&as_stranger(&args).stdout).into_owned()
    };
    for path in ["/api/v1/secrets", "/apis", "/openapi/v3", "/api/v1/namespaces/shop/pods/x/exec?command=id"] {
        assert_eq!(code(&[], path), "401", "{path}");
    }
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(code(&["-H", &bearer], "/api/v1/secrets"), "200", "the token is what it takes");
    let commands = as_stranger(&["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"]);
    assert!(!String::from_utf8_lossy(&commands.stdout).contains(token), "a token is in a process's arguments");
}
