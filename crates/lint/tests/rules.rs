//! Each rule: what it finds, what it leaves alone, its page, its suppression, its SARIF.

use kilter_lint::{Finding, Fix, RULES, lint, sarif};
use kilter_manifests::{Loaded, Options, Source};
use serde_json::Value;

fn load(yaml: &str) -> Loaded {
    let source = Source::Text { name: "test.yaml".into(), text: yaml.into() };
    let options = Options { tolerant: true, namespace: "shop".into(), ..Options::default() };
    kilter_manifests::load(&[source], &options).unwrap()
}

fn check(yaml: &str) -> Vec<Finding> {
    lint(&load(yaml), &kilter_reach::Options::default()).unwrap()
}

/// The ids found, practice left out.
fn broken(yaml: &str) -> Vec<&'static str> {
    check(yaml).iter().map(|it| it.rule.id).filter(|id| *id < "KLT100").collect()
}

const PODS: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {containers: [{name: a, image: a, ports: [{name: http, containerPort: 8080}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, labels: {app: db}}, spec: {containers: [{name: a, image: a, ports: [{name: sql, containerPort: 5432}]}]}}
---
"#;

fn policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}}}, spec: {spec}}}\n---\n"
    )
}

fn cluster_policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: {name}}}, spec: {spec}}}\n---\n"
    )
}

fn with_pods(more: &[String]) -> String {
    format!("{PODS}{}", more.join(""))
}

const WEB: &str = "{matchLabels: {app: web}}";
const DB: &str = "{matchLabels: {app: db}}";

#[test]
fn klt001_and_klt002_judge_only_what_the_sources_declare() {
    let nothing = policy("a", "{podSelector: {matchLabels: {app: cache}}}");
    assert_eq!(broken(&with_pods(&[nothing.clone()])), ["KLT001"]);
    assert!(broken(&nothing).is_empty(), "the namespace's workloads are elsewhere");
    let peer = |peer: &str| policy("a", &format!("{{podSelector: {DB}, ingress: [{{from: [{peer}]}}]}}"));
    assert_eq!(broken(&with_pods(&[peer("{podSelector: {matchLabels: {app: wep}}}")])), ["KLT002"]);
    let elsewhere =
        peer("{namespaceSelector: {matchLabels: {team: other}}, podSelector: {matchLabels: {app: x}}}");
    assert!(broken(&with_pods(&[elsewhere])).is_empty());
}

#[test]
fn klt001_and_klt002_are_about_cluster_policies_too() {
    let policy = |subject: &str, to: &str| {
        let pods = |labels: &str| format!("{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: {labels}}}}}}}}}");
        let rule = format!("{{action: Deny, to: [{{networks: [192.0.2.0/24, 198.51.100.0/24]}}, {}]}}", pods(to));
        cluster_policy("c", &format!("{{tier: Admin, priority: 1, subject: {}, egress: [{rule}]}}", pods(subject)))
    };
    assert!(broken(&with_pods(&[policy("db", "web")])).is_empty());
    assert_eq!(broken(&with_pods(&[policy("cache", "web")])), ["KLT001"]);
    assert!(broken(&policy("cache", "web")).is_empty(), "the workloads are elsewhere");
    let findings = check(&with_pods(&[policy("db", "wep")]));
    let finding = findings.iter().find(|it| it.rule.id == "KLT002").unwrap();
    assert!(finding.message.ends_with("; shop/web[Pod] has app=web"), "{finding}");
    assert!(matches!(&finding.fix, Some(Fix::Replace { old, new, .. }) if (&**old, &**new) == ("app: wep", "app: web")));
}

#[test]
fn klt003_and_klt104_are_about_cluster_policies_too() {
    let to_db = "{action: Accept, to: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}}]}";
    let web = "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}";
    let named = cluster_policy("c", &format!("{{tier: Admin, priority: 1, subject: {web}, egress: [{to_db}]}}"));
    let deny = policy("deny", "{podSelector: {}, policyTypes: [Ingress]}");
    assert_eq!(broken(&with_pods(&[named, deny])), ["KLT003"]);
    let everywhere = |action: &str| {
        let rule = format!("{{action: {action}, to: [{{networks: [0.0.0.0/0]}}]}}");
        let policy = cluster_policy("c", &format!("{{tier: Baseline, priority: 1, subject: {web}, egress: [{rule}]}}"));
        check(&with_pods(&[policy])).iter().any(|it| it.rule.id == "KLT104")
    };
    assert!(everywhere("Accept") && !everywhere("Deny"));
}

