//! Independent jobs on all cores, with progress; the results do not depend on how many cores there are.

use crate::progress;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The results in the order of the jobs.
pub(crate) fn map<J: Sync, R: Send>(what: &str, jobs: &[J], run: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        while let Some((at, job)) = take(&next, jobs) {
            let result = run(job);
            let mut done = done.lock().expect("no job has panicked");
            done.push((at, result));
            progress::show(&format!("{what}: {} of {} runs", done.len(), jobs.len()));
        }
    };
    std::thread::scope(|scope| {
        // The scope waits for all of them, and panics if one has.
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    progress::clear();
    let mut done = done.into_inner().expect("no job has panicked");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, J>(next: &AtomicUsize, jobs: &'a [J]) -> Option<(usize, &'a J)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(at).map(|job| (at, job))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is done first, the results are in order.
    #[test]
    fn order() {
        let jobs: Vec<u64> = (0..1_000).rev().collect();
        let sums = map("sums", &jobs, |&job| (0..job * 10).sum::<u64>());
        assert!(jobs.iter().zip(&sums).all(|(&job, &sum)| sum == (job * 10).saturating_sub(1) * job * 5));
        assert!(map("nothing", &[], |&job: &u64| job).is_empty());
    }
}
