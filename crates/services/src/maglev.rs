//! Which backend a client from outside is sent to: by a table that every node makes alike, in which the hash of the
//! client is a place (as in Maglev: Eisenbud and others, NSDI 2016, section 3.4).
//!
//! It is not filled as there. When all take turns, another size means another table, and the size must grow with the
//! number of backends. Here a table is made in two steps, so that none of the sizes is a step for the clients:
//!
//! 1. A **race** for [`SECTORS`] sectors, of which there are always as many: each backend claims one after the other
//!    in an order of its own, the heavier the faster, and whoever is first at a sector has it. Claims know nothing
//!    of other backends, so one that goes or comes moves its own sectors only.
//! 2. Each sector is cut into places, as many as give each backend [`PLACES`] or more, and **levelled**: who has more
//!    than his share and a twentieth gives the places away that he was last at, and who lacks more than a twentieth
//!    takes those. A table of twice as many places is the same with each place halved, but for rounding.

use std::net::IpAddr;

use crate::{Backend, Weighted};

/// Sectors of each table, and the places of the least: eight backends have [`PLACES`] each.
const SECTORS: usize = 512;

/// Places for each backend, at least, until the largest table.
const PLACES: usize = 64;

/// Places of the largest table: 4 MB.
const MOST: usize = 1 << 20;

/// How far a share may be from what its weight asks for, in thousandths, where that is more than a place.
const SLACK: u64 = 50;

const NOBODY: u32 = u32::MAX;

/// How many places the table of so many backends has; 0 where there is nothing to choose.
pub fn size(backends: usize) -> usize {
    if backends < 2 {
        return 0;
    }
    (backends * PLACES).next_power_of_two().clamp(SECTORS, MOST)
}

/// The slot of the backend at each place. Equal for equal backends in the same order, on every node.
pub fn table(backends: &[Weighted]) -> Vec<u32> {
    let size = size(backends.len());
    if size == 0 {
        return Vec::new();
    }
    let walks: Vec<Walk> = backends.iter().map(|it| Walk::new(&it.backend)).collect();
    let winners = race(backends, &walks);
    let depth = size / SECTORS;
    let mut places = Places {
        depth,
        owner: winners.iter().flat_map(|winner| std::iter::repeat_n(winner.slot, depth)).collect(),
        since: winners.iter().map(|winner| winner.at).collect(),
    };
    places.level(backends, &walks);
    // Of a client's hash the low bits say the sector, and those above, read backwards, the place in it: so one bit
    // more halves each place.
    let bits = depth.trailing_zeros();
    let within = |place: usize| if bits == 0 { 0 } else { (place / SECTORS).reverse_bits() >> (usize::BITS - bits) };
    (0..size).map(|place| places.owner[place % SECTORS * depth + within(place)]).collect()
}

/// A backend's own order of all sectors.
struct Walk {
    first: u64,
    step: u64,
    seed: u64,
}

impl Walk {
    fn new(backend: &Backend) -> Self {
        // An odd step visits every one of a power of two.
        Self { first: hash(backend, 1), step: hash(backend, 2) | 1, seed: hash(backend, 3) }
    }

    fn sector(&self, claim: u64) -> usize {
        (self.first.wrapping_add(claim.wrapping_mul(self.step)) % SECTORS as u64) as usize
    }

    /// When a claim is made by a backend of this weight: one in each unit of its time, somewhen within.
    fn time(&self, claim: u64, weight: u32) -> u64 {
        ((claim << 32) + (mix(self.seed ^ claim) >> 32)) / u64::from(weight)
    }
}

/// Who has a sector, and when he claimed it.
#[derive(Clone, Copy)]
struct Winner {
    slot: u32,
    at: u64,
}

fn race(backends: &[Weighted], walks: &[Walk]) -> Vec<Winner> {
    let heaviest = backends.iter().map(|it| it.weight).max().unwrap_or(1);
    let mut winners = vec![Winner { slot: NOBODY, at: u64::MAX }; SECTORS];
    let mut next = vec![0; walks.len()];
    let mut free = SECTORS;
    let mut now = 0u64;
    while free > 0 {
        now += (1 << 32) / u64::from(heaviest);
        for ((slot, walk), (backend, claim)) in (0u32..).zip(walks).zip(backends.iter().zip(&mut next)) {
            loop {
                let at = walk.time(*claim, backend.weight);
                if at >= now {
                    break;
                }
                let winner = &mut winners[walk.sector(*claim)];
                free -= usize::from(winner.slot == NOBODY);
                if at < winner.at {
                    *winner = Winner { slot, at };
                }
                *claim += 1;
            }
        }
    }
    winners
}

/// All places, those of a sector side by side.
struct Places {
    /// Places of a sector.
    depth: usize,
    owner: Vec<u32>,
    /// When each sector was claimed.
    since: Vec<u64>,
}

