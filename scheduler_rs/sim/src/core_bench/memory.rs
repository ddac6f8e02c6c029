//! What memory costs meanwhile: where the machine is shared, so are its larger caches, and a cycle at a full queue reads
//! from beyond the small ones a few times.

use super::measure::cpu_ns;
use super::random::Random;
use std::hint::black_box;

/// Bytes of a cache line, in words.
const LINE: usize = 8;
const READS: usize = 200_000;

/// Nanoseconds of CPU time of one read that the next one waits for, all over so many bytes.
pub(super) fn read_ns(bytes: usize) -> f64 {
    let lines = (bytes / (LINE * size_of::<usize>())).max(2);
    let mut memory = vec![0_usize; lines * LINE];
    for (from, to) in cycle(lines) {
        memory[from * LINE] = to * LINE;
    }
    let start_ns = cpu_ns();
    let mut at = 0;
    for _ in 0..READS {
        at = memory[at];
    }
    black_box(at);
    (cpu_ns() - start_ns) as f64 / READS as f64
}

/// Each of `count` places with the one after it, on a way drawn at random that comes through all (Sattolo 1986).
fn cycle(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut random = Random(1);
    let mut next: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        next.swap(last, (random.next() % last as u64) as usize);
    }
    next.into_iter().enumerate()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way comes through every place before it is back, so that no part of the memory is left out.
    #[test]
    fn all_places() {
        for count in [2, 3, 100] {
            let next: Vec<usize> = cycle(count).map(|(_, to)| to).collect();
            let way = std::iter::successors(Some(0), |&at| Some(next[at]).filter(|&at| at != 0));
            assert_eq!(way.count(), count);
        }
    }
}
