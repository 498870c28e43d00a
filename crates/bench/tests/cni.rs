//! The reference plugins, measured for real with little effort; nothing stays behind.

use kilter_bench::cni::{self, Options, Plugin};

#[test]
fn the_reference_plugins_are_measured() {
    let report = cni::run(Options { runs: 2, pods: 3, ..Options::default() }, &mut |_| {}).unwrap();
    let cases: Vec<_> =
        report.figures.iter().map(|figure| (figure.case.as_str(), figure.subject.as_str())).collect();
    assert_eq!(cases, [("add", "ptp"), ("add", "bridge"), ("del", "ptp"), ("del", "bridge")]);
    assert!(report.figures.iter().all(|figure| figure.p50 > 0.0 && figure.runs == 2), "{report}");
}

#[test]
fn a_plugin_that_does_nothing_is_not_the_fastest() {
    let plugin = |program: &str| Plugin {
        subject: "idle".into(),
        program: program.into(),
        config: serde_json::json!({"cniVersion": "1.0.0", "name": "idle", "type": "idle"}),
        args: String::new(),
        node: std::sync::Arc::new(kilter_netns::NetNs::create().unwrap()),
    };
    let error = |program| {
        let options = Options { runs: 1, pods: 1, peers: false, plugins: vec![plugin(program)] };
        format!("{:#}", cni::run(options, &mut |_| {}).unwrap_err())
    };
    assert!(error("/bin/true").starts_with("idle: ADD did not answer with JSON"), "{}", error("/bin/true"));
    assert!(error("/bin/false").starts_with("idle: ADD failed: "), "{}", error("/bin/false"));
    assert!(
        error("/no/such/plugin").starts_with("idle: run /no/such/plugin"),
        "{}",
        error("/no/such/plugin")
    );
}
