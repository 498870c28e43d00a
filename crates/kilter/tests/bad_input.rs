//! Bad input: one clear message with what to do, the right exit code, nothing left behind.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use kilter_testkit::Residue;
use support::{Twin, describe, example};

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

/// Runs `up` and expects it to be refused with this code and a message that says all of this.
fn refused(twin: &Twin, args: &[&str], code: i32, says: &[&str]) {
    let mut up = vec!["up"];
    up.extend(args);
    let output = twin.kilter(&up);
    let text = describe(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for expected in says {
        assert!(text.contains(expected), "says {expected:?}:\n{text}");
    }
    assert!(Residue::of_twin(&twin.name).is_empty(), "nothing is left behind");
}

#[test]
fn malformed_yaml_is_named_by_file_line_and_column() {
    let (twin, scratch) = (Twin::named("yaml"), Scratch::new());
    let file = scratch.file("broken.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: [a\n");
    refused(&twin, &["-f", file.to_str().unwrap()], 2, &["broken.yaml:"]);
}

#[test]
fn a_missing_source_is_named() {
    let twin = Twin::named("missing");
    refused(&twin, &["-f", "/no/such/dir"], 2, &["/no/such/dir"]);
}

#[test]
fn overlapping_ranges_say_which_and_what_to_do() {
    let twin = Twin::named("overlap");
    let shop = example("shop");
    let args = ["-f", shop.to_str().unwrap(), "--service-cidr", "10.244.0.0/20"];
    refused(&twin, &args, 2, &["overlaps the pod CIDR 10.244.0.0/16", "--service-cidr"]);
}

#[test]
fn a_service_cidr_with_an_address_of_this_machine_is_refused() {
    let Some((_, address)) = kilter_twin::addresses().into_iter().find(|(_, a)| a.is_ipv4()) else {
        panic!("this machine has an IPv4 address beside loopback");
    };
    let twin = Twin::named("host");
    let shop = example("shop");
    let cidr = format!("{address}/24");
    let args = ["-f", shop.to_str().unwrap(), "--service-cidr", &cidr];
    refused(&twin, &args, 2, &["an address of this machine", "--service-cidr"]);
}

#[test]
fn unknown_kinds_are_listed_once_and_fatal_only_when_asked() {
    let (twin, scratch) = (Twin::named("kinds"), Scratch::new());
    let gadget = "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: NAME}\n---\n";
    let text = gadget.replace("NAME", "a") + &gadget.replace("NAME", "b");
    let file = scratch.file("gadgets.yaml", &text);
    refused(&twin, &["--strict", "-f", file.to_str().unwrap()], 2, &["Gadget"]);
    let output = twin.kilter(&["connections", "-f", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", describe(&output));
    assert_eq!(describe(&output).matches("Gadget").count(), 1, "{}", describe(&output));
}

#[test]
fn a_name_that_is_up_is_not_brought_up_again() {
    let twin = Twin::named("twice");
    twin.up(&[&example("shop")]);
    let output = twin.kilter(&["up", "-f", example("shop").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", describe(&output));
    assert!(describe(&output).contains("kilter down --name t-twice"), "{}", describe(&output));
    assert_eq!(twin.verify()["disagreements"], 0, "the twin that was there is untouched");
}

#[test]
fn without_rights_up_says_what_is_missing_and_what_works_all_the_same() {
    let twin = Twin::named("rights");
    let shop = example("shop");
    // A user that is not root, in a copy of the world where the program and its input can be read.
    let scratch = Scratch::new();
    let kilter = scratch.0.path().join("kilter");
    fs::copy(support::KILTER, &kilter).unwrap();
    let input = scratch.file("shop.yaml", &all_of(&shop));
    make_readable(scratch.0.path());
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&kilter)
        .args(["up", "--name", &twin.name, "-f"])
        .arg(&input)
        .output()
        .expect("setpriv runs");
    assert_eq!(output.status.code(), Some(3), "{}", describe(&output));
    assert!(describe(&output).contains("sudo"), "{}", describe(&output));
}

fn all_of(folder: &Path) -> String {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| fs::read_to_string(f).unwrap()).collect::<Vec<_>>().join("\n---\n")
}

fn make_readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}
