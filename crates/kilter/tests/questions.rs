//! The questions, from the command line: exit codes, forms of output, errors.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{KILTER, Twin, describe, example};

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

#[test]
fn connections_have_a_form_for_each_reader() {
    let json: Value =
        serde_json::from_str(&printed(&ask(&["connections", "-f", ".", "-o", "json"]), 0)).unwrap();
    let count = json["connections"].as_array().unwrap().len();
    assert!(count > 5);
    assert_eq!(printed(&ask(&["connections", "-f", "."]), 0).lines().count(), count);
    assert_eq!(printed(&ask(&["connections", "-f", ".", "-o", "csv"]), 0).lines().count(), count + 1);
    assert_eq!(printed(&ask(&["connections", "-f", ".", "-o", "markdown"]), 0).lines().count(), count + 2);
    let dot = printed(&ask(&["connections", "-f", ".", "-o", "dot"]), 0);
    assert_eq!(dot.matches(" -> ").count(), count);
    let html = printed(&ask(&["connections", "-f", ".", "-o", "html"]), 0);
    assert_eq!(html.matches("<tr><td>").count(), count);
    assert!(html.contains("</svg>") && !html.contains("src=") && !html.contains("@import"), "self-contained");
}

#[test]
fn connections_in_focus_are_explained() {
    let args = ["connections", "-f", ".", "--focus", "payments", "--direction", "ingress", "--explain"];
    let text = printed(&ask(&args), 0);
    let lines: Vec<&str> = text.lines().filter(|it| it.contains("=>")).collect();
    let [a, b] = lines.as_slice() else { panic!("cart and checkout: {text}") };
    assert!(a.starts_with("shop/cart[") && b.starts_with("shop/checkout["), "{text}");
    assert!(
        text.contains("ingress  allowed by ingress rule 1 of NetworkPolicy shop/payments (./policies.yaml:")
    );
    printed(&ask(&["connections", "-f", ".", "--focus", "nobody"]), 2);
    printed(&ask(&["connections", "-f", ".", "--explain", "-o", "dot"]), 2);
}

#[test]
fn lint_ends_as_it_finds() {
    assert_eq!(printed(&ask(&["lint", "-f", "."]), 0), "nothing found\n");
    let folder = copy_of_the_shop();
    let policies = folder.path().join("policies.yaml");
    let text = std::fs::read_to_string(&policies).unwrap().replace("app: database", "app: databse");
    std::fs::write(&policies, text).unwrap();
    let found = printed(&kilter(folder.path(), &["lint", "-f", ".", "--errors-only"]), 1);
    assert!(
        found.contains("KLT001") && found.contains("KLT002") && found.contains("`app: database`"),
        "{found}"
    );
    let json = printed(&kilter(folder.path(), &["lint", "-f", ".", "-o", "json"]), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["findings"].as_array().unwrap().iter().all(|it| it["fix"]["do"] == "replace"), "{json}");
    let sarif = printed(&kilter(folder.path(), &["lint", "-f", ".", "-o", "sarif"]), 1);
    let sarif: Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    printed(&ask(&["lint", "-f", "/nonexistent"]), 2);
}

/// Connections between the shop's own ends.
fn of_the_shop(json: &str) -> Vec<Value> {
    let json: Value = serde_json::from_str(json).unwrap();
    let all = json["connections"].as_array().unwrap().iter();
    let system = |it: &Value| it.as_str().is_some_and(|it| it.starts_with("kube-system/"));
    all.filter(|it| !system(&it["from"]) && !system(&it["to"])).cloned().collect()
}

#[test]
fn questions_without_sources_ask_the_twin() {
    let twin = Twin::named("questions");
    twin.up(&[&example("shop")]);
    let allowed = printed(&twin.kilter(&["why", "cart", "payments:9090"]), 0);
    assert!(allowed.contains("NetworkPolicy shop/payments (API"), "{allowed}");
    assert_eq!(printed(&twin.kilter(&["lint"]), 0), "nothing found\n");
    let context = format!("kilter-{}", twin.name);
    let live = printed(&twin.kilter(&["connections", "--context", &context, "-o", "json"]), 0);
    let files = printed(&ask(&["connections", "-f", ".", "-o", "json"]), 0);
    assert_eq!(of_the_shop(&live), of_the_shop(&files), "the twin is what its sources say");
    printed(&twin.kilter(&["why", "cart", "payments", "--context", "no-such-context"]), 2);
}
