//! `kilter.dev/lint-ignore: KLT001, KLT004: the reason` on the object that a finding is about.

use serde_json::Value;

use crate::Finding;
use crate::context::{Context, title};

const ANNOTATION: &str = "/metadata/annotations/kilter.dev~1lint-ignore";

pub fn is_suppressed(context: &Context<'_>, finding: &Finding) -> bool {
    let about = context.objects().filter(|it| title(&it.value) == finding.object);
    let mut texts = about.filter_map(|it| it.value.pointer(ANNOTATION).and_then(Value::as_str));
    texts.any(|text| ids(text).any(|id| id == finding.rule.id))
}

/// The ids before the reason.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    text.split(':').next().unwrap_or_default().split([',', ' ']).map(str::trim).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn a_reason_may_follow_the_ids() {
        assert_eq!(ids("KLT001").collect::<Vec<_>>(), ["KLT001"]);
        assert_eq!(ids("KLT001, KLT004 KLT010: KLT020 is meant so").count(), 3);
        assert_eq!(ids("").count(), 0);
    }
}
