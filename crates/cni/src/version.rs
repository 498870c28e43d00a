use kilter_wire::cni::{CURRENT_VERSION, SUPPORTED_VERSIONS};

/// `version` where Kilter speaks it, else the newest it knows best: an error must be printed in some
/// version even when the one asked for is the error.
pub fn known_or_current(version: &str) -> String {
    if is_supported(version) { version.to_owned() } else { CURRENT_VERSION.to_owned() }
}

/// Whether Kilter speaks this version.
pub fn is_supported(version: &str) -> bool {
    SUPPORTED_VERSIONS.contains(&version)
}

/// Whether a supported version is this one or a later one.
pub fn at_least(version: &str, wanted: &str) -> bool {
    parts(version) >= parts(wanted)
}

fn parts(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(at_least("1.1.0", "1.1.0") && at_least("1.10.0", "1.9.0") && at_least("1.1.1", "1.1.0"));
        assert!(!at_least("0.4.0", "1.0.0"));
    }
}
