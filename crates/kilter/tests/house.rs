//! The house of ARCHITECTURE.md, enforced: its table is read, and every crate must stand where the
//! table says, import only from lower storeys, and leave outside things to the crate that owns them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Libraries that only some crates may name, and which: an outside thing has one owner.
const OWNERS: [(&str, &[&str]); 6] = [
    ("libbpf-rs", &["datapath"]),
    ("libbpf-sys", &["datapath"]),
    ("rtnetlink", &["netlink"]),
    ("netlink-packet-route", &["netlink"]),
    ("netlink-packet-netfilter", &["netlink"]),
    ("hickory-proto", &["dns"]),
];

struct Crate {
    name: String,
    /// Names of normal and build dependencies; development dependencies may look sideways.
    dependencies: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(read_crate).collect()
}

fn read_crate(package: &Value) -> Crate {
    let dependencies = package["dependencies"].as_array().expect("dependencies");
    Crate {
        name: short(package["name"].as_str().expect("name")),
        dependencies: dependencies
            .iter()
            .filter(|d| d["kind"] != "dev")
            .map(|d| d["name"].as_str().expect("name").to_owned())
            .collect(),
    }
}

fn short(package: &str) -> String {
    package.strip_prefix("kilter-").unwrap_or(package).to_owned()
}

/// Rows `| storey | crate, crate | what |` of ARCHITECTURE.md.
fn storeys() -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let mut storeys = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let Some(Ok(storey)) = cells.get(1).map(|c| c.parse()) else { continue };
        for name in cells[2].split(',') {
            storeys.insert(name.trim().trim_matches('`').to_owned(), storey);
        }
    }
    assert!(storeys.len() > 10, "ARCHITECTURE.md has the table of storeys");
    storeys
}

#[test]
fn every_crate_stands_in_the_table_and_imports_only_from_below() {
    let storeys = storeys();
    let crates = crates();
    let mut wrong = Vec::new();
    for it in &crates {
        if it.name == "testkit" {
            continue;
        }
        let Some(storey) = storeys.get(&it.name) else {
            wrong.push(format!("crate {} is not in the table of ARCHITECTURE.md", it.name));
            continue;
        };
        for dependency in it.dependencies.iter().filter(|d| d.starts_with("kilter-")) {
            let below = short(dependency);
            match storeys.get(&below) {
                Some(other) if other < storey => {}
                other => wrong.push(format!("{} (storey {storey}) imports {below} (storey {other:?})", it.name)),
            }
        }
    }
    for name in storeys.keys() {
        if !crates.iter().any(|c| c.name == *name) {
            wrong.push(format!("ARCHITECTURE.md names the crate {name}, which does not exist"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_outside_thing_is_named_only_by_the_crate_that_owns_it() {
    let mut wrong = Vec::new();
    for it in crates() {
        for (library, owners) in OWNERS {
            if it.dependencies.iter().any(|d| d == library) && !owners.contains(&it.name.as_str()) {
                wrong.push(format!("{} names {library}, which belongs to {owners:?}", it.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
