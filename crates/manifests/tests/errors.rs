//! What people read when their input is wrong: exact messages.

use std::path::Path;

use kilter_manifests::{Options, Source, load};

/// Files of one case, in a folder that messages call `F`.
struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { folder }
    }

    fn load(&self, names: &[&str], options: &Options) -> String {
        let at = |name: &&str| Source::Path(self.folder.path().join(name));
        let text = match load(&names.iter().map(at).collect::<Vec<_>>(), options) {
            Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            Err(error) => match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        text.replace(&self.folder.path().display().to_string(), "F")
    }
}

fn one(text: &str) -> String {
    Case::new(&[("x.yaml", text)]).load(&["x.yaml"], &Options::default())
}

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a}]}\n";

#[test]
fn malformed_yaml() {
    let mut report = vec![];
    for (what, text) in [
        ("bad indentation", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n   labels: {}\n"),
        ("unclosed flow", "apiVersion: v1\nkind: Pod\nmetadata: {name: a\n"),
        ("tab", "apiVersion: v1\nkind: Pod\nmetadata:\n\tname: a\n"),
        ("key twice", "apiVersion: v1\nkind: Pod\nkind: Service\n"),
        (
            "second document",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a}]}\n---\na: [\n",
        ),
        ("unknown anchor", "apiVersion: v1\nkind: *nobody\n"),
        ("unclosed quote", "apiVersion: v1\nkind: \"Pod\n"),
        ("json", "{\"apiVersion\": \"v1\",\n \"kind\" \"Pod\"}\n"),
        ("a scalar", "just text\n"),
        ("a list", "- a\n- b\n"),
        ("no kind", "# nothing\n---\n\napiVersion: v1\n"),
        ("no apiVersion", "kind: Pod\n"),
        ("kind is a number", "apiVersion: v1\nkind: 5\n"),
        ("infinity", "apiVersion: v1\nkind: Pod\nmetadata: {name: .inf}\n"),
    ] {
        report.push(format!("{what}: {}", one(text)));
    }
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn bytes_that_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.yaml"), b"a: b\nc: \xff\xfe\n").unwrap();
    let error = load(&[Source::Path(folder.path().join("x.yaml"))], &Options::default()).unwrap_err();
    assert!(error.to_string().ends_with("x.yaml:2:4: not UTF-8 text"), "{error}");
}

#[test]
fn deep_nesting_is_an_error_not_a_crash() {
    let text = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = one(&text);
    assert!(error.starts_with("F/x.yaml:1:"), "{error}");
}

#[test]
fn a_file_may_be_large_but_aliases_may_not_multiply() {
    let object = |i: usize| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c-{i}, namespace: a}}\n");
    let many: String = (0..20_000).map(object).collect();
    let source = Source::Text { name: "text".into(), text: many };
    assert_eq!(load(&[source], &Options::default()).unwrap().objects.len(), 20_000);

    let mut bomb = String::from("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\na0: &a0 [x]\n");
    for level in 1..10 {
        let again = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{again}]\n");
    }
    let error = one(&bomb);
    assert!(error.starts_with("F/x.yaml:"), "{error}");
}

#[test]
fn empty_documents_comments_crlf_and_bom_are_fine() {
    let text =
        format!("\u{feff}# comment\r\n---\r\n---\r\n# only\r\n---\r\n{}---\r\n", POD.replace('\n', "\r\n"));
    let case = Case::new(&[("x.yaml", &text)]);
    let loaded = load(&[Source::Path(case.folder.path().join("x.yaml"))], &Options::default()).unwrap();
    assert_eq!(loaded.objects.len(), 1);
    assert!(loaded.objects[0].origin.to_string().ends_with("x.yaml:6"), "{}", loaded.objects[0].origin);
    assert_eq!(loaded.objects[0].value["spec"]["containers"][0]["image"], "a");
    assert_eq!(one("# only a comment\n"), "");
    assert_eq!(one(""), "");
}

#[test]
fn places_of_documents_are_those_of_their_first_keys() {
    let text =
        format!("# comment\n\n{POD}---\n\n# more\n{}", POD.replace("name: a}\nspec", "name: b}\nspec"));
    let source = Source::Text { name: "text".into(), text };
    let loaded = load(&[source], &Options::default()).unwrap();
    let places: Vec<String> = loaded.objects.iter().map(|o| o.origin.to_string()).collect();
    assert_eq!(places, ["text:3", "text:10"]);
}

#[test]
fn sources() {
    let case = Case::new(&[
        ("empty/readme.txt", ""),
        ("a.yaml", POD),
        ("b/b.yml", &format!("\n{POD}")),
        ("twice.yaml", &format!("{POD}---\n{POD}")),
        ("nested/deeper/a.yaml", POD),
    ]);
    let mut report = vec![];
    for names in [
        &["nowhere.yaml"][..],
        &["empty"],
        &["nested"],
        &["twice.yaml"],
        &["a.yaml", "b"],
        &["a.yaml", "a.yaml"],
    ] {
        report.push(format!("{names:?}: {}", case.load(names, &Options::default())));
    }
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn unsupported_kinds_are_listed_once_and_fatal_only_on_demand() {
    let text = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\n---\napiVersion: example.org/v1\nkind: Thing\nmetadata: {name: b}\n---\napiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: c}\n";
    let case = Case::new(&[("x.yaml", text)]);
    let expected = "left out, for Kilter does not support these kinds: example.org/v1 Thing (2), extensions/v1beta1 Ingress (1)";
    assert_eq!(case.load(&["x.yaml"], &Options::default()), expected);
    assert_eq!(case.load(&["x.yaml"], &Options { strict: true, ..Options::default() }), expected);
}