impl Places {
    /// Moves what lies beyond the slack, and no more.
    fn level(&mut self, backends: &[Weighted], walks: &[Walk]) {
        let mut counts = vec![0u64; backends.len()];
        self.owner.iter().for_each(|slot| counts[*slot as usize] += 1);
        let bounds = Bounds::of(backends, &counts, self.owner.len() as u64);
        self.release(&counts, &bounds.most);
        let mut free = Free::of(self);
        for (slot, (walk, count)) in (0u32..).zip(walks.iter().zip(&counts)) {
            let mut need = bounds.least[slot as usize].saturating_sub(*count);
            // Those that its own order leads to, sector by sector.
            for claim in 0..SECTORS as u64 {
                if need == 0 || free.left == 0 {
                    break;
                }
                need -= free.take(walk.sector(claim), need, |place| self.owner[place] = slot);
            }
        }
    }

    /// Takes from who has more than that the places that he was last at.
    fn release(&mut self, counts: &[u64], most: &[u64]) {
        let mut held: Vec<Vec<(u64, usize)>> = vec![Vec::new(); counts.len()];
        for (place, slot) in self.owner.iter().enumerate() {
            let slot = *slot as usize;
            if counts[slot] > most[slot] {
                held[slot].push((self.since[place / self.depth], place));
            }
        }
        for (mut places, most) in held.into_iter().zip(most) {
            places.sort_unstable();
            places.iter().skip(*most as usize).for_each(|(_, place)| self.owner[*place] = NOBODY);
        }
    }
}

/// Places that nobody has, by sector.
struct Free {
    places: Vec<Vec<usize>>,
    left: u64,
}

impl Free {
    fn of(all: &Places) -> Self {
        let mut places = vec![Vec::new(); SECTORS];
        let mut left = 0;
        for place in (0..all.owner.len()).rev().filter(|place| all.owner[*place] == NOBODY) {
            places[place / all.depth].push(place);
            left += 1;
        }
        Self { places, left }
    }

    /// Gives away so many of a sector, as far as there are; how many.
    fn take(&mut self, sector: usize, wanted: u64, mut give: impl FnMut(usize)) -> u64 {
        let mut given = 0;
        while given < wanted {
            let Some(place) = self.places[sector].pop() else { break };
            give(place);
            given += 1;
        }
        self.left -= given;
        given
    }
}

/// What each may have at most and is to have at least, so that as much is given away as is taken.
struct Bounds {
    most: Vec<u64>,
    least: Vec<u64>,
}

impl Bounds {
    fn of(backends: &[Weighted], counts: &[u64], size: u64) -> Self {
        let all: u64 = backends.iter().map(|it| u64::from(it.weight)).sum();
        // Thousandths of each one's share, in places.
        let up = |part: u64| backends.iter().map(|it| (size * u64::from(it.weight) * part).div_ceil(all * 1000)).collect();
        let down = |part: u64| backends.iter().map(|it| size * u64::from(it.weight) * part / (all * 1000)).collect();
        let surplus = |most: &Vec<u64>| excess(counts, most);
        let lack = |least: &Vec<u64>| excess(least, counts);

        let (mut high, mut low) = (1000 + SLACK, 1000 - SLACK);
        let (mut most, mut least): (Vec<u64>, Vec<u64>) = (up(high), down(low));
        while high > 1000 && surplus(&most) < lack(&least) {
            high -= 1;
            most = up(high);
        }
        // Rounded up they may all together have more than there is, which whoever lacks would pay for: one less for some.
        let mut missing = lack(&least).saturating_sub(surplus(&most));
        for (slot, exact) in down(1000).into_iter().enumerate() {
            if missing > 0 && counts[slot] >= most[slot] && most[slot] > exact {
                most[slot] -= 1;
                missing -= 1;
            }
        }
        while low < 1000 && surplus(&most) >= lack(&down(low + 1)) {
            low += 1;
            least = down(low);
        }
        // What is left is less than a step for all: one more for some.
        let mut left = surplus(&most).saturating_sub(lack(&least));
        for (slot, least) in least.iter_mut().enumerate() {
            let has = counts[slot].max(*least);
            if left > 0 && has < most[slot] {
                *least = has + 1;
                left -= 1;
            }
        }
        Self { most, least }
    }
}

/// By how much the ones exceed the others, together.
fn excess(these: &[u64], those: &[u64]) -> u64 {
    these.iter().zip(those).map(|(this, that)| this.saturating_sub(*that)).sum()
}

/// FNV-1a, mixed.
fn hash(backend: &Backend, seed: u64) -> u64 {
    let octets = match backend.address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    };
    let bytes = octets.into_iter().chain(backend.port.to_be_bytes());
    mix(bytes.fold(mix(seed), |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finalizer of MurmurHash3, so that each bit depends on each.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
