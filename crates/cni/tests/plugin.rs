//! The real binary, as a runtime starts it, against an agent made for the test.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use kilter_wire::cni::{CniError, CniResult, Dns, Interface, IpConfig};
use kilter_wire::plugin::{self, Reply, Request};
use kilter_wire::{read_message, write_message};
use serde_json::{Value, json};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kilter-cni-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers one request with `reply` and gives the request back.
fn agent(socket: &Path, reply: Reply) -> JoinHandle<Request> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = read_message(&mut BufReader::new(stream.try_clone().unwrap())).unwrap().unwrap();
        write_message(&mut stream, &reply).unwrap();
        request
    })
}

fn call(environment: &[(&str, &str)], input: &Value) -> (bool, Value) {
    call_raw(environment, input.to_string().as_bytes())
}

fn call_raw(environment: &[(&str, &str)], input: &[u8]) -> (bool, Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kilter-cni"))
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let json =
        if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() };
    (output.status.success(), json)
}

fn attachment(command: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_NETNS", "/proc/1/ns/net"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u-1"),
    ]
}

fn configuration(version: &str, socket: &Path) -> Value {
    json!({ "cniVersion": version, "name": "kilter", "type": "kilter-cni", "agentSocket": socket })
}

fn added(version: &str) -> CniResult {
    CniResult {
        cni_version: version.into(),
        interfaces: vec![Interface {
            name: "eth0".into(),
            mac: "02:6b:0a:f4:01:07".into(),
            mtu: Some(1500),
            sandbox: "/proc/1/ns/net".into(),
        }],
        ips: vec![IpConfig { address: "10.244.1.7/32".into(), gateway: None, interface: Some(0) }],
        routes: vec![],
        dns: Dns::default(),
    }
}

#[test]
fn version_answers_in_the_version_asked() {
    let (ok, answer) = call(&[("CNI_COMMAND", "VERSION")], &json!({ "cniVersion": "1.0.0" }));
    assert!(ok);
    assert_eq!(answer["cniVersion"], "1.0.0");
    assert!(answer["supportedVersions"].as_array().unwrap().contains(&json!("1.1.0")));
}

#[test]
fn add_hands_everything_to_the_agent_and_prints_its_result() {
    let scratch = Scratch::new("add");
    let agent = agent(&scratch.socket(), Reply::Added(added("1.1.0")));
    let (ok, answer) = call(&attachment("ADD"), &configuration("1.1.0", &scratch.socket()));
    assert!(ok, "{answer}");
    assert_eq!(answer["ips"][0]["address"], "10.244.1.7/32");
    assert_eq!(answer["interfaces"][0]["mtu"], 1500);
    let request = agent.join().unwrap();
    assert_eq!(request.command, plugin::Command::Add);
    assert_eq!((request.container_id.as_str(), request.ifname.as_str()), ("c0ffee", "eth0"));
    assert_eq!(request.args["K8S_POD_UID"], "u-1");
    assert_eq!(request.config.name, "kilter");
}

#[test]
fn results_are_written_in_the_version_of_the_configuration() {
    for (version, family, mtu) in
        [("0.4.0", json!("4"), false), ("1.0.0", Value::Null, false), ("1.1.0", Value::Null, true)]
    {
        let scratch = Scratch::new(&format!("version-{version}"));
        let agent = agent(&scratch.socket(), Reply::Added(added(version)));
        let (_, answer) = call(&attachment("ADD"), &configuration(version, &scratch.socket()));
        agent.join().unwrap();
        assert_eq!(answer["ips"][0]["version"], family, "{version}");
        assert_eq!(answer["interfaces"][0].get("mtu").is_some(), mtu, "{version}");
    }
}

#[test]
fn del_and_status_print_nothing_when_all_is_well() {
    for command in ["DEL", "STATUS"] {
        let scratch = Scratch::new(command);
        let agent = agent(&scratch.socket(), Reply::Done);
        assert_eq!(
            call(&attachment(command), &configuration("1.1.0", &scratch.socket())),
            (true, Value::Null)
        );
        agent.join().unwrap();
    }
}

#[test]
fn del_needs_no_namespace() {
    let scratch = Scratch::new("del-gone");
    let agent = agent(&scratch.socket(), Reply::Done);
    let environment: Vec<_> =
        attachment("DEL").into_iter().filter(|(name, _)| *name != "CNI_NETNS").collect();
    assert!(call(&environment, &configuration("1.1.0", &scratch.socket())).0);
    assert_eq!(agent.join().unwrap().netns, "");
}

#[test]
fn what_the_agent_refuses_is_printed_as_it_is() {
    let scratch = Scratch::new("refused");
    let refusal = CniError {
        cni_version: "1.1.0".into(),
        code: 100,
        msg: "no address left".into(),
        details: "in 10.244.1.0/24".into(),
    };
    let agent = agent(&scratch.socket(), Reply::Failed(refusal.clone()));
    let (ok, answer) = call(&attachment("ADD"), &configuration("1.1.0", &scratch.socket()));
    agent.join().unwrap();
    assert!(!ok);
    assert_eq!(serde_json::from_value::<CniError>(answer).unwrap(), refusal);
}

#[test]
fn an_agent_that_is_not_there_means_try_again_later() {
    let socket = Path::new("/run/kilter-no-such-agent.sock");
    for (command, code) in [("ADD", 11), ("DEL", 11), ("STATUS", 50)] {
        let (ok, answer) = call(&attachment(command), &configuration("1.1.0", socket));
        assert!(!ok);
        assert_eq!(answer["code"], code, "{command}: {answer}");
        assert!(answer["msg"].as_str().unwrap().contains("/run/kilter-no-such-agent.sock"));
    }
}