#[test]
fn objects_that_the_api_server_would_refuse() {
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: Web_1}
spec:
  replicas: -1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: wbe}}
    spec:
      containers:
        - {name: a, image: a, ports: [{containerPort: 8080}]}
        - {name: b, image: b, ports: [{containerPort: 8080}, {containerPort: 70000, name: NAME}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ports: [{port: 80}, {port: 80, name: b, protocol: ICMP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchExpressions: [{key: a, operator: Equals, values: [b]}]}
  ingress:
    - from:
        - {}
        - ipBlock: {cidr: 10.0.0.0/33}
        - ipBlock: {cidr: 10.0.0.0/24, except: [10.0.1.0/28]}
        - {ipBlock: {cidr: 10.0.0.0/24}, podSelector: {}}
      ports: [{port: 90, endPort: 80}, {port: http, endPort: 90}]
---
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {a: b c}}
spec:
  containers: [{name: a, image: a, env: [{name: A, value: 1}]}]
";
    let case = Case::new(&[("x.yaml", text)]);
    insta::assert_snapshot!(case.load(&["x.yaml"], &Options::default()));
    let tolerated = case.load(&["x.yaml"], &Options { tolerant: true, ..Options::default() });
    assert_eq!(tolerated, case.load(&["x.yaml"], &Options::default()));
}

#[test]
fn unknown_fields_are_a_warning() {
    let text = POD.replace("image: a}", "image: a, prots: []}");
    assert_eq!(one(&text), "F/x.yaml:4: Pod default/a: unknown field \"spec.containers[0].prots\", ignored");
}

#[test]
fn kustomizations() {
    let pod = ("pod.yaml", POD);
    let component =
        ("part/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n");
    let mut report = vec![];
    for (what, text) in [
        ("unsupported field", "resources: [pod.yaml]\n\nreplacements: []\n"),
        ("misspelt field", "resource: [pod.yaml]\n"),
        ("wrong type", "resources: pod.yaml\n"),
        ("wrong kind", "kind: Pod\n"),
        ("wrong version", "apiVersion: kustomize.config.k8s.io/v9\nkind: Kustomization\n"),
        ("syntax", "resources: [\n"),
        ("missing file", "resources: [other.yaml]\n"),
        ("outside", "resources: [../elsewhere.yaml]\n"),
        ("remote", "resources: [\"https://example.org/x.yaml\"]\n"),
        ("itself", "resources: [.]\n"),
        ("no kustomization", "resources: [empty]\n"),
        ("component as resource", "resources: [part]\n"),
        ("resource as component", "components: [whole]\n"),
        ("twice", "resources: [pod.yaml, again.yaml]\n"),
        (
            "patch for nobody",
            "resources: [pod.yaml]\npatches: [{patch: '{kind: Pod, apiVersion: v1, metadata: {name: b}}'}]\n",
        ),
        ("patch without target", "resources: [pod.yaml]\npatches: [{patch: '[{op: remove, path: /a}]'}]\n"),
        (
            "operation that fails",
            "resources: [pod.yaml]\npatches:\n- target: {kind: Pod}\n  patch: '[{op: remove, path: /spec/nothing}]'\n",
        ),
        (
            "bad operation",
            "resources: [pod.yaml]\npatches:\n- target: {kind: Pod}\n  patch: '[{op: delete, path: /spec}]'\n",
        ),
        ("bad regular expression", "resources: [pod.yaml]\npatches:\n- target: {name: '('}\n  patch: '[]'\n"),
        ("unknown patch option", "resources: [pod.yaml]\npatches: [{paht: x}]\n"),
        ("replicas of nobody", "resources: [pod.yaml]\nreplicas: [{name: a, count: 2}]\n"),
        ("numeric tag", "images: [{name: a, newTag: 1.0}]\n"),
        ("bad literal", "configMapGenerator: [{name: a, literals: [b]}]\n"),
        ("key twice", "configMapGenerator: [{name: a, literals: [b=1, b=2]}]\n"),
        ("merge of nothing", "configMapGenerator: [{name: a, behavior: merge}]\n"),
        ("unknown transformer", "resources: [pod.yaml]\ntransformers: [pod.yaml]\n"),
    ] {
        let again = ("again.yaml", POD);
        let case = Case::new(&[
            ("k/kustomization.yaml", text),
            (&format!("k/{}", pod.0), pod.1),
            (&format!("k/{}", again.0), again.1),
            (&format!("k/{}", component.0), component.1),
            ("k/whole/kustomization.yaml", "kind: Kustomization\n"),
            ("k/empty/x.txt", ""),
            ("elsewhere.yaml", POD),
        ]);
        report.push(format!("{what}: {}", case.load(&["k"], &Options::default())));
    }
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn a_kustomization_may_be_named_as_file_or_folder() {
    let case = Case::new(&[("k/kustomization.yaml", "resources: [a.yaml]\n"), ("k/a.yaml", POD)]);
    for name in ["k", "k/kustomization.yaml"] {
        let loaded =
            load(&[Source::Path(case.folder.path().join(Path::new(name)))], &Options::default()).unwrap();
        assert_eq!(loaded.objects.len(), 1, "{name}");
    }
}