#[test]
fn a_slip_in_a_cluster_policy_is_told_with_what_it_breaks_and_lets_through() {
    let pods = |app: &str| format!("{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: {app}}}}}}}}}");
    let only = |yaml: &str, id: &str| check(yaml).into_iter().find(|it| it.rule.id == id).expect("found");
    let deny = policy("deny", "{podSelector: {}, policyTypes: [Ingress]}");
    let rule = |action: &str, subject: &str, fields: (&str, &str), peer: &str| {
        let (field, side) = fields;
        let rules = format!("{field}: [{{action: {action}, {side}: [{{networks: [192.0.2.0/24]}}, {}]}}]", pods(peer));
        let rules = if field == "ingress" { rules.replace("{networks: [192.0.2.0/24]}, ", "") } else { rules };
        cluster_policy("c", &format!("{{tier: Admin, priority: 1, subject: {}, {rules}}}", pods(subject)))
    };
    let web_to_db = ["shop/web[Pod] => shop/db[Pod] : All Connections"];
    let finding = only(&with_pods(&[deny, rule("Accept", "db", ("ingress", "from"), "wep")]), "KLT002");
    assert_eq!((&finding.breaks[..], finding.lets_through.len()), (&web_to_db.map(String::from)[..], 0), "{finding}");
    for (subject, peer, id) in [("wep", "db", "KLT001"), ("db", "wep", "KLT002")] {
        let finding = only(&with_pods(&[rule("Deny", subject, ("egress", "to"), peer)]), id);
        assert!(finding.breaks.is_empty(), "{finding}");
        let from_to = if subject == "db" { "shop/db[Pod] => shop/web[Pod] : All Connections" } else { web_to_db[0] };
        assert!(finding.lets_through.iter().any(|it| it == from_to), "{finding}");
        assert!(finding.to_string().contains(&format!("lets through: {from_to}")), "{finding}");
    }
}

#[test]
fn a_slip_with_two_meanings_is_not_put_right() {
    let two = "{apiVersion: v1, kind: Pod, metadata: {name: webs, labels: {app: webs}}, spec: {containers: [{name: a, image: a}]}}\n---\n";
    let slip = policy("a", "{podSelector: {matchLabels: {app: webz}}}");
    let findings = check(&with_pods(&[two.to_owned(), slip]));
    let finding = findings.iter().find(|it| it.rule.id == "KLT001").unwrap();
    assert!(finding.fix.is_none() && finding.breaks.is_empty(), "{finding}");
}

#[test]
fn slips_that_hide_one_another_are_put_right_together() {
    let egress = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: database}}}]}, {ports: [{port: 53, protocol: UDP}]}]}";
    let deny = policy("deny", "{podSelector: {}, policyTypes: [Ingress]}");
    let ingress = format!(
        "{{podSelector: {{matchLabels: {{app: databazes}}}}, ingress: [{{from: [{{podSelector: {WEB}}}]}}]}}"
    );
    let pods = with_pods(&[policy("web", egress), deny, policy("db", &ingress)])
        .replace("{app: db}", "{app: databaze}");
    let findings = check(&pods);
    for id in ["KLT001", "KLT002"] {
        let finding = findings.iter().find(|it| it.rule.id == id).expect("found");
        assert!(
            finding.breaks.iter().any(|it| it.starts_with("shop/web[Pod] => shop/db[Pod] : ")),
            "{finding}"
        );
    }
}

#[test]
fn klt003_names_the_connection_and_a_policy_that_mends_it() {
    let egress = policy(
        "web",
        &format!(
            "{{podSelector: {WEB}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {DB}}}], ports: [{{port: sql}}]}}]}}"
        ),
    );
    let deny = policy("db", &format!("{{podSelector: {DB}, policyTypes: [Ingress]}}"));
    let dns = policy(
        "dns",
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
    );
    let yaml = with_pods(&[egress, deny, dns]);
    let findings = check(&yaml);
    let finding = findings.iter().find(|it| it.rule.id == "KLT003").expect("found");
    assert_eq!(finding.breaks, ["shop/web[Pod] => shop/db[Pod] : TCP 5432"]);
    let Some(Fix::Add { yaml: mend }) = &finding.fix else { panic!("a policy to add: {finding}") };
    assert!(broken(&format!("{yaml}{mend}")).is_empty(), "{mend}");
    // The other way round: ingress names the peer, egress refuses it.
    let ingress =
        policy("db", &format!("{{podSelector: {DB}, ingress: [{{from: [{{podSelector: {WEB}}}]}}]}}"));
    let deny = policy("web", &format!("{{podSelector: {WEB}, policyTypes: [Egress]}}"));
    let yaml = with_pods(&[ingress, deny]);
    let findings = check(&yaml);
    let finding = findings.iter().find(|it| it.rule.id == "KLT003").expect("found");
    let Some(Fix::Add { yaml: mend }) = &finding.fix else { panic!("a policy to add: {finding}") };
    assert!(!broken(&format!("{yaml}{mend}")).contains(&"KLT003"), "{mend}");
}

