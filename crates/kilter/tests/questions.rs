//! The questions, from the command line: exit codes, forms of output, errors.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{KILTER, describe, example};

fn kilter(at: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(KILTER);
    command.args(args).current_dir(at).stdin(Stdio::null());
    command.env_remove("KILTER_TWIN").env("KUBECONFIG", "/nonexistent/kubeconfig");
    command.output().expect("kilter runs")
}

fn ask(args: &[&str]) -> Output {
    kilter(&example("shop"), args)
}

/// What it printed, having ended with this code.
#[track_caller]
fn printed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", describe(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn why_ends_as_the_answer_is() {
    let allowed = printed(&ask(&["why", "-f", ".", "cart", "payments:9090"]), 0);
    assert!(allowed.contains("ALLOWED") && allowed.contains("./policies.yaml:"), "{allowed}");
    let denied = printed(&ask(&["why", "-f", ".", "catalog", "svc/payments", "-o", "json"]), 1);
    let denied: Value = serde_json::from_str(&denied).unwrap();
    assert_eq!(denied["verdict"], "deny");
    let unknown = ask(&["why", "-f", ".", "cart", "paymets:9090"]);
    printed(&unknown, 2);
    assert!(describe(&unknown).contains("did you mean shop/payments"), "{}", describe(&unknown));
}

#[test]
fn a_question_without_anything_to_ask_says_what_to_name() {
    if kilter_twin::is_running("default").unwrap() {
        return; // Somebody's own twin would be asked, rightly.
    }
    let output = ask(&["connections"]);
    printed(&output, 2);
    assert!(
        describe(&output).contains("-f") && describe(&output).contains("--context"),
        "{}",
        describe(&output)
    );
}

fn copy_of_the_shop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(example("shop")).unwrap().map(|it| it.unwrap().path()) {
        std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn diff_has_a_form_for_each_reader() {
    let new = copy_of_the_shop();
    let change = example("shop-change").join("payments.yaml");
    std::fs::copy(change, new.path().join("zz.yaml")).unwrap();
    let old = example("shop");
    let (old, new) = (old.to_str().unwrap(), new.path().to_str().unwrap());
    assert_eq!(printed(&ask(&["diff", old, old]), 0), "no connection differs\n");
    let text = printed(&ask(&["diff", old, new]), 1);
    assert_eq!(text.lines().last(), Some("- shop/cart[Deployment] => shop/payments[Deployment] : TCP 9090"));
    let json: Value = serde_json::from_str(&printed(&ask(&["diff", old, new, "-o", "json"]), 1)).unwrap();
    let changes = json["changes"].as_array().unwrap().len();
    let csv = printed(&ask(&["diff", old, new, "-o", "csv"]), 1);
    assert_eq!(csv.lines().count(), changes + 1);
    let markdown = printed(&ask(&["diff", old, new, "-o", "markdown"]), 1);
    assert_eq!(markdown.lines().filter(|it| it.starts_with("| removed | `")).count(), changes);
    assert!(printed(&ask(&["diff", old, new, "-o", "dot"]), 1).starts_with("digraph"));
}

#[test]
fn diff_reads_revisions_of_the_repository_here() {
    let folder = copy_of_the_shop();
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder.path()).args(args).output().expect("git runs");
        assert!(output.status.success(), "{}", describe(&output));
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    let commit = |message: &str| {
        git(&["add", "."]);
        git(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", message]);
    };
    commit("the shop");
    std::fs::remove_file(folder.path().join("policies.yaml")).unwrap();
    commit("without policies");
    let opened = printed(&kilter(folder.path(), &["diff", "HEAD~1..HEAD"]), 1);
    assert!(opened.contains("! shop/database[StatefulSet] becomes reachable from the internet"), "{opened}");
    let same = kilter(folder.path(), &["diff", "HEAD..", "--", "cart.yaml"]);
    assert_eq!(printed(&same, 0), "no connection differs\n");
    for (args, says) in [
        (["diff", "nosuch..HEAD"].as_slice(), "nosuch is no revision"),
        (&["diff", "HEAD..", "--", "nosuch"], "neither"),
        (&["diff", "here"], "compared with what"),
    ] {
        let output = kilter(folder.path(), args);
        printed(&output, 2);
        assert!(describe(&output).contains(says), "{}", describe(&output));
    }
}
