//! Findings in manifests: first what is proven to be broken, then practice that is missing.
//!
//! A rule says nothing unless the sources prove it: a selector is judged only where the workloads
//! that it could mean are among the sources. Proof comes from the same core that decides packets.

#![forbid(unsafe_code)]

mod context;
mod finding;
mod fix;
mod rules;
mod sarif;
mod suppress;

pub use finding::{Finding, RULES, Rule, Severity};
pub use fix::Fix;
pub use sarif::sarif;

use kilter_manifests::{Error, Loaded};
use kilter_reach::Options;

/// All findings, proven breakage first, then by place; those that an annotation suppresses left out.
///
/// # Errors
/// An object whose fields have no meaning.
pub fn lint(loaded: &Loaded, options: &Options) -> Result<Vec<Finding>, Error> {
    let context = context::Context::new(loaded, options)?;
    let mut findings = rules::check(&context);
    findings.retain(|it| !suppress::is_suppressed(&context, it));
    findings.sort_by(|a, b| a.order().cmp(&b.order()));
    findings.dedup();
    Ok(findings)
}