#[test]
fn klt004_is_mended_by_what_it_prints() {
    let egress = policy(
        "web",
        &format!("{{podSelector: {WEB}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {DB}}}]}}]}}"),
    );
    let yaml = with_pods(&[egress]);
    let findings = check(&yaml);
    let finding = findings.iter().find(|it| it.rule.id == "KLT004").expect("found");
    let Some(Fix::Add { yaml: mend }) = &finding.fix else { panic!("a policy to add: {finding}") };
    assert!(broken(&format!("{yaml}{mend}")).is_empty(), "{mend}");
    let silent = policy("db", &format!("{{podSelector: {DB}, policyTypes: [Egress]}}"));
    assert!(broken(&with_pods(&[silent])).is_empty(), "who calls nobody needs no names");
}

#[test]
fn klt005_is_silent_where_clients_may_be_elsewhere() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {selector: {app: db}, ports: [{port: 5432}]}}\n---\n";
    let deny = |rules: &str| {
        policy("db", &format!("{{podSelector: {DB}, policyTypes: [Ingress], ingress: {rules}}}"))
    };
    assert_eq!(broken(&with_pods(&[service.into(), deny("[]")])), ["KLT005"]);
    assert!(
        broken(&with_pods(&[service.into(), deny("[{from: [{namespaceSelector: {matchLabels: {a: b}}}]}]")]))
            .is_empty()
    );
}

#[test]
fn services_and_backends_lead_somewhere() {
    let service = |selector: &str, target: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{selector: {selector}, ports: [{{port: 80, targetPort: {target}}}]}}}}\n---\n"
        )
    };
    assert_eq!(broken(&with_pods(&[service("{app: none}", "80")])), ["KLT010"]);
    assert_eq!(broken(&with_pods(&[service("{app: web}", "htpp")])), ["KLT011"]);
    assert_eq!(broken(&with_pods(&[service("{app: web}", "81")])), ["KLT011"]);
    assert!(broken(&with_pods(&[service("{app: web}", "http")])).is_empty());
    let ingress = |name: &str, port: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i}}, spec: {{defaultBackend: {{service: {{name: {name}, port: {port}}}}}}}}}\n---\n"
        )
    };
    let with = |backend: String| broken(&with_pods(&[service("{app: web}", "http"), backend]));
    assert!(with(ingress("s", "{number: 80}")).is_empty());
    assert_eq!(with(ingress("t", "{number: 80}")), ["KLT012"]);
    assert_eq!(with(ingress("s", "{number: 81}")), ["KLT012"]);
    assert_eq!(with(ingress("s", "{name: http}")), ["KLT012"]);
    let route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {rules: [{backendRefs: [{name: s, port: 81}]}]}}\n";
    assert_eq!(with(route.into()), ["KLT012"]);
}

#[test]
fn within_a_pod() {
    let pod = |containers: &str| {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: {containers}}}}}\n")
    };
    let twice = "[{name: a, image: a, ports: [{containerPort: 80}]}, {name: b, image: b, ports: [{containerPort: 80}]}]";
    assert_eq!(broken(&pod(twice)), ["KLT020"]);
    let protocols = "[{name: a, image: a, ports: [{containerPort: 53}]}, {name: b, image: b, ports: [{containerPort: 53, protocol: UDP}]}]";
    assert!(broken(&pod(protocols)).is_empty());
    let probe = |port: &str| {
        format!(
            "[{{name: a, image: a, ports: [{{name: http, containerPort: 80}}], livenessProbe: {{httpGet: {{port: {port}}}}}}}]"
        )
    };
    assert_eq!(broken(&pod(&probe("htpp"))), ["KLT021"]);
    assert!(broken(&pod(&probe("http"))).is_empty() && broken(&pod(&probe("9999"))).is_empty());
}

