//! Lists that take little more memory than what they hold.

use std::collections::VecDeque;

/// Appends; room grows by an eighth, because doubling would leave half of the memory of a million unused.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(eighth(list.len()));
    }
    list.push(item);
}

/// As [`push`] does.
pub(crate) fn push_back<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(eighth(list.len()));
    }
    list.push_back(item);
}

fn eighth(len: usize) -> usize {
    const LEAST: usize = 16;
    (len / 8).max(LEAST)
}

/// Inserts; room is for one at first and then doubles: most of these lists stay shorter than the four with which `Vec`
/// begins.
pub(crate) fn insert<T>(list: &mut Vec<T>, at: usize, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len().max(1));
    }
    list.insert(at, item);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One takes the room of one, and thousands leave an eighth at most.
    #[test]
    fn capacities() {
        let mut list = Vec::new();
        insert(&mut list, 0, 2_u64);
        assert_eq!(list.capacity(), 1);
        insert(&mut list, 0, 1);
        insert(&mut list, 2, 3);
        assert_eq!((list.as_slice(), list.capacity()), ([1, 2, 3].as_slice(), 4));
        let mut line = VecDeque::new();
        for item in 0..10_000 {
            push(&mut list, item);
            push_back(&mut line, item);
            assert!(list.capacity() <= list.len() + (list.len() / 8).max(16));
            assert!(line.capacity() <= line.len() + (line.len() / 8).max(16));
        }
    }
}
