use std::collections::BTreeMap;

/// The annotation that makes a stand-in fail on purpose.
pub const ANNOTATION: &str = "kilter.dev/fail";

/// The header by which this kubelet tells its stand-ins which probe a request is, so that one of
/// two probes with the same path can be made to fail.
pub const PROBE_HEADER: &str = "kilter-probe";

/// What a pod's stand-ins do wrong on purpose: annotation `kilter.dev/fail`, a list of words
/// separated by commas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// `liveness`: that probe gets 503, NOT_SERVING or a closed port.
    pub liveness: bool,
    /// `readiness`: likewise.
    pub readiness: bool,
    /// `startup`: likewise.
    pub startup: bool,
    /// `http`: every HTTP request is answered 503.
    pub http: bool,
    /// `grpc`: every health check is answered NOT_SERVING.
    pub grpc: bool,
    /// `tcp`: every TCP port is closed.
    pub tcp: bool,
    /// `udp`: every UDP port is closed.
    pub udp: bool,
}

impl Failures {
    /// Reads the annotation; also returns the words that mean nothing.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> (Self, Vec<&str>) {
        let mut failures = Self::default();
        let mut unknown = Vec::new();
        let words = annotations.get(ANNOTATION).map(String::as_str).unwrap_or_default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "liveness" => failures.liveness = true,
                "readiness" => failures.readiness = true,
                "startup" => failures.startup = true,
                "http" => failures.http = true,
                "grpc" => failures.grpc = true,
                "tcp" => failures.tcp = true,
                "udp" => failures.udp = true,
                "all" => failures = Self::ALL,
                other => unknown.push(other),
            }
        }
        (failures, unknown)
    }

    /// Nothing works.
    pub const ALL: Self =
        Self { liveness: true, readiness: true, startup: true, http: true, grpc: true, tcp: true, udp: true };

    /// Whether the probe of this name (`liveness`, `readiness`, `startup`) is to fail.
    pub fn probe(&self, name: &str) -> bool {
        match name {
            "liveness" => self.liveness,
            "readiness" => self.readiness,
            "startup" => self.startup,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_one_by_one_and_unknown_ones_are_told() {
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), "liveness, http,,nonsense".to_owned())]);
        let (failures, unknown) = Failures::from_annotations(&annotations);
        assert_eq!(failures, Failures { liveness: true, http: true, ..Failures::default() });
        assert_eq!(unknown, ["nonsense"]);
        assert_eq!(Failures::from_annotations(&BTreeMap::new()).0, Failures::default());
    }
}
