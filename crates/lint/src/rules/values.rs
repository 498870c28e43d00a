//! KLT022: what is asked of Kilter in words that it does not know, and so takes for the default.

use kilter_manifests::Object;
use kilter_model::FORWARDING;
use kilter_objects::expand::pod_template_pointer;
use kilter_objects::value;
use kilter_services::{HEAVIEST, WEIGHT_LABEL};

use crate::Finding;
use crate::context::{Context, title};
use crate::finding::VALUE_WITHOUT_EFFECT;

pub fn check(context: &Context<'_>) -> Vec<Finding> {
    context.objects().flat_map(|object| [weight(context, object), forwarding(context, object)]).flatten().collect()
}

fn weight(context: &Context<'_>, object: &Object) -> Option<Finding> {
    let api_version = object.value.get("apiVersion")?.as_str()?;
    let labels = format!("{}/metadata/labels", pod_template_pointer(api_version, value::kind(&object.value))?);
    let is_weight = |text: &str| text.parse().is_ok_and(|weight: u32| (1..=HEAVIEST).contains(&weight));
    let wanted = format!("a whole number of 1 to {HEAVIEST}; its pods have the weight 1");
    judge(context, object, &labels, WEIGHT_LABEL, is_weight, &wanted)
}

fn forwarding(context: &Context<'_>, object: &Object) -> Option<Finding> {
    if value::kind(&object.value) != "Service" {
        return None;
    }
    let wanted = "`snat` or `dsr`; packets are sent on as with `snat`";
    judge(context, object, "/metadata/annotations", FORWARDING, |text| matches!(text, "snat" | "dsr"), wanted)
}

fn judge(
    context: &Context<'_>,
    object: &Object,
    place: &str,
    key: &str,
    is_good: impl Fn(&str) -> bool,
    wanted: &str,
) -> Option<Finding> {
    let said = object.value.pointer(place)?.get(key)?.as_str()?;
    if is_good(said) {
        return None;
    }
    let title = title(&object.value);
    let message = format!("{key} of {title} is {said:?}, and should be {wanted}");
    // In a JSON pointer (RFC 6901) the key's slash is `~1`.
    let pointer = format!("{place}/{}", key.replace('/', "~1"));
    Some(Finding::new(&VALUE_WITHOUT_EFFECT, context.at(object, &pointer), &title, message))
}
