//! How many clients from outside are sent elsewhere when one of N endpoints goes: by the tables themselves, since
//! every node has the same.

use kilter_services::maglev::table;
use kilter_services::{Backend, Weighted};

/// How many endpoints there are before one goes: where a table has another size afterwards (9, 33, 129), and between.
pub(super) const COUNTS: [usize; 7] = [3, 8, 9, 33, 100, 129, 1_000];

/// Endpoints that go, each from all of them.
const GONE: usize = 20;

/// Of all clients those that had another endpoint than the one that goes, and have yet another afterwards: in
/// hundredths, once for each that goes.
pub(super) fn moved(count: usize) -> Vec<f64> {
    let backend = |i: usize| Backend { address: [10, 244, (i >> 8) as u8, i as u8].into(), port: 8080 };
    let all: Vec<Weighted> = (0..count).map(|i| Weighted { backend: backend(i), weight: 1 }).collect();
    let before = table(&all);
    let tries = count.min(GONE);
    (0..tries).map(|i| without(&all, &before, i * count / tries)).collect()
}

fn without(all: &[Weighted], before: &[u32], gone: usize) -> f64 {
    let mut rest = all.to_vec();
    rest.remove(gone);
    let after = table(&rest);
    let hashes = before.len().max(after.len());
    let is_moved = |hash: &usize| {
        let had = before[hash % before.len()] as usize;
        had != gone && all[had] != rest[after[hash % after.len()] as usize]
    };
    (0..hashes).filter(is_moved).count() as f64 * 100.0 / hashes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_few_goes_once_and_moves_little_else() {
        assert_eq!(moved(3).len(), 3);
        assert!(moved(33).iter().all(|share| (0.0..10.0).contains(share)));
    }
}
