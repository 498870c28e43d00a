//! Which backend a client from outside is sent to: by a table that every node makes alike (Maglev: Eisenbud and
//! others, NSDI 2016, section 3.4). When a backend goes, few clients of the others are sent elsewhere.

use std::net::IpAddr;

use crate::Backend;

/// Sizes of tables: primes just below powers of two, so that steps of any length visit every place.
const SIZES: [usize; 14] = [127, 251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_521, 131_071, 262_139, 524_287, 1_048_573];

/// Places for each backend, at least, until the largest table: shares then differ by a few hundredths.
const PLACES: usize = 60;

/// How many places the table of so many backends has; 0 where there is nothing to choose.
pub fn size(backends: usize) -> usize {
    if backends < 2 {
        return 0;
    }
    let enough = SIZES.iter().find(|size| **size >= backends * PLACES);
    *enough.unwrap_or(&SIZES[SIZES.len() - 1])
}

/// The slot of the backend at each place. Equal for equal backends in the same order, on every node.
pub fn table(backends: &[Backend]) -> Vec<u32> {
    let size = size(backends.len());
    let mut walks: Vec<Walk> = backends.iter().map(|backend| Walk::new(backend, size.max(2))).collect();
    let mut table = vec![u32::MAX; size];
    let mut left = size;
    // In turns each takes the next place of its own order that is free.
    while left > 0 {
        for (slot, walk) in (0u32..).zip(&mut walks) {
            while table[walk.at] != u32::MAX {
                walk.at = (walk.at + walk.step) % size;
            }
            table[walk.at] = slot;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    table
}

/// A backend's own order of all places.
struct Walk {
    at: usize,
    step: usize,
}

impl Walk {
    fn new(backend: &Backend, size: usize) -> Self {
        let (first, second) = (hash(backend, 0x9e37_79b9_7f4a_7c15), hash(backend, 0xc2b2_ae3d_27d4_eb4f));
        let (size, less) = (size as u64, size as u64 - 1);
        Self { at: (first % size) as usize, step: (second % less + 1) as usize }
    }
}

/// FNV-1a, its bits mixed once more (the finalizer of MurmurHash3).
fn hash(backend: &Backend, seed: u64) -> u64 {
    let octets = match backend.address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    };
    let bytes = octets.into_iter().chain(backend.port.to_be_bytes());
    let hash = bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
