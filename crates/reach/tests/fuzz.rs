//! What the fuzzer calls (`fuzz/`), called here on stable: with each seed as it is, and with seeds that
//! are mangled as a fuzzer mangles, always the same way. `KILTER_FUZZ_CASES` asks for more than 200 of
//! each, `KILTER_FUZZ_SEED` for others.

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |it| it.parse().unwrap_or_else(|e| panic!("{variable}={it}: {e}")))
}

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files.iter().map(|it| std::fs::read(it).unwrap()).collect()
}

/// Bytes replaced, removed, doubled, or taken from another seed.
fn mangle(rng: &mut TestRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut below = |most: usize| rng.next_u32() as usize % most.max(1);
    let mut bytes = seeds[below(seeds.len())].clone();
    for _ in 0..=below(4) {
        let at = below(bytes.len() + 1);
        let end = (at + below(24)).min(bytes.len());
        let donor = &seeds[below(seeds.len())];
        let from = below(donor.len());
        match below(4) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, donor[from..(from + below(24)).min(donor.len())].to_vec())),
            2 => drop(bytes.splice(at..end, bytes[at..end].repeat(2))),
            _ => {
                let signs = b"-[]{}:,&*!|>'\"#%@/. \n09azAZ\x00\x7f\xff";
                let sign = signs[below(signs.len())];
                drop(bytes.splice(at..end, [sign]));
            }
        }
    }
    bytes
}

fn rng(salt: u8) -> TestRng {
    let mut seed = [salt; 32];
    seed[..8].copy_from_slice(&number("KILTER_FUZZ_SEED", 1).to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &seed)
}

fn try_target(name: &str, target: fn(&[u8])) {
    let (seeds, mut rng) = (seeds(name), rng(1));
    seeds.iter().for_each(|it| target(it));
    for _ in 0..number("KILTER_FUZZ_CASES", 200) {
        let bytes = mangle(&mut rng, &seeds);
        let caught = std::panic::catch_unwind(|| target(&bytes));
        assert!(caught.is_ok(), "{name} with {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn manifests() {
    try_target("manifests", targets::manifests);
}

#[test]
fn selectors() {
    try_target("selectors", targets::selectors);
}

#[test]
fn cidrs() {
    try_target("cidrs", targets::cidrs);
}

#[test]
fn kustomize() {
    try_target("kustomize", targets::kustomize);
}

#[test]
fn cni() {
    try_target("cni", targets::cni);
}

#[test]
fn wire() {
    try_target("wire", targets::wire);
}

/// Its bytes are nothing but a seed.
#[test]
fn compile() {
    let mut rng = rng(2);
    for _ in 0..number("KILTER_FUZZ_CASES", 200) {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        targets::compile(&bytes);
    }
}
