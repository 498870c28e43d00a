//! ClusterNetworkPolicy by kubectl, which knows nothing of it but what the API says.

mod common;

use common::Server;

const CLUSTER_POLICY: &str = r#"
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: no-metadata}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  egress:
  - {name: cloud, action: Deny, to: [{networks: [169.254.169.254/32]}]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn cluster_network_policies_are_applied_changed_and_refused() {
    let server = Server::start();
    let joined = tokio::task::spawn_blocking(move || {
        server.feed(&["apply", "-f", "-"], CLUSTER_POLICY);
        let listed = server.run(&["get", "cnp"]);
        assert_eq!(
            listed.lines().next().map(|it| it.split_whitespace().collect::<Vec<_>>()),
            Some(vec!["NAME", "TIER", "PRIORITY", "AGE"])
        );
        let row: Vec<_> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        assert_eq!(row[..3], ["no-metadata", "Admin", "10"]);
        server.feed(&["apply", "-f", "-"], &CLUSTER_POLICY.replace("priority: 10", "priority: 20"));
        assert_eq!(server.run(&["get", "cnp", "no-metadata", "-o", "jsonpath={.spec.priority}"]), "20");
        server.run(&["patch", "cnp", "no-metadata", "--type=merge", "-p", r#"{"spec":{"tier":"Baseline"}}"#]);
        let answer = refused(&server, &CLUSTER_POLICY.replace("10\n", "2000\n"));
        assert!(answer.contains("spec.priority: Invalid value: 2000"), "{answer}");
        let answer = refused(&server, &CLUSTER_POLICY.replace("networks", "netwroks"));
        assert!(answer.contains("netwroks"), "{answer}");
        server.run(&["delete", "cnp", "no-metadata"]);
        assert!(server.fails(&["get", "cnp", "no-metadata"]).contains("not found"));
        server
    });
    joined.await.expect("the test's part").handle.shutdown().await;
}

/// What kubectl says of an object that is not accepted.
fn refused(server: &Server, object: &str) -> String {
    let file = std::env::temp_dir().join(format!("kilter-cnp-{}.yaml", std::process::id()));
    std::fs::write(&file, object).expect("written");
    let answer = server.fails(&["apply", "-f", file.to_str().expect("text")]);
    std::fs::remove_file(&file).expect("removed");
    answer
}
