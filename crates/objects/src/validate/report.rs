use std::fmt::Debug;

use crate::FieldError;

/// Faults found so far. Messages begin as those of the Kubernetes API server do.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub faults: Vec<FieldError>,
}

impl Report {
    pub fn invalid(&mut self, field: &str, value: impl Debug, why: &str) {
        self.push(field, format!("Invalid value: {value:?}: {why}"));
    }

    pub fn required(&mut self, field: &str, why: &str) {
        self.push(
            field,
            if why.is_empty() { "Required value".into() } else { format!("Required value: {why}") },
        );
    }

    pub fn duplicate(&mut self, field: &str, value: impl Debug) {
        self.push(field, format!("Duplicate value: {value:?}"));
    }

    pub fn forbidden(&mut self, field: &str, why: &str) {
        self.push(field, format!("Forbidden: {why}"));
    }

    pub fn not_found(&mut self, field: &str, value: &str) {
        self.push(field, format!("Not found: {value:?}"));
    }

    /// A value that must be one of a few; absent is left to the defaults.
    pub fn one_of(&mut self, field: &str, value: Option<&str>, allowed: &[&str]) {
        if let Some(value) = value.filter(|v| !allowed.contains(v)) {
            let allowed: Vec<_> = allowed.iter().map(|a| format!("{a:?}")).collect();
            self.push(
                field,
                format!("Unsupported value: {value:?}: supported values: {}", allowed.join(", ")),
            );
        }
    }

    pub fn at_least(&mut self, field: &str, value: Option<impl Into<i64>>, least: i64) {
        if let Some(value) = value.map(Into::into).filter(|v| *v < least) {
            self.invalid(field, value, &format!("must be greater than or equal to {least}"));
        }
    }

    pub fn port_number(&mut self, field: &str, port: i32) {
        if !(1..=65535).contains(&port) {
            self.invalid(field, port, "must be between 1 and 65535, inclusive");
        }
    }

    pub fn push(&mut self, field: &str, message: String) {
        self.faults.push(FieldError::new(field, message));
    }
}
