//! The rules, by what they look at.

mod backends;
mod cluster_selectors;
mod dns;
mod one_sided;
mod pods;
mod practice;
mod selectors;
mod services;
mod values;

use crate::Finding;
use crate::context::Context;

pub fn check(context: &Context<'_>) -> Vec<Finding> {
    let selectors::Found { mut findings, broken } = selectors::check(context);
    findings.extend(one_sided::check(context, &broken));
    findings.extend(dns::check(context));
    findings.extend(services::check(context, &broken));
    findings.extend(backends::check(context));
    findings.extend(pods::check(context));
    findings.extend(values::check(context));
    findings.extend(practice::check(context));
    findings
}
