use std::fmt;

use kilter_model::Origin;
use serde::Serialize;

use crate::Fix;

/// A rule. Its id never changes and is never given to another.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// `KLT` and three digits: below 100 proven breakage, above missing practice.
    pub id: &'static str,
    /// A name in words.
    pub name: &'static str,
    /// What it finds, in one sentence.
    pub summary: &'static str,
}

macro_rules! rules {
    ($($constant:ident $id:literal $name:literal $summary:literal)*) => {
        $(pub(crate) const $constant: Rule = Rule { id: $id, name: $name, summary: $summary };)*
        /// All rules, by id; each has a page in `docs/lint/`.
        pub static RULES: &[Rule] = &[$($constant),*];
    };
}

rules! {
    POLICY_SELECTS_NOTHING "KLT001" "policy-selects-nothing"
        "A policy selects no pod."
    PEER_MATCHES_NOTHING "KLT002" "peer-matches-nothing"
        "A peer of a policy's rule matches no pod."
    ONE_SIDED_ALLOW "KLT003" "one-sided-allow"
        "One side's policies name a connection that the other side's refuse."
    DNS_FORGOTTEN "KLT004" "dns-forgotten"
        "A workload may open connections but may not ask DNS for the addresses."
    UNREACHABLE_SERVICE "KLT005" "unreachable-service"
        "Policies let nobody reach a Service."
    SERVICE_WITHOUT_PODS "KLT010" "service-without-pods"
        "A Service selects no pod."
    TARGET_PORT_UNDECLARED "KLT011" "target-port-undeclared"
        "A Service's target port is none of its pods' ports."
    BACKEND_MISSING "KLT012" "backend-missing"
        "An Ingress or a route leads to a Service or port that is not there."
    PORT_TWICE "KLT020" "port-twice"
        "Two containers of one pod listen on the same port."
    PROBE_PORT_UNDECLARED "KLT021" "probe-port-undeclared"
        "A probe names a port that its container does not declare."
    VALUE_WITHOUT_EFFECT "KLT022" "value-without-effect"
        "A `kilter.dev/` label or annotation has a value that means nothing."
    NO_DEFAULT_DENY "KLT101" "no-default-deny"
        "Workloads of a namespace that no policy protects accept everything."
    NO_READINESS_PROBE "KLT102" "no-readiness-probe"
        "A workload behind a Service gets connections before it can answer."
    LOAD_BALANCER_OPEN "KLT103" "load-balancer-open"
        "A LoadBalancer Service is open to every address."
    EGRESS_EVERYWHERE "KLT104" "egress-everywhere"
        "A policy lets its pods open connections to every address."
}

impl Rule {
    /// How grave its findings are.
    pub fn severity(&self) -> Severity {
        if self.id < "KLT100" { Severity::Error } else { Severity::Warning }
    }

    /// The path of its page in the repository of Kilter.
    pub fn page(&self) -> String {
        format!("docs/lint/{}.md", self.id)
    }
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Proven: something does not work, or does not do what it says.
    Error,
    /// Missing practice: it works, and could be safer.
    Warning,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// By which rule.
    pub rule: &'static Rule,
    /// Where.
    pub origin: Origin,
    /// `Kind namespace/name` of the object that an annotation would suppress it on.
    pub object: String,
    /// What and why, in one sentence.
    pub message: String,
    /// Connections that do not work because of it.
    pub breaks: Vec<String>,
    /// Connections that work because of it, and were to be refused.
    pub lets_through: Vec<String>,
    /// What mends it, where that is certain.
    pub fix: Option<Fix>,
}

impl Finding {
    pub(crate) fn new(rule: &'static Rule, origin: Origin, object: &str, message: String) -> Self {
        Self { rule, origin, object: object.to_owned(), message, breaks: vec![], lets_through: vec![], fix: None }
    }

    pub(crate) fn order(&self) -> (Severity, &Origin, &str, &str) {
        (self.rule.severity(), &self.origin, self.rule.id, &self.message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { id, name, .. } = self.rule;
        writeln!(f, "{}: {id} {name}: {}", self.origin, self.message)?;
        for connection in &self.breaks {
            writeln!(f, "    breaks: {connection}")?;
        }
        for connection in &self.lets_through {
            writeln!(f, "    lets through: {connection}")?;
        }
        self.fix.as_ref().map_or(Ok(()), |it| write!(f, "{it}"))
    }
}