#[test]
fn an_agent_that_hangs_up_means_try_again_later() {
    let scratch = Scratch::new("hangs-up");
    let listener = UnixListener::bind(scratch.socket()).unwrap();
    let agent = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let _: Option<Request> = read_message(&mut BufReader::new(stream)).unwrap();
    });
    let (ok, answer) = call(&attachment("ADD"), &configuration("1.1.0", &scratch.socket()));
    agent.join().unwrap();
    assert_eq!((ok, &answer["code"]), (false, &json!(11)), "{answer}");
}

#[test]
fn a_bad_environment_is_code_4_and_names_the_variable() {
    let bad = [
        ("CNI_COMMAND", ""),
        ("CNI_COMMAND", "add"),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "a:0"),
        ("CNI_ARGS", "no-equals-sign"),
    ];
    for (name, value) in bad {
        let mut environment = attachment("ADD");
        environment.retain(|(key, _)| *key != name);
        environment.push((name, value));
        let (ok, answer) = call(&environment, &configuration("1.1.0", Path::new("/nowhere")));
        assert!(!ok);
        assert_eq!(answer["code"], 4, "{name}={value}: {answer}");
        assert!(answer["msg"].as_str().unwrap().contains(name), "{answer}");
    }
}

#[test]
fn a_bad_configuration_has_the_code_of_its_fault() {
    let nowhere = Path::new("/nowhere");
    let (_, answer) = call_raw(&attachment("ADD"), b"{ not json");
    assert_eq!(answer["code"], 6, "{answer}");
    let (_, answer) = call(&attachment("ADD"), &configuration("9.9.9", nowhere));
    assert_eq!((&answer["code"], &answer["cniVersion"]), (&json!(1), &json!("1.1.0")), "{answer}");
    let (_, answer) = call(&attachment("STATUS"), &configuration("1.0.0", nowhere));
    assert_eq!(answer["code"], 1, "{answer}");
    let (_, answer) = call(&attachment("ADD"), &json!({ "cniVersion": "1.1.0", "name": "kilter" }));
    assert_eq!(answer["code"], 7, "{answer}");
    let (_, answer) = call(&attachment("ADD"), &json!({ "cniVersion": "1.1.0", "agentSocket": "/nowhere" }));
    assert_eq!(answer["code"], 7, "{answer}");
    for version in ["0.4.0", "1.0.0"] {
        let (_, answer) = call(&attachment("GC"), &configuration(version, nowhere));
        assert_eq!(answer["code"], 1, "{answer}");
    }
    let (_, answer) = call(&attachment("GC"), &configuration("1.1.0", nowhere));
    assert_eq!(answer["code"], 7, "{answer}");
    assert!(answer["msg"].as_str().unwrap().contains("cni.dev/valid-attachments"), "{answer}");
    let (_, answer) = call(&attachment("CHECK"), &configuration("1.1.0", nowhere));
    assert_eq!((&answer["code"], &answer["msg"]), (&json!(7), &json!("prevResult is missing")), "{answer}");
    let mut chained = configuration("1.1.0", nowhere);
    chained["prevResult"] = json!({ "cniVersion": "1.1.0", "ips": "10.0.0.1" });
    let (_, answer) = call(&attachment("ADD"), &chained);
    assert_eq!(answer["code"], 7, "{answer}");
    assert!(answer["msg"].as_str().unwrap().contains("prevResult"));
}

#[test]
fn behind_another_plugin_its_result_comes_first() {
    let scratch = Scratch::new("chained");
    let agent = agent(&scratch.socket(), Reply::Added(added("1.1.0")));
    let mut chained = configuration("1.1.0", &scratch.socket());
    chained["prevResult"] = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "net1", "sandbox": "/proc/1/ns/net", "pciID": "0000:00:1f.6" }],
        "ips": [{ "address": "192.0.2.7/24", "interface": 0 }],
    });
    let (ok, answer) = call(&attachment("ADD"), &chained);
    agent.join().unwrap();
    assert!(ok, "{answer}");
    assert_eq!(answer["interfaces"][0]["pciID"], "0000:00:1f.6");
    assert_eq!(
        (&answer["interfaces"][1]["name"], &answer["ips"][1]["interface"]),
        (&json!("eth0"), &json!(1))
    );
}

#[test]
fn check_and_gc_hand_over_what_they_are_about() {
    let scratch = Scratch::new("check");
    let checked = agent(&scratch.socket(), Reply::Done);
    let mut configured = configuration("0.4.0", &scratch.socket());
    configured["prevResult"] = json!(added("0.4.0"));
    assert_eq!(call(&attachment("CHECK"), &configured), (true, Value::Null));
    assert_eq!(checked.join().unwrap().config.prev_result, Some(json!(added("0.4.0"))));

    // libcni lists nothing as null. GC is about no container, so nothing names one.
    for (list, expected) in
        [(json!([{ "containerID": "c0ffee", "ifname": "eth0" }]), vec!["c0ffee"]), (Value::Null, vec![])]
    {
        std::fs::remove_file(scratch.socket()).unwrap();
        let collected = agent(&scratch.socket(), Reply::Done);
        let mut configured = configuration("1.1.0", &scratch.socket());
        configured["cni.dev/valid-attachments"] = list;
        assert_eq!(
            call(&[("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")], &configured),
            (true, Value::Null)
        );
        let valid = collected.join().unwrap().config.valid_attachments.unwrap();
        assert_eq!(valid.iter().map(|a| a.container_id.as_str()).collect::<Vec<_>>(), expected);
    }
}
