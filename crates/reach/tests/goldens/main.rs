//! The corpus' expected connection lists: every case of the kinds that the model holds is equal line
//! by line, or stands in `docs/policy-differences.md` with the clause that makes the difference.

mod admin;
mod cases;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cases::{cluster, forget_host_network, objects};
use kilter_reach::{Options, connections};
use serde_json::Value;

/// Kinds that are no Kubernetes API of networking: secondary networks, virtual machines, OpenShift's
/// routes. A case with one of them is counted, not compared.
const OTHER_KINDS: [&str; 7] = [
    "ClusterUserDefinedNetwork",
    "MultiNetworkPolicy",
    "NetworkAttachmentDefinition",
    "Route",
    "UserDefinedNetwork",
    "VirtualMachine",
    "VirtualMachineInstance",
];

/// The cases that the project's list of differences names, by the reason that each table is about.
fn differences(reason: &str) -> BTreeSet<String> {
    let text = include_str!("../../../../docs/policy-differences.md");
    let section = text.split("\n## ").find(|it| it.lines().next() == Some(reason)).unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

#[test]
fn connections_equal_the_expected_lists() {
    let Some(folder) = kilter_testkit::corpus("policy-goldens") else { return };
    let (mut exact, mut wrong) = (0, Vec::new());
    let (mut host_network, mut out_of_scope) = (BTreeSet::new(), BTreeSet::new());
    for expected in files_in(&folder.join("expected/connections")) {
        let case = expected.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut objects = objects(&folder.join("input").join(&case));
        if objects.iter().any(|it| it["kind"].as_str().is_some_and(|kind| OTHER_KINDS.contains(&kind))) {
            out_of_scope.insert(case);
            continue;
        }
        let text = std::fs::read_to_string(&expected).unwrap();
        let theirs: BTreeSet<String> = text.lines().filter(|it| !it.is_empty()).map(str::to_owned).collect();
        if ours(&objects) == theirs {
            exact += 1;
            continue;
        }
        objects.iter_mut().for_each(forget_host_network);
        let ours = ours(&objects);
        if ours == theirs {
            host_network.insert(case);
            continue;
        }
        let mut lines = vec![format!("{case}:")];
        lines.extend(ours.difference(&theirs).take(12).map(|it| format!("  only ours:   {it}")));
        lines.extend(theirs.difference(&ours).take(12).map(|it| format!("  only theirs: {it}")));
        wrong.push(lines.join("\n"));
    }
    assert!(wrong.is_empty(), "{exact} exact, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(host_network, differences("hostNetwork"));
    assert_eq!(out_of_scope, differences("Not compared"));
    assert_eq!(exact, 48);
}

fn ours(objects: &[Value]) -> BTreeSet<String> {
    // That tool's choice: a block never matches a pod.
    let options = Options { ip_blocks_match_pods: false, ..Options::default() };
    connections(&cluster(objects), &options).iter().map(ToString::to_string).collect()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    found.sort();
    found
}
