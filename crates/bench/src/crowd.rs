//! Manifests of as many pods as are asked for: applications of a hundred pods, each in a namespace of
//! its own, with two Services and a policy.

use std::fmt::Write;

/// Pods of one application, both tiers together.
const APPLICATION: u32 = 100;
/// Seconds that so many pods may take; `kilter up` gives up after them.
pub(crate) const PATIENCE: u32 = 900;

/// The manifests of exactly so many pods, which are ready when a probe says so.
pub(crate) fn manifests(pods: u32) -> String {
    let mut text = String::new();
    for (number, first) in (0..pods).step_by(APPLICATION as usize).enumerate() {
        let here = APPLICATION.min(pods - first);
        application(&mut text, &format!("app-{number}"), here - here / 2, here / 2);
    }
    text
}

fn application(text: &mut String, namespace: &str, web: u32, db: u32) {
    let _ = write!(text, "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    for (tier, replicas) in [("web", web), ("db", db)] {
        let _ = write!(
            text,
            "---\n\
             apiVersion: apps/v1\n\
             kind: Deployment\n\
             metadata: {{name: {tier}, namespace: {namespace}}}\n\
             spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{tier: {tier}}}}}\n  template:\n    \
             metadata: {{labels: {{tier: {tier}}}}}\n    spec:\n      containers:\n      - name: main\n        \
             image: {tier}\n        ports: [{{containerPort: 8080}}]\n        \
             readinessProbe: {{httpGet: {{port: 8080, path: /}}}}\n\
             ---\n\
             apiVersion: v1\n\
             kind: Service\n\
             metadata: {{name: {tier}, namespace: {namespace}}}\n\
             spec:\n  selector: {{tier: {tier}}}\n  ports: [{{port: 80, targetPort: 8080}}]\n"
        );
    }
    let _ = write!(
        text,
        "---\n\
         apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata: {{name: db, namespace: {namespace}}}\n\
         spec:\n  podSelector: {{matchLabels: {{tier: db}}}}\n  ingress:\n  \
         - from: [{{podSelector: {{matchLabels: {{tier: web}}}}}}]\n    ports: [{{port: 8080}}]\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_pods_as_were_asked_for() {
        for wanted in [1, 99, 100, 101, 1_000] {
            let text = manifests(wanted);
            let replicas = text.lines().filter_map(|line| line.trim().strip_prefix("replicas: "));
            assert_eq!(replicas.map(|count| count.parse::<u32>().unwrap()).sum::<u32>(), wanted);
        }
    }
}
