//! The syntax of names (apimachinery `validation`); each check says what is wrong, or nothing.

/// RFC 1123 label: lower case letters, digits and `-`, at most 63, letter or digit at both ends.
pub(crate) fn label(name: &str) -> Result<(), &'static str> {
    const RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                        and must start and end with an alphanumeric character";
    if name.len() > 63 {
        return Err("must be no more than 63 characters");
    }
    check(is_label(name), RULE)
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 characters.
pub(crate) fn subdomain(name: &str) -> Result<(), &'static str> {
    const RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
                        '-' or '.', and must start and end with an alphanumeric character";
    if name.len() > 253 {
        return Err("must be no more than 253 characters");
    }
    check(!name.is_empty() && name.split('.').all(is_label_of_any_length), RULE)
}

/// A name that may stand in a URL path: what RBAC objects need.
pub(super) fn path_segment(name: &str) -> Result<(), &'static str> {
    check(!matches!(name, "" | "." | ".."), "may not be '.' or '..'")?;
    check(!name.contains(['/', '%']), "may not contain '/' or '%'")
}

/// `[prefix/]name` of a label, an annotation or a finalizer.
pub(super) fn qualified(key: &str) -> Result<(), &'static str> {
    const RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', \
                        and must start and end with an alphanumeric character";
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            subdomain(prefix).map_err(|_| "prefix part must be a lowercase RFC 1123 subdomain")?;
            name
        }
        None => key,
    };
    if name.len() > 63 {
        return Err("name part must be no more than 63 characters");
    }
    check(!name.is_empty() && is_word(name), RULE)
}

/// The value of a label: empty, or a word of at most 63 characters.
pub(super) fn label_value(value: &str) -> Result<(), &'static str> {
    const RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
                        or '.', and must start and end with an alphanumeric character";
    if value.len() > 63 {
        return Err("must be no more than 63 characters");
    }
    check(value.is_empty() || is_word(value), RULE)
}

/// The name of a port (IANA service name, RFC 6335 section 5.1).
pub(super) fn port_name(name: &str) -> Result<(), &'static str> {
    if name.len() > 15 {
        return Err("must be no more than 15 characters");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    check(name.chars().all(plain), "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")?;
    check(name.chars().any(|c| c.is_ascii_lowercase()), "must contain at least one letter (a-z)")?;
    check(!name.contains("--"), "must not contain consecutive hyphens")?;
    check(!name.starts_with('-') && !name.ends_with('-'), "must not begin or end with a hyphen")
}

fn check(holds: bool, rule: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(rule) }
}

fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_label_of_any_length(name)
}

/// The parts of a subdomain have no length of their own in Kubernetes' rule.
fn is_label_of_any_length(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_word(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        assert!(label("a-1").is_ok() && label("1a").is_ok());
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64), "ü"] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert!(subdomain("a.b-c.d").is_ok());
        for bad in ["", ".a", "a..b", "a.", "A.b", &"a".repeat(254)] {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn label_keys_and_values() {
        assert!(qualified("app.kubernetes.io/name").is_ok() && qualified("A_b.c").is_ok());
        for bad in ["", "/a", "a/", "a/b/c", "A/b", "-a", &"a".repeat(64)] {
            assert!(qualified(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok() && label_value("v1.2_x").is_ok());
        for bad in [" ", "a b", "-a", "a/b"] {
            assert!(label_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_names() {
        assert!(port_name("http-2").is_ok());
        for bad in ["", "80", "a--b", "-a", "Http", "sixteen-letters-x"] {
            assert!(port_name(bad).is_err(), "{bad}");
        }
    }
}
