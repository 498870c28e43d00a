//! Tables for clients from outside: how evenly they share, and how little moves. `--nocapture` prints the figures.

use std::collections::BTreeMap;

use kilter_services::Backend;
use kilter_services::maglev::{size, table};
use proptest::prelude::*;

fn backends(count: usize) -> Vec<Backend> {
    let address = |i: usize| [10, 244, (i >> 8) as u8, i as u8].into();
    (0..count).map(|i| Backend { address: address(i), port: 8080 }).collect()
}

/// The least and the greatest share, in parts of an even one.
fn balance(all: &[Backend]) -> (f64, f64) {
    let table = table(all);
    let mut counts = vec![0u32; all.len()];
    table.iter().for_each(|slot| counts[*slot as usize] += 1);
    let even = table.len() as f64 / all.len() as f64;
    let share = |count: Option<&u32>| f64::from(*count.unwrap()) / even;
    (share(counts.iter().min()), share(counts.iter().max()))
}

/// The share of places that lead elsewhere although their backend is still there, when one goes and the table
/// keeps its size. Where its size changes with the number of backends (3, 5, 9, 18...), most clients move.
fn moved(all: &[Backend], gone: usize) -> f64 {
    let mut rest = all.to_vec();
    let gone = rest.remove(gone);
    let (before, after) = (table(all), table(&rest));
    assert_eq!(before.len(), after.len());
    let pairs = before.iter().zip(&after).map(|(a, b)| (all[*a as usize], rest[*b as usize]));
    pairs.filter(|(a, b)| *a != gone && a != b).count() as f64 / before.len() as f64
}

#[test]
fn shares_are_even_and_little_moves_when_one_of_many_goes() {
    println!("{:>8} {:>9} {:>8} {:>8} {:>22}", "backends", "places", "least", "most", "moved when one goes");
    for count in [4, 8, 16, 32, 100, 400, 1_000, 4_000] {
        let all = backends(count);
        let (least, most) = balance(&all);
        let moves: Vec<f64> = (0..count.min(20)).map(|gone| moved(&all, gone * count / count.min(20))).collect();
        let mean = moves.iter().sum::<f64>() / moves.len() as f64;
        println!("{count:>8} {:>9} {least:>8.3} {most:>8.3} {:>20.2} %", size(count), mean * 100.0);
        assert!(least > 0.95 && most < 1.05, "{count}: {least} to {most}");
        assert!(mean < 0.12, "{count}: {mean}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_place_leads_somewhere_and_every_backend_has_its_share(
        addresses in proptest::collection::btree_map(any::<u32>(), 1u16.., 2..200),
    ) {
        let all: Vec<Backend> =
            addresses.into_iter().map(|(it, port)| Backend { address: std::net::Ipv4Addr::from(it).into(), port }).collect();
        let made = table(&all);
        prop_assert_eq!(made.len(), size(all.len()));
        prop_assert_eq!(&made, &table(&all));
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        made.iter().for_each(|slot| *counts.entry(*slot).or_default() += 1);
        // Turns are taken, so shares differ by one place at most.
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        prop_assert!(counts.len() == all.len() && most - least <= 1);
    }
}

#[test]
fn tables_grow_with_what_they_share_and_nobody_has_one_alone() {
    assert_eq!([0, 1, 2, 3, 4, 5].map(size), [0, 0, 127, 251, 251, 509]);
    assert!(table(&backends(1)).is_empty() && table(&[]).is_empty());
    assert_eq!(size(1_000_000), 1_048_573);
}
