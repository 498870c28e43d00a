use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Server, beside_kubectl};

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_creates_patches_watches_and_deletes() {
    let server = Server::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/python.py");
    let mut command = Command::new(beside_kubectl("python"));
    command.arg(script).arg(&server.kubeconfig).stdin(Stdio::null()).env_remove("KUBECONFIG");
    let output = tokio::task::spawn_blocking(move || command.output().expect("python runs")).await.expect("joined");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("No module named 'kubernetes'"),
        "this test needs the Python client: `scripts/setup` installs what scripts/requirements.txt names"
    );
    assert!(output.status.success(), "{errors}");
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let expected = json!({
        "version": concat!("v1.37.0+kilter.", env!("CARGO_PKG_VERSION")),
        "strategic": {"k": "2"},
        "selected": ["last"],
        "pages": ["first", "last"],
        "defaulted": ["RollingUpdate", "TCP"],
        "replaced": 3,
        "stale": [409, "Conflict"],
        "scaled": 2,
        "immutable": [422, "Invalid"],
        "absent": [404, "NotFound"],
        "twice": [409, "AlreadyExists"],
        "applied": "Apply",
        "watched": [["ADDED", "first"], ["ADDED", "last"], ["MODIFIED", "first"], ["DELETED", "first"], ["DELETED", "last"]],
    });
    assert_eq!(seen, expected);
    server.handle.shutdown().await;
}