#[test]
fn klt022_names_values_that_mean_nothing() {
    let pod = |weight: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: w, labels: {{kilter.dev/weight: {weight:?}}}}}, spec: {{containers: [{{name: a, image: a}}]}}}}\n---\n");
    let service = |key: &str, value: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: s, annotations: {{kilter.dev/{key}: {value:?}}}}}, spec: {{ports: [{{port: 80}}]}}}}\n---\n");
    for (yaml, expected) in [
        (pod("5"), None),
        (pod("0"), Some("is \"0\", and should be a whole number of 1 to 100")),
        (pod("half"), Some("is \"half\"")),
        (service("forwarding", "dsr"), None),
        (service("forwarding", "DSR"), Some("is \"DSR\", and should be `snat` or `dsr`")),
    ] {
        let found = check(&yaml);
        let found = found.iter().find(|it| it.rule.id == "KLT022").map(|it| it.message.as_str());
        assert_eq!(found.is_some(), expected.is_some(), "{yaml}");
        assert!(expected.is_none_or(|words| found.unwrap().contains(words)), "{found:?}");
    }
}

#[test]
fn an_annotation_suppresses_a_rule_on_its_object() {
    let nothing = policy("a", "{podSelector: {matchLabels: {app: cache}}}");
    let ignored = nothing
        .replace("{name: a}", "{name: a, annotations: {kilter.dev/lint-ignore: 'KLT001: comes later'}}");
    let other = nothing.replace("{name: a}", "{name: a, annotations: {kilter.dev/lint-ignore: KLT002}}");
    assert!(broken(&with_pods(&[ignored])).is_empty());
    assert_eq!(broken(&with_pods(&[other])), ["KLT001"]);
}

#[test]
fn every_rule_has_a_page_that_says_the_same() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for rule in RULES {
        let page = std::fs::read_to_string(root.join(rule.page()))
            .unwrap_or_else(|e| panic!("{}: {e}", rule.page()));
        assert!(page.starts_with(&format!("# {}: {}\n", rule.id, rule.name)), "{}", rule.page());
        assert!(page.contains(rule.summary), "{}", rule.page());
    }
    let pages = std::fs::read_dir(root.join("docs/lint")).unwrap().count();
    assert_eq!(pages, RULES.len(), "no page without a rule");
    let ids: Vec<_> = RULES.iter().map(|it| it.id).collect();
    assert!(ids.windows(2).all(|it| it[0] < it[1]), "ids are sorted and unique");
}

/// The rules of the SARIF 2.1.0 schema, as far as they are about what we write.
#[test]
fn sarif_is_as_its_schema_wants() {
    let yaml = with_pods(&[policy("a", "{podSelector: {matchLabels: {app: wep}}}")]);
    let log = sarif(&check(&yaml), "1.2.3");
    assert_eq!(log["version"], "2.1.0");
    only(&log, &["$schema", "version", "runs"]);
    let run = &log["runs"][0];
    only(run, &["tool", "results", "columnKind"]);
    assert!(["utf16CodeUnits", "unicodeCodePoints"].contains(&run["columnKind"].as_str().unwrap()));
    let driver = &run["tool"]["driver"];
    only(driver, &["name", "version", "rules"]);
    assert!(driver["name"].is_string(), "toolComponent requires name");
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        only(rule, &["id", "name", "shortDescription", "help", "defaultConfiguration"]);
        assert!(rule["id"].is_string() && rule["shortDescription"]["text"].is_string());
        assert!(is_level(&rule["defaultConfiguration"]["level"]));
    }
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        only(result, &["ruleId", "ruleIndex", "level", "message", "locations", "properties"]);
        assert!(result["message"]["text"].is_string(), "result requires message");
        assert!(is_level(&result["level"]));
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"], "ruleIndex points at ruleId");
        for location in result["locations"].as_array().unwrap() {
            only(location, &["physicalLocation", "logicalLocations"]);
            let physical = &location["physicalLocation"];
            only(physical, &["artifactLocation", "region"]);
            assert!(physical["region"]["startLine"].as_u64().unwrap() >= 1, "startLine has minimum 1");
            let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
            assert!(uri.is_ascii() && !uri.contains(' '), "a uri-reference");
        }
    }
}

fn is_level(level: &Value) -> bool {
    ["none", "note", "warning", "error"].iter().any(|it| level == it)
}

/// `additionalProperties: false` holds of every object of the schema.
fn only(object: &Value, keys: &[&str]) {
    for key in object.as_object().expect("an object").keys() {
        assert!(keys.contains(&key.as_str()), "{key} is no property here");
    }
}
