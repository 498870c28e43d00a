//! How much of what is new an endpoint gets, beside the others of its Service.

use kilter_model::{Cluster, Endpoint, Pod};

use crate::Backend;

/// The label of a pod that says its weight: an integer of 1 to [`HEAVIEST`]. A pod without it, or with anything
/// else there, and an endpoint that is no pod have the weight 1.
///
/// A label and no annotation, since it may be a Deployment's: `kubectl label pods -l version=v2 kilter.dev/weight=5`.
pub const WEIGHT_LABEL: &str = "kilter.dev/weight";

/// The greatest weight. Inside, an endpoint has as many slots as its weight, shortened by what all have in common.
pub const HEAVIEST: u32 = 100;

/// An address that serves, and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weighted {
    /// The address.
    pub backend: Backend,
    /// 1 to [`HEAVIEST`].
    pub weight: u32,
}

/// The weight of a pod.
pub(crate) fn of_pod(pod: &Pod) -> u32 {
    let said = pod.labels.get(WEIGHT_LABEL).and_then(|text| text.parse().ok());
    said.filter(|weight| (1..=HEAVIEST).contains(weight)).unwrap_or(1)
}

/// The weight of an endpoint.
pub(crate) fn of_endpoint(cluster: &Cluster, endpoint: &Endpoint) -> u32 {
    endpoint.pod.as_ref().and_then(|uid| cluster.pod(uid)).map_or(1, of_pod)
}

/// Slots of which any is as good as another: of each backend in proportion to its weight.
pub(crate) fn slots(backends: &[Weighted]) -> Vec<Backend> {
    let shared = backends.iter().map(|it| it.weight).fold(0, greatest_common_divisor).max(1);
    let repeated = |it: &Weighted| std::iter::repeat_n(it.backend, (it.weight / shared) as usize);
    backends.iter().flat_map(repeated).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_as_few_as_say_the_weights() {
        let all = |weights: &[u32]| -> Vec<Weighted> {
            let backend = |i| Backend { address: [10, 244, 0, i as u8].into(), port: 80 };
            weights.iter().enumerate().map(|(i, weight)| Weighted { backend: backend(i), weight: *weight }).collect()
        };
        let counts = |weights: &[u32]| {
            let (all, mut counts) = (all(weights), vec![0; weights.len()]);
            for slot in slots(&all) {
                counts[all.iter().position(|it| it.backend == slot).unwrap()] += 1;
            }
            counts
        };
        assert_eq!(counts(&[]), [0; 0]);
        assert_eq!(counts(&[7]), [1]);
        assert_eq!(counts(&[5, 5, 5]), [1, 1, 1]);
        assert_eq!(counts(&[90, 10]), [9, 1]);
        assert_eq!(counts(&[3, 1, 100]), [3, 1, 100]);
    }
}
